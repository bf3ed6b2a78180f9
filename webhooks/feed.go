package webhooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
)

const (
	// feedSingly is how many messages a reading gets one by one before it makes a consumer:
	// most want few, and one that catches up thousands.
	feedSingly = 16
	// feedReadings is how many consumers are kept for whoever reads on where they are, over
	// all endpoints, and feedIdle for how long.
	feedReadings = 8
	feedIdle     = 2 * time.Second
	feedAhead    = 256 // messages that a consumer sends before they are asked for
)

// feed is the feed as lanes read it.
type feed interface {
	// state returns how the stream stands.
	state(ctx context.Context) (jetstream.StreamState, error)
	// read calls f for an account's messages from one sequence up to another, inclusive, in
	// order, until f returns an error: for that message it was not called then.
	read(ctx context.Context, account string, from, to uint64, f func(*store.Scanned) error) error
}

// streamFeed is the feed in JetStream. It gets a few messages one by one, by subject (ADR-31),
// and then through a consumer, which goes on in the next reading if that begins where this one
// ends. Batches of direct get would count what is pending each time, in all of the stream.
type streamFeed struct {
	js        jetstream.JetStream
	partition uint32

	mu     sync.Mutex       // guards what follows
	stream jetstream.Stream // once its state was asked for
	idle   []*reading       // oldest first
}

// reading is a consumer of an account's messages. It has one user at a time.
type reading struct {
	account  string
	next     uint64         // all messages from this sequence on are still to come
	pending  bool           // the consumer has one
	peeked   *store.Scanned // the next, if it is here already; the consumer may send it once more
	messages jetstream.MessagesContext
	expire   *time.Timer
}

func (f *streamFeed) filter(account string) string {
	return store.SubjectFeed(f.partition) + account + ".>"
}

func (f *streamFeed) state(ctx context.Context) (jetstream.StreamState, error) {
	stream, err := f.js.Stream(ctx, store.StreamFeed(f.partition))
	if err != nil {
		return jetstream.StreamState{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stream = stream
	return stream.CachedInfo().State, nil
}

func (f *streamFeed) read(ctx context.Context, account string, from, to uint64, take func(*store.Scanned) error) (err error) {
	stream, r := f.resume(account, from)
	defer func() { f.keep(r, err) }()
	for n := 0; from <= to; n++ {
		if r == nil && n == feedSingly {
			if r, err = openReading(ctx, stream, account, f.filter(account), from); err != nil {
				return err
			}
		}
		ready := r.ready()
		var m *store.Scanned
		if ready {
			m, err = r.get(ctx)
		} else {
			m, err = f.get(ctx, stream, account, from)
		}
		switch {
		case err != nil:
			return err
		case m == nil && ready:
			continue
		case m == nil:
			return nil
		case m.Sequence > to:
			r.unread(m)
			return nil
		case r != nil && !ready: // it comes by the consumer too
			r.pending = true
			continue
		}
		if err := take(m); err != nil {
			r.unread(m)
			return err
		}
		from = m.Sequence + 1
		r.moved(from)
	}
	return nil
}

// get gets an account's next message from a sequence on, nil if there is none.
func (f *streamFeed) get(ctx context.Context, stream jetstream.Stream, account string, from uint64) (*store.Scanned, error) {
	msg, err := stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(f.filter(account)))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &store.Scanned{Sequence: msg.Sequence, Stored: msg.Time, Subject: msg.Subject, Header: msg.Header, Data: msg.Data}, nil
}

// resume returns the stream, and takes a consumer that is where a reading begins, nil if
// there is none.
func (f *streamFeed) resume(account string, from uint64) (jetstream.Stream, *reading) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.idle, func(r *reading) bool { return r.account == account && r.at(from) })
	if i < 0 {
		return f.stream, nil
	}
	r := f.idle[i]
	f.idle = slices.Delete(f.idle, i, i+1)
	r.expire.Stop()
	r.next = from
	return f.stream, r
}

// keep keeps a consumer for whoever reads on, after a reading that ended in err.
func (f *streamFeed) keep(r *reading, err error) {
	switch {
	case r == nil:
		return
	case err != nil && !errors.Is(err, errEnough):
		r.messages.Stop()
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle = append(f.idle, r)
	r.expire = time.AfterFunc(feedIdle, func() { f.drop(r) })
	if len(f.idle) > feedReadings {
		f.idle[0].expire.Stop()
		f.idle[0].messages.Stop()
		f.idle = slices.Delete(f.idle, 0, 1)
	}
}

// drop gives up a consumer that nobody wanted.
func (f *streamFeed) drop(r *reading) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.idle, r); i >= 0 {
		f.idle = slices.Delete(f.idle, i, i+1)
		r.messages.Stop()
	}
}

func openReading(ctx context.Context, stream jetstream.Stream, account, filter string, from uint64) (*reading, error) {
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
		// Stop does not delete the consumer; the server does, after this long.
		InactiveThreshold: 2 * feedIdle,
	})
	if err != nil {
		return nil, fmt.Errorf("read the feed from %d: %w", from, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(feedAhead))
	if err != nil {
		return nil, fmt.Errorf("read the feed from %d: %w", from, err)
	}
	return &reading{account: account, next: from, messages: messages}, nil
}

// ready says whether a message will come by the consumer.
func (r *reading) ready() bool { return r != nil && (r.pending || r.peeked != nil) }

// at says whether the next message is the first from a sequence on.
func (r *reading) at(from uint64) bool {
	if r.peeked != nil {
		return r.next <= from && r.peeked.Sequence >= from
	}
	return r.next == from || r.next < from && !r.pending
}

// get returns the next message. It waits for one that is pending; nil: it was there before.
func (r *reading) get(ctx context.Context) (*store.Scanned, error) {
	if r.peeked != nil {
		return r.peeked, nil
	}
	msg, err := r.messages.Next(jetstream.NextContext(ctx))
	if err != nil {
		return nil, err
	}
	meta, err := msg.Metadata()
	if err != nil {
		return nil, err
	}
	if r.pending = meta.NumPending > 0; meta.Sequence.Stream < r.next {
		return nil, nil
	}
	return &store.Scanned{Sequence: meta.Sequence.Stream, Stored: meta.Timestamp, Subject: msg.Subject(), Header: msg.Headers(), Data: msg.Data()}, nil
}

// unread has a message come again.
func (r *reading) unread(m *store.Scanned) {
	if r != nil && m != nil {
		r.peeked = m
	}
}

// moved notes that all before a sequence was taken.
func (r *reading) moved(next uint64) {
	if r != nil {
		r.next, r.peeked = next, nil
	}
}
