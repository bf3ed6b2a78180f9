package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Limits of the feed's pipeline. A batch is acknowledged as a whole, by its last message,
// and never reaches over the end of a commit. At most 4,096 messages are on their way, of
// 17 KiB at the most; the server takes in 100,000 messages or 128 MiB before it drops any.
const (
	feedBatchMax   = 64 // messages
	feedBatchesMax = 64 // sent and not yet acknowledged
	feedAckTimeout = 5 * time.Second
)

const lossAdvice = "; restore the log from an intact copy, or, if it was set back on purpose, delete the feed's stream to derive it again"

// FeedConfig is what a Feed works with. All members are required.
type FeedConfig struct {
	// Conn is the feed's own connection: a full pipeline holds up nobody else. It does
	// not buffer while disconnected (nats.ReconnectBufSize(-1)).
	Conn      *nats.Conn
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
	js, err := jetstream.New(cfg.Conn, jetstream.WithPublishAsyncTimeout(feedAckTimeout),
		jetstream.WithPublishAsyncMaxPending(4*feedBatchesMax))
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
	end := f.cfg.Tail.End()
	out := statusAt("feed", f.done, end, f.failure)
	out.LagEvents = 0 // parts of a commit count
	if end.Ordinal > f.last {
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
	from, last, err := f.place(ctx)
	if err != nil {
		return err
	}
	f.settle(from, last)
	marks := make(chan mark, feedBatchesMax)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		sender := feedSender{Feed: f, next: last, done: from, marks: marks}
		err := f.cfg.Tail.Follow(ctx, from, func(c *store.Commit) error { return sender.commit(ctx, c) })
		if err == nil {
			err = ctx.Err() // Follow ended because ctx did
		}
		return err
	})
	group.Go(func() error { return f.confirm(ctx, marks) })
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

// mark is a place in the pipeline: when ack has come, the feed has reached sequence.
type mark struct {
	ack      jetstream.PubAckFuture // nil where nothing was sent
	sequence uint64
	done     store.Chain // the last commit that is then wholly there
}

// feedSender sends events. It belongs to one goroutine.
type feedSender struct {
	*Feed
	next    uint64      // ordinal of the next event to send
	done    store.Chain // the last commit sent as a whole
	marks   chan<- mark
	encoder events.BinaryEncoder // of messages that nobody keeps
}

// commit sends the events of a commit that the feed does not have yet. Each expects the
// one before it, so one that is lost makes the server refuse all behind it: the
// acknowledgement of a batch's last message proves the whole batch, and only that one is
// asked for. If we crash anywhere in here the feed holds a beginning of what was sent,
// and its last sequence says which.
func (s *feedSender) commit(ctx context.Context, c *store.Commit) error {
	after := store.ChainAt(c)
	if s.next == after.Ordinal { // nothing in it, or all of it there
		s.done = after
		return s.mark(ctx, nil)
	}
	sequence, batch := c.Ordinal, 0
	return c.Each(func(e *events.CloudEvent) error {
		if sequence++; sequence <= s.next {
			return nil
		}
		expected := s.next
		s.next = sequence
		if batch++; batch < feedBatchMax && sequence < after.Ordinal {
			return s.publish(e, expected)
		}
		batch = 0
		msg, err := feedMessage(s.cfg.Partition, e, new(events.BinaryEncoder))
		if err != nil {
			return err
		}
		// Never sent again by itself: where the stream ends then decides.
		ack, err := s.js.PublishMsgAsync(msg, jetstream.WithExpectLastSequence(expected),
			jetstream.WithRetryAttempts(0), jetstream.WithStallWait(feedAckTimeout))
		if err != nil {
			return fmt.Errorf("publish event %s: %w", e.Position, err)
		}
		if sequence == after.Ordinal {
			s.done = after
		}
		return s.mark(ctx, ack)
	})
}

// publish sends an event that no acknowledgement is asked for. The connection has copied
// it when PublishMsg returns, so the next one may be made in the same memory.
func (s *feedSender) publish(e *events.CloudEvent, expected uint64) error {
	msg, err := feedMessage(s.cfg.Partition, e, &s.encoder)
	if err != nil {
		return err
	}
	msg.Header[jetstream.ExpectedLastSeqHeader] = []string{strconv.FormatUint(expected, 10)}
	return s.cfg.Conn.PublishMsg(msg)
}

// mark marks how far was sent; it waits while the pipeline is full.
func (s *feedSender) mark(ctx context.Context, ack jetstream.PubAckFuture) error {
	select {
	case s.marks <- mark{ack: ack, sequence: s.next, done: s.done}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// confirm takes the acknowledgements in order. Any surprise ends the pipeline.
func (f *Feed) confirm(ctx context.Context, marks <-chan mark) error {
	for {
		select {
		case m := <-marks:
			if err := f.acknowledged(ctx, m); err != nil {
				return err
			}
			f.settle(m.done, m.sequence)
			f.fail(nil)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// acknowledged waits for the acknowledgement of a mark.
func (f *Feed) acknowledged(ctx context.Context, m mark) error {
	if m.ack == nil {
		return nil
	}
	select {
	case ack := <-m.ack.Ok():
		if ack.Sequence != m.sequence || ack.Stream != f.cfg.Stream.Name {
			return fmt.Errorf("event %d of the feed was acknowledged as %d of stream %s", m.sequence, ack.Sequence, ack.Stream)
		}
		return nil
	case err := <-m.ack.Err():
		return fmt.Errorf("publish up to event %d of the feed: %w", m.sequence, err)
	case <-ctx.Done():
		return ctx.Err()
	}
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

// feedMessage is an event's message in the feed, good as long as what the encoder made.
func feedMessage(partition uint32, e *events.CloudEvent, encoder *events.BinaryEncoder) (*nats.Msg, error) {
	header, body, err := encoder.Encode(e)
	if err != nil {
		return nil, err
	}
	subject := store.SubjectFeed(partition) + e.Account + "." + orDash(e.Environment) + "." + e.Type + "." + orDash(e.Subject)
	return &nats.Msg{Subject: subject, Header: header, Data: body}, nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
