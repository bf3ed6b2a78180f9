package webhooks

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestStatsOfWork: readings, checkpoints and slots are counted, and each attempt is told.
func TestStatsOfWork(t *testing.T) {
	r := newRig(t)
	var mu sync.Mutex
	var seen []string
	var late time.Duration
	to := newReceiver(t, func(_ http.ResponseWriter, _ *received, tries int) int {
		return []int{http.StatusInternalServerError, http.StatusOK}[min(tries-1, 1)]
	})
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	c := r.commit(debits(laneQueueMax + laneOpenMax)...) // more than a lane has in memory
	r.clock.advance(time.Minute)
	d := r.start(r.onClock(), func(c *Config) {
		c.Observe = func(a *Attempt, sinceCommit time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			seen, late = append(seen, a.Outcome), max(late, sinceCommit)
		}
	})
	d.wait(c.Sequence)
	d.see("the first tries", func() bool { return d.failed == laneOpenMax })
	for range 2 {
		r.clock.advance(DefaultDelays()[1])
		d.see("no try is due", func() bool { return d.delivered >= laneOpenMax })
		d.see("the rest", func() bool { return len(d.lanes["endpoint_1"].queue) == 0 })
	}
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	s := d.Stats()
	if s.Refills.Feed == 0 || s.Refills.Log != 0 {
		t.Errorf("readings %+v", s.Refills)
	}
	if s.Checkpoint.Written == 0 || s.Checkpoint.Bytes == 0 || s.Checkpoint.AgeMS != 0 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
	mu.Lock()
	defer mu.Unlock()
	if uint64(len(seen)) != s.Delivered+s.Failed || late < time.Minute || late > time.Hour {
		t.Errorf("%d attempts were told of %d, the latest %s after its commit", len(seen), s.Delivered+s.Failed, late)
	}
}

// TestCountsOfCheckpoints: the age is that of the last while it lacks something.
func TestCountsOfCheckpoints(t *testing.T) {
	var c counts
	at := time.UnixMilli(1_000_000)
	if got := c.checkpoint(at, true); got != (CheckpointStats{}) {
		t.Errorf("before the first: %+v", got)
	}
	c.saved(70, at, 3*time.Millisecond)
	if got, want := c.checkpoint(at.Add(900*time.Millisecond), true), (CheckpointStats{Written: 1, Bytes: 70, DurationMS: 3, AgeMS: 900}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := c.checkpoint(at.Add(time.Hour), false); got.AgeMS != 0 {
		t.Errorf("nothing changed since: %+v", got)
	}
	c.refilled(nil, errors.New("no answer"))
	c.refilled(&found{}, nil)
	c.refilled(&found{feed: true}, nil)
	if got := c.refills(); got != (Refills{Feed: 1, Log: 1, Failed: 1}) {
		t.Errorf("%+v", got)
	}
}
