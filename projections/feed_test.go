package projections

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// feedTest is a feed on a nats-server.
type feedTest struct {
	*history
	server *natsserver.Server
	js     jetstream.JetStream
	config jetstream.StreamConfig
}

func newFeedTest(t *testing.T) *feedTest {
	f := &feedTest{history: newHistory(t), config: streams(t, store.StreamFeed(0))[0]}
	f.server, _, f.js = startNATS(t)
	return f
}

// another is the same log with another nats-server.
func (f *feedTest) another(t *testing.T) *feedTest {
	out := &feedTest{history: &history{t: t, log: f.log, chain: f.chain}, config: f.config}
	out.server, _, out.js = startNATS(t)
	return out
}

// message is an event's message as nats.go sees it.
func (f *feedTest) message(e *events.CloudEvent) *nats.Msg {
	f.t.Helper()
	header, err := nats.DecodeHeadersMsg(append(e.AppendHeaders([]byte("NATS/1.0\r\n")), "\r\n"...))
	if err != nil {
		f.t.Fatal(err)
	}
	body, err := events.Encode(e.Data)
	if err != nil {
		f.t.Fatal(err)
	}
	return &nats.Msg{Subject: string(e.AppendSubject([]byte(store.SubjectFeed(0)))), Header: header, Data: body}
}

// feed makes a Feed that follows a tail over a connection of its own.
func (f *feedTest) feed(tail *store.Tail) *Feed {
	f.t.Helper()
	wire := NewWire(f.server)
	feed, err := NewFeed(FeedConfig{Conn: connect(f.t, wire), Wire: wire, Tail: tail, Stream: f.config, Logger: quiet()})
	if err != nil {
		f.t.Fatal(err)
	}
	return feed
}

// create makes the stream with what it holds: the first n events of the log.
func (f *feedTest) create(n uint64) {
	f.t.Helper()
	ctx := patience(f.t)
	if _, err := f.js.CreateStream(ctx, f.config); err != nil {
		f.t.Fatal(err)
	}
	f.each(func(e *events.CloudEvent, sequence uint64) {
		if sequence > n {
			return
		}
		if _, err := f.js.PublishMsg(ctx, f.message(e)); err != nil {
			f.t.Fatal(err)
		}
	})
}

func (f *feedTest) delete() {
	f.t.Helper()
	if err := f.js.DeleteStream(patience(f.t), f.config.Name); err != nil {
		f.t.Fatal(err)
	}
}

// each calls g for every event of the log with the feed sequence that is its.
func (f *feedTest) each(g func(e *events.CloudEvent, sequence uint64)) {
	f.t.Helper()
	for n := uint64(1); n <= f.chain.Sequence; n++ {
		data, err := f.log.Get(context.Background(), n)
		if err != nil {
			f.t.Fatal(err)
		}
		c, err := store.Decode(data)
		if err != nil {
			f.t.Fatal(err)
		}
		_ = c.Each(func(e *events.CloudEvent) error {
			g(e, c.Ordinal+uint64(e.Position.Index)+1)
			return nil
		})
	}
}

// read waits until the feed has all events of the log and returns them.
func (f *feedTest) read() []jetstream.Msg {
	f.t.Helper()
	return f.readFrom(1)
}

func (f *feedTest) readFrom(first uint64) []jetstream.Msg {
	f.t.Helper()
	ctx := patience(f.t)
	f.awaitStream()
	consumer, err := f.js.OrderedConsumer(ctx, f.config.Name, jetstream.OrderedConsumerConfig{})
	if err != nil {
		f.t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		f.t.Fatal(err)
	}
	defer messages.Stop()
	var out []jetstream.Msg
	for n := first; n <= f.chain.Ordinal; n++ {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			f.t.Fatalf("the feed has %d events, the log %d: %v", n-1, f.chain.Ordinal, err)
		}
		out = append(out, msg)
	}
	return out
}

// check waits until the feed has all events of the log and compares them: sequence,
// subject, headers and data, and nothing else is in it.
func (f *feedTest) check() {
	f.t.Helper()
	got := f.read()
	f.each(func(e *events.CloudEvent, sequence uint64) {
		msg := got[sequence-1]
		at, err := msg.Metadata()
		if err != nil {
			f.t.Fatal(err)
		}
		want := f.message(e)
		header := map[string][]string{}
		for name, values := range msg.Headers() {
			if !strings.HasPrefix(name, "Nats-") {
				header[name] = values
			}
		}
		if at.Sequence.Stream != sequence || msg.Subject() != want.Subject || !bytes.Equal(msg.Data(), want.Data) ||
			!cmp.Equal(header, map[string][]string(want.Header)) {
			f.t.Fatalf("feed message %d is %s %v %s, want %d %s %v %s", at.Sequence.Stream, msg.Subject(), header, msg.Data(),
				sequence, want.Subject, want.Header, want.Data)
		}
	})
	f.checkLast(f.chain.Ordinal)
}

