package main

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// repriceRow compares what requests did cost, and would have cost under another plan.
type repriceRow struct {
	Account     string `json:"account,omitzero"` // "" in totals
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Debits      int64  `json:"debits"` // in this asset, those that Given counts among them
	Given       int64  `json:"given"`  // whose cost was not the plan's: they stay what they were
	Before      int64  `json:"before"`
	After       int64  `json:"after"`
	Difference  int64  `json:"difference"` // After − Before
}

// repricer folds a log, twice: Fold adds up what was debited, and Reduce takes what was
// given back from both sides. It holds something per account and refund, nothing per debit.
type repricer struct {
	plan     *events.Plan
	account  string // "" for all
	from, to events.Time

	plans   map[string]*events.Plan // in force
	refunds map[string]int64        // of a debit, in all
	rows    map[repriceRow]*repriceRow
}

// newRepricer compares with a plan that is valid. to is included; 0 is no bound.
func newRepricer(plan *events.Plan, account string, from, to events.Time) *repricer {
	return &repricer{
		plan: plan, account: account, from: from, to: to,
		plans: map[string]*events.Plan{}, refunds: map[string]int64{}, rows: map[repriceRow]*repriceRow{},
	}
}

// Fold takes in a commit; all have to come, from the first on, since plans come from there.
func (r *repricer) Fold(c *store.Commit) error {
	return r.each(c, func(e *events.Event, d *events.Debited, p repriced) error {
		before, after := r.row(e, d.Asset), r.row(e, p.asset)
		before.Debits++
		if p.given {
			before.Given++
		}
		return add(&before.Before, d.Amount, add(&after.After, p.cost, nil))
	})
}

// Reduce takes in a commit again, after Fold had all. It does nothing but for debits that
// were given back, or a part of them.
func (r *repricer) Reduce(c *store.Commit) error {
	return r.each(c, func(e *events.Event, d *events.Debited, p repriced) error {
		refunded := r.refunds[d.ID]
		if refunded == 0 {
			return nil
		}
		before, after := r.row(e, d.Asset), r.row(e, p.asset)
		return add(&before.Before, -refunded, add(&after.After, -share(p.cost, refunded, d.Amount), nil))
	})
}

// share is the part of a cost that is given back where of amount a part is: rounded down.
func share(cost, part, amount int64) int64 {
	high, low := bits.Mul64(uint64(cost), uint64(part))
	n, _ := bits.Div64(high, low, uint64(amount)) // part is at most amount, so it fits
	return int64(n)
}

// repriced is a debit under the other plan.
type repriced struct {
	cost  int64
	asset string
	given bool
}

// each calls f for every debit of a request in the span, and notes plans and refunds.
func (r *repricer) each(c *store.Commit, f func(*events.Event, *events.Debited, repriced) error) error {
	within := c.Time >= r.from && (r.to == 0 || c.Time <= r.to)
	for i := range c.Entries {
		command := c.Entries[i].Command
		for j := range c.Entries[i].Events {
			e := &c.Entries[i].Events[j]
			if r.account != "" && e.Account != r.account {
				continue
			}
			switch d := e.Data.(type) {
			case *events.Account:
				r.plans[e.Account] = d.Plan
			case *events.Refunded:
				if within {
					r.refunds[d.Debit] = d.Refund.Refunded
				}
			case *events.Debited:
				if !within || command != "authorize" && d.Product == "" {
					continue
				}
				p, err := r.reprice(e.Account, d)
				if err != nil {
					return events.Errorf(err.Code, "debit %s of account %s, in commit %d:%d: %s", d.ID, e.Account, c.Partition, c.Sequence, err.Message)
				}
				if err := f(e, d, p); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// reprice says what a debit would have been. One that is not what its plan made of it had
// its cost given by the caller, and would have had it under any plan.
func (r *repricer) reprice(account string, d *events.Debited) (repriced, *events.Error) {
	access, units := cmp.Or(d.Access, events.Write), max(d.Units, 1)
	cost, asset, err := ledger.Price(r.plans[account], d.Product, access, units)
	if err != nil || cost != d.Amount || asset != d.Asset {
		return repriced{d.Amount, d.Asset, true}, nil
	}
	cost, asset, err = ledger.Price(r.plan, d.Product, access, units)
	return repriced{cost, asset, false}, err
}

func (r *repricer) row(e *events.Event, asset string) *repriceRow {
	id := repriceRow{Account: e.Account, Environment: e.Environment, Asset: asset}
	row := r.rows[id]
	if row == nil {
		row = new(id)
		r.rows[id] = row
	}
	return row
}

// add adds n to a sum, unless something went wrong before.
func add(sum *int64, n int64, err error) error {
	if err != nil {
		return err
	}
	if next := *sum + n; (next > *sum) == (n > 0) {
		*sum = next
		return nil
	}
	return events.Errorf(events.LimitExceeded, "a sum is beyond what can be counted: take a shorter span, or one account")
}

// Rows are the sums by account, environment and asset, and over all accounts.
func (r *repricer) Rows() (rows, totals []*repriceRow, err error) {
	sums := map[repriceRow]*repriceRow{}
	for _, row := range r.rows {
		row.Difference = row.After - row.Before // both are not below 0
		rows = append(rows, row)
		id := repriceRow{Environment: row.Environment, Asset: row.Asset}
		total := sums[id]
		if total == nil {
			total = new(id)
			sums[id] = total
			totals = append(totals, total)
		}
		total.Debits, total.Given = total.Debits+row.Debits, total.Given+row.Given
		err = add(&total.Before, row.Before, add(&total.After, row.After, err))
		total.Difference = total.After - total.Before
	}
	order := func(a, b *repriceRow) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Asset, b.Asset))
	}
	slices.SortFunc(rows, order)
	slices.SortFunc(totals, order)
	return rows, totals, err
}
