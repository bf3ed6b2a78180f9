package main

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

// What a bar of a report stands for: an hour up to so long a time, a day up to so long,
// and a month beyond.
const (
	reportHours = 48 * time.Hour
	reportDays  = 120 * 24 * time.Hour
	reportBack  = 29 // whole days before today, where nothing says when to begin
)

// reportFlags are those of audit report as they were given.
type reportFlags struct {
	account, from, to, out string
	all, force             bool
}

func auditReport(a *app) *cobra.Command {
	var f reportFlags
	c := a.verb(&cobra.Command{
		Use:   "report",
		Short: "Write a page about usage, balances, keys and webhooks",
		Long: `Write one HTML page about an account, or the whole ledger: requests and what was spent by
product, balances over time, refusals by code, the keys or accounts that are used most,
the life of keys, and how webhooks were delivered. It says which position of the log it
is true at.

The page needs nothing but itself: it loads nothing and runs nothing. It is drawn light
or dark as the reader's system is, and can be printed. Times are UTC. Names of keys and
addresses of endpoints stand in it, secrets do not.`,
		Example: `  keyledger audit report --account acme --out acme.html
  keyledger audit report --account acme --from 2026-01-01 --to 2026-04-01 --out quarter.html
  keyledger audit report --all --from -24h --out today.html --force`,
		Args: arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		d, err := f.data(time.Now())
		if err != nil {
			return err
		}
		_, err = writeFile(f.out, f.force, a.out, func(w io.Writer) (*reportData, error) {
			if err := a.gather(cmd, &f, d); err != nil {
				return nil, err
			}
			return d, newPage(d).render(w)
		})
		if err != nil {
			return err
		}
		return a.reported(&f, d)
	})
	flags := c.Flags()
	flags.StringVar(&f.account, "account", "", "`ACCOUNT` it is about")
	flags.BoolVar(&f.all, "all", false, "it is about the whole ledger")
	flags.StringVar(&f.from, "from", "", "`WHEN` to begin: "+whenText)
	withDefault(flags, "from", "29 days before today, or the day the account was opened")
	flags.StringVar(&f.to, "to", "", endLeftOut)
	withDefault(flags, "to", "now")
	flags.StringVar(&f.out, "out", "", "`FILE` to write, which nobody else may read, or - for standard output")
	flags.BoolVar(&f.force, "force", false, "write over a file that is there")
	require(c, "out")
	return c
}

// data checks the flags and is a report with nothing in it.
func (f *reportFlags) data(now time.Time) (*reportData, error) {
	switch {
	case f.all == (f.account != ""):
		return nil, usagef("give either --account ACCOUNT or --all")
	case f.account != "" && !ledger.ValidAccount(f.account):
		return nil, usagef("--account %q is no account id: 1 to 64 of A-Z a-z 0-9 _ -", f.account)
	}
	d := &reportData{Made: events.At(now), To: events.At(now)}
	d.From = events.At(now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -reportBack))
	for _, end := range []struct {
		flag, text string
		at         *events.Time
	}{{"from", f.from, &d.From}, {"to", f.to, &d.To}} {
		if end.text == "" {
			continue
		}
		at, err := parseTime(end.flag, end.text, now)
		if err != nil {
			return nil, err
		}
		*end.at = at
	}
	if d.From >= d.To {
		return nil, usagef("--from %s must be before --to %s", d.From, d.To)
	}
	d.DefaultFrom = f.from == ""
	d.setBy()
	return d, nil
}

// setBy chooses what a bar stands for.
func (d *reportData) setBy() { d.By = d.finest() }

// finest is what a bar stands for where nothing speaks against it.
func (d *reportData) finest() string {
	switch length := time.Duration(d.To-d.From) * time.Millisecond; {
	case length <= reportHours:
		return "hour"
	case length <= reportDays:
		return "day"
	}
	return "month"
}

// gather asks for what the report needs.
func (a *app) gather(cmd *cobra.Command, f *reportFlags, d *reportData) error {
	conn, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	account := f.account
	if f.all {
		account = ledgerItself
	}
	g := a.newGatherer(client.New(conn), account, d)
	g.progress.begin("asking")
	defer g.progress.clear()
	return g.gather(cmd.Context())
}

// reported says what was written.
func (a *app) reported(f *reportFlags, d *reportData) error {
	out := a.out
	if f.out == stdStream {
		out = a.errOut
	}
	if a.json {
		return printJSON(out, map[string]any{"file": f.out, "position": d.True, "from": d.From, "to": d.To})
	}
	t := newTable(out)
	t.row("report", f.out)
	t.row("from", d.From)
	t.row("to", d.To)
	t.row("true at", d.True)
	return t.w.Flush()
}

//go:embed audit_report.html
var reportHTML string

//go:embed audit_report.css
var reportCSS string

var reportTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"day": day, "minute": minute, "iso": events.Time.String,
}).Parse(reportHTML))

// render writes the page. Its policy lets a browser do nothing but apply its one style.
func (p *reportPage) render(w io.Writer) error {
	sum := sha256.Sum256([]byte(reportCSS))
	p.Style = template.CSS(reportCSS)
	p.Policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
	if err := reportTemplate.Execute(w, p); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
