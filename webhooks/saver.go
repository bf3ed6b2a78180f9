package webhooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
)

// errCheckpoint: the last checkpoint is there, but not as it was written. To begin
// without it would send everything again that the log holds.
var errCheckpoint = fmt.Errorf("the last checkpoint of webhooks %w", store.ErrDamagedWitness)

// saver writes checkpoints, one at a time, each behind a fence: it names the sequence of
// the one before it (Nats-Expected-Last-Sequence, ADR-22).
//
// Every outcome of a write is covered. Not stored: the next checkpoint holds all that
// this one did. Stored, but reported failed: the stream's last message is then ours, by
// its writer, and the fence moves over it. Stored by another dispatcher: ErrFenced.
type saver struct {
	js        jetstream.JetStream
	partition uint32
	writer    [16]byte // random; not changed after New
	last      uint64   // last sequence of the stream, as far as is known
}

// load reads the newest checkpoint; an empty one where none was ever written.
func (s *saver) load(ctx context.Context) (*checkpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, saveWithin)
	defer cancel()
	data, last, err := s.newest(ctx)
	if err != nil {
		return nil, err
	}
	s.last = last
	if data == nil {
		return &checkpoint{}, nil
	}
	c, err := decodeCheckpoint(data)
	if err != nil {
		return nil, fmt.Errorf("%w: message %d of stream %s: %w", errCheckpoint, last, store.StreamLanes(s.partition), err)
	}
	return c, nil
}

// Witness returns the last commit that the newest checkpoint of a partition has seen: the
// log once reached it, with that hash. Sequence 0 means that there is no checkpoint.
func Witness(ctx context.Context, js jetstream.JetStream, partition uint32) (sequence uint64, hash store.Hash, err error) {
	s := saver{js: js, partition: partition}
	c, err := s.load(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, store.Hash{}, nil
	}
	if err != nil {
		return 0, store.Hash{}, err
	}
	return c.Sequence, c.Hash, nil
}

// newest returns the last message of the stream, nil where there is none, and the
// stream's last sequence.
func (s *saver) newest(ctx context.Context) ([]byte, uint64, error) {
	stream, err := s.js.Stream(ctx, store.StreamLanes(s.partition))
	if err != nil {
		return nil, 0, fmt.Errorf("look up stream %s: %w", store.StreamLanes(s.partition), err)
	}
	last := stream.CachedInfo().State.LastSeq
	if last == 0 {
		return nil, 0, nil
	}
	msg, err := stream.GetMsg(ctx, last)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, fmt.Errorf("%w: message %d of stream %s was deleted; restore it, or, to send everything again that the log holds, delete the stream",
			errCheckpoint, last, store.StreamLanes(s.partition))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the last checkpoint: %w", err)
	}
	return msg.Data, last, nil
}

// save writes a checkpoint. An error other than ErrFenced leaves open whether it is
// stored; the next one may follow in any case.
func (s *saver) save(ctx context.Context, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, saveWithin)
	defer cancel()
	// If we crash before the next line, what was settled since the last checkpoint is
	// sent again. If we crash behind it, nothing is.
	ack, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: store.SubjectLanes(s.partition), Data: data},
		jetstream.WithExpectLastSequence(s.last), jetstream.WithRetryAttempts(0))
	if err == nil {
		s.last = ack.Sequence
		return nil
	}
	err = fmt.Errorf("write checkpoint after %d: %w", s.last, err)
	newest, last, lookErr := s.newest(ctx)
	if lookErr != nil {
		return errors.Join(err, lookErr)
	}
	if last == s.last {
		var api *jetstream.APIError
		if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
			// It has more, and a look behind that shows no more. Sequences only grow.
			return fmt.Errorf("%w: NATS has lost its last messages to damage: %w; restore the stream's folder from an intact copy, or, to send everything again that the log holds, move it away", errCheckpoint, err)
		}
		return err // not stored, or not yet
	}
	theirs, decodeErr := decodeCheckpoint(newest)
	if newest != nil && (decodeErr != nil || theirs.Writer != s.writer) {
		return fmt.Errorf("%w: message %d of stream %s is not ours", ErrFenced, last, store.StreamLanes(s.partition))
	}
	s.last = last // ours, or the stream was made anew
	if bytes.Equal(newest, data) {
		return nil
	}
	return err
}
