package webhooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// status answers every request with one status.
func status(code int) func(http.ResponseWriter, *received, int) int {
	return func(http.ResponseWriter, *received, int) int { return code }
}

func TestDeliversWhatIsOwed(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(append([]events.Event{opened("acme"), opened("other")}, debits(2)...)...)
	r.add("endpoint_1", to)                            // credit.*
	r.add("endpoint_2", to, "account.*", "endpoint.*") // not its own registration
	all := r.add("endpoint_3", to, "*")
	r.commit(debits(3)...)
	d := r.start()
	r.commit(debit("acme", events.Live, 1), debit("other", events.Test, 1))
	r.commit(events.Event{Type: "account.suspended", Account: "acme", Data: &events.Account{ID: "acme", Status: events.Suspended}})
	r.commit(append(debits(4), about(all, events.Paused), about(all, events.Active))...)
	c := r.commit()
	d.wait(c.Sequence)
	d.idle()
	for id, want := range map[string]int{"endpoint_1": 7, "endpoint_2": 4, "endpoint_3": 10} {
		if got := to.count(func(g received) bool { return g.endpoint == id }); got != want || len(r.owed(id)) != want {
			t.Errorf("%s: %d requests, %d owed by the log, want %d", id, got, len(r.owed(id)), want)
		}
		r.checkDelivered(to, id)
	}
	if s := d.Stats(); s.Delivered != 21 || s.Failed != 0 || s.Lanes != 3 || s.Pending != 0 || s.Position != fmt.Sprintf("0:%d", c.Sequence) {
		t.Errorf("stats %+v", s)
	}
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	if n := len(r.records()); n != 21 {
		t.Errorf("%d records of attempts, want 21", n)
	}
}

// Each try comes exactly when the schedule says, with the same bytes and a timestamp of
// its own; after the last one the delivery is dead, and the next event goes out as ever.
func TestSchedule(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, status(http.StatusInternalServerError))
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	d := r.start(r.onClock())
	begin := r.clock.now()
	r.commit(debits(1)...)
	want := []time.Time{begin}
	for _, wait := range DefaultDelays()[1:] {
		d.waiting("endpoint_1", 1)
		to.requests(len(want))
		r.clock.advance(wait - time.Millisecond)
		d.see("not yet due", func() bool { return !d.lanes["endpoint_1"].due(r.clock.now()) })
		r.clock.advance(time.Millisecond)
		want = append(want, r.clock.now())
		to.requests(len(want))
	}
	d.idle()
	for i, got := range to.list() {
		if got.at.Unix() != want[i].Unix() || got.body != to.list()[0].body {
			t.Errorf("try %d at %s, want %s; body %s", i+1, got.at, want[i], got.body)
		}
	}
	if s := d.Stats(); s.Dead != 1 || s.Failed != 10 || s.Delivered != 0 {
		t.Errorf("stats %+v", s)
	}
	to.answers(nil)
	r.commit(debits(1)...)
	to.requests(11)
	d.idle()
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	records := r.records()
	if len(records) != 11 {
		t.Fatalf("%d records, want 11", len(records))
	}
	// Records are published beside each other: the log does not promise their order.
	slices.SortFunc(records, func(a, b Attempt) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Attempt, b.Attempt))
	})
	for i, a := range records[:10] {
		next := events.Time(0)
		outcome := "dead"
		if i < 9 {
			next, outcome = events.At(want[i+1]), "failed"
		}
		if a.Attempt != i+1 || a.Time != events.At(want[i]) || a.NextAttemptAt != next || a.Outcome != outcome ||
			*a.StatusCode != 500 || a.Phase != "" || a.DurationMS.Total <= 0 || a.Sequence != "00000000000000000001" {
			t.Errorf("record %d: %+v", i+1, a)
		}
	}
	if a := records[10]; a.Outcome != "delivered" || a.Attempt != 1 || a.NextAttemptAt != 0 || a.Sequence != "00000000000000000002" {
		t.Errorf("record 11: %+v", a)
	}
}

