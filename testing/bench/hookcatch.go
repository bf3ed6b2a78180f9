package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
	"github.com/keyledger/keyledger/events/store"
)

const (
	catchUpAim = 4000 // deliveries a second
	// catchUpMost is how long a catch-up may take.
	catchUpMost = 10 * time.Minute
)

// catchUp is what "bench hooks -only catchup" measured.
type catchUp struct {
	Owed       int       `json:"owed"`
	Others     int       `json:"events_of_others"`
	Rate       float64   `json:"events_per_second_of_other_endpoints"`
	Deliveries float64   `json:"deliveries_per_second"`
	Rates      []float64 `json:"delivery_rates"`
	Quiet      float64   `json:"others_p99_us"` // from when they were due
	Meanwhile  float64   `json:"others_p99_meanwhile_us"`
	TailRatio  float64   `json:"p99_ratio"`
	FillSecond float64   `json:"fill_seconds"`
	FeedSecond float64   `json:"feed_seconds"`        // until it had followed
	FeedFirst  uint64    `json:"feed_first_sequence"` // more than 1: what is before is read from the log

	quiet, meanwhile []float64
}

// catchUp measures endpoints that are resumed, one a round, each owed the same events of
// an account among many of others, beside endpoints that go on getting theirs.
func (c *hooksConfig) catchUp(ctx context.Context, dir string, r *hooksReport) error {
	if c.rounds > maxFan {
		return fmt.Errorf("an account has at most %d endpoints, one for each round", maxFan)
	}
	o := &catchUp{Owed: c.owed, Others: c.others, Rate: c.rate}
	err := inRound(dir, func(dir string) (err error) {
		recovering, err := startReceivers(ctx, dir, c.rounds)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, recovering.stop()) }()
		begin := time.Now()
		paused, err := c.makeOwed(ctx, dir, recovering.urls)
		if err != nil {
			return err
		}
		o.FillSecond = time.Since(begin).Seconds()
		h, err := c.startHooked(ctx, dir, healthyEndpoints, 1)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.stop()) }()
		if err := h.registerAll(ctx, "healthy"); err != nil {
			return err
		}
		if err := o.awaitFeed(ctx, h); err != nil {
			return err
		}
		for _, endpoint := range paused {
			if err := c.catchUpOnce(ctx, h, recovering, endpoint, o); err != nil {
				return err
			}
		}
		return nil
	})
	o.Deliveries, o.Quiet, o.Meanwhile = load.Median(o.Rates), load.Median(o.quiet), load.Median(o.meanwhile)
	o.TailRatio = ratio(o.Meanwhile, o.Quiet)
	r.CatchUp = o
	return err
}

// awaitFeed waits until the feed has followed the log, which is not what is measured.
func (o *catchUp) awaitFeed(ctx context.Context, h *hooked) error {
	begin := time.Now()
	if err := h.ledger.within(ctx, feedTime, func() error { return behind(h.asking(), "feed") }); err != nil {
		return err
	}
	o.FeedSecond = time.Since(begin).Seconds()
	js, err := jetstream.New(h.asking())
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, store.StreamFeed(0))
	if err != nil {
		return fmt.Errorf("look at the feed: %w", err)
	}
	o.FeedFirst = stream.CachedInfo().State.FirstSeq
	return nil
}

// owedAccount is the account of the endpoints that recover.
const owedAccount = "bench-00000"

// makeOwed makes a log in which endpoints are paused and then owed events, evenly among
// those of others.
func (c *hooksConfig) makeOwed(ctx context.Context, dir string, urls []string) (paused []string, err error) {
	log := dir + "/ledger"
	accounts := c.others/c.owed + 1
	if err := makeAccounts(ctx, c.program, log, accounts); err != nil {
		return nil, err
	}
	p, err := startKeyledger(ctx, nil, c.program, log, webhookFlags...)
	if err != nil {
		return nil, err
	}
	conns, err := p.connect(1)
	if err == nil {
		for _, url := range urls {
			id := ""
			if id, err = register(ctx, conns[0], owedAccount, url); err != nil {
				break
			}
			paused = append(paused, id)
			if err = command(ctx, conns[0], owedAccount, "endpoint.pause", fmt.Appendf(nil, `{"endpoint":"%s"}`, id)); err != nil {
				break
			}
		}
		closeAll(conns)
	}
	if err := errors.Join(err, p.stop()); err != nil {
		return nil, err
	}
	_, err = runSelf(ctx, log, "fill", "-accounts", strconv.Itoa(accounts), "-debits", strconv.Itoa(c.owed+c.others))
	return paused, err
}

// catchUpOnce measures the other endpoints, then resumes one and measures both.
func (c *hooksConfig) catchUpOnce(ctx context.Context, h *hooked, recovering *hookSink, endpoint string, o *catchUp) error {
	quiet, err := c.paced(ctx, h, c.rate, 0, 0)
	if err != nil {
		return err
	}
	o.quiet = append(o.quiet, quiet.dueP99)
	before, err := recovering.all(ctx)
	if err != nil {
		return err
	}
	w, err := h.sink.watch(ctx, 0, catchUpMost, watched{Time: true})
	if err != nil {
		return err
	}
	var done atomic.Bool
	paced := make(chan error, 1)
	go func() {
		_, err := h.pace(ctx, c.rate, w.From, func(int64) bool { return !done.Load() })
		paced <- err
	}()
	begin := time.Now()
	if err := command(ctx, h.asking(), owedAccount, "endpoint.resume", fmt.Appendf(nil, `{"endpoint":"%s"}`, endpoint)); err != nil {
		done.Store(true)
		return errors.Join(err, <-paced)
	}
	profiled := make(chan error, 1)
	go func() { profiled <- c.saveProfile(ctx, h.ledger, c.measure) }()
	err = h.ledger.within(ctx, catchUpMost, func() error {
		now, err := recovering.all(ctx)
		if err == nil && now-before < int64(c.owed) {
			err = fmt.Errorf("%d of %d have come", now-before, c.owed)
		}
		return err
	})
	took := time.Since(begin)
	done.Store(true)
	if err := errors.Join(err, <-paced, <-profiled); err != nil {
		return err
	}
	got, err := h.sink.took(ctx)
	if err != nil {
		return err
	}
	_, p99 := quantiles(importLatencies(got.FromDue))
	o.Rates = append(o.Rates, float64(c.owed)/took.Seconds())
	o.meanwhile = append(o.meanwhile, p99)
	return nil
}

func (o *catchUp) print(w io.Writer) error {
	table := newTable(w, "what", "figure", "aim")
	table.row(fmt.Sprintf("deliveries of %d owed among %d of others", o.Owed, o.Others), fmt.Sprintf("%s/s (%s)", perSecond(o.Deliveries), span(o.Rates)), fmt.Sprintf("≥ %d/s", catchUpAim))
	table.row(fmt.Sprintf("p99 of 100 other endpoints, %s events/s", perSecond(o.Rate)), milliseconds(o.Quiet), "")
	table.row("the same meanwhile", milliseconds(o.Meanwhile), "")
	table.row("p99 to that without", twoDigits(o.TailRatio), fmt.Sprintf("≤ %.1f", hookFactor))
	return errors.Join(table.flush(), note(w, fmt.Sprintf("the log was filled in %.1f s, the feed followed in %.1f s and begins with event %d",
		o.FillSecond, o.FeedSecond, o.FeedFirst)))
}
