package webhooks

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// debitsOf makes an event of each of the keys.
func debitsOf(keys ...string) []events.Event {
	list := debits(len(keys))
	for i := range list {
		list[i].Subject = keys[i]
	}
	return list
}

// inOrder adds an endpoint that asks for the order of keys.
func (r *rig) inOrder(id string, to *receiver) *events.Endpoint {
	r.t.Helper()
	e := r.endpoint(id, to.server.URL+"/"+id, to.key[:])
	e.Ordering = events.OrderingKey
	r.commit(about(e, ""))
	return e
}

// byKey is what a receiver was sent, or what it took, each once, by key: numbers in the order
// of arrival.
func byKey(to *receiver, taken bool) map[string][]string {
	m := map[string][]string{}
	for _, got := range to.list() {
		key := got.subject
		if !taken || got.status/100 == 2 && !slices.Contains(m[key], got.sequence) {
			m[key] = append(m[key], got.sequence)
		}
	}
	return m
}

// At an endpoint that asks for it the events of a key arrive in order. A key that fails is
// held back, however much of it there is, and the others flow; after a crash, and from the
// saved directory, it is as before; and when it is well again all of it comes, in order.
func TestOrderOfKeys(t *testing.T) {
	r := newRig(t)
	bad := func(_ http.ResponseWriter, got *received, _ int) int {
		if got.subject == "key_bad" {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
	to := newReceiver(t, bad)
	r.commit(opened("acme"))
	r.inOrder("endpoint_1", to)
	d := r.start(r.onClock())
	well, owed := 0, 0
	more := func(n int) {
		for i := range n {
			keys := []string{"key_bad", fmt.Sprintf("key_%d", i%7), "key_bad"}
			r.commit(debitsOf(keys...)...)
			well, owed = well+1, owed+3
		}
	}
	settled := func(bad int) {
		t.Helper()
		to.requests(well + bad)
		d.waiting("endpoint_1", 1)
		d.see("the others are done", func() bool { return d.lanes["endpoint_1"].pending() == uint64(owed-well) })
		if got := byKey(to, false); len(got["key_bad"]) != bad || got["key_bad"][bad-1] != numberText(1) {
			t.Errorf("of the bad key %s was sent", got["key_bad"])
		}
	}
	more(100)
	settled(1)
	d.see("few of the bad key in memory", func() bool {
		g := d.lanes["endpoint_1"].groups[groupOf(&debitsOf("key_bad")[0])]
		return g != nil && len(g.held) == groupHeldMax && g.more == 200-1-groupHeldMax
	})
	if err := d.end(); err != nil { // the directory is saved
		t.Fatal(err)
	}
	d = r.start(r.onClock())
	more(20)
	settled(1)
	d.crash()
	d = r.start(r.onClock())
	more(20)
	r.clock.advance(5 * time.Second)
	settled(2)
	to.answers(nil)
	r.clock.advance(5 * time.Minute)
	d.idle()
	if !strings.Contains(r.lines.String(), goesOn) {
		t.Error("no start went on from the saved directory")
	}
	r.checkDelivered(to, "endpoint_1")
	for key, list := range byKey(to, true) {
		if !slices.IsSorted(list) {
			t.Errorf("%s came in the order %s", key, list)
		}
	}
}