func TestRetryAfter(t *testing.T) {
	for name, header := range map[string]func(now time.Time) string{
		"seconds": func(time.Time) string { return "7200" },
		"date":    func(now time.Time) string { return now.Add(2 * time.Hour).UTC().Format(http.TimeFormat) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			to := newReceiver(t, func(w http.ResponseWriter, _ *received, tries int) int {
				if tries > 1 {
					return http.StatusOK
				}
				w.Header().Set("Retry-After", header(r.clock.now()))
				return http.StatusNotFound
			})
			r.commit(opened("acme"))
			r.add("endpoint_1", to)
			d := r.start(r.onClock())
			begin := r.clock.now()
			r.commit(debits(1)...)
			d.waiting("endpoint_1", 1)
			r.clock.advance(2*time.Hour - 5*time.Second) // the schedule alone would try after 5 s
			d.see("not yet due", func() bool { return !d.lanes["endpoint_1"].due(r.clock.now()) })
			r.clock.advance(5 * time.Second)
			to.requests(2)
			d.idle()
			if waited := to.list()[1].at.Sub(begin); waited < 2*time.Hour-time.Second || waited > 2*time.Hour {
				t.Errorf("tried again after %s", waited)
			}
		})
	}
}

// A 503 stops everything to its endpoint for a while; a plain 500 only the event.
func TestHoldBack(t *testing.T) {
	r := newRig(t)
	fail := func(code int) func(http.ResponseWriter, *received, int) int {
		return func(w http.ResponseWriter, got *received, tries int) int {
			if got.sequence == "00000000000000000001" && tries == 1 {
				w.Header().Set("Retry-After", "60")
				return code
			}
			return http.StatusOK
		}
	}
	held, only := newReceiver(t, fail(http.StatusServiceUnavailable)), newReceiver(t, fail(http.StatusInternalServerError))
	r.commit(opened("acme"))
	r.add("endpoint_held", held)
	r.add("endpoint_only", only)
	d := r.start(r.onClock())
	r.commit(debits(1)...)
	d.waiting("endpoint_held", 1)
	d.waiting("endpoint_only", 1)
	c := r.commit(debits(20)...)
	d.wait(c.Sequence)
	only.requests(21)
	d.waiting("endpoint_only", 1)
	d.see("all held back", func() bool { return len(d.lanes["endpoint_held"].queue) == 20 })
	if n := len(held.list()); n != 1 {
		t.Errorf("%d requests to the endpoint that asked for a pause", n)
	}
	if s := d.Stats(); s.HeldBack != 1 || s.Pending != 22 || s.OpenRetries != 2 {
		t.Errorf("stats %+v", s)
	}
	r.clock.advance(time.Minute)
	d.idle()
	for _, got := range held.list()[1:] {
		if got.at.Unix() != r.clock.now().Unix() {
			t.Errorf("sequence %s was sent at %s, within the pause", got.sequence, got.at)
		}
	}
	r.checkDelivered(held, "endpoint_held")
	r.checkDelivered(only, "endpoint_only")
}

