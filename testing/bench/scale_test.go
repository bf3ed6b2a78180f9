package main

import (
	"context"
	"testing"
	"time"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

// TestScale goes through all steps with few accounts: the log holds them, the starts read
// the tails, and a balance that is wrong is found.
func TestScale(t *testing.T) {
	dir := t.TempDir()
	program, err := buildKeyledger(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &scaleConfig{program: program, accounts: 2000, tail: 2100, rounds: 1, measure: 50 * time.Millisecond, inFlight: 8, snapshots: "--http off"}
	s := &scale{cfg: cfg, dir: dir + "/ledger", report: new(scaleReport), books: load.KnownBooks(load.AccountNames("bench", cfg.accounts), scaleCredits)}
	for _, step := range []func(context.Context) error{s.fill, s.replay, s.firstStart, s.meanwhile, s.starts, s.reconcile} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r := s.report
	if r.Replay.Events != 6000 || r.Replay.Accounts != 2000 || r.HeapPerAccount <= 0 || r.EventsPerSecond <= 0 || r.NamesPerAccount < 80 {
		t.Errorf("replay: %+v", r)
	}
	if r.FirstStart <= 0 || r.Open <= 0 || r.Start <= 0 || r.StartWriter <= 0 || r.StartWriter > r.Start || len(r.Quiet.Rates) != 1 || r.TailRatio <= 0 || !r.Reconciled || r.Agree < 2100 {
		t.Errorf("%+v", r)
	}
	if err := s.reconcile(t.Context()); err == nil {
		t.Error("debits that were counted twice were not found")
	}
}

func TestParseScale(t *testing.T) {
	c, err := parseScale([]string{"-accounts", "5", "-snapshot-flags", "--a 1s", "-tail", "7"})
	if err != nil || c.accounts != 5 || c.snapshots != "--a 1s" || c.tail != 7 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"-accounts=0", "-tail=0", "-rounds=0", "-duration=0s", "-in-flight=1", "more"} {
		if c, err := parseScale([]string{bad}); err == nil {
			t.Errorf("%s was taken: %+v", bad, c)
		}
	}
}
