package archive

import (
	"errors"
	"maps"
	"slices"
	"testing"
)

// TestDropWhileStoring: readers find damage at any time, also while a segment is being
// stored. Whatever the order, no file is stored that lacks events of its span.
func TestDropWhileStoring(t *testing.T) {
	h := newBench(t)
	h.grow(testSpan*testFan*2 + 10)
	whole, dir := t.TempDir(), t.TempDir()
	w := h.open(whole, h.again(), nil)
	stop := run(t, w)
	h.reach(w)
	stop()
	a := h.open(dir, h.again(), nil)
	a.after = immediately
	stop = run(t, a)
	for range 40 {
		for { // as soon as there is one
			a.mu.RLock()
			held := a.held
			a.mu.RUnlock()
			if len(held) > 0 {
				a.drop(held[h.random.IntN(len(held))])
				break
			}
		}
	}
	h.reach(a)
	h.check(a)
	stop()
	if got, want := files(t, dir), files(t, whole); !maps.Equal(got, want) {
		t.Errorf("files %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// TestStoredInVain: a segment that is stored while one before it is thrown away leaves no
// file behind.
func TestStoredInVain(t *testing.T) {
	h := newBench(t)
	h.grow(testSpan*3 + 10)
	dir := t.TempDir()
	a := h.open(dir, h.again(), nil)
	a.step = func(at string) error {
		if at == stepWritten && len(a.held) == 1 { // nobody else changes it now
			a.drop(a.held[0])
		}
		return nil
	}
	var err error
	for sequence := uint64(1); err == nil; sequence++ {
		c, failed := h.tail.Commit(t.Context(), sequence)
		if failed != nil {
			t.Fatal(failed)
		}
		err = a.apply(c)
	}
	if !errors.Is(err, errAgain) {
		t.Fatal(err)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left %v", slices.Sorted(maps.Keys(left)))
	}
}
