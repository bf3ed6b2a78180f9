package projections

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// history writes commits to a log in memory as the writer does and tells its tail.
type history struct {
	t     testing.TB
	log   *store.Memory
	tail  *store.Tail
	chain store.Chain
	now   events.Time
	made  uint64 // ids and nonces
}

// newHistory is a log with an "epoch started" in it.
func newHistory(t testing.TB) *history {
	log := &store.Memory{}
	h := &history{t: t, log: log, tail: store.NewTail(log, 0), now: 1_800_000_000_000}
	h.commit()
	return h
}

// commit appends a commit in which each event has an entry of its own, a millisecond
// after the one before.
func (h *history) commit(list ...events.Event) *store.Commit {
	h.t.Helper()
	entries := make([]store.Entry, len(list))
	for i, e := range list {
		entries[i] = h.entry(e)
	}
	return h.append(entries...)
}

// entry is what a command of the first event's account did.
func (h *history) entry(list ...events.Event) store.Entry {
	return store.Entry{CommandID: h.ulid(), Command: "test", Account: list[0].Account, Outcome: events.OK, Events: list}
}

func (h *history) append(entries ...store.Entry) *store.Commit {
	h.t.Helper()
	h.now++
	c := &store.Commit{
		Epoch: 1, Time: h.now, PrevSequence: h.chain.Sequence, PrevHash: h.chain.Hash, Ordinal: h.chain.Ordinal, Entries: entries,
	}
	h.made++
	binary.BigEndian.PutUint64(c.Nonce[8:], h.made)
	var encoded []byte
	for i := range entries {
		encoded = store.AppendEntry(encoded, &entries[i])
	}
	message := c.Encode(encoded)
	if _, err := h.log.Append(context.Background(), message, h.chain.Sequence); err != nil {
		h.t.Fatal(err)
	}
	h.chain = store.ChainAt(c)
	h.tail.Push(c)
	return c
}

// again is a new tail of the same log, as after a restart: nothing is in memory.
func (h *history) again() *store.Tail {
	tail := store.NewTail(h.log, 0)
	tail.Reset(h.chain)
	return tail
}

func (h *history) ulid() (id ulid.ULID) {
	h.made++
	if err := id.SetTime(uint64(h.now)); err != nil {
		h.t.Fatal(err)
	}
	binary.BigEndian.PutUint64(id[8:], h.made)
	return id
}

func (h *history) id(prefix string) string { return prefix + h.ulid().String() }

func (h *history) account(id string) events.Event {
	return events.Event{Type: "account.opened", Account: id, Data: &events.Account{
		ID: id, Name: "the " + id, Status: events.Active, CreatedAt: h.now + 1,
		Environments: events.Environments{Test: events.Environment{Enabled: true}},
	}}
}

func (h *history) key(account, environment string) (string, events.Event) {
	id := h.id(keyIDPrefix)
	return id, events.Event{Type: "key.created", Account: account, Environment: environment, Subject: id, Data: &events.Key{
		ID: id, Account: account, Environment: environment, Name: "backend", Kind: events.Standard, Status: events.Active,
		Permissions: []string{}, IPAllowlist: []string{}, AssetClass: "any", Prefix: "kl_test_wxyz", CreatedAt: h.now + 1,
	}}
}

func (h *history) endpoint(account, environment string) (string, events.Event) {
	id := h.id(endpointIDPrefix)
	return id, events.Event{Type: "endpoint.registered", Account: account, Environment: environment, Subject: id, Data: &events.Endpoint{
		ID: id, Account: account, Environment: environment, URL: "https://example.com/hook", Events: []string{"*"},
		Headers: []string{}, Status: events.Active, Signing: "v1", CreatedAt: h.now + 1, SealedSecret: []byte("sealed"),
	}}
}

// changed is an event with a changed copy of what another one holds.
func changed[D any](e events.Event, eventType string, change func(*D)) events.Event {
	data := *any(e.Data).(*D)
	change(&data)
	e.Type, e.Data = eventType, any(&data).(events.Data)
	return e
}

// granted adds credits; posted is what the balance is after it.
func (h *history) granted(account, grant string, amount, priority, posted int64) events.Event {
	return events.Event{Type: "credit.granted", Account: account, Environment: events.Test, Data: &events.Granted{
		Grant: events.Grant{ID: grant, Environment: events.Test, Asset: "credits", Amount: amount, Priority: priority,
			Category: events.Paid, CreatedAt: h.now + 1},
		Balance: smallBalance(posted),
	}}
}

