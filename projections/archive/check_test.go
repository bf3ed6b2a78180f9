package archive

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

// TestCheckEnds: where the archive cannot get to the log's end, a check says so and ends. A
// reader came upon damage, and there is no room to make the segment again.
func TestCheckEnds(t *testing.T) {
	h := newBench(t)
	a := h.open(t.TempDir(), h.tail, nil)
	var full atomic.Bool
	a.cfg.Room = func(int64) error {
		if full.Load() {
			return errors.New("no room")
		}
		return nil
	}
	a.patience = time.Second / 20
	run(t, a)
	h.grow(2*testSpan + 5)
	h.reach(a)
	full.Store(true)
	a.mu.RLock()
	first, start := a.held[0], a.start
	a.mu.RUnlock()
	a.drop(first)
	if _, err := a.checkOpen(patience(t), start, func(uint64, uint64) {}); err == nil || !strings.Contains(err.Error(), "did not get to the log's end in 50ms") {
		t.Errorf("the check of the open segment: %v", err)
	}
	if _, err := a.Check(patience(t), func(uint64, uint64) {}); err == nil || !strings.Contains(err.Error(), "did not get to the log's end in 50ms") {
		t.Errorf("the check: %v", err)
	}
}

// TestCheckOfManyAccounts: the open segment is compared a few accounts at a time, to the last
// of them, although commits come in between.
func TestCheckOfManyAccounts(t *testing.T) {
	h := newBench(t)
	a, err := Open(Config{Tail: h.tail, Dir: t.TempDir(), Span: 8 * checkAccounts, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	run(t, a)
	var last *store.Commit
	for i := range 3 * checkAccounts {
		e := h.samples[0]
		e.Account = fmt.Sprintf("account-%04d", i)
		last = h.push(e)
	}
	h.reach(a)
	b := &Archive{cfg: a.cfg}
	b.begin()
	o := &openCheck{a: a, b: b}
	pieces := 0
	if err := h.tail.Follow(patience(t), store.Chain{}, func(c *store.Commit) error {
		b.add(c)
		if c.Sequence < h.chain.Sequence {
			return nil
		}
		wrong, ahead, err := o.piece()
		if pieces++; ahead || wrong != "" {
			t.Errorf("piece %d: %q, ahead is %v", pieces, wrong, ahead)
		}
		h.push(h.samples[0])
		h.reach(a)
		if _, ahead, _ := o.piece(); !ahead && err == nil {
			t.Error("it compares what is at different commits")
		}
		return err
	}); !errors.Is(err, errSame) {
		t.Fatal(err)
	}
	if pieces < 3 {
		t.Errorf("%d pieces for %d accounts", pieces, 3*checkAccounts)
	}
	a.mu.Lock()
	a.open[historyPart].add(last, 0, last.Event(0))
	a.mu.Unlock()
	if wrong := h.checked(a); !strings.Contains(wrong, last.Event(0).Account) {
		t.Errorf("found is %q", wrong)
	}
}

// TestCheckKeepsWhatIsGood: a segment that was found wrong, and was made again by a reader
// before the check got to throw it away, stays.
func TestCheckKeepsWhatIsGood(t *testing.T) {
	h := newBench(t)
	a := h.open(t.TempDir(), h.tail, nil)
	run(t, a)
	h.grow(testSpan + 5)
	h.reach(a)
	list, _ := a.behind(store.Chain{})
	defer list[0].release()
	for round := range 2 {
		a.mu.RLock()
		held := a.held[0]
		a.mu.RUnlock()
		if err := a.remake(patience(t), list[0], func(uint64, uint64) {}); err != nil {
			t.Fatal(err)
		}
		h.reach(a)
		a.mu.RLock()
		kept := a.held[0] == held
		a.mu.RUnlock()
		if kept != (round > 0) { // the first time it is the wrong one itself
			t.Errorf("round %d: it is kept: %v", round, kept)
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
