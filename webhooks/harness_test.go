package webhooks

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// patience bounds every wait of these tests. None waits for it when all is well.
const patience = 30 * time.Second

// goesOn is what is logged at a start from the saved directory.
const goesOn = "go on from the saved directory"

// rig is a log with its streams in a real nats-server, and whoever writes it.
type rig struct {
	t      testing.TB
	url    string // of the server
	js     jetstream.JetStream
	log    *store.JetStream
	tail   *store.Tail
	sealer *events.Sealer
	clock  *clock
	lines  *lines // what was logged
	dir    string // where dispatchers save the directory

	holdFeed bool // commits are not relayed to the feed

	mu       sync.Mutex // guards what follows
	chain    store.Chain
	accounts map[string]bool
}

func newRig(t testing.TB) *rig {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, SyncAlways: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	r := &rig{t: t, url: srv.ClientURL(), clock: newClock(time.Now()), lines: &lines{}, dir: t.TempDir(), accounts: map[string]bool{}}
	r.js = r.connect()
	if err := store.CreateStreams(t.Context(), r.js, store.Streams(0, 1<<30)); err != nil {
		t.Fatal(err)
	}
	r.log, err = store.OpenJetStream(t.Context(), r.js, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.tail = store.NewTail(r.log, 0)
	r.sealer = newSealer(t, 1)
	r.commit() // the writer's "epoch started"
	return r
}

func sealKey(seed byte) []byte { return bytes.Repeat([]byte{seed}, 32) }

func newSealer(t testing.TB, seed byte) *events.Sealer {
	t.Helper()
	s, err := events.NewSealer(sealKey(seed))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// connect opens a connection of its own, closed with the test.
func (r *rig) connect() jetstream.JetStream {
	r.t.Helper()
	nc, err := nats.Connect(r.url, nats.ReconnectBufSize(-1))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		r.t.Fatal(err)
	}
	return js
}

// commit appends a commit with an entry for each event, and relays it.
func (r *rig) commit(list ...events.Event) *store.Commit {
	r.t.Helper()
	entries := make([]store.Entry, len(list))
	for i := range list {
		entries[i] = command(list[i])
	}
	return r.append(entries...)
}

// command is what a command of the first event's account did.
func command(list ...events.Event) store.Entry {
	return store.Entry{CommandID: ulid.Make(), Command: "test", Account: list[0].Account, Outcome: events.OK, Events: list}
}

func (r *rig) append(list ...store.Entry) *store.Commit {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range list {
		for j := range list[i].Events {
			r.accounts[list[i].Events[j].Account] = true
		}
	}
	c := appendTo(r.t, r.log, &r.chain, r.clock.now(), list)
	if !r.holdFeed { // first, so that no test's clock has to move for a lane to look again
		r.relay(c)
	}
	r.tail.Push(c)
	return c
}

// appendTo appends a commit to a log and moves its chain.
func appendTo(t testing.TB, log store.Log, chain *store.Chain, now time.Time, list []store.Entry) *store.Commit {
	t.Helper()
	c := &store.Commit{
		Epoch: 1, PrevSequence: chain.Sequence, PrevHash: chain.Hash, Ordinal: chain.Ordinal,
		Time: max(events.At(now), chain.Time), Entries: list,
	}
	binary.BigEndian.PutUint64(c.Nonce[:], chain.Sequence+1)
	var entries []byte
	for i := range list {
		entries = store.AppendEntry(entries, &list[i])
	}
	if _, err := log.Append(t.Context(), c.Encode(entries), c.PrevSequence); err != nil {
		t.Fatal(err)
	}
	if err := chain.Accept(c); err != nil {
		t.Fatal(err)
	}
	return c
}

// relay brings the feed up to a commit. The caller holds mu.
func (r *rig) relay(c *store.Commit) {
	r.t.Helper()
	feed := c.Ordinal
	err := c.Each(func(e *events.CloudEvent) error {
		header, err := nats.DecodeHeadersMsg(append(e.AppendHeaders([]byte("NATS/1.0\r\n")), "\r\n"...))
		if err != nil {
			return err
		}
		body, err := events.Encode(e.Data)
		if err != nil {
			return err
		}
		subject := store.SubjectFeed(0) + e.Account + "." + orDash(e.Environment) + "." + e.Type + "." + orDash(e.Subject)
		_, err = r.js.PublishMsgAsync(&nats.Msg{Subject: subject, Header: header, Data: body}, jetstream.WithExpectLastSequence(feed))
		feed++
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	<-r.js.PublishAsyncComplete()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// relayNow brings a feed that was held from the beginning up to the log.
func (r *rig) relayNow() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for sequence := uint64(1); sequence <= r.chain.Sequence; sequence++ {
		c, err := r.tail.Commit(r.t.Context(), sequence)
		if err != nil {
			r.t.Fatal(err)
		}
		r.relay(c)
	}
}

// debits makes n events of account acme that endpoints subscribe to.
func debits(n int) []events.Event {
	list := make([]events.Event, n)
	for i := range list {
		list[i] = debit("acme", events.Test, i)
	}
	return list
}

func debit(account, environment string, i int) events.Event {
	d := &events.Debited{Debit: events.Debit{ID: "debit_" + strconv.Itoa(i), Amount: int64(i + 1), Drawn: []events.Draw{}}}
	d.Balance = events.Balance{Environment: environment, Asset: "credits", Posted: 1000, Available: 1000}
	d.Environment, d.Asset = environment, "credits"
	return events.Event{Type: "credit.debited", Account: account, Environment: environment, Subject: "key_1", Data: d}
}

func opened(account string) events.Event {
	return events.Event{Type: "account.opened", Account: account, Data: &events.Account{ID: account, Status: events.Active}}
}

// endpoint is a registered endpoint of account acme, as it stands.
func (r *rig) endpoint(id, url string, key []byte, filters ...string) *events.Endpoint {
	if len(filters) == 0 {
		filters = []string{"credit.*"}
	}
	return &events.Endpoint{
		ID: id, Account: "acme", Environment: events.Test, URL: url, Events: filters, Headers: []string{},
		Status: events.Active, Signing: "v1", CreatedAt: 1, SealedSecret: r.sealer.Seal("acme", id, "secret", key),
	}
}

// about is the event of an endpoint that came to a status; "" stands for a registration.
func about(e *events.Endpoint, status string) events.Event {
	verb := map[string]string{
		"": "registered", events.Active: "resumed", events.Paused: "paused", events.Disabled: "disabled", events.Removed: "removed",
	}[status]
	after := *e
	if status != "" {
		after.Status = status
	}
	return events.Event{Type: "endpoint." + verb, Account: e.Account, Environment: e.Environment, Subject: e.ID, Data: &after}
}

// add registers an endpoint for a receiver.
func (r *rig) add(id string, to *receiver, filters ...string) *events.Endpoint {
	r.t.Helper()
	e := r.endpoint(id, to.server.URL+"/"+id, to.key[:], filters...)
	r.commit(about(e, ""))
	return e
}

// run is a dispatcher at work.
type run struct {
	*Dispatcher
	t    testing.TB
	log  *rig
	stop context.CancelFunc
	done chan error
}

// start runs a dispatcher on the real clock, or on the rig's if change sets it. It is
// stopped with the test at the latest.
func (r *rig) start(change ...func(*Config)) *run {
	r.t.Helper()
	u := r.launch(change...)
	u.wait(r.chain.Sequence)
	return u
}

// known stands in for the views.
func (r *rig) known(account string) (events.Position, *events.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.accounts[account] {
		return events.Position{}, events.Errorf(events.NotFound, "there is no account %s", account)
	}
	return r.chain.Position(), nil
}

// launch is start without waiting until deliveries begin.
func (r *rig) launch(change ...func(*Config)) *run {
	r.t.Helper()
	cfg := Config{
		JS: r.connect(), Tail: r.tail, Sealer: r.sealer, Client: newClient(r.t, nil),
		Logger: slog.New(slog.NewJSONHandler(r.lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Disable: func(_ context.Context, account, endpoint, reason string) error {
			return fmt.Errorf("unexpected disable of %s %s: %s", account, endpoint, reason)
		},
		Known: r.known, Dir: r.dir, DirectoryEvery: 1, DirectoryPause: 20 * time.Millisecond,
		FirstSlots: 16, RetrySlots: 4, SlowAfter: patience, Grace: 500 * time.Millisecond,
	}
	for _, f := range change {
		f(&cfg)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(r.t.Context()))
	u := &run{Dispatcher: New(cfg), t: r.t, log: r, stop: stop, done: make(chan error, 1)}
	go func() { u.done <- u.Run(ctx); close(u.done) }()
	r.t.Cleanup(func() { stop(); <-u.done })
	return u
}

// end stops the dispatcher and returns what Run returned.
func (u *run) end() error {
	u.t.Helper()
	u.stop()
	return u.result()
}

// result waits for Run to return.
func (u *run) result() error {
	u.t.Helper()
	select {
	case err := <-u.done:
		return err
	case <-time.After(patience):
		u.t.Fatal("Run does not return")
		return nil
	}
}

// wait waits until a commit was folded.
func (u *run) wait(sequence uint64) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	if err := u.Wait(ctx, sequence); err != nil {
		u.t.Fatal(err)
	}
}

// see waits until something holds; the condition runs with the dispatcher's lock.
func (u *run) see(what string, holds func() bool) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	if !u.until(ctx, holds) {
		u.t.Fatalf("never seen: %s; %+v", what, u.Stats())
	}
}

// idle waits until all that was committed is folded and nothing is pending.
func (u *run) idle() {
	u.t.Helper()
	u.see("nothing pending", func() bool {
		if u.read.Sequence < u.log.chain.Sequence {
			return false
		}
		for _, l := range u.lanes {
			if l.pending() > 0 || l.firsts+l.agains > 0 {
				return false
			}
		}
		return true
	})
}

// waiting waits until all that was committed is folded, n deliveries of an endpoint wait
// for their next try, and none is under way or due.
func (u *run) waiting(endpoint string, n int) {
	u.t.Helper()
	u.see(fmt.Sprintf("%d waiting for %s", n, endpoint), func() bool {
		if u.read.Sequence < u.log.chain.Sequence {
			return false
		}
		l := u.lanes[endpoint]
		return len(l.waiting) == n && l.firsts+l.agains == 0 && !l.due(u.cfg.Clock())
	})
}

// onClock makes a dispatcher go by the rig's clock, without jitter, and with waits of
// its own.
func (r *rig) onClock(delays ...time.Duration) func(*Config) {
	return func(c *Config) {
		c.Clock, c.Timer = r.clock.now, r.clock.timer
		c.Schedule = schedule(r.t, delays...)
	}
}

func schedule(t testing.TB, delays ...time.Duration) *Schedule {
	t.Helper()
	if len(delays) == 0 {
		delays = DefaultDelays()
	}
	s, err := NewSchedule(delays, 0, func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// records reads all records of attempts, once as many are there as there were attempts.
func (r *rig) records() (list []Attempt) {
	r.t.Helper()
	for _, data := range r.stream(store.StreamAttempts) {
		var a Attempt
		if err := json.Unmarshal(data, &a); err != nil {
			r.t.Fatal(err)
		}
		list = append(list, a)
	}
	return list
}

// await waits until a stream holds n messages.
func (r *rig) await(name string, n uint64) {
	r.t.Helper()
	consumer, err := r.js.OrderedConsumer(r.t.Context(), name, jetstream.OrderedConsumerConfig{HeadersOnly: true})
	if err != nil {
		r.t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		r.t.Fatal(err)
	}
	defer messages.Stop()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for range n {
		if _, err := messages.Next(jetstream.NextContext(ctx)); err != nil {
			r.t.Fatalf("wait for %d messages of %s: %v", n, name, err)
		}
	}
}

// stream reads all messages of a stream.
func (r *rig) stream(name string) (list [][]byte) {
	r.t.Helper()
	s, err := r.js.Stream(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq > 0 && seq <= state.LastSeq; seq++ {
		msg, err := s.GetMsg(r.t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			r.t.Fatal(err)
		}
		list = append(list, msg.Data)
	}
	return list
}

// random returns a source of randomness, whose seed is printed and can be given.
func random(t testing.TB) *mathrand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("KEYLEDGER_TEST_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("KEYLEDGER_TEST_SEED=%d", seed)
	return mathrand.New(mathrand.NewPCG(seed, 0))
}
