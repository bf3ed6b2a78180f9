package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// ErrFeed is what CheckFeed returns where the feed does not say what the log says.
var ErrFeed = errors.New("the feed is damaged")

// feedStall is how long CheckFeed waits for a message before it counts as missing.
const feedStall = 5 * time.Second

// errFeedEnd ends the walk over the log where the feed ends.
var errFeedEnd = errors.New("end of the feed")

// FeedCheck is CheckFeed while the feed is written and trimmed.
func FeedCheck(js jetstream.JetStream, tail *store.Tail, partition uint32) Check {
	return Check{Name: "feed", Run: func(ctx context.Context, _ func(done, total uint64)) (string, error) {
		for {
			first, err := feedFirst(ctx, js, partition)
			if err != nil {
				return "", err
			}
			if err = CheckFeed(ctx, js, tail.Log(), partition, tail.End().Sequence); !errors.Is(err, ErrFeed) {
				return "", err
			}
			if now, lookErr := feedFirst(ctx, js, partition); lookErr != nil || now == first {
				return err.Error(), nil
			}
			// Something was trimmed meanwhile, which looks like missing.
		}
	}}
}

// feedFirst is the sequence of the oldest event that the feed still has.
func feedFirst(ctx context.Context, js jetstream.JetStream, partition uint32) (uint64, error) {
	stream, err := js.Stream(ctx, store.StreamFeed(partition))
	if err != nil {
		return 0, fmt.Errorf("check the feed: %w", err)
	}
	return stream.CachedInfo().State.FirstSeq, nil
}

// CheckFeed compares every message of the feed with the log up to sequence end. A feed
// that ends before the log does is no error, for it is derived again; nor is one whose
// oldest messages were trimmed. The feed's stream must be there.
func CheckFeed(ctx context.Context, js jetstream.JetStream, log store.Log, partition uint32, end uint64) error {
	stream, err := js.Stream(ctx, store.StreamFeed(partition))
	if err != nil {
		return fmt.Errorf("check the feed: %w", err)
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		return nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{HeadersOnly: true})
	if err != nil {
		return fmt.Errorf("check the feed: %w", err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("check the feed: %w", err)
	}
	defer messages.Stop()
	chain := store.Chain{Partition: partition}
	err = store.ReadChecked(ctx, log, &chain, end, func(c *store.Commit) error {
		return c.Each(func(e *events.CloudEvent) error {
			sequence := c.Ordinal + uint64(e.Position.Index) + 1
			switch {
			case sequence < state.FirstSeq:
				return nil
			case sequence > state.LastSeq:
				return errFeedEnd
			}
			return checkFeedEvent(messages, sequence, e)
		})
	})
	if errors.Is(err, errFeedEnd) {
		return nil
	}
	return err
}

// checkFeedEvent compares the next message with the event that belongs at a sequence.
func checkFeedEvent(messages jetstream.MessagesContext, sequence uint64, e *events.CloudEvent) error {
	m, err := messages.Next(jetstream.NextMaxWait(feedStall))
	found := "nothing"
	if err == nil {
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("check the feed: %w", err)
		}
		if meta.Sequence.Stream == sequence && m.Headers().Get("ce-id") == e.ID.String() {
			return nil
		}
		found = fmt.Sprintf("%q at %d", m.Headers().Get("ce-id"), meta.Sequence.Stream)
	}
	return fmt.Errorf("%w at %s: event %s belongs at %d, and %s is there; the log itself is whole: "+
		"to have the feed derived again, stop keyledger and move its stream's folder away, or restore it from an intact copy",
		ErrFeed, e.Position, e.ID, sequence, found)
}
