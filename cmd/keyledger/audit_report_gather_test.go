package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
	"github.com/keyledger/keyledger/testing/receiver"
)

// gathered is a report's data on a ledger, up to now by its clock.
func gathered(t *testing.T, l *ledgertest.Ledger, account string, f reportFlags, now time.Time, change func(*gatherer)) *reportData {
	t.Helper()
	if f.all = account == ledgerItself; !f.all {
		f.account = account
	}
	d, err := f.data(now)
	if err != nil {
		t.Fatal(err)
	}
	g := (&app{timeout: 30 * time.Second, errOut: io.Discard}).newGatherer(l.Client, account, d)
	if change != nil {
		change(g)
	}
	if err := g.gather(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// inParallel calls f for 0 to n-1, some at the same time.
func inParallel(t *testing.T, n int, f func(context.Context, int) error) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(32)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestGatherPages: what does not fit a page is asked for on the next, up to the limits,
// and the report says where it stopped.
func TestGatherPages(t *testing.T) {
	const many = reportListMax + 20
	hooks, err := receiver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hooks.Close() })
	l := ledgertest.Start(t)
	inParallel(t, many, func(ctx context.Context, i int) error {
		_, err := l.OpenAccount(ctx, fmt.Sprintf("a%d", i), ledger.OpenAccount{})
		return err
	})
	endpoint, err := l.RegisterEndpoint(t.Context(), "a0", ledger.RegisterEndpoint{
		URL: hooks.URL + "/a0", Environment: events.Test, Events: []string{"key.*"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := hooks.Register("/a0", endpoint.Secret); err != nil {
		t.Fatal(err)
	}
	inParallel(t, many, func(ctx context.Context, i int) error {
		_, err := l.CreateKey(ctx, "a0", ledger.CreateKey{Environment: events.Test, Name: "key"})
		return err
	})
	now := time.Now().Add(time.Hour)
	var d *reportData
	for d == nil || len(d.Settled) < many { // records of attempts come a little later
		d = gathered(t, l, "a0", reportFlags{}, now, nil)
	}
	if len(d.Keys) != many || len(d.Endpoints) != 1 || d.Endpoints[0].Delivered != many || d.Endpoints[0].Last == 0 || d.DeliveriesCut != "" {
		t.Errorf("%d keys, endpoints %+v, %q", len(d.Keys), d.Endpoints, d.DeliveriesCut)
	}
	d = gathered(t, l, "a0", reportFlags{}, now, func(g *gatherer) { g.deliveriesMax = reportListMax })
	if len(d.Settled) != reportListMax || d.DeliveriesCut == "" {
		t.Errorf("with a limit: %d deliveries, %q", len(d.Settled), d.DeliveriesCut)
	}
	d = gathered(t, l, "a0", reportFlags{from: "-24h", to: "-12h"}, now, nil)
	if len(d.Settled) != 0 || d.Endpoints[0].Delivered != 0 {
		t.Errorf("yesterday: %d deliveries", len(d.Settled))
	}
	d = gathered(t, l, ledgerItself, reportFlags{}, now, nil)
	if len(d.Keys) != many || len(d.Notes) != 0 || d.Account != nil {
		t.Errorf("of the ledger: %d keys, notes %q", len(d.Keys), d.Notes)
	}
	d = gathered(t, l, ledgerItself, reportFlags{}, now, func(g *gatherer) { g.accountsMax = reportListMax })
	if len(d.Notes) != 1 {
		t.Errorf("of the first accounts: notes %q", d.Notes)
	}
}

// TestGatherBalances: a balance in a report is what it was then.
func TestGatherBalances(t *testing.T) {
	var ahead atomic.Int64 // of the real clock, which no caller's patience may be behind
	ahead.Store(int64(-10 * 24 * time.Hour))
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	l := ledgertest.Start(t, func(cfg *server.Config) { cfg.Clock = clock })
	later := func() {
		l.Stop()
		ahead.Add(int64(24 * time.Hour))
		l.Start()
	}
	id := func() client.Option {
		return client.WithID(ulid.MustNew(ulid.Timestamp(clock()), ulid.DefaultEntropy()))
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.OpenAccount(t.Context(), "acme", ledger.OpenAccount{}, id()))
	must(l.Grant(t.Context(), "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 1000}, id()))
	later()
	must(l.Debit(t.Context(), "acme", ledger.DebitCredit{Environment: events.Test, Asset: "credits", Amount: 300}, id()))
	must(l.Grant(t.Context(), "acme", ledger.GrantCredit{Environment: events.Live, Asset: "gold", Amount: 7}, id()))
	later()
	must(l.PlaceHold(t.Context(), "acme", ledger.PlaceHold{Environment: events.Test, Asset: "credits", Amount: 200, ExpiresIn: "1h"}, id()))

	// What the balances were, one after the other. No plan and no use names gold: the bucket
	// knows it.
	went := func(d *reportData) string {
		var text strings.Builder
		for _, e := range d.Environments {
			for _, b := range e.Balances {
				fmt.Fprint(&text, e.Name, " ", b.Asset, ":")
				var last balancePoint
				for i, p := range b.Points {
					if p.At < last.At {
						t.Errorf("%s: %v comes after %v", b.Asset, p, last)
					}
					if i == 0 || p.balanceParts != last.balanceParts {
						fmt.Fprint(&text, " ", p.balanceParts)
					}
					last = p
				}
				text.WriteString("\n")
			}
		}
		return text.String()
	}
	want := "live credits: {0 0 0}\nlive gold: {0 0 0} {7 0 7}\ntest credits: {0 0 0} {1000 0 1000} {700 0 700} {700 200 500}\n"
	begin := clock().UTC().AddDate(0, 0, -3).Format(time.RFC3339)
	for name, change := range map[string]func(*gatherer){"every movement": nil, "samples": func(g *gatherer) { g.movementsMax = 1 }} {
		d := gathered(t, l, "acme", reportFlags{from: begin}, clock().Add(time.Second), change)
		if got := went(d); got != want {
			t.Errorf("by %s:\n%snot:\n%s", name, got, want)
		}
		if every := d.Environments[1].Balances[0].Every; (every > 0) != (change != nil) {
			t.Errorf("%s, but looked at every %d ms", name, every)
		}
	}
	d := gathered(t, l, "acme", reportFlags{}, clock(), nil)
	if opened := spanStart(d.Account.CreatedAt, "day"); d.From != opened || d.By != "day" {
		t.Errorf("from %s by %s, where the account was opened at %s", d.From, d.By, d.Account.CreatedAt)
	}
	l.Verify()
	l.Stop() // before what Start has opened again is closed
}

// TestGatherManyProducts: where use by span and product has more rows than an answer can
// have, the report shows longer spans, then products together, and says so.
func TestGatherManyProducts(t *testing.T) {
	l := ledgertest.Start(t)
	if _, err := l.OpenAccount(t.Context(), "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Grant(t.Context(), "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 100}); err != nil {
		t.Fatal(err)
	}
	for _, product := range []string{"maps", "mail"} {
		if _, err := l.Debit(t.Context(), "acme", ledger.DebitCredit{Environment: events.Test, Asset: "credits", Amount: 1, Product: product}); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		from    string
		refused []string // spans
		by      string
		rows    int // of use
		notes   []string
	}{
		"few":       {"-24h", nil, "hour", 2, nil},
		"by day":    {"-24h", []string{"hour"}, "day", 2, []string{"use is shown by day"}},
		"by month":  {"-24h", []string{"hour", "day"}, "month", 2, []string{"use is shown by month"}},
		"too many":  {"-24h", []string{"hour", "day", "month"}, "month", 1, []string{"use is shown by month", "told apart"}},
		"long span": {"-5000h", []string{"month"}, "month", 1, []string{"told apart"}},
	} {
		// What the server refuses for their number is refused here, without so many.
		d := gathered(t, l, "acme", reportFlags{from: c.from}, time.Now().Add(time.Second), func(g *gatherer) {
			query := g.query
			g.query = func(ctx context.Context, account, verb string, body any, opts ...client.Option) (*client.Reply, error) {
				if b, ok := body.(map[string]any); ok && verb == "usage.get" && b["environment"] == events.Test &&
					fmt.Sprint(b["group"]) == "[product]" && slices.Contains(c.refused, b["by"].(string)) {
					return nil, events.Errorf(events.LimitExceeded, "there are more rows than 10000")
				}
				return query(ctx, account, verb, body, opts...)
			}
		})
		spans := d.Environments[1].Spans
		if d.By != c.by || spans.By != c.by || len(spans.Rows) != c.rows || spans.Totals.Spent["credits"] != 2 {
			t.Errorf("%s: by %s, %+v", name, d.By, spans)
		}
		for _, want := range c.notes {
			if !slices.ContainsFunc(d.Notes, func(n string) bool { return strings.Contains(n, want) }) {
				t.Errorf("%s: notes %q, without %q", name, d.Notes, want)
			}
		}
		if d.Environments[0].Spans.By != c.by {
			t.Errorf("%s: live is by %s", name, d.Environments[0].Spans.By)
		}
		newPage(d)
	}
}
