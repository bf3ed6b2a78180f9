package webhooks

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// feedTrouble is what happens to the feed while a lane is behind.
type feedTrouble struct {
	before func(r *rig)         // before any event
	after  func(r *rig)         // when the lane is behind
	during func(r *rig, d *run) // once it reads on
}

var feedTroubles = map[string]feedTrouble{
	"from the feed": {},
	"feed lags": {before: func(r *rig) { r.holdFeed = true }, during: func(r *rig, d *run) {
		r.seeLag(d)
		r.relayNow()
		r.clock.advance(feedLook)
	}},
	"feed stands still": {before: func(r *rig) { r.holdFeed = true }, during: func(r *rig, d *run) {
		r.seeLag(d)
		r.clock.advance(feedPatience)
		r.clock.advance(feedLook)
	}},
	"feed trimmed": {after: func(r *rig) {
		if err := r.feed().Purge(r.t.Context(), jetstream.WithPurgeSequence(200)); err != nil {
			r.t.Fatal(err)
		}
	}},
	"feed empty": {after: func(r *rig) {
		if err := r.feed().Purge(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}},
	"feed has a hole": {after: func(r *rig) {
		if err := r.feed().DeleteMsg(r.t.Context(), 300); err != nil {
			r.t.Fatal(err)
		}
	}},
	"feed deleted": {after: func(r *rig) {
		if err := r.js.DeleteStream(r.t.Context(), store.StreamFeed(0)); err != nil {
			r.t.Fatal(err)
		}
	}},
}

func (r *rig) feed() jetstream.Stream {
	r.t.Helper()
	s, err := r.js.Stream(r.t.Context(), store.StreamFeed(0))
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// A full lane falls behind: it keeps a bounded number of deliveries and one place,
// however many events come, holds nobody up, and reads on from that place later; from
// the feed, or from the log where the feed cannot serve.
func TestLaneFallsBehind(t *testing.T) {
	const backlog = 400
	for name, tt := range feedTroubles {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if tt.before != nil {
				tt.before(r)
			}
			gate := make(chan struct{})
			slow := newReceiver(t, nil)
			slow.answers(func(http.ResponseWriter, *received, int) int {
				slow.hold(gate)
				return http.StatusOK
			})
			well := newReceiver(t, nil)
			r.commit(opened("acme"), opened("other"))
			r.add("endpoint_slow", slow)
			r.add("endpoint_well", well, "credit.granted", "account.*", "endpoint.*")
			d := r.start(func(c *Config) { c.Clock, c.Timer = r.clock.now, r.clock.timer })
			for range backlog / 20 {
				list := debits(20)
				list = append(list, debit("other", events.Test, 1), debit("acme", events.Live, 1))
				list = append(list, events.Event{Type: "account.resumed", Account: "acme", Data: &events.Account{ID: "acme"}})
				r.commit(list...)
			}
			well.requests(backlog / 20)
			l := d.lanes["endpoint_slow"]
			bounded := func() bool { return len(l.queue) <= laneQueueMax && len(l.open) <= laneFlyingMax }
			d.see("behind", func() bool { return l.behind && l.owed == backlog && bounded() })
			if tt.after != nil {
				tt.after(r)
			}
			close(gate)
			if tt.during != nil {
				tt.during(r, d)
			}
			slow.wait("all", func(all []received) bool {
				d.mu.Lock()
				defer d.mu.Unlock()
				if !bounded() {
					t.Errorf("%d queued, %d open", len(l.queue), len(l.open))
				}
				return len(all) >= backlog
			})
			d.idle()
			d.see("at the head", func() bool { return !l.behind })
			r.commit(debits(1)...)
			d.idle()
			r.checkDelivered(slow, "endpoint_slow")
			r.checkDelivered(well, "endpoint_well")
			if n := len(slow.list()); n != backlog+1 {
				t.Errorf("%d requests for %d events", n, backlog+1)
			}
			if strings.Contains(r.lines.String(), "do not agree") {
				t.Error(r.lines.String())
			}
		})
	}
}

// seeLag waits until a lane has found the feed behind the log.
func (r *rig) seeLag(d *run) {
	r.t.Helper()
	d.see("the feed lags", func() bool {
		l := d.lanes["endpoint_slow"]
		return !l.lagging.IsZero() && l.at.Equal(l.look) && len(l.queue) == 0
	})
}

// What an endpoint is owed does not depend on how it came to be read: a lane that is
// behind over a change of terms reads each event by the terms of its time.
func TestRefillByTheTermsOfTheTime(t *testing.T) {
	r := newRig(t)
	gate := make(chan struct{})
	to := newReceiver(t, nil)
	to.answers(func(http.ResponseWriter, *received, int) int {
		to.hold(gate)
		return http.StatusOK
	})
	r.commit(opened("acme"))
	e := r.add("endpoint_1", to)
	d := r.start()
	change := func(filters ...string) {
		next := *e
		next.Events = filters
		r.commit(about(&next, events.Active))
	}
	r.commit(debits(100)...)
	change("endpoint.*")
	r.commit(debits(7)...)
	change("endpoint.resumed", "credit.debited")
	r.commit(debits(30)...)
	d.wait(r.chain.Sequence)
	l := d.lanes["endpoint_1"]
	d.see("the terms of the time", func() bool { return l.behind && !l.next.terms.equal(l.terms) })
	close(gate)
	d.idle()
	d.see("at the head", func() bool { return !l.behind })
	// 100 debits; the second change, by the terms of the first; 30 debits.
	if n := len(to.list()); n != 131 || len(r.owed("endpoint_1")) != 131 {
		t.Errorf("%d requests, %d owed, want 131", n, len(r.owed("endpoint_1")))
	}
	r.checkDelivered(to, "endpoint_1")
}

// Many endpoints far behind at once: all catch up, whatever the order.
func TestManyLanesCatchUp(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	for i := range 10 {
		r.add(fmt.Sprintf("endpoint_%d", i), to)
	}
	for range 8 {
		r.commit(debits(40)...)
	}
	d := r.start() // everything is behind
	d.idle()
	for i := range 10 {
		r.checkDelivered(to, fmt.Sprintf("endpoint_%d", i))
	}
	if n := len(to.list()); n != 10*320 {
		t.Errorf("%d requests, want %d", n, 10*320)
	}
}
