package projections

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events/store"
)

// TestFeedBelievesOnlyItsOwnStream: an acknowledgement by anything else, or with another
// sequence, is trouble and no progress.
func TestFeedBelievesOnlyItsOwnStream(t *testing.T) {
	for _, ack := range []string{`{"stream":"OTHER","seq":1}`, `{"stream":"KEYLEDGER_EVENTS_0","seq":2}`} {
		f := newFeedTest(t)
		f.config.Subjects = []string{"somewhere.else"}
		nc := connect(t, f.server)
		if _, err := nc.Subscribe(store.SubjectFeed(0)+">", func(msg *nats.Msg) { _ = msg.Respond([]byte(ack)) }); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		f.commit(f.account("acme"))
		feed := f.feed(f.tail)
		run(t, feed.Run)
		for ctx := patience(t); !strings.Contains(feed.Status().Failure, "was acknowledged as"); {
			if ctx.Err() != nil {
				t.Fatalf("%s: status %+v", ack, feed.Status())
			}
		}
		if got := feed.sequence(); got != 0 {
			t.Errorf("%s: the feed claims %d events", ack, got)
		}
	}
}

// TestFeedEndsItsBatch: whatever the last commit is, what was sent before it is
// acknowledged.
func TestFeedEndsItsBatch(t *testing.T) {
	for _, last := range []int{0, 1, feedBatchMax - 4, feedBatchMax - 3, feedBatchMax - 2, 3 * feedBatchMax} {
		f := newFeedTest(t)
		f.big(1)
		f.big(2)
		f.big(last)
		feed := f.feed(f.again())
		run(t, feed.Run)
		want := Status{Name: "feed", Position: fmt.Sprintf("0:%d", f.chain.Sequence)}
		for ctx := patience(t); feed.Status() != want; {
			if ctx.Err() != nil {
				t.Fatalf("a last commit of %d events: %+v", last, feed.Status())
			}
		}
		f.check()
	}
}
