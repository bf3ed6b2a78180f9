package ledgertest

import (
	"fmt"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// maxAmount is the most that a balance may come to.
const maxAmount = 1<<53 - 1

// Money is the books of a log, kept from its events alone, by double entry: what is in each
// grant, in the allowance, set aside and owed. It shares no code with the rules or the
// views, and says what must hold whatever the rules are:
//
//   - no grant, allowance or hold gives more than went in, and none after its time;
//   - posted is what is in them all less what is owed, held is what is set aside; whoever
//     owes has neither; nothing is owed beyond the plan's limit when it is drawn;
//   - a debit is refunded once at the most; the legs of a transfer stand in one entry;
//   - a key pays in its own account and environment, and while it works.
type Money struct {
	purses   map[place]*purse
	accounts map[string]*events.Account
	keys     map[string]*events.Key
	debits   map[string]int64 // of each account's debit, what is not refunded
	holds    map[string]int64 // of each account's hold, what is still held
}

type place struct{ account, environment, asset string }

// purse is one balance. Pots are its grants and the allowance; what is set aside has left
// them.
type purse struct {
	pots       map[string]int64
	owed, held int64
}

// NewMoney returns the books of an empty log.
func NewMoney() *Money {
	return &Money{
		purses: map[place]*purse{}, accounts: map[string]*events.Account{}, keys: map[string]*events.Key{},
		debits: map[string]int64{}, holds: map[string]int64{},
	}
}

// Add takes a commit into the books. Its error says which event does not fit, and why.
func (m *Money) Add(c *store.Commit) error {
	index := 0
	for i := range c.Entries {
		list := c.Entries[i].Events
		for j := range list {
			if err := m.event(&list[j], c.Time); err != nil {
				return fmt.Errorf("%s of account %s at %s: %w", list[j].Type, list[j].Account,
					events.Position{Partition: c.Partition, Sequence: c.Sequence, Index: index}, err)
			}
			index++
		}
		if err := transfers(list); err != nil {
			return fmt.Errorf("entry %d of commit %d:%d: %w", i, c.Partition, c.Sequence, err)
		}
	}
	return nil
}

func (m *Money) event(e *events.Event, now events.Time) error {
	switch d := e.Data.(type) {
	case *events.Account:
		m.accounts[d.ID] = d
	case *events.Key:
		m.keys[d.ID] = d
	case *events.Debited:
		b := m.book(e.Account, &d.Balance, now)
		b.out(d.Drawn)
		b.key(d.Key, d.SecretAge != "")
		m.debits[e.Account+" "+d.ID] = d.Amount
		return b.balanced(-d.Amount)
	case *events.Refunded:
		b := m.book(e.Account, &d.Balance, now)
		b.in(d.Returned...)
		id := e.Account + " " + d.Debit
		m.debits[id] -= d.Amount
		b.must(m.debits[id] >= 0, "of debit %s, %d more was refunded than it took", d.Debit, -m.debits[id])
		return b.balanced(d.Amount)
	case *events.Exchanged:
		b := m.book(e.Account, &d.From.Balance, now)
		b.out(d.From.Drawn)
		if err := b.balanced(-d.From.Amount); err != nil {
			return err
		}
		b = m.book(e.Account, &d.To.Balance, now)
		b.in(d.To.Added...)
		return b.balanced(d.To.Amount)
	case *events.Held:
		return m.hold(d, m.book(e.Account, &d.Balance, now))
	default:
		return m.comesAndGoes(e, now)
	}
	return nil
}

// comesAndGoes books what no request asked for: what comes in, and what time brings about.
func (m *Money) comesAndGoes(e *events.Event, now events.Time) error {
	switch d := e.Data.(type) {
	case *events.Granted:
		b := m.book(e.Account, &d.Balance, now)
		b.in(events.Draw{Grant: events.OverdraftGrant, Amount: d.OverdraftPaid}, events.Draw{Grant: d.ID, Amount: d.Amount - d.OverdraftPaid})
		return b.balanced(d.Amount)
	case *events.Adjusted:
		b := m.book(e.Account, &d.Balance, now)
		b.out(d.Drawn)
		b.in(d.Added...)
		return b.balanced(d.Amount)
	case *events.Transferred:
		b := m.book(e.Account, &d.Balance, now)
		b.out(d.Drawn)
		b.in(d.Added...)
		if e.Account == d.From {
			return b.balanced(-d.Amount)
		}
		b.must(e.Account == d.To, "it is neither who pays nor who is paid")
		return b.balanced(d.Amount)
	case *events.Expired:
		b := m.book(e.Account, &d.Balance, now)
		b.out([]events.Draw{{Grant: d.Grant, Amount: d.Amount}})
		b.must(d.ExpiredAt <= now && b.pots[d.Grant] == 0, "it leaves %d, or comes before its time", b.pots[d.Grant])
		return b.balanced(-d.Amount)
	case *events.Replenished:
		b := m.book(e.Account, &d.Balance, now)
		b.must(b.pots[events.AllowanceGrant] == d.Before, "%d was left of the allowance", b.pots[events.AllowanceGrant])
		b.must(d.Remaining == max(0, d.Amount-d.Spent), "of %d, %d are spent, and %d are left", d.Amount, d.Spent, d.Remaining)
		b.pots[events.AllowanceGrant] = d.Remaining
		b.in(events.Draw{Grant: events.OverdraftGrant, Amount: d.OverdraftPaid})
		return b.balanced(d.Remaining + d.OverdraftPaid - d.Before)
	}
	return nil
}

// hold books a hold's event.
func (m *Money) hold(d *events.Held, b *booking) error {
	id := b.place.account + " " + d.ID
	before, placed := m.holds[id]
	b.must(placed != (d.Capture == nil && d.Status == events.Open), "it is placed twice or never")
	change := int64(0)
	switch {
	case d.Capture != nil:
		b.must(sum(d.Capture.Drawn) == d.Capture.Amount, "it draws %d for %d", sum(d.Capture.Drawn), d.Capture.Amount)
		m.holds[id] = before - d.Capture.Amount
		m.debits[b.place.account+" "+d.Capture.Debit] = d.Capture.Amount
		change = -d.Capture.Amount
		b.purse.held += change
	case d.Status == events.Open:
		b.out(d.Reserved)
		b.key(d.Key, false)
		m.holds[id] = d.Amount
		b.purse.held += d.Amount
	default:
		b.in(d.Returned...)
		change = -sum(d.Lapsed)
		m.holds[id] = before - sum(d.Returned) - sum(d.Lapsed)
		b.purse.held -= sum(d.Returned) + sum(d.Lapsed)
	}
	b.must(m.holds[id] == d.Hold.Held && sum(d.Reserved) == d.Hold.Held && d.Hold.Held >= 0, "%d are held, by the books %d", d.Hold.Held, m.holds[id])
	b.must(d.Status == events.Open || d.Hold.Held == 0, "it is over and holds %d", d.Hold.Held)
	return b.balanced(change)
}

// transfers says whether each transfer of an entry has both its legs in it.
func transfers(list []events.Event) error {
	legs := map[string]int64{}
	for i := range list {
		if d, ok := list[i].Data.(*events.Transferred); ok {
			legs[d.ID] += sum(d.Added) - sum(d.Drawn)
		}
	}
	for id, rest := range legs {
		if rest != 0 {
			return fmt.Errorf("transfer %s makes %d out of nothing", id, rest)
		}
	}
	return nil
}

func sum(list []events.Draw) (n int64) {
	for i := range list {
		n += list[i].Amount
	}
	return n
}

// booking is one event's change of one balance. It keeps the first thing that is wrong.
type booking struct {
	*purse
	money  *Money
	place  place
	after  *events.Balance
	now    events.Time
	posted int64 // before
	err    error
}

func (m *Money) book(account string, after *events.Balance, now events.Time) *booking {
	at := place{account, after.Environment, after.Asset}
	p := m.purses[at]
	if p == nil {
		p = &purse{pots: map[string]int64{}}
		m.purses[at] = p
	}
	return &booking{purse: p, money: m, place: at, after: after, now: now, posted: p.posted()}
}

func (p *purse) inPots() (n int64) {
	for _, left := range p.pots {
		n += left
	}
	return n
}

func (p *purse) posted() int64 { return p.inPots() + p.held - p.owed }

func (b *booking) must(ok bool, format string, args ...any) {
	if !ok && b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// out takes draws out of their pots.
func (b *booking) out(list []events.Draw) {
	for _, d := range list {
		if d.Grant == events.OverdraftGrant {
			limit := int64(0)
			if a := b.money.accounts[b.place.account]; a != nil && a.Plan != nil {
				limit = a.Plan.Overdraft[b.place.asset]
			}
			b.owed += d.Amount
			b.must(b.owed <= limit, "it owes %d, and may owe %d", b.owed, limit)
			continue
		}
		b.pots[d.Grant] -= d.Amount
		b.must(d.Amount > 0 && b.pots[d.Grant] >= 0, "%d is drawn from %s, which has %d less", d.Amount, d.Grant, -b.pots[d.Grant])
		b.must(d.ExpiresAt == 0 || d.ExpiresAt > b.now, "%s was over at %s and is drawn at %s", d.Grant, d.ExpiresAt, b.now)
	}
}

// in puts draws into their pots.
func (b *booking) in(list ...events.Draw) {
	for _, d := range list {
		b.must(d.Amount >= 0, "%d goes to %s", d.Amount, d.Grant)
		if d.Grant != events.OverdraftGrant {
			b.pots[d.Grant] += d.Amount
			b.must(d.ExpiresAt == 0 || d.ExpiresAt > b.now, "%s was over at %s and gets something at %s", d.Grant, d.ExpiresAt, b.now)
			continue
		}
		b.owed -= d.Amount
		b.must(b.owed >= 0, "it pays %d more than it owed", -b.owed)
	}
}

// key checks who pays; of a request that was authorised, also that it could be.
func (b *booking) key(id string, authorised bool) {
	if id == "" {
		return
	}
	k := b.money.keys[id]
	b.must(k != nil && k.Account == b.place.account && k.Environment == b.place.environment, "key %s is not one of it", id)
	if k == nil || !authorised {
		return
	}
	a := b.money.accounts[k.Account]
	b.must(k.Status == events.Active && (k.ExpiresAt == 0 || k.ExpiresAt > b.now), "key %s is %s and expires at %s", id, k.Status, k.ExpiresAt)
	b.must(a.Status == events.Active && a.Environments.Get(k.Environment).Enabled, "the account is %s, or not enabled", a.Status)
}

// balanced closes a booking by which posted changed by an amount.
func (b *booking) balanced(change int64) error {
	posted, left := b.purse.posted(), b.inPots()
	b.must(posted-b.posted == change, "posted goes from %d to %d by %d", b.posted, posted, change)
	b.must(b.after.Posted == posted && b.after.Held == b.held && b.after.Available == posted-b.held,
		"it says %+v, and the books have %d posted and %d held", *b.after, posted, b.held)
	b.must(min(left, b.owed) == 0, "it owes %d and has %d", b.owed, left)
	b.must(posted <= maxAmount && b.held >= 0, "%d posted, %d held", posted, b.held)
	return b.err
}
