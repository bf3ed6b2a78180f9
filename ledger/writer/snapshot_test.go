package writer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// snapping is a writer that makes one snapshot after the other, an account and a receipt
// at a time, a chunk for each slice.
func snapping(t rapidOrTest, log *store.Memory, c *clock, to store.Snapshots, change ...func(*Config)) *fixture {
	w := offline(log, c, to, change...)
	w.snapshots.slice, w.snapshots.receipts, w.snapshots.chunk = 1, 1, 1
	return runWriter(t, log, c, w)
}

// offline is a writer that does not run.
func offline(log *store.Memory, c *clock, to store.Snapshots, change ...func(*Config)) *Writer {
	cfg := Config{
		Log: log, Tail: store.NewTail(log, 0), Clock: c.now, Monotonic: c.monotonic,
		Snapshots: to, SnapshotEvery: 1, SnapshotPause: time.Nanosecond,
	}
	for _, f := range change {
		f(&cfg)
	}
	return New(cfg)
}

// until sends barriers until the writer's loop has made something true.
func (f *fixture) until(what string, done func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: not within 20 s", what)
		}
		<-f.send(&Request{})
	}
}

// remembered is all that a writer holds, in a form that can be compared.
func remembered(w *Writer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "state %x\n", w.state.Digest())
	for _, account := range slices.Sorted(w.receipts.accounts()) {
		fmt.Fprintf(&b, "%s %x\n", account, w.receipts.appendAccount(nil, account))
	}
	fmt.Fprintf(&b, "known %x %x\n", w.directory.imported, w.directory.signing)
	return b.String()
}

// checkSnapshots starts from the snapshots there are and from the log alone, and wants
// the same of both. It returns how many commits the first had to replay.
func checkSnapshots(t rapidOrTest, log *store.Memory, c *clock, from store.Snapshots) uint64 {
	t.Helper()
	with := offline(log, c, from)
	chain := readAll(t, with)
	if chain == (store.Chain{}) {
		t.Fatalf("no snapshot was used")
	}
	alone := offline(log, c, nil)
	readAll(t, alone)
	if got, want := remembered(with), remembered(alone); got != want {
		t.Fatalf("snapshot and tail:\n%swant as of the log alone:\n%s", got, want)
	}
	last, _ := log.Last(context.Background())
	return last - chain.Sequence
}

// readAll does what a takeover does before it appends, and returns where the replay
// began.
func readAll(t rapidOrTest, w *Writer) store.Chain {
	t.Helper()
	ctx := context.Background()
	list, err := w.listSnapshots(ctx)
	if err != nil {
		t.Fatalf("%v", err)
	}
	base := w.restore(ctx, list)
	chain := base
	last, _ := w.cfg.Log.Last(ctx)
	if err := store.ReadChecked(ctx, w.cfg.Log, &chain, last, func(c *store.Commit) error { w.fold(c); return nil }); err != nil {
		t.Fatalf("%v", err)
	}
	w.receipts.makeIndex()
	if base.Sequence == 0 {
		return store.Chain{}
	}
	return base
}

// logged collects a writer's log lines.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Whatever commands come while snapshots are made, whichever appends are lost: a
// snapshot and the log after it are the log.
func TestSnapshotAndTailAreTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log, c, snaps := new(store.Memory), newClock(), new(store.MemorySnapshots)
		lose := rapid.SliceOfN(rapid.Bool(), 0, 20).Draw(t, "lost appends")
		n := -5
		log.Fault = func([]byte, uint64) store.Fault {
			n++
			switch {
			case n < 0 || n%3 != 0 || n/3 >= len(lose):
				return store.Fault{}
			case lose[n/3]:
				return store.Fault{Lose: true, Err: errTimeout}
			}
			return store.Fault{Err: errTimeout}
		}
		most := rapid.SampledFrom([]int{0, 4}).Draw(t, "most receipts")
		f := snapping(t, log, c, snaps, func(cfg *Config) { cfg.MaxReceipts = most })
		accounts := []string{"acme", "other", "third"}
		for _, account := range accounts {
			f.funded(account, 1000)
		}
		for i := range rapid.IntRange(1, 8).Draw(t, "rounds") {
			var replies []chan *Reply
			for range rapid.IntRange(1, 10).Draw(t, "in a round") {
				account := rapid.SampledFrom(accounts).Draw(t, "account")
				switch rapid.IntRange(0, 9).Draw(t, "kind") {
				case 0:
					replies = append(replies, f.submit(fmt.Sprintf("new-%d-%d", i, len(replies)), "account.open", &ledger.OpenAccount{}, ulid.ULID{}))
				case 1:
					replies = append(replies, f.submit(account, "credit.grant", &ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 7}, c.id()))
				case 2:
					replies = append(replies, f.submit(account, "key.import", imports(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "secret")), c.id()))
				case 3, 4, 5:
					to := rapid.SampledFrom(accounts).Draw(t, "to")
					replies = append(replies, f.submit(account, "credit.transfer", transfer(to, int64(rapid.IntRange(1, 40).Draw(t, "amount"))), c.id()))
				case 6:
					replies = append(replies, f.submit(account, "hold.place", &ledger.PlaceHold{Environment: events.Test, Asset: "credits", Amount: 5, ExpiresIn: "1500ms"}, c.id()))
				default:
					replies = append(replies, f.submit(account, "credit.debit", debit(int64(rapid.IntRange(1, 40).Draw(t, "amount"))), c.id()))
				}
			}
			for _, r := range replies {
				<-r
			}
			c.advance(time.Second)
		}
		f.until("a snapshot", func() bool { return f.w.Stats().Snapshot != nil })
		if err := f.end(); err != nil {
			t.Fatalf("%v", err)
		}
		if most == 0 { // else what is forgotten depends on the order that the log was read in
			checkSnapshots(t, log, c, snaps)
		} else {
			checkForgetful(t, log, c, snaps)
		}
	})
}

