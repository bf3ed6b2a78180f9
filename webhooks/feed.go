package webhooks

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
)

// feed is the feed as lanes read it.
type feed interface {
	// state returns how the stream stands.
	state(ctx context.Context) (jetstream.StreamState, error)
	// read calls f for an account's messages from one sequence up to another, inclusive, in
	// order, until f returns an error, which is expected after some few.
	read(ctx context.Context, account string, from, to uint64, few int, f func(*store.Scanned) error) error
}

// streamFeed is the feed in JetStream. It is read by direct get (ADR-31), some messages in
// each answer: a consumer would have to be made and deleted for each reading.
type streamFeed struct {
	js        jetstream.JetStream
	partition uint32
}

func (f streamFeed) state(ctx context.Context) (jetstream.StreamState, error) {
	stream, err := f.js.Stream(ctx, store.StreamFeed(f.partition))
	if err != nil {
		return jetstream.StreamState{}, err
	}
	return stream.CachedInfo().State, nil
}

func (f streamFeed) read(ctx context.Context, account string, from, to uint64, few int, take func(*store.Scanned) error) error {
	return store.Forwards(ctx, f.js.Conn(), store.StreamFeed(f.partition), store.SubjectFeed(f.partition)+account+".>", from, to+1, few, take)
}
