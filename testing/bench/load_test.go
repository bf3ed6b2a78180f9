package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/keyledger/keyledger/testing/ledgertest"
)

// TestMain lets the tests start this program as the echo.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "echo" {
		main()
		return
	}
	os.Exit(m.Run())
}

// startTestEcho runs an echo in this process and connects to it over TCP.
func startTestEcho(t *testing.T, conns int, reply func(*nats.Conn, micro.Request)) []*nats.Conn {
	t.Helper()
	e, err := newEcho(t.TempDir(), reply)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.close)
	list, err := connect(e.server.ClientURL(), e.seed, conns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(list) })
	return list
}

func testJob(inFlight int) job {
	j := job{inFlight: inFlight, warmUp: 10 * time.Millisecond, measure: 100 * time.Millisecond, drain: drainTime}
	for i := range 7 {
		j.accounts = append(j.accounts, fmt.Sprintf("bench-%d", i))
	}
	return j
}

func sum(list []int64) (total int64) {
	for _, n := range list {
		total += n
	}
	return total
}

// TestLoadCountsEveryAnswer: what the load counts is what the echo answered.
func TestLoadCountsEveryAnswer(t *testing.T) {
	var answered atomic.Int64
	answer := echo(100)
	conns := startTestEcho(t, 3, func(conn *nats.Conn, m micro.Request) {
		answered.Add(1)
		if string(m.Data()) != string(debitBody) || len(m.Headers().Get(headerID)) != 26 || len(strings.Split(m.Subject(), ".")) != 5 {
			t.Errorf("sent %s %v %s", m.Subject(), m.Headers(), m.Data())
		}
		answer(conn, m)
	})
	o, err := runLoad(t.Context(), conns, testJob(8))
	if err != nil {
		t.Fatal(err)
	}
	if o.lost != 0 || len(o.refused) != 0 || sum(o.acked) != answered.Load() {
		t.Errorf("%d lost, refused %s, %d acknowledged of %d", o.lost, counts(o.refused), sum(o.acked), answered.Load())
	}
	if o.replies == 0 || o.replies > sum(o.acked) || o.latency.TotalCount() != o.replies {
		t.Errorf("%d of %d answers in the measured time, %d latencies", o.replies, sum(o.acked), o.latency.TotalCount())
	}
	for i, n := range o.acked {
		if n == 0 {
			t.Errorf("account %d was left out", i)
		}
	}
}

// TestOnlyTheMeasuredTimeCounts: every debit is acknowledged, but only those between
// begin and end are measured, and after the end nothing more is sent.
func TestOnlyTheMeasuredTimeCounts(t *testing.T) {
	conns := startTestEcho(t, 1, func(*nats.Conn, micro.Request) {})
	for _, test := range []struct {
		name            string
		begin, end      time.Duration // from now
		counted, flying int
	}{
		{"warming up", time.Hour, 2 * time.Hour, 0, 1},
		{"measured", -time.Hour, time.Hour, 1, 1},
		{"draining", -2 * time.Hour, -time.Hour, 0, 0},
	} {
		now := time.Now()
		l := newLane(conns[0], []string{debitSubject("acme")}, 0, 1, now.Add(test.begin), now.Add(test.end))
		l.sent[0], l.busy[0], l.flying = now, true, 1
		l.answered(&nats.Msg{Subject: l.inbox + ".0"})
		if l.outcome.replies != int64(test.counted) || l.outcome.acked[0] != 1 || l.flying != test.flying {
			t.Errorf("%s: %d counted, %d acknowledged, %d in flight", test.name, l.outcome.replies, l.outcome.acked[0], l.flying)
		}
	}
}

// TestLoadKeepsItsNumberInFlight: the echo answers only once so many wait.
func TestLoadKeepsItsNumberInFlight(t *testing.T) {
	const inFlight = 10
	var mu sync.Mutex
	var waiting []micro.Request
	answer := echo(10)
	conns := startTestEcho(t, 3, func(conn *nats.Conn, m micro.Request) {
		mu.Lock()
		defer mu.Unlock()
		if waiting = append(waiting, m); len(waiting) < inFlight {
			return
		}
		for _, m := range waiting {
			answer(conn, m)
		}
		waiting = nil
	})
	j := testJob(inFlight)
	j.drain = 100 * time.Millisecond // the last ones wait for others that do not come
	o, err := runLoad(t.Context(), conns, j)
	if err != nil || o.replies < 2*inFlight || sum(o.acked)%inFlight != 0 || o.lost >= inFlight {
		t.Errorf("%d answers, %d acknowledged, %d lost: %v", o.replies, sum(o.acked), o.lost, err)
	}
}

