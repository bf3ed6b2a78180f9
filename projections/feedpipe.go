package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Limits of the feed's pipeline. A batch is acknowledged as a whole, by its last message.
// At most 4,224 messages are on their way, of 17 KiB at the most; the server takes in
// 100,000 messages or 128 MiB before it drops any.
const (
	feedBatchMax   = 64 // messages
	feedBatchesMax = 64 // sent and not yet acknowledged, in the queue of those who wait
	feedAckTimeout = 5 * time.Second
)

// mark is a place in the pipeline: once it is acknowledged the feed has reached sequence.
type mark struct {
	sent     bool // false: nothing was sent, so nothing will be acknowledged
	sequence uint64
	done     store.Chain // the last commit that is then wholly there
}

// feedSender sends events. It belongs to one goroutine.
type feedSender struct {
	tail  *store.Tail
	next  uint64      // ordinal of the next event to send
	done  store.Chain // the last commit sent as a whole
	batch int         // messages since the last mark
	marks chan<- mark
	wire  wireWriter
}

// commit sends the events of a commit that the feed does not have yet. Each expects the
// one before it, so one that is lost makes the server refuse all behind it: the
// acknowledgement of a batch's last message proves the whole batch, and only that one is
// asked for. A batch ends with the last commit there is, or when it is full. If we crash
// anywhere in here the feed holds a beginning of what was sent, and its last sequence
// says which. Nothing is sent again by itself.
func (s *feedSender) commit(ctx context.Context, c *store.Commit) error {
	sequence := c.Ordinal
	err := c.Each(func(e *events.CloudEvent) error {
		if sequence++; sequence <= s.next {
			return nil
		}
		if s.batch == feedBatchMax {
			if err := s.mark(ctx); err != nil {
				return err
			}
		}
		if err := s.wire.publish(e, s.next); err != nil {
			return err
		}
		s.batch++
		s.next = sequence
		return nil
	})
	if err != nil {
		return err
	}
	if s.done = store.ChainAt(c); s.tail.End().Sequence > c.Sequence {
		return nil // what comes next ends the batch
	}
	if err := s.mark(ctx); err != nil {
		return err
	}
	return s.wire.flush()
}

// mark ends the batch and marks how far was sent. While the pipeline is full it waits,
// and sends what was gathered before it does.
func (s *feedSender) mark(ctx context.Context) error {
	m := mark{sent: s.batch > 0, sequence: s.next, done: s.done}
	s.batch = 0
	if err := s.wire.end(); err != nil {
		return err
	}
	select {
	case s.marks <- m:
		return nil
	default:
	}
	if err := s.wire.flush(); err != nil {
		return err
	}
	select {
	case s.marks <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// feedAcks are the acknowledgements of what one relay sends, in order.
type feedAcks struct {
	subscription *nats.Subscription
	messages     chan *nats.Msg
	timer        *time.Timer
}

// listen returns when NATS knows where this relay wants acknowledgements.
func (f *Feed) listen(ctx context.Context) (*feedAcks, error) {
	// Room for all there can be: one that finds none is lost.
	a := &feedAcks{messages: make(chan *nats.Msg, feedBatchesMax+2), timer: time.NewTimer(feedAckTimeout)}
	var err error
	if a.subscription, err = f.cfg.Conn.ChanSubscribe(f.cfg.Conn.NewInbox(), a.messages); err != nil {
		return nil, fmt.Errorf("subscribe to the feed's acknowledgements: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, feedAckTimeout)
	defer cancel()
	if err := f.cfg.Conn.FlushWithContext(ctx); err != nil {
		a.close()
		return nil, fmt.Errorf("subscribe to the feed's acknowledgements: %w", err)
	}
	return a, nil
}

func (a *feedAcks) close() {
	a.timer.Stop()
	_ = a.subscription.Unsubscribe() // fails where the connection is gone, and it with it
}

// confirm takes the acknowledgements in order. Any surprise ends the pipeline.
func (f *Feed) confirm(ctx context.Context, marks <-chan mark, acks *feedAcks) error {
	for {
		select {
		case m := <-marks:
			if m.sent {
				if err := f.acknowledged(ctx, m.sequence, acks); err != nil {
					return err
				}
			}
			f.settle(m.done, m.sequence)
			f.fail(nil)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// acknowledged waits for the next acknowledgement, which must be of a sequence.
func (f *Feed) acknowledged(ctx context.Context, sequence uint64, acks *feedAcks) error {
	acks.timer.Reset(feedAckTimeout)
	var msg *nats.Msg
	select {
	case msg = <-acks.messages:
	case <-acks.timer.C:
		return fmt.Errorf("publish up to event %d of the feed: %w", sequence, nats.ErrTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
	var ack struct {
		Error    *jetstream.APIError `json:"error"`
		Stream   string              `json:"stream"`
		Sequence uint64              `json:"seq"`
	}
	err := json.Unmarshal(msg.Data, &ack)
	switch {
	case len(msg.Data) == 0: // status 503: nobody takes it (ADR-4)
		return fmt.Errorf("publish up to event %d of the feed: %w", sequence, nats.ErrNoResponders)
	case err != nil:
		return fmt.Errorf("publish up to event %d of the feed: read the acknowledgement: %w", sequence, err)
	case ack.Error != nil:
		return fmt.Errorf("publish up to event %d of the feed: %w", sequence, ack.Error)
	case ack.Sequence != sequence || ack.Stream != f.cfg.Stream.Name:
		return fmt.Errorf("event %d of the feed was acknowledged as %d of stream %s", sequence, ack.Sequence, ack.Stream)
	}
	return nil
}
