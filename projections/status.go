package projections

import (
	"fmt"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Status says how far a projection, the feed or the key-value buckets are.
type Status struct {
	Name       string `json:"name"`
	Version    uint64 `json:"version,omitempty"` // of a projection
	Position   string `json:"position"`          // up to which it is true
	LagCommits uint64 `json:"lag_commits"`       // behind the acknowledged end
	LagEvents  uint64 `json:"lag_events"`        // likewise
	// LagMS is for how long the oldest acknowledged commit that it does not have yet has
	// been waiting, from this program's start at the earliest; 0 at the end.
	LagMS   int64  `json:"lag_ms"`
	Failure string `json:"failure,omitempty"` // why it does not go on, and where that happened
	// Rebuild says how far it is made from the log again, "0:42 of 0:97"; until it is there,
	// the one that was there before answers, if there was any.
	Rebuild string `json:"rebuild,omitempty"`
}

// Status returns the status of each projection, in the order they were given.
func (r *Runner) Status() []Status {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]Status, 0, len(r.slots))
	for i := range r.slots {
		s := &r.slots[i]
		place, failure := r.applied, ""
		if s.absent {
			place = store.Chain{Partition: r.applied.Partition}
		}
		if s.failure != nil {
			place, failure = s.failure.applied, fmt.Sprintf("stopped at %s: %v", s.failure.at, s.failure.err)
		}
		one := StatusAt(s.name, place, r.tail, failure)
		one.Version, one.Rebuild = s.Version(), r.works.progress(s.name)
		out = append(out, one)
	}
	return out
}

// StatusAt is the status of a reader that has come to place. The tail is asked after
// place was, so it is never behind it; only a writer that takes over may set the end back
// to the beginning for a moment: that is no lag.
func StatusAt(name string, place store.Chain, tail *store.Tail, failure string) Status {
	position := place.Position()
	out := Status{Name: name, Position: position.String(), Failure: failure}
	if end := tail.End(); end.Sequence > place.Sequence {
		out.LagCommits, out.LagEvents = end.Sequence-place.Sequence, end.Ordinal-place.Ordinal
		out.LagMS = tail.Waiting(place.Sequence).Milliseconds()
	}
	return out
}

// unavailable says why a slot that does not work cannot be asked.
func (r *Runner) unavailable(s *slot) *events.Error {
	if s.failure != nil {
		return events.Errorf(events.Unavailable,
			"the view %s stopped at %s and has to be repaired by the operator: keyledger projections rebuild %s", s.name, s.failure.at, s.name).
			With("projection", s.name).With("position", s.failure.at.String())
	}
	done := r.works.progress(s.name)
	if done == "" {
		done = "waiting"
	}
	return events.Errorf(events.Unavailable, "the view %s is being made from the log (%s); try again later", s.name, done).
		With("projection", s.name).With("progress", done)
}
