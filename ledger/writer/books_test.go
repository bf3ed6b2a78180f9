package writer

import (
	"fmt"
	"slices"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// books are kept of a log, account by account of which there is one: what is posted and
// held of each asset, by adding up what every event says was moved. They want each event's
// balance to be that sum, no balance past its limit, as much drawn and added as was moved,
// the same value on both sides of an exchange, and an alert for each mark that an entry
// made a balance fall through, and no other.
type books struct {
	chain   store.Chain
	places  map[string]events.Balance
	account *events.Account
	debited *events.Debited // the last
}

func (b *books) commit(c *store.Commit) error {
	for i := range c.Entries {
		if err := b.entry(c.Entries[i].Events); err != nil {
			return fmt.Errorf("commit %d, entry %d (%s): %w", c.Sequence, i, c.Entries[i].Command, err)
		}
	}
	return nil
}

func (b *books) entry(list []events.Event) error {
	before := map[string]int64{}
	var told []string
	for i := range list {
		if d, ok := list[i].Data.(*events.Alert); ok {
			told = append(told, fmt.Sprint(list[i].Type, d.Environment, d.Asset, d.Threshold, d.Balance.Available))
			continue
		}
		if told != nil {
			return fmt.Errorf("%s comes after an alert", list[i].Type)
		}
		if err := b.event(&list[i], before); err != nil {
			return fmt.Errorf("%s: %w", list[i].Type, err)
		}
	}
	want := b.falls(before)
	slices.Sort(want)
	slices.Sort(told)
	if !slices.Equal(want, told) {
		return fmt.Errorf("alerts %q, want %q", told, want)
	}
	return nil
}

// falls are the alerts for balances that were so much before.
func (b *books) falls(before map[string]int64) (list []string) {
	for name, was := range before {
		now := b.places[name]
		for i := range b.account.Thresholds {
			t := &b.account.Thresholds[i]
			if t.Asset != now.Asset || t.Environment != "" && t.Environment != now.Environment {
				continue
			}
			mark, scale := t.Amount, int64(1)
			if t.Percent > 0 {
				if b.account.Plan == nil || b.account.Plan.Allowance == nil || b.account.Plan.Allowance.Asset != t.Asset {
					continue
				}
				mark, scale = b.account.Plan.Allowance.Amount*t.Percent, 100
			}
			if was*scale >= mark && now.Available*scale < mark {
				list = append(list, fmt.Sprint("balance.low", now.Environment, now.Asset, t, now.Available))
			}
		}
		if was > 0 && now.Available <= 0 {
			list = append(list, fmt.Sprint("balance.exhausted", now.Environment, now.Asset, (*events.Threshold)(nil), now.Available))
		}
	}
	return list
}

// event adds one event up. A new kind of movement is a case more.
func (b *books) event(e *events.Event, before map[string]int64) error {
	switch d := e.Data.(type) {
	case *events.Account:
		b.account = d
	case *events.Granted:
		return b.move(before, &d.Balance, d.Amount, 0)
	case *events.Debited:
		b.debited = d
		return b.move(before, &d.Balance, -d.Amount, 0, sum(d.Drawn) == d.Amount)
	case *events.Refunded:
		return b.move(before, &d.Balance, d.Amount, 0, sum(d.Returned) == d.Amount)
	case *events.Adjusted:
		return b.move(before, &d.Balance, d.Amount, 0, sum(d.Added)-sum(d.Drawn) == d.Amount)
	case *events.Transferred:
		return b.move(before, &d.Balance, sum(d.Added)-sum(d.Drawn), 0, sum(d.Added)+sum(d.Drawn) == d.Amount)
	case *events.Expired:
		return b.move(before, &d.Balance, -d.Amount, 0)
	case *events.Replenished:
		return b.move(before, &d.Balance, d.Remaining+d.OverdraftPaid-d.Before, 0, d.Remaining == max(0, d.Amount-d.Spent), d.Before >= 0)
	case *events.Exchanged:
		if err := b.move(before, &d.From.Balance, -d.From.Amount, 0, sum(d.From.Drawn) == d.From.Amount, d.From.Balance.Available >= 0); err != nil {
			return err
		}
		sameValue := d.From.Amount*int64(purseScale[d.To.Asset]) == d.To.Amount*int64(purseScale[d.From.Asset])
		return b.move(before, &d.To.Balance, d.To.Amount, 0, sum(d.To.Added) == d.To.Amount, sameValue)
	}
	return nil
}

func sum(list []events.Draw) (n int64) {
	for i := range list {
		n += list[i].Amount
	}
	return n
}

// move adds to a balance and compares it with what the event says; all that holds must.
func (b *books) move(before map[string]int64, after *events.Balance, posted, held int64, holds ...bool) error {
	name := after.Environment + " " + after.Asset
	was := b.places[name]
	if _, seen := before[name]; !seen {
		before[name] = was.Available
	}
	b.places[name] = *after
	limit := int64(0)
	if b.account.Plan != nil {
		limit = b.account.Plan.Overdraft[after.Asset]
	}
	switch {
	case after.Posted != was.Posted+posted || after.Held != was.Held+held || after.Available != after.Posted-after.Held:
		return fmt.Errorf("%+v after %+v, moved were %d and %d held", *after, was, posted, held)
	case after.Available < -limit && after.Available < was.Available:
		return fmt.Errorf("%+v is below its limit of %d", *after, limit)
	case slices.Contains(holds, false):
		return fmt.Errorf("%+v: the parts are not the whole: %v", *after, holds)
	}
	return nil
}
