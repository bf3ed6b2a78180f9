package store_test

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// samples are the events of the golden files: every type, nothing left out.
func samples(t testing.TB) []events.Event {
	t.Helper()
	files, err := filepath.Glob("../testdata/golden/*.hex")
	if err != nil || len(files) < len(events.Catalog) {
		t.Fatalf("found %d golden files: %v", len(files), err)
	}
	list := make([]events.Event, len(files))
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatal(err)
		}
		r := events.NewReader(b)
		if list[i].Code(r); r.Err() != nil {
			t.Fatalf("%s: %v", file, r.Err())
		}
	}
	return list
}

// drawEntry draws the outcome of a command.
func drawEntry(t *rapid.T, from []events.Event) store.Entry {
	e := store.Entry{
		CommandID: ulid.ULID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "command id")),
		Receipt:   rapid.Bool().Draw(t, "receipt"),
		Command:   rapid.String().Draw(t, "command"),
		Account:   rapid.String().Draw(t, "account"),
		Actor:     rapid.String().Draw(t, "actor"),
		Outcome:   events.Code(rapid.SampledFrom([]string{"ok", "", "unavailable"}).Draw(t, "outcome")),
		Events:    rapid.SliceOfN(rapid.SampledFrom(from), 0, 3).Draw(t, "events"),
	}
	if e.Receipt {
		e.InputHash = store.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "input hash"))
	}
	if rapid.Bool().Draw(t, "traced") {
		e.Trace = sampleTrace
	}
	return e
}

// drawCommit draws a commit and its message.
func drawCommit(t *rapid.T, from []events.Event) (*store.Commit, []byte) {
	c := &store.Commit{
		Partition: rapid.Uint32().Draw(t, "partition"),
		Epoch:     rapid.Uint64().Draw(t, "epoch"),
		Writer:    ulid.ULID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "writer")),
		Nonce:     store.Nonce(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "nonce")),

		PrevSequence: rapid.Uint64Range(0, 1<<63).Draw(t, "previous sequence"),
		PrevHash:     store.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "previous hash")),
		Ordinal:      rapid.Uint64().Draw(t, "ordinal"),
		Time:         events.Time(rapid.Int64().Draw(t, "time")),
		Entries:      make([]store.Entry, rapid.IntRange(0, 5).Draw(t, "number of entries")),
	}
	for i := range c.Entries {
		c.Entries[i] = drawEntry(t, from)
	}
	return c, encode(c)
}

// encode writes c with its entries.
func encode(c *store.Commit) []byte {
	var entries []byte
	for i := range c.Entries {
		entries = store.AppendEntry(entries, &c.Entries[i])
	}
	return c.Encode(entries)
}

var sampleTrace = events.ParseTraceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")

// follow makes the commit that follows chain, one millisecond later, with n entries of
// one event each.
func follow(chain store.Chain, n int) *store.Commit {
	c := &store.Commit{
		Partition: chain.Partition, Epoch: max(chain.Epoch, 1), Time: chain.Time + 1,
		PrevSequence: chain.Sequence, PrevHash: chain.Hash, Ordinal: chain.Ordinal,
		Entries: make([]store.Entry, n),
	}
	for i := range c.Entries {
		c.Entries[i] = store.Entry{
			CommandID: ulid.ULID{15: byte(i)}, Command: "account.open", Account: "acme", Outcome: events.OK,
			Events: []events.Event{{Type: "account.opened", Account: "acme", Data: &events.Account{ID: "acme"}}},
		}
	}
	return c
}

// fill appends n commits to log behind chain and returns them.
func fill(t testing.TB, log store.Log, chain store.Chain, n int) []*store.Commit {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	commits := make([]*store.Commit, n)
	for i := range commits {
		c := follow(chain, 1)
		sequence, err := log.Append(ctx, encode(c), chain.Sequence)
		if err != nil || sequence != c.Sequence {
			t.Fatalf("append %d: acknowledged as %d, %v", c.Sequence, sequence, err)
		}
		chain, commits[i] = store.ChainAt(c), c
	}
	return commits
}

// startJetStream runs a real nats-server in this process, which syncs every write.
// change may alter its options.
func startJetStream(t *testing.T, change ...func(*natsserver.Options)) jetstream.JetStream {
	t.Helper()
	return startJetStreamOn(t, t.TempDir(), change...)
}

func startJetStreamOn(t *testing.T, dir string, change ...func(*natsserver.Options)) jetstream.JetStream {
	t.Helper()
	opts := &natsserver.Options{DontListen: true, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, NoLog: true}
	for _, f := range change {
		f(opts)
	}
	server, err := natsserver.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(func() {
		server.Shutdown()
		server.WaitForShutdown()
	})
	if !server.ReadyForConnections(patience) || !server.JetStreamConfig().SyncAlways {
		t.Fatal("nats-server did not start as asked")
	}
	nc, err := nats.Connect("", nats.InProcessServer(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// openLog creates partition 0's streams with a budget and opens its log.
func openLog(t *testing.T, js jetstream.JetStream, budget int64) *store.JetStream {
	t.Helper()
	if err := store.CreateStreams(t.Context(), js, store.Streams(0, budget)); err != nil {
		t.Fatal(err)
	}
	log, err := store.OpenJetStream(t.Context(), js, 0)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// receive waits for the next value.
func receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-from:
		return v
	case <-timer.C:
		t.Fatalf("%s did not come within %s", what, patience)
		panic("unreachable")
	}
}
