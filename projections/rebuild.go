package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Limits of what work on the whole log takes from the live path.
const (
	// joinCommits is how many commits are folded at the most while nothing is applied, when
	// what was made takes its place.
	joinCommits = 16
	// workPiece is how many events are folded, or bytes compared, before a rest. While
	// commands are committed, a rest is as long as the work before it: half a core.
	workPiece = 4096
	// workHurry is how many commits before the log's end there are no more rests: work that
	// comes to its end must be faster than the writer.
	workHurry = 4096
)

// fresh is a projection that is made from the log beside the live one.
type fresh struct {
	Projection
	slot    int
	failure *failure
}

func (f *fresh) fold(c *store.Commit, before store.Chain) {
	if f.failure == nil {
		f.failure = foldOne(f.Projection, c, before, nil)
	}
}

// job makes projections from the log's beginning.
type job struct {
	r     *Runner
	work  *Work // guarded by works.mu
	fresh []*fresh
	chain store.Chain // up to which they are made; the job's own until they join
	// compare is called when all are at the live position and take what it takes; nil: they
	// take the live ones' place.
	compare func(context.Context, *job) error

	sinceRest int // events
	restedAt  time.Time
	restedEnd uint64 // the acknowledged end then
}

var (
	errReached  = errors.New("the end that was aimed at is reached")
	errFinished = errors.New("the work is done")
)

// makeLater says, before Run, that a projection is not there: nothing that was saved of it
// can be read. Run makes it from the log; until then its queries are unavailable. mu must be
// held.
func (r *Runner) makeLater(s *slot) {
	if s.works() {
		s.absent = true
		r.idle++
	}
}

// absent are the names of what has yet to be made and did not fail.
func (r *Runner) absent() (names []string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for i := range r.slots {
		if s := &r.slots[i]; s.absent && s.failure == nil {
			names = append(names, s.name)
		}
	}
	return names
}

// work does what is submitted until ctx ends.
func (r *Runner) work(ctx context.Context) {
	if names := r.absent(); len(names) > 0 {
		if _, err := r.Rebuild(names...); err != nil {
			r.log.Warn("projections that are not there wait for other work", "projections", names, "error", err)
		}
	}
	for {
		r.works.mu.Lock()
		j := r.works.next
		r.works.next = nil
		r.works.mu.Unlock()
		if j != nil {
			j.run(ctx)
			continue
		}
		select {
		case <-r.works.wake:
		case <-ctx.Done():
			return
		}
	}
}

// run does the whole work and notes how it ended.
func (j *job) run(ctx context.Context) {
	log := j.r.log.With("work", j.work.Kind, "projections", j.work.Projections)
	err := persist(ctx, log, j.follow, func() uint64 { return j.chain.Sequence })
	if errors.Is(err, errFinished) {
		err = nil
		if j.compare != nil {
			err = j.compare(ctx, j)
			j.r.part(j)
		}
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil {
		err = j.failures()
	}
	j.update(func(w *Work) {
		w.State, w.EndedAt = workDone, events.At(time.Now())
		if err != nil {
			w.State, w.Failure = workFailed, err.Error()
		}
		close(j.r.works.ended)
	})
	if err != nil && ctx.Err() == nil {
		j.r.giveUp(j, err)
		log.Error("work on the projections failed; what there was goes on as it is", "error", err)
	}
}

// failures are those of a rebuild's projections.
func (j *job) failures() error {
	var err error
	for _, f := range j.fresh {
		if f.failure != nil && j.compare == nil {
			err = errors.Join(err, fmt.Errorf("%s stopped at %s: %w", j.r.slots[f.slot].name, f.failure.at, f.failure.err))
		}
	}
	return err
}

func (j *job) update(f func(*Work)) {
	j.r.works.mu.Lock()
	defer j.r.works.mu.Unlock()
	f(j.work)
}

// follow folds the log from where the job is until what it makes has joined the live
// projections: then it returns errFinished. Any other error leaves the job in a place
// that it can go on from.
func (j *job) follow(ctx context.Context) error {
	if err := j.r.Wait(ctx, j.r.wholeAt()); err != nil {
		return err
	}
	for {
		joined, err := j.join()
		if err != nil {
			return err
		}
		if joined {
			return errFinished
		}
		target := j.r.Applied()
		err = j.r.tail.Follow(ctx, j.chain, func(c *store.Commit) error {
			if err := j.fold(ctx, c); err != nil {
				return err
			}
			if c.Sequence >= target.Sequence {
				return errReached
			}
			return nil
		})
		if err == nil {
			return ctx.Err()
		}
		if !errors.Is(err, errReached) {
			return err
		}
	}
}

// wholeAt is the sequence from which on all accounts are where applied is: those of a
// checkpoint may be ahead before, and nothing joins them there.
func (r *Runner) wholeAt() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.unread == nil {
		return 0
	}
	return r.unread.end
}

// fold folds a commit beside the live path, and rests where it is time to.
func (j *job) fold(ctx context.Context, c *store.Commit) error {
	for _, f := range j.fresh {
		f.fold(c, j.chain)
	}
	j.chain = store.ChainAt(c)
	j.sinceRest += c.EventCount() + 1
	if j.sinceRest < workPiece {
		return nil
	}
	end := j.r.tail.End()
	j.update(func(w *Work) {
		w.Done, w.Total = j.chain.Ordinal, max(end.Ordinal, j.chain.Ordinal)
		w.Position, w.End = j.chain.Position().String(), end.Position().String()
	})
	return j.rest(ctx, end.Sequence < j.chain.Sequence+workHurry)
}

