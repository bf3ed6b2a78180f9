package webhooks

import (
	"net/http"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

func TestRateOf(t *testing.T) {
	for _, tt := range [][3]int64{{0, 0, 0}, {5, 0, 5}, {0, 7, 7}, {5, 7, 5}, {7, 5, 5}} {
		if got := rateOf(&events.Endpoint{RatePerMinute: tt[0], AllowedRate: tt[1]}); got != tt[2] {
			t.Errorf("of %d, and %d allowed: %d, want %d", tt[0], tt[1], got, tt[2])
		}
	}
}

// However attempts crowd, and however late they are made, no minute has more than the rate;
// and where there is always one to make, a minute has nearly as many.
func TestPace(t *testing.T) {
	rng := random(t)
	for _, rate := range []int64{1, 2, 7, 59, 60, 599, 600, 601, 6000, 60_000} {
		start := time.UnixMilli(1_790_000_000_000)
		now := start
		p := (*pace)(nil).withRate(rate)
		var made []time.Time
		var idle time.Duration
		for len(made) < int(3*rate)+1 {
			if at := p.at(); at.After(now) {
				now = at
			}
			wait := time.Duration(0)
			switch rng.IntN(200) { // a timer that is late, or nothing to do
			case 0:
				wait = time.Duration(rng.IntN(50)) * time.Millisecond
			case 1:
				wait = time.Duration(rng.Int64N(int64(3 * p.every)))
			}
			now, idle = now.Add(wait), idle+wait
			made = append(made, now)
			p.spend(now)
			if i := len(made) - 1 - int(rate); i >= 0 && now.Sub(made[i]) < time.Minute {
				t.Fatalf("at %d a minute %d attempts in %s", rate, rate+1, now.Sub(made[i]))
			}
		}
		if took := now.Sub(start); took > idle+181*time.Second {
			t.Errorf("at %d a minute %d attempts took %s", rate, len(made), took)
		}
	}
}

// All attempts of an endpoint count, first and later ones; a rate that is changed holds at
// once; and others are not held up.
func TestRate(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, func(_ http.ResponseWriter, got *received, tries int) int {
		if got.sequence == numberText(1) && tries == 1 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	well := newReceiver(t, nil)
	r.commit(opened("acme"))
	e := r.endpoint("endpoint_1", to.server.URL+"/endpoint_1", to.key[:])
	e.RatePerMinute, e.AllowedRate = 6, 600
	r.commit(about(e, ""))
	r.add("endpoint_2", well)
	d := r.start(r.onClock())
	r.commit(debits(30)...)
	well.requests(30)
	made := func(n int, wait time.Duration) {
		t.Helper()
		to.requests(n)
		d.see("rests", func() bool {
			l := d.lanes["endpoint_1"]
			return l.firsts+l.agains == 0 && l.rests().Equal(r.clock.now().Add(wait)) && l.at.Equal(l.rests())
		})
		if got := len(to.list()); got != n {
			t.Fatalf("%d requests, want %d", got, n)
		}
	}
	made(1, 10*time.Second)
	r.clock.advance(9999 * time.Millisecond)
	made(1, time.Millisecond)
	r.clock.advance(time.Millisecond)
	made(2, 10*time.Second)
	for i := range 4 { // the first event is tried again among them
		r.clock.advance(10 * time.Second)
		made(3+i, 10*time.Second)
	}
	if d.see("tried again", func() bool { return len(d.lanes["endpoint_1"].waiting) == 0 }); d.Stats().InFlight != 0 {
		t.Error("a slot is taken")
	}
	after := *e
	after.RatePerMinute = 60
	c := r.commit(about(&after, events.Active))
	d.wait(c.Sequence)
	r.clock.advance(time.Second)
	made(7, time.Second)
	after.RatePerMinute, after.AllowedRate = 0, 0
	r.commit(about(&after, events.Active))
	d.idle()
	r.checkDelivered(to, "endpoint_1")
}
