package main

import (
	"context"
	"encoding/csv"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// repricing is what audit reprice prints.
type repricing struct {
	Plan     string        `json:"plan"`
	From     events.Time   `json:"from"` // null: the beginning
	To       events.Time   `json:"to"`   // null: the end
	Position string        `json:"position"`
	Rows     []*repriceRow `json:"rows"`
	Totals   []*repriceRow `json:"totals"`
}

func auditReprice(a *app) *cobra.Command {
	var file, from, to, account string
	var asCSV bool
	c := a.verb(&cobra.Command{
		Use:   "reprice",
		Short: "What requests would have cost under another plan",
		Long: `What requests would have cost under another plan: every debit in the log by authorize, or
by credits debit with a product, at the plan's price for its product, access and units, less
what was refunded of it in the same span. Nothing is changed.

A debit whose amount is not what the account's plan of its time made it had its cost given
with the request: it stays what it was, and is counted as given. (A cost that was given and
happens to be the plan's cannot be told from it.) Requests that were free are not in the
log, and captures of holds have no price. A part that was refunded is taken off the other
price in the same proportion, rounded down.

The log is read from its beginning, once, or twice where something was refunded.`,
		Example: `  keyledger audit reprice --plan new.json
  keyledger audit reprice --plan new.json --account acme --from 2026-01-01 --to 2026-01-31T23:59:59.999Z
  keyledger audit reprice --plan new.json --csv`,
		Args: arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		plan, err := readPlan(file, a.in)
		if err != nil {
			return err
		}
		if err := (&ledger.SetPlan{Plan: plan}).Validate(); err != nil {
			return err
		}
		now, span := time.Now(), &replayFilter{}
		if span.fromTime, err = parseAnyTime("from", from, now); err != nil {
			return err
		}
		if span.toTime, err = parseAnyTime("to", to, now); err != nil {
			return err
		}
		if span.toTime != 0 && span.fromTime > span.toTime {
			return usagef("--from %s must not be after --to %s", span.fromTime, span.toTime)
		}
		if err := checkAccount(account); err != nil {
			return err
		}
		log, last, closeLog, err := a.openLog(cmd)
		if err != nil {
			return err
		}
		defer closeLog()
		found, err := a.reprice(cmd.Context(), log, last, newRepricer(plan, account, span.fromTime, span.toTime))
		if err != nil {
			return err
		}
		if len(found.Rows) == 0 {
			if err := a.known(cmd, account); err != nil {
				return err
			}
		}
		return found.show(a, asCSV)
	})
	flags := c.Flags()
	flags.StringVar(&file, "plan", "", "the other plan as JSON, as account set-plan takes it, from a `FILE` or - for standard input")
	flags.StringVar(&account, "account", "", "only this `ACCOUNT`")
	flags.StringVar(&from, "from", "", "`WHEN` to begin: "+whenText)
	flags.StringVar(&to, "to", "", endIncluded)
	flags.BoolVar(&asCSV, "csv", false, "print CSV; the account of totals is *")
	require(c, "plan")
	exclusive(c, "csv", "json")
	return c
}

// reprice reads the log up to the span's end.
func (a *app) reprice(ctx context.Context, log store.Log, last uint64, r *repricer) (*repricing, error) {
	_, last, err := (&replayFilter{toTime: r.to}).bounds(ctx, log, last)
	if err != nil {
		return nil, err
	}
	p := a.newProgress()
	defer p.clear()
	end := store.Chain{Partition: partition}
	read := func(what string, f func(*store.Commit) error) error {
		p.begin(what)
		end = store.Chain{Partition: partition}
		err := store.ReadChecked(ctx, log, &end, last, func(c *store.Commit) error {
			p.at(int(c.Sequence), int(last))
			if err := f(c); err != nil {
				return err
			}
			return ctx.Err()
		})
		if err == nil {
			err = ctx.Err()
		}
		return err
	}
	if err := read("pricing commits", r.Fold); err != nil {
		return nil, err
	}
	if len(r.refunds) > 0 {
		if err := read("looking for what was refunded", r.Reduce); err != nil {
			return nil, err
		}
	}
	out := &repricing{Plan: r.plan.Name, From: r.from, To: r.to, Position: end.Position().String()}
	out.Rows, out.Totals, err = r.Rows()
	return out, err
}

func (r *repricing) show(a *app, asCSV bool) error {
	switch {
	case a.json:
		return printJSON(a.out, r)
	case asCSV:
		return r.csv(a.out)
	}
	if len(r.Rows) == 0 {
		a.note("no request was paid for in that span")
		return nil
	}
	t := newTable(a.out)
	t.row("ACCOUNT", "ENVIRONMENT", "ASSET", "DEBITS", "GIVEN", "BEFORE", "AFTER", "DIFFERENCE")
	row := func(account string, w *repriceRow) {
		t.row(account, w.Environment, w.Asset, grouped(w.Debits), grouped(w.Given), grouped(w.Before), grouped(w.After), signed(w.Difference))
	}
	for _, w := range r.Rows {
		row(w.Account, w)
	}
	for _, w := range r.Totals {
		row("total", w)
	}
	return t.w.Flush()
}

// signed is a difference for people.
func signed(n int64) string {
	if n > 0 {
		return "+" + grouped(n)
	}
	return grouped(n)
}

// csv writes rows and totals, RFC 4180.
func (r *repricing) csv(out io.Writer) error {
	w := csv.NewWriter(out)
	lines := [][]string{{"account", "environment", "asset", "debits", "given", "before", "after", "difference"}}
	line := func(account string, row *repriceRow) {
		cells := []string{account, row.Environment, row.Asset}
		for _, n := range []int64{row.Debits, row.Given, row.Before, row.After, row.Difference} {
			cells = append(cells, strconv.FormatInt(n, 10))
		}
		lines = append(lines, cells)
	}
	for _, row := range r.Rows {
		line(row.Account, row)
	}
	for _, row := range r.Totals {
		line("*", row)
	}
	return w.WriteAll(lines)
}