// rest lets as much time pass as the work since the last rest took, while commands are
// committed and there is no hurry.
func (j *job) rest(ctx context.Context, hurry bool) error {
	now, end := time.Now(), j.r.tail.End().Sequence
	took, busy := now.Sub(j.restedAt), end > j.restedEnd
	first := j.restedAt.IsZero()
	j.sinceRest = 0
	if busy && !first && !hurry {
		select {
		case <-j.r.works.after(took):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	j.restedAt, j.restedEnd = time.Now(), j.r.tail.End().Sequence
	return nil
}

// join brings what was made to the live position, if it is close, and puts it in its
// place in that moment. The tail has the few commits that are missing in memory: where it
// was emptied meanwhile they are read first, for nothing is read under the lock.
func (j *job) join() (bool, error) {
	r := j.r
	r.mu.Lock()
	old, err := j.joinLocked()
	r.mu.Unlock()
	if err != nil || old == nil {
		return false, err
	}
	j.update(func(w *Work) {
		w.Done, w.Total = j.chain.Ordinal, j.chain.Ordinal
		w.Position, w.End = j.chain.Position().String(), j.chain.Position().String()
	})
	for i, f := range j.fresh {
		if replaced := r.slots[f.slot].how.replaced; replaced != nil && old[i] != nil {
			replaced(old[i])
		}
	}
	return true, nil
}

// joinLocked is join under the Runner's lock. It returns what was there before, nil where
// what was made is too far behind, or the tail does not keep what is missing.
func (j *job) joinLocked() ([]Projection, error) {
	r := j.r
	if r.applied.Sequence-j.chain.Sequence > joinCommits {
		return nil, nil
	}
	for j.chain.Sequence < r.applied.Sequence {
		c := r.tail.Kept(j.chain.Sequence + 1)
		if c == nil {
			return nil, nil
		}
		before := j.chain
		if err := j.chain.Accept(c); err != nil {
			return nil, err
		}
		for _, f := range j.fresh {
			f.fold(c, before)
		}
	}
	if j.chain != r.applied {
		return nil, &store.DamageError{Partition: j.chain.Partition, Sequence: j.chain.Sequence,
			Reason: fmt.Sprintf("it has hash %s, and the views took one with hash %s there", j.chain.Hash, r.applied.Hash)}
	}
	old := make([]Projection, len(j.fresh))
	if j.compare != nil {
		r.beside = j.fresh
		return old, nil
	}
	for i, f := range j.fresh {
		old[i] = r.swap(f)
	}
	r.idle = 0
	for i := range r.slots {
		if !r.slots[i].works() {
			r.idle++
		}
	}
	close(r.swapped)
	r.swapped = make(chan struct{})
	return old, nil
}

// swap puts a projection in its place and returns the one before. One that failed while it
// was made changes nothing where there is one that works.
func (r *Runner) swap(f *fresh) Projection {
	s := &r.slots[f.slot]
	if f.failure != nil {
		if !s.works() {
			s.failure = f.failure
		}
		return nil
	}
	old := s.Projection
	s.Projection, s.failure, s.absent = f.Projection, nil, false
	s.remade++
	s.saved = 0 // it has all there is, loaded or not
	if s.how.keep != nil {
		s.how.keep(f.Projection)
	}
	r.log.Info("a projection was made again from the log", "projection", s.name, "position", r.applied.Position().String())
	return old
}

// giveUp notes of projections that could not be made, and are not there, why.
func (r *Runner) giveUp(j *job, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range j.fresh {
		if s := &r.slots[f.slot]; s.absent && s.failure == nil {
			s.failure = &failure{applied: j.chain, at: j.chain.Position(), err: err}
		}
	}
	close(r.swapped)
	r.swapped = make(chan struct{})
}

// part ends a comparison: what was made beside the live projections goes.
func (r *Runner) part(j *job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.beside, j.fresh = nil, nil
}

// remade counts how often projections were made again.
func (r *Runner) remade(names []string) (count int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for i := range r.slots {
		if slices.Contains(names, r.slots[i].name) {
			count += r.slots[i].remade
		}
	}
	return count
}

// errRemade says that a projection is another one than before.
var errRemade = errors.New("made again from the log")

// guard returns errRemade when a projection is another one than when remade said before:
// who follows what it says has to compare anew.
func (r *Runner) guard(ctx context.Context, names []string, before int) error {
	for {
		r.mu.RLock()
		swapped := r.swapped
		r.mu.RUnlock()
		if r.remade(names) != before {
			return fmt.Errorf("%s: %w", strings.Join(names, " or "), errRemade)
		}
		select {
		case <-swapped:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Made waits until a projection that had to be made from the log at the start is there,
// or has failed, or ctx ends.
func (r *Runner) Made(ctx context.Context, name string) error {
	for {
		r.mu.RLock()
		swapped, absent := r.swapped, false
		for i := range r.slots {
			absent = absent || r.slots[i].name == name && r.slots[i].absent && r.slots[i].failure == nil
		}
		r.mu.RUnlock()
		if !absent {
			return nil
		}
		select {
		case <-swapped:
		case <-ctx.Done():
			return fmt.Errorf("wait for the projection %s: %w", name, ctx.Err())
		}
	}
}
