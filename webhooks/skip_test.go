package webhooks

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// updated is the event of an endpoint that was updated.
func updated(e *events.Endpoint, change func(*events.Endpoint)) events.Event {
	after := *e
	change(&after)
	return events.Event{Type: "endpoint.updated", Account: e.Account, Environment: e.Environment, Subject: e.ID, Data: &after}
}

// What an endpoint was owed up to where it jumps is not delivered, whether it was in the
// queue, waited for its next try or was not read yet; what is under way ends without a
// further try; and what comes behind has the number that it has in any case. So it is
// after a restart.
func TestSkipTo(t *testing.T) {
	const begun = 1 // first tries under way at an endpoint that is new
	for name, tt := range map[string]struct {
		to    string
		first int // number of the first delivery that comes behind the jump
	}{
		"now": {skipNow, 331}, "beyond": {"0:99", 331}, "within the queue": {"0:4.49", 51}, "the first commit": {"0:1", 1},
		"within what is not read": {"0:6", 301}, "behind a commit's end": {"0:5.500", 201},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s restart %t", name, restart), func(t *testing.T) {
				r := newRig(t)
				gate := make(chan struct{})
				to := newReceiver(t, nil)
				to.answers(func(_ http.ResponseWriter, got *received, tries int) int {
					to.hold(gate)
					if tries == 1 && got.sequence <= numberText(begun) {
						return http.StatusInternalServerError
					}
					return http.StatusOK
				})
				r.commit(opened("acme"))     // 2
				e := r.add("endpoint_1", to) // 3
				d := r.start(r.onClock(), func(c *Config) { c.Grace = time.Minute })
				for range 3 { // 4 to 6
					r.commit(debits(100)...)
				}
				d.see("under way", func() bool { return d.lanes["endpoint_1"].behind && d.lanes["endpoint_1"].firsts == begun })
				r.commit(append(debits(30), updated(e, func(e *events.Endpoint) { e.SkipTo = tt.to }))...)
				d.wait(r.chain.Sequence)
				close(gate)
				to.requests(begun)
				if restart {
					if err := d.end(); err != nil {
						t.Fatal(err)
					}
					d = r.start(r.onClock())
				}
				r.commit(debits(3)...)
				r.clock.advance(MaxWait)
				d.idle()
				var numbers []string
				for _, got := range to.list() {
					if got.status == http.StatusOK {
						numbers = append(numbers, got.sequence)
					}
				}
				want := 333 - tt.first + 1
				if failed := len(to.list()) - len(numbers); len(numbers) != want || failed != begun {
					t.Errorf("%d delivered, want %d; %d failed", len(numbers), want, failed)
				}
				for _, number := range numbers {
					if number < numberText(uint64(tt.first)) {
						t.Errorf("delivered %s", number)
					}
				}
				r.commit(debits(1)...)
				d.idle()
				if all := to.list(); all[len(all)-1].sequence != numberText(334) {
					t.Errorf("the next is %s", all[len(all)-1].sequence)
				}
			})
		}
	}
}
