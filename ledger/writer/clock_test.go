package writer

import (
	"context"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// commits returns all commits of a log, checked.
func commits(t *testing.T, log store.Log) (list []*store.Commit) {
	t.Helper()
	last, err := log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	chain := store.Chain{}
	if err := store.ReadChecked(t.Context(), log, &chain, last, func(c *store.Commit) error {
		list = append(list, c)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestClockJumps: while the wall clock is off, forward or back, nothing is decided and no
// commit bears its time; reads go on, and when it is right again so do commands.
func TestClockJumps(t *testing.T) {
	for _, off := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour, clockTolerance + time.Millisecond, -clockTolerance - time.Millisecond} {
		log, c := new(store.Memory), newClock()
		f := run(t, log, c)
		f.funded("acme", 100)
		c.advance(time.Minute)
		c.jump(off)
		if r := f.do("acme", "credit.debit", debit(1), ulid.ULID{}); r.Err == nil || r.Err.Code != events.Unavailable || r.Err.Details["clock_off_ms"] != off.Milliseconds() {
			t.Errorf("clock off by %s: %+v, want unavailable", off, r.Err)
		}
		if got := f.w.Stats().ClockOffMS; got != off.Milliseconds() {
			t.Errorf("status says %d ms, want %s", got, off)
		}
		if r := <-f.send(&Request{}); r.Err != nil {
			t.Errorf("clock off by %s: a barrier got %v", off, r.Err)
		}
		c.advance(time.Minute)
		c.jump(0)
		f.must("acme", "credit.debit", debit(1))
		if got := f.w.Stats().ClockOffMS; got != 0 {
			t.Errorf("status still says %d ms", got)
		}
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		for _, commit := range commits(t, log) {
			if at := commit.Time.Std(); at.Before(start) || at.After(start.Add(2*time.Minute)) {
				t.Errorf("clock off by %s: commit %d is of %s", off, commit.Sequence, at)
			}
		}
	}
}

// TestClockTolerance: a step of 5 s is taken; a backward one lets time stand still.
func TestClockTolerance(t *testing.T) {
	for _, off := range []time.Duration{clockTolerance, -clockTolerance} {
		log, c := new(store.Memory), newClock()
		f := run(t, log, c)
		f.funded("acme", 100)
		c.jump(off)
		f.must("acme", "credit.debit", debit(1))
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		list := commits(t, log)
		if got, want := list[len(list)-1].Time, max(events.At(start), events.At(start.Add(off))); got != want {
			t.Errorf("after a step of %s the commit is of %s, want %s", off, got, want)
		}
	}
}

// TestClockDrift: what a clock gains slowly is no jump, however much it comes to.
func TestClockDrift(t *testing.T) {
	c := newClock()
	f := run(t, new(store.Memory), c)
	f.funded("acme", 100)
	for i := range 30 {
		c.advance(time.Minute)
		c.jump(time.Duration(i+1) * time.Second)
		f.must("acme", "credit.debit", debit(1))
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// TestClockAccepted: an operator's word ends the refusals. After one that went back time
// stands still until it has passed the last commit.
func TestClockAccepted(t *testing.T) {
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		log, c := new(store.Memory), newClock()
		f := run(t, log, c)
		f.funded("acme", 100)
		c.jump(off)
		if r := f.do("acme", "credit.debit", debit(1), ulid.ULID{}); r.Err == nil {
			t.Fatal("decided with a wrong clock")
		}
		if r := <-f.send(&Request{AcceptClock: true}); r.Err != nil {
			t.Fatal(r.Err)
		}
		f.must("acme", "credit.debit", debit(1))
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		list := commits(t, log)
		if got, want := list[len(list)-1].Time, max(events.At(start), events.At(start.Add(off))); got != want {
			t.Errorf("accepted %s: the commit is of %s, want %s", off, got, want)
		}
	}
}

// TestClockAtStart: a start whose clock is before the last commit takes the partition
// over and decides nothing until the clock has come so far; a later one is taken.
func TestClockAtStart(t *testing.T) {
	log, c := new(store.Memory), newClock()
	f := run(t, log, c)
	f.funded("acme", 100)
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	c.advance(-time.Minute)
	f = run(t, log, c)
	if r := f.do("acme", "credit.debit", debit(1), ulid.ULID{}); r.Err == nil || r.Err.Code != events.Unavailable {
		t.Errorf("a clock a minute before the last commit: %+v, want unavailable", r.Err)
	}
	c.advance(time.Minute)
	f.must("acme", "credit.debit", debit(1))
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	c.jump(-time.Hour) // another boot: the monotonic clock says nothing
	c.advance(25 * time.Hour)
	f = run(t, log, c)
	f.must("acme", "credit.debit", debit(1))
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// TestTakeoverWithWrongClock: the "epoch started" of a takeover does not bear the wrong
// time either.
func TestTakeoverWithWrongClock(t *testing.T) {
	log, c := new(store.Memory), newClock()
	lose := make(chan struct{}, 1)
	log.Fault = func([]byte, uint64) store.Fault {
		select {
		case <-lose:
			return store.Fault{Lose: true, Err: context.DeadlineExceeded, Before: func() { c.jump(24 * time.Hour) }}
		default:
			return store.Fault{}
		}
	}
	f := run(t, log, c)
	f.funded("acme", 100)
	lose <- struct{}{}
	if r := f.do("acme", "credit.debit", debit(1), ulid.ULID{}); r.Err == nil || r.Err.Code != events.Unavailable {
		t.Errorf("decided again with a wrong clock: %+v", r.Err)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	list := commits(t, log)
	if last := list[len(list)-1]; len(last.Entries) != 0 || last.Time.Std().After(start) {
		t.Errorf("the last commit has %d entries and is of %s, want an epoch started at %s", len(last.Entries), last.Time, start)
	}
}
