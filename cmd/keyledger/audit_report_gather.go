package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/client"
)

// What a report asks for at most.
const (
	reportAtOnce        = 8      // queries at the same time
	reportAccountsMax   = 1_000  // whose keys and endpoints are looked at, for the whole ledger
	reportDeliveriesMax = 20_000 // settled deliveries that are looked at, of one account
	reportListMax       = 500    // objects in a page of a list
	balanceSamples      = 120    // moments at which a balance with more movements than a page has is looked at, about
)

// reportData is what a report is made of.
type reportData struct {
	Account     *events.Account // nil for the whole ledger
	From, To    events.Time     // From is included, To is not
	Made        events.Time
	DefaultFrom bool   // nobody said when to begin: not before the account was opened
	By          string // span of a bar: hour, day or month
	True        string // position that every answer is true at, or at a later one
	Status      ledgerStatus
	Notes       []string

	Environments  []environmentData
	Keys          []events.Key
	Endpoints     []endpointData
	Settled       []settled
	DeliveriesCut string // says which deliveries were not looked at, "" for none
}

// ledgerStatus is what a report takes of ledger.status.
type ledgerStatus struct {
	Version  string `json:"version"`
	Position string `json:"position"`
	HeadHash string `json:"head_hash"`
	Events   uint64 `json:"events"`

	Projections []struct {
		Name     string `json:"name"`
		Position string `json:"position"`
		Failure  string `json:"failure"`
	} `json:"projections"`
}

type environmentData struct {
	Name     string
	Spans    usage // by span and product
	Top      usage // by key, or account for the whole ledger
	Balances []balanceData
}

type balanceData struct {
	Asset  string
	Points []balancePoint // in the order of their times
	Every  events.Time    // how far apart the moments are, in ms; 0: after every movement
}

// endpointData is an endpoint and what became of what it was owed.
type endpointData struct {
	events.Endpoint
	Delivered, Dead, Pending int64
	Last                     events.Time // when a delivery was settled last
	LastError                string      // of the newest failure there is
}

// settled is a delivery that is delivered or dead.
type settled struct {
	At   events.Time
	Dead bool
}

// gatherer asks for what a report needs.
type gatherer struct {
	client  *client.Client
	query   func(ctx context.Context, account, verb string, body any, opts ...client.Option) (*client.Reply, error)
	timeout time.Duration // of a query
	account string
	d       *reportData

	accountsMax, deliveriesMax, movementsMax int

	mu       sync.Mutex // over d while several queries run, and progress
	progress *progress
	asked    int
}

// ask sends a query. All but the first wait for the position that the first is true at.
func (g *gatherer) ask(ctx context.Context, account, verb string, body, v any) error {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	consistency := client.Strict()
	if g.d.True != "" {
		consistency = client.WithMinPosition(g.d.True)
	}
	reply, err := g.query(ctx, account, verb, body, consistency)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer to %s within %s (--timeout): %w", verb, g.timeout, err)
	case err != nil:
		return fmt.Errorf("ask for %s: %w", verb, err)
	}
	g.mu.Lock()
	if g.d.True == "" {
		g.d.True = reply.Position
	}
	g.asked++
	g.progress.at(g.asked, 0)
	g.mu.Unlock()
	return reply.Decode(v)
}

// newGatherer makes one that asks as a, about an account or the whole ledger.
func (a *app) newGatherer(c *client.Client, account string, d *reportData) *gatherer {
	return &gatherer{
		client: c, query: c.Query, timeout: a.timeout, account: account, d: d, progress: a.newProgress(),
		accountsMax: reportAccountsMax, deliveriesMax: reportDeliveriesMax, movementsMax: reportListMax,
	}
}

// hourMS is an hour in milliseconds.
const hourMS = 60 * 60 * 1000

