package main

import (
	"testing"
	"time"
)

// TestLive goes through all of it with little load: debits are paced, seen in view and
// feed, and the endpoints get theirs.
func TestLive(t *testing.T) {
	dir := t.TempDir()
	program, err := buildKeyledger(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	c := liveConfig{endpoints: 2, half: 200 * time.Millisecond}
	c.program, c.rounds, c.measure, c.accounts, c.conns, c.inFlight = program, 1, 100*time.Millisecond, 4, 2, []int{4}
	r := &liveReport{}
	if err := c.run(t.Context(), dir, r); err != nil {
		t.Fatal(err)
	}
	if r.Echo.Rate <= 0 || r.Debits.Rate <= 0 || r.ToEcho <= 0 || r.Half.Rate <= 0 || r.Half.Rate > r.Debits.Rate || r.Agree == 0 {
		t.Errorf("%+v", r)
	}
	for _, v := range []visible{r.Full, r.HalfSeen} {
		if v.Probes == 0 || v.ViewP99 <= 0 || v.FeedP99 <= 0 {
			t.Errorf("%+v", v)
		}
	}
}
