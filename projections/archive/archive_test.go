package archive

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// TestEveryTypeHasACode: an event whose type has none could not be told.
func TestEveryTypeHasACode(t *testing.T) {
	for _, kind := range events.Catalog {
		if !slices.Contains(types, kind.Name) {
			t.Errorf("%s has no code: add it at the end of types", kind.Name)
		}
	}
	if len(typeCode) != len(types) {
		t.Error("a type has two codes")
	}
}

// TestHistoryIsTheLog: while it grows, after restarts at any place, and made anew, every
// history is what the log says, and the files are the same to the byte.
func TestHistoryIsTheLog(t *testing.T) {
	h := newBench(t)
	dir := t.TempDir()
	tail := h.tail
	for range 12 {
		a := h.open(dir, tail, nil)
		stop := run(t, a)
		for range 3 {
			h.grow(h.random.IntN(200))
			h.reach(a)
			h.check(a)
		}
		stop()
		a.Close()
		tail = h.again()
		h.tail = tail
	}
	again := t.TempDir()
	a := h.open(again, h.again(), nil)
	stop := run(t, a)
	h.reach(a)
	h.check(a)
	stop()
	live, anew := files(t, dir), files(t, again)
	if !maps.Equal(live, anew) {
		t.Errorf("files %v made live, %v made anew, or they differ", slices.Sorted(maps.Keys(live)), slices.Sorted(maps.Keys(anew)))
	}
	if most := 3*(testFan-1) + 3; len(live) > most {
		t.Errorf("%d events lie in %d files", h.chain.Ordinal, len(live))
	}
	if n, err := a.Verify(t.Context()); n != 0 || err != nil {
		t.Errorf("%d files are damaged, %v", n, err)
	}
}