// checkLast checks that the feed ends at a sequence.
func (f *feedTest) checkLast(want uint64) {
	f.t.Helper()
	stream, err := f.js.Stream(patience(f.t), f.config.Name)
	if err != nil {
		f.t.Fatal(err)
	}
	if got := stream.CachedInfo().State.LastSeq; got != want {
		f.t.Fatalf("the feed ends at %d, want %d", got, want)
	}
}

// random fills the log with commits of 0 to n-1 events.
func (f *feedTest) random(t *testing.T, commits, n int) {
	random := newRandom(t)
	m := newModel(f.history, random)
	for range commits {
		m.commit(random.IntN(n))
	}
}

// big is a commit of n events.
func (f *feedTest) big(n int) {
	var list []events.Event
	for i := range n {
		list = append(list, f.account("a"+strconv.Itoa(i)))
	}
	f.commit(list...)
}

func TestFeedFollowsTheLog(t *testing.T) {
	f := newFeedTest(t)
	feed := f.feed(f.tail)
	run(t, feed.Run)
	f.random(t, 200, 20)
	f.big(2*feedBatchMax + 10) // more than one acknowledgement
	f.commit()                 // nothing in it
	f.commit(f.account("last"))
	f.check()
}

// TestFeedResumes: whatever beginning of the feed a crash left, also one that ends in the
// middle of a commit, the rest is appended and nothing is there twice.
func TestFeedResumes(t *testing.T) {
	f := newFeedTest(t)
	f.commit(f.account("acme"))
	f.big(7)
	f.commit()
	f.big(feedBatchMax + 3)
	f.commit(f.account("beta"))
	total := f.chain.Ordinal
	for _, there := range []uint64{0, 1, 2, 7, 8, 9, 8 + feedBatchMax, total - 1, total} {
		t.Run(strconv.FormatUint(there, 10), func(t *testing.T) {
			f := f.another(t)
			f.create(there)
			run(t, f.feed(f.again()).Run)
			f.check()
		})
	}
}

// TestFeedStoppedAndStarted: stopped anywhere, a new feed goes on from there.
func TestFeedStoppedAndStarted(t *testing.T) {
	f := newFeedTest(t)
	for range 5 {
		f.big(1000)
	}
	for end := uint64(1); end <= 4001; end += 1000 {
		stop := run(t, f.feed(f.again()).Run)
		stream, err := f.js.CreateOrUpdateStream(patience(t), f.config)
		if err != nil {
			t.Fatal(err)
		}
		// The feed is stopped at the moment an event is there, with more on its way.
		for {
			if _, err := stream.GetMsg(patience(t), end); err == nil {
				break
			} else if !errors.Is(err, jetstream.ErrMsgNotFound) {
				t.Fatal(err)
			}
		}
		stop()
	}
	run(t, f.feed(f.again()).Run)
	f.check()
}

// TestFeedIsDerivedAgain: a feed that was deleted, or cut, while it runs is made again
// with the same numbers and ids as soon as there is something to append.
func TestFeedIsDerivedAgain(t *testing.T) {
	f := newFeedTest(t)
	f.random(t, 100, 10)
	feed := f.feed(f.tail)
	run(t, feed.Run)
	first := f.read()
	f.check()
	for _, left := range []uint64{0, uint64(len(first)) - 5} {
		f.delete()
		if left > 0 {
			f.create(left)
		}
		f.commit(f.account("acme"), f.account("beta"))
		f.check()
	}
	for i, msg := range f.read()[:len(first)] {
		if got, want := msg.Headers().Get("ce-id"), first[i].Headers().Get("ce-id"); got != want {
			t.Fatalf("event %d has the id %s, it was %s", i+1, got, want)
		}
	}
}

// TestDeletedFeedIsMissed: a feed that has nothing to append looks now and then whether
// its stream is there.
func TestDeletedFeedIsMissed(t *testing.T) {
	f := newFeedTest(t)
	f.big(10)
	feed := f.feed(f.tail)
	checked, check := make(chan struct{}), make(chan time.Time)
	feed.check = func(time.Duration) <-chan time.Time {
		select {
		case checked <- struct{}{}:
		case <-t.Context().Done():
		}
		return check
	}
	run(t, feed.Run)
	<-checked
	f.check()
	for _, left := range []uint64{0, 3} {
		f.delete()
		if left > 0 {
			f.create(left) // another one of the same name
		}
		check <- time.Time{}
		<-checked
		f.check()
	}
}

