package service_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// hooked is a ledger with an endpoint that has a token in its URL and in a header.
func hooked(t *testing.T) (*ledgertest.Ledger, *client.NewEndpoint) {
	t.Helper()
	l, _, _ := prepared(t)
	made, err := l.RegisterEndpoint(t.Context(), "acme", ledger.RegisterEndpoint{
		URL: "https://example.com/hook?token=one", Environment: events.Test, Events: []string{"credit.*"}, Headers: map[string]string{"X-Token": "two"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, made
}

// lastEndpoint is the endpoint of the log's last event, with what is sealed.
func lastEndpoint(t *testing.T, l *ledgertest.Ledger) *events.Endpoint {
	t.Helper()
	commits := l.Commits()
	entries := commits[len(commits)-1].Entries
	list := entries[len(entries)-1].Events
	e, ok := list[len(list)-1].Data.(*events.Endpoint)
	if !ok {
		t.Fatalf("the last event is %s", list[len(list)-1].Type)
	}
	return e
}

// What is sealed is known again: the same URL and headers change nothing, and what did not
// change stays as it was sealed.
func TestUpdateKnowsWhatIsSealed(t *testing.T) {
	l, made := hooked(t)
	first := lastEndpoint(t, l)
	url, other := "https://example.com/hook?token=one", "https://example.com/hook?token=three"
	update := func(body ledger.UpdateEndpoint) int {
		t.Helper()
		before := len(l.Commits())
		body.Endpoint = made.Endpoint.ID
		if _, err := l.UpdateEndpoint(t.Context(), "acme", body); err != nil {
			t.Fatal(err)
		}
		return len(l.Commits()) - before
	}
	same := ledger.UpdateEndpoint{URL: &url, Headers: map[string]string{"X-Token": "two"}}
	if n := update(same); n != 0 {
		t.Errorf("the same URL and headers: %d commits", n)
	}
	if n := update(ledger.UpdateEndpoint{URL: &other}); n != 1 {
		t.Errorf("another query: %d commits", n)
	}
	moved := lastEndpoint(t, l)
	if slices.Equal(moved.SealedQuery, first.SealedQuery) || !slices.Equal(moved.SealedHeaders[0], first.SealedHeaders[0]) || moved.URL != "https://example.com/hook" {
		t.Errorf("another query: %+v, before %+v", moved, first)
	}
	if n := update(ledger.UpdateEndpoint{Headers: map[string]string{"X-Token": "four", "X-Other": "two"}}); n != 1 {
		t.Errorf("other headers: %d commits", n)
	}
	if e := lastEndpoint(t, l); len(e.SealedHeaders) != 2 || slices.Equal(e.SealedHeaders[1], moved.SealedHeaders[0]) || !slices.Equal(e.SealedQuery, moved.SealedQuery) {
		t.Errorf("other headers: %+v, before %+v", e, moved)
	}
	if n := update(ledger.UpdateEndpoint{Headers: map[string]string{}}); n != 1 || len(lastEndpoint(t, l).SealedHeaders) != 0 {
		t.Errorf("no headers: %d commits", n)
	}
}

// A new secret is shown once: of v1 the secret, of v1a the public key. The one before stays
// as it was sealed, and signs too.
func TestRotateSecretOverNATS(t *testing.T) {
	l, made := hooked(t)
	first := lastEndpoint(t, l)
	id := ulid.Make()
	body := ledger.RotateEndpointSecret{Endpoint: made.Endpoint.ID}
	second, err := l.RotateEndpointSecret(t.Context(), "acme", body, client.WithID(id))
	if err != nil || !strings.HasPrefix(second.Secret, "whsec_") || second.Secret == made.Secret {
		t.Fatalf("rotated: %+v, %v", second, err)
	}
	e := lastEndpoint(t, l)
	if len(e.Former) != 1 || !slices.Equal(e.Former[0].Sealed, first.SealedSecret) || slices.Equal(e.SealedSecret, first.SealedSecret) {
		t.Errorf("rotated: %+v, before %+v", e, first)
	}
	again, err := l.RotateEndpointSecret(t.Context(), "acme", body, client.WithID(id))
	if err != nil || again.Secret != "" || len(again.Endpoint.Former) != 1 {
		t.Errorf("a repeated answer: %+v, %v", again, err)
	}
	body.Signing, body.Grace = events.SigningV1a, "0"
	third, err := l.RotateEndpointSecret(t.Context(), "acme", body)
	if err != nil || !strings.HasPrefix(third.Secret, "whpk_") || third.Secret != third.Endpoint.PublicKey || len(third.Endpoint.Former) != 0 {
		t.Errorf("to v1a: %+v, %v", third, err)
	}
	fresh, err := l.RegisterEndpoint(t.Context(), "acme", ledger.RegisterEndpoint{
		URL: "https://example.com/b", Environment: events.Test, Events: []string{"*"}, Signing: events.SigningV1a,
	})
	if err != nil || !strings.HasPrefix(fresh.Secret, "whpk_") || fresh.Secret != fresh.Endpoint.PublicKey || fresh.Secret == third.Secret {
		t.Errorf("registered with v1a: %+v, %v", fresh, err)
	}
}

// Test and replay answer with the endpoint and the replay.
func TestTestAndReplayOverNATS(t *testing.T) {
	l, made := hooked(t)
	tested, err := l.TestEndpoint(t.Context(), "acme", ledger.TestEndpoint{Endpoint: made.Endpoint.ID})
	if err != nil || tested.ID != made.Endpoint.ID {
		t.Errorf("tested: %+v, %v", tested, err)
	}
	replay, err := l.ReplayEndpoint(t.Context(), "acme", ledger.ReplayEndpoint{Endpoint: made.Endpoint.ID, From: "0:1", Events: []string{"credit.*"}})
	if err != nil || replay.Endpoint != made.Endpoint.ID || !strings.HasPrefix(replay.ID, "replay_") || replay.From != "0:1" {
		t.Errorf("replayed: %+v, %v", replay, err)
	}
}
