package webhooks

import (
	"net/http"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// landed waits until no attempt is under way to endpoint_1.
func (u *run) landed() {
	u.t.Helper()
	u.see("landed", func() bool { l := u.lanes["endpoint_1"]; return l.firsts+l.agains == 0 })
}

// An endpoint with a rate and nothing to do but a replay goes on when the rate allows it.
func TestReplayAtARate(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	e := r.add("endpoint_1", to)
	d := r.start(r.onClock())
	r.commit(debits(3)...)
	d.idle()
	r.commit(updated(e, func(e *events.Endpoint) { e.RatePerMinute = 60 }))
	r.commit(replayed(e, "replay_1", func(r *events.Replay) { r.From, r.Events = "0:1", []string{"credit.*"} }))
	for n := 4; n <= 6; n++ {
		to.requests(n)
		d.landed()
		r.clock.advance(time.Minute)
	}
	d.idle()
}

// At a rate a replay and fresh events take turns.
func TestReplayAndFreshTakeTurns(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	e := r.add("endpoint_1", to)
	d := r.start(r.onClock())
	r.commit(debits(200)...)
	d.idle()
	r.commit(updated(e, func(e *events.Endpoint) { e.RatePerMinute = 60 }))
	r.commit(replayed(e, "replay_1", func(r *events.Replay) { r.From, r.Events = "0:1", []string{"credit.*"} }))
	to.requests(201)
	d.see("read", func() bool {
		l := d.lanes["endpoint_1"]
		return l.firsts+l.agains == 0 && len(l.replays[0].ahead) > 0
	})
	d.wait(r.commit(debits(20)...).Sequence)
	const rounds = 30
	for i := range rounds {
		d.see("read", func() bool { return len(d.lanes["endpoint_1"].replays[0].ahead) > 0 })
		r.clock.advance(time.Second)
		to.requests(201 + i + 1)
		d.landed()
	}
	seen := map[string]bool{}
	fresh := 0
	for i, got := range to.list() {
		if i >= 201 && !seen[got.id] {
			fresh++
		}
		seen[got.id] = true
	}
	if fresh != rounds/2 {
		t.Errorf("%d of %d attempts were of fresh events, want half", fresh, rounds)
	}
}

// fails ends an attempt that was begun as one that failed, as conclude does.
func (l *lane) fails(d *delivery, first bool, s *Schedule, now time.Time) {
	d.tries++
	l.land(first)
	d.next = now.Add(time.Hour)
	l.wait(d)
	l.park(d, StatePending, s, now)
}

// A lane that is parked with a replay's deliveries among the open ones, when what is oldest
// was never tried, tries that.
func TestParkedBehindOneThatWaits(t *testing.T) {
	now := time.UnixMilli(1_790_000_000_000)
	s := schedule(t)
	l := newLane(&subscriber{endpoint: &events.Endpoint{ID: "endpoint_1", Status: events.Active}})
	l.ordered, l.width, l.manner = true, laneFlyingMax, mannerPrompt
	n := uint64(0)
	owe := func(group uint64) {
		n++
		l.owed++
		l.owe(entry{feed: n, commit: n, number: n, group: group})
	}
	begin := func() {
		for l.firstReady(now) {
			l.fails(l.takeFirst(), true, s, now)
		}
	}
	owe(1)
	owe(1) // withheld behind the first
	for group := range uint64(62) {
		owe(group + 2)
	}
	begin()
	for group := range uint64(13) {
		owe(group + 100)
	}
	begin()
	r := &replay{open: map[uint64]*delivery{}, asked: n + 1000, request: &events.Replay{}, located: true, last: n + 900, next: place{entry: entry{feed: n + 800}}}
	for i := range uint64(25) {
		r.ahead = append(r.ahead, entry{feed: n + 100 + i})
	}
	l.replays = []*replay{r}
	for l.openAll() < laneOpenMax-1 {
		l.fails(l.takeReplay(), false, s, now)
	}
	// The oldest is over: its group's next waits for a first try, and two replays come first.
	d := l.oldest()
	l.unwait(d)
	d.flying = true
	l.agains++
	l.land(false)
	l.done(d)
	l.park(d, StateDead, s, now)
	for l.againReady(now) {
		l.fails(l.takeReplay(), false, s, now)
	}
	if !l.parked || l.openAll() != laneOpenMax {
		t.Fatalf("parked %t with %d open", l.parked, l.openAll())
	}
	if !l.firstReady(now) {
		t.Error("what is oldest is not tried, and so nothing is, for ever")
	}
}

// The time in which there was no dispatcher is none in which a receiver failed.
func TestAStopIsNoFailure(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, status(http.StatusInternalServerError))
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	c := &told{t: t, calls: make(chan string, 100), answers: make(chan error, 1)}
	d := r.start(r.onClock(), c.config)
	r.commit(debits(1)...)
	d.waiting("endpoint_1", 1)
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	r.clock.advance(DefaultDisableAfter + time.Hour)
	d = r.start(r.onClock(), c.config)
	to.requests(2)
	d.waiting("endpoint_1", 1)
	d.landed()
	if err := d.end(); err != nil || len(c.calls) > 0 {
		t.Errorf("%d calls after two attempts, %v", len(c.calls), err)
	}
}

// A seal key that does not fit is no fault of the receiver: nothing was sent to it.
func TestNothingSentIsNoFailure(t *testing.T) {
	now := time.UnixMilli(1_790_000_000_000)
	e := &events.Endpoint{ID: "endpoint_1", Status: events.Active}
	l := newLane(&subscriber{endpoint: e})
	l.queue = make([]place, 1)
	l.ended(&flight{endpoint: e, result: Result{Outcome: OutcomeFailed, Phase: PhaseSeal}}, StatePending, now)
	if l.failing != nil {
		t.Errorf("fails since %s", l.failing.since)
	}
}

// Whoever repairs a parked endpoint sees at once whether that helped.
func TestRepairOfAParkedEndpoint(t *testing.T) {
	for name, repair := range map[string]func(*rig, *events.Endpoint){
		"moved":   func(r *rig, e *events.Endpoint) { r.commit(updated(e, func(e *events.Endpoint) { e.URL += "?new" })) },
		"resumed": func(r *rig, e *events.Endpoint) { r.commit(about(e, events.Paused)); r.commit(about(e, events.Active)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			to := newReceiver(t, status(http.StatusInternalServerError))
			r.commit(opened("acme"))
			e := r.add("endpoint_1", to)
			d := r.start(r.onClock())
			r.commit(debits(150)...)
			d.waiting("endpoint_1", laneOpenMax)
			to.answers(nil)
			repair(r, e)
			to.requests(laneOpenMax + 1)
		})
	}
}
