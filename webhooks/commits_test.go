package webhooks

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyledger/keyledger/events/store"
)

// A commit of the past is read once for all deliveries of an account that want it at once, and
// kept among the last; one that is in memory is not read.
func TestCommitCache(t *testing.T) {
	const readers = 50
	var reads []string
	entered, gate := make(chan struct{}), make(chan struct{})
	var first sync.Once
	var asked atomic.Int64
	k := &commitCache{
		kept: func(sequence uint64) *store.Commit {
			if asked.Add(1) == readers+1 {
				close(gate)
			}
			if sequence == 1000 {
				return &store.Commit{Sequence: sequence}
			}
			return nil
		},
	}
	k.read = func(_ context.Context, sequence uint64, account string) (*store.Commit, error) {
		reads = append(reads, account)
		if sequence == 999 {
			return nil, errors.New("cannot be read")
		}
		first.Do(func() { close(entered); <-gate })
		return &store.Commit{Sequence: sequence}, nil
	}
	get := func(sequence uint64, account string) *store.Commit {
		c, err := k.get(t.Context(), sequence, account)
		if err != nil || c.Sequence != sequence {
			t.Errorf("commit %d: %v, %v", sequence, c, err)
		}
		return c
	}
	var all sync.WaitGroup
	all.Go(func() { get(1, "a") })
	<-entered
	for range readers {
		all.Go(func() { get(1, "a") })
	}
	all.Wait()
	get(1, "a")
	get(1000, "a")
	if !slices.Equal(reads, []string{"a"}) || asked.Load() != readers+3 {
		t.Errorf("read for %v", reads)
	}
	get(1, "b")
	if !slices.Equal(reads, []string{"a", "b"}) {
		t.Errorf("for another account: read for %v", reads)
	}
	for range 2 {
		if _, err := k.get(t.Context(), 999, "a"); err == nil {
			t.Error("a commit that cannot be read")
		}
	}
	if len(reads) != 4 {
		t.Errorf("what failed is read again: read for %v", reads)
	}
	for sequence := range uint64(commitsKept - 1) {
		get(sequence+2, "c")
	}
	reads = nil
	if get(1, "b"); len(reads) != 0 {
		t.Error("one of the last is not kept")
	}
	get(100, "c")
	if get(1, "b"); len(reads) != 2 {
		t.Errorf("read for %v: the oldest is kept", reads)
	}
}