// debited takes credits with a key, "" for none.
func (h *history) debited(account, key string, posted int64, drawn ...events.Draw) events.Event {
	var amount int64
	for _, d := range drawn {
		amount += d.Amount
	}
	return events.Event{Type: "credit.debited", Account: account, Environment: events.Test, Subject: key, Data: &events.Debited{
		Debit: events.Debit{ID: h.id("debit_"), Environment: events.Test, Asset: "credits", Amount: amount, Drawn: drawn,
			Key: key, CreatedAt: h.now + 1},
		Balance: smallBalance(posted),
	}}
}

// held is an event of a hold; the balance after it has what posted says.
func (h *history) held(account, verb string, d events.Held, posted, held int64) events.Event {
	d.Environment, d.Asset = events.Test, "credits"
	d.Balance = events.Balance{Environment: events.Test, Asset: "credits", Posted: posted, Held: held, Available: posted - held}
	return events.Event{Type: "hold." + verb, Account: account, Environment: events.Test, Subject: d.ID, Data: &d}
}

func smallBalance(posted int64) events.Balance {
	return events.Balance{Environment: events.Test, Asset: "credits", Posted: posted, Available: posted}
}

// run runs f until the test ends, and fails the test where f returns an error.
func run(t testing.TB, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// patience bounds waiting for what must happen.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// follow runs views of a tail up to its end.
func follow(t testing.TB, tail *store.Tail) *Views {
	t.Helper()
	v := NewViews(tail, 0, quiet())
	run(t, v.Run)
	wait(t, v, tail.End().Sequence)
	return v
}

func wait(t testing.TB, v *Views, sequence uint64) {
	t.Helper()
	if err := v.Wait(patience(t), sequence); err != nil {
		t.Fatal(err)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// ask asks a query and returns the answer as JSON, or the error.
func ask(t testing.TB, v *Views, verb, account, body string) (string, *events.Error) {
	t.Helper()
	answer, err := v.Queries()[verb](context.Background(), &Query{Account: account, Body: []byte(body)})
	if err != nil {
		return "", err
	}
	data, encodeErr := events.Encode(answer.Result)
	if encodeErr != nil {
		t.Fatal(encodeErr)
	}
	return string(data), nil
}

// into asks a query that must be answered and decodes the answer.
func into[R any](t testing.TB, v *Views, verb, account, body string) R {
	t.Helper()
	data, err := ask(t, v, verb, account, body)
	if err != nil {
		t.Fatalf("%s %s %s: %v", verb, account, body, err)
	}
	var result R
	if err := json.Unmarshal([]byte(data), &result); err != nil {
		t.Fatal(err)
	}
	return result
}

// startNATS runs a nats-server of the test's own.
func startNATS(t testing.TB) (*natsserver.Server, *nats.Conn, jetstream.JetStream) {
	t.Helper()
	server, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true, SyncAlways: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(func() {
		server.Shutdown()
		server.WaitForShutdown()
	})
	if !server.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server does not start")
	}
	nc := connect(t, server)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	// As on a real server the derived streams are never alone: after the last stream of an
	// account went, nats-server 2.15.2 removes the account's directory in the background
	// (server/stream.go, stream.stop), and that takes away what the next create makes.
	if _, err := js.CreateStream(patience(t), jetstream.StreamConfig{Name: "BESIDE", Subjects: []string{"beside"}}); err != nil {
		t.Fatal(err)
	}
	return server, nc, js
}

func connect(t testing.TB, server nats.InProcessConnProvider) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(server), nats.ReconnectBufSize(-1),
		nats.ReconnectWait(time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// streams are the configurations of the streams that projections write.
func streams(t testing.TB, names ...string) []jetstream.StreamConfig {
	t.Helper()
	var out []jetstream.StreamConfig
	for _, name := range names {
		for _, config := range store.Streams(0, 1<<30) {
			if config.Name == name {
				out = append(out, config)
			}
		}
	}
	if len(out) != len(names) {
		t.Fatalf("streams %v: %d found", names, len(out))
	}
	return out
}
