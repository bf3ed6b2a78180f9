package store_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// TestUntil: what is found is what looking at every commit finds, also where several have
// one time, and an error ends the search.
func TestUntil(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var now events.Time
		list := rapid.Custom(func(t *rapid.T) *store.Commit {
			now += events.Time(rapid.IntRange(0, 2).Draw(t, "later"))
			return &store.Commit{Time: now}
		})
		commits := rapid.SliceOf(list).Draw(t, "commits")
		end := uint64(rapid.IntRange(0, len(commits)).Draw(t, "end"))
		limit := events.Time(rapid.IntRange(-1, int(now)+1).Draw(t, "limit"))
		var want uint64
		var last *store.Commit
		for i, c := range commits[:end] {
			if c.Sequence = uint64(i) + 1; c.Time <= limit {
				want, last = c.Sequence, c
			}
		}
		got, found, err := store.Until(end, limit, func(sequence uint64) (*store.Commit, error) { return commits[sequence-1], nil })
		if err != nil || got != want || found != last {
			t.Fatalf("found %d %v, %v; want %d", got, found, err, want)
		}
	})
	broken := errors.New("cannot be read")
	for at := uint64(1); at <= 9; at++ {
		asked := 0
		_, _, err := store.Until(9, 5, func(sequence uint64) (*store.Commit, error) {
			if asked++; sequence <= at {
				return nil, broken
			}
			return &store.Commit{Time: 9}, nil
		})
		if !errors.Is(err, broken) || asked > 4 {
			t.Errorf("%v after %d commits", err, asked)
		}
	}
}
