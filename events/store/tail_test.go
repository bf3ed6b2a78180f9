package store_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyledger/keyledger/events/store"
)

// follower is a Follow in a goroutine of a synctest bubble.
type follower struct {
	commits chan *store.Commit
	done    chan error
	stop    context.CancelFunc
}

func startFollower(t *testing.T, tail *store.Tail, from store.Chain) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{commits: make(chan *store.Commit, 100), done: make(chan error, 1), stop: cancel}
	go func() {
		f.done <- tail.Follow(ctx, from, func(c *store.Commit) error { f.commits <- c; return nil })
	}()
	t.Cleanup(cancel)
	return f
}

// expect wants exactly these commits by the time the follower waits.
func (f *follower) expect(t *testing.T, want ...*store.Commit) {
	t.Helper()
	synctest.Wait()
	for _, w := range want {
		if got := receive(t, f.commits, "a commit"); got.Sequence != w.Sequence || got.Hash != w.Hash {
			t.Fatalf("got commit %d %s, want %d %s", got.Sequence, got.Hash, w.Sequence, w.Hash)
		}
	}
	if n := len(f.commits); n != 0 {
		t.Fatalf("%d commits more than wanted, the first is %d", n, (<-f.commits).Sequence)
	}
}

// end stops the follower, which returns no error.
func (f *follower) end(t *testing.T) {
	t.Helper()
	f.stop()
	if err := receive(t, f.done, "the follower's end"); err != nil {
		t.Errorf("Follow: %v", err)
	}
}

// inBubble gives f a log of n commits and a tail that does not know its end yet.
func inBubble(t *testing.T, n int, f func(t *testing.T, log *store.Memory, tail *store.Tail, commits []*store.Commit)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		log := new(store.Memory)
		f(t, log, store.NewTail(log, 0), fill(t, log, store.Chain{}, n))
	})
}

// TestFollow: stored commits first, then those pushed, wherever it begins.
func TestFollow(t *testing.T) {
	for name, from := range map[string]uint64{"the beginning": 0, "the middle": 17, "the end": 20} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 30, func(t *testing.T, _ *store.Memory, tail *store.Tail, commits []*store.Commit) {
				var begin store.Chain
				if from > 0 {
					begin = store.ChainAt(commits[from-1])
				}
				tail.Reset(store.ChainAt(commits[19]))
				f := startFollower(t, tail, begin)
				f.expect(t, commits[from:20]...)
				for _, c := range commits[20:] {
					tail.Push(c)
					f.expect(t, c)
					if tail.End() != store.ChainAt(c) {
						t.Errorf("the end is %+v behind commit %d", tail.End(), c.Sequence)
					}
				}
				// A late reader finds the pushed ones in memory, the others in the log.
				late := startFollower(t, tail, begin)
				late.expect(t, commits[from:]...)
				late.end(t)
				f.end(t)
			})
		})
	}
}

// TestFollowStopsAtTheAcknowledgedEnd: what is stored but not acknowledged may still
// come to be answered "unknown"; no reader sees it before.
func TestFollowStopsAtTheAcknowledgedEnd(t *testing.T) {
	inBubble(t, 10, func(t *testing.T, _ *store.Memory, tail *store.Tail, commits []*store.Commit) {
		f := startFollower(t, tail, store.Chain{})
		f.expect(t) // the end is not known yet
		tail.Reset(store.ChainAt(commits[2]))
		f.expect(t, commits[:3]...)
		tail.Push(commits[3])
		f.expect(t, commits[3])
		tail.Reset(store.ChainAt(commits[8]))
		f.expect(t, commits[4:9]...)
		f.end(t)
	})
}

// TestFollowSharesWhatWasPushed: at the head nothing is decoded.
func TestFollowSharesWhatWasPushed(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, log *store.Memory, tail *store.Tail, commits []*store.Commit) {
		for i, c := range commits {
			tail.Push(c)
			log.Damage(uint64(i+1), nil) // it is not even looked for
		}
		f := startFollower(t, tail, store.Chain{})
		for _, c := range commits {
			if receive(t, f.commits, "a commit") != c {
				t.Errorf("commit %d was decoded again", c.Sequence)
			}
		}
		f.end(t)
	})
}

