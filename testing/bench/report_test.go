package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

func TestParseFlags(t *testing.T) {
	c, err := parseFlags([]string{"-in-flight", "64, 256", "-rounds", "3", "-duration", "2s", "-json", "-workloads", "debit, hot", "-fsync-delay", "1ms"})
	if err != nil || len(c.inFlight) != 2 || c.inFlight[1] != 256 || c.rounds != 3 || c.measure != 2*time.Second || !c.json || c.conns != 4 ||
		len(c.workloads) != 2 || c.workloads[1] != "hot" || c.fsyncDelay != time.Millisecond {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{
		"-in-flight=x", "-in-flight=3", "-in-flight=", "-in-flight=1000000", "-rounds=0", "-duration=1h", "-duration=0s", "-warm-up=-1s",
		"-accounts=0", "-connections=0", "-workloads=", "-workloads=echo", "-fsync-delay=1h", "more",
	} {
		if c, err := parseFlags([]string{bad}); err == nil {
			t.Errorf("%s was taken: %+v", bad, c)
		}
	}
}

// seriesOf is a series of three runs of two seconds, each with its answers at 1, 2 and 3
// milliseconds.
func seriesOf(t *testing.T, replies ...int64) load.Series {
	t.Helper()
	var s load.Series
	for i, n := range replies {
		o := load.NewOutcome(0)
		for range n {
			o.Measured(1, time.Duration(i+1)*time.Millisecond)
		}
		s.Add(o, 2*time.Second)
	}
	return s
}

// TestReport: the figures are the medians, the ratios those of the medians, and both
// forms hold them.
func TestReport(t *testing.T) {
	cfg := &config{accounts: 7, conns: 2, rounds: 3, measure: 2 * time.Second, fsyncDelay: time.Millisecond, workloads: []string{"debit", "noloop", "batch", "zipf", "hot"}}
	r := newReport(cfg)
	l := r.level(64, cfg)
	l.Echo = seriesOf(t, 400, 3600, 800)
	for i, rate := range []int64{200, 400, 800, 100, 150} {
		l.Rows[i].Series = seriesOf(t, rate/2, rate*3, rate)
	}
	l.Agree, l.Reconciled = 1200, true
	r.level(256, cfg).Echo = l.Echo // was broken off before its first debits
	var text, encoded bytes.Buffer
	if err := r.print(&text, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"400|", "100|", "50–300|", "0.25|", "2.00 ms|", "fsync always", "1ms added", "debits are 0.50 of the loop", "4.00 times single debits",
		"p99 is 1.0 times", "within 2.00 of each other", "1200 commands agree",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}
	if err := r.print(&encoded, true); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(encoded.Bytes(), &back); err != nil || len(back.Levels) != 1 || back.Levels[0].Rows[0].Rate != 100 || back.Levels[0].Rows[0].ToEcho != 0.25 {
		t.Errorf("%v: %s", err, encoded.String())
	}
}
