package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// bucket is one key-value bucket and the view it shows. find, value and records are
// called under the views' lock.
type bucket struct {
	name  string
	needs []string
	// find returns the view's record of a key, a pointer, nil where there is none.
	find func(kvKey) any
	// value returns a copy of what a key's record holds, without its position.
	value func(key kvKey, record any) *kvValue
	// records calls f for every record of an account.
	records func(account string, f func(key kvKey, record any))
	// changes appends the keys of the values that an event changes.
	changes func(list []kvKey, e *events.Event) []kvKey

	cfg      KVConfig
	js       jetstream.JetStream
	stream   jetstream.StreamConfig
	dirtyMax int
	after    func(time.Duration) <-chan time.Time // the clock
	check    func(time.Duration) <-chan time.Time // when to look whether the stream is there

	mu      sync.Mutex // guards all below
	dirty   map[kvKey]struct{}
	writing bool        // some of dirty was taken out and is being written
	marked  store.Chain // up to it, all that changed is dirty, being written or written
	done    store.Chain // up to it, all that changed is written
	failure string      // the last trouble, "" when all that is marked was written since

	wake  chan struct{} // there is something in dirty
	space chan struct{} // dirty was emptied
}

// kvKey is a key of a bucket. Name is a key's id or an asset.
type kvKey struct{ account, environment, name string }

// String returns the key as the bucket has it. One that is not ours may have fewer parts.
func (k kvKey) String() string {
	s := k.account
	if k.environment != "" {
		s += "." + k.environment
	}
	if k.name != "" {
		s += "." + k.name
	}
	return s
}

func parseKVKey(s string) (k kvKey) {
	k.account, s, _ = strings.Cut(s, ".")
	k.environment, k.name, _ = strings.Cut(s, ".")
	return k
}

// kvValue is a value of a bucket: one of Key and Balance is there.
type kvValue struct {
	Position string      `json:"position"`
	Key      *events.Key `json:"key,omitzero"`
	Balance  *Balance    `json:"balance,omitzero"`
}

// place returns up to where all that changed is written, and the bucket's trouble.
func (b *bucket) place() (store.Chain, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	failure := b.failure
	if failure != "" {
		failure = b.name + ": " + failure
	}
	return b.done, failure
}

func (b *bucket) sequence() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done.Sequence
}

// start forgets what an earlier run left.
func (b *bucket) start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	start := store.Chain{Partition: b.cfg.Partition}
	b.dirty, b.writing, b.marked, b.done = map[kvKey]struct{}{}, false, start, start
}

// trouble notes why the bucket does not go on, and says whether that is news.
func (b *bucket) trouble(err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	news := b.failure == ""
	b.failure = err.Error()
	return news
}

// work reconciles the bucket and keeps it up with the log until something fails. That a
// view was made again is no failure: the bucket is reconciled with the new one.
func (b *bucket) work(ctx context.Context) error {
	for {
		err := b.keepUp(ctx)
		switch {
		case ctx.Err() != nil:
			return err
		case errors.Is(err, errRemade):
			b.cfg.Logger.Info("a key-value bucket is compared with its view anew", "bucket", b.name, "reason", err)
			continue
		case err != nil:
			b.trouble(err)
		}
		return err
	}
}

func (b *bucket) keepUp(ctx context.Context) error {
	if err := store.CreateStreams(ctx, b.js, []jetstream.StreamConfig{b.stream}); err != nil {
		return err
	}
	if err := awaitLog(ctx, b.cfg.Tail, b.cfg.Partition); err != nil {
		return err
	}
	if err := b.cfg.Views.Wait(ctx, b.cfg.Tail.End().Sequence); err != nil {
		return err
	}
	// All that changes after from is marked by following the log from there; all that
	// changed before is in the view that the bucket is compared with.
	made := b.cfg.Views.remade(b.needs)
	from := b.cfg.Views.Applied()
	b.start()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := b.reconcile(ctx); err != nil {
			return fmt.Errorf("reconcile: %w", err)
		}
		if err := b.mark(ctx, nil, &from); err != nil {
			return err
		}
		err := b.cfg.Tail.Follow(ctx, from, func(c *store.Commit) error { return b.commit(ctx, c) })
		if err == nil {
			err = ctx.Err() // Follow ended because ctx did
		}
		return err
	})
	group.Go(func() error { return b.write(ctx) })
	group.Go(func() error { return guardStream(ctx, b.js, b.stream.Name, b.check) })
	group.Go(func() error { return b.cfg.Views.guard(ctx, b.needs, made) })
	return group.Wait()
}

// commit marks what a commit changed.
func (b *bucket) commit(ctx context.Context, c *store.Commit) error {
	var changed []kvKey
	for e := range eventsOf(c) {
		changed = b.changes(changed, e)
	}
	marked := store.ChainAt(c)
	return b.mark(ctx, changed, &marked)
}

