package webhooks

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
)

// replayed is the event of a replay to an endpoint.
func replayed(e *events.Endpoint, id string, change func(*events.Replay)) events.Event {
	r := &events.Replay{ID: id, Endpoint: e.ID, Account: e.Account, Environment: e.Environment, Events: []string{}, CreatedAt: 1}
	change(r)
	return events.Event{Type: "endpoint.replayed", Account: e.Account, Environment: e.Environment, Subject: e.ID, Data: r}
}

// past is a rig with an endpoint that has a past: 5 debits before it was registered in commit
// 4, 30 in commit 5, 10 in commit 7 while it subscribed to others, 20 in commit 9 with a test
// behind them. Commits are a minute apart.
func past(t *testing.T, change ...func(*Config)) (*rig, *run, *receiver, *events.Endpoint) {
	t.Helper()
	r := newRig(t)
	to := newReceiver(t, nil)
	minute := func() { r.clock.advance(time.Minute) }
	r.commit(opened("acme")) // 2
	r.commit(debits(5)...)
	e := r.add("endpoint_1", to)
	minute()
	d := r.start(append([]func(*Config){r.onClock()}, change...)...)
	r.commit(debits(30)...)
	minute()
	r.commit(updated(e, func(e *events.Endpoint) { e.Events = []string{"credit.granted"} }))
	r.commit(debits(10)...)
	minute()
	r.commit(updated(e, func(*events.Endpoint) {}))
	tested := updated(e, func(*events.Endpoint) {})
	tested.Type = "endpoint.tested"
	r.commit(append(debits(20), tested)...)
	minute()
	d.idle()
	return r, d, to, e
}

// again returns what came from a request on, by event, and how many of it were owed.
func again(t *testing.T, all []received, from int, id string) (bodies map[string]string, owed int) {
	t.Helper()
	first := map[string]string{}
	for _, got := range all[:from] {
		if got.sequence != "" {
			first[got.id] = got.body
		}
	}
	bodies = map[string]string{}
	for _, got := range all[from:] {
		if bodies[got.id] != "" {
			t.Errorf("%s came twice", got.id)
		}
		bodies[got.id] = got.body
		switch {
		case first[got.id] == got.body:
			owed++
		case first[got.id] != "", got.sequence != "", !strings.Contains(got.body, `"replay":"`+id+`"`):
			t.Errorf("other bytes than at first, or not of the replay:\n%s\n%s", first[got.id], got.body)
		}
	}
	return bodies, owed
}

