package webhooks

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	// DefaultCheckpointEvery is the longest time between a change and its checkpoint,
	// and so what a crash can repeat.
	DefaultCheckpointEvery = time.Second
	// DefaultGrace is how long a stop waits for attempts under way.
	DefaultGrace = 5 * time.Second

	refillers     = 4                // lanes that are filled up at once
	disableWithin = 10 * time.Second // for one call of Config.Disable
	disablePause  = 10 * time.Second // until an endpoint that could not be disabled is tried again
	saveWithin    = 5 * time.Second  // for one checkpoint
	// DefaultDirectoryEvery is how many commits and events are read before the directory is
	// saved again; a start reads what came since, which takes some tenths of a second.
	DefaultDirectoryEvery = 200_000
	// DefaultDirectoryPause is the least time between.
	DefaultDirectoryPause = time.Minute

	claimPause  = time.Second // between tries to take the checkpoints over
	schedJitter = 0.1         // of the default schedule
)

// Config is what a Dispatcher works with. Members without a default are required.
type Config struct {
	// JS reaches the feed, the lanes stream and the attempts stream, with the default API
	// prefix. Its connection
	// should be the dispatcher's own: many small requests go over it.
	JS jetstream.JetStream
	// Tail is the log, as its writer acknowledges it.
	Tail *store.Tail
	// Partition is the log's partition.
	Partition uint32
	// Sealer opens what is sealed in endpoints.
	Sealer *events.Sealer
	// Client makes the attempts.
	Client *Client
	// Schedule says when deliveries are tried again. Default: DefaultDelays, with a
	// tenth of jitter from Random.
	Schedule *Schedule
	// Random gives numbers in [0, 1), safe for concurrent use. Default: math/rand/v2.
	Random func() float64
	// Logger gets one line an attempt, at debug level if it delivered and else at info,
	// and what goes wrong here. Never a secret, a header value or a query.
	Logger *slog.Logger
	// Clock tells the time. Default: time.Now.
	Clock func() time.Time
	// Timer returns a channel that gets a value when Clock has reached at, and a
	// function that gives the timer up. Default: a time.Timer.
	Timer func(at time.Time) (fired <-chan time.Time, stop func())
	// Disable disables an endpoint whose receiver answered 410 Gone, or to which every attempt
	// failed for the time of DisableAfter, durably: the event endpoint.disabled then comes by
	// the log. On an error the endpoint is tried again after some seconds, and disabled if
	// that still is so.
	Disable func(ctx context.Context, account, endpoint, reason string) error
	// Consent is the operator's policy. Default: ConsentPolicyPrefer.
	Consent ConsentPolicy
	// Observe, if not nil, is told of each attempt as it is recorded, and how long after its
	// event's commit it had a connection. It must not block.
	Observe func(a *Attempt, sinceCommit time.Duration)
	// Failing is told, durably, that every attempt to an endpoint has failed since a time, at
	// 50, 70 and 90 percent of DisableAfter: the event endpoint.failing then comes by the log.
	// Being told the same again must change nothing. On an error it is told again after some
	// seconds. Default: nobody is told.
	Failing func(ctx context.Context, account, endpoint string, since events.Time, percent int) error
	// DisableAfter defaults to DefaultDisableAfter.
	DisableAfter time.Duration
	// Known says whether there is an account, and the position that is true at; NotFound
	// where there is none.
	Known func(account string) (events.Position, *events.Error)
	// Dir is the folder in which the directory is saved, made with the first one. Only one
	// dispatcher works with it. "": none is saved, and each start reads the whole log.
	Dir string
	// Room is asked whether the volume has room for so many more bytes in Dir; its last ones
	// belong to the log. Default: there always is.
	Room func(bytes int64) error

	// FirstSlots and RetrySlots are how many first and later tries may be under way at
	// once, over all endpoints that answer promptly; UnsureSlots of those that are new or
	// answer slowly; SilentSlots of those that do not; SlowSlots are for attempts that took
	// SlowAfter already. Defaults: DefaultFirstSlots and so on.
	FirstSlots, RetrySlots, UnsureSlots, SilentSlots, SlowSlots int
	// SlowAfter is how long an attempt may take that counts as prompt, by the machine's
	// clock. Default: DefaultSlowAfter.
	SlowAfter time.Duration
	// CheckpointEvery defaults to DefaultCheckpointEvery, Grace to DefaultGrace.
	CheckpointEvery, Grace time.Duration
	// DirectoryEvery is how many commits and events are read, by the fold and by lanes that
	// are behind, before the directory is saved again, and DirectoryPause the least time
	// between. Defaults: DefaultDirectoryEvery, DefaultDirectoryPause.
	DirectoryEvery uint64
	DirectoryPause time.Duration
}