// mark adds keys to those to be written and, where marked is not nil, notes that all up
// to there is marked. It waits while there are too many: what is not yet marked waits in
// the log, where it takes no memory.
func (b *bucket) mark(ctx context.Context, changed []kvKey, marked *store.Chain) error {
	for !b.tryMark(changed, marked) {
		select {
		case <-b.space:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (b *bucket) tryMark(changed []kvKey, marked *store.Chain) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.dirty) >= b.dirtyMax && len(changed) > 0 {
		return false
	}
	for _, key := range changed {
		b.dirty[key] = struct{}{}
	}
	if marked != nil {
		b.marked = *marked
	}
	if len(b.dirty) > 0 {
		signal(b.wake)
	} else if !b.writing {
		b.done, b.failure = b.marked, ""
	}
	return true
}

// signal sets a flag that its one reader takes down.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write writes what is marked, every 100 ms while there is something, or less often
// where that is much: views for watching must not take the writer's time.
func (b *bucket) write(ctx context.Context) error {
	pause := kvPause
	for {
		select {
		case <-b.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		// The pause begins after the last write ended, so that no key is written
		// twice within it.
		select {
		case <-b.after(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		written, err := b.flush(ctx)
		pause = max(kvPause, time.Duration(written)*kvEach)
		var refused *jetstream.APIError
		if errors.As(err, &refused) {
			// Such as a full bucket. The keys are marked again; nothing is lost.
			if b.trouble(err) {
				b.cfg.Logger.Warn("the server refuses writes to a key-value bucket; trying on", "bucket", b.name, "error", err)
			}
			pause, err = kvRefused, nil
		}
		if err != nil {
			return err
		}
	}
}

// flush writes all that is marked now and says how much that was. What could not be
// written is marked again.
func (b *bucket) flush(ctx context.Context) (written int, err error) {
	b.mu.Lock()
	dirty, marked := b.dirty, b.marked
	b.dirty, b.writing = make(map[kvKey]struct{}), true
	b.mu.Unlock()
	signal(b.space)
	written = len(dirty)
	if err = b.cfg.Views.Wait(ctx, marked.Sequence); err == nil {
		err = b.writeAll(ctx, dirty)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing = false
	for key := range dirty {
		b.dirty[key] = struct{}{}
	}
	switch {
	case err != nil:
		signal(b.wake)
		return written, err
	case len(b.dirty) == 0:
		b.done = b.marked
	default:
		b.done = marked
	}
	b.failure = ""
	return written, nil
}

// writeAll writes the current values of keys in batches and takes each key out when its
// value is stored.
func (b *bucket) writeAll(ctx context.Context, keys map[kvKey]struct{}) error {
	batch := make([]kvKey, 0, kvBatchMax)
	for key := range keys {
		batch = append(batch, key)
		if len(batch) < kvBatchMax && len(batch) < len(keys) {
			continue
		}
		if err := b.writeBatch(ctx, batch); err != nil {
			return err
		}
		for _, written := range batch {
			delete(keys, written)
		}
		batch = batch[:0]
	}
	return nil
}

// writeBatch writes the current values of keys and returns when all are stored. Where the
// view has failed it writes nothing: what the bucket has stays.
func (b *bucket) writeBatch(ctx context.Context, keys []kvKey) error {
	values, accounts := make([]*kvValue, len(keys)), make([]string, len(keys))
	for i := range keys {
		accounts[i] = keys[i].account
	}
	at, failed := b.cfg.Views.read(accounts, func() *events.Error {
		for i, key := range keys {
			if record := b.find(key); record != nil {
				values[i] = b.value(key, record)
			}
		}
		return nil
	}, b.needs...)
	if failed != nil {
		return nil
	}
	acks := make([]jetstream.PubAckFuture, 0, len(keys))
	for i, key := range keys {
		if values[i] != nil {
			values[i].Position = at.String()
		}
		ack, err := b.publish(key, values[i])
		if err != nil {
			return fmt.Errorf("write %s: %w", key, err)
		}
		acks = append(acks, ack)
	}
	for i, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return fmt.Errorf("write %s: %w", keys[i], err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// publish writes one value, or where it is nil a delete marker (ADR-8).
func (b *bucket) publish(key kvKey, value *kvValue) (jetstream.PubAckFuture, error) {
	msg := &nats.Msg{Subject: "$KV." + b.name + "." + key.String(), Header: nats.Header{}}
	if value == nil {
		msg.Header.Set("KV-Operation", "DEL")
	} else {
		data, err := events.Encode(value)
		if err != nil {
			return nil, err
		}
		msg.Data = data
	}
	return b.js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0), jetstream.WithStallWait(kvAckTimeout))
}
