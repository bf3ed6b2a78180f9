package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// The shape of an archive. It stands in every file: files of another shape are made again.
const (
	// spanEvents is how many events a segment of level 0 has, more or less what one commit
	// holds: it begins with the first commit before which there are a multiple of it or more.
	spanEvents = 131_072
	// fanSegments is how many segments of a level are merged into one of the next.
	fanSegments = 16
)

// How long the archive waits after an error of the disk or of a read of the log before it
// tries again: twice as long each time, from retryPause up to retryPauseMax.
const (
	retryPause    = 5 * time.Second
	retryPauseMax = time.Minute
)

// openRoom is how many bytes of the volume a segment of level 0 must find; one of accounts with
// a few events each has about 9 MiB.
const openRoom = 2 * syncEvery

// Config says what an Archive needs.
type Config struct {
	Tail      *store.Tail
	Partition uint32
	Dir       string // of its files; made where it is missing
	Logger    *slog.Logger
	// Known says whether there is an account, and the position that is true at.
	Known func(account string) (events.Position, *events.Error)
	// Room says whether the volume has so many more bytes for the archive. nil: it has.
	Room func(bytes int64) error
	// Span is how many events a segment of level 0 has, more than any commit. 0: 131,072.
	Span uint64
}

// Archive follows the log and keeps, by account, what its parts make of it. What is behind
// the last whole segment is in memory, at most a segment's events, and is made again from
// the log at a start. Files that are missing, damaged or of another log are made again too:
// the truth is the log.
type Archive struct {
	cfg   Config
	fan   int
	step  func(string) error // at each step of the making of a file
	after func(time.Duration) <-chan time.Time
	work  chan struct{} // there may be something to merge

	patience time.Duration // how long a check waits for the archive: checkPatience

	mu      sync.RWMutex // guards all below
	held    []*segment   // from the beginning of the log on, without a gap; replaced, never changed
	later   []*segment   // not compared with the log yet, or behind a gap that is being filled; in order
	start   store.Chain  // where the open segment begins: the end of held
	applied store.Chain  // the last commit that the open segment has
	open    [len(kinds)]part
	trouble string             // why following does not go on, "" where it does
	again   context.CancelFunc // ends following, so that it begins again at the end of held
	moved   chan struct{}      // closes when applied moves; nil when nobody waits
}

// errAgain ends following that has to begin again elsewhere.
var errAgain = errors.New("begin again at the end of what is held")

// Open opens the files there are: footers and lengths are checked, the content when it is
// read. Run makes the rest.
func Open(cfg Config) (*Archive, error) {
	if cfg.Span == 0 {
		cfg.Span = spanEvents
	}
	return openShape(cfg, fanSegments)
}

// openShape is Open with another fan.
func openShape(cfg Config, fan int) (*Archive, error) {
	a := &Archive{
		cfg: cfg, fan: fan, work: make(chan struct{}, 1),
		step: func(string) error { return nil }, after: time.After, patience: checkPatience,
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the archive's directory: %w", err)
	}
	if err := a.load(); err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	a.begin()
	return a, nil
}

// Close closes the files. Nothing runs any more.
func (a *Archive) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range slices.Concat(a.held, a.later) {
		s.release()
	}
	a.held, a.later = nil, nil
}

// Run follows the log until ctx ends, then it returns nil. It returns a *store.DamageError
// where the log is not what was written; other errors are logged and it goes on.
func (a *Archive) Run(ctx context.Context) error {
	var merging sync.WaitGroup
	defer merging.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	merging.Go(func() { a.mergeAll(ctx) })
	pause := retryPause
	for {
		before := a.Applied()
		err := a.follow(ctx)
		if a.Applied().Sequence > before.Sequence || errors.Is(err, errAgain) {
			pause = retryPause
		}
		var damaged *store.DamageError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errAgain):
			continue
		case errors.As(err, &damaged):
			return fmt.Errorf("archive the log: %w", err)
		}
		a.mu.Lock()
		a.trouble = err.Error()
		a.mu.Unlock()
		a.cfg.Logger.Warn("the archive was interrupted and goes on a little later", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
		case <-a.after(pause):
		}
		pause = min(2*pause, retryPauseMax)
	}
}

// follow applies commits from the end of the open segment on, which it first stores where
// that is full and could not be stored before.
func (a *Archive) follow(ctx context.Context) error {
	following, again := context.WithCancel(ctx)
	defer again()
	if err := a.awaitLog(following); err != nil {
		return err
	}
	if err := a.check(following); err != nil {
		return err
	}
	same, err := a.inLog(following, a.Applied())
	if err != nil {
		return fmt.Errorf("compare the archive with the log: %w", err)
	}
	a.mu.Lock()
	a.absorb()
	if !same || a.start != a.heldEnd() {
		a.begin()
	}
	a.again, a.trouble = again, ""
	from := a.applied
	f, parts, full := a.isFull()
	if len(a.later) > 0 {
		a.cfg.Logger.Info("a gap in the archive is filled from the log", "from", from.Position().String(), "to", a.later[0].Start.Position().String())
	}
	a.mu.Unlock()
	a.lookForWork()
	if full {
		if err := a.store(f, parts); err != nil {
			return err
		}
		return errAgain
	}
	if err := a.cfg.Tail.Follow(following, from, a.apply); err != nil {
		return err
	}
	return errAgain
}