func (c Config) withDefaults() Config {
	if c.Random == nil {
		c.Random = mathrand.Float64
	}
	if c.Schedule == nil {
		c.Schedule, _ = NewSchedule(DefaultDelays(), schedJitter, c.Random) // its limits hold
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Timer == nil {
		c.Timer = func(at time.Time) (<-chan time.Time, func()) {
			timer := time.NewTimer(at.Sub(c.Clock()))
			return timer.C, func() { timer.Stop() }
		}
	}
	if c.Failing == nil {
		c.Failing = func(context.Context, string, string, events.Time, int) error { return nil }
	}
	if c.DisableAfter == 0 {
		c.DisableAfter = DefaultDisableAfter
	}
	if c.Room == nil {
		c.Room = func(int64) error { return nil }
	}
	c.FirstSlots = cmp.Or(c.FirstSlots, DefaultFirstSlots)
	c.RetrySlots = cmp.Or(c.RetrySlots, DefaultRetrySlots)
	c.UnsureSlots = cmp.Or(c.UnsureSlots, DefaultUnsureSlots)
	c.SilentSlots = cmp.Or(c.SilentSlots, DefaultSilentSlots)
	c.SlowSlots = cmp.Or(c.SlowSlots, DefaultSlowSlots)
	c.SlowAfter = cmp.Or(c.SlowAfter, DefaultSlowAfter)
	c.CheckpointEvery = cmp.Or(c.CheckpointEvery, DefaultCheckpointEvery)
	c.Grace = cmp.Or(c.Grace, DefaultGrace)
	c.DirectoryEvery = cmp.Or(c.DirectoryEvery, DefaultDirectoryEvery)
	c.DirectoryPause = cmp.Or(c.DirectoryPause, DefaultDirectoryPause)
	return c
}

// Errors of Run.
var (
	// ErrFenced: another dispatcher wrote a checkpoint of this partition. It has the
	// endpoints now; this one must not go on.
	ErrFenced = errors.New("another dispatcher has taken the webhooks over")
	// ErrLoss: the last checkpoint has seen what the log does not hold, so acknowledged
	// commits are gone, or the log is another one.
	ErrLoss = errors.New("the log has lost what webhooks delivered from it")
)

// Dispatcher delivers the events of one partition to the endpoints that are owed them.
// DESIGN.md beside this file says how.
type Dispatcher struct {
	cfg     Config // not changed after New
	attempt *attemptLog
	commits commitCache
	doctors doctors
	feed    feed
	saver   saver // belongs to Run, and to the one goroutine that saves while it runs
	// step is called between the steps of saving the directory, by their names: a test
	// stops there with an error.
	step func(string) error

	mu    sync.Mutex // guards all below, and every lane
	moved *sync.Cond // broadcast after each change

	directory directory
	lanes     map[string]*lane // by endpoint id
	read      store.Chain      // the last commit that was folded; the fold itself reads it without mu, and live
	restored  *checkpoint      // what the start went out from; set before anything else runs
	live      bool             // the fold has reached the end there was at the start: attempts are made
	stopping  bool             // no attempt starts any more
	dirty     bool             // something changed since the last checkpoint
	unsaved   uint64           // commits and events read since the directory was saved

	lines          [attemptLines]line // by kind
	refills, tells line
	slow           int           // attempts that gave their slot back
	hire           func(n *line) // runs work for a line; set by serve
	alarms         alarms
	rearm          chan struct{} // holds a value when the earliest alarm changed

	delivered, failed, dead uint64 // attempts and deliveries since the start
	counts                  counts // not guarded: each is atomic
}

// New makes a Dispatcher. Run works it.
func New(cfg Config) *Dispatcher {
	d := &Dispatcher{
		cfg:       cfg.withDefaults(),
		directory: directory{},
		lanes:     map[string]*lane{},
		read:      store.Chain{Partition: cfg.Partition},
		rearm:     make(chan struct{}, 1),
		hire:      func(*line) {},
		step:      func(string) error { return nil },
	}
	d.moved = sync.NewCond(&d.mu)
	for kind, slots := range [attemptLines]int{
		lineFirst: d.cfg.FirstSlots, lineAgain: d.cfg.RetrySlots, lineUnsure: d.cfg.UnsureSlots, lineSilent: d.cfg.SilentSlots,
	} {
		d.lines[kind] = line{kind: kind, slots: slots}
	}
	for kind, n := range map[int]*line{lineRefill: &d.refills, lineTell: &d.tells} {
		*n = line{kind: kind, ready: sync.NewCond(&d.mu)}
	}
	d.attempt = newAttemptLog(d.cfg.JS, d.cfg.Logger)
	d.commits.read = d.foldedFor
	d.commits.kept = func(sequence uint64) *store.Commit { return d.cfg.Tail.Kept(sequence) }
	d.feed = &streamFeed{js: cfg.JS, partition: cfg.Partition}
	d.saver = saver{js: cfg.JS, partition: cfg.Partition}
	rand.Read(d.saver.writer[:])
	return d
}

// Run delivers until ctx ends. Then it starts no more attempts, gives those under way
// the time of Config.Grace, writes a last checkpoint and returns nil. An error is fatal:
// ErrFenced, ErrLoss, or a *store.DamageError. It is called once.
//
// Nothing is sent before the last checkpoint is ours and the log has been folded up to
// the end it had then, from the saved directory's place on or from its beginning: only then is it known that no other dispatcher can move the
// cursors, and how each endpoint stands.
func (d *Dispatcher) Run(ctx context.Context) error {
	if err := d.restore(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if err := d.recall(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	records := new(errgroup.Group)
	records.Go(d.attempt.run)
	err := d.serve(ctx)
	d.attempt.close()
	err = errors.Join(err, records.Wait())
	if errors.Is(err, ErrFenced) {
		return err
	}
	// If we crash here, what was settled since the last checkpoint is sent again.
	last := d.save(context.WithoutCancel(ctx))
	if last == nil {
		// If we crash here, the next start goes on from the directory saved before, or folds
		// the whole log.
		d.keepDirectory()
	} else if !errors.Is(last, ErrFenced) {
		d.cfg.Logger.Error("cannot write the last checkpoint of webhooks; what was settled since the one before is sent again at the next start", "error", last)
		last = nil
	}
	return errors.Join(err, last)
}

// restore waits until the log's end is known, reads the last checkpoint, compares the
// two, and writes the checkpoint again as ours.
//
// If we crash before that write, nothing has happened. From it on, a dispatcher that was
// there before is fenced; if we crash behind it, the next start finds the same.
func (d *Dispatcher) restore(ctx context.Context) error {
	if err := d.awaitLog(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		saved, err := d.saver.load(ctx)
		if err == nil {
			if err := d.compare(saved); err != nil {
				return err
			}
			d.restored = saved
			saved.Writer = d.saver.writer
			err = d.saver.save(context.WithoutCancel(ctx), saved.encode(checkpointBytesMax))
			if err == nil {
				return nil
			}
			if errors.Is(err, ErrFenced) {
				continue // there is a newer one
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errCheckpoint) {
			return fmt.Errorf("start webhooks: %w", err)
		}
		d.cfg.Logger.Error("cannot take the checkpoints of webhooks over; trying again, and nothing is delivered before", "error", err)
		d.pause(ctx, claimPause)
	}
	return nil
}

// compare holds the last checkpoint against the log's end, which it never passes.
func (d *Dispatcher) compare(saved *checkpoint) error {
	end := d.cfg.Tail.End()
	if saved.Sequence <= end.Sequence && saved.Feed <= end.Ordinal {
		return nil
	}
	return fmt.Errorf("%w: the last checkpoint in %s is of %d:%d and event %d, and the log ends at %d:%d with event %d; restore the log from an intact copy",
		ErrLoss, store.StreamLanes(d.cfg.Partition), d.cfg.Partition, saved.Sequence, saved.Feed, end.Partition, end.Sequence, end.Ordinal)
}

var errKnown = errors.New("the log's end is known")

// awaitLog returns when the tail knows an acknowledged end, which is when the writer has
// taken the partition over; every log then has a commit.
func (d *Dispatcher) awaitLog(ctx context.Context) error {
	for {
		err := d.cfg.Tail.Follow(ctx, store.Chain{Partition: d.cfg.Partition}, func(*store.Commit) error { return errKnown })
		switch {
		case ctx.Err() != nil, errors.Is(err, errKnown):
			return nil
		case isDamage(err):
			return fmt.Errorf("start webhooks: %w", err)
		}
		d.cfg.Logger.Warn("cannot read the log for webhooks; trying again", "error", err)
		d.pause(ctx, followPause)
	}
}

// serve runs every part until ctx ends or one of them fails.
func (d *Dispatcher) serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	attempts, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
	// Nobody is hired once it stops, and until the last has ended, or is cut off, the
	// group waits in any case.
	d.hire = func(n *line) { group.Go(func() error { return d.work(attempts, n) }) }
	for range refillers {
		group.Go(func() error { return d.refill(ctx) })
	}
	group.Go(func() error { return d.tell(ctx) })
	group.Go(func() error { return d.follow(ctx) })
	group.Go(func() error { d.keepTime(ctx); return nil })
	group.Go(func() error { return d.keepCheckpoints(ctx) })
	group.Go(func() error { d.keepDirectories(ctx); return nil })
	group.Go(func() error {
		<-ctx.Done()
		d.stop()
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.Grace)
		defer cancel()
		d.until(within, func() bool { return d.slots().under() == 0 })
		cutOff()
		return nil
	})
	return group.Wait()
}

// stop lets nothing start any more.
func (d *Dispatcher) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopping = true
	d.refills.ready.Broadcast()
	d.tells.ready.Broadcast()
	d.moved.Broadcast()
}

// next waits for a lane in a line; nil says that the dispatcher stops. d.mu is held.
func (d *Dispatcher) next(n *line) *lane {
	for !d.stopping {
		if l := n.pop(); l != nil {
			return l
		}
		n.ready.Wait()
	}
	return nil
}

// arrange puts a lane where it can go on: into the lines it is ready for, and to the
// timer. It is called after every change of the lane, with d.mu held.
func (d *Dispatcher) arrange(l *lane, now time.Time) {
	d.moved.Broadcast()
	if !d.live {
		return
	}
	l.count(now)
	if l.firstReady(now) {
		d.enter(l, false)
	}
	if l.againReady(now) {
		d.enter(l, true)
	}
	if l.wantsRefill(now) || l.wantsReplay(now) {
		d.refills.push(l)
	}
	wake := l.wakeAt(now)
	if at := l.tellAt(d.cfg.DisableAfter); !at.IsZero() && !at.After(now) {
		d.tells.push(l)
	} else if !at.IsZero() && (wake.IsZero() || at.Before(wake)) {
		wake = at
	}
	if d.alarms.set(l, wake) {
		select {
		case d.rearm <- struct{}{}:
		default:
		}
	}
}

// keepTime arranges lanes again when the time they wait for has come.
func (d *Dispatcher) keepTime(ctx context.Context) {
	for {
		var fired <-chan time.Time
		stop := func() {}
		d.mu.Lock()
		now := d.cfg.Clock()
		for len(d.alarms) > 0 && !d.alarms[0].at.After(now) {
			l := d.alarms[0]
			d.alarms.set(l, time.Time{})
			d.arrange(l, now)
		}
		if len(d.alarms) > 0 {
			fired, stop = d.cfg.Timer(d.alarms[0].at)
		}
		d.mu.Unlock()
		select {
		case <-fired:
		case <-d.rearm:
		case <-ctx.Done():
		}
		stop()
		if ctx.Err() != nil {
			return
		}
	}
}
