package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
)

const (
	// kvSuspects is how many values that differ are looked at again at the most: what was
	// changed lately may be not written yet.
	kvSuspects = 10_000
	// kvLooks is how often one is looked at that changes all the time.
	kvLooks = 10
	// kvPatience is how long a bucket may take to get to where the views were.
	kvPatience = 30 * time.Second
)

// errEnough ends a comparison that has found enough.
var errEnough = errors.New("enough differ")

// Checks compare each bucket with the view it shows, and change nothing.
func (k *KV) Checks() []Check {
	list := make([]Check, len(k.buckets))
	for i, b := range k.buckets {
		list[i] = Check{Name: b.name, Run: b.verify}
	}
	return list
}

// verify says which value of the bucket is not the view's, "" for none. One that changes
// whenever it is looked at counts as the view's.
func (b *bucket) verify(ctx context.Context, progress func(done, total uint64)) (string, error) {
	if _, failed := b.cfg.Views.read(nil, func() *events.Error { return nil }, b.needs...); failed != nil {
		return "", failed
	}
	var suspects []kvKey
	err := b.differing(ctx, func(keys ...kvKey) error {
		suspects = append(suspects, keys...)
		if len(suspects) >= kvSuspects {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return "", err
	}
	for i, key := range suspects {
		progress(uint64(i), uint64(len(suspects)))
		wrong, err := b.wrong(ctx, key)
		if err != nil {
			return "", err
		}
		if wrong {
			return fmt.Sprintf("the value of %s is not the view's; keyledger projections rebuild %s makes the view again, and then what differs in the bucket is written",
				key, b.needs[0]), nil
		}
	}
	return "", nil
}

// wrong says whether a key's value differs from the view, in which it did not change for
// as long as the bucket may take to write it.
func (b *bucket) wrong(ctx context.Context, key kvKey) (bool, error) {
	for range kvLooks {
		before, at := b.shown(key)
		if err := b.awaitDone(ctx, at.Sequence); err != nil {
			return false, err
		}
		same, err := b.sameStored(ctx, key)
		if err != nil || same {
			return false, err
		}
		if after, _ := b.shown(key); after == before {
			return true, nil
		}
	}
	return false, nil
}

// shown returns a key's value in the view without what may change and is not written for
// it, "" where there is none, and the position it is true at.
func (b *bucket) shown(key kvKey) (string, events.Position) {
	var value *kvValue
	at, _ := b.cfg.Views.read([]string{key.account}, func() *events.Error {
		if record := b.find(key); record != nil {
			value = b.value(key, record)
		}
		return nil
	})
	if value == nil {
		return "", at
	}
	if value.Key != nil {
		value.Key.LastUsedAt, value.Key.LastUsedIP, value.Key.LastUsedProduct = 0, "", ""
	}
	if value.Balance != nil {
		value.Balance.Allowance.ResetsAt = 0
	}
	text, err := events.Encode(value)
	if err != nil {
		return "", at
	}
	return string(text), at
}

// sameStored reads a key's value and says whether it is the view's.
func (b *bucket) sameStored(ctx context.Context, key kvKey) (bool, error) {
	stream, err := b.js.Stream(ctx, b.stream.Name)
	if err != nil {
		return false, err
	}
	msg, err := stream.GetLastMsgForSubject(ctx, "$KV."+b.name+"."+key.String())
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, err
	}
	if err != nil || msg.Header.Get("KV-Operation") != "" { // there is none, or a delete marker
		shown, _ := b.shown(key)
		return shown == "", nil
	}
	return b.same(key, msg.Data, map[any]struct{}{}), nil
}

// awaitDone waits until all that changed up to a sequence is written.
func (b *bucket) awaitDone(ctx context.Context, sequence uint64) error {
	ctx, cancel := context.WithTimeout(ctx, kvPatience)
	defer cancel()
	for b.sequence() < sequence {
		select {
		case <-time.After(kvPause):
		case <-ctx.Done():
			_, failure := b.place()
			return fmt.Errorf("the bucket did not get to 0:%d in %s (%s)", sequence, kvPatience, failure)
		}
	}
	return nil
}
