package load

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/testing/ledgertest"
)

// answering runs a nats-server on which answer gets every command, and connects to it
// over TCP.
func answering(t *testing.T, conns int, answer func(*nats.Msg)) []*nats.Conn {
	t.Helper()
	server, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(server.Shutdown)
	if !server.ReadyForConnections(time.Minute) {
		t.Fatal("the nats-server does not start")
	}
	list := connectAll(t, server.ClientURL(), conns+1)
	if _, err := list[conns].Subscribe("keyledger.>", answer); err != nil {
		t.Fatal(err)
	}
	if err := list[conns].Flush(); err != nil {
		t.Fatal(err)
	}
	return list[:conns]
}

func connectAll(t *testing.T, url string, n int, opts ...nats.Option) []*nats.Conn {
	t.Helper()
	var list []*nats.Conn
	for range n {
		conn, err := nats.Connect(url, opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		list = append(list, conn)
	}
	return list
}

// respond answers a message; an error means that the test is over.
func respond(m *nats.Msg, body string) { _ = m.Respond([]byte(body)) }

func testJob(inFlight int) *Job {
	b := &Books{Names: AccountNames("bench", 7)}
	return &Job{Targets: b.Debits(), InFlight: inFlight, WarmUp: 10 * time.Millisecond, Measure: 100 * time.Millisecond, Drain: DrainTime}
}

func sum(list []int64) (total int64) {
	for _, n := range list {
		total += n
	}
	return total
}

// TestCountsEveryAnswer: what the load counts is what was answered.
func TestCountsEveryAnswer(t *testing.T) {
	var answered atomic.Int64
	conns := answering(t, 3, func(m *nats.Msg) {
		answered.Add(1)
		if string(m.Data) != string(debitBody) || len(m.Header.Get(HeaderID)) != 26 || len(strings.Split(m.Subject, ".")) != 5 {
			t.Errorf("sent %s %v %s", m.Subject, m.Header, m.Data)
		}
		respond(m, "{}")
	})
	o, err := Run(t.Context(), conns, testJob(8))
	if err != nil {
		t.Fatal(err)
	}
	if o.Lost != 0 || len(o.Refused) != 0 || o.Done != answered.Load() || sum(o.Taken) != o.Done {
		t.Errorf("%d lost, refused %s, %d acknowledged with %d credits of %d", o.Lost, counts(o.Refused), o.Done, sum(o.Taken), answered.Load())
	}
	if o.Replies == 0 || o.Replies > o.Done || o.Latency.TotalCount() != o.Replies {
		t.Errorf("%d of %d answers in the measured time, %d latencies", o.Replies, o.Done, o.Latency.TotalCount())
	}
	for i, n := range o.Taken {
		if n == 0 {
			t.Errorf("account %d was left out", i)
		}
	}
}

// TestSpreads: zipf prefers the first targets, hot has no other than the first.
func TestSpreads(t *testing.T) {
	for spread, right := range map[Spread]func(picked []int64) bool{
		Hot:     func(picked []int64) bool { return picked[0] == sum(picked) },
		Zipf:    func(picked []int64) bool { return picked[0] > 4*picked[6] && picked[6] > 0 },
		Uniform: func(picked []int64) bool { return slices.Max(picked) < 2*slices.Min(picked) },
		"":      func(picked []int64) bool { return slices.Max(picked) < 2*slices.Min(picked) },
	} {
		picked := make([]int64, 7)
		pick := picker(rand.NewPCG(1, 2), spread, len(picked))
		for range 10_000 {
			picked[pick()]++
		}
		if !right(picked) {
			t.Errorf("%q picks %v", spread, picked)
		}
	}
}

// TestHotJob: a job's spread is that of its commands.
func TestHotJob(t *testing.T) {
	conns := answering(t, 1, func(m *nats.Msg) { respond(m, "{}") })
	j := testJob(8)
	j.Spread = Hot
	if o, err := Run(t.Context(), conns, j); err != nil || o.Done == 0 || o.Taken[0] != o.Done {
		t.Errorf("%v, %v", o.Taken, err)
	}
}

// TestArraysCountTheirItems: each item has an id of its own and counts for itself, and an
// answer that allows fewer than all fails the run.
func TestArraysCountTheirItems(t *testing.T) {
	short := false
	conns := answering(t, 1, func(m *nats.Msg) {
		if n := strings.Count(string(m.Data), `{"id":"0`); n != 5 || m.Data[0] != '[' || m.Data[len(m.Data)-1] != ']' {
			t.Errorf("sent %s", m.Data)
		}
		n := 5
		if short {
			n = 4
		}
		respond(m, strings.Repeat(string(Allowed)+",", n))
	})
	j := testJob(2)
	j.Array, j.Confirm = 5, Allowed
	o, err := Run(t.Context(), conns, j)
	if err != nil || o.Done == 0 || o.Done%5 != 0 || sum(o.Taken) != o.Done || o.Replies != 5*o.Latency.TotalCount() || len(o.Refused) > 0 {
		t.Errorf("%+v, %v", o, err)
	}
	short = true
	if o, err = Run(t.Context(), conns, j); err != nil || o.Done != 0 || o.Refused["not all done"] == 0 {
		t.Errorf("of arrays with a refused item %d were counted, refused: %s (%v)", o.Done, counts(o.Refused), err)
	}
}

// TestOnlyTheMeasuredTimeCounts: every debit is acknowledged, but only those between
// begin and end are measured, and after the end nothing more is sent.
func TestOnlyTheMeasuredTimeCounts(t *testing.T) {
	conns := answering(t, 1, func(*nats.Msg) {})
	for _, test := range []struct {
		name            string
		begin           time.Duration // from now; it lasts for two hours
		counted, flying int
	}{
		{"warming up", time.Hour, 0, 1},
		{"measured", -time.Hour, 1, 1},
		{"draining", -3 * time.Hour, 0, 0},
	} {
		now := time.Now()
		j := testJob(1)
		j.Measure = 2 * time.Hour
		l := newLane(conns[0], j, 1, now.Add(test.begin))
		l.slots[0], l.flying = slot{busy: true, sent: now, targets: []int{3}}, 1
		l.answered(&nats.Msg{Subject: l.inbox + ".0"})
		if l.outcome.Replies != int64(test.counted) || l.outcome.Taken[3] != 1 || l.flying != test.flying {
			t.Errorf("%s: %d counted, %d acknowledged, %d in flight", test.name, l.outcome.Replies, l.outcome.Taken[3], l.flying)
		}
	}
}

// TestKeepsItsNumberInFlight: the answers come only once so many wait.
func TestKeepsItsNumberInFlight(t *testing.T) {
	const inFlight = 10
	var mu sync.Mutex
	var waiting []*nats.Msg
	conns := answering(t, 3, func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if waiting = append(waiting, m); len(waiting) < inFlight {
			return
		}
		for _, m := range waiting {
			respond(m, "{}")
		}
		waiting = nil
	})
	j := testJob(inFlight)
	j.Drain = 100 * time.Millisecond // the last ones wait for others that do not come
	o, err := Run(t.Context(), conns, j)
	if err != nil || o.Replies < 2*inFlight || o.Done%inFlight != 0 || o.Lost >= inFlight {
		t.Errorf("%d answers, %d acknowledged, %d lost: %v", o.Replies, o.Done, o.Lost, err)
	}
}

