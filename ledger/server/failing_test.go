package server

import (
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

// What the dispatcher tells of an endpoint that fails is in the log when the call returns,
// once, and so is that it was disabled.
func TestFailingIsNoted(t *testing.T) {
	s, c, stop := serveConfig(t, Config{DataDir: t.TempDir(), AllowHTTPEndpoints: true})
	defer stop()
	if _, err := c.OpenAccount(t.Context(), "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	hook, err := c.RegisterEndpoint(t.Context(), "acme", ledger.RegisterEndpoint{URL: "https://example.com/hooks", Environment: events.Test, Events: []string{"credit.*"}})
	if err != nil {
		t.Fatal(err)
	}
	const since = events.Time(1_790_000_000_000)
	get := func() events.Endpoint {
		t.Helper()
		reply, err := c.Query(t.Context(), "acme", "endpoint.get", map[string]string{"endpoint": hook.Endpoint.ID})
		if err != nil {
			t.Fatal(err)
		}
		var out struct {
			Endpoint events.Endpoint `json:"endpoint"`
		}
		if err := reply.Decode(&out); err != nil {
			t.Fatal(err)
		}
		return out.Endpoint
	}
	for range 2 {
		if err := s.noteFailing(t.Context(), "acme", hook.Endpoint.ID, since, 50); err != nil {
			t.Fatal(err)
		}
	}
	if e := get(); e.FailingSince != since || e.FailingPercent != 50 || e.Status != events.Active {
		t.Errorf("endpoint %+v", e)
	}
	end := s.tail.End().Sequence
	if err := s.noteFailing(t.Context(), "acme", hook.Endpoint.ID, since, 50); err != nil {
		t.Fatal(err)
	}
	if again := s.tail.End().Sequence; again != end {
		t.Errorf("a notice that was given is given again: commit %d after %d", again, end)
	}
	if err := s.disableEndpoint(t.Context(), "acme", hook.Endpoint.ID, "every attempt failed for 5 days"); err != nil {
		t.Fatal(err)
	}
	if e := get(); e.Status != events.Disabled || e.Reason != "every attempt failed for 5 days" {
		t.Errorf("endpoint %+v", e)
	}
}
