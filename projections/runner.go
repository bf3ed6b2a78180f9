package projections

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Runner follows the log from its beginning and hands each acknowledged commit to every
// projection. It applies a commit to all of them in one step that no reader can see the
// middle of.
type Runner struct {
	tail *store.Tail
	log  *slog.Logger

	mu      sync.RWMutex // guards all below and whatever the projections hold
	applied store.Chain
	slots   []slot
	failed  int // how many of slots failed

	waitMu  sync.Mutex
	reached uint64        // guarded by waitMu: applied.Sequence
	moved   chan struct{} // guarded by waitMu: closes when reached moves; nil when nobody waits
}

// slot is a projection with its state.
type slot struct {
	Projection
	failure *failure // nil while it works
}

// failure says where and why a projection stopped.
type failure struct {
	applied store.Chain     // the last commit it took
	at      events.Position // the commit it failed at
	err     error
}

// NewRunner makes a Runner of one partition. The projections must be new and belong to
// the Runner from now on; what they hold is read under its lock only.
func NewRunner(tail *store.Tail, partition uint32, logger *slog.Logger, projections ...Projection) *Runner {
	r := &Runner{tail: tail, log: logger, applied: store.Chain{Partition: partition}}
	for _, p := range projections {
		r.slots = append(r.slots, slot{Projection: p})
	}
	return r
}

// Run applies commits until ctx ends, then it returns nil. It returns a
// *store.DamageError where the log is not what was written: what stands before it stays
// applied. A projection that fails stops alone and is no error of Run.
func (r *Runner) Run(ctx context.Context) error {
	err := r.tail.Follow(ctx, r.Applied(), func(c *store.Commit) error {
		r.apply(c)
		return nil
	})
	if err != nil {
		return fmt.Errorf("project the log: %w", err)
	}
	return nil
}

// apply folds one commit into every projection that still works.
func (r *Runner) apply(c *store.Commit) {
	r.mu.Lock()
	for i := range r.slots {
		s := &r.slots[i]
		if s.failure != nil {
			continue
		}
		if err := applyOne(s.Projection, c); err != nil {
			at := store.ChainAt(c)
			s.failure = &failure{applied: r.applied, at: at.Position(), err: err}
			r.failed++
			r.log.Error("a projection failed and stopped; its queries are unavailable, the others go on",
				"projection", s.Name(), "position", s.failure.at.String(), "error", err)
		}
	}
	r.applied = store.ChainAt(c)
	r.mu.Unlock()

	r.waitMu.Lock()
	defer r.waitMu.Unlock()
	r.reached = c.Sequence
	if r.moved != nil {
		close(r.moved)
		r.moved = nil
	}
}

// applyOne makes a panic a failure too: a view that cannot take an event must not stop
// the writer, which runs in the same process.
func applyOne(p Projection, c *store.Commit) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	index := 0
	for i := range c.Entries {
		list := c.Entries[i].Events
		for j := range list {
			if err := p.Apply(c, index, &list[j]); err != nil {
				return err
			}
			index++
		}
	}
	return nil
}

// Applied returns the place of the last applied commit.
func (r *Runner) Applied() store.Chain {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.applied
}

// Wait returns when the commit at sequence has been applied, or with an error that wraps
// ctx's when ctx ends first. A failed projection does not make it wait longer.
func (r *Runner) Wait(ctx context.Context, sequence uint64) error {
	for {
		r.waitMu.Lock()
		reached := r.reached
		if reached >= sequence {
			r.waitMu.Unlock()
			return nil
		}
		if r.moved == nil {
			r.moved = make(chan struct{})
		}
		moved := r.moved
		r.waitMu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for sequence %d, applied up to %d: %w", sequence, reached, ctx.Err())
		}
	}
}

// Status says how far a projection, the feed or the key-value buckets are.
type Status struct {
	Name       string `json:"name"`
	Position   string `json:"position"`          // up to which it is true
	LagCommits uint64 `json:"lag_commits"`       // behind the acknowledged end
	LagEvents  uint64 `json:"lag_events"`        // likewise
	Failure    string `json:"failure,omitempty"` // why it does not go on, and where that happened
}

// Status returns the status of each projection, in the order they were given.
func (r *Runner) Status() []Status {
	r.mu.RLock()
	defer r.mu.RUnlock()
	// Asked for after the lock was got, the end is never behind what was applied.
	end := r.tail.End()
	out := make([]Status, 0, len(r.slots))
	for i := range r.slots {
		s := &r.slots[i]
		if s.failure == nil {
			out = append(out, StatusAt(s.Name(), r.applied, end, ""))
			continue
		}
		out = append(out, StatusAt(s.Name(), s.failure.applied, end,
			fmt.Sprintf("stopped at %s: %v", s.failure.at, s.failure.err)))
	}
	return out
}

// StatusAt is the status of a reader that has come to place. A writer that takes over
// may set the end back to the beginning for a moment: that is no lag.
func StatusAt(name string, place, end store.Chain, failure string) Status {
	position := place.Position()
	out := Status{Name: name, Position: position.String(), Failure: failure}
	if end.Sequence > place.Sequence {
		out.LagCommits, out.LagEvents = end.Sequence-place.Sequence, end.Ordinal-place.Ordinal
	}
	return out
}

// read runs f while nothing is applied and returns the position at which all that f saw
// is true. It answers Unavailable instead when a view that f needs has failed.
func (r *Runner) read(f func() *events.Error, needs ...Projection) (events.Position, *events.Error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.failed > 0 {
		for i := range r.slots {
			s := &r.slots[i]
			if s.failure != nil && slices.Contains(needs, s.Projection) {
				return events.Position{}, events.Errorf(events.Unavailable,
					"the view %s stopped at %s and has to be repaired by the operator", s.Name(), s.failure.at).
					With("projection", s.Name()).With("position", s.failure.at.String())
			}
		}
	}
	if err := f(); err != nil {
		return events.Position{}, err
	}
	return r.applied.Position(), nil
}
