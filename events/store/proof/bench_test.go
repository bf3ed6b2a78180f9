package proof_test

import (
	"encoding/binary"
	"math/bits"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
)

// BenchmarkAppend is what a commit costs beside the writer: hashing, and its share of the
// writes to the file.
func BenchmarkAppend(b *testing.B) {
	tree, path := openTree(b)
	b.ReportAllocs()
	for i := range uint64(b.N) {
		if err := tree.Append(numbered(i)); err != nil {
			b.Fatal(err)
		}
	}
	if err := tree.Sync(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/float64(b.N), "bytes/commit")
}

// The rest in a log of a million commits, all of it on the disk.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	tree, _ := openTree(b)
	for i := range uint64(n) {
		if err := tree.Append(numbered(i)); err != nil {
			b.Fatal(err)
		}
	}
	if err := tree.Sync(); err != nil {
		b.Fatal(err)
	}
	size, root := tree.Head()
	b.Run("inclusion", func(b *testing.B) {
		for i := range uint64(b.N) {
			if _, err := tree.Inclusion(size, bits.Reverse64(i)%size); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("consistency", func(b *testing.B) {
		for i := range uint64(b.N) {
			if _, err := tree.Consistency(size, 1+bits.Reverse64(i)%size); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("adopt", func(b *testing.B) {
		for range b.N {
			if ok, err := tree.Adopt(size, root); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
}

// BenchmarkSign is one signature, and BenchmarkCheck what audit check does with a proof.
func BenchmarkSign(b *testing.B) {
	w := newWorld(b, 3)
	c := w.checkpoint(3)
	for b.Loop() {
		if _, err := w.key.Sign(c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	w := newWorld(b, 1000)
	file := w.inclusion(1000, 500).Encode()
	for b.Loop() {
		if err := check(file, w.key.Public()); err != nil {
			b.Fatal(err)
		}
	}
}

func openTree(b *testing.B) (*proof.Tree, string) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "proof", "hashes")
	tree, err := proof.OpenTree(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { tree.Close() })
	return tree, path
}

func numbered(n uint64) (h store.Hash) {
	binary.BigEndian.PutUint64(h[:], n)
	return h
}
