package ledger

import (
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

const refundIDPrefix = "refund_"

// RefundCredit is credit.refund: it gives back a debit or a part of it, whether
// credit.debit, authorize or hold.capture took it. What an exchange put in so that the
// debit could be paid stays exchanged: the asset that was debited comes back.
type RefundCredit struct {
	Debit     string `json:"debit"`
	Amount    *int64 `json:"amount,omitzero"` // nil: all that was not refunded before
	Reference string `json:"reference"`

	cited bool
	found *events.Debit // nil: the account has no such debit
}

// Validate implements Command.
func (c *RefundCredit) Validate() *events.Error {
	var check checks
	id, err := ulid.ParseStrict(strings.TrimPrefix(c.Debit, debitIDPrefix))
	check.that(err == nil && !id.IsZero() && c.Debit == prefixed(debitIDPrefix, id), "debit must be a debit id: debit_ and a ULID")
	if c.Amount != nil {
		check.amount(*c.Amount)
	}
	check.text("reference", c.Reference, 0, maxReferenceChars)
	return check.err
}

// Cite implements Citer.
func (c *RefundCredit) Cite(list []events.Event) {
	c.cited, c.found = true, nil
	for i := range list {
		if d := debitOf(&list[i]); d != nil && d.ID == c.Debit {
			c.found = d
		}
	}
}

// debitOf returns the debit that an event tells of, nil for none.
func debitOf(e *events.Event) *events.Debit {
	switch d := e.Data.(type) {
	case *events.Debited:
		return &d.Debit
	case *events.Held:
		if t := d.Capture; t != nil {
			return &events.Debit{
				ID: t.Debit, Environment: d.Environment, Asset: d.Asset, Amount: t.Amount, Drawn: t.Drawn,
				Key: d.Key, CreatedAt: t.CreatedAt,
			}
		}
	}
	return nil
}

// Decide implements Command.
func (c *RefundCredit) Decide(in *Input) (Decision, *events.Error) {
	id, _ := ulid.ParseStrict(strings.TrimPrefix(c.Debit, debitIDPrefix)) // by Validate
	if !c.cited {
		return Decision{Cites: id}, nil
	}
	d := c.found
	if d == nil {
		return Decision{}, events.Errorf(events.NotFound, "account %s has no debit %s", in.AccountID, c.Debit)
	}
	refunded := in.Account.refunded(id)
	amount := d.Amount - refunded
	if c.Amount != nil {
		amount = *c.Amount
	}
	if left := d.Amount - refunded; amount == 0 || amount > left {
		return Decision{}, errRefunded(d, refunded, amount)
	}
	place := balanceID{d.Environment, d.Asset}
	b := in.Account.balance(place)
	returned, homeless := b.giveBack(undone(d.Drawn, refunded, amount), in.Time)
	if sum := total(homeless); sum > 0 {
		returned = append(returned, events.Draw{Grant: prefixed(grantIDPrefix, in.CommandID), Amount: sum})
	}
	if err := b.refuseReturned(returned); err != nil {
		return Decision{}, err
	}
	return one(in, "credit.refunded", d.Environment, d.Key, &events.Refunded{
		Refund: events.Refund{
			ID: prefixed(refundIDPrefix, in.CommandID), Debit: d.ID, Environment: d.Environment, Asset: d.Asset,
			Amount: amount, Refunded: refunded + amount, Returned: returned,
			Key: d.Key, Product: d.Product, Reference: c.Reference, CreatedAt: in.Time,
		},
		Balance: b.after(place, amount, 0),
	})
}

func errRefunded(d *events.Debit, refunded, amount int64) *events.Error {
	left := d.Amount - refunded
	err := events.Errorf(events.FailedPrecondition, "of %s %d are left to refund, %d were asked for", d.ID, left, amount)
	if left == 0 {
		err = events.Errorf(events.FailedPrecondition, "all of %s was refunded before", d.ID)
	}
	return err.With("refunded", refunded).With("refundable", left)
}

// undone is the part of what a debit drew that a refund undoes: the last drawn first,
// without what earlier refunds undid. It is in the order it was drawn in.
func undone(drawn []events.Draw, before, amount int64) (list []events.Draw) {
	for _, d := range slices.Backward(drawn) {
		skipped := min(before, d.Amount)
		before -= skipped
		if d.Amount = min(d.Amount-skipped, amount); d.Amount > 0 {
			amount -= d.Amount
			list = append(list, d)
		}
	}
	slices.Reverse(list)
	return list
}

// refuseReturned refuses what the balance has no room for. What goes back to the
// allowance takes none: it was counted as spent.
func (b *balance) refuseReturned(returned []events.Draw) *events.Error {
	grants, amount := 0, int64(0)
	for i := range returned {
		switch d := &returned[i]; d.Grant {
		case events.AllowanceGrant:
		case events.OverdraftGrant:
			amount += d.Amount
		default:
			amount += d.Amount
			if b.find(d.Grant) < 0 {
				grants++
			}
		}
	}
	return b.refuse(grants, amount)
}

// refunded is how much of a debit was refunded.
func (a *Account) refunded(debit ulid.ULID) int64 {
	if a.more == nil {
		return 0
	}
	return a.more.refunded[debit]
}

func (st *State) evolveRefunded(account string, d *events.Refunded) {
	st.moved(account, &d.Balance, nil, d.Returned, false)
	id, err := ulid.ParseStrict(strings.TrimPrefix(d.Debit, debitIDPrefix))
	a := st.account(account)
	if err != nil || a == nil {
		return
	}
	if a.extra().refunded == nil {
		a.more.refunded = map[ulid.ULID]int64{}
	}
	a.more.refunded[id] = d.Refund.Refunded
}
