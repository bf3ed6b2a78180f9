package ledger

import (
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

const holdIDPrefix = "hold_"

// hold is an open hold. Which grants pay it is fixed when it is placed, so that no expiry
// and no other debit can take what was set aside.
type hold struct {
	id                   ulid.ULID
	place                balanceID
	amount, captured     int64
	key, reference       string
	expiresAt, createdAt events.Time
	reserved             []events.Draw // never written to
}

// data returns the hold as an event or an answer holds it.
func (h *hold) data() events.Hold {
	return events.Hold{
		ID: prefixed(holdIDPrefix, h.id), Environment: h.place.environment, Asset: h.place.asset,
		Amount: h.amount, Captured: h.captured, Held: total(h.reserved), Status: events.Open,
		Key: h.key, Reference: h.reference, ExpiresAt: h.expiresAt, CreatedAt: h.createdAt, Reserved: h.reserved,
	}
}

func newHold(id ulid.ULID, d *events.Held) *hold {
	return &hold{
		id: id, place: balanceID{d.Environment, d.Asset}, amount: d.Amount, captured: d.Hold.Captured, key: d.Key,
		reference: d.Reference, expiresAt: d.ExpiresAt, createdAt: d.CreatedAt, reserved: d.Reserved,
	}
}

// hold returns an open hold, nil where there is none.
func (a *Account) hold(id ulid.ULID) *hold {
	if a.more == nil {
		return nil
	}
	if i, found := a.more.findHold(id); found {
		return a.more.holds[i]
	}
	return nil
}

func (m *more) findHold(id ulid.ULID) (int, bool) {
	return slices.BinarySearchFunc(m.holds, id, func(h *hold, id ulid.ULID) int { return h.id.Compare(id) })
}

// expire is the end of a hold's time.
func (h *hold) expire(in *Input) []events.Event { return h.end(in, events.Lapsed, "hold.expired") }

// end gives back what is still held: to the grants it was reserved from where they are
// live. What was reserved from a grant or an allowance whose time is over goes with it, and
// so does what the allowance has no more since the plan changed; what was owed for it and
// was paid since is a grant of its own.
func (h *hold) end(in *Input, status, eventType string) []events.Event {
	b := in.Account.balance(h.place)
	d := events.Held{Hold: h.data()}
	held := d.Held
	d.Status, d.Hold.Held, d.Reserved = status, 0, nil
	var homeless []events.Draw
	d.Returned, homeless = b.giveBack(h.reserved, in.Time)
	for _, lost := range homeless {
		if lost.Grant == events.OverdraftGrant {
			d.Returned = append(d.Returned, events.Draw{Grant: prefixed(grantIDPrefix, h.id), Amount: lost.Amount})
			continue
		}
		back := lost
		if back.Amount = b.lifts(&lost, in.Time); back.Amount > 0 {
			d.Returned = append(d.Returned, back)
		}
		if lost.Amount -= back.Amount; lost.Amount > 0 {
			d.Lapsed = append(d.Lapsed, lost)
		}
	}
	d.Balance = b.after(h.place, -total(d.Lapsed), -held)
	return []events.Event{{
		Type: eventType, Account: in.AccountID, Environment: h.place.environment, Subject: d.ID, Data: &d,
	}}
}

func (st *State) evolveHeld(account string, d *events.Held) {
	a := st.accounts[account]
	id, err := ulid.ParseStrict(d.ID[min(len(holdIDPrefix), len(d.ID)):])
	if a == nil || err != nil {
		return
	}
	var drawn []events.Draw
	i, found := a.extra().findHold(id)
	switch {
	case d.Status != events.Open:
		if found {
			a.more.holds = slices.Delete(a.more.holds, i, i+1)
		}
	case found:
		h := *a.more.holds[i]
		h.captured, h.reserved = d.Hold.Captured, d.Reserved
		a.more.holds[i] = &h
	default:
		drawn = d.Reserved
		a.more.holds = slices.Insert(a.more.holds, i, newHold(id, d))
		st.setDue(a, due{at: d.ExpiresAt, kind: dueHold, id: id})
	}
	st.moved(account, &d.Balance, drawn, d.Returned, false)
}
