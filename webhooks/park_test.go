package webhooks

import (
	"net/http"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// An endpoint that fails everything is tried with a hundred deliveries, then with the oldest
// of them, over a crash too, and goes on with all at once when that is delivered.
func TestParked(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, status(http.StatusInternalServerError))
	well := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	r.add("endpoint_2", well)
	d := r.start(r.onClock())
	r.commit(debits(300)...)
	well.requests(300)
	d.waiting("endpoint_1", laneOpenMax)
	if n := len(to.list()); n != laneOpenMax {
		t.Errorf("%d requests, want %d", n, laneOpenMax)
	}
	d.see("the other is done", func() bool { return d.lanes["endpoint_2"].pending() == 0 })
	if s := d.Stats(); s.Pending != 300 || s.OpenRetries != laneOpenMax || s.Behind != 1 || s.Parked != 1 {
		t.Errorf("stats %+v", s)
	}
	probe := func(wait time.Duration, requests int) {
		t.Helper()
		r.clock.advance(wait)
		to.requests(requests)
		d.waiting("endpoint_1", laneOpenMax)
		if last := to.list()[requests-1]; len(to.list()) != requests || last.sequence != numberText(1) {
			t.Errorf("%d requests, want %d; the last is of %s", len(to.list()), requests, last.sequence)
		}
	}
	probe(5*time.Second, laneOpenMax+1)
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	d = r.start(r.onClock())
	probe(5*time.Minute, laneOpenMax+2)
	if s := d.Stats(); s.Parked != 1 {
		t.Errorf("stats after a restart %+v", s)
	}
	to.answers(nil)
	r.clock.advance(30 * time.Minute)
	d.idle()
	if n := len(to.list()); n != laneOpenMax+2+300 {
		t.Errorf("%d requests, want %d", n, laneOpenMax+2+300)
	}
	r.checkDelivered(to, "endpoint_1")
	r.checkDelivered(well, "endpoint_2")
}

// What a receiver asked for itself is kept where a parked lane comes to a delivery.
func TestProbe(t *testing.T) {
	now := time.UnixMilli(1_790_000_000_000)
	s := schedule(t)
	for _, tt := range []struct {
		tries              int
		waited, next, want time.Duration // the last two from now
	}{
		{0, 0, 0, 0}, {1, 5 * time.Second, -time.Hour, 5 * time.Second}, {3, 30 * time.Minute, -time.Hour, 30 * time.Minute},
		{4, 2 * time.Hour, -time.Hour, time.Hour}, {9, 24 * time.Hour, 20 * time.Hour, time.Hour},
		{1, 6 * time.Hour, 2 * time.Hour, 2 * time.Hour}, {1, 6 * time.Hour, -time.Hour, 5 * time.Second}, {10, 0, 0, 0},
	} {
		d := &delivery{tries: tt.tries, next: now.Add(tt.next)}
		d.last = events.At(d.next.Add(-tt.waited))
		if got := s.probe(d, now).Sub(now); got != tt.want {
			t.Errorf("%d tries, and %s from now after %s: %s, want %s", tt.tries, tt.next, tt.waited, got, tt.want)
		}
	}
	step := Step{State: StatePending, Wait: 24 * time.Hour, Hold: 24 * time.Hour}
	for asked, want := range map[time.Duration]time.Duration{0: time.Hour, 59 * time.Minute: time.Hour, 61 * time.Minute: 61 * time.Minute, 25 * time.Hour: MaxWait} {
		if got := step.within(probeEvery, asked); got.Wait != want || got.Hold != want {
			t.Errorf("asked for %s: waits %s, held %s, want %s", asked, got.Wait, got.Hold, want)
		}
	}
}
