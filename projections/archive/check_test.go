package archive

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events/store"
)

// checked is what a check of an archive says.
func (h *bench) checked(a *Archive) string {
	h.t.Helper()
	wrong, err := a.Check(patience(h.t), func(uint64, uint64) {})
	if err != nil {
		h.t.Fatal(err)
	}
	if left, err := os.Stat(filepath.Join(a.cfg.Dir, checkDir)); err == nil {
		h.t.Errorf("left over: %s", left.Name())
	}
	return wrong
}

// forge writes a segment anew that lacks an event of its span. All its sums are right.
func (h *bench) forge(s *segment) {
	h.t.Helper()
	b := &Archive{cfg: Config{Tail: h.again()}}
	b.begin()
	b.start, b.applied = s.Start, s.Start
	for sequence := s.Start.Sequence + 1; sequence <= s.End.Sequence; sequence++ {
		c, err := b.cfg.Tail.Commit(h.t.Context(), sequence)
		if err != nil {
			h.t.Fatal(err)
		}
		if sequence > s.Start.Sequence+2 || c.EventCount() == 0 {
			b.add(c)
		}
	}
	f := footer{Fan: s.Fan, Span: s.Span, Level: s.Level, Number: s.Number, Start: s.Start, End: s.End}
	if err := writeOpen(filepath.Dir(s.path), f, &b.open, func(string) error { return nil }); err != nil {
		h.t.Fatal(err)
	}
}

// TestCheck: an archive that is what the log makes of it has nothing wrong, at any length.
// A segment that says something else, with all its sums right, is found and made again.
func TestCheck(t *testing.T) {
	h := newBench(t)
	dir := t.TempDir()
	a := h.open(dir, h.tail, nil)
	stop := run(t, a)
	for range 8 {
		if wrong := h.checked(a); wrong != "" {
			t.Fatalf("at %s: %s", h.chain.Position(), wrong)
		}
		h.grow(h.random.IntN(3 * testSpan))
	}
	h.grow(testSpan*testFan*testFan + 10) // there is one of level 2
	h.reach(a)
	a.mu.RLock()
	all := slices.Clone(a.held)
	a.mu.RUnlock()
	stop()
	a.Close()
	want := files(t, dir)
	for _, forged := range [][]*segment{all[:1], all[len(all)-1:], {all[0], all[len(all)-1]}} {
		for _, s := range forged {
			h.forge(s)
		}
		a = h.open(dir, h.again(), nil)
		stop = run(t, a)
		h.reach(a)
		first := forged[0].Start.Position().String() + " to " + forged[0].End.Position().String()
		if wrong := h.checked(a); !strings.Contains(wrong, first) {
			t.Errorf("%d of %d segments forged, and found is %q", len(forged), len(all), wrong)
		}
		h.reach(a)
		if wrong := h.checked(a); wrong != "" {
			t.Errorf("made again, and found is %q", wrong)
		}
		stop()
		a.Close()
		if got := files(t, dir); !maps.Equal(got, want) {
			t.Fatalf("files %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
}

// TestCheckOfTheOpenSegment finds what is wrong in memory, and has it made again.
func TestCheckOfTheOpenSegment(t *testing.T) {
	h := newBench(t)
	h.grow(testSpan + testSpan/2)
	a := h.open(t.TempDir(), h.tail, nil)
	run(t, a)
	h.reach(a)
	c := h.push(h.samples[0])
	if err := a.Wait(patience(t), h.chain.Sequence); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	a.open[historyPart].add(c, 0, c.Event(0)) // twice
	a.mu.Unlock()
	if wrong := h.checked(a); !strings.Contains(wrong, "the history of account "+h.samples[0].Account+" from ") {
		t.Errorf("found is %q", wrong)
	}
	h.reach(a)
	if wrong := h.checked(a); wrong != "" {
		t.Errorf("made again, and found is %q", wrong)
	}
}

// TestCheckWhileCommandsRun: the open segment is compared although commits come in all the
// time, and segments are stored and merged.
func TestCheckWhileCommandsRun(t *testing.T) {
	h := newBench(t)
	h.grow(testSpan * testFan)
	a := h.open(t.TempDir(), h.tail, nil)
	run(t, a)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 60 {
			h.grow(5)
			if err := a.Wait(patience(t), h.chain.Sequence); err != nil {
				t.Error(err)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if wrong := h.checked(a); wrong != "" {
			t.Error(wrong)
		}
	}
}

// TestCheckLeavesNothingBehind: what a crash in the middle left goes at the next start.
func TestCheckLeavesNothingBehind(t *testing.T) {
	h := newBench(t)
	dir := t.TempDir()
	left := filepath.Join(dir, checkDir, segmentName(0, 0))
	if err := os.MkdirAll(filepath.Dir(left), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.open(dir, h.again(), nil)
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("left over: %v", slices.Collect(maps.Keys(got)))
	}
	h.log.Damage(1, nil)
	a := h.open(dir, h.again(), nil)
	a.start, a.applied = store.Chain{}, h.chain // as if it had it
	if wrong, err := a.Check(patience(t), nil); err == nil {
		t.Errorf("on a damaged log: %q", wrong)
	}
}
