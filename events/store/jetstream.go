package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Codes of JetStream's answers to an append (nats-server errors.json).
const (
	errCodeWrongLastSequence         = 10071
	errCodeWrongLastSequenceConstant = 10164 // the same on a replicated stream
	errCodeInsufficientResources     = 10023
	errCodeStorageExceeded           = 10047
	errCodeStoreFailed               = 10077 // with the text "maximum bytes exceeded"
)

// readStall is how long a reader waits for the next message of a range before it looks
// for that message by itself.
const readStall = 5 * time.Second

// fewMessages is the range up to which single gets are cheaper than a consumer.
const fewMessages = 16

// readAhead bounds what a reader asks for before it is there, in bytes; up to twice that
// is on its way. nats.go's default is 500 messages, 128 MiB of the largest, and
// nats-server cuts a connection off that has 64 MiB waiting; a few readers share one.
const readAhead = 2 << 20

// JetStream is a partition's log in JetStream.
type JetStream struct {
	js        jetstream.JetStream
	stream    jetstream.Stream
	subject   string
	partition uint32
}

// OpenJetStream opens the existing stream of a partition's log.
func OpenJetStream(ctx context.Context, js jetstream.JetStream, partition uint32) (*JetStream, error) {
	stream, err := js.Stream(ctx, StreamLog(partition))
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", StreamLog(partition), err)
	}
	return &JetStream{js: js, stream: stream, subject: SubjectLog(partition), partition: partition}, nil
}

// Append implements Log. Nats-Expected-Last-Sequence (ADR-22) is the fence. No retries:
// a second copy of the bytes could be stored for a writer that lost the log meanwhile.
func (l *JetStream) Append(ctx context.Context, data []byte, expected uint64) (uint64, error) {
	msg := &nats.Msg{Subject: l.subject, Data: data}
	ack, err := l.js.PublishMsg(ctx, msg,
		jetstream.WithExpectLastSequence(expected), jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, appendError(err)
	}
	if ack.Stream != StreamLog(l.partition) || ack.Duplicate {
		return 0, fmt.Errorf("append after %d: impossible acknowledgement from stream %s (duplicate %t)",
			expected, ack.Stream, ack.Duplicate)
	}
	return ack.Sequence, nil
}

// appendError maps what is certain; all else stays an unknown outcome.
func appendError(err error) error {
	var api *jetstream.APIError
	var jsErr jetstream.JetStreamError
	if errors.As(err, &jsErr) {
		api = jsErr.APIError()
	}
	if api == nil {
		return fmt.Errorf("append: %w", err)
	}
	switch int(api.ErrorCode) {
	case errCodeWrongLastSequence, errCodeWrongLastSequenceConstant:
		return fmt.Errorf("%w: %v", ErrConflict, err)
	case errCodeInsufficientResources, errCodeStorageExceeded:
		return fmt.Errorf("%w: %v", ErrStorageFull, err)
	case errCodeStoreFailed:
		if api.Description == "maximum bytes exceeded" {
			return fmt.Errorf("%w: %v", ErrStorageFull, err)
		}
	}
	return fmt.Errorf("append: %w", err)
}

// Last implements Log.
func (l *JetStream) Last(ctx context.Context) (uint64, error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("look up the log's end: %w", err)
	}
	return info.State.LastSeq, nil
}

// Get implements Log.
func (l *JetStream) Get(ctx context.Context, sequence uint64) ([]byte, error) {
	if sequence == 0 { // JetStream calls that a malformed request
		return nil, ErrNoMessage
	}
	msg, err := l.stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, ErrNoMessage
	}
	if err != nil {
		return nil, fmt.Errorf("get message %d of the log: %w", sequence, err)
	}
	return msg.Data, nil
}

// Read implements Log.
func (l *JetStream) Read(ctx context.Context, from, to uint64, f func(uint64, []byte) error) error {
	from = max(from, 1)
	if to < from {
		return nil
	}
	if to-from < fewMessages {
		return l.readSingly(ctx, from, to, f)
	}
	return l.readRange(ctx, from, to, f)
}

func (l *JetStream) readSingly(ctx context.Context, from, to uint64, f func(uint64, []byte) error) error {
	for sequence := from; sequence <= to; sequence++ {
		data, err := l.Get(ctx, sequence)
		if errors.Is(err, ErrNoMessage) {
			continue
		}
		if err != nil {
			return err
		}
		if err := f(sequence, data); err != nil {
			return err
		}
	}
	return nil
}

// readRange reads through an ordered consumer (ADR-17). When it stalls, because the
// server lost a record at the end of the range, the rest is looked up singly, which
// tells missing from slow.
func (l *JetStream) readRange(ctx context.Context, from, to uint64, f func(uint64, []byte) error) error {
	consumer, err := l.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   from,
		// Stop does not delete the consumer; the server does, after this long.
		InactiveThreshold: 2 * readStall,
	})
	if err != nil {
		return fmt.Errorf("read the log from %d: %w", from, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxBytes(readAhead))
	if err != nil {
		return fmt.Errorf("read the log from %d: %w", from, err)
	}
	defer messages.Stop()
	for next := from; next <= to; {
		wait, cancel := context.WithTimeout(ctx, readStall)
		msg, err := messages.Next(jetstream.NextContext(wait))
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return l.readSingly(ctx, next, to, f)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read the log at %d: %w", next, err)
		}
		if meta.Sequence.Stream > to {
			return nil
		}
		if err := f(meta.Sequence.Stream, msg.Data()); err != nil {
			return err
		}
		next = meta.Sequence.Stream + 1
	}
	return nil
}