// gather asks for everything.
func (g *gatherer) gather(ctx context.Context) error {
	d := g.d
	accounts := []string{g.account}
	if g.account == ledgerItself {
		var err error
		if accounts, err = g.accounts(ctx); err != nil {
			return err
		}
	} else {
		var out struct {
			Account *events.Account `json:"account"`
		}
		if err := g.ask(ctx, g.account, "account.get", nil, &out); err != nil {
			return err
		}
		d.Account = out.Account
		if opened := spanStart(d.Account.CreatedAt, "day"); d.DefaultFrom && opened > d.From && opened < d.To {
			d.From = opened
			d.setBy()
		}
	}
	if d.From%hourMS != 0 || d.To%hourMS != 0 && d.To < d.Made {
		g.note("Requests and what was spent are counted in whole hours.")
	}
	d.Environments = make([]environmentData, 2)
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(reportAtOnce)
	for i, name := range []string{events.Live, events.Test} {
		d.Environments[i].Name = name
		group.Go(func() error { return g.top(inner, &d.Environments[i]) })
	}
	group.Go(func() error { return g.spans(inner) })
	if g.account == ledgerItself {
		group.Go(func() error { return g.unknown(inner) })
	}
	for _, account := range accounts {
		group.Go(func() error { return g.keys(inner, account) })
		group.Go(func() error { return g.endpoints(inner, account) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	g.sort()
	if d.Account != nil {
		if err := g.balances(ctx); err != nil {
			return err
		}
	}
	return g.ask(ctx, ledgerItself, "ledger.status", nil, &d.Status)
}

// accounts lists the first accounts of the ledger.
func (g *gatherer) accounts(ctx context.Context) (ids []string, err error) {
	cursor := ""
	for {
		var out struct {
			Accounts   []events.Account `json:"accounts"`
			NextCursor *string          `json:"next_cursor"`
		}
		if err := g.ask(ctx, ledgerItself, "account.list", pageBody(cursor), &out); err != nil {
			return nil, err
		}
		for i := range out.Accounts {
			ids = append(ids, out.Accounts[i].ID)
		}
		if out.NextCursor == nil || *out.NextCursor == "" {
			return ids, nil
		}
		if cursor = *out.NextCursor; len(ids) >= g.accountsMax {
			g.note(fmt.Sprintf("Keys and webhooks are those of the first %s accounts; usage is that of all.", grouped(int64(len(ids)))))
			return ids, nil
		}
	}
}

func pageBody(cursor string) map[string]any {
	body := map[string]any{"limit": reportListMax}
	if cursor != "" {
		body["cursor"] = cursor
	}
	return body
}

// note says something at the end of the page.
func (g *gatherer) note(text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.d.Notes = append(g.d.Notes, text)
}

// keys lists an account's keys.
func (g *gatherer) keys(ctx context.Context, account string) error {
	cursor := ""
	for {
		var out struct {
			Keys       []events.Key `json:"keys"`
			NextCursor *string      `json:"next_cursor"`
		}
		if err := g.ask(ctx, account, "key.list", pageBody(cursor), &out); err != nil {
			return err
		}
		g.mu.Lock()
		g.d.Keys = append(g.d.Keys, out.Keys...)
		g.mu.Unlock()
		if out.NextCursor == nil || *out.NextCursor == "" {
			return nil
		}
		cursor = *out.NextCursor
	}
}

// endpoints lists an account's endpoints and counts their deliveries.
func (g *gatherer) endpoints(ctx context.Context, account string) error {
	var list []endpointData
	cursor := ""
	for {
		var out struct {
			Endpoints  []events.Endpoint `json:"endpoints"`
			NextCursor *string           `json:"next_cursor"`
		}
		if err := g.ask(ctx, account, "endpoint.list", pageBody(cursor), &out); err != nil {
			return err
		}
		for i := range out.Endpoints {
			list = append(list, endpointData{Endpoint: out.Endpoints[i]})
		}
		if out.NextCursor == nil || *out.NextCursor == "" {
			break
		}
		cursor = *out.NextCursor
	}
	if len(list) == 0 {
		return nil
	}
	for i := range list {
		if list[i].Status == events.Removed {
			continue // it is owed nothing
		}
		var out deliveries
		body := map[string]any{"limit": 1, "endpoint": list[i].ID, "status": "pending"}
		if err := g.ask(ctx, account, "delivery.list", body, &out); err != nil {
			return err
		}
		list[i].Pending = int64(out.Pending)
	}
	done, err := g.deliveries(ctx, account, list)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.d.Endpoints, g.d.Settled = append(g.d.Endpoints, list...), append(g.d.Settled, done...)
	return err
}

// deliveries counts those that were settled within the report's time, newest first.
func (g *gatherer) deliveries(ctx context.Context, account string, list []endpointData) (done []settled, err error) {
	cursor := ""
	for looked := 0; ; {
		var out deliveries
		if err := g.ask(ctx, account, "delivery.list", pageBody(cursor), &out); err != nil {
			return nil, err
		}
		for i := range out.Deliveries {
			r := &out.Deliveries[i]
			e := slices.IndexFunc(list, func(e endpointData) bool { return e.ID == r.Endpoint })
			switch {
			case e < 0, r.LastAttemptAt >= g.d.To:
				continue
			case r.Status != "pending" && r.LastAttemptAt < g.d.From:
				return done, nil
			}
			looked++
			list[e].add(r)
			if r.Status != "pending" {
				done = append(done, settled{r.LastAttemptAt, r.Status == "dead"})
			}
		}
		if out.NextCursor == nil || *out.NextCursor == "" {
			return done, nil
		}
		if cursor = *out.NextCursor; looked >= g.deliveriesMax {
			g.mu.Lock()
			g.d.DeliveriesCut = fmt.Sprintf("Only about the last %s deliveries of an account are counted.", grouped(int64(g.deliveriesMax)))
			g.mu.Unlock()
			return done, nil
		}
	}
}

// add counts a delivery; the newest come first.
func (e *endpointData) add(r *deliveryRow) {
	switch r.Status {
	case "delivered":
		e.Delivered++
	case "dead":
		e.Dead++
	}
	if r.Status != "pending" {
		e.Last = max(e.Last, r.LastAttemptAt)
	}
	if e.LastError != "" {
		return
	}
	switch {
	case r.Error != nil:
		e.LastError = *r.Error
	case r.StatusCode != nil && *r.StatusCode/100 != 2:
		e.LastError = fmt.Sprintf("answered %d", *r.StatusCode)
	}
}

// sort puts what came in any order into one.
func (g *gatherer) sort() {
	slices.SortFunc(g.d.Keys, func(a, b events.Key) int { return strings.Compare(a.ID, b.ID) })
	slices.Sort(g.d.Notes)
	slices.SortFunc(g.d.Endpoints, func(a, b endpointData) int { return strings.Compare(a.ID, b.ID) })
}
