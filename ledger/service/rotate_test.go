package service_test

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

// A rotated key has a new secret of its environment, shown once; the old one works on.
func TestRotateOverNATS(t *testing.T) {
	l, key, old := prepared(t)
	ctx, id := t.Context(), ulid.Make().String()
	first := raw(t, l, "keyledger.cmd.acme.key.rotate", `{"key":"`+key+`"}`, "Nats-Msg-Id", id)
	var made client.NewKey
	if err := json.Unmarshal(first.Data, &made); err != nil || made.Key == nil || made.Key.ID != key {
		t.Fatalf("%s: %v", first.Data, err)
	}
	if !strings.HasPrefix(made.Secret, "kl_test_") || made.Secret == old || made.Key.Prefix != ledger.SecretPrefix(made.Secret) || made.Key.OldSecretUntil == 0 {
		t.Errorf("rotated: %s", first.Data)
	}
	again := raw(t, l, "keyledger.cmd.acme.key.rotate", `{"key":"`+key+`"}`, "Nats-Msg-Id", id)
	if s := string(again.Data); strings.Contains(s, `"secret":`) || !strings.Contains(s, `"secret_omitted":true`) || again.Header.Get("Keyledger-Position") != first.Header.Get("Keyledger-Position") {
		t.Errorf("a repeated answer must not show the secret: %s", s)
	}
	ages := func(want ...string) {
		t.Helper()
		for i, secret := range []string{old, made.Secret} {
			a, err := l.Authorize(ctx, &ledger.Authorize{Secret: secret})
			if err != nil || a.SecretAge != want[i] || a.Allowed != (want[i] != "") {
				t.Errorf("secret %d: %+v, %v, want age %q", i, a, err, want[i])
			}
		}
	}
	ages(events.OldSecret, events.CurrentSecret)
	leaked, err := l.RotateKey(ctx, "acme", ledger.RotateKey{Key: key, Grace: "0"})
	if err != nil || leaked.Secret == "" || leaked.Key.OldSecretUntil != 0 {
		t.Fatalf("%+v, %v", leaked, err)
	}
	ages("", "")
	live, err := l.CreateKey(ctx, "acme", ledger.CreateKey{Environment: events.Live, Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := l.RotateKey(ctx, "acme", ledger.RotateKey{Key: live.Key.ID})
	if err != nil || !strings.HasPrefix(rotated.Secret, "kl_live_") {
		t.Errorf("of a live key: %+v, %v", rotated, err)
	}
}
