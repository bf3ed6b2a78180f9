package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// TestWireIsShared is what the feed relies on in nats.go and net.Pipe: what nats.go
// publishes meanwhile, also more than its buffer at a time, and what the feed writes come
// each as a whole.
func TestWireIsShared(t *testing.T) {
	server, receiver, _ := startNATS(t)
	wire := NewWire(server)
	nc := connect(t, wire)
	const total, big = 5_000, 100_000
	got := make(chan *nats.Msg, total+total/10)
	for _, subject := range []string{"feed.>", "beside"} {
		if _, err := receiver.ChanSubscribe(subject, got); err != nil {
			t.Fatal(err)
		}
	}
	if err := receiver.Flush(); err != nil {
		t.Fatal(err)
	}
	h := newHistory(t)
	e := &events.CloudEvent{Event: h.account("acme")}
	var group errgroup.Group
	group.Go(func() error {
		w := wireWriter{conn: wire.current(), prefix: "feed."}
		for n := range uint64(total) {
			if err := w.publish(e, n); err != nil {
				return err
			}
			if n%7 > 0 && n < total-1 {
				continue
			}
			if err := errors.Join(w.end(), w.flush()); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		for n := range total / 10 {
			if err := nc.Publish("beside", fmt.Append(nil, n, strings.Repeat("x", n%100*big/100))); err != nil {
				return err
			}
		}
		return nc.Flush()
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	feed, beside := uint64(0), 0
	for range total + total/10 {
		var msg *nats.Msg
		select {
		case msg = <-got:
		case <-patience(t).Done():
			t.Fatalf("%d and %d messages came", feed, beside)
		}
		if msg.Subject == "beside" {
			if want := fmt.Sprint(beside, strings.Repeat("x", beside%100*big/100)); string(msg.Data) != want {
				t.Fatalf("message %d of nats.go has %d bytes, want %d", beside, len(msg.Data), len(want))
			}
			beside++
			continue
		}
		if got := msg.Header.Get("Nats-Expected-Last-Sequence"); got != fmt.Sprint(feed) || msg.Header.Get("ce-specversion") != "1.0" {
			t.Fatalf("message %d of the feed expects %q: %v", feed, got, msg.Header)
		}
		feed++
	}
}

// TestFeedOutlivesItsConnection: a connection that breaks, and one that breaks in the
// middle of a message, is replaced.
func TestFeedOutlivesItsConnection(t *testing.T) {
	f := newFeedTest(t)
	feed := f.feed(f.tail)
	run(t, feed.Run)
	f.big(100)
	f.check()
	for _, last := range []string{"", "HPUB keyledger.events.0.x 100 200\r\nNATS/1.0\r\n"} {
		conn := feed.cfg.Wire.current()
		if _, err := conn.Write([]byte(last)); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		f.big(100)
		f.check()
		if feed.cfg.Wire.current() == conn {
			t.Error("there is no new connection")
		}
	}
}

// TestWireRefusesAnOddSubject: an id with a space or a line's end in it would be read as
// something else. Nothing of it is written.
func TestWireRefusesAnOddSubject(t *testing.T) {
	for _, id := range []string{"a b", "a\tb", "a\r\nPUB x 0\r\n", "\n"} {
		f := newFeedTest(t)
		odd := f.account("acme")
		odd.Subject = id
		f.commit(f.account("beta"), odd)
		feed := f.feed(f.tail)
		run(t, feed.Run)
		for ctx := patience(t); !strings.Contains(feed.Status().Failure, "cannot be published"); {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Fatalf("%q: status %+v", id, feed.Status())
			}
		}
		if got := feed.sequence(); got > 1 {
			t.Errorf("%q: the feed claims %d events", id, got)
		}
	}
}

// TestFeedMessage is the whole of a message as it goes over the connection.
func TestFeedMessage(t *testing.T) {
	h := newHistory(t)
	e := &events.CloudEvent{Event: h.account("acme")}
	body, err := events.Encode(e.Data)
	if err != nil {
		t.Fatal(err)
	}
	headers := "NATS/1.0\r\nNats-Expected-Last-Sequence: 41\r\n" + string(e.AppendHeaders(nil)) + "\r\n"
	message := func(reply string) string {
		return fmt.Sprintf("HPUB keyledger.events.3.acme.-.account.opened.- %s%d %d\r\n%s%s\r\n", reply, len(headers), len(headers)+len(body), headers, body)
	}
	w := wireWriter{prefix: store.SubjectFeed(3), reply: "_INBOX.1"}
	for range 2 {
		if err := w.publish(e, 41); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // there is one end, however often it is asked for
		if err := w.end(); err != nil {
			t.Fatal(err)
		}
	}
	if want := message("") + message("_INBOX.1 "); string(w.buffer) != want {
		t.Errorf("got  %q\nwant %q", w.buffer, want)
	}
}
