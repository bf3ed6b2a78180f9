package archive

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// The archives of these tests are small: spans of 64 events, 4 segments to a larger one.
const (
	testSpan = 64
	testFan  = 4
)

// seeded is a source of random numbers whose seed a failure tells.
func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// samples are the events of the golden files: every type, nothing left out.
func samples(t testing.TB) []events.Event {
	t.Helper()
	files, err := filepath.Glob("../../events/testdata/golden/*.hex")
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

// bench writes commits to a log in memory as the writer does, tells its tail, and keeps
// naively what an archive should know.
type bench struct {
	t        testing.TB
	random   *rand.Rand
	samples  []events.Event
	log      *store.Memory
	tail     *store.Tail
	chain    store.Chain
	entries  map[string][]Entry
	accounts int
}

func newBench(t testing.TB) *bench {
	log := &store.Memory{}
	h := &bench{
		t: t, random: seeded(t), samples: samples(t), log: log, tail: store.NewTail(log, 0),
		entries: map[string][]Entry{}, accounts: 12,
	}
	h.append() // "epoch started"
	return h
}

// append appends a commit with an entry for each event, which may be none.
func (h *bench) append(list ...events.Event) {
	h.t.Helper()
	c := h.push(list...)
	for i := range list {
		e := naiveEntry(h.t, &list[i])
		e.Position = events.Position{Sequence: c.Sequence, Index: i}
		h.entries[list[i].Account] = append(h.entries[list[i].Account], e)
	}
}

// push is append without what an archive should know.
func (h *bench) push(list ...events.Event) *store.Commit {
	h.t.Helper()
	c := &store.Commit{
		Epoch: 1, Time: h.chain.Time + events.Time(h.random.IntN(3)), Entries: make([]store.Entry, len(list)),
		PrevSequence: h.chain.Sequence, PrevHash: h.chain.Hash, Ordinal: h.chain.Ordinal,
	}
	binary.BigEndian.PutUint64(c.Nonce[:], h.random.Uint64())
	var encoded []byte
	for i, e := range list {
		c.Entries[i] = store.Entry{Command: "test", Account: e.Account, Events: []events.Event{e}}
		encoded = store.AppendEntry(encoded, &c.Entries[i])
	}
	if _, err := h.log.Append(context.Background(), c.Encode(encoded), h.chain.Sequence); err != nil {
		h.t.Fatal(err)
	}
	h.chain = store.ChainAt(c)
	h.tail.Push(c)
	return c
}

// grow appends random commits until the log has n events more: most of one account, the
// others of several, and now and then none.
func (h *bench) grow(n int) {
	h.t.Helper()
	for end := h.chain.Ordinal + uint64(n); h.chain.Ordinal < end; {
		list := make([]events.Event, h.random.IntN(10))
		for i := range list {
			list[i] = h.samples[h.random.IntN(len(h.samples))]
			list[i].Account = "hot"
			if h.random.IntN(3) == 0 {
				list[i].Account = fmt.Sprint("account-", h.random.IntN(h.accounts))
			}
		}
		h.append(list...)
	}
}

// naiveEntry tells what a history should tell of an event, from its public form.
func naiveEntry(t testing.TB, e *events.Event) Entry {
	type balance struct{ Asset string }
	var form struct {
		Balance  *balance
		From, To json.RawMessage
	}
	text, err := events.Encode(e.Data)
	if err == nil {
		err = json.Unmarshal(text, &form)
	}
	if err != nil {
		t.Fatal(err)
	}
	entry := Entry{Type: e.Type, Environment: e.Environment}
	switch {
	case e.Type == "credit.exchanged":
		for i, leg := range []json.RawMessage{form.From, form.To} {
			var l struct{ Balance balance }
			if err := json.Unmarshal(leg, &l); err != nil {
				t.Fatal(err)
			}
			entry.Assets[i] = l.Balance.Asset
		}
	case form.Balance != nil && !strings.HasPrefix(e.Type, "balance."):
		entry.Assets[0] = form.Balance.Asset
	}
	return entry
}

// again is a new tail of the same log, as after a restart.
func (h *bench) again() *store.Tail {
	tail := store.NewTail(h.log, 0)
	tail.Reset(h.chain)
	return tail
}

// open opens an archive without running it.
func (h *bench) open(dir string, tail *store.Tail, logger *slog.Logger) *Archive {
	h.t.Helper()
	if logger == nil {
		logger = quiet()
	}
	a, err := openShape(Config{Tail: tail, Dir: dir, Logger: logger, Span: testSpan}, testFan)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(a.Close)
	return a
}

// run runs an archive until the test ends or stop is called.
func run(t testing.TB, a *Archive) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
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

// reach waits until an archive is at the log's end, all that is whole is stored and nothing
// is left to merge.
func (h *bench) reach(a *Archive) {
	h.t.Helper()
	ctx := patience(h.t)
	if err := a.Wait(ctx, h.chain.Sequence); err != nil {
		h.t.Fatal(err)
	}
	for {
		a.mu.RLock()
		done := a.number(a.start) == a.number(h.chain) && mergeable(a.held, a.fan) < 0
		a.mu.RUnlock()
		if done {
			break
		}
		if ctx.Err() != nil {
			h.t.Fatal("segments are not stored and merged")
		}
	}
}

// check compares the history of every account with the naive one, and some filters.
func (h *bench) check(a *Archive) {
	h.t.Helper()
	for account, want := range h.entries {
		h.compare(a, account, Filter{}, want)
		for range 5 {
			h.compare(a, account, h.filter(want), want)
		}
	}
	h.compare(a, "nobody", Filter{}, nil)
}

// filter makes a random filter, whose bounds are often those of events.
func (h *bench) filter(list []Entry) (f Filter) {
	position := func() (p events.Position) {
		if h.random.IntN(2) == 0 {
			return p
		}
		p = list[h.random.IntN(len(list))].Position
		if h.random.IntN(3) == 0 {
			p.Index = events.NoIndex
		}
		return p
	}
	f.From, f.To, f.Newest = position(), position(), h.random.IntN(2) == 0
	like := list[h.random.IntN(len(list))]
	switch h.random.IntN(4) {
	case 0:
		f.Types = []string{like.Type, "key.*"}
	case 1:
		f.Environment, f.Asset = like.Environment, like.Assets[0]
	case 2:
		f.Asset = like.Assets[1]
	}
	return f
}

func (h *bench) compare(a *Archive, account string, f Filter, all []Entry) {
	h.t.Helper()
	var want, got []Entry
	for _, e := range all {
		after := func(p events.Position) bool { // e is behind p
			return e.Position.Sequence > p.Sequence || e.Position.Sequence == p.Sequence && p.Index >= 0 && e.Position.Index > p.Index
		}
		typed := len(f.Types) == 0
		for _, filter := range f.Types {
			typed = typed || filter == e.Type || strings.HasSuffix(filter, "*") && strings.HasPrefix(e.Type, strings.TrimSuffix(filter, "*"))
		}
		if after(f.From) && !(f.To.Sequence > 0 && after(f.To)) && typed && (f.Environment == "" || f.Environment == e.Environment) &&
			(f.Asset == "" || slices.Contains(e.Assets[:], f.Asset)) {
			want = append(want, e)
		}
	}
	if f.Newest {
		slices.Reverse(want)
	}
	for e, err := range a.History(context.Background(), account, f) {
		if err != nil {
			h.t.Fatal(err)
		}
		got = append(got, e)
	}
	if !slices.Equal(got, want) {
		h.t.Fatalf("history of %s with %+v has %d events, want %d:\n%v\n%v", account, f, len(got), len(want), got, want)
	}
}

// files is the content of an archive's files by their names.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, file := range list {
		data, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[file.Name()] = string(data)
	}
	return out
}

// immediately does not wait.
func immediately(time.Duration) <-chan time.Time {
	c := make(chan time.Time, 1)
	c <- time.Time{}
	return c
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
