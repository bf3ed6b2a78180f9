package main

import "testing"

// TestRebuild makes everything again from a small log.
func TestRebuild(t *testing.T) {
	dir := t.TempDir()
	program, err := buildKeyledger(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &rebuildConfig{program: program, events: 5000, accounts: 100, rounds: 1, cores: 1}
	r := new(rebuildReport)
	if err := cfg.run(t.Context(), dir+"/ledger", r); err != nil {
		t.Fatal(err)
	}
	if r.Events != 5000 || r.Commits == 0 || r.LogBytes == 0 || len(r.Rows) != 3 {
		t.Fatalf("%+v", r)
	}
	for _, row := range r.Rows {
		if row.EventsPerSecond <= 0 || row.Cores != 1 || (row.StreamBytes > 0) != (row.Of == "feed") {
			t.Errorf("%+v", row)
		}
	}
	cfg.events++
	if err := cfg.measure(t.Context(), dir+"/ledger", "views", r); err == nil {
		t.Error("views that lack an event were measured")
	}
}

func TestParseRebuild(t *testing.T) {
	c, err := parseRebuild([]string{"-events", "30", "-accounts", "10", "-cores", "1", "-rounds", "100"})
	if err != nil || c.events != 30 || c.accounts != 10 || c.cores != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range [][]string{
		{"-accounts", "0"}, {"-events", "29", "-accounts", "10"}, {"-events", "100000001"}, {"-rounds", "0"}, {"-rounds", "101"},
		{"-cores", "0"}, {"-cores", "10000"}, {"more"},
	} {
		if c, err := parseRebuild(bad); err == nil {
			t.Errorf("%q was taken: %+v", bad, c)
		}
	}
}
