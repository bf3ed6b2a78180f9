package webhooks

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// status asks endpoint.status.
func (u *run) status(body string) (EndpointStatus, *events.Error) {
	u.t.Helper()
	result, at, refused := u.Queries()["endpoint.status"](u.t.Context(), "acme", []byte(body))
	if refused != nil {
		return EndpointStatus{}, refused
	}
	if at.Sequence == 0 || at.Index != events.NoIndex {
		u.t.Errorf("answered at %s", at)
	}
	return result.(map[string]EndpointStatus)["status"], nil
}

// What endpoint.status tells of an endpoint that is well, of one whose key fails, of one that
// asked for a pause, and of one that is paused.
func TestEndpointStatus(t *testing.T) {
	r := newRig(t)
	well := newReceiver(t, nil)
	bad := newReceiver(t, status(http.StatusInternalServerError))
	busy := newReceiver(t, func(w http.ResponseWriter, _ *received, _ int) int {
		w.Header().Set("Retry-After", "3600")
		return http.StatusServiceUnavailable
	})
	r.commit(opened("acme"))
	r.add("endpoint_well", well)
	r.inOrder("endpoint_bad", bad)
	r.add("endpoint_busy", busy)
	paused := r.add("endpoint_paused", well)
	r.commit(about(paused, events.Paused))
	d := r.start(r.onClock())
	first := r.commit(debits(1)...)
	d.waiting("endpoint_bad", 1)
	d.waiting("endpoint_busy", 1)
	last := r.commit(debits(30)...)
	well.requests(31)
	d.wait(last.Sequence)
	d.see("done", func() bool { return d.lanes["endpoint_well"].pending() == 0 })
	at, none := func(wait time.Duration) events.Time { return events.At(r.clock.now().Add(wait)) }, []ReplayStatus{}
	before, end := store.ChainAt(first).Position(), store.ChainAt(last).Position()
	before.Sequence--
	for _, want := range []EndpointStatus{
		{Endpoint: "endpoint_well", Status: events.Active, Cursor: end.String(), Replays: none},
		{
			Endpoint: "endpoint_bad", Status: events.Active, Pending: 31, OpenRetries: 1, Withheld: 30, FailingSince: at(0),
			NextAttemptAt: at(5 * time.Second), Cursor: before.String(), Replays: none,
		},
		{
			Endpoint: "endpoint_busy", Status: events.Active, Pending: 31, OpenRetries: 1, HeldUntil: at(time.Hour), FailingSince: at(0),
			NextAttemptAt: at(time.Hour), Cursor: before.String(), Replays: none,
		},
		{Endpoint: "endpoint_paused", Status: events.Paused, Pending: 31, Cursor: before.String(), Replays: none},
	} {
		got, refused := d.status(`{"endpoint":"` + want.Endpoint + `"}`)
		if refused != nil {
			t.Fatal(refused)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want.Endpoint, diff)
		}
	}
	for body, code := range map[string]events.Code{
		`{}`: events.InvalidArgument, `{"endpoint":"endpoint_other"}`: events.NotFound, `{"endpoint":"endpoint_well","x":1}`: events.InvalidArgument,
	} {
		if _, refused := d.status(body); refused == nil || refused.Code != code {
			t.Errorf("%s: %v, want %s", body, refused, code)
		}
	}
}
