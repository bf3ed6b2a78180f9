package webhooks

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// got is what delivery.get answers, as a client reads it.
type got struct {
	Event    string           `json:"event"`
	Status   string           `json:"status"`
	Attempts int              `json:"attempts"`
	Sequence string           `json:"sequence"`
	Replay   *string          `json:"replay"`
	Log      []map[string]any `json:"attempts_log"`
	Complete bool             `json:"attempts_log_complete"`
	Retry    map[string]any   `json:"retry"`
}

func (u *run) get(event, endpoint string) (*got, *events.Error) {
	u.t.Helper()
	result, _, refused := u.Queries()["delivery.get"](u.t.Context(), "acme", fmt.Appendf(nil, `{"event":%q,"endpoint":%q}`, event, endpoint))
	if refused != nil {
		return nil, refused
	}
	data, err := events.Encode(result)
	if err != nil {
		u.t.Fatal(err)
	}
	var out struct {
		Delivery got `json:"delivery"`
	}
	if err := json.Unmarshal(data, &out); err != nil {
		u.t.Fatal(err)
	}
	if out.Delivery.Log == nil || out.Delivery.Event != event {
		u.t.Errorf("answered %s", data)
	}
	return &out.Delivery, nil
}

// say is what a test compares.
func (g *got) say() string {
	var outcomes []string
	for _, a := range g.Log {
		outcomes = append(outcomes, fmt.Sprintf("%v %v", a["attempt"], a["outcome"]))
	}
	return fmt.Sprintf("%s %d: %s; %v, %v", g.Status, g.Attempts, strings.Join(outcomes, ", "), g.Complete, g.Retry != nil)
}