// A replay sends exactly the events of its range that it asks for: those that the endpoint was
// owed in the very same bytes, and others with its id and no number; from the feed, and from
// the log where the feed is trimmed.
func TestReplayRange(t *testing.T) {
	for _, trimmed := range []bool{false, true} {
		r, d, to, e := past(t)
		if trimmed {
			if err := r.feed().Purge(t.Context(), jetstream.WithPurgeSequence(40)); err != nil {
				t.Fatal(err)
			}
		}
		at := func(sequence uint64) events.Time {
			c, err := r.tail.Commit(t.Context(), sequence)
			if err != nil {
				t.Fatal(err)
			}
			return c.Time
		}
		end := r.chain.Sequence // an account's event, of no environment, for every replay
		for i, tt := range []struct {
			name   string
			change func(*events.Replay)
			all    int
			owed   int
		}{
			{"everything", func(r *events.Replay) { r.From = "0:1" }, 66, 51},
			{"before the log", func(r *events.Replay) { r.From = "0:0" }, 66, 51},
			{"named events", func(r *events.Replay) { r.From, r.Events = "0:1", []string{"credit.*"} }, 65, 50},
			{"other events", func(r *events.Replay) { r.From, r.Events = "0:1", []string{"account.*"} }, 1, 0},
			{"what it subscribed to", func(r *events.Replay) { r.From, r.Events = "0:6", []string{"endpoint.updated"} }, 2, 0},
			{"a commit", func(r *events.Replay) { r.From, r.To = "0:5", "0:5" }, 30, 30},
			{"its first event", func(r *events.Replay) { r.From, r.To = "0:5.0", "0:5.0" }, 1, 1},
			{"over a change", func(r *events.Replay) { r.From, r.To, r.Events = "0:5.29", "0:7.0", []string{"credit.*"} }, 2, 1},
			{"over the registration", func(r *events.Replay) { r.From, r.To = "0:3.4", "0:5.0" }, 2, 1},
			{"behind a commit's last", func(r *events.Replay) { r.From, r.To = "0:5.77", "0:7" }, 10, 0},
			{"up to behind its last", func(r *events.Replay) { r.From, r.To = "0:5", "0:5.77" }, 30, 30},
			{"the future", func(r *events.Replay) { r.From = "0:999" }, 0, 0},
			{"up to the future", func(r *events.Replay) { r.From, r.To = "0:9", "0:999" }, 21, 21},
			{"backwards", func(r *events.Replay) { r.From, r.To = "0:9", "0:7" }, 0, 0},
			{"nothing", func(r *events.Replay) { r.From, r.To = "0:1", "0:0" }, 0, 0},
			{"from a time", func(r *events.Replay) { r.FromTime = at(9) }, 21, 21},
			{"behind a time", func(r *events.Replay) { r.FromTime, r.ToTime = at(5)+1, at(9)-1 }, 10, 0},
			{"at a time", func(r *events.Replay) { r.FromTime, r.ToTime = at(5), at(5) }, 30, 30},
			{"before all time", func(r *events.Replay) { r.FromTime, r.ToTime = 1, at(1)-1 }, 0, 0},
			{"both", func(r *events.Replay) { r.From, r.FromTime, r.ToTime, r.To = "0:5.10", at(5)-1, at(5), "0:5.19" }, 10, 10},
			{"after all time", func(r *events.Replay) { r.FromTime = at(end) + 1e9 }, 0, 0},
		} {
			name := fmt.Sprintf("%s trimmed %t", tt.name, trimmed)
			sent, id := len(to.list()), fmt.Sprintf("replay_%d", i)
			r.commit(replayed(e, id, tt.change))
			d.wait(r.chain.Sequence)
			d.see(name, func() bool { return len(d.lanes[e.ID].replays) == 0 })
			bodies, owed := again(t, to.list(), sent, id)
			if len(bodies) != tt.all || owed != tt.owed {
				t.Errorf("%s: %d events, %d owed, want %d and %d", name, len(bodies), owed, tt.all, tt.owed)
			}
		}
		r.commit(debits(1)...)
		d.idle()
		if all := to.list(); all[len(all)-1].sequence != numberText(52) {
			t.Errorf("the next is number %s", all[len(all)-1].sequence)
		}
	}
}

