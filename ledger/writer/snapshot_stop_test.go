package writer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// cut returns the log up to a sequence, as after a loss.
func cut(t *testing.T, log *store.Memory, to uint64) *store.Memory {
	t.Helper()
	short := new(store.Memory)
	err := log.Read(t.Context(), 1, to, func(sequence uint64, data []byte) error {
		_, err := short.Append(t.Context(), data, sequence-1)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return short
}

// A snapshot proves that the log once went on to its end, whether it is used or not.
func TestSnapshotsAreWitnesses(t *testing.T) {
	log, c, snaps, s, good := made(t) // begins at 5, ends at 6; the log ends at 7
	for _, row := range []struct {
		name  string
		to    uint64
		whole bool
		want  error
	}{
		{"behind its end", 6, true, nil},
		{"before its end", 5, true, errLoss},
		{"before its base", 4, true, errLoss},
		{"before its end, and it is damaged", 5, false, errLoss},
		{"empty", 0, true, errLoss},
	} {
		t.Run(row.name, func(t *testing.T) {
			if snaps.Damage(s.ID, good); !row.whole {
				snaps.Damage(s.ID, good[:9])
			}
			short := cut(t, log, row.to)
			f := run(t, short, c, func(cfg *Config) { cfg.Snapshots = snaps })
			if row.want == nil {
				<-f.w.Ready()
				if err := f.end(); err != nil {
					t.Errorf("the log is long enough: %v", err)
				}
				return
			}
			var err error
			select {
			case err = <-f.done:
			case <-f.w.Ready():
				err = f.end()
			}
			if !errors.Is(err, row.want) || !strings.Contains(err.Error(), "snapshot "+s.ID) {
				t.Errorf("started with %v, want %v by the snapshot", err, row.want)
			}
			if last, _ := short.Last(t.Context()); last != row.to {
				t.Errorf("it appended to the log, which now ends at %d", last)
			}
		})
	}
}

// What others saw of the log before the snapshot's base counts as it does in a full
// replay.
func TestWitnessesBehindASnapshot(t *testing.T) {
	log, c, snaps, s, _ := made(t)
	wrong, right := store.Hash{1}, stored(t, log)[2].Hash
	start := func(log *store.Memory, hash *store.Hash, sequence uint64) error {
		f := run(t, log, c, func(cfg *Config) {
			cfg.Snapshots = snaps
			cfg.Witnesses = func(context.Context) ([]Witness, error) {
				return []Witness{{Name: "somebody", Sequence: sequence, Hash: hash}}, nil
			}
		})
		select {
		case <-f.w.Ready():
			return f.end()
		case err := <-f.done:
			return err
		}
	}
	if err := start(log, &right, 3); err != nil {
		t.Errorf("a witness that is right: %v", err)
	}
	for _, sequence := range []uint64{3, s.Sequence} {
		if err := start(log, &wrong, sequence); !errors.Is(err, errLoss) || !strings.Contains(err.Error(), "somebody") {
			t.Errorf("another commit at %d: %v, want a loss", sequence, err)
		}
	}
	var damage *store.DamageError
	log.Damage(3, nil)
	if err := start(log, &right, 3); !errors.As(err, &damage) || damage.Sequence != 3 {
		t.Errorf("no commit at 3: %v, want damage there", err)
	}
}

// Wherever making a snapshot stops, and whatever it left, the next start holds what the
// log holds; and the next snapshot is made.
func TestStopsWhileASnapshotIsMade(t *testing.T) {
	for n := 1; ; n++ {
		if n > 50 || t.Failed() {
			t.Fatal("the second snapshot does not begin")
		}
		steps, stopped := 0, ""
		t.Run(fmt.Sprintf("step %d", n), func(t *testing.T) {
			log, c, snaps := new(store.Memory), newClock(), new(store.MemorySnapshots)
			snaps.Fail = func(step string) error { // asked on one goroutine
				if steps++; steps < n {
					return nil
				}
				if stopped == "" {
					stopped = fmt.Sprintf("%s after %d steps", step, steps-1)
				}
				return errors.New("the world ends")
			}
			f := snapping(t, log, c, snaps)
			f.funded("acme", 1000)
			for i := range 10 {
				f.must(fmt.Sprintf("other-%d", i), "account.open", &ledger.OpenAccount{})
			}
			f.until("the step", func() bool { return f.w.snapshots.failed.Load() != nil || len(listed(t, snaps)) > 5 })
			if err := f.end(); err != nil {
				t.Fatal(err)
			}
			with, alone := offline(log, c, snaps), offline(log, c, nil)
			readAll(t, with)
			readAll(t, alone)
			if got, want := remembered(with), remembered(alone); got != want {
				t.Errorf("stopped at %s: holds\n%swant\n%s", stopped, got, want)
			}
			snaps.Fail = nil
			f = snapping(t, log, c, snaps)
			<-f.w.Ready()
			before := ""
			if l := listed(t, snaps); len(l) > 0 {
				before = l[0].ID
			}
			for range 6 { // commits with an event each: more than there are accounts
				f.must("acme", "credit.debit", debit(1))
			}
			f.until("the next snapshot", func() bool {
				l := listed(t, snaps)
				return len(l) > 0 && l[0].ID != before
			})
			if err := f.end(); err != nil {
				t.Fatal(err)
			}
			checkSnapshots(t, log, c, snaps)
			if l := listed(t, snaps); len(l) > 2 {
				t.Errorf("%d snapshots are kept", len(l))
			}
		})
		if strings.HasPrefix(stopped, "prune") && n > 1 {
			break // the second snapshot begins: all steps of the first were had
		}
	}
}

func listed(t *testing.T, snaps store.Snapshots) []store.Snapshot {
	t.Helper()
	list, err := snaps.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// What an operator sees: a line when one is made, a line when one is read, and the
// status.
func TestSnapshotsAreShown(t *testing.T) {
	log, c, snaps, lines := new(store.Memory), newClock(), new(store.MemorySnapshots), new(logged)
	logger := func(cfg *Config) { cfg.Logger = lines.logger() }
	f := snapping(t, log, c, snaps, logger)
	f.funded("acme", 1000)
	f.until("a snapshot", func() bool { return f.w.Stats().Snapshot != nil })
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	s := listed(t, snaps)[0]
	if text := lines.String(); !strings.Contains(text, "made a snapshot") || !strings.Contains(text, s.ID) {
		t.Errorf("logged %s", text)
	}
	c.advance(time.Hour)
	f = run(t, log, c, logger, func(cfg *Config) { cfg.Snapshots = snaps })
	<-f.w.Ready()
	if text := lines.String(); !strings.Contains(text, "read a snapshot") || !strings.Contains(text, fmt.Sprintf("replayed_from=0:%d", s.Sequence)) {
		t.Errorf("logged %s", text)
	}
	got, want := f.w.Stats().Snapshot, SnapshotStats{
		Position: fmt.Sprintf("0:%d", s.Sequence), AgeMS: time.Hour.Milliseconds(),
		Bytes: s.Bytes, Accounts: s.Accounts, TookMS: s.TookMS,
	}
	if got == nil || *got != want || s.Accounts != 1 || s.Bytes == 0 {
		t.Errorf("status %+v, want %+v", got, want)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// An account with many receipts is walked in pieces. What comes and what is forgotten
// between them is as if it had been one.
func TestReceiptsInPieces(t *testing.T) {
	now := events.At(start)
	for forgotten := range uint64(12) {
		r := newReceipts(10)
		for i := range uint64(10) {
			remember(r, "acme", idAt(now+events.Time(i), i), now, i)
		}
		again := newReceipts(10)
		for i, more := uint64(10), true; more; i++ {
			var piece []byte
			piece, more = r.appendSome(nil, "acme", 3)
			if err := again.restoreMore("acme", piece); err != nil {
				t.Fatal(err)
			}
			if i == 10 { // after the first piece: each new one makes it forget the oldest
				for n := range forgotten {
					remember(r, "acme", idAt(now+events.Time(10+n), 10+n), now, 10+n)
				}
			}
		}
		if got, want := again.appendAccount(nil, "acme"), r.appendAccount(nil, "acme"); string(got) != string(want) {
			t.Errorf("%d came between the pieces: restored as\n%x, want\n%x", forgotten, got, want)
		}
	}
}

// A long replay says every 5 s how far it is, and what remains.
func TestReplaySaysHowFarItIs(t *testing.T) {
	lines, began := new(logged), time.Now()
	p := progress{log: slog.New(slog.NewTextHandler(lines, nil)), last: began}
	at := func(after time.Duration, sequence uint64) string {
		before := len(lines.String())
		p.passed(began.Add(after), store.Chain{Sequence: sequence, Ordinal: 10 * sequence}, 1_000)
		return lines.String()[before:]
	}
	for _, after := range []time.Duration{0, progressEvery - 1} {
		if text := at(after, 1); text != "" {
			t.Errorf("after %s: %s", after, text)
		}
	}
	for i, want := range []string{
		"position=0:100 end=1000 events_per_second=200 remaining_commits=900 remaining_seconds=45",
		"position=0:600 end=1000 events_per_second=1000 remaining_commits=400 remaining_seconds=4",
	} {
		text := at(time.Duration(i+1)*progressEvery, []uint64{100, 600}[i])
		if !strings.Contains(text, want) {
			t.Errorf("logged %q, want %s", text, want)
		}
	}
}

// Nothing is written again while nothing happens, nor before the pause is over.
func TestWhenASnapshotIsDue(t *testing.T) {
	s := newSnapshots(&Config{Snapshots: new(store.MemorySnapshots), SnapshotEvery: 100, SnapshotPause: time.Hour})
	s.from = store.Chain{Sequence: 50, Ordinal: 1000}
	for _, row := range []struct {
		sequence, ordinal uint64
		accounts          int
		want              bool
	}{
		{50, 1000, 0, false},
		{100, 1049, 0, false},
		{100, 1050, 100, true},
		{100, 1050, 101, false},
		{51, 2000, 1001, true},
	} {
		if got := s.due(&store.Chain{Sequence: row.sequence, Ordinal: row.ordinal}, row.accounts); got != row.want {
			t.Errorf("%+v: due %t", row, got)
		}
	}
	s.walk = &walk{}
	if s.due(&store.Chain{Sequence: 1000}, 0) {
		t.Error("due while one is made")
	}
	s.endWalk(s.pause)
	if s.due(&store.Chain{Sequence: 1000}, 0) {
		t.Error("due in the pause")
	}
}

// After a restore a command id is answered from its receipt, for an account from the
// snapshot as for one from the tail.
func TestReceiptsComeBackWithASnapshot(t *testing.T) {
	log, c, snaps := new(store.Memory), newClock(), new(store.MemorySnapshots)
	f := snapping(t, log, c, snaps)
	f.funded("acme", 1000)
	ids := []ulid.ULID{c.id()}
	first := f.do("acme", "credit.debit", debit(1), ids[0])
	f.until("a snapshot of it", func() bool {
		s := f.w.Stats().Snapshot
		return s != nil && s.Position >= fmt.Sprintf("0:%d", first.Position.Sequence)
	})
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	f = run(t, log, c, func(cfg *Config) { cfg.Snapshots = snaps })
	again := f.do("acme", "credit.debit", debit(1), ids[0])
	if again.Err != nil || !again.Replayed || again.Position != first.Position || posted(again) != posted(first) {
		t.Errorf("retry: %+v, first %+v", again, first)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// A store that does not answer holds nobody up: the walk goes no further, commands do.
func TestSlowStoreHoldsNothingUp(t *testing.T) {
	log, c, snaps := new(store.Memory), newClock(), new(store.MemorySnapshots)
	stuck, asked := make(chan struct{}), make(chan struct{}, 1000)
	snaps.Fail = func(string) error {
		asked <- struct{}{}
		<-stuck
		return nil
	}
	f := snapping(t, log, c, snaps)
	f.funded("acme", 1000)
	<-asked
	for i := range 50 {
		f.must(fmt.Sprintf("other-%d", i), "account.open", &ledger.OpenAccount{})
	}
	if s := f.w.Stats().Snapshot; s != nil {
		t.Errorf("a snapshot %+v in a store that does not answer", s)
	}
	close(stuck)
	f.until("a snapshot", func() bool { return f.w.Stats().Snapshot != nil })
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	checkSnapshots(t, log, c, snaps)
}

// What is stored at once is never more than a message may hold, however large an account.
func TestChunksAreBounded(t *testing.T) {
	snaps, s := new(store.MemorySnapshots), store.NewSnapshot(0, 1)
	d := &storing{
		store: snaps, snapshot: &s, sum: sha256.New(), enough: snapshotChunkBytes,
		pace: rate.NewLimiter(rate.Inf, 0),
	}
	content := bytes.Repeat([]byte("keyledger"), snapshotChunkBytes/4)
	for _, err := range []error{d.add(t.Context(), content[:9]), d.add(t.Context(), content[9:]), d.finish(t.Context())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []byte
	err := snaps.Read(t.Context(), s.ID, func(chunk []byte) error {
		if len(chunk) > snapshotChunkBytes {
			t.Errorf("a chunk of %d bytes", len(chunk))
		}
		got = append(got, chunk...)
		return nil
	})
	sum := sha256.Sum256(content)
	if err != nil || !bytes.Equal(got, append(content, sum[:]...)) || s.Bytes != int64(len(got)) {
		t.Errorf("%d bytes came back, %v; want %d and their hash", len(got), err, len(content))
	}
}