// 410 has the endpoint disabled, once, and stops it until an event says more about it.
func TestGone(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, status(http.StatusGone))
	r.commit(opened("acme"))
	e := r.add("endpoint_1", to)
	calls := make(chan string, 1000)
	answers := make(chan error, 10)
	d := r.start(r.onClock(), func(c *Config) {
		c.Disable = func(_ context.Context, account, endpoint, reason string) error {
			calls <- account + " " + endpoint + " " + reason
			select {
			case err := <-answers:
				return err
			case <-t.Context().Done():
				return t.Context().Err()
			}
		}
	})
	r.commit(debits(30)...)
	call := func() string {
		select {
		case got := <-calls:
			return got
		case <-time.After(patience):
			t.Fatal("the endpoint is not disabled")
			return ""
		}
	}
	if got := call(); got != "acme endpoint_1 the receiver answered 410 Gone" {
		t.Errorf("disabled: %s", got)
	}
	d.see("stopped", func() bool {
		l := d.lanes["endpoint_1"]
		return l.gone && l.firsts+l.agains == 0
	})
	before := len(to.list())
	// It could not be disabled: some seconds later it is tried, and disabled, again.
	answers <- errors.New("the writer is busy")
	d.see("held", func() bool { return d.lanes["endpoint_1"].held.After(r.clock.now()) })
	r.clock.advance(disablePause)
	call()
	d.see("stopped again", func() bool {
		l := d.lanes["endpoint_1"]
		return l.gone && l.firsts+l.agains == 0
	})
	answers <- nil
	between := len(to.list())
	if before > laneFlyingMax || between > before+laneFlyingMax {
		t.Errorf("%d requests before, %d after the second try to disable", before, between)
	}
	c := r.commit(append(debits(5), about(e, events.Disabled))...)
	d.wait(c.Sequence)
	r.clock.advance(24 * time.Hour)
	c = r.commit(debits(5)...)
	d.wait(c.Sequence)
	if n := len(to.list()); n != between {
		t.Errorf("%d requests to a disabled endpoint", n-between)
	}
	d.see("still owed", func() bool { return d.lanes["endpoint_1"].pending() == 40 })
	to.answers(nil)
	r.commit(about(e, events.Active))
	d.idle()
	r.checkDelivered(to, "endpoint_1")
	if len(calls) != 0 {
		t.Errorf("disabled once more: %s", call())
	}
}

// An answer 410 to a request from before the endpoint was resumed does not disable it
// again.
func TestOldGoneDoesNotDisable(t *testing.T) {
	r := newRig(t)
	gate := make(chan struct{})
	to := newReceiver(t, nil)
	to.answers(func(_ http.ResponseWriter, got *received, tries int) int {
		if tries > 1 || got.sequence == numberText(1) || got.sequence > numberText(3) {
			return http.StatusOK
		}
		if got.sequence == numberText(3) {
			to.hold(gate)
		}
		return http.StatusGone
	})
	r.commit(opened("acme"))
	e := r.add("endpoint_1", to)
	calls := make(chan string, 10)
	d := r.start(r.onClock(), func(c *Config) {
		c.Disable = func(_ context.Context, _, endpoint, _ string) error { calls <- endpoint; return nil }
	})
	r.commit(debits(1)...)
	d.idle()
	r.commit(debits(2)...)
	d.see("gone, and one under way", func() bool {
		l := d.lanes["endpoint_1"]
		return l.gone && l.firsts == 1 && len(l.waiting) == 1
	})
	c := r.commit(about(e, events.Disabled), about(e, events.Active))
	d.wait(c.Sequence)
	close(gate)
	d.waiting("endpoint_1", 2)
	r.commit(debits(1)...)
	r.clock.advance(5 * time.Second)
	d.idle()
	if n := len(calls); n != 1 {
		t.Errorf("disabled %d times", n)
	}
	r.checkDelivered(to, "endpoint_1")
}

// First tries and later ones have separate slots: with all slots for later tries taken
// by an endpoint that hangs, fresh events still go out, and within one endpoint too.
func TestRetriesDoNotStarveFreshEvents(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	to := newReceiver(t, nil)
	to.answers(func(_ http.ResponseWriter, got *received, tries int) int {
		switch {
		case got.sequence > "00000000000000000020":
			return http.StatusOK
		case tries == 1:
			return http.StatusInternalServerError
		}
		to.hold(release)
		return http.StatusOK
	})
	r.commit(opened("acme"))
	for _, id := range []string{"endpoint_1", "endpoint_2", "endpoint_3"} {
		r.add(id, to)
	}
	d := r.start(r.onClock())
	r.commit(debits(20)...)
	for id := range d.lanes {
		d.waiting(id, 20)
	}
	r.clock.advance(5 * time.Second)
	d.see("all slots for retries taken", func() bool {
		n := 0
		for _, l := range d.lanes {
			n += l.agains
		}
		return n == d.cfg.RetrySlots
	})
	r.commit(debits(100)...)
	to.wait("fresh events", func(all []received) bool {
		return len(slices.DeleteFunc(slices.Clone(all), func(g received) bool { return g.status != http.StatusOK })) == 300
	})
	close(release)
	d.idle()
	for _, id := range []string{"endpoint_1", "endpoint_2", "endpoint_3"} {
		r.checkDelivered(to, id)
	}
}