// TestRefusalsFailARun: an error reply is no debit.
func TestRefusalsFailARun(t *testing.T) {
	conns := startTestEcho(t, 1, func(_ *nats.Conn, m micro.Request) {
		if err := m.Error("402", "too little", []byte(`{"error":{"code":"insufficient_credits"}}`)); err != nil {
			t.Error(err)
		}
	})
	b := &books{acked: make([]int64, 7)}
	var s series
	err := s.run(t.Context(), conns, testJob(4), b)
	if err == nil || !strings.Contains(err.Error(), "× insufficient_credits") || sum(b.acked) != 0 || len(s.Rates) != 0 {
		t.Errorf("%v; %d acknowledged, rates %v", err, sum(b.acked), s.Rates)
	}
}

// TestLostAnswersFailARun: what was never answered may have been done.
func TestLostAnswersFailARun(t *testing.T) {
	conns := startTestEcho(t, 2, func(*nats.Conn, micro.Request) {})
	j := testJob(5)
	j.drain = 10 * time.Millisecond
	var s series
	if err := s.run(t.Context(), conns, j, nil); err == nil || !strings.Contains(err.Error(), "5 commands lost") {
		t.Errorf("%v, want 5 commands lost", err)
	}
}

func TestErrorCode(t *testing.T) {
	for _, test := range []struct {
		header nats.Header
		body   string
		want   string
	}{
		{nil, `{}`, ""},
		{nats.Header{"Keyledger-Position": {"0:1.0"}}, `{}`, ""},
		{nats.Header{"Status": {"503"}}, ``, "status 503"},
		{nats.Header{headerError: {"409"}}, `{"error":{"code":"command_expired"}}`, "command_expired"},
		{nats.Header{headerError: {"500"}}, `oops`, "error 500"},
	} {
		if got := errorCode(&nats.Msg{Header: test.header, Data: []byte(test.body)}); got != test.want {
			t.Errorf("%v %s is %q, want %q", test.header, test.body, got, test.want)
		}
	}
}

// TestDebitsReconcile loads a real keyledger and compares its balances; a debit that was
// counted and not made, or made and not counted, is found.
func TestDebitsReconcile(t *testing.T) {
	l := ledgertest.Start(t)
	conns, err := connect(l.Server.URL(), l.Server.OperatorKeyPath(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(conns)
	b, err := openBooks(t.Context(), conns[0], 7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.sampleDebit(t.Context(), conns[0]); err != nil {
		t.Fatal(err)
	}
	j := testJob(16)
	j.accounts = b.names
	var s series
	if err := s.run(t.Context(), conns, j, b); err != nil {
		t.Fatal(err)
	}
	total, err := b.reconcile(t.Context(), conns[0])
	if err != nil || total != sum(b.acked) || total < 8 {
		t.Fatalf("%d debits agree of %d, %v", total, sum(b.acked), err)
	}
	for _, wrong := range []int64{1, -1} {
		b.acked[3] += wrong
		if _, err := b.reconcile(t.Context(), conns[0]); err == nil || !strings.Contains(err.Error(), "bench-00003 has") {
			t.Errorf("with %d debits too many counted: %v", wrong, err)
		}
		b.acked[3] -= wrong
	}
}

// TestProcess starts the echo as a process of its own, as the bench does.
func TestProcess(t *testing.T) {
	dir := t.TempDir()
	p, err := startEcho(t.Context(), dir+"/echo", 50)
	if err != nil {
		t.Fatal(err)
	}
	conns, err := p.connect(1)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(conns)
	if o, err := runLoad(t.Context(), conns, testJob(2)); err != nil || o.replies == 0 || o.lost != 0 {
		t.Errorf("%+v, %v", o, err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, err = start(t.Context(), "echo", dir+"/other", self, "echo")
	if err == nil || !strings.Contains(err.Error(), "-dir must be given") {
		t.Errorf("a server that cannot start: %v", err)
	}
}