// awaitStream returns when the stream is there again.
func (f *feedTest) awaitStream() {
	f.t.Helper()
	for ctx := patience(f.t); ; {
		_, err := f.js.Stream(ctx, f.config.Name)
		if err == nil {
			return
		}
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			f.t.Fatal(err)
		}
	}
}

// TestTrimmedFeedKeepsItsPlace: messages that were trimmed do not come back.
func TestTrimmedFeedKeepsItsPlace(t *testing.T) {
	f := newFeedTest(t)
	f.big(20)
	stop := run(t, f.feed(f.tail).Run)
	f.check()
	stop()
	stream, err := f.js.Stream(patience(t), f.config.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(patience(t)); err != nil {
		t.Fatal(err)
	}
	f.big(3)
	run(t, f.feed(f.again()).Run)
	for i, msg := range f.readFrom(21) {
		at, err := msg.Metadata()
		if err != nil || at.Sequence.Stream != uint64(21+i) {
			t.Errorf("event %d has feed sequence %d: %v", 21+i, at.Sequence.Stream, err)
		}
	}
	f.checkLast(23)
}

// TestTwoFeedsAreFenced: two relays of one feed cannot spoil it.
func TestTwoFeedsAreFenced(t *testing.T) {
	f := newFeedTest(t)
	f.create(0)
	for range 2 {
		run(t, f.feed(f.tail).Run)
	}
	f.random(t, 300, 20)
	f.check()
}

func TestFeedProvesLoss(t *testing.T) {
	for name, other := range map[string]func(h *history){
		"log is shorter": func(h *history) { h.commit(h.account("acme")) },
		"log is another": func(h *history) {
			h.made = 1000
			h.commit(h.account("acme"), h.account("beta"), h.account("gamma"), h.account("delta"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeedTest(t)
			f.commit(f.account("acme"))
			f.commit(f.account("beta"), f.account("gamma"))
			f.create(3)
			f.history = newHistory(t)
			other(f.history)
			err := f.feed(f.tail).Run(patience(t))
			if !errors.Is(err, ErrLoss) || !strings.Contains(err.Error(), f.config.Name) {
				t.Fatalf("Run: %v", err)
			}
			f.checkLast(3)
		})
	}
}

func TestFeedStopsAtDamage(t *testing.T) {
	f := newFeedTest(t)
	for range 10 {
		f.commit(f.account("acme"))
	}
	whole, err := f.log.Get(patience(t), 6)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string][]byte{"missing": nil, "flipped": append([]byte{'k'}, whole[1:]...), "moved": nil} {
		if name == "moved" {
			if damage, err = f.log.Get(patience(t), 5); err != nil {
				t.Fatal(err)
			}
		}
		for _, there := range []uint64{0, 5, 10} {
			t.Run(name+strconv.FormatUint(there, 10), func(t *testing.T) {
				f := f.another(t)
				f.create(there)
				f.log.Damage(6, damage)
				defer f.log.Damage(6, whole)
				var damaged *store.DamageError
				if err := f.feed(f.again()).Run(patience(t)); !errors.As(err, &damaged) || damaged.Sequence != 6 {
					t.Fatalf("Run: %v", err)
				}
			})
		}
	}
}

// TestFeedWaitsForTheWriter: before the writer has taken the log over nobody knows where
// it ends, and an empty end is no proof of loss.
func TestFeedWaitsForTheWriter(t *testing.T) {
	f := newFeedTest(t)
	f.commit(f.account("acme"))
	f.create(1)
	tail := store.NewTail(f.log, 0)
	early, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := f.feed(tail).Run(early); err != nil {
		t.Fatalf("Run before the end is known: %v", err)
	}
	if err := awaitLog(early, tail, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("awaitLog before the end is known: %v", err)
	}
	run(t, f.feed(tail).Run)
	tail.Reset(f.chain)
	if err := awaitLog(patience(t), tail, 0); err != nil {
		t.Error(err)
	}
	tail.Push(f.commit(f.account("beta")))
	f.check()
}

func TestFeedStatus(t *testing.T) {
	f := newFeedTest(t)
	f.big(10)
	f.big(10)
	feed := f.feed(f.tail)
	got := feed.Status()
	got.LagMS = 0 // a time
	if want := (Status{Name: "feed", Position: "0:0", LagCommits: 3, LagEvents: 20}); got != want {
		t.Errorf("before: %+v, want %+v", got, want)
	}
	run(t, feed.Run)
	f.check()
	// The last acknowledgement may still be on its way.
	for ctx := patience(t); feed.Status() != (Status{Name: "feed", Position: "0:3"}); {
		if ctx.Err() != nil {
			t.Fatalf("after: %+v", feed.Status())
		}
	}
}
