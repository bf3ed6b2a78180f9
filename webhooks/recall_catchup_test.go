package webhooks

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// seldom has a dispatcher save its directory at its end only.
func seldom(c *Config) { c.DirectoryEvery = 1 << 40 }

// crashFurtherOn crashes a dispatcher whose lane was behind 300 events when the directory was
// saved, and had two open deliveries, a pause and 5 more events at its last checkpoint.
func (r *rig) crashFurtherOn() (*receiver, *events.Endpoint) {
	r.t.Helper()
	gate := make(chan struct{})
	to := newReceiver(r.t, nil)
	to.answers(func(_ http.ResponseWriter, got *received, _ int) int {
		to.hold(gate)
		if got.sequence == numberText(150) || got.sequence == numberText(260) {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	r.commit(opened("acme"))
	e := r.add("endpoint_1", to)
	d := r.start(r.onClock(), seldom)
	for range 10 {
		r.commit(debits(30)...)
	}
	d.see("behind", func() bool { return d.lanes["endpoint_1"].owed == 300 && d.lanes["endpoint_1"].behind })
	d.keepDirectory()
	file, err := os.ReadFile(d.directoryPath())
	if err != nil {
		r.t.Fatal(err)
	}
	close(gate)
	to.requests(300)
	d.waiting("endpoint_1", 2)
	r.commit(about(e, events.Paused))
	r.commit(debits(5)...)
	d.waiting("endpoint_1", 2)
	r.clock.advance(DefaultCheckpointEvery)
	for deadline := time.Now().Add(patience); r.saved().Feed < r.chain.Ordinal; {
		if time.Now().After(deadline) {
			r.t.Fatal("no checkpoint")
		}
	}
	d.crash()
	if err := os.WriteFile(d.directoryPath(), file, 0o600); err != nil { // its end saved another one
		r.t.Fatal(err)
	}
	return to, e
}

// loseFeed deletes the feed; anew makes an empty one, which then lags.
func (r *rig) loseFeed(anew bool) {
	r.t.Helper()
	err := r.js.DeleteStream(r.t.Context(), store.StreamFeed(0))
	if r.holdFeed = anew; anew && err == nil {
		err = store.CreateStreams(r.t.Context(), r.js, store.Streams(0, 1<<30))
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// A lane that was behind when the directory was saved, and further on at the last
// checkpoint, reads again what is between, from the feed or the log, running or not, and
// sends none of it again; until then nobody can say what is pending.
func TestCrashOfALaneThatCatchesUp(t *testing.T) {
	for _, name := range []string{"from the feed", "feed lags", "feed deleted"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			to, e := r.crashFurtherOn()
			if name != "from the feed" {
				r.loseFeed(name == "feed lags")
			}
			sent := len(to.list())
			d := r.start(r.onClock(), seldom)
			l := d.lanes["endpoint_1"]
			if r.holdFeed {
				d.see("the feed lags", func() bool { return !l.lagging.IsZero() && l.at.Equal(l.look) })
				if _, refused := d.query(`{}`); refused == nil || refused.Code != events.Unavailable {
					t.Errorf("what is pending is said to be known: %v", refused)
				}
				r.relayNow()
				r.clock.advance(feedLook)
			}
			d.see("read again", func() bool { return !l.rereads() })
			if page, refused := d.query(`{"endpoint":"endpoint_1"}`); refused != nil || page.Pending != 7 {
				t.Errorf("pending: %+v, %v, want 7", page, refused)
			}
			d.see("tries are kept", func() bool {
				return len(l.waiting) == 2 && l.waiting[0].tries == 1 && l.waiting[1].tries == 1 && l.waiting[0].number+l.waiting[1].number == 410
			})
			to.answers(nil)
			r.holdFeed = false
			r.commit(about(e, events.Active))
			r.clock.advance(feedPatience)
			r.clock.advance(DefaultDelays()[1])
			d.idle()
			r.checkDelivered(to, "endpoint_1")
			if n := len(to.list()) - sent; n != 7 {
				t.Errorf("%d requests after the crash, want 7", n)
			}
			if text := r.lines.String(); !strings.Contains(text, goesOn) || strings.Contains(text, "do not agree") || strings.Contains(text, "left out") {
				t.Error(text)
			}
		})
	}
}