// An endpoint that hangs holds up nobody, and takes one slot when it was found to hang.
func TestHangingEndpoint(t *testing.T) {
	r := newRig(t)
	hang := newReceiver(t, func(_ http.ResponseWriter, _ *received, _ int) int {
		<-t.Context().Done()
		return http.StatusOK
	})
	well := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_hang", hang)
	r.add("endpoint_1", well)
	r.add("endpoint_2", well)
	d := r.start(func(c *Config) { c.Client = newClient(t, within(300*time.Millisecond)) })
	r.commit(debits(200)...)
	well.requests(400)
	d.see("narrow", func() bool {
		l := d.lanes["endpoint_hang"]
		return l.width == 1 && l.firsts == 1
	})
	d.see("others idle", func() bool { return d.lanes["endpoint_1"].pending()+d.lanes["endpoint_2"].pending() == 0 })
	r.checkDelivered(well, "endpoint_1")
	r.checkDelivered(well, "endpoint_2")
	for _, a := range r.records() {
		if a.Endpoint == "endpoint_hang" && (a.Outcome != "failed" || a.Phase != "headers" || a.Error != "timed out" || a.StatusCode != nil) {
			t.Errorf("record %+v", a)
		}
	}
}

func TestPauseResumeRemove(t *testing.T) {
	r := newRig(t)
	to, well := newReceiver(t, nil), newReceiver(t, nil)
	r.commit(opened("acme"))
	e := r.add("endpoint_1", to)
	r.add("endpoint_2", well)
	d := r.start()
	r.commit(debits(10)...)
	to.requests(10)
	c := r.commit(about(e, events.Paused))
	d.wait(c.Sequence)
	r.commit(debits(200)...)
	well.requests(210)
	d.see("owed while paused", func() bool { return d.lanes["endpoint_1"].pending() == 200 })
	if n := len(to.list()); n != 10 {
		t.Errorf("%d requests to a paused endpoint", n-10)
	}
	r.commit(about(e, events.Active))
	d.idle()
	to.requests(210)
	r.checkDelivered(to, "endpoint_1")
	c = r.commit(about(e, events.Paused))
	d.wait(c.Sequence)
	r.commit(append(debits(5), about(e, events.Removed))...)
	c = r.commit(debits(5)...)
	d.wait(c.Sequence)
	d.see("removed", func() bool { return d.lanes["endpoint_1"] == nil })
	d.idle()
	if n := len(to.list()); n != 210 {
		t.Errorf("%d requests to a removed endpoint", n-210)
	}
	r.checkDelivered(well, "endpoint_2")
}

// A stop waits for what is under way, and gives up on what does not end; that is not
// settled, and not counted as a try.
func TestStopCutsOff(t *testing.T) {
	r := newRig(t)
	arrived := make(chan struct{}, 10)
	to := newReceiver(t, func(_ http.ResponseWriter, got *received, tries int) int {
		if tries == 1 && got.sequence == "00000000000000000002" {
			arrived <- struct{}{}
			<-t.Context().Done()
		}
		return http.StatusOK
	})
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	d := r.start()
	r.commit(debits(1)...)
	d.idle()
	r.commit(debits(3)...)
	<-arrived
	to.requests(3)
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	if n := len(r.records()); n != 3 {
		t.Errorf("%d records, want 3", n)
	}
	to.answers(nil)
	next := r.start()
	next.idle()
	r.checkDelivered(to, "endpoint_1")
	if n := len(to.list()); n != 4 {
		t.Errorf("%d requests were answered, want 4", n)
	}
	if err := next.end(); err != nil {
		t.Fatal(err)
	}
	for _, a := range r.records() {
		if a.Attempt != 1 || a.Outcome != "delivered" {
			t.Errorf("record %+v", a)
		}
	}
}