func (r *rig) purge(name string, opts ...jetstream.StreamPurgeOpt) {
	r.t.Helper()
	s, err := r.js.Stream(r.t.Context(), name)
	if err == nil {
		err = s.Purge(r.t.Context(), opts...)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestDeliveryGet(t *testing.T) {
	r, d := scene(t)
	owed := r.owed("endpoint_1")
	check := func(n int, want string) {
		t.Helper()
		g, refused := d.get(owed[n-1], "endpoint_1")
		if refused != nil {
			t.Errorf("number %d: %v", n, refused)
		} else if g.say() != want {
			t.Errorf("number %d: %s, want %s", n, g.say(), want)
		}
	}
	check(1, "delivered 2: 1 failed, 2 delivered; true, false")
	check(11, "dead 3: 1 failed, 2 failed, 3 dead; true, true")
	check(16, "delivered 1: 1 delivered; true, false")
	check(36, "pending 1: 1 failed; true, false")
	check(46, "pending 0: ; true, false") // never tried
	g, _ := d.get(owed[10], "endpoint_1")
	if body := fmt.Sprint(g.Retry); body != fmt.Sprintf("map[body:map[endpoint:endpoint_1 from_position:%[1]v to_position:%[1]v] command:endpoint.replay]", g.Log[0]["position"]) {
		t.Errorf("a dead delivery is sent again by %s", body)
	}
	if len(g.Log[2]) < 14 || g.Log[2]["status_code"] != 500.0 || g.Log[2]["duration_ms"] == nil {
		t.Errorf("record %v", g.Log[2])
	}
	// The records are kept for a time. What is pending is known without them.
	r.purge(store.StreamAttempts)
	check(1, "settled 0: ; true, false")
	check(11, "settled 0: ; true, false")
	check(36, "pending 1: ; true, false")
	check(46, "pending 0: ; true, false")
}

// What is owed and too far behind to be in memory is pending.
func TestDeliveryGetBehind(t *testing.T) {
	r := newRig(t)
	r.commit(opened("acme"))
	e := r.endpoint("endpoint_1", "https://192.0.2.1/", make([]byte, 32))
	e.Status = events.Paused
	r.commit(about(e, ""))
	d := r.start(r.onClock())
	c := r.commit(debits(laneQueueMax + 5)...)
	d.wait(c.Sequence)
	for _, n := range []int{0, laneQueueMax - 1, laneQueueMax, laneQueueMax + 4} {
		if g, refused := d.get(r.owed("endpoint_1")[n], "endpoint_1"); refused != nil || g.say() != "pending 0: ; true, false" {
			t.Errorf("event %d: %v, %v", n, g, refused)
		}
	}
}

func TestDeliveryGetOfWhatWasNeverOwed(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	before := r.commit(opened("acme"), opened("other"), debit("acme", events.Test, 1))
	e := r.add("endpoint_1", to)
	d := r.start(r.onClock())
	none := r.commit(debit("acme", events.Live, 1), debit("other", events.Test, 1), debit("acme", events.Test, 1))
	after := *e
	after.Events = []string{"key.*"}
	r.commit(events.Event{Type: "endpoint.updated", Account: "acme", Environment: events.Test, Subject: e.ID, Data: &after})
	changed := r.commit(debits(1)...)
	d.wait(changed.Sequence)
	d.idle()
	r.stored(d)
	id := func(c *store.Commit, index int) string { return events.EventID(c.Time, c.Nonce, index).String() }
	r.purge(store.StreamAttempts) // so that only the terms of the time can say
	if g, refused := d.get(id(none, 2), "endpoint_1"); refused != nil || g.Status != "settled" {
		t.Errorf("what was owed: %v, %v", g, refused)
	}
	for name, event := range map[string]string{
		"before its registration": id(before, 2), "of the other environment": id(none, 0), "of another account": id(none, 1),
		"by other terms": id(changed, 0), "of no commit": ulid.Make().String(), "of no index": id(none, 3),
		"of the time before the log": events.EventID(1, [16]byte{}, 0).String(),
	} {
		if g, refused := d.get(event, "endpoint_1"); refused == nil || refused.Code != events.NotFound {
			t.Errorf("an event %s: %v, %v", name, g, refused)
		}
	}
	for body, want := range map[string]events.Code{
		`{"event":"` + id(none, 2) + `","endpoint":"endpoint_2"}`:                  events.NotFound,
		`{"event":"` + id(none, 2) + `"}`:                                          events.InvalidArgument,
		`{"event":"x","endpoint":"endpoint_1"}`:                                    events.InvalidArgument,
		`{"event":"` + strings.ToLower(id(none, 2)) + `","endpoint":"endpoint_1"}`: events.InvalidArgument,
		`{"endpoint":"endpoint_1"}`:                                                events.InvalidArgument,
		`{"id":1}`:                                                                 events.InvalidArgument,
	} {
		if _, _, refused := d.Queries()["delivery.get"](t.Context(), "acme", []byte(body)); refused == nil || refused.Code != want {
			t.Errorf("%s: %v, want %s", body, refused, want)
		}
	}
	if _, _, refused := d.Queries()["delivery.get"](t.Context(), "nobody", fmt.Appendf(nil, `{"event":%q,"endpoint":"endpoint_1"}`, id(none, 2))); refused == nil || refused.Code != events.NotFound {
		t.Errorf("unknown account: %v", refused)
	}
	// Where neither the records nor the feed reach back, nothing is made up.
	r.purge(store.StreamFeed(0), jetstream.WithPurgeSequence(changed.Ordinal))
	if g, refused := d.get(id(none, 2), "endpoint_1"); refused == nil || refused.Code != events.FailedPrecondition {
		t.Errorf("without records and feed: %v, %v", g, refused)
	}
}

// Attempts of replays are shown, and how a delivery stands is not what a replay of it says,
// unless it was never owed.
func TestDeliveryGetOfReplays(t *testing.T) {
	r, d := scene(t)
	dead := r.owed("endpoint_1")[10]
	r.recorded("endpoint_1", 2, func(i int, a *Attempt) { a.Event, a.Replay, a.Attempt = dead, rareReplay, 1+i })
	g, refused := d.get(dead, "endpoint_1")
	if refused != nil || g.Replay != nil || g.say() != "dead 3: 1 failed, 2 failed, 3 dead, 1 delivered, 2 delivered; true, true" {
		t.Errorf("%+v, %v", g, refused)
	}
	never := r.commit(debit("acme", events.Live, 1))
	d.wait(never.Sequence)
	event := events.EventID(never.Time, never.Nonce, 0).String()
	r.recorded("endpoint_1", 1, func(_ int, a *Attempt) { a.Event, a.Replay = event, rareReplay })
	if g, refused = d.get(event, "endpoint_1"); refused != nil || g.Replay == nil || g.say() != "delivered 1: 1 delivered; true, false" {
		t.Errorf("%+v, %v", g, refused)
	}
}

// The newest attempts are shown, so many; and an answer says whether it came to all.
func TestDeliveryGetIsBounded(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, func(http.ResponseWriter, *received, int) int { return http.StatusInternalServerError })
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	d := r.start(r.onClock(0, time.Hour))
	d.wait(r.commit(debits(1)...).Sequence)
	d.waiting("endpoint_1", 1)
	r.stored(d)
	event := r.owed("endpoint_1")[0]
	mine := func(n, attempt int) {
		r.recorded("endpoint_1", n, func(i int, a *Attempt) {
			a.Event, a.Attempt, a.Outcome = event, attempt+i, string(OutcomeFailed)
		})
	}
	show := func() (first, last any, n int, complete bool) {
		g, refused := d.get(event, "endpoint_1")
		if refused != nil {
			t.Fatal(refused)
		}
		return g.Log[0]["attempt"], g.Log[len(g.Log)-1]["attempt"], len(g.Log), g.Complete
	}
	want := func(what string, first, last, n int, complete bool) {
		t.Helper()
		f, l, m, c := show()
		if f != float64(first) || l != float64(last) || m != n || c != complete {
			t.Errorf("%s: %v to %v, %d, complete %v; want %d to %d, %d, %v", what, f, l, m, c, first, last, n, complete)
		}
	}
	mine(attemptsMax-1, 2)
	want("as many as are shown", 1, attemptsMax, attemptsMax, true)
	mine(1, attemptsMax+1)
	want("one more", 2, attemptsMax+1, attemptsMax, true)
	other := func(n int) { r.recorded("endpoint_1", n, func(int, *Attempt) {}) }
	other(attemptsScan - attemptsMax - 1)
	want("all are within what is looked at", 2, attemptsMax+1, attemptsMax, true)
	mine(1, attemptsMax+2)
	want("the last is found from the end", 3, attemptsMax+2, attemptsMax, true)
	other(attemptsScan + 1)
	want("the last is found from neither", 2, attemptsMax+1, attemptsMax, false)
	mine(1, attemptsMax+3)
	want("between the two", 3, attemptsMax+3, attemptsMax, false)
}

// What an endpoint was never owed and a replay still tries is pending, although there are
// records of tries that failed.
func TestDeliveryGetOfAReplayUnderWay(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, status(http.StatusInternalServerError))
	before := r.commit(opened("acme"), debit("acme", events.Test, 1))
	e := r.add("endpoint_1", to)
	d := r.start(r.onClock())
	r.commit(replayed(e, "replay_1", func(r *events.Replay) { r.From, r.Events = "0:1", []string{"credit.*"} }))
	to.requests(1)
	d.see("failed", func() bool { return len(d.lanes["endpoint_1"].waiting) == 1 })
	r.stored(d)
	event := events.EventID(before.Time, before.Nonce, 1).String()
	g, refused := d.get(event, "endpoint_1")
	if refused != nil || g.Status != string(StatePending) || g.Replay == nil || len(g.Log) != 1 {
		t.Errorf("%+v, %v", g, refused)
	}
}