// checkForgetful is checkSnapshots where receipts are over their budget: both must have
// the same state, and take no id that the log has.
func checkForgetful(t rapidOrTest, log *store.Memory, c *clock, snaps store.Snapshots) {
	t.Helper()
	with, alone := offline(log, c, snaps, func(cfg *Config) { cfg.MaxReceipts = 4 }), offline(log, c, nil)
	if readAll(t, with) == (store.Chain{}) {
		t.Fatalf("no snapshot was used")
	}
	readAll(t, alone)
	if got, want := with.state.Digest(), alone.state.Digest(); got != want {
		t.Fatalf("state %x, want %x", got, want)
	}
	for _, commit := range stored(t, log) {
		for i := range commit.Entries {
			e := &commit.Entries[i]
			_, known := with.receipts.find(e.Account, e.CommandID)
			if e.Receipt && !known && with.receipts.check(e.Account, e.CommandID, events.At(c.now())) == nil {
				t.Fatalf("%s of %s would be done a second time", e.CommandID, e.Account)
			}
		}
	}
}

// gated is a snapping writer with two funded accounts, whose next append waits at a gate
// while the walk goes over all accounts: their stamps are ahead of what is acknowledged.
func gated(t *testing.T, fault store.Fault) (f *fixture, snaps *store.MemorySnapshots, open func() *Reply) {
	t.Helper()
	log, c := new(store.Memory), newClock()
	snaps = new(store.MemorySnapshots)
	gate, appending, walked := make(chan struct{}), make(chan struct{}), make(chan string, 1000)
	log.Fault = faultOnce(6, store.Fault{Lose: fault.Lose, Err: fault.Err, Before: func() {
		close(appending)
		<-gate
	}})
	snaps.Fail = func(step string) error {
		walked <- step
		return nil
	}
	w := offline(log, c, snaps, func(cfg *Config) { cfg.SnapshotEvery = 9 })
	w.snapshots.slice, w.snapshots.chunk = 1, 1
	var turns [][]byte
	for range sliceCount {
		turns = append(turns, <-w.snapshots.free)
	}
	f = runWriter(t, log, c, w)
	f.funded("acme", 1000)
	f.funded("other", 1000) // 5 commits and 4 events: the walk begins, and gets no turn yet
	reply := f.submit("acme", "credit.debit", debit(100), c.id())
	<-appending
	for _, memory := range turns {
		w.snapshots.free <- memory
	}
	for _, want := range []string{"prune", "append", "append", "append"} { // header, acme, other
		if got := <-walked; got != want {
			t.Fatalf("the walk's step is %q, want %q", got, want)
		}
	}
	for range 20 { // turns for whatever the walk would do next
		f.send(&Request{})
		for f.w.intake.len() > 0 {
			runtime.Gosched()
		}
	}
	return f, snaps, func() *Reply {
		close(gate)
		return <-reply
	}
}

func TestStampsAreAheadOfTheAcknowledgement(t *testing.T) {
	f, snaps, open := gated(t, store.Fault{})
	if l, _ := snaps.List(t.Context()); len(l) != 0 {
		t.Errorf("finished before the acknowledgement: %+v", l)
	}
	if r := open(); r.Err != nil {
		t.Fatal(r.Err)
	}
	f.until("a snapshot", func() bool { return f.w.Stats().Snapshot != nil })
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	l, _ := snaps.List(t.Context())
	if len(l) != 1 || l[0].Sequence != 5 || l[0].End != 6 {
		t.Fatalf("%+v, want a snapshot that begins at 5 and ends at 6", l)
	}
	if tail := checkSnapshots(t, f.log, f.clock, snaps); tail != 1 {
		t.Errorf("%d commits behind it, want 1", tail)
	}
}

