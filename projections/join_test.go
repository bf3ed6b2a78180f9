package projections

import (
	"errors"
	"testing"
)

// TestJoinReadsNothing: where the tail does not keep what is missing, as after a takeover,
// it is read before the views' lock is taken.
func TestJoinReadsNothing(t *testing.T) {
	h := newHistory(t)
	m := newModel(h, newRandom(t))
	for range 10 {
		m.commit(5)
	}
	v := NewViews(h.again(), 0, quiet())
	j := &job{r: v.Runner, work: &Work{}}
	for i := range v.slots {
		j.fresh = append(j.fresh, &fresh{Projection: v.slots[i].how.New(), slot: i})
	}
	for sequence := uint64(1); sequence <= h.chain.Sequence; sequence++ {
		c, err := h.tail.Commit(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		v.apply(c)
	}
	reads := 0
	h.log.ReadFault = func(uint64) error {
		reads++
		if !v.mu.TryLock() {
			t.Error("the log is read under the views' lock")
			return nil
		}
		v.mu.Unlock()
		return nil
	}
	if joined, err := j.join(); joined || err != nil {
		t.Errorf("joined: %t, %v", joined, err)
	}
	if err := j.follow(t.Context()); !errors.Is(err, errFinished) || reads == 0 {
		t.Errorf("%v after %d reads", err, reads)
	}
	sameViews(t, "joined", follow(t, h.again()), v)
}
