package proof_test

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
)

// The tree is RFC 6962's at every size, in memory and in the file, and proves every
// commit in it and every tree before it.
func TestTreeIsThatOfTheRFC(t *testing.T) {
	const n = 67 // past two powers of two
	w := newWorld(t, n)
	size, root := w.tree.Head()
	if size != n || root != w.root(n) {
		t.Fatalf("%d commits with root %s, want %d with %s", size, root, n, w.root(n))
	}
	for size := 1; size <= n; size++ {
		root := w.root(size)
		if got, err := w.tree.RootAt(uint64(size)); err != nil || got != root {
			t.Fatalf("root of %d: %s, %v; want %s", size, got, err, root)
		}
		for index := range size {
			if _, _, err := w.inclusion(size, index).Check(w.key.Verifier()); err != nil {
				t.Fatalf("commit %d of %d: %v", index, size, err)
			}
			old := index + 1
			if _, _, err := w.consistency(size, old).Check(w.key.Verifier()); err != nil {
				t.Fatalf("%d in %d: %v", old, size, err)
			}
		}
	}
	for _, bad := range [][2]uint64{{0, 0}, {n + 1, 0}, {n, n}} {
		if _, err := w.tree.Inclusion(bad[0], bad[1]); err == nil {
			t.Errorf("a proof of commit %d of %d", bad[1], bad[0])
		}
	}
	for _, bad := range [][2]uint64{{0, 0}, {n, 0}, {n, n + 1}, {n + 1, n}} {
		if _, err := w.tree.Consistency(bad[0], bad[1]); err == nil {
			t.Errorf("a proof that %d begins with %d", bad[0], bad[1])
		}
	}
}

// A file is adopted at any size that it has whole, whatever is behind it, and goes on
// from there as if nothing had been.
func TestAdopt(t *testing.T) {
	const n = 20
	for size := 1; size <= n; size++ {
		w := newWorld(t, n)
		if err := w.tree.Sync(); err != nil {
			t.Fatal(err)
		}
		tree := w.open()
		if _, err := tree.RootAt(1); !errors.Is(err, proof.ErrShort) {
			t.Fatalf("nothing was adopted: %v", err)
		}
		if ok, err := tree.Adopt(uint64(size), w.root(size)); !ok || err != nil {
			t.Fatalf("adopt %d: %t, %v", size, ok, err)
		}
		w.tree = tree
		for _, c := range w.commits[size:] {
			if err := tree.Append(c.Hash); err != nil {
				t.Fatal(err)
			}
		}
		if _, root := tree.Head(); root != w.root(n) {
			t.Errorf("adopted at %d: root %s, want %s", size, root, w.root(n))
		}
		for index := range n {
			if _, _, err := w.inclusion(n, index).Check(w.key.Verifier()); err != nil {
				t.Errorf("adopted at %d: %v", size, err)
			}
		}
	}
}

// What does not have the signed root is not adopted, and changes nothing.
func TestAdoptRefuses(t *testing.T) {
	const n = 7 // edge: 4, 2, 1
	whole := tlog.StoredHashCount(n) * tlog.HashSize
	for name, change := range map[string]func(*testing.T, *world){
		"another root":  func(t *testing.T, w *world) { w.messages[3][40] ^= 1 },
		"a short file":  func(t *testing.T, w *world) { truncate(t, w.path, whole-1) },
		"an empty file": func(t *testing.T, w *world) { truncate(t, w.path, 0) },
		"the newest leaf flipped": func(t *testing.T, w *world) {
			flip(t, w.path, tlog.StoredHashIndex(0, 6)*tlog.HashSize+5)
		},
		"a node of the edge flipped": func(t *testing.T, w *world) {
			flip(t, w.path, tlog.StoredHashIndex(2, 0)*tlog.HashSize+31)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, n)
			if err := w.tree.Sync(); err != nil {
				t.Fatal(err)
			}
			change(t, w)
			tree := w.open()
			if ok, err := tree.Adopt(n, w.root(n)); ok || err != nil {
				t.Errorf("adopted: %t, %v", ok, err)
			}
			if size, _ := tree.Head(); size != 0 {
				t.Errorf("it has %d commits", size)
			}
		})
	}
	w := newWorld(t, n)
	for _, size := range []uint64{0, proof.SizeMax, proof.SizeMax + 1} {
		if ok, err := w.tree.Adopt(size, tlog.Hash{}); ok || err != nil {
			t.Errorf("adopted %d: %t, %v", size, ok, err)
		}
	}
}

// A write that fails loses nothing: the commit was not added, and the next try adds it.
func TestAppendFails(t *testing.T) {
	w := newWorld(t, 0)
	w.tree.Close()
	var added int
	var err error
	for ; err == nil; added++ {
		err = w.tree.Append(store.Hash{byte(added), byte(added >> 8)})
	}
	if size, _ := w.tree.Head(); size != uint64(added-1) {
		t.Errorf("%d commits after %d appends, of which the last failed with %v", size, added, err)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
