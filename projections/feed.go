package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const lossAdvice = "; restore the log from an intact copy, or, if it was set back on purpose, delete the feed's stream to derive it again"

// FeedConfig is what a Feed works with. All members are required.
type FeedConfig struct {
	// Conn is the feed's own connection: a full pipeline holds up nobody else. It does
	// not buffer while disconnected (nats.ReconnectBufSize(-1)). Wire lies under it.
	Conn      *nats.Conn
	Wire      *Wire
	Tail      *store.Tail
	Partition uint32
	// Stream is the feed's stream, to make it again where it is gone.
	Stream jetstream.StreamConfig
	Logger *slog.Logger
}

// Feed relays the log to the feed: one CloudEvent a message, in the binary mode of the
// NATS protocol binding (CloudEvents NATS binding 1.0.3-wip §3.1), with
//
//	feed sequence = ordinal of its commit + index in it + 1.
//
// Every message is appended with that expectation (Nats-Expected-Last-Sequence, ADR-22),
// so the stream's own last sequence is the feed's place: there is no cursor beside it that
// could disagree. A tail that a crash took, or the whole stream, is derived again with
// the same numbers and ids, and no consumer skips or repeats an event. A feed whose
// messages were trimmed by age or size keeps its last sequence and goes on from there.
type Feed struct {
	cfg   FeedConfig
	js    jetstream.JetStream
	check func(time.Duration) <-chan time.Time // when to look whether the stream is there

	mu      sync.Mutex  // guards all below
	done    store.Chain // the last commit that is wholly there
	last    uint64      // the feed's last sequence
	failure string
}

// NewFeed makes a Feed. Run works it.
func NewFeed(cfg FeedConfig) (*Feed, error) {
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("make the feed: %w", err)
	}
	return &Feed{cfg: cfg, js: js, check: time.After, done: store.Chain{Partition: cfg.Partition}}, nil
}

// Run relays acknowledged commits until ctx ends, then it returns nil. It makes the
// stream again where it is gone, and after any trouble reads where the stream ends and
// goes on from there. It returns a *store.DamageError where the log is not what was
// written, and ErrLoss where the feed is ahead of the log or has another event at its
// end: the log was cut back or replaced.
func (f *Feed) Run(ctx context.Context) error {
	log := f.cfg.Logger.With("stream", f.cfg.Stream.Name)
	err := persist(ctx, log, func(ctx context.Context) error {
		err := f.relay(ctx)
		if err != nil && ctx.Err() == nil {
			f.fail(err)
		}
		return err
	}, f.sequence)
	if err != nil {
		return fmt.Errorf("relay the feed: %w", err)
	}
	return nil
}

// Status returns how far the feed is. Position is the last commit that is wholly there;
// Failure is the last trouble, until something has been relayed again.
func (f *Feed) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := StatusAt("feed", f.done, f.cfg.Tail, f.failure)
	out.LagEvents = 0 // parts of a commit count
	if end := f.cfg.Tail.End(); end.Ordinal > f.last {
		out.LagEvents = end.Ordinal - f.last
	}
	return out
}

func (f *Feed) sequence() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// relay finds the feed's place and keeps it up with the log until something fails.
func (f *Feed) relay(ctx context.Context) error {
	if err := awaitLog(ctx, f.cfg.Tail, f.cfg.Partition); err != nil {
		return err
	}
	// Taken before anything is asked over it: once that was answered it is one that NATS
	// let in, or it was closed since.
	conn := f.cfg.Wire.current()
	from, last, err := f.place(ctx)
	if err != nil {
		return err
	}
	f.settle(from, last)
	acks, err := f.listen(ctx)
	if err != nil {
		return err
	}
	defer acks.close()
	marks := make(chan mark, feedBatchesMax)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		sender := feedSender{tail: f.cfg.Tail, next: last, done: from, marks: marks,
			wire: wireWriter{conn: conn, prefix: store.SubjectFeed(f.cfg.Partition), reply: acks.subscription.Subject}}
		err := f.cfg.Tail.Follow(ctx, from, func(c *store.Commit) error { return sender.commit(ctx, c) })
		if err == nil {
			err = ctx.Err() // Follow ended because ctx did
		}
		return err
	})
	group.Go(func() error { return f.confirm(ctx, marks, acks) })
	group.Go(func() error { return guardStream(ctx, f.js, f.cfg.Stream.Name, f.check) })
	return group.Wait()
}

// place returns the chain to follow from and the feed's last sequence. The chain is that
// before the commit whose event the feed has last: some of that commit's events may
// already be there.
func (f *Feed) place(ctx context.Context) (store.Chain, uint64, error) {
	start := store.Chain{Partition: f.cfg.Partition}
	if err := store.CreateStreams(ctx, f.js, []jetstream.StreamConfig{f.cfg.Stream}); err != nil {
		return start, 0, err
	}
	stream, err := f.js.Stream(ctx, f.cfg.Stream.Name)
	if err != nil {
		return start, 0, fmt.Errorf("look up stream %s: %w", f.cfg.Stream.Name, err)
	}
	last := stream.CachedInfo().State.LastSeq
	if last == 0 {
		return start, 0, nil
	}
	// Read after the feed's last sequence, which never passes it.
	end := f.cfg.Tail.End()
	if last > end.Ordinal {
		return start, 0, fmt.Errorf("%w: the feed %s has %d events and the log, up to %d:%d, only %d%s",
			ErrLoss, f.cfg.Stream.Name, last, end.Partition, end.Sequence, end.Ordinal, lossAdvice)
	}
	c, before, err := commitOf(ctx, f.cfg.Tail, last-1, end)
	if err != nil {
		return start, 0, fmt.Errorf("find event %d of the feed in the log: %w", last, err)
	}
	return before, last, f.checkLast(ctx, stream, last, c)
}

// checkLast compares the feed's last message, where it was not trimmed, with the log: a
// log that was replaced by another of sufficient length has another event there.
func (f *Feed) checkLast(ctx context.Context, stream jetstream.Stream, last uint64, c *store.Commit) error {
	msg, err := stream.GetMsg(ctx, last)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read event %d of the feed: %w", last, err)
	}
	want := events.EventID(c.Time, c.Nonce, int(last-1-c.Ordinal)).String()
	if got := msg.Header.Get("ce-id"); got != want {
		return fmt.Errorf("%w: event %d of the feed %s is %q, in the log it is %q%s",
			ErrLoss, last, f.cfg.Stream.Name, got, want, lossAdvice)
	}
	return nil
}

// settle notes how far the feed is.
func (f *Feed) settle(done store.Chain, last uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done, f.last = done, last
}

// fail notes trouble, or with nil that there is none.
func (f *Feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failure = ""
	if err != nil {
		f.failure = err.Error()
	}
}