func TestLostAppendTakesTheWalkWithIt(t *testing.T) {
	f, snaps, open := gated(t, store.Fault{Lose: true, Err: errTimeout})
	if r := open(); r.Err != nil {
		t.Fatal(r.Err)
	}
	f.until("a snapshot", func() bool { return f.w.Stats().Snapshot != nil })
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	l, _ := snaps.List(t.Context())
	commits := stored(t, f.log)
	for _, s := range l {
		if s.Sequence == 5 || s.End > uint64(len(commits)) || commits[s.End-1].Hash != s.EndHash {
			t.Errorf("%+v reflects what the log never got", s)
		}
	}
	checkSnapshots(t, f.log, f.clock, snaps)
}

// made makes a log of some commits with one snapshot in the middle, and returns it and
// its bytes. There are commits between its base and its end, and behind that.
func made(t *testing.T) (log *store.Memory, c *clock, snaps *store.MemorySnapshots, s store.Snapshot, content []byte) {
	t.Helper()
	f, snaps, open := gated(t, store.Fault{})
	if r := open(); r.Err != nil {
		t.Fatal(r.Err)
	}
	f.until("a snapshot", func() bool { return f.w.Stats().Snapshot != nil })
	f.do("other", "credit.debit", debit(3), f.clock.id())
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	l, err := snaps.List(t.Context())
	if err != nil || len(l) != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
	return f.log, f.clock, snaps, l[0], bytesOf(t, snaps, l[0].ID)
}

