package access

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	lookEvery    = time.Second     // how often it is looked for what is to be stored or told
	minuteGrace  = 2 * time.Second // after a minute, for answers that are still on their way
	sendBatch    = 256             // records sent and not yet acknowledged
	sendsASecond = 5000            // records, so that no burst stands in the way of commits
	sendAck      = 5 * time.Second // for the acknowledgement of a record
	stopWithin   = 5 * time.Second // to store what is left at a stop; the rest is dropped
	usesBatch    = 1000            // uses told at once
)

// Config is what a Log works with. All members are required.
type Config struct {
	// Conn is the log's own connection; it does not buffer while disconnected
	// (nats.ReconnectBufSize(-1)).
	Conn   *nats.Conn
	Logger *slog.Logger
	Clock  func() time.Time

	// Known says whether an account is there, with the position that is true at; NotFound
	// otherwise.
	Known func(account string) (events.Position, *events.Error)
	// Caught waits until all keys of the retained records are known to whom Used tells.
	Caught func(context.Context) error
	// Used is told of free uses of keys, about once a second, and of those that the stream
	// retains after Caught. An older use may come after a newer one.
	Used func([]Use)
}

// Log is the access log. Observe counts, Run stores.
type Log struct {
	cfg   Config
	js    jetstream.JetStream
	cells *cells
	pace  *rate.Limiter
	scan  int // stored records that one access.list looks at
	count int // and one Count

	records atomic.Int64 // stored
	trouble bool         // the last batch was not stored; owned by whoever sends
}

// New makes a Log. Run works it.
func New(cfg Config) (*Log, error) {
	js, err := jetstream.New(cfg.Conn, jetstream.WithPublishAsyncTimeout(sendAck), jetstream.WithPublishAsyncMaxPending(2*sendBatch))
	if err != nil {
		return nil, fmt.Errorf("make the access log: %w", err)
	}
	return &Log{cfg: cfg, js: js, cells: newCells(), pace: rate.NewLimiter(sendsASecond, sendBatch), scan: listScan, count: countScan}, nil
}

// Observe counts one request. It never waits for the stream.
func (l *Log) Observe(r *Request) { l.cells.observe(r) }

// Stats is a look at a Log from outside.
type Stats struct {
	Cells   int64 `json:"cells"`   // held in memory: of this minute, and not stored yet
	Records int64 `json:"records"` // stored since the start
	// Folded is how many requests were counted without their key, since too many cells were
	// held. Dropped is how many are in no record.
	Folded  int64 `json:"folded"`
	Dropped int64 `json:"dropped"`
}

// Stats returns a look at the log.
func (l *Log) Stats() Stats {
	c := l.cells
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{Records: l.records.Load(), Folded: c.folded, Dropped: c.dropped}
	for _, n := range c.held {
		s.Cells += int64(n)
	}
	return s
}

// Run stores each minute's records soon after it, tells of uses, and stores what is left
// when ctx ends. Then it returns nil. What cannot be stored stays in memory, as far as it
// fits, and is sent again.
func (l *Log) Run(ctx context.Context) error {
	group := new(errgroup.Group)
	group.Go(func() error { return l.tellRetained(ctx) })
	group.Go(func() error {
		return every(ctx, func() {
			for list := l.cells.uses(usesBatch); len(list) > 0; list = l.cells.uses(usesBatch) {
				l.cfg.Used(list)
			}
		})
	})
	group.Go(func() error {
		err := every(ctx, func() { l.store(ctx) })
		l.stop()
		return err
	})
	return group.Wait()
}

// every calls f until ctx ends, then it returns nil.
func every(ctx context.Context, f func()) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f()
		case <-ctx.Done():
			return nil
		}
	}
}

// store stores the minutes that are over.
func (l *Log) store(ctx context.Context) {
	l.cells.finish(events.At(l.cfg.Clock().Add(-time.Minute-minuteGrace)) + 1)
	for {
		batch := l.cells.next(sendBatch)
		if len(batch) == 0 || l.pace.WaitN(ctx, len(batch)) != nil || !l.send(ctx, batch) {
			return
		}
	}
}

// stop stores all there is, the minute that is being counted too, without a pace.
func (l *Log) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	l.cells.finish(math.MaxInt64)
	batch := l.cells.next(sendBatch)
	for len(batch) > 0 && l.send(ctx, batch) {
		batch = l.cells.next(sendBatch)
	}
	if len(batch) > 0 {
		l.cells.forget(len(l.cells.next(math.MaxInt)), true)
		l.cfg.Logger.Warn("stopped before the access log was stored", "dropped", l.Stats().Dropped)
	}
}

// send stores cells and says whether all of them are stored. The others stay, from the
// first of which that is not known: they are sent again with the same ids, by which the
// stream knows those that it has (for two minutes).
//
// If we crash right here, the records that were not sent are lost, and so is the minute
// that is being counted: it is a capped log that no credits depend on.
func (l *Log) send(ctx context.Context, batch []*cell) bool {
	acks := make([]jetstream.PubAckFuture, 0, len(batch))
	var failed error
	for _, c := range batch {
		ack, err := l.publish(&c.Record)
		if err != nil {
			failed = err
			break
		}
		acks = append(acks, ack)
	}
	stored, err := confirm(ctx, acks)
	if failed == nil {
		failed = err
	}
	l.records.Add(int64(stored))
	l.cells.forget(stored, false)
	l.report(failed)
	return stored == len(batch)
}

func (l *Log) publish(r *Record) (jetstream.PubAckFuture, error) {
	data, err := events.Encode(r)
	if err != nil {
		return nil, fmt.Errorf("encode a record: %w", err)
	}
	return l.js.PublishMsgAsync(&nats.Msg{Subject: r.subject(), Data: data},
		jetstream.WithMsgID(r.ID.String()), jetstream.WithRetryAttempts(0))
}

// confirm waits for acknowledgements and returns how many came before the first that
// failed, and why that did.
func confirm(ctx context.Context, acks []jetstream.PubAckFuture) (int, error) {
	for i, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return i, err
		case <-ctx.Done():
			return i, ctx.Err()
		}
	}
	return len(acks), nil
}

// report logs the beginning and the end of trouble.
func (l *Log) report(err error) {
	switch {
	case err != nil && !l.trouble:
		l.cfg.Logger.Warn("cannot store the access log; it is kept in memory as far as it fits, and sent again", "stream", store.StreamAccess, "error", err)
	case err == nil && l.trouble:
		l.cfg.Logger.Info("the access log is stored again", "stream", store.StreamAccess)
	}
	l.trouble = err != nil
}
