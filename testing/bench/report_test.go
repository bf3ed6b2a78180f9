package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{5, 100, 1, 2, 4}, 4},
	} {
		if got := median(test.values); got != test.want {
			t.Errorf("the median of %v is %v, want %v", test.values, got, test.want)
		}
	}
}

func TestParseFlags(t *testing.T) {
	c, err := parseFlags([]string{"-in-flight", "64, 256", "-rounds", "3", "-duration", "2s", "-json"})
	if err != nil || len(c.inFlight) != 2 || c.inFlight[1] != 256 || c.rounds != 3 || c.measure != 2*time.Second || !c.json || c.conns != 4 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{
		"-in-flight=x", "-in-flight=3", "-in-flight=", "-in-flight=1000000", "-rounds=0", "-duration=1h", "-duration=0s", "-warm-up=-1s",
		"-accounts=0", "-connections=0", "more",
	} {
		if c, err := parseFlags([]string{bad}); err == nil {
			t.Errorf("%s was taken: %+v", bad, c)
		}
	}
}

// TestReport: the figures are the medians, and both forms hold them.
func TestReport(t *testing.T) {
	r := newReport(&config{accounts: 7, conns: 2, rounds: 3, measure: 2 * time.Second})
	l := r.level(64)
	for i, n := range []int64{100, 900, 200} {
		for _, s := range []*series{&l.Echo, &l.Debit} {
			o := newOutcome(0)
			o.replies = n
			if s == &l.Echo {
				o.replies *= 4
			}
			for range n {
				if err := o.latency.RecordValue(int64(i+1) * int64(time.Millisecond)); err != nil {
					t.Fatal(err)
				}
			}
			s.add(o, 2*time.Second)
		}
	}
	l.Debits, l.Reconciled = 1200, true
	r.level(256).Echo = l.Echo // was broken off before its first debits
	var text, encoded bytes.Buffer
	if err := r.print(&text, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"400|", "100|", "50–450|", "0.25|", "2.00 ms|", "1200 debits agree|", "fsync always"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}
	if err := r.print(&encoded, true); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(encoded.Bytes(), &back); err != nil || len(back.Levels) != 1 || back.Levels[0].Debit.Rate != 100 || back.Levels[0].Ratio != 0.25 {
		t.Errorf("%v: %s", err, encoded.String())
	}
}
