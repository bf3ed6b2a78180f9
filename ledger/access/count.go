package access

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// countScan is how many stored records one Count looks at, the newest: two seconds' work.
const countScan = 100_000

// countWindow is about how many of them are in memory at once.
const countWindow = 2048

// Count calls f for every record of an account whose minute begins at from or later and
// before to, in any order; account "_" stands for all accounts. What belongs to no account
// is left out: unknown secrets, and what was folded last. The record is f's until it
// returns.
//
// It returns from when on the records are all there, 0 where all that were ever made are:
// the stream keeps them for a time and in a number of bytes, and one call looks at
// countScan of them, and for half of the time that ctx leaves. Older ones were not all told.
func (l *Log) Count(ctx context.Context, account string, from, to events.Time, f func(*Record)) (since events.Time, err error) {
	c, enough := counting{account: account, from: from, to: to, f: f}, halfway(ctx)
	l.countHeld(&c)
	filter := store.SubjectAccess + account + ".*"
	if account == nobody {
		filter = store.SubjectAccess + "*.*"
	}
	scan, err := store.NewScan(ctx, l.js, store.StreamAccess, filter)
	if err != nil {
		return 0, fmt.Errorf("count the access log: %w", err)
	}
	looked := 0
	err = scan.Backwards(ctx, math.MaxUint64, countWindow, func(m *store.Scanned) (bool, error) {
		var r Record
		if err := json.Unmarshal(m.Data, &r); err != nil {
			return false, fmt.Errorf("record %d: %w", m.Sequence, err)
		}
		if looked++; looked > l.count || enough() {
			since = max(since, r.Minute+minuteMS)
			return false, nil
		}
		c.record(&r)
		return r.Minute >= from, nil // they are stored in the order of their minutes
	})
	if err != nil {
		return 0, fmt.Errorf("count the access log: %w", err)
	}
	retained, err := l.retained(ctx) // now: what was dropped meanwhile was not told
	if err != nil {
		return 0, fmt.Errorf("count the access log: %w", err)
	}
	return max(since, retained), nil
}

// halfway returns a function that says whether half of the time is over that ctx leaves now.
func halfway(ctx context.Context) func() bool {
	deadline, ok := ctx.Deadline()
	if !ok {
		return func() bool { return false }
	}
	half := time.Now().Add(time.Until(deadline) / 2)
	return func() bool { return time.Now().After(half) }
}

// counting is one Count.
type counting struct {
	account  string
	from, to events.Time
	f        func(*Record)
	held     ulid.ULID // the oldest record that was held; zero: none was
}

// countHeld tells what is held. A cell that is stored meanwhile is not told again.
func (l *Log) countHeld(c *counting) {
	var found []*cell
	if oldest, held := l.cells.newest(func(held *cell) { found = append(found, held) }); held {
		c.held = oldest
	}
	for some := range slices.Chunk(found, listMax) { // few at once: who counts waits for them
		for _, r := range l.cells.copies(some) {
			c.tell(&r)
		}
	}
}

// record tells a stored record, unless it was told as held.
func (c *counting) record(r *Record) {
	if (c.held == ulid.ULID{}) || r.ID.Compare(c.held) < 0 {
		c.tell(r)
	}
}

func (c *counting) tell(r *Record) {
	mine := r.Account == c.account
	if c.account == nobody {
		mine = r.Account != nobody
	}
	if mine && r.Minute >= c.from && r.Minute < c.to {
		c.f(r)
	}
}

// retained is from when on the stream holds all records, 0 where it never dropped one.
func (l *Log) retained(ctx context.Context) (events.Time, error) {
	for {
		stream, err := l.js.Stream(ctx, store.StreamAccess)
		if err != nil {
			return 0, err
		}
		info := stream.CachedInfo()
		if info.State.FirstSeq <= 1 {
			return 0, nil
		}
		if info.State.Msgs == 0 { // all are too old
			return events.At(l.cfg.Clock().Add(-info.Config.MaxAge)), nil
		}
		oldest, err := stream.GetMsg(ctx, info.State.FirstSeq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // it was dropped meanwhile
		}
		if err != nil {
			return 0, err
		}
		var r Record
		if err := json.Unmarshal(oldest.Data, &r); err != nil {
			return 0, fmt.Errorf("record %d: %w", info.State.FirstSeq, err)
		}
		return r.Minute + minuteMS, nil // others of its minute may be gone
	}
}
