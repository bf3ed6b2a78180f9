package store_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// longRange is a range that is decoded by a goroutine of its own.
const longRange = 200

// fillLarge appends n commits, of which each has an account with some bytes of metadata.
func fillLarge(t *testing.T, log store.Log, n, bytesEach int) {
	t.Helper()
	chain := store.Chain{}
	for range n {
		c := follow(chain, 1)
		c.Entries[0].Events[0].Data = &events.Account{ID: "acme", Metadata: bytes.Repeat([]byte("x"), bytesEach)}
		if _, err := log.Append(t.Context(), encode(c), chain.Sequence); err != nil {
			t.Fatal(err)
		}
		chain = store.ChainAt(c)
	}
}

// TestReadCheckedInOrder: short and long ranges, of small and large commits, come whole, in
// order, and the chain moves with them.
func TestReadCheckedInOrder(t *testing.T) {
	for _, n := range []int{1, 31, 32, 33, longRange} {
		for _, size := range []int{0, 60 << 10, 200 << 10} {
			log := new(store.Memory)
			fillLarge(t, log, n, size)
			var chain store.Chain
			var got []uint64
			err := store.ReadChecked(t.Context(), log, &chain, uint64(n), func(c *store.Commit) error {
				if chain != store.ChainAt(c) {
					t.Errorf("commit %d was handed on while the chain was at %d", c.Sequence, chain.Sequence)
				}
				if a := c.Entries[0].Events[0].Data.(*events.Account); len(a.Metadata) != size {
					t.Errorf("commit %d has %d bytes, want %d", c.Sequence, len(a.Metadata), size)
				}
				got = append(got, c.Sequence)
				return nil
			})
			if err != nil || len(got) != n || !slices.IsSorted(got) || got[0] != 1 || chain.Sequence != uint64(n) {
				t.Errorf("%d commits of %d bytes: got %d, the chain is at %d, %v", n, size, len(got), chain.Sequence, err)
			}
		}
	}
}

// TestReadCheckedStops: whatever ends a long range, all before it was handed on, nothing
// behind it, and the chain says where.
func TestReadCheckedStops(t *testing.T) {
	errOurs, errDisk := errors.New("ours"), errors.New("disk")
	const at = 150
	for _, test := range []struct {
		name    string
		prepare func(log *store.Memory)
		handed  int    // commits that f got
		chain   uint64 // where it stopped
		check   func(err error) bool
	}{
		{"f fails", func(*store.Memory) {}, at, at, func(err error) bool { return errors.Is(err, errOurs) }},
		{"a read fails", func(log *store.Memory) {
			log.ReadFault = func(sequence uint64) error {
				if sequence == at {
					return errDisk
				}
				return nil
			}
		}, at - 1, at - 1, func(err error) bool { return errors.Is(err, errDisk) }},
		{"a message is damaged", func(log *store.Memory) { log.Damage(at, []byte("hello")) }, at - 1, at - 1, isDamageAt(at)},
		{"a message is missing", func(log *store.Memory) { log.Damage(at, nil) }, at - 1, at - 1, isDamageAt(at)},
		{"the end is missing", func(log *store.Memory) {
			for i := uint64(at); i <= longRange; i++ {
				log.Damage(i, nil)
			}
		}, at - 1, at - 1, isDamageAt(at)},
		{"a message is another's", func(log *store.Memory) {
			data, _ := log.Get(context.Background(), at+1)
			log.Damage(at, data)
		}, at - 1, at - 1, isDamageAt(at)},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := new(store.Memory)
			fill(t, log, store.Chain{}, longRange)
			test.prepare(log)
			var chain store.Chain
			handed := 0
			err := store.ReadChecked(t.Context(), log, &chain, longRange, func(*store.Commit) error {
				if handed++; handed == at {
					return errOurs
				}
				return nil
			})
			if !test.check(err) || handed != test.handed || chain.Sequence != test.chain {
				t.Errorf("handed on %d, the chain is at %d, %v; want %d and %d", handed, chain.Sequence, err, test.handed, test.chain)
			}
		})
	}
}

func isDamageAt(sequence uint64) func(error) bool {
	return func(err error) bool {
		var damage *store.DamageError
		return errors.As(err, &damage) && damage.Sequence == sequence
	}
}

// TestReadCheckedIsBounded: a reader that waits holds up what reads ahead of it, and when it
// is stopped nothing goes on.
func TestReadCheckedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 100 << 10
		log := new(store.Memory)
		fillLarge(t, log, longRange, size)
		read := uint64(0)
		log.ReadFault = func(sequence uint64) error { read = sequence; return nil }
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		handed := uint64(0)
		err := store.ReadChecked(ctx, log, new(store.Chain), longRange, func(c *store.Commit) error {
			handed = c.Sequence
			synctest.Wait()
			// Two messages fill a batch: one is here, two wait, and one waits to be handed over.
			if ahead := read - c.Sequence; ahead > 8 || ahead < 6 && c.Sequence < 100 {
				t.Errorf("at commit %d, %d were read", c.Sequence, read)
			}
			if c.Sequence == 100 {
				stop()
			}
			return nil
		})
		if err != context.Canceled || read > 108 || handed != 100 {
			t.Errorf("stopped with %v, %d were read and %d handed on", err, read, handed)
		}
	})
}

// BenchmarkReplay is reading a log of 200,000 events in memory, 500 a commit, with all
// checks: what every reader pays before it folds anything.
func BenchmarkReplay(b *testing.B) {
	const commits, perCommit = 400, 500
	log, chain := new(store.Memory), store.Chain{}
	for range commits {
		c := follow(chain, perCommit)
		if _, err := log.Append(b.Context(), encode(c), chain.Sequence); err != nil {
			b.Fatal(err)
		}
		chain = store.ChainAt(c)
	}
	b.ReportAllocs()
	for b.Loop() {
		at := store.Chain{}
		if err := store.ReadChecked(b.Context(), log, &at, commits, func(*store.Commit) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*commits*perCommit/b.Elapsed().Seconds(), "events/s")
}
