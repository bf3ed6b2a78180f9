package writer

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// populated is a writer that does not run, with accounts that have a key, a balance of
// one grant and some receipts each.
func populated(accounts, receipts int) *Writer {
	w := New(Config{Snapshots: new(store.MemorySnapshots)})
	w.state, w.receipts = ledger.NewState(), newReceipts(accounts*max(receipts, 1))
	w.chain = store.Chain{Sequence: 10, Hash: store.Hash{1}, Ordinal: 10, Epoch: 1, Time: events.At(start)}
	w.sent = w.chain
	for i := range accounts {
		account := fmt.Sprintf("account-%07d", i)
		id := ulid.MustNew(uint64(i+1), bytes.NewReader(make([]byte, 10)))
		place := events.Balance{Environment: events.Test, Asset: "credits", Posted: 900, Available: 900}
		for _, data := range []events.Data{
			&events.Account{ID: account, Name: account, Status: events.Active, CreatedAt: events.At(start), Environments: events.Environments{Test: events.Environment{Enabled: true}}},
			&events.Key{ID: "key_" + id.String(), Account: account, Environment: events.Test, Name: "backend", Kind: events.Standard, Status: events.Active, Prefix: "kl_test_" + id.String(), CreatedAt: events.At(start)},
			&events.Granted{Grant: events.Grant{ID: "grant_" + id.String(), Environment: events.Test, Asset: "credits", Amount: 900}, Balance: place},
		} {
			w.state.Evolve(&events.Event{Account: account, Environment: events.Test, Data: data})
		}
		for n := range receipts {
			remember(w.receipts, account, idAt(events.At(start)+events.Time(n), uint64(n)), events.At(start), 10)
		}
	}
	return w
}

// walked makes the whole snapshot of a writer that does not run.
func walked(w *Writer) []byte {
	var content []byte
	w.beginWalk()
	for k := w.snapshots.walk; !k.handed; {
		w.walkOn(nil)
		content = append(content, (<-w.snapshots.slices).bytes...)
	}
	sum := sha256.Sum256(content)
	return append(content, sum[:]...)
}

// BenchmarkWalk is the writer's share of a snapshot: ns/account of its time.
func BenchmarkWalk(b *testing.B) {
	const accounts = 100_000
	w := populated(accounts, 1)
	turns, size := 0, 0
	for b.Loop() {
		memory := make([]byte, 0, 2*sliceBytes)
		w.beginWalk()
		for k := w.snapshots.walk; !k.handed; turns++ {
			w.walkOn(memory)
			size += len((<-w.snapshots.slices).bytes)
		}
	}
	per := b.Elapsed().Nanoseconds()
	b.ReportMetric(float64(per)/float64(b.N*accounts), "ns/account")
	b.ReportMetric(float64(per)/float64(turns), "ns/turn")
	b.ReportMetric(float64(size)/float64(b.N*accounts), "bytes/account")
}

// BenchmarkRestore is a start's share.
func BenchmarkRestore(b *testing.B) {
	const accounts = 100_000
	content := walked(populated(accounts, 1))
	for b.Loop() {
		r := newSnapshotReader(ledger.NewState(), accounts, func(store.Chain) error { return nil })
		for rest := content; len(rest) > 0; {
			n := min(len(rest), snapshotChunkBytes)
			if err := r.feed(rest[:n]); err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := r.finish(); err != nil || r.state.Accounts() != accounts {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*accounts)/b.Elapsed().Seconds(), "accounts/s")
}

// FuzzSnapshot feeds anything as a snapshot, in two pieces: it is refused or is one, and
// nothing panics. The SHA-256 is put right, so that what is behind it is reached.
func FuzzSnapshot(f *testing.F) {
	f.Add([]byte("KLS\x01"), 2)
	for _, w := range []*Writer{populated(0, 0), populated(2, 0), populated(1, 3)} {
		w.snapshots.receipts = 2
		content := walked(w)
		content = content[:len(content)-sha256.Size]
		f.Add(content, 9)
		f.Add(content[:len(content)/2], 0)
	}
	f.Fuzz(func(t *testing.T, content []byte, cut int) {
		sum := sha256.Sum256(content)
		content = append(content, sum[:]...)
		cut = min(max(cut, 0), len(content))
		r := newSnapshotReader(ledger.NewState(), 10, func(store.Chain) error { return nil })
		for _, piece := range [][]byte{content[:cut], content[cut:]} {
			if err := r.feed(piece); err != nil {
				return
			}
		}
		if err := r.finish(); err != nil {
			return
		}
		// What was accepted can be written and read again, to the same.
		w := New(Config{})
		w.state, w.receipts, w.chain, w.sent = r.state, r.receipts, r.base, r.base
		again := newSnapshotReader(ledger.NewState(), 10, func(store.Chain) error { return nil })
		if err := again.feed(walked(w)); err != nil {
			t.Fatalf("what was read is written as what cannot be read: %v", err)
		}
		if again.state.Digest() != r.state.Digest() || again.receipts.held != r.receipts.held {
			t.Fatal("it is another state when it is written and read again")
		}
	})
}