// logged is what an archive logged.
type logged struct{ strings.Builder }

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// TestStoppedAtEveryStep: wherever the making of a file stops, the next start has all of it
// and ends with the same files.
func TestStoppedAtEveryStep(t *testing.T) {
	h := newBench(t)
	h.grow(testSpan*testFan*2 + 10)
	whole := t.TempDir()
	a := h.open(whole, h.again(), nil)
	stop := run(t, a)
	h.reach(a)
	stop()
	want := files(t, whole)
	for _, step := range []string{stepWritten, stepSynced, stepRenamed, stepStored, stepMerged} {
		for nth := range 3 {
			t.Run(step, func(t *testing.T) {
				dir := t.TempDir()
				killed := errors.New("killed")
				ctx, kill := context.WithCancel(t.Context())
				a := h.open(dir, h.again(), nil)
				dead := false
				left := nth
				a.step = func(at string) error { // segments and merges are made at once
					a.cfg.Logger.Debug("step", "at", at)
					a.mu.Lock()
					defer a.mu.Unlock()
					if at == step {
						left--
					}
					if dead = dead || left < 0; dead {
						kill()
						return killed
					}
					return nil
				}
				if err := a.Run(ctx); err != nil {
					t.Fatal(err)
				}
				a.Close()
				for _, name := range []string{"0-00000000", "0-00000001.segment.index", "1-00000000.segment"} { // of a crash
					if err := os.WriteFile(filepath.Join(dir, name+suffixTemp), []byte(name), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				a = h.open(dir, h.again(), nil)
				stop := run(t, a)
				h.reach(a)
				h.check(a)
				stop()
				if got := files(t, dir); !maps.Equal(got, want) {
					t.Errorf("files %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
				}
			})
			if step == stepMerged && nth == 1 {
				break // there are two merges
			}
		}
	}
}

// TestDamageIsMadeAgain: a file that was changed in any byte, cut or removed gives no wrong
// answer; it is made again as it was.
func TestDamageIsMadeAgain(t *testing.T) {
	h := newBench(t)
	h.grow(testSpan*(testFan*testFan+testFan+2) + 10)
	dir := t.TempDir()
	a := h.open(dir, h.again(), nil)
	stop := run(t, a)
	h.reach(a)
	stop()
	a.Close()
	want := files(t, dir)
	if len(want) != 4 {
		t.Fatalf("made %v", slices.Sorted(maps.Keys(want)))
	}
	for name, text := range want {
		for range 5 {
			path := filepath.Join(dir, name)
			broken := []byte(text)
			switch h.random.IntN(4) {
			case 0:
				broken = broken[:h.random.IntN(len(broken))]
			default:
				broken[h.random.IntN(len(broken))] ^= 1 << h.random.IntN(8)
			}
			if err := os.WriteFile(path, broken, 0o600); err != nil {
				t.Fatal(err)
			}
			gone := h.random.IntN(4) == 0
			if gone {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			if log := h.remade(t, dir, want); log == "" && !gone {
				t.Error("nothing was logged")
			}
		}
	}
}

// remade opens an archive, some of whose files are not what they were, and sees that it
// makes them again without ever telling anything wrong.
func (h *bench) remade(t *testing.T, dir string, want map[string]string) string {
	t.Helper()
	var log logged
	a := h.open(dir, h.again(), log.logger())
	stop := run(t, a)
	h.reach(a)
	for account, all := range h.entries {
		h.reach(a)
		i := 0
		for e, err := range a.History(t.Context(), account, Filter{}) {
			if err != nil {
				break // found now, and made again
			}
			if e != all[i] {
				t.Fatalf("history of %s has %v and not %v", account, e, all[i])
			}
			i++
		}
	}
	if _, err := a.Verify(t.Context()); err != nil { // what no read came upon
		t.Fatal(err)
	}
	h.reach(a)
	h.check(a)
	stop()
	a.Close()
	if got := files(t, dir); !maps.Equal(got, want) {
		t.Fatalf("files %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	return log.String()
}

// TestAnotherLog: files of another log, or of one that went further, are thrown away; those
// up to where both are the same stay, however far the other log goes: a file is told by the
// hash at its end, and not only by the log that it is too long for.
func TestAnotherLog(t *testing.T) {
	for name, first := range map[string]int{"shorter": testSpan / 2, "longer": 7 * testSpan} {
		t.Run(name, func(t *testing.T) { anotherLog(t, first) })
	}
}

// anotherLog opens an archive of a log that is 3 spans longer than what both begin with on one
// that has first events behind that.
func anotherLog(t *testing.T, first int) {
	h := newBench(t)
	h.grow(testSpan*testFan + 2*testSpan)
	dir := t.TempDir()
	fork := *h
	a := h.open(dir, h.again(), nil)
	stop := run(t, a)
	h.reach(a)
	stop()
	a.Close()
	before := files(t, dir)

	fork.log, fork.entries = &store.Memory{}, map[string][]Entry{}
	for account, list := range h.entries {
		fork.entries[account] = slices.Clone(list)
	}
	for sequence := uint64(1); sequence <= h.chain.Sequence; sequence++ {
		data, err := h.log.Get(t.Context(), sequence)
		if err == nil {
			_, err = fork.log.Append(t.Context(), data, sequence-1)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fork.tail = fork.again()
	h.grow(3 * testSpan)
	a = h.open(dir, h.again(), nil)
	stop = run(t, a)
	h.reach(a)
	stop()
	a.Close()

	fork.grow(first)
	for range 3 {
		var log logged
		a = fork.open(dir, fork.again(), log.logger())
		stop = run(t, a)
		fork.reach(a)
		fork.check(a)
		stop()
		a.Close()
		after := files(t, dir)
		for name, text := range before {
			if after[name] != "" && after[name] != text {
				t.Errorf("%s is of both logs and is another one", name)
			}
		}
		fork.grow(2 * testSpan)
	}

	stranger := newBench(t)
	stranger.grow(4 * testSpan)
	a = stranger.open(dir, stranger.again(), nil)
	run(t, a)
	stranger.reach(a)
	stranger.check(a)
}

// TestErrorsOfTheLogAreNotTheEnd: a read that fails is tried again; a log that is damaged
// is not.
func TestErrorsOfTheLogAreNotTheEnd(t *testing.T) {
	h := newBench(t)
	h.grow(3 * testSpan)
	failures := 5
	h.log.ReadFault = func(uint64) error {
		if failures > 0 {
			failures--
			return errors.New("the network")
		}
		return nil
	}
	a := h.open(t.TempDir(), h.again(), nil)
	a.after = immediately
	stop := run(t, a)
	h.reach(a)
	stop()
	h.log.Damage(h.chain.Sequence-1, nil)
	a = h.open(t.TempDir(), h.again(), nil)
	var damaged *store.DamageError
	if err := a.Run(patience(t)); !errors.As(err, &damaged) || damaged.Sequence != h.chain.Sequence-1 {
		t.Errorf("Run on a damaged log: %v", err)
	}
}

// TestMixedDirectory: behind a gap the newest segment does not vouch for those before it: one
// of another log is made again.
func TestMixedDirectory(t *testing.T) {
	h, stranger := newBench(t), newBench(t)
	h.grow(testSpan*3 + 10)
	stranger.grow(testSpan*3 + 10)
	dir, other := t.TempDir(), t.TempDir()
	for where, of := range map[string]*bench{dir: h, other: stranger} {
		a := of.open(where, of.again(), nil)
		stop := run(t, a)
		of.reach(a)
		stop()
		a.Close()
	}
	want := files(t, dir)
	foreign := segmentName(0, 0)
	err := os.Rename(filepath.Join(other, foreign), filepath.Join(dir, foreign))
	if err := errors.Join(err, os.Remove(filepath.Join(dir, segmentName(0, 1)))); err != nil {
		t.Fatal(err)
	}
	a := h.open(dir, h.again(), nil)
	stop := run(t, a)
	h.reach(a)
	h.check(a)
	stop()
	if !maps.Equal(files(t, dir), want) {
		t.Errorf("files %v differ", slices.Sorted(maps.Keys(files(t, dir))))
	}
}
