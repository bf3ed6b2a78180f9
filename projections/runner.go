package projections

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

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
	failed  int      // how many of slots failed
	known   []string // accounts, in the order in which they were opened
	unread  *unread  // what a checkpoint holds and is not loaded yet; nil: nothing
	listed  int      // how many of known the loader has come by
	skip    []bool   // memory of prepare
	saving  checkpoints

	loaded chan struct{} // closes when all that was unread is loaded
	hurry  chan struct{} // somebody waits for that

	waitMu  sync.Mutex
	reached uint64        // guarded by waitMu: applied.Sequence
	moved   chan struct{} // guarded by waitMu: closes when reached moves; nil when nobody waits
}

// slot is a projection with its state.
type slot struct {
	Projection
	failure *failure // nil while it works
	saved   int      // its place in the file of Runner.unread, from 1; 0: it has none there
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
	r := &Runner{
		tail: tail, log: logger, applied: store.Chain{Partition: partition},
		loaded: make(chan struct{}), hurry: make(chan struct{}, 1),
		saving: checkpoints{turn: checkpointTurnBytes, wake: make(chan struct{}, 1), step: func(string) {}},
	}
	for _, p := range projections {
		r.slots = append(r.slots, slot{Projection: p})
	}
	return r
}

// Run applies commits until ctx ends, then it returns nil. It returns a
// *store.DamageError where the log is not what was written: what stands before it stays
// applied. A projection that fails stops alone and is no error of Run. Beside that it loads
// what Restore has read and saves checkpoints.
func (r *Runner) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.follow(ctx) })
	group.Go(func() error { return r.loadRest(ctx) })
	group.Go(func() error { return r.save(ctx) })
	return group.Wait()
}

func (r *Runner) follow(ctx context.Context) error {
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
	at := store.ChainAt(c)
	r.mu.Lock()
	saved := r.prepare(c)
	for i := range r.slots {
		s := &r.slots[i]
		if s.failure != nil {
			continue
		}
		skip := saved
		if s.saved == 0 {
			skip = nil
		}
		if err := applyOne(s.Projection, c, skip); err != nil {
			r.fail(s, &at, err)
		}
	}
	r.applied = at
	if r.due() {
		signal(r.saving.wake)
	}
	r.mu.Unlock()
	r.moveTo(c.Sequence)
}

// fail stops a projection at a commit. mu must be held.
func (r *Runner) fail(s *slot, at *store.Chain, err error) {
	s.failure = &failure{applied: r.applied, at: at.Position(), err: err}
	r.failed++
	r.log.Error("a projection failed and stopped; its queries are unavailable, the others go on",
		"projection", s.Name(), "position", s.failure.at.String(), "error", err)
}

// moveTo tells those who wait that all up to sequence is applied.
func (r *Runner) moveTo(sequence uint64) {
	r.waitMu.Lock()
	defer r.waitMu.Unlock()
	r.reached = sequence
	if r.moved != nil {
		close(r.moved)
		r.moved = nil
	}
}

// applyOne folds all events of a commit but those to skip, nil for none. It makes a panic a
// failure too: a view that cannot take an event must not stop the writer, which runs in the
// same process.
func applyOne(p Projection, c *store.Commit, skip []bool) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	index := 0
	for i := range c.Entries {
		list := c.Entries[i].Events
		for j := range list {
			if skip == nil || !skip[index] {
				if err := p.Apply(c, index, &list[j]); err != nil {
					return err
				}
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
// is true. It answers Unavailable instead when a view that f needs has failed. What a view
// has of an account that is not among those named must not be looked at: it may not be
// loaded.
func (r *Runner) read(accounts []string, f func() *events.Error, needs ...Projection) (events.Position, *events.Error) {
	r.lockLoaded(accounts)
	defer r.mu.RUnlock()
	if r.ahead() {
		return events.Position{}, events.Errorf(events.Unavailable, "the views are being brought up to the log after a start: try again")
	}
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