// awaitLog returns when the tail knows an acknowledged end: before that nobody can say
// what the log holds.
func (a *Archive) awaitLog(ctx context.Context) error {
	if a.cfg.Tail.End().Sequence > 0 {
		return nil
	}
	known := errors.New("the end is known")
	err := a.cfg.Tail.Follow(ctx, store.Chain{Partition: a.cfg.Partition}, func(*store.Commit) error { return known })
	if err == nil || errors.Is(err, known) {
		return ctx.Err()
	}
	return err
}

// begin makes an empty open segment at the end of what is held. The caller holds mu.
func (a *Archive) begin() {
	a.start = a.heldEnd()
	a.applied = a.start
	for i := range kinds {
		a.open[i] = kinds[i].open()
	}
	a.wake()
}

// heldEnd is where what is held ends. The caller holds mu.
func (a *Archive) heldEnd() store.Chain {
	if n := len(a.held); n > 0 {
		return a.held[n-1].End
	}
	return store.Chain{Partition: a.cfg.Partition}
}

// isFull says whether the open segment is whole, and what is to be stored then. The caller
// holds mu.
func (a *Archive) isFull() (f footer, parts [len(kinds)]part, full bool) {
	f = footer{Fan: uint32(a.fan), Span: a.cfg.Span, Number: a.number(a.start), Start: a.start, End: a.applied}
	return f, a.open, a.number(a.applied) > a.number(a.start)
}

// number is the number of the segment of level 0 that begins behind a place in the log.
func (a *Archive) number(at store.Chain) uint64 { return at.Ordinal / a.cfg.Span }

// apply adds a commit to the open segment, and stores that when it is full.
func (a *Archive) apply(c *store.Commit) error {
	a.mu.Lock()
	if c.PrevSequence != a.applied.Sequence {
		a.mu.Unlock()
		return errAgain // what is held became less meanwhile
	}
	a.add(c)
	f, parts, full := a.isFull()
	a.wake()
	a.mu.Unlock()
	if full {
		return a.store(f, parts)
	}
	return nil
}

// add adds a commit to the open segment. The caller holds mu.
func (a *Archive) add(c *store.Commit) {
	index := 0
	for i := range c.Entries {
		for j := range c.Entries[i].Events {
			for _, p := range a.open {
				p.add(c, index, &c.Entries[i].Events[j])
			}
			index++
		}
	}
	a.applied = store.ChainAt(c)
}

// store writes the open segment, as it was when it was full, and begins the next one. Nobody
// adds to its parts any more, so they are read without the lock; a reader that comes upon
// damage may begin another one meanwhile. Where it cannot be stored it stays open: follow
// tries again.
func (a *Archive) store(f footer, parts [len(kinds)]part) error {
	err := a.room(openRoom)
	if err == nil {
		err = writeOpen(a.cfg.Dir, f, &parts, a.stepped)
	}
	if err != nil {
		return fmt.Errorf("write a segment: %w", err)
	}
	s, err := openSegment(a.path(0, f.Number))
	if err != nil {
		return fmt.Errorf("open a segment that was just written: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.start != f.Start || a.applied != f.End {
		a.remove(s)
		return errAgain
	}
	a.held = append(slices.Clip(a.held), s)
	gap := len(a.later) > 0
	a.absorb()
	a.begin()
	a.lookForWork()
	if gap { // perhaps it is filled, and there is nothing to read up to the next one
		return errAgain
	}
	return nil
}

// room asks whether the volume has room.
func (a *Archive) room(bytes int64) error {
	if a.cfg.Room == nil {
		return nil
	}
	return a.cfg.Room(bytes)
}

// stepped is what is done at each step of the making of a file.
func (a *Archive) stepped(step string) error {
	if step == stepPart {
		if err := a.room(syncEvery); err != nil {
			return err
		}
	}
	return a.step(step)
}

// Trouble says why the archive does not go on, "" where it does.
func (a *Archive) Trouble() string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.trouble
}

// Applied returns the last commit that the archive has.
func (a *Archive) Applied() store.Chain {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.applied
}

// wake tells those that wait. The caller holds mu.
func (a *Archive) wake() {
	if a.moved != nil {
		close(a.moved)
		a.moved = nil
	}
}

// ErrBehind is what an error of Wait wraps when the archive did not come that far in time.
var ErrBehind = errors.New("the archive has not come that far yet")

// Wait returns when the commit at sequence is in the archive. A query that has to wait lets
// others read meanwhile. The error wraps ErrBehind and ctx's when ctx ends first, or is an
// *events.Error of the query's turn.
func (a *Archive) Wait(ctx context.Context, sequence uint64) error {
	for {
		a.mu.Lock()
		reached := a.applied.Sequence
		if reached >= sequence {
			a.mu.Unlock()
			return nil
		}
		if a.moved == nil {
			a.moved = make(chan struct{})
		}
		moved := a.moved
		a.mu.Unlock()
		if refused := store.TurnOf(ctx).Wait(ctx); refused != nil {
			return refused
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for sequence %d: %w, it has %d: %w", sequence, ErrBehind, reached, ctx.Err())
		}
	}
}
