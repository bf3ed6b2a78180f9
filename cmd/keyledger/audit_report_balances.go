package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// balances asks what every balance of the account was, over the report's time.
func (g *gatherer) balances(ctx context.Context) error {
	if reached, err := g.bucketsReached(ctx); err != nil {
		return err
	} else if !reached {
		g.note("Balances that neither the plan nor the usage names may be missing.")
	}
	stored, err := g.storedBalances(ctx)
	if err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(reportAtOnce)
	for i := range g.d.Environments {
		e := &g.d.Environments[i]
		assets := g.d.assets(e)
		for _, name := range stored[e.Name] {
			assets[name] = true
		}
		e.Balances = make([]balanceData, len(assets))
		for j, asset := range slices.Sorted(maps.Keys(assets)) {
			e.Balances[j].Asset = asset
			group.Go(func() error { return g.balance(inner, e.Name, &e.Balances[j]) })
		}
	}
	return group.Wait()
}

// assets is those that the plan or the usage of an environment names.
func (d *reportData) assets(e *environmentData) map[string]bool {
	names := map[string]bool{"credits": true}
	for _, spent := range []map[string]int64{e.Spans.Totals.Spent, e.Spans.Totals.Refunded} {
		for name := range spent {
			names[name] = true
		}
	}
	if plan := d.Account.Plan; plan != nil {
		for name := range plan.Assets {
			names[name] = true
		}
		if plan.Price.Asset != "" {
			names[plan.Price.Asset] = true
		}
		if plan.Allowance != nil {
			names[plan.Allowance.Asset] = true
		}
	}
	return names
}

// bucketsEvery is how often a report looks whether the buckets have come far enough.
const bucketsEvery = 20 * time.Millisecond

// bucketsReached waits until the bucket of balances is true at the report's position. It
// is false where that does not happen in time: a bucket holds up nothing.
func (g *gatherer) bucketsReached(ctx context.Context) (bool, error) {
	want, err := events.ParsePosition(g.d.True)
	if err != nil {
		return false, fmt.Errorf("read the position of an answer: %w", err)
	}
	tick := time.NewTicker(bucketsEvery)
	defer tick.Stop()
	for end := time.Now().Add(g.timeout); time.Now().Before(end); {
		var s ledgerStatus
		if err := g.ask(ctx, ledgerItself, "ledger.status", nil, &s); err != nil {
			return false, err
		}
		for _, p := range s.Projections {
			if p.Name != "kv" {
				continue
			}
			if at, err := events.ParsePosition(p.Position); err == nil && at.Sequence >= want.Sequence {
				return true, nil
			}
			if p.Failure != "" {
				return false, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	return false, nil
}

// storedBalances is the assets of the account's balances by environment, as the bucket of
// balances has them.
func (g *gatherer) storedBalances(ctx context.Context) (map[string][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	js, err := jetstream.New(g.client.Conn())
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, "KV_"+store.BucketBalances)
	if err != nil {
		return nil, fmt.Errorf("look for the account's balances: %w", err)
	}
	prefix := "$KV." + store.BucketBalances + "." + g.account + "."
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(prefix+">"))
	if err != nil {
		return nil, fmt.Errorf("look for the account's balances: %w", err)
	}
	out := map[string][]string{}
	for subject := range info.State.Subjects {
		environment, asset, _ := strings.Cut(strings.TrimPrefix(subject, prefix), ".")
		out[environment] = append(out[environment], asset)
	}
	return out, nil
}

// sampleTimes is moments from one time to another, both included, an even hour or number
// of hours apart.
func sampleTimes(from, to events.Time) []balancePoint {
	const hour = 3_600_000
	step := events.Time(hour)
	for _, hours := range []events.Time{1, 2, 3, 6, 12, 24, 2 * 24, 7 * 24, 14 * 24, 28 * 24, 91 * 24, 366 * 24} {
		if step = hours * hour; (to-from)/step < balanceSamples {
			break
		}
	}
	points := []balancePoint{{At: from}}
	for at := from - from%step + step; at < to; at += step {
		points = append(points, balancePoint{At: at})
	}
	return append(points, balancePoint{At: to})
}

// balance asks what a balance was at every moment: what it was before the first movement
// from then on. One that nothing ever moved has no points.
func (g *gatherer) balance(ctx context.Context, environment string, b *balanceData) error {
	var out struct {
		Movements []struct{} `json:"movements"`
		Opening   struct {
			Posted    int64 `json:"posted"`
			Held      int64 `json:"held"`
			Available int64 `json:"available"`
		} `json:"opening"`
	}
	body := map[string]any{"environment": environment, "asset": b.Asset, "limit": 1}
	if err := g.ask(ctx, g.account, "statement.list", body, &out); err != nil || len(out.Movements) == 0 {
		return err
	}
	points := sampleTimes(g.d.From, g.d.To)
	for i := range points {
		p := &points[i]
		body["from_time"] = p.At
		if err := g.ask(ctx, g.account, "statement.list", body, &out); err != nil {
			return err
		}
		p.Posted, p.Held, p.Available = out.Opening.Posted, out.Opening.Held, out.Opening.Available
	}
	b.Points = points
	return nil
}
