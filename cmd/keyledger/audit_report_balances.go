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

// balances asks how every balance of the account went.
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

// sampleTimes is moments from one time to another, both included, and how far apart the
// others are: an even number of minutes or hours.
func sampleTimes(from, to events.Time) (points []balancePoint, step events.Time) {
	const minute = 60_000
	const hour, day = 60 * minute, 24 * 60 * minute
	for _, step = range []events.Time{minute, 5 * minute, 15 * minute, hour, 2 * hour, 6 * hour, 12 * hour, day, 2 * day, 7 * day, 28 * day, 91 * day, 366 * day} {
		if (to-from)/step < balanceSamples {
			break
		}
	}
	points = []balancePoint{{At: from}}
	for at := from - from%step + step; at < to; at += step {
		points = append(points, balancePoint{At: at})
	}
	return append(points, balancePoint{At: to}), step
}

// balance asks how a balance went: after every movement where one page holds them all,
// else at even moments.
func (g *gatherer) balance(ctx context.Context, environment string, b *balanceData) error {
	var out statement
	body := map[string]any{"environment": environment, "asset": b.Asset, "from_time": g.d.From, "to_time": g.d.To, "limit": g.movementsMax}
	if err := g.ask(ctx, g.account, "statement.list", body, &out); err != nil {
		return err
	}
	if out.NextCursor == nil || *out.NextCursor == "" {
		b.Points = []balancePoint{{g.d.From, out.Opening}}
		for _, m := range out.Movements {
			b.Points = append(b.Points, balancePoint{m.Time, m.balanceParts})
		}
		b.Points = append(b.Points, balancePoint{g.d.To, out.Closing})
		return nil
	}
	b.Points, b.Every = sampleTimes(g.d.From, g.d.To)
	for i := range b.Points {
		p := &b.Points[i]
		out = statement{}
		body := map[string]any{"environment": environment, "asset": b.Asset, "from_time": p.At, "limit": 1}
		if err := g.ask(ctx, g.account, "statement.list", body, &out); err != nil {
			return err
		}
		p.balanceParts = out.Opening // what it was before the first movement from then on
	}
	return nil
}