// TestTailForgets: memory holds a bounded number of events; older commits are read from
// the log.
func TestTailForgets(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, log *store.Memory, tail *store.Tail, _ []*store.Commit) {
		var chain store.Chain
		for range 3 { // 60,000 events each
			c := follow(chain, 1000)
			for i := range c.Entries {
				one := c.Entries[i].Events[0]
				for range 59 {
					c.Entries[i].Events = append(c.Entries[i].Events, one)
				}
			}
			if _, err := log.Append(t.Context(), encode(c), chain.Sequence); err != nil {
				t.Fatal(err)
			}
			tail.Push(c)
			chain = store.ChainAt(c)
		}
		for sequence, kept := range map[uint64]bool{1: false, 2: false, 3: true} {
			log.Damage(sequence, nil)
			if _, err := tail.Commit(t.Context(), sequence); (err == nil) != kept {
				t.Errorf("commit %d kept in memory: %t, want %t", sequence, err == nil, kept)
			}
		}
	})
}

// TestFollowFindsDamage: a reader stops at the first commit that is not what was
// written, and never gives it out.
func TestFollowFindsDamage(t *testing.T) {
	other := encode(follow(store.Chain{Sequence: 4, Hash: store.Hash{1}, Ordinal: 4, Epoch: 1, Time: 4}, 1))
	for name, test := range map[string]struct {
		at   uint64
		with []byte
	}{
		"the first is missing":      {1, nil},
		"one is missing":            {5, nil},
		"the last is missing":       {10, nil},
		"one is of another history": {5, other},
		"one is something else":     {5, []byte("hello")},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 10, func(t *testing.T, log *store.Memory, tail *store.Tail, commits []*store.Commit) {
				log.Damage(test.at, test.with)
				tail.Reset(store.ChainAt(commits[9]))
				f := startFollower(t, tail, store.Chain{})
				checkDamage(t, receive(t, f.done, "the follower's end"), test.at)
				f.expect(t, commits[:test.at-1]...)
			})
		})
	}
}

// TestFollowChecksWhatIsPushed: a reader whose own place is of another history stops.
func TestFollowChecksWhatIsPushed(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, _ *store.Memory, tail *store.Tail, commits []*store.Commit) {
		tail.Push(commits[0])
		tail.Push(commits[1])
		strayed := store.ChainAt(commits[0])
		strayed.Hash = store.Hash{1}
		f := startFollower(t, tail, strayed)
		checkDamage(t, receive(t, f.done, "the follower's end"), 2)
	})
}

// TestFollowFromBeyondTheEnd: a place the log never reached proves that it lost
// something.
func TestFollowFromBeyondTheEnd(t *testing.T) {
	inBubble(t, 10, func(t *testing.T, _ *store.Memory, tail *store.Tail, commits []*store.Commit) {
		tail.Reset(store.ChainAt(commits[4]))
		f := startFollower(t, tail, store.ChainAt(commits[9]))
		if err := receive(t, f.done, "the follower's end"); err == nil {
			t.Error("followed from commit 10 of a log that ends at 5")
		}
	})
}

func TestFollowReturnsItsCalleesError(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, _ *store.Memory, tail *store.Tail, commits []*store.Commit) {
		tail.Reset(store.ChainAt(commits[1]))
		tail.Push(commits[2])
		for _, from := range []store.Chain{{}, store.ChainAt(commits[1])} { // from the log, from memory
			err := tail.Follow(t.Context(), from, func(*store.Commit) error { return errStop })
			if err != errStop {
				t.Errorf("Follow from %d: %v, want %v", from.Sequence, err, errStop)
			}
		}
	})
}

