package ledger

import (
	"testing"

	"github.com/keyledger/keyledger/events"
)

// hooked is a state with one endpoint, and how to give keyledger's own commands to it.
type hooked struct {
	t  *testing.T
	st *State
	id string
	n  uint64
}

func newHooked(t *testing.T) *hooked {
	h := &hooked{t: t, st: NewState(), id: EndpointIDPrefix + idOf(3).String(), n: 3}
	for _, s := range append(opened(), step{"endpoint.register", "acme", `{"environment":"test","url":"https://example.com/","events":["*"]}`, 3}) {
		s.do(t, h.st)
	}
	return h
}

// give decides and folds a command, and returns the types of what happened.
func (h *hooked) give(spec *Spec, cmd Command) (types []string) {
	h.t.Helper()
	h.n++
	if err := cmd.Validate(); err != nil {
		h.t.Fatal(err)
	}
	d, err := Decide(h.st, spec, cmd, &Input{AccountID: "acme", CommandID: idOf(h.n), Time: step{number: h.n}.time()})
	if err != nil {
		h.t.Fatal(err)
	}
	for i := range d.Events {
		h.st.Evolve(&d.Events[i])
		types = append(types, d.Events[i].Type)
	}
	return types
}

func (h *hooked) fails(since events.Time, percent int64) int {
	h.t.Helper()
	return len(h.give(&NoteFailingSpec, &NoteFailing{Endpoint: h.id, Since: since, Percent: percent}))
}

func (h *hooked) tell(verb string) int {
	h.t.Helper()
	h.n++
	list, text := step{verb, "acme", `{"endpoint":"` + h.id + `"}`, h.n}.decide(h.t, h.st)
	if len(list) == 0 {
		h.t.Fatal(text)
	}
	for i := range list {
		h.st.Evolve(&list[i])
	}
	return len(list)
}

// A notice is given once for each part of the time, and again for another time of failing.
func TestNoticesOfFailingAreGivenOnce(t *testing.T) {
	h := newHooked(t)
	for _, c := range []struct {
		since   events.Time
		percent int64
		events  int
	}{
		{1000, 50, 1}, {1000, 50, 0}, {1000, 70, 1}, {1000, 50, 0}, {1000, 70, 0}, {1000, 90, 1}, {2000, 50, 1}, {2000, 50, 0},
	} {
		if got := h.fails(c.since, c.percent); got != c.events {
			t.Errorf("since %d, %d percent: %d events, want %d", c.since, c.percent, got, c.events)
		}
	}
	e := h.st.account("acme").endpoints()[h.id]
	if e.FailingSince != 2000 || e.FailingPercent != 50 || e.Status != events.Active {
		t.Errorf("failing since %d, %d percent, %s; want 2000, 50, active", e.FailingSince, e.FailingPercent, e.Status)
	}
	h.tell("endpoint.pause")
	if e := h.st.account("acme").endpoints()[h.id]; e.FailingSince != 0 || e.FailingPercent != 0 {
		t.Errorf("paused, it still fails since %d, %d percent", e.FailingSince, e.FailingPercent)
	}
	if h.fails(2000, 70) != 0 {
		t.Error("a notice of an endpoint that is paused")
	}
	h.tell("endpoint.resume")
	if h.fails(3000, 50) != 1 {
		t.Error("no notice once it is resumed")
	}
	if got := h.give(&DisableEndpointSpec, NewDisableEndpoint(h.id, "every attempt failed for 5 days")); len(got) != 1 || got[0] != "endpoint.disabled" {
		t.Errorf("disabled with %v", got)
	}
	if h.fails(3000, 90) != 0 {
		t.Error("a notice of an endpoint that is disabled")
	}
}

// A disabled endpoint is not tested, and works again once it is resumed.
func TestADisabledEndpointIsResumedFirst(t *testing.T) {
	h := newHooked(t)
	h.give(&DisableEndpointSpec, NewDisableEndpoint(h.id, "the receiver answered 410 Gone"))
	test := &TestEndpoint{Endpoint: h.id}
	_, err := Decide(h.st, &Spec{}, test, &Input{AccountID: "acme", CommandID: idOf(50), Time: 50})
	if err == nil || err.Code != events.FailedPrecondition {
		t.Errorf("a test of a disabled endpoint: %v", err)
	}
	h.tell("endpoint.resume")
	h.tell("endpoint.test")
}

func TestNoteFailingIsValidated(t *testing.T) {
	id := EndpointIDPrefix + idOf(3).String()
	for _, c := range []struct {
		cmd NoteFailing
		ok  bool
	}{
		{NoteFailing{id, 1, 1}, true}, {NoteFailing{id, 1, 99}, true}, {NoteFailing{id, 1, 0}, false}, {NoteFailing{id, 1, 100}, false},
		{NoteFailing{id, 0, 50}, false}, {NoteFailing{"endpoint_x", 1, 50}, false},
	} {
		if err := c.cmd.Validate(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.cmd, err)
		}
	}
}

// An endpoint of before there was an order has none: to say so changes nothing.
func TestUpdateOfAnEndpointWithoutAnOrder(t *testing.T) {
	h := newHooked(t)
	h.st.account("acme").endpoints()[h.id].Ordering = ""
	list, text := step{"endpoint.update", "acme", `{"endpoint":"` + h.id + `","ordering":"none"}`, 50}.decide(t, h.st)
	if len(list) != 0 {
		t.Errorf("ordering none: %s", text)
	}
}
