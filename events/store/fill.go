package store

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// fillWindow is how many messages of a Filler may be under way: of the largest, 16 MiB.
const fillWindow = 64

// Filler writes a log anew, without waiting for each message. It is for a log that nobody
// serves: a writer has one append in flight (JetStream.Append). Every message expects the
// one before it, so where one is not stored, none after it is.
type Filler struct {
	js        jetstream.JetStream
	partition uint32
	sent      uint64
	window    []jetstream.PubAckFuture // under way, oldest first
}

// NewFiller makes a Filler of a partition's log, which must be empty.
func NewFiller(conn *nats.Conn, partition uint32) (*Filler, error) {
	js, err := jetstream.New(conn)
	return &Filler{js: js, partition: partition}, err
}

// Append sends the next message. An error may be that of an earlier one; no call may
// follow it.
func (f *Filler) Append(ctx context.Context, data []byte) error {
	if len(f.window) == fillWindow {
		if err := f.settle(ctx); err != nil {
			return err
		}
	}
	ack, err := f.js.PublishMsgAsync(&nats.Msg{Subject: SubjectLog(f.partition), Data: data},
		jetstream.WithExpectLastSequence(f.sent), jetstream.WithRetryAttempts(0))
	if err != nil {
		return fmt.Errorf("append after %d: %w", f.sent, err)
	}
	f.sent++
	f.window = append(f.window, ack)
	return nil
}

// Flush waits until all that was sent is stored. What the server syncs is its setting.
func (f *Filler) Flush(ctx context.Context) error {
	for len(f.window) > 0 {
		if err := f.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settle waits for the oldest message under way.
func (f *Filler) settle(ctx context.Context) error {
	want := f.sent - uint64(len(f.window)) + 1
	select {
	case ack := <-f.window[0].Ok():
		if ack.Stream != StreamLog(f.partition) || ack.Sequence != want || ack.Duplicate {
			return fmt.Errorf("append %d: impossible acknowledgement of %d from stream %s", want, ack.Sequence, ack.Stream)
		}
	case err := <-f.window[0].Err():
		return appendError(err)
	case <-ctx.Done():
		return ctx.Err()
	}
	f.window = f.window[1:]
	return nil
}
