package main

import (
	"encoding/csv"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/client"
)

// statementPageMax is the largest page of statement.list.
const statementPageMax = 500

// statementFlags are those of credits statement as they were given.
type statementFlags struct {
	page                   pageFlags
	environment, asset     string
	eventType, key         string
	since, until, from, to string
	csv                    bool
}

// creditsStatement is a verb of the group credits.
func creditsStatement(a *app) *cobra.Command {
	var f statementFlags
	c := a.verb(&cobra.Command{
		Use:   "statement ACCOUNT",
		Short: "List everything that moved a balance, with the balance after it",
		Long: `List everything that moved a balance, oldest first, with the balance after it: grants, debits,
refunds, corrections, transfers, holds, exchanges, expiry and allowances.

An accounting tool keeps the position of the last movement it has and asks for what came
since. --csv prints all pages, a movement a line; what is left out of it is empty. References
are printed as they were given: one that begins with = is a formula to a spreadsheet, so let
it take that column as text.`,
		Example: `  keyledger credits statement acme
  keyledger credits statement acme --since 0:42.0 --csv
  keyledger credits statement acme --environment live --from 2026-01-01 --to 2026-02-01 --csv
  keyledger credits statement acme --type credit.granted --json`,
		Args: arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		body, err := f.body(time.Now())
		if err != nil {
			return err
		}
		if f.csv {
			return a.statementCSV(cmd, args[0], body)
		}
		return a.query(cmd, args[0], "statement.list", body, func(reply *client.Reply) error {
			var out statement
			return a.show(reply, &out, out.rows)
		})
	})
	flags := c.Flags()
	environmentFlag(c, &f.environment)
	assetFlag(c, &f.asset)
	flags.StringVar(&f.since, "since", "", "only what came after this `POSITION`: that of the last movement you have")
	flags.StringVar(&f.until, "until", "", "only up to this `POSITION`, itself included")
	flags.StringVar(&f.from, "from", "", "`WHEN` to begin: "+whenText)
	flags.StringVar(&f.to, "to", "", endLeftOut)
	flags.StringVar(&f.eventType, "type", "", "only this `TYPE` of event, such as credit.debited, or a filter such as 'hold.*'")
	flags.StringVar(&f.key, "key", "", "only what this `KEY` was used for")
	flags.BoolVar(&f.csv, "csv", false, "print all pages as CSV")
	f.page.add(c)
	exclusive(c, "csv", "json")
	exclusive(c, "csv", "limit")
	exclusive(c, "csv", "cursor")
	completeWith(c, "environment", []string{events.Test, events.Live})
	completeWith(c, "type", moneyTypes())
	return c
}

// moneyTypes is every type of event that moves a balance.
func moneyTypes() (names []string) {
	for _, kind := range events.Catalog {
		if _, n := events.Movements(kind.New()); n > 0 {
			names = append(names, kind.Name)
		}
	}
	return names
}

// eventTypes is every type of event.
func eventTypes() (names []string) {
	for _, kind := range events.Catalog {
		names = append(names, kind.Name)
	}
	return names
}

// body is the query's body.
func (f *statementFlags) body(now time.Time) (map[string]any, error) {
	for _, p := range []struct{ flag, text string }{{"since", f.since}, {"until", f.until}} {
		if _, err := position(p.flag, p.text); err != nil {
			return nil, err
		}
	}
	body := f.page.body(map[string]string{
		"environment": f.environment, "asset": f.asset, "type": f.eventType, "key": f.key,
		"from_position": f.since, "to_position": f.until,
	})
	for _, end := range []struct{ flag, name, text string }{{"from", "from_time", f.from}, {"to", "to_time", f.to}} {
		if end.text == "" {
			continue
		}
		at, err := parseTime(end.flag, end.text, now)
		if err != nil {
			return nil, err
		}
		body[end.name] = at
	}
	return body, nil
}

// statement is the reply of statement.list.
type statement struct {
	Movements  []movement   `json:"movements"`
	Opening    balanceParts `json:"opening"`
	Closing    balanceParts `json:"closing"`
	NextCursor *string      `json:"next_cursor"`
}

type balanceParts struct {
	Posted    int64 `json:"posted"`
	Held      int64 `json:"held"`
	Available int64 `json:"available"`
}

type movement struct {
	Position string      `json:"position"`
	Time     events.Time `json:"time"`
	Type     string      `json:"type"`
	ID       string      `json:"id"`
	Amount   int64       `json:"amount"`
	balanceParts
	Key       string `json:"key"`
	Product   string `json:"product"`
	Reference string `json:"reference"`
	Event     string `json:"event"`
}

func (out *statement) rows(t *table) {
	t.row("TIME", "POSITION", "TYPE", "AMOUNT", "POSTED", "HELD", "AVAILABLE", "ID", "REFERENCE")
	line := func(what string, b balanceParts) {
		t.row("", "", what, "", grouped(b.Posted), grouped(b.Held), grouped(b.Available), "", "")
	}
	line("opening", out.Opening)
	for _, m := range out.Movements {
		amount := grouped(m.Amount)
		if m.Amount > 0 {
			amount = "+" + amount
		}
		t.row(m.Time, m.Position, m.Type, amount, grouped(m.Posted), grouped(m.Held), grouped(m.Available), orDash(m.ID), orDash(m.Reference))
	}
	line("closing", out.Closing)
	t.more(out.NextCursor)
}

// statementCSV prints all pages of a statement. Each has its own time to be answered.
func (a *app) statementCSV(cmd *cobra.Command, account string, body map[string]any) error {
	body["limit"] = statementPageMax
	out := csv.NewWriter(a.out)
	if err := out.Write([]string{"position", "time", "type", "id", "amount", "posted", "held", "available", "key", "product", "reference", "event"}); err != nil {
		return err
	}
	for {
		var page statement
		err := a.query(cmd, account, "statement.list", body, func(reply *client.Reply) error { return reply.Decode(&page) })
		if err != nil {
			return err
		}
		for i := range page.Movements {
			if err := out.Write(page.Movements[i].line()); err != nil {
				return err
			}
		}
		if out.Flush(); out.Error() != nil || page.NextCursor == nil {
			return out.Error()
		}
		body["cursor"] = *page.NextCursor
	}
}

// line is a movement in CSV.
func (m *movement) line() []string {
	line := []string{m.Position, m.Time.String(), m.Type, m.ID}
	for _, n := range []int64{m.Amount, m.Posted, m.Held, m.Available} {
		line = append(line, strconv.FormatInt(n, 10))
	}
	return append(line, m.Key, m.Product, m.Reference, m.Event)
}