// TestTailCommit: one commit, from memory or the log, checked, and never one that is
// not acknowledged.
func TestTailCommit(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, log *store.Memory, tail *store.Tail, commits []*store.Commit) {
		tail.Reset(store.ChainAt(commits[2]))
		tail.Push(commits[3])
		for sequence := uint64(1); sequence <= 4; sequence++ {
			c, err := tail.Commit(t.Context(), sequence)
			if err != nil || c.Hash != commits[sequence-1].Hash {
				t.Errorf("commit %d is %+v, %v", sequence, c, err)
			}
		}
		for _, sequence := range []uint64{0, 5, 6, 1<<64 - 1} {
			if c, err := tail.Commit(t.Context(), sequence); !errors.Is(err, store.ErrNoMessage) {
				t.Errorf("commit %d of 4 is %+v, %v; want %v", sequence, c, err, store.ErrNoMessage)
			}
		}
		log.Damage(1, encode(commits[1])) // a commit, but not this one
		log.Damage(2, []byte("hello"))
		for _, sequence := range []uint64{1, 2} {
			_, err := tail.Commit(t.Context(), sequence)
			checkDamage(t, err, sequence)
		}
	})
}

// TestTailTimes: how long ago a commit was acknowledged, and for how long a reader has been
// behind, wherever it is; commits of before the start count from the start.
func TestTailTimes(t *testing.T) {
	inBubble(t, 6, func(t *testing.T, _ *store.Memory, tail *store.Tail, commits []*store.Commit) {
		pass := func(d time.Duration) { <-time.After(d) }
		pass(time.Hour)
		tail.Reset(store.ChainAt(commits[2]))
		pass(time.Second)
		tail.Push(commits[3])
		pass(time.Minute)
		tail.Push(commits[4])
		pass(time.Millisecond)
		for sequence, want := range map[uint64]time.Duration{
			0: time.Minute + time.Second + time.Millisecond, 2: time.Minute + time.Second + time.Millisecond,
			3: time.Minute + time.Millisecond, 4: time.Millisecond, 5: 0, 9: 0,
		} {
			if got := tail.Waiting(sequence); got != want {
				t.Errorf("a reader at %d is %s behind, want %s", sequence, got, want)
			}
		}
		for sequence, want := range map[uint64]time.Duration{4: time.Minute + time.Millisecond, 5: time.Millisecond} {
			if got, known := tail.Acknowledged(sequence); !known || got != want {
				t.Errorf("commit %d was acknowledged %s ago (%t), want %s", sequence, got, known, want)
			}
		}
		for _, sequence := range []uint64{0, 3, 6} {
			if got, known := tail.Acknowledged(sequence); known {
				t.Errorf("commit %d was acknowledged %s ago", sequence, got)
			}
		}
	})
}

// TestTailTimesOfWhatIsForgotten are kept for some commits: they tell how far behind a slow
// reader is to within 100 ms, and after hours a little less exactly.
func TestTailTimesOfWhatIsForgotten(t *testing.T) {
	for name, test := range map[string]struct {
		commits, apart int // apart in ms
		within         time.Duration
	}{
		"seconds": {600, 10, 100 * time.Millisecond},
		"hours":   {4000, 10_000, 80 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 0, func(t *testing.T, _ *store.Memory, tail *store.Tail, _ []*store.Commit) {
				began := time.Now()
				pushed := []time.Duration{0}
				big := follow(store.Chain{}, 1)
				one := big.Entries[0].Events[0]
				for range 2_000 {
					big.Entries[0].Events = append(big.Entries[0].Events, one)
				}
				for sequence := uint64(1); sequence <= uint64(test.commits); sequence++ {
					<-time.After(time.Duration(test.apart) * time.Millisecond)
					c := *big
					c.Sequence = sequence
					tail.Push(&c)
					pushed = append(pushed, time.Since(began))
				}
				for sequence := range uint64(test.commits) {
					want := time.Since(began) - pushed[sequence+1]
					if got := tail.Waiting(sequence); got < want || got > want+test.within {
						t.Errorf("a reader at %d is %s behind, want %s", sequence, got, want)
					}
				}
			})
		})
	}
}
