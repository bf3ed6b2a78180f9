package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// smallHooks goes through all parts in a few seconds.
func smallHooks(t *testing.T) (*hooksConfig, string) {
	t.Helper()
	dir := t.TempDir()
	program, err := buildKeyledger(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return &hooksConfig{
		program: program, rounds: 1, measure: 200 * time.Millisecond, warmUp: 100 * time.Millisecond, fan: 10, rate: 200,
		many: 10, hang: []int{0, 50}, backlog: []int{100, 300}, quiet: 200 * time.Millisecond, idle: 100 * time.Millisecond,
		registered: 120, owed: 100, others: 300,
	}, dir
}

// TestHooksRates: deliveries and the bare client are counted, latencies are measured, and
// the endpoints that hang get nothing while the others do.
func TestHooksRates(t *testing.T) {
	c, dir := smallHooks(t)
	r := &hooksReport{}
	c.profile = filepath.Join(dir, "profile")
	plain, err := buildProfiled(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	c.program, plain = plain, c.program
	if err := c.throughput(t.Context(), dir, r); err != nil {
		t.Fatal(err)
	}
	if o := r.Throughput; o.Bare <= 0 || o.Deliveries <= 0 || o.ToBare <= 0 || o.Recorded+o.Lost < uint64(o.Deliveries*c.measure.Seconds()) ||
		o.BodyBytes < 900 || o.BodyBytes > 1200 {
		t.Errorf("%+v", o)
	}
	if info, err := os.Stat(c.profile); err != nil || info.Size() == 0 {
		t.Errorf("no profile: %v", err)
	}
	c.profile, c.program = "", plain
	if err := c.latency(t.Context(), dir, r); err != nil {
		t.Fatal(err)
	}
	if o := r.Latency; o.Timed < 39 || o.CommitP50 <= 0 || o.CommitP99 < o.CommitP50 || o.DueP50 <= 0 || o.AnswerP50 <= 0 {
		t.Errorf("%+v", o)
	}
	if err := c.isolation(t.Context(), dir, r); err != nil {
		t.Fatal(err)
	}
	o := r.Isolation
	if len(o.Levels) != 2 || o.Watched != 5 || o.Levels[0].Hanging != 0 || o.Levels[1].Hanging != 5 {
		t.Fatalf("%+v", o)
	}
	for _, l := range o.Levels {
		if l.Rate <= 0 || l.Rate > c.rate || l.P99Micros <= 0 || l.TailRatio <= 0 {
			t.Errorf("%+v", l)
		}
	}
}

// TestHooksIdle: a backlog is pending and owed to endpoints that were tried, endpoints are
// counted, and an endpoint that recovers gets all it was owed.
func TestHooksIdle(t *testing.T) {
	c, dir := smallHooks(t)
	r := &hooksReport{}
	for _, part := range hookParts[3:] {
		if err := part.run(c, t.Context(), dir, r); err != nil {
			t.Fatalf("%s: %v", part.name, err)
		}
	}
	for i, l := range r.Backlog.Levels {
		if l.Owed != c.backlog[i] || l.Pending != uint64(l.Owed) || l.Lanes != deadEndpoints || l.Attempts < uint64(l.Owed) || l.RSSBytes <= 0 || l.StartSecond <= 0 {
			t.Errorf("%+v", l)
		}
	}
	if o := r.Endpoints; o.Lanes != 120 || o.Consumers != 0 || o.Pending != 0 || o.BytesEach <= 0 {
		t.Errorf("%+v", o)
	}
	if o := r.CatchUp; o.Deliveries <= 0 || o.Quiet <= 0 || o.Meanwhile <= 0 || len(o.Rates) != 1 {
		t.Errorf("%+v", o)
	}
}

// TestReceivers: what is watched is counted, what is not watched or hangs is not, and a sample is the webhook
// as it was sent.
func TestReceivers(t *testing.T) {
	sink, err := startReceivers(t.Context(), t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sink.stop(); err != nil {
			t.Error(err)
		}
	}()
	w, err := sink.watch(t.Context(), 0, time.Minute, watched{First: 2, Hang: 1, Time: true})
	if err != nil {
		t.Fatal(err)
	}
	body := append([]byte(`{"time":"2026-11-25T00:00:00.001Z","data":`), debitDue(w.From)...)
	for i, within := range []time.Duration{100 * time.Millisecond, time.Minute, time.Minute} {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		err := post(ctx, new(http.Transport), &hookSample{URL: sink.urls[i], Header: http.Header{}, Body: append(body, '}')})
		if (err == nil) != (i > 0) {
			t.Errorf("receiver %d: %v", i, err)
		}
	}
	took, err := sink.took(t.Context())
	if err != nil || took.All != 2 || took.Watched != 1 || took.Timed != 1 || took.Bytes != int64(len(body)+1) {
		t.Errorf("%+v, %v", took, err)
	}
	if h := importLatencies(took.FromDue); h.TotalCount() != 1 || h.Max() > int64(time.Minute) {
		t.Errorf("%d latencies, the longest %d ns", h.TotalCount(), h.Max())
	}
	var samples []*hookSample
	if err := sink.ask(t.Context(), "/samples", &samples); err != nil || len(samples) != 2 || samples[0].URL != sink.urls[1] || len(samples[0].Body) != len(body)+1 {
		t.Errorf("%+v, %v", samples, err)
	}
}

func TestParseHooks(t *testing.T) {
	c, err := parseHooks([]string{"-only", "latency, backlog", "-hang", "0,20", "-backlog", "100,1000"})
	if err != nil || len(c.only) != 2 || c.hang[1] != 20 || c.backlog[1] != 1000 || c.rounds != 5 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{
		"-only=", "-only=all", "-rounds=0", "-duration=0s", "-warm-up=-1s", "-idle=0s", "-quiet=0s", "-fan-out=0", "-fan-out=51", "-rate=0", "-rate=1000000",
		"-many=1", "-hang=1,10", "-hang=0,100", "-hang=", "-backlog=99", "-backlog=x", "-registered=0", "-owed=0", "-others=1", "-others=150000", "more",
	} {
		if c, err := parseHooks([]string{bad}); err == nil {
			t.Errorf("%s was taken: %+v", bad, c)
		}
	}
}