// What the endpoint is owed and has still pending is not sent twice by a replay: what was
// tried is due at once, and what was not is left to its turn.
func TestReplayOfWhatIsPending(t *testing.T) {
	r, d, to, e := past(t)
	to.answers(func(_ http.ResponseWriter, _ *received, tries int) int {
		if tries == 1 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	r.commit(debits(3)...) // 10
	d.waiting(e.ID, 3)
	r.commit(about(e, events.Paused))
	r.commit(debits(laneQueueMax + 10)...) // 12
	r.commit(replayed(e, "replay_1", func(r *events.Replay) { r.From, r.Events = "0:9.15", []string{"credit.*"} }))
	d.wait(r.chain.Sequence)
	sent := len(to.list())
	r.commit(about(e, events.Active))
	// What the replay comes upon before it is tried waits now for its second try, and what it
	// comes upon behind that has had it.
	l := d.lanes[e.ID]
	d.see("all tried", func() bool {
		return l.owed == 51+3+laneQueueMax+10 && !l.behind && len(l.queue)+len(l.replays)+l.firsts+l.agains == 0 && !l.due(r.clock.now())
	})
	r.clock.advance(DefaultDelays()[1])
	d.idle()
	times := map[string]int{}
	for _, got := range to.list()[sent:] {
		times[got.sequence]++
	}
	for number := 46; number <= 51+3+laneQueueMax+10; number++ {
		want := 1 // the replay's of 46 to 50, and the second try of 52 to 54
		switch {
		case number == 51: // the test
			want = 0
		case number > 54:
			want = 2
		}
		if times[numberText(uint64(number))] != want {
			t.Errorf("number %d came %d times, want %d", number, times[numberText(uint64(number))], want)
		}
	}
}

// A replay is paced: at most two of its deliveries are under way, few are read ahead, what
// fails waits as any delivery does, and fresh events flow beside it.
func TestReplayBesideLiveTraffic(t *testing.T) {
	r, d, to, e := past(t)
	gate := make(chan struct{})
	to.answers(func(_ http.ResponseWriter, got *received, tries int) int {
		if number := got.sequence; number != "" && number <= numberText(51) {
			to.hold(gate)
			if tries == 2 { // the first of the replay
				return http.StatusInternalServerError
			}
		}
		return http.StatusOK
	})
	l := d.lanes[e.ID]
	r.commit(replayed(e, "replay_1", func(r *events.Replay) { r.From, r.Events = "0:5", []string{"credit.*"} }))
	r.commit(replayed(e, "replay_2", func(r *events.Replay) { r.From = "0:9" }))
	d.wait(r.chain.Sequence)
	d.see("two under way", func() bool { return l.agains == laneAgainMax && len(l.replays[0].ahead) == replayAheadMax-laneAgainMax })
	if n := d.Replays("acme", e.ID); n != 2 || d.Replays("other", e.ID) != 0 || d.Replays("acme", "endpoint_9") != 0 {
		t.Errorf("%d replays", n)
	}
	sent := len(to.list())
	for range 10 {
		r.commit(debits(20)...)
	}
	to.requests(sent + 200)
	d.see("no more of the replay", func() bool { return l.agains == laneAgainMax && l.firsts == 0 })
	close(gate)
	d.see("as many as may fail", func() bool {
		return l.replaysOpen() == replayOpenMax && l.agains == 0 && len(l.waiting) == replayOpenMax && len(l.replays[0].ahead) > 0
	})
	d.mu.Lock()
	status := l.replayStatus()
	d.mu.Unlock()
	if len(status) != 2 || status[0].ID != "replay_1" || status[0].Open != replayOpenMax || status[0].Ahead == 0 || status[0].Percent < 50 || status[1].Percent != 0 {
		t.Errorf("status %+v", status)
	}
	for d.Replays("acme", e.ID) > 0 {
		r.clock.advance(DefaultDelays()[1])
		d.see("no more due", func() bool { return !l.due(r.clock.now()) && l.agains == 0 && !l.replayReady() && l.readable() == nil })
	}
	if n := len(to.list()) - sent; n != 200+(10+2*50)+(20+2) {
		t.Errorf("%d requests", n)
	}
}

// notAgain returns what came before a request and was not delivered in the same bytes behind.
func notAgain(all []received, from int) map[string]string {
	bodies := map[string]string{}
	for _, got := range all[:from] {
		bodies[got.sequence] = got.body
	}
	for _, got := range all[from:] {
		if got.status == http.StatusOK && bodies[got.sequence] == got.body {
			delete(bodies, got.sequence)
		}
	}
	return bodies
}

// A crash in the middle of a replay repeats what was done since the last checkpoint, and loses
// none; the tries of what failed go on.
func TestReplayCrash(t *testing.T) {
	for _, directory := range []bool{false, true} {
		r, d, to, e := past(t)
		for range 20 {
			r.commit(debits(20)...)
		}
		d.idle()
		gate := make(chan struct{})
		to.answers(func(_ http.ResponseWriter, got *received, tries int) int {
			if got.sequence > numberText(300) {
				to.hold(gate)
			}
			if got.sequence == numberText(100) && tries == 2 {
				return http.StatusInternalServerError
			}
			return http.StatusOK
		})
		sent := len(to.list())
		r.commit(replayed(e, "replay_1", func(r *events.Replay) { r.From = "0:5" }))
		d.wait(r.chain.Sequence)
		if directory {
			d.keepDirectory()
		}
		l := d.lanes[e.ID]
		d.see("in the middle", func() bool {
			return l.agains == laneAgainMax && len(l.waiting) == 1 && len(l.replays[0].ahead) > 0 && l.replays[0].ahead[0].number > 300
		})
		d.mu.Lock()
		d.dirty = true
		d.mu.Unlock()
		if err := d.save(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.crash()
		close(gate)
		if !directory {
			if err := removeDirectory(d.directoryPath()); err != nil {
				t.Fatal(err)
			}
		}
		middle := len(to.list())
		d = r.start(r.onClock())
		l = d.lanes[e.ID]
		d.see("one waits", func() bool {
			return len(l.waiting) == 1 && l.waiting[0].number == 100 && l.waiting[0].tries == 1 && l.replays[0].read() && len(l.replays[0].ahead) == 0 && l.agains == 0
		})
		// What was under way came to its end too, and is sent again.
		if n := len(to.list()) - middle; n > 451-300+2*laneAgainMax {
			t.Errorf("%d requests after the crash", n)
		}
		r.clock.advance(DefaultDelays()[1])
		d.see("done", func() bool { return len(l.replays) == 0 })
		if missing := notAgain(to.list(), sent); len(missing) > 0 {
			t.Errorf("%d events were not replayed in the same bytes", len(missing))
		}
		d.idle()
		// What was finished is not begun again.
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
		before := len(to.list())
		d = r.start(r.onClock())
		r.commit(debits(1)...)
		d.idle()
		if n := len(to.list()) - before; n != 1 || d.Replays("acme", e.ID) != 0 {
			t.Errorf("%d requests after a finished replay", n)
		}
	}
}

// A paused endpoint gets nothing of a replay until it is resumed; one that jumps, or is
// removed, nothing more of what was asked for before.
func TestWhatStopsAReplay(t *testing.T) {
	r, d, to, e := past(t)
	sent := len(to.list())
	l := d.lanes[e.ID]
	r.commit(about(e, events.Paused))
	r.commit(replayed(e, "replay_1", func(r *events.Replay) { r.From = "0:5" }))
	d.wait(r.chain.Sequence)
	d.see("it waits", func() bool {
		return len(l.replays) == 1 && !l.againReady(r.clock.now()) && !l.wantsReplay(r.clock.now())
	})
	r.commit(updated(e, func(e *events.Endpoint) { e.Status, e.SkipTo = events.Paused, "0:7" }))
	r.commit(about(e, events.Active))
	d.wait(r.chain.Sequence)
	d.see("done", func() bool { return len(l.replays) == 0 })
	if got := to.list()[sent:]; len(got) != 21 || slices.ContainsFunc(got, func(r received) bool { return r.sequence <= numberText(30) }) {
		t.Errorf("%d requests behind the jump", len(got))
	}
	gate := make(chan struct{})
	to.answers(func(http.ResponseWriter, *received, int) int { to.hold(gate); return http.StatusInternalServerError })
	for i, stop := range []events.Event{updated(e, func(e *events.Endpoint) { e.SkipTo = skipNow }), about(e, events.Removed)} {
		sent := len(to.list())
		r.commit(replayed(e, fmt.Sprintf("replay_%d", i), func(r *events.Replay) { r.From = "0:5" }))
		d.see("two under way", func() bool { return l.agains == laneAgainMax })
		r.commit(stop)
		d.wait(r.chain.Sequence)
		if n := d.Replays("acme", e.ID); n != 0 {
			t.Errorf("%d replays go on", n)
		}
		close(gate)
		d.see("answered", func() bool { return l.agains == 0 && len(l.waiting) == 0 })
		if n := len(to.list()) - sent; n != laneAgainMax {
			t.Errorf("%d requests", n)
		}
		gate = make(chan struct{})
	}
}
