package webhooks

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// badFeed is the feed of a model's log, which takes its time or says nothing.
type badFeed struct {
	m     *model
	asked int // for its state

	silent      bool          // it says nothing at all
	each        time.Duration // that a message takes
	stateSilent bool          // it gives messages, and not its state behind them
}

func (f *badFeed) state(ctx context.Context) (jetstream.StreamState, error) {
	f.asked++
	if f.silent || f.stateSilent && f.asked%2 == 0 {
		<-ctx.Done()
		return jetstream.StreamState{}, ctx.Err()
	}
	return jetstream.StreamState{FirstSeq: 1, LastSeq: f.m.chain.Ordinal}, nil
}

// read finds events in the log, in which each commit here has one. All are of the account
// that is asked for.
func (f *badFeed) read(ctx context.Context, _ string, from, to uint64, take func(*store.Scanned) error) error {
	for sequence := from; sequence <= to; sequence++ {
		select {
		case <-time.After(f.each):
		case <-ctx.Done():
			return ctx.Err()
		}
		c, err := f.m.tail.Commit(ctx, sequence)
		if err == nil {
			err = c.Each(func(e *events.CloudEvent) error { return take(scannedOf(f.m.t, sequence, e)) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scannedOf is an event as it is read from the feed.
func scannedOf(t testing.TB, sequence uint64, e *events.CloudEvent) *store.Scanned {
	t.Helper()
	header, err := nats.DecodeHeadersMsg(append(e.AppendHeaders([]byte("NATS/1.0\r\n")), "\r\n"...))
	if err != nil {
		t.Fatal(err)
	}
	data, err := events.Encode(e.Data)
	if err != nil {
		t.Fatal(err)
	}
	return &store.Scanned{Sequence: sequence, Subject: store.SubjectFeed(0) + string(e.AppendSubject(nil)), Header: header, Data: data}
}

// A feed that is slow gives what it can, and one that does not answer is left alone for a
// while: no lane that is behind stands still for longer than a feed is waited for.
func TestFeedThatTakesItsTime(t *testing.T) {
	const backlog = 1500
	for name, tt := range map[string]struct {
		feed   badFeed
		within time.Duration
		log    bool // is read in the end
	}{
		"good":                   {badFeed{}, 0, false},
		"slow":                   {badFeed{each: 200 * time.Millisecond}, backlog * 250 * time.Millisecond, false},
		"silent":                 {badFeed{silent: true}, refillWithin + refillPause, true},
		"slower than its time":   {badFeed{each: time.Hour}, refillWithin + refillPause, true},
		"silent about its state": {badFeed{stateSilent: true}, refillWithin + refillPause, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, nil)
				feed := &tt.feed
				feed.m = m
				e := &events.Endpoint{ID: "endpoint_1", Account: "a", Environment: events.Test, Events: []string{"credit.*"}, Headers: []string{}, Status: events.Active}
				m.commit([]events.Event{{Type: "endpoint.registered", Account: "a", Environment: events.Test, Subject: e.ID, Data: e}})
				for i := range backlog {
					m.commit([]events.Event{debit("a", events.Test, i)})
				}
				m.d.cfg.Clock, m.d.cfg.Timer = time.Now, Config{}.withDefaults().Timer
				m.d.feed = feed
				ctx, stop := context.WithTimeout(t.Context(), time.Hour)
				defer stop()
				ended := make(chan error)
				go func() { ended <- m.d.refill(ctx) }()
				go m.d.keepTime(ctx)
				began, l, next := time.Now(), m.d.lanes["endpoint_1"], uint64(1)
				m.now = began
				if !m.d.until(ctx, func() bool {
					for m.try(l) {
						if got := m.land(0, true).delivery.number; got != next {
							t.Fatalf("delivery %d comes after %d", got, next-1)
						}
						next++
					}
					m.d.arrange(l, time.Now())
					return next > backlog
				}) {
					t.Errorf("%d of %d after an hour", next-1, backlog)
				}
				if took := time.Since(began); took > tt.within || l.fromLog.IsZero() == tt.log {
					t.Errorf("it took %s; the log was read until %s", took, l.fromLog)
				}
				stop()
				m.d.stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// After a while the feed is asked again.
func TestFeedIsAskedAgain(t *testing.T) {
	d := New(Config{})
	began := time.Unix(1_790_000_000, 0)
	l := newLane(&subscriber{endpoint: &events.Endpoint{}})
	l.lagging = began
	for _, tt := range []struct {
		after time.Duration
		log   bool
	}{
		{feedPatience - 1, false}, {feedPatience, true}, {feedPatience + feedRest - 1, true}, {feedPatience + feedRest, false},
	} {
		if w := d.wanted(l, began.Add(tt.after)); w.log != tt.log {
			t.Errorf("%s after it first lagged the log is read: %t", tt.after, w.log)
		}
	}
}

// lockedOut is where a dispatcher logs that must not hold its lock then.
type lockedOut struct {
	slog.Handler
	d    *Dispatcher
	held int // lines that were logged with it
	free int
}

func (l *lockedOut) Handle(context.Context, slog.Record) error {
	if !l.d.mu.TryLock() {
		l.held++
		return nil
	}
	l.d.mu.Unlock()
	l.free++
	return nil
}

// A log that takes its time holds up nobody but who writes the line.
func TestLoggedWithoutTheLock(t *testing.T) {
	log := &lockedOut{Handler: slog.NewTextHandler(io.Discard, nil)}
	log.d = New(Config{Logger: slog.New(log)})
	log.d.restored = &checkpoint{}
	l := newLane(&subscriber{endpoint: &events.Endpoint{ID: "endpoint_1"}})
	l.saved = map[uint64]*delivery{1: {}}
	log.d.lanes["endpoint_1"] = l
	log.d.begin()
	log.d.refilled(l, &want{}, nil, errors.New("no answer"))
	l.behind = true
	log.d.refilled(l, &want{}, &found{next: place{entry: entry{feed: 1, number: 7}}}, nil)
	if log.free != 3 || log.held != 0 {
		t.Errorf("%d lines without the lock, %d with it; want 3 and 0", log.free, log.held)
	}
}

// spoiledLog has one commit changed, or lost.
type spoiledLog struct {
	store.Log
	at   uint64
	lost bool
}

func (l spoiledLog) Get(ctx context.Context, sequence uint64) ([]byte, error) {
	if sequence == l.at && l.lost {
		return nil, store.ErrNoMessage
	}
	data, err := l.Log.Get(ctx, sequence)
	return l.spoil(sequence, data), err
}

func (l spoiledLog) Read(ctx context.Context, from, to uint64, f func(uint64, []byte) error) error {
	return l.Log.Read(ctx, from, to, func(sequence uint64, data []byte) error {
		if sequence == l.at && l.lost {
			return nil
		}
		return f(sequence, l.spoil(sequence, data))
	})
}

func (l spoiledLog) spoil(sequence uint64, data []byte) []byte {
	if sequence == l.at && len(data) > 0 {
		data[len(data)/2] ^= 1
	}
	return data
}

// Damage that lies before the place from which the fold goes on is fatal too, once a lane
// reads there or a delivery is made from it; it is not tried again for ever.
func TestDamageBeforeThePlace(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for name, tt := range map[string]struct {
			at   uint64
			feed bool // it is there
		}{
			"a lane reads on":    {9, false}, // within what it reads
			"a lane begins":      {5, false}, // the commit before its place
			"a delivery is made": {8, true},  // the 150th
		} {
			t.Run(name+" lost "+strconv.FormatBool(lost), func(t *testing.T) {
				r := newRig(t)
				_, e := r.crashFurtherOn()
				if !tt.feed {
					r.loseFeed(false)
				}
				r.commit(about(e, events.Active))
				r.clock.advance(DefaultDelays()[1])
				d := r.launch(r.onClock(), seldom, func(c *Config) {
					c.Tail = store.NewTail(spoiledLog{r.log, tt.at, lost}, 0)
					c.Tail.Reset(r.chain)
				})
				var damage *store.DamageError
				if err := d.result(); !errors.As(err, &damage) || damage.Sequence != tt.at {
					t.Errorf("ended with %v, want damage at %d", err, tt.at)
				}
			})
		}
	}
}