// TestRefusalsFailARun: an error reply is no debit, and a decision that refuses is none.
// TestRate: messages are sent evenly and no more of them than are due, and one that waits for
// a slot counts from when it was due.
func TestRate(t *testing.T) {
	conns := answering(t, 2, func(m *nats.Msg) { respond(m, "{}") })
	job := testJob(8)
	job.Rate = 500
	o, err := Run(t.Context(), conns, job)
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(500*0.110) + 2; o.Lost != 0 || o.Done == 0 || o.Done > most {
		t.Errorf("%d done of at most %d, %d lost", o.Done, most, o.Lost)
	}

	held := make(chan *nats.Msg, 100)
	conns = answering(t, 1, func(m *nats.Msg) { held <- m })
	release := time.AfterFunc(50*time.Millisecond, func() {
		for m := range held {
			respond(m, "{}")
		}
	})
	defer release.Stop()
	job = testJob(1)
	job.Rate, job.WarmUp, job.Measure = 1000, 0, 200*time.Millisecond
	if o, err = Run(t.Context(), conns, job); err != nil {
		t.Fatal(err)
	}
	if late := o.Latency.ValueAtQuantile(90); o.Lost != 0 || o.Done < 2 || late < int64(5*time.Millisecond) {
		t.Errorf("%d done, %d lost; with a stop of 50 ms at the beginning of 200 a tenth took at least %s", o.Done, o.Lost, time.Duration(late))
	}
}

