package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

// ledgerItself stands for the whole ledger where an account is asked for.
const ledgerItself = "_"

// What usage.get counts by, and what it keeps apart.
var (
	usageBy     = []string{"hour", "day", "month", "total"}
	usageGroups = []string{"account", "key", "product"}
)

// usageFlags are those of usage as they were given.
type usageFlags struct {
	account, environment, key, product string
	by, from, to                       string
	group                              []string
	plot, csv                          bool
}

func usageCommand(a *app) *cobra.Command {
	var f usageFlags
	c := a.verb(&cobra.Command{
		Use:   "usage",
		Short: "Show requests, refusals and what was spent, by hour, day or month",
		Long: `Show requests, refusals and what was spent, by hour, day or month, in UTC. Without
--account it is the usage of the whole ledger, which --group account divides.

What was paid stands in the log for good. Requests that were refused or cost nothing are
kept for a limited time; a note says since when they are counted.

--plot draws it: in Unicode blocks where the locale has them, in colours where a person
looks on and NO_COLOR is not set, as wide as the terminal or COLUMNS.`,
		Example: `  keyledger usage --account acme --environment live --plot
  keyledger usage --account acme --by hour --from -24h --group product
  keyledger usage --account acme --by month --from 2026-01-01 --to 2026-07-01 --csv
  keyledger usage --group account --by total`,
		Args: arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		body, err := f.body(time.Now())
		if err != nil {
			return err
		}
		return a.query(cmd, f.account, "usage.get", body, func(reply *client.Reply) error {
			if err := a.showUsage(cmd, &f, reply); err != nil || f.account != ledgerItself {
				return err
			}
			a.noteUnknown(cmd, reply)
			return nil
		})
	})
	flags := c.Flags()
	flags.StringVar(&f.account, "account", ledgerItself, "`ACCOUNT` whose usage it is")
	withDefault(flags, "account", "the whole ledger")
	environmentFlag(c, &f.environment)
	flags.StringVar(&f.by, "by", "day", "`SPAN` of a row: "+strings.Join(usageBy, ", "))
	flags.StringVar(&f.from, "from", "", "`WHEN` to begin: "+whenText)
	withDefault(flags, "from", "so that 24 hours, 30 days or 12 months are shown; for a total the beginning")
	flags.StringVar(&f.to, "to", "", endLeftOut)
	withDefault(flags, "to", "now")
	flags.StringSliceVar(&f.group, "group", nil, "keep apart by `NAMES`: key, product, or account for the whole ledger")
	flags.StringVar(&f.key, "key", "", "only of this `KEY`")
	flags.StringVar(&f.product, "product", "", "only of this `PRODUCT`")
	flags.BoolVar(&f.plot, "plot", false, "draw it")
	flags.BoolVar(&f.csv, "csv", false, "print it as CSV, with a column for each asset and each code of a refusal")
	exclusive(c, "plot", "csv", "json")
	completeWith(c, "by", usageBy)
	completeWith(c, "group", usageGroups)
	completeWith(c, "environment", []string{events.Test, events.Live})
	return c
}

// completeWith completes a flag with fixed words.
func completeWith(c *cobra.Command, flag string, words []string) {
	err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // no such flag
	}
}

// body checks the flags and is the query's body.
func (f *usageFlags) body(now time.Time) (map[string]any, error) {
	if f.account != ledgerItself && !ledger.ValidAccount(f.account) {
		return nil, usagef("--account %q is no account id: 1 to 64 of A-Z a-z 0-9 _ -", f.account)
	}
	if !slices.Contains(usageBy, f.by) {
		return nil, usagef("--by %q must be one of %s", f.by, strings.Join(usageBy, ", "))
	}
	for _, name := range f.group {
		if !slices.Contains(usageGroups, name) {
			return nil, usagef("--group %q must be of %s", name, strings.Join(usageGroups, ", "))
		}
	}
	if f.account == ledgerItself && (f.key != "" || slices.Contains(f.group, "key")) {
		return nil, usagef("a key is one account's: give --account with --key or --group key")
	}
	body := map[string]any{"environment": f.environment, "by": f.by}
	for name, value := range map[string]string{"key": f.key, "product": f.product} {
		if value != "" {
			body[name] = value
		}
	}
	if len(f.group) > 0 {
		body["group"] = f.group
	}
	from, to, err := f.span(now)
	if err != nil {
		return nil, err
	}
	for name, at := range map[string]events.Time{"from": from, "to": to} {
		if at != 0 {
			body[name] = at
		}
	}
	return body, nil
}

