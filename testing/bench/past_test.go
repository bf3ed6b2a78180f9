package main

import "testing"

// TestPast goes through all of it with a short log.
func TestPast(t *testing.T) {
	dir := t.TempDir()
	program, err := buildKeyledger(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &pastConfig{program: program, events: 1000, accounts: 20, hot: 2, hotEvents: 50, questions: 5, hotAsked: 2}
	r := &pastReport{}
	if err := c.run(t.Context(), dir+"/ledger", r); err != nil {
		t.Fatal(err)
	}
	if r.Events != 1000 || r.Archived <= 0 || len(r.Rows) != 7 {
		t.Errorf("%+v", r)
	}
	for _, row := range r.Rows {
		if row.Count == 0 || row.P99Micros <= 0 {
			t.Errorf("%+v", row)
		}
	}
}

func TestParsePast(t *testing.T) {
	if c, err := parsePast(nil); err != nil || c.events != 1_000_000 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"-accounts=1", "-busy=0", "-busy-events=0", "-events=19", "-questions=0", "-busy-questions=0", "more"} {
		if c, err := parsePast([]string{bad}); err == nil {
			t.Errorf("%s was taken: %+v", bad, c)
		}
	}
}