func TestRefusalsFailARun(t *testing.T) {
	asError := false
	conns := answering(t, 1, func(m *nats.Msg) {
		reply := &nats.Msg{Subject: m.Reply, Data: []byte(`{"allowed":false,"code":"rate_limited"}`)}
		if asError {
			reply.Header = nats.Header{headerError: {"402"}}
			reply.Data = []byte(`{"error":{"code":"insufficient_credits"}}`)
		}
		_ = m.RespondMsg(reply)
	})
	for _, test := range []struct {
		asError bool
		want    string
	}{{true, "× insufficient_credits"}, {false, "× rate_limited"}} {
		asError = test.asError
		b := &Books{taken: make([]int64, 7)}
		j := testJob(4)
		j.Confirm = Allowed
		var s Series
		err := s.Run(t.Context(), conns, j, b)
		if err == nil || !strings.Contains(err.Error(), test.want) || sum(b.taken) != 0 || len(s.Rates) != 0 {
			t.Errorf("%v, want %s; %d acknowledged, rates %v", err, test.want, sum(b.taken), s.Rates)
		}
	}
}

// TestLostAnswersFailARun: what was never answered may have been done.
func TestLostAnswersFailARun(t *testing.T) {
	conns := answering(t, 2, func(*nats.Msg) {})
	j := testJob(5)
	j.Drain = 10 * time.Millisecond
	var s Series
	if err := s.Run(t.Context(), conns, j, nil); err == nil || !strings.Contains(err.Error(), "5 messages lost") {
		t.Errorf("%v, want 5 messages lost", err)
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

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{5, 100, 1, 2, 4}, 4},
	} {
		if got := Median(test.values); got != test.want {
			t.Errorf("the median of %v is %v, want %v", test.values, got, test.want)
		}
	}
}

// TestReconcile loads a real keyledger with every kind of work, twice in the same
// accounts, and compares its balances; what was counted and not done, or done and not
// counted, is found.
func TestReconcile(t *testing.T) {
	l := ledgertest.Start(t)
	seed, err := nats.NkeyOptionFromSeed(l.Server.OperatorKeyPath())
	if err != nil {
		t.Fatal(err)
	}
	conns := connectAll(t, l.Server.URL(), 2, seed)
	var b *Books
	for range 2 {
		if b, err = OpenBooks(t.Context(), conns[0], AccountNames("bench", 7), Plain); err != nil {
			t.Fatal(err)
		}
		keys, err := b.Keys(t.Context(), conns[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Sample(t.Context(), conns[0], &keys[2]); err != nil {
			t.Fatal(err)
		}
		for _, j := range []*Job{
			{Targets: b.Debits()}, {Targets: b.Debits(), Spread: Hot}, {Targets: keys, Confirm: Allowed}, {Targets: keys, Confirm: Allowed, Array: 10},
		} {
			j.InFlight, j.Measure, j.Drain = 16, 50*time.Millisecond, DrainTime
			var s Series
			if err := s.Run(t.Context(), conns, j, b); err != nil {
				t.Fatal(err)
			}
		}
		if done, err := b.Reconcile(t.Context(), conns[0], BalanceQuery); err != nil || done != b.done || done < 100 {
			t.Fatalf("%d commands agree of %d, %v", done, b.done, err)
		}
		if err := b.RevokeKeys(t.Context(), conns[0]); err != nil {
			t.Fatal(err)
		}
	}
	for _, wrong := range []int64{1, -1} {
		b.taken[3] += wrong
		if _, err := b.Reconcile(t.Context(), conns[0], BalanceQuery); err == nil || !strings.Contains(err.Error(), "bench-00003 has") {
			t.Errorf("with %d credits too many counted: %v", wrong, err)
		}
		b.taken[3] -= wrong
	}
	if _, err := b.Reconcile(t.Context(), conns[0], BalanceDebit); err != nil {
		t.Errorf("by the answer of one more debit: %v", err)
	}
}

// TestOtherPeoplesAccounts: an account that holds what no run left there is not touched.
func TestOtherPeoplesAccounts(t *testing.T) {
	l := ledgertest.Start(t)
	conn := l.Connect()
	send := func(account, verb, body string) {
		t.Helper()
		if _, err := request(t.Context(), conn, "keyledger.cmd."+account+"."+verb, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	send("a-00000", "account.open", `{"name":"Acme Inc."}`)
	for _, account := range []string{"b-00000", "c-00000"} {
		send(account, "account.open", fmt.Sprintf(`{"name":%q}`, owner))
	}
	send("b-00000", "key.create", `{"environment":"test","name":"backend"}`)
	send("c-00000", "endpoint.register", `{"url":"https://example.com/","environment":"test","events":["key.*"]}`)
	for prefix, want := range map[string]string{"a": "another name, Acme Inc.", "b": "a key called backend", "c": "a webhook endpoint"} {
		if _, err := OpenBooks(t.Context(), conn, AccountNames(prefix, 1), Plain); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s-00000: %v, want %q", prefix, err, want)
		}
		if posted, err := BalanceQuery(t.Context(), conn, prefix+"-00000"); err != nil || posted != 0 {
			t.Errorf("%s-00000 has %d credits now, %v", prefix, posted, err)
		}
	}
}