// usageBack is how many spans are shown where nothing says when to begin; of a total, all.
var usageBack = map[string]int{"hour": 24, "day": 30, "month": 12}

// span is when to begin and to end, zero for the ledger's own choice.
func (f *usageFlags) span(now time.Time) (from, to events.Time, err error) {
	end := events.At(now)
	if f.to != "" {
		if to, err = parseTime("to", f.to, now); err != nil {
			return 0, 0, err
		}
		end = to - 1
	}
	if f.from != "" {
		from, err = parseTime("from", f.from, now)
		return from, to, err
	}
	back := usageBack[f.by]
	switch t := spanStart(end, f.by).Std(); f.by {
	case "hour":
		from = events.At(t.Add(time.Duration(1-back) * time.Hour))
	case "day":
		from = events.At(t.AddDate(0, 0, 1-back))
	case "month":
		from = events.At(t.AddDate(0, 1-back, 0))
	}
	return from, to, nil
}

// usage is the reply of usage.get.
type usage struct {
	Rows          []usageRow  `json:"usage"`
	From          events.Time `json:"from"`
	To            events.Time `json:"to"`
	By            string      `json:"by"`
	Totals        usageRow    `json:"totals"`
	RefusalsSince events.Time `json:"refusals_since"`
}

// usageRow is what was used in one span by one of a group.
type usageRow struct {
	Start    events.Time      `json:"start"`
	Account  string           `json:"account"`
	Key      string           `json:"key"`
	Product  string           `json:"product"`
	Requests int64            `json:"requests"` // allowed and refused
	Allowed  int64            `json:"allowed"`
	Refused  int64            `json:"refused"`
	Refusals map[string]int64 `json:"refusals"` // code to count
	Spent    map[string]int64 `json:"spent"`    // asset to amount, in its smallest unit
	Refunded map[string]int64 `json:"refunded"` // likewise
}

// showUsage prints a reply as the flags say.
func (a *app) showUsage(cmd *cobra.Command, f *usageFlags, reply *client.Reply) error {
	var u usage
	switch {
	case f.csv:
		if err := reply.Decode(&u); err != nil {
			return err
		}
		return u.writeCSV(a.out, f.group)
	case f.plot:
		if err := reply.Decode(&u); err != nil {
			return err
		}
		p := newPlot(a.out)
		u.plot(p, f)
		if err := p.flush(); err != nil {
			return err
		}
		if text := u.since(); text != "" {
			a.note("%s", text)
		}
		return nil
	}
	return a.show(reply, &u, func(t *table) { u.rows(t, f.group) })
}

// unknownSecrets is said where requests came with secrets that no key has.
const unknownSecrets = "requests with a secret that no key has are not counted, for they are of no account and environment: keyledger access list has them"

// unknownBody asks access.list of the whole ledger for such requests.
func unknownBody(from, to events.Time) map[string]any {
	body := map[string]any{"code": events.KeyNotFound, "limit": 1}
	for name, at := range map[string]events.Time{"from_time": from, "to_time": to} {
		if at != 0 {
			body[name] = at
		}
	}
	return body
}

// noteUnknown notes that there were such requests in the span of a reply.
func (a *app) noteUnknown(cmd *cobra.Command, reply *client.Reply) {
	var u usage
	if reply.Decode(&u) != nil {
		return
	}
	var out accessRecords
	err := a.query(cmd, ledgerItself, "access.list", unknownBody(u.From, u.To), func(r *client.Reply) error { return r.Decode(&out) })
	if err == nil && len(out.Records) > 0 { // what is shown is right without the note
		a.note("%s", unknownSecrets)
	}
}

// since says from when on refused and free requests are counted, "" where that is from
// the beginning of the span.
func (u *usage) since() string {
	if u.RefusalsSince <= u.From {
		return ""
	}
	return fmt.Sprintf("requests that were refused or cost nothing are counted since %s; what was paid, from the beginning", u.RefusalsSince)
}

// of is the member of a row that a group goes by.
func (r *usageRow) of(group string) string {
	switch group {
	case "account":
		return r.Account
	case "key":
		return r.Key
	}
	return r.Product
}

// span writes the start of a row for people, as exactly as by needs it.
func span(at events.Time, by string) string {
	switch by {
	case "hour":
		return at.Std().Format("2006-01-02 15:04")
	case "month":
		return at.Std().Format("2006-01")
	case "total":
		return "total"
	}
	return at.Std().Format(time.DateOnly)
}
