package webhooks

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// died is a rig with an endpoint, whose first delivery died and whose second was delivered;
// it fails all as long as down is set.
func died(t *testing.T) (r *rig, d *run, to *receiver, e *events.Endpoint, down *atomic.Bool) {
	t.Helper()
	down = new(atomic.Bool)
	down.Store(true)
	r = newRig(t)
	to = newReceiver(t, func(http.ResponseWriter, *received, int) int {
		if down.Load() {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	r.commit(opened("acme"))
	e = r.add("endpoint_1", to)
	d = r.start(r.onClock(0, time.Minute))
	r.commit(debits(1)...)
	d.waiting("endpoint_1", 1)
	r.clock.advance(time.Minute)
	d.waiting("endpoint_1", 0)
	d.see("the first is dead", func() bool { return d.dead == 1 })
	down.Store(false)
	r.commit(debits(1)...)
	d.see("the second is delivered", func() bool { return d.delivered == 1 })
	down.Store(true)
	r.stored(d)
	return r, d, to, e, down
}

// What a replay sends is a row of its own, while it waits and once it has ended; the dead
// delivery's row stays.
func TestDeliveryListOfReplays(t *testing.T) {
	r, d, _, e, down := died(t)
	dead := d.all(`"status":"dead",`, 10)[0]
	live := debit("acme", events.Live, 1) // never owed
	d.wait(r.commit(live).Sequence)
	for i, id := range []string{rareReplay, "replay_01JBAREC000000000000000000"} {
		r.commit(replayed(e, id, func(r *events.Replay) { r.From, r.To = dead["position"].(string), dead["position"].(string) }))
		d.see("the replay waits", func() bool {
			return d.lanes["endpoint_1"].replaysOpen() == i+1 && len(d.lanes["endpoint_1"].waiting) == i+1
		})
	}
	r.stored(d)
	say := func(members string, limit int) (list []string) {
		for _, row := range d.all(members, limit) {
			replay := "none"
			if row["replay"] != nil {
				replay = row["replay"].(string)[:11]
			}
			list = append(list, fmt.Sprintf("%v %v %s %v", number(t, fmt.Sprint(row["sequence"])), row["status"], replay, row["attempts"]))
		}
		return list
	}
	for _, limit := range []int{1, 10} {
		if got := fmt.Sprint(say("", limit)); got != "[1 pending replay_01JB 1 1 pending replay_01JA 1 2 delivered none 1 1 dead none 2]" {
			t.Errorf("while the replays wait: %s", got)
		}
		if got := fmt.Sprint(say(`"status":"pending","replay":"`+rareReplay+`",`, limit)); got != "[1 pending replay_01JA 1]" {
			t.Errorf("of one replay: %s", got)
		}
	}
	g, refused := d.get(dead["event"].(string), "endpoint_1")
	if refused != nil || g.say() != "dead 2: 1 failed, 2 dead, 1 failed, 1 failed; true, true" {
		t.Errorf("%+v, %v", g, refused)
	}
	down.Store(false)
	r.clock.advance(time.Minute)
	d.see("the replays have ended", func() bool { return d.lanes["endpoint_1"].replaysOpen() == 0 })
	r.stored(d)
	if got := fmt.Sprint(say(`"replay":"*",`, 1)); got != "[1 delivered replay_01JB 2 1 delivered replay_01JA 2]" && got != "[1 delivered replay_01JA 2 1 delivered replay_01JB 2]" {
		t.Errorf("when the replays have ended: %s", got)
	}
	if got := fmt.Sprint(say(`"status":"dead",`, 1)); got != "[1 dead none 2]" {
		t.Errorf("what is dead: %s", got)
	}
}

// A dead delivery can be sent again, in the very same bytes, when no record of it is kept any
// more: the log has its event.
func TestDeadIsReplayableWithoutItsRecords(t *testing.T) {
	r, d, to, e, down := died(t)
	dead := d.all(`"status":"dead",`, 10)[0]
	before := to.list()
	r.purge(store.StreamAttempts)
	if rows := d.all("", 10); len(rows) != 0 {
		t.Errorf("listed without records: %v", rows)
	}
	g, refused := d.get(dead["event"].(string), "endpoint_1")
	if refused != nil || g.Status != string(StateSettled) {
		t.Fatalf("%+v, %v", g, refused)
	}
	down.Store(false)
	r.commit(replayed(e, rareReplay, func(r *events.Replay) { r.From, r.To = dead["position"].(string), dead["position"].(string) }))
	d.see("it is delivered", func() bool { return d.delivered == 2 })
	all := to.list()
	if got := all[len(all)-1]; len(all) != len(before)+1 || got.id != dead["event"] || got.body != before[0].body || got.sequence != numberText(1) {
		t.Errorf("sent again: %+v, at first %+v", got, before[0])
	}
}
