package archive

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// stolen is a turn between whose wait and whose reading a file is found damaged, once.
type stolen struct {
	a       *Archive
	reading bool
	waits   int
}

func (s *stolen) Read(context.Context) *events.Error {
	s.reading = true
	if s.waits == 0 {
		s.a.drop(s.a.held[0])
	}
	return nil
}

func (s *stolen) Wait(context.Context) *events.Error {
	s.reading = false
	s.waits++
	return nil
}

// TestWhatWasWaitedForIsThere: what the archive had when it was waited for and lost before
// it was read is waited for again, and meanwhile others may read.
func TestWhatWasWaitedForIsThere(t *testing.T) {
	h := newBench(t)
	h.grow(testSpan*2 + 10)
	end := h.chain.Position()
	for name, ask := range map[string]func(context.Context, *Archive) (int, error){
		"past": func(ctx context.Context, a *Archive) (n int, err error) {
			err = a.Past(ctx, "hot", end, func(*store.Commit, int) error { n++; return nil })
			return n, err
		},
		"usage": func(ctx context.Context, a *Archive) (n int, err error) {
			at, err := a.Usage(ctx, end.Sequence, Ledger, 0, 1<<50, func(*UsageRow) error { n++; return nil })
			if err == nil && at != end {
				t.Errorf("usage at %s, want %s", at, end)
			}
			return n, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := h.open(dir, h.again(), nil)
			stop := run(t, a)
			h.reach(a)
			stop()
			want, err := ask(t.Context(), a)
			if err != nil || want == 0 {
				t.Fatal(want, err)
			}
			synctest.Test(t, func(t *testing.T) {
				turn := &stolen{a: a}
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					if n, err := ask(store.WithTurn(t.Context(), turn), a); n != want || err != nil {
						t.Errorf("%d of %d, %v", n, want, err)
					}
				}()
				synctest.Wait()
				if turn.waits == 0 || turn.reading {
					t.Errorf("it reads while it waits: waited %d times", turn.waits)
				}
				run(t, a)
				<-ended
				if !turn.reading {
					t.Error("it read without a turn")
				}
			})
		})
	}
}
