package projections

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Limits of writing to the buckets.
const (
	kvPause      = 100 * time.Millisecond // at most one write per key in it
	kvEach       = time.Millisecond       // of pause for each write: 1,000 writes a second to a bucket, at the most
	kvDirtyMax   = 65_536                 // keys that wait to be written; more have to wait in the log
	kvBatchMax   = 256                    // values that are read under one lock and written at once
	kvAckTimeout = 5 * time.Second
	kvRefused    = time.Second // pause after the server refused a write
)

// KVConfig is what a KV works with. All members are required.
type KVConfig struct {
	// Conn is the writer's own connection; it does not buffer while disconnected
	// (nats.ReconnectBufSize(-1)).
	Conn      *nats.Conn
	Views     *Views
	Tail      *store.Tail
	Partition uint32
	// Streams are the streams of the two buckets, to make them again where they are gone.
	Streams []jetstream.StreamConfig
	Logger  *slog.Logger
}

// KV keeps the buckets store.BucketKeys, under <account>.<environment>.<key id>, and
// store.BucketBalances, under <account>.<environment>.<asset>, like the views. A value is
// the object that key.get or balance.get answers with beside the position it is true at:
//
//	{"position":"0:42","key":{…}}        {"position":"0:42","balance":{…}}
//
// The newest value wins: what changes between two writes of a key is never seen. A key
// is written at most once in 100 ms. The use of a key alone is no reason to write it, so
// last_used_at, _ip and _product are those of the write, and so is resets_at of an allowance
// that is whole: no event tells of its periods. Values come from the views, never from the log.
type KV struct {
	buckets []*bucket
}

// NewKV makes a KV. Run works it.
func NewKV(cfg KVConfig) (*KV, error) {
	js, err := jetstream.New(cfg.Conn, jetstream.WithPublishAsyncTimeout(kvAckTimeout),
		jetstream.WithPublishAsyncMaxPending(4*kvBatchMax))
	if err != nil {
		return nil, fmt.Errorf("make the key-value buckets: %w", err)
	}
	k := &KV{buckets: []*bucket{keysBucket(cfg.Views), balancesBucket(cfg.Views)}}
	for _, b := range k.buckets {
		at := slices.IndexFunc(cfg.Streams, func(c jetstream.StreamConfig) bool { return c.Name == "KV_"+b.name })
		if at < 0 {
			return nil, fmt.Errorf("make the key-value buckets: no configuration for stream KV_%s", b.name)
		}
		b.stream = cfg.Streams[at]
		b.cfg, b.js, b.dirtyMax, b.after, b.check = cfg, js, kvDirtyMax, time.After, time.After
		b.wake, b.space = make(chan struct{}, 1), make(chan struct{}, 1)
		b.start()
	}
	return k, nil
}

// Run keeps the buckets like the views until ctx ends, then it returns nil. It makes
// their streams again where they are gone. At the start and after any trouble it first
// compares all that is there with the views: it writes what differs and deletes what
// should not be. A bucket whose view has failed is left as it is, and one that is in
// trouble does not hold up the other. It returns a *store.DamageError where the log is
// not what was written.
func (k *KV) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, b := range k.buckets {
		group.Go(func() error {
			if err := persist(ctx, b.cfg.Logger.With("bucket", b.name), b.work, b.sequence); err != nil {
				return fmt.Errorf("keep bucket %s: %w", b.name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// Status returns how far the buckets are: the one that is further behind. Failure is the
// last trouble of each, until all that it lacked is written.
func (k *KV) Status() Status {
	place, failures := k.buckets[0].place()
	for _, b := range k.buckets[1:] {
		done, failure := b.place()
		if done.Sequence < place.Sequence {
			place = done
		}
		failures = strings.Trim(failures+"; "+failure, "; ")
	}
	return StatusAt("kv", place, k.buckets[0].cfg.Tail, failures)
}

// keysBucket shows the view of keys.
func keysBucket(v *Views) *bucket {
	return &bucket{
		name: store.BucketKeys, needs: []string{ViewKeys},
		find: func(key kvKey) any {
			r := v.keys.byID[key.name]
			if r == nil || r.value.Account != key.account || r.value.Environment != key.environment {
				return nil
			}
			return r
		},
		value: func(_ kvKey, record any) *kvValue { return &kvValue{Key: record.(*keyRecord).value.object()} },
		records: func(account string, f func(kvKey, any)) {
			for _, r := range v.keys.lists[account] {
				f(kvKey{account, r.value.Environment, r.id}, r)
			}
		},
		changes: func(list []kvKey, e *events.Event) []kvKey {
			if d, ok := e.Data.(*events.Key); ok {
				list = append(list, kvKey{d.Account, d.Environment, d.ID})
			}
			return list
		},
	}
}

// balancesBucket shows the view of balances.
func balancesBucket(v *Views) *bucket {
	return &bucket{
		name: store.BucketBalances, needs: []string{viewBalances, viewAccounts},
		find: func(key kvKey) any {
			if b := v.balances.byID[balanceID{key.account, key.environment, key.name}]; b != nil {
				return b
			}
			return nil
		},
		value: func(key kvKey, record any) *kvValue {
			return &kvValue{Balance: v.showBalance(key.account, record.(*Balance))}
		},
		records: func(account string, f func(kvKey, any)) {
			for _, id := range v.balances.accounts[account] {
				f(kvKey{id.account, id.environment, id.asset}, v.balances.byID[id])
			}
		},
		changes: func(list []kvKey, e *events.Event) []kvKey {
			moved, n := events.Movements(e.Data)
			for i := range moved[:n] {
				list = append(list, kvKey{e.Account, moved[i].After.Environment, moved[i].After.Asset})
			}
			return list
		},
	}
}