func bytesOf(t *testing.T, snaps store.Snapshots, id string) (content []byte) {
	t.Helper()
	err := snaps.Read(t.Context(), id, func(chunk []byte) error {
		content = append(content, chunk...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// A snapshot that was changed anywhere, or cut anywhere, is not used, wherever its bytes
// were parted.
func TestDamagedSnapshots(t *testing.T) {
	log, c, snaps, s, good := made(t)
	load := func(b []byte) error {
		snaps.Damage(s.ID, b[:len(b)/2], b[len(b)/2:])
		_, err := offline(log, c, snaps).load(t.Context(), &s)
		return err
	}
	if err := load(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1 << (i % 8)
		if err := load(b); err == nil {
			t.Errorf("byte %d of %d changed: no error", i, len(good))
		}
		if err := load(good[:i]); err == nil {
			t.Errorf("cut to %d of %d bytes: no error", i, len(good))
		}
	}
	if err := load(append(bytes.Clone(good), 0)); err == nil {
		t.Error("a byte too many: no error")
	}
}

// remade is a snapshot's bytes with another SHA-256, as of somebody who means it.
func remade(b []byte, change func([]byte) []byte) []byte {
	b = change(bytes.Clone(b[:len(b)-sha256.Size]))
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// Frames that do not belong together are refused, also with the right SHA-256.
func TestFramesThatDoNotFit(t *testing.T) {
	_, _, _, _, good := made(t)
	head := good[:4+1+int(good[4])]
	frame := func(kind byte, parts ...any) []byte {
		var f frames
		c := f.begin(kind)
		for _, part := range parts {
			switch p := part.(type) {
			case uint64:
				c.Uint(&p)
			case string:
				c.String(&p)
			}
		}
		return f.end(nil)
	}
	st := ledger.NewState()
	st.Evolve(&events.Event{Account: "acme", Data: &events.Account{ID: "acme", Status: events.Active}})
	acme := string(st.AppendAccount(nil, 0))
	base := store.Hash(head[8:40])
	footerOf := func(accounts, sequence uint64, hash store.Hash) []byte {
		var f frames
		return f.appendFooter(nil, snapshotEnd{accounts: accounts, sequence: sequence, hash: hash})
	}
	footer := func(accounts, sequence uint64) []byte { return footerOf(accounts, sequence, base) }
	read := func(parts ...[]byte) error {
		b := remade(append(bytes.Join(parts, nil), make([]byte, sha256.Size)...), func(b []byte) []byte { return b })
		r := newSnapshotReader(ledger.NewState(), 10, func(store.Chain) error { return nil })
		return errors.Join(r.feed(b), r.finish())
	}
	if err := read(head, frame(frameReceipts, "acme", ""), frame(frameAccount, uint64(6), acme, ""), footer(1, 6)); err != nil {
		t.Fatalf("frames that fit: %v", err)
	}
	if err := read(head, footer(0, 5)); err != nil {
		t.Fatalf("a snapshot of nothing: %v", err)
	}
	for name, parts := range map[string][][]byte{
		"no header":                {good[:4], frame(frameAccount, uint64(5), acme, ""), footer(1, 5)},
		"two headers":              {head, head[4:], footer(0, 5)},
		"older receipts alone":     {head, frame(frameReceipts, "acme", ""), footer(0, 5)},
		"receipts of another":      {head, frame(frameReceipts, "other", ""), frame(frameAccount, uint64(6), acme, ""), footer(1, 6)},
		"receipts of two":          {head, frame(frameReceipts, "other", ""), frame(frameReceipts, "acme", ""), frame(frameAccount, uint64(6), acme, ""), footer(1, 6)},
		"receipts of nobody":       {head, frame(frameReceipts, "", ""), footer(0, 5)},
		"an account twice":         {head, frame(frameAccount, uint64(6), acme, ""), frame(frameAccount, uint64(6), acme, ""), footer(2, 6)},
		"an unknown kind":          {head, frame('x'), footer(0, 5)},
		"an empty frame":           {head, {0}, footer(0, 5)},
		"a frame that is too long": {head, frame(frameAccount, uint64(6), acme, "", "more"), footer(1, 6)},
		"an end before its stamps": {head, frame(frameAccount, uint64(6), acme, ""), footer(1, 5)},
		"another hash at the base": {head, frame(frameAccount, uint64(5), acme, ""), footerOf(1, 5, store.Hash{})},
	} {
		if err := read(parts...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A start that finds a snapshot it cannot use says why, takes the older one or the whole
// log, and holds the same as ever.
func TestUnusableSnapshotsAreSkipped(t *testing.T) {
	log, c, snaps, s, good := made(t)
	base := stored(t, log)[s.Sequence-1].Hash
	for _, row := range []struct {
		name, says string
		chunks     [][]byte
	}{
		{"no chunks", "cut short", nil},
		{"half", "cut short", [][]byte{good[:len(good)/2]}},
		{"changed", "", [][]byte{good[:99], append([]byte{good[99] ^ 64}, good[100:]...)}},
		{"another hash", "hash does not match", [][]byte{append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1)}},
		{"another version", "format version 9", [][]byte{remade(good, func(b []byte) []byte { b[3] = 9; return b })}},
		{"another partition", "partition 1", [][]byte{remade(good, func(b []byte) []byte { b[6] = 1; return b })}},
		{"another base", "the log holds " + base.String(), [][]byte{remade(good, func(b []byte) []byte {
			return bytes.Replace(b, base[:], bytes.Repeat([]byte{7}, 32), 1)
		})}},
		{"a base beyond the log", "0:100", [][]byte{remade(good, func(b []byte) []byte { b[7] = 100; return b })}},
		{"a stamp before the base", "stamp", [][]byte{remade(good, func(b []byte) []byte {
			at := bytes.IndexByte(b[40:], frameAccount) + 40
			b[at+1] = 4
			return b
		})}},
		{"an account less", "accounts where", [][]byte{remade(good, func(b []byte) []byte {
			b[len(b)-len(store.Hash{})-2] = 1 // before the end's sequence and hash
			return b
		})}},
		{"something else", "not a snapshot", [][]byte{[]byte("something else, long enough to be read as one if nobody looks")}},
	} {
		t.Run(row.name, func(t *testing.T) {
			snaps.Damage(s.ID, row.chunks...)
			lines := new(logged)
			w := offline(log, c, snaps, func(cfg *Config) { cfg.Logger = lines.logger() })
			if base := readAll(t, w); base != (store.Chain{}) {
				t.Fatalf("it was used, from %+v", base)
			}
			if text := lines.String(); !strings.Contains(text, "level=WARN") || !strings.Contains(text, s.ID) || !strings.Contains(text, row.says) {
				t.Errorf("logged %s, want a warning with %q", text, row.says)
			}
			alone := offline(log, c, nil)
			readAll(t, alone)
			if got, want := remembered(w), remembered(alone); got != want {
				t.Errorf("holds\n%swant\n%s", got, want)
			}
		})
	}
	t.Run("the older one takes its place", func(t *testing.T) {
		snaps.Damage(s.ID, good)
		newer := store.NewSnapshot(0, s.Sequence+1)
		if err := errors.Join(snaps.Append(t.Context(), &newer, good[:20]), snaps.Finish(t.Context(), &newer)); err != nil {
			t.Fatal(err)
		}
		if base := readAll(t, offline(log, c, snaps)); base.Sequence != s.Sequence {
			t.Errorf("began at %+v", base)
		}
		checkSnapshots(t, log, c, snaps)
	})
}
