package projections

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
)

const (
	// reconcileAccounts is how many accounts are looked at under one lock.
	reconcileAccounts = 256
	// kvReadStall is how long the next value of a bucket may take.
	kvReadStall = 5 * time.Second
)

// reconcile marks every key whose value differs from the view, is missing, or should not
// be there. A bucket whose view has failed is left as it is.
func (b *bucket) reconcile(ctx context.Context) error {
	return b.differing(ctx, func(keys ...kvKey) error { return b.mark(ctx, keys, nil) })
}

// differing calls f for every key whose value differs from the view, is missing, or should
// not be there. It keeps a pointer for each value that it saw, and no value. Where the view
// has failed nothing differs.
func (b *bucket) differing(ctx context.Context, f func(...kvKey) error) error {
	seen := map[any]struct{}{} // the view's records that there is a value of
	err := b.readAll(ctx, func(key kvKey, value []byte) error {
		if b.same(key, value, seen) {
			return nil
		}
		return f(key)
	})
	if err != nil {
		return err
	}
	for start, more := 0, true; more; start += reconcileAccounts {
		var accounts []string
		accounts, more = b.cfg.Views.accountsFrom(start, reconcileAccounts)
		var missing []kvKey
		_, failed := b.cfg.Views.read(accounts, func() *events.Error {
			for _, account := range accounts {
				b.records(account, func(key kvKey, record any) {
					if _, there := seen[record]; !there {
						missing = append(missing, key)
					}
				})
			}
			return nil
		}, b.needs...)
		if failed != nil {
			return nil
		}
		if err := f(missing...); err != nil {
			return err
		}
	}
	return nil
}

// readAll calls f for every value that the bucket's stream holds now; one that is written
// meanwhile may be left out.
func (b *bucket) readAll(ctx context.Context, f func(kvKey, []byte) error) error {
	stream, err := b.js.Stream(ctx, b.stream.Name)
	if err != nil {
		return err
	}
	last := stream.CachedInfo().State.LastSeq
	if stream.CachedInfo().State.Msgs == 0 {
		return nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	prefix := "$KV." + b.name + "."
	for {
		wait, cancel := context.WithTimeout(ctx, kvReadStall)
		msg, err := messages.Next(jetstream.NextContext(wait))
		cancel()
		if err != nil {
			return err
		}
		at, err := msg.Metadata()
		if err != nil {
			return err
		}
		if msg.Headers().Get("KV-Operation") == "" { // else it is a delete marker
			if err := f(parseKVKey(strings.TrimPrefix(msg.Subject(), prefix)), msg.Data()); err != nil {
				return err
			}
		}
		if at.Sequence.Stream >= last || at.NumPending == 0 {
			return nil
		}
	}
}

// same says whether a stored value is the view's, whenever it was written, whenever its
// key was last used and a whole allowance comes again, and notes the view's record in seen.
func (b *bucket) same(key kvKey, stored []byte, seen map[any]struct{}) bool {
	var value *kvValue
	var now events.Time
	at, failed := b.cfg.Views.read([]string{key.account}, func() *events.Error {
		now = b.cfg.Views.applied.Time
		if record := b.find(key); record != nil {
			seen[record] = struct{}{}
			value = b.value(key, record)
		}
		return nil
	}, b.needs...)
	if failed != nil {
		return true // left as it is
	}
	var old struct {
		Position string `json:"position"`
		Key      struct {
			LastUsedAt      events.Time `json:"last_used_at"`
			LastUsedIP      string      `json:"last_used_ip"`
			LastUsedProduct string      `json:"last_used_product"`
		} `json:"key"`
		Balance struct {
			Allowance struct {
				ResetsAt events.Time `json:"resets_at"`
			} `json:"allowance"`
		} `json:"balance"`
	}
	if value == nil || json.Unmarshal(stored, &old) != nil {
		return false
	}
	if p, err := events.ParsePosition(old.Position); err != nil || p.Sequence > at.Sequence {
		return false // written from a log that went on differently
	}
	value.Position = old.Position
	if value.Key != nil {
		value.Key.LastUsedAt, value.Key.LastUsedIP, value.Key.LastUsedProduct = old.Key.LastUsedAt, old.Key.LastUsedIP, old.Key.LastUsedProduct
	}
	if v := value.Balance; v != nil && v.spent == 0 && v.Allowance.Amount > 0 && old.Balance.Allowance.ResetsAt <= now {
		v.Allowance.ResetsAt = old.Balance.Allowance.ResetsAt
	}
	want, err := events.Encode(value)
	return err == nil && bytes.Equal(want, stored)
}
