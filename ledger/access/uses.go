package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	retainedAgain = 10 * time.Second // before the stream is read again after an error
	retainedStall = 5 * time.Second  // for the next record of the stream
)

// tellRetained tells of the free uses that the stream retains, once.
func (l *Log) tellRetained(ctx context.Context) error {
	for {
		err := l.cfg.Caught(ctx)
		if err == nil {
			err = l.readUses(ctx)
		}
		if err == nil || ctx.Err() != nil {
			return nil
		}
		l.cfg.Logger.Warn("cannot read the access log: last uses of keys may be older than they were; trying again", "error", err, "pause", retainedAgain)
		select {
		case <-time.After(retainedAgain):
		case <-ctx.Done():
			return nil
		}
	}
}

// readUses reads the records of free requests that the stream holds now.
func (l *Log) readUses(ctx context.Context) error {
	consumer, err := l.js.OrderedConsumer(ctx, store.StreamAccess, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{store.SubjectAccess + "*." + string(events.OK)},
	})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", store.StreamAccess, err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", store.StreamAccess, err)
	}
	left := info.NumPending
	if left == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("read stream %s: %w", store.StreamAccess, err)
	}
	defer messages.Stop()
	list := make([]Use, 0, usesBatch)
	for left > 0 {
		var r Record
		if left, err = nextRecord(ctx, messages, &r); err != nil {
			return fmt.Errorf("read stream %s: %w", store.StreamAccess, err)
		}
		if r.Key != "" {
			list = append(list, r.use())
		}
		if len(list) == usesBatch || left == 0 {
			l.cfg.Used(list)
			list = make([]Use, 0, usesBatch)
		}
	}
	return nil
}

// nextRecord reads one record and returns how many are left. A record of a newer version
// is read as far as it is understood.
func nextRecord(ctx context.Context, messages jetstream.MessagesContext, r *Record) (left uint64, err error) {
	wait, cancel := context.WithTimeout(ctx, retainedStall)
	defer cancel()
	msg, err := messages.Next(jetstream.NextContext(wait))
	if err != nil {
		return 0, err
	}
	at, err := msg.Metadata()
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(msg.Data(), r); err != nil {
		return 0, errors.Join(fmt.Errorf("record %d", at.Sequence.Stream), err)
	}
	return at.NumPending, nil
}
