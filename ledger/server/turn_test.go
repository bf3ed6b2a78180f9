package server

import (
	"context"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// noTurn is a turn that never comes.
type noTurn struct{}

func (noTurn) Read(context.Context) *events.Error {
	return events.Errorf(events.Unavailable, "no turn")
}
func (noTurn) Wait(context.Context) *events.Error { return nil }

// Whatever reads the log, streams or files waits for its turn; what looks into memory does
// not.
func TestWhoWaitsForATurn(t *testing.T) {
	s, c, stop := serveConfig(t, Config{DataDir: t.TempDir()})
	defer stop()
	if _, err := c.OpenAccount(t.Context(), "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	key, err := c.CreateKey(t.Context(), "acme", ledger.CreateKey{Environment: "test", Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	signed, _, failed := s.getCheckpoint(t.Context(), "_", []byte(`{}`))
	if failed != nil {
		t.Fatal(failed)
	}
	note, err := events.Encode(signed.(*SignedCheckpoint).Signed)
	if err != nil {
		t.Fatal(err)
	}
	ctx := store.WithTurn(t.Context(), noTurn{})
	for _, row := range []struct {
		verb, account, body string
		reads               bool
	}{
		{"account.get", "acme", `{}`, false},
		{"account.list", "_", `{}`, false},
		{"key.list", "acme", `{}`, false},
		{"key.get", "acme", `{"key":"` + key.Key.ID + `"}`, false},
		{"key.get", "acme", `{"key":"` + key.Key.ID + `","at_position":"0:2"}`, true},
		{"balance.get", "acme", `{"environment":"test"}`, false},
		{"balance.get", "acme", `{"environment":"test","at_position":"0:2"}`, true},
		{"balance.get", "acme", `{"environment":"test","at_time":"2026-01-01T00:00:00Z"}`, true},
		{"hold.list", "acme", `{}`, false},
		{"endpoint.list", "acme", `{}`, false},
		{"ledger.status", "_", `{}`, false},
		{"projection.list", "_", `{}`, false},
		{"checkpoint.get", "_", `{}`, false},
		{"statement.list", "acme", `{"environment":"test"}`, true},
		{"usage.get", "acme", `{"environment":"test"}`, true},
		{"usage.get", "_", `{"environment":"test"}`, true},
		{"access.list", "acme", `{}`, true},
		{"delivery.list", "acme", `{}`, true},
		{"proof.get", "_", `{"position":"0:1"}`, true},
		{"proof.consistency", "_", `{"old":` + string(note) + `}`, true},
	} {
		_, _, err := s.queries()[row.verb](ctx, row.account, []byte(row.body))
		if row.reads && (err == nil || err.Message != "no turn") || !row.reads && err != nil {
			t.Errorf("%s %s: %v; reads: %t", row.verb, row.body, err, row.reads)
		}
	}
	// Nobody takes a turn for an account that is not there.
	if err := s.waitFor(t.Context(), s.tail.End().Sequence); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"balance.get", "key.get", "statement.list", "access.list", "delivery.list", "delivery.get"} {
		body := `{"environment":"test"}`
		switch verb {
		case "delivery.get":
			body = `{"event":"01J8Z5T0XKQ4R7N2M3V6W9Y1AB","endpoint":"endpoint_1"}`
		case "key.get":
			body = `{"key":"` + key.Key.ID + `","at_position":"0:2"}`
		case "balance.get":
			body = `{"environment":"test","at_position":"0:2"}`
		case "access.list", "delivery.list":
			body = `{}`
		}
		if _, _, err := s.queries()[verb](ctx, "nobody", []byte(body)); err == nil || err.Code != events.NotFound {
			t.Errorf("%s of an account that is not there: %v", verb, err)
		}
	}
}
