package projections

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

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

	// Visible, where it is set before Run, is told of each commit how long after its
	// acknowledgement the projections had it. It is called on the live path.
	Visible func(time.Duration)

	mu      sync.RWMutex // guards all below and whatever the projections hold
	applied store.Chain
	slots   []slot
	idle    int      // how many of slots take no commits
	known   []string // accounts, in the order in which they were opened
	unread  *unread  // what a checkpoint holds and is not loaded yet; nil: nothing
	listed  int      // how many of known the loader has come by
	skip    []bool   // memory of prepare
	saving  checkpoints

	loaded chan struct{} // closes when all that was unread is loaded
	hurry  chan struct{} // somebody waits for that

	beside  []*fresh      // what a verification compares them with: it takes the same commits
	swapped chan struct{} // closes when a projection took another's place

	works works

	waitMu  sync.Mutex
	reached uint64        // guarded by waitMu: applied.Sequence
	moved   chan struct{} // guarded by waitMu: closes when reached moves; nil when nobody waits
}

// slot is a projection with its state.
type slot struct {
	Projection // changes when it is made again
	name       string
	how        Registration
	failure    *failure // nil while it works
	absent     bool     // it has yet to be made from the log: Projection is empty
	remade     int      // how often another one took its place
	saved      int      // its place in the file of Runner.unread, from 1; 0: it has none there
}

// works says whether a slot takes commits and can be asked.
func (s *slot) works() bool { return s.failure == nil && !s.absent }

// failure says where and why a projection stopped.
type failure struct {
	applied store.Chain     // the last commit it took
	at      events.Position // the commit it failed at
	err     error
}

// NewRunner makes a Runner of one partition. What the projections hold is read under its
// lock only.
func NewRunner(tail *store.Tail, partition uint32, logger *slog.Logger, list ...Registration) *Runner {
	r := &Runner{
		tail: tail, log: logger, applied: store.Chain{Partition: partition},
		loaded: make(chan struct{}), hurry: make(chan struct{}, 1), swapped: make(chan struct{}),
		saving: checkpoints{turn: checkpointTurnBytes, wake: make(chan struct{}, 1), step: func(string) {}},
		works:  works{wake: make(chan struct{}, 1), after: time.After},
	}
	for _, how := range list {
		p := how.New()
		if how.keep != nil {
			how.keep(p)
		}
		r.slots = append(r.slots, slot{Projection: p, name: p.Name(), how: how})
	}
	return r
}

// Run applies commits until ctx ends, then it returns nil. It returns a
// *store.DamageError where the log is not what was written: what stands before it stays
// applied. A projection that fails stops alone and is no error of Run. Beside that it loads
// what Restore has read, saves checkpoints, and does what Rebuild asks for.
func (r *Runner) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.follow(ctx) })
	group.Go(func() error { return r.loadRest(ctx) })
	group.Go(func() error { return r.save(ctx) })
	group.Go(func() error { r.work(ctx); return nil })
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
	r.mu.Lock()
	saved := r.prepare(c)
	for i := range r.slots {
		s := &r.slots[i]
		if !s.works() {
			continue
		}
		skip := saved
		if s.saved == 0 {
			skip = nil
		}
		if failed := foldOne(s.Projection, c, r.applied, skip); failed != nil {
			r.fail(s, failed)
		}
	}
	for _, f := range r.beside {
		f.fold(c, r.applied)
	}
	r.applied = store.ChainAt(c)
	if r.due() {
		signal(r.saving.wake)
	}
	r.mu.Unlock()
	r.moveTo(c.Sequence)
	if r.Visible != nil {
		if ago, known := r.tail.Acknowledged(c.Sequence); known {
			r.Visible(ago)
		}
	}
}

// fail stops a projection. mu must be held.
func (r *Runner) fail(s *slot, failed *failure) {
	s.failure = failed
	r.idle++
	r.log.Error("a projection failed and stopped; its queries are unavailable, the others go on; keyledger projections rebuild makes it again",
		"projection", s.name, "position", failed.at.String(), "error", failed.err)
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

// foldOne folds all events of a commit that stands after before but those to skip, nil for
// none. A panic is a failure too: a view that cannot take an event must not stop the
// writer, which runs in the same process.
func foldOne(p Projection, c *store.Commit, before store.Chain, skip []bool) (failed *failure) {
	at := store.ChainAt(c)
	defer func() {
		if v := recover(); v != nil {
			failed = &failure{before, at.Position(), fmt.Errorf("panic: %v\n%s", v, debug.Stack())}
		}
	}()
	index := 0
	for i := range c.Entries {
		list := c.Entries[i].Events
		for j := range list {
			if skip == nil || !skip[index] {
				if err := p.Apply(c, index, &list[j]); err != nil {
					return &failure{before, at.Position(), err}
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

// read runs f while nothing is applied and returns the position at which all that f saw
// is true. It answers Unavailable instead when a view that f needs, by its name, has failed
// or is not there yet. What a view has of an account that is not among those named must
// not be looked at: it may not be loaded.
func (r *Runner) read(accounts []string, f func() *events.Error, needs ...string) (events.Position, *events.Error) {
	r.lockLoaded(accounts)
	defer r.mu.RUnlock()
	if r.ahead() {
		return events.Position{}, events.Errorf(events.Unavailable, "the views are being brought up to the log after a start: try again")
	}
	if r.idle > 0 {
		for i := range r.slots {
			if s := &r.slots[i]; !s.works() && slices.Contains(needs, s.name) {
				return events.Position{}, r.unavailable(s)
			}
		}
	}
	if err := f(); err != nil {
		return events.Position{}, err
	}
	return r.applied.Position(), nil
}
