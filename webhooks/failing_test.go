package webhooks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// told notes who was told what.
type told struct {
	t       *testing.T
	calls   chan string
	answers chan error // nil where there is none
}

func (c *told) config(cfg *Config) {
	answer := func() error {
		select {
		case err := <-c.answers:
			return err
		default:
			return nil
		}
	}
	cfg.Failing = func(_ context.Context, account, endpoint string, since events.Time, percent int) error {
		c.calls <- fmt.Sprintf("%s %s %s %d", account, endpoint, since, percent)
		return answer()
	}
	cfg.Disable = func(_ context.Context, account, endpoint, reason string) error {
		c.calls <- account + " " + endpoint + " " + reason
		return answer()
	}
}

// want waits for a call.
func (c *told) want(want string) {
	c.t.Helper()
	select {
	case got := <-c.calls:
		if got != want {
			c.t.Fatalf("told %q, want %q", got, want)
		}
	case <-time.After(patience):
		c.t.Fatalf("never told %q", want)
	}
}

// An endpoint to which every attempt fails is told of at 50, 70 and 90 percent of five days,
// and then disabled, each once, over restarts and crashes.
func TestFailing(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, status(http.StatusInternalServerError))
	r.commit(opened("acme"))
	e := r.add("endpoint_1", to)
	c := &told{t: t, calls: make(chan string, 100), answers: make(chan error, 1)}
	d := r.start(r.onClock(), c.config)
	r.commit(debits(1)...)
	since := events.At(r.clock.now())
	d.waiting("endpoint_1", 1)
	notice := func(percent int) string { return fmt.Sprintf("acme endpoint_1 %s %d", since, percent) }
	pass := func(wait time.Duration) { // and there is something to try, and it fails
		t.Helper()
		r.commit(debits(1)...)
		n := len(to.list())
		r.clock.advance(wait)
		to.requests(n + 1)
		d.see("at rest", func() bool { l := d.lanes["endpoint_1"]; return l.firsts+l.agains == 0 && !l.due(r.clock.now()) })
	}
	pass(60*time.Hour - time.Millisecond)
	if len(c.calls) > 0 {
		t.Fatalf("told %s", <-c.calls)
	}
	c.answers <- errors.New("the writer is busy")
	pass(time.Millisecond)
	c.want(notice(50))
	d.see("to be told again", func() bool { l := d.lanes["endpoint_1"]; return !l.failing.again.IsZero() && !l.failing.telling })
	r.clock.advance(tellPause)
	c.want(notice(50))
	d.see("told", func() bool { return d.lanes["endpoint_1"].failing.told == 50 })
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	d = r.start(r.onClock(), c.config, often)
	pass(24*time.Hour - tellPause)
	c.want(notice(70))
	noted := *e // as the ledger notes it
	noted.FailingSince, noted.FailingPercent = since, 70
	r.commit(events.Event{Type: "endpoint.failing", Account: "acme", Environment: e.Environment, Subject: e.ID, Data: &noted})
	d.wait(r.chain.Sequence)
	d.crash()
	d = r.start(r.onClock(), c.config)
	if s := d.Stats(); s.Failing != 1 {
		t.Errorf("stats %+v", s)
	}
	pass(24 * time.Hour)
	c.want(notice(90))
	d.see("told", func() bool { return d.lanes["endpoint_1"].failing.told == 90 })
	r.clock.advance(12 * time.Hour)
	c.want("acme endpoint_1 every attempt failed for 5 days")
	d.see("stopped", func() bool { return d.lanes["endpoint_1"].gone })
	r.commit(about(e, events.Disabled))
	d.wait(r.chain.Sequence)
	r.clock.advance(time.Hour)
	if err := d.end(); err != nil || len(c.calls) > 0 {
		t.Errorf("%d more calls, %v", len(c.calls), err)
	}
}

// failsAt is a lane with something to try of which an attempt has failed.
func failsAt(e *events.Endpoint, now time.Time) *lane {
	l := newLane(&subscriber{endpoint: e})
	l.queue = make([]place, 1)
	l.ended(&flight{endpoint: e}, StatePending, now)
	return l
}

// What ends the time in which every attempt fails.
func TestFailingEnds(t *testing.T) {
	now := time.UnixMilli(1_790_000_000_000)
	e := &events.Endpoint{ID: "endpoint_1", URL: "https://example.com", Status: events.Active}
	after := func(change func(*events.Endpoint)) *events.Endpoint {
		other := *e
		change(&other)
		return &other
	}
	for name, tt := range map[string]struct {
		to   *events.Endpoint
		ends bool
	}{
		"described": {after(func(e *events.Endpoint) { e.Description = "x" }), false},
		"moved":     {after(func(e *events.Endpoint) { e.URL += "/x" }), true},
		"query":     {after(func(e *events.Endpoint) { e.SealedQuery = []byte{1} }), true},
		"paused":    {after(func(e *events.Endpoint) { e.Status = events.Paused }), true},
		"disabled":  {after(func(e *events.Endpoint) { e.Status = events.Disabled }), true},
		"told":      {after(func(e *events.Endpoint) { e.FailingSince, e.FailingPercent = events.At(now), 70 }), false},
	} {
		for _, news := range []bool{true, false} {
			l := failsAt(e, now)
			l.endpoint = tt.to
			if l.heard(news); (l.failing == nil) != (tt.ends && news) {
				t.Errorf("%s, news %t: ends %t", name, news, l.failing == nil)
			}
			if l.failing != nil && l.failing.told != int(tt.to.FailingPercent) {
				t.Errorf("%s: told %d", name, l.failing.told)
			}
		}
	}
	l := failsAt(e, now)
	l.ended(&flight{endpoint: e}, StateDelivered, now)
	if l.failing != nil {
		t.Error("a delivery does not end it")
	}
	l.ended(&flight{endpoint: after(func(*events.Endpoint) {})}, StatePending, now)
	if l.failing != nil {
		t.Error("an answer from before the endpoint changed begins it")
	}
}

// What of the time in which every attempt fails does not count.
func TestFailingTime(t *testing.T) {
	now := time.UnixMilli(1_790_000_000_000)
	e := &events.Endpoint{ID: "endpoint_1", URL: "https://example.com", Status: events.Active}
	l := failsAt(e, now)
	tellAt := func() time.Duration {
		at := l.tellAt(100 * time.Hour)
		if at.IsZero() {
			return -1
		}
		return at.Sub(now)
	}
	l.count(now)
	if at := tellAt(); at != 50*time.Hour {
		t.Errorf("told at %s", at)
	}
	l.queue = nil
	l.count(now.Add(10 * time.Hour))
	if at := tellAt(); at != -1 {
		t.Errorf("with nothing to try told at %s", at)
	}
	l.failing = l.failing.state().failing(e, 0) // over a restart
	l.queue = make([]place, 1)
	l.count(now.Add(40 * time.Hour))
	if at := tellAt(); at != 80*time.Hour {
		t.Errorf("after 30 hours with nothing to try told at %s", at)
	}
	if l.failing.told = 90; tellAt() != -1 {
		t.Error("disabled for what was before the start")
	}
	if l.failing.seen = true; tellAt() != 130*time.Hour {
		t.Errorf("disabled at %s", tellAt())
	}
	if l.failing.told = 100; tellAt() != -1 {
		t.Error("told after the last mark")
	}
}
