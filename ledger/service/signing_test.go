package service_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

var pair = ed25519.NewKeyFromSeed(slices.Repeat([]byte{7}, ed25519.SeedSize))

// withSigner adds a signing key, and an imported one whose secret is sk_1.
func withSigner(t *testing.T, l *ledgertest.Ledger) (signer string) {
	t.Helper()
	public := base64.StdEncoding.EncodeToString(pair.Public().(ed25519.PublicKey))
	k, err := l.CreateKey(t.Context(), "acme", ledger.CreateKey{Environment: "test", Name: "s", PublicKey: public})
	if err != nil || k.Secret != "" || string(k.Key.PublicKey) != string(pair.Public().(ed25519.PublicKey)) {
		t.Fatalf("signing key: %+v, %v", k, err)
	}
	sum := sha256.Sum256([]byte("sk_1"))
	imported, err := l.ImportKey(t.Context(), "acme", ledger.ImportKey{
		CreateKey: ledger.CreateKey{Environment: "test", Name: "i"}, SHA256: hex.EncodeToString(sum[:]), ShownAs: "sk_…",
	})
	if err != nil || !imported.Imported || imported.Prefix != "sk_…" {
		t.Fatalf("imported key: %+v, %v", imported, err)
	}
	return k.Key.ID
}

// One signature, over and over: the same body with its id is one debit, another id is
// refused, and so it is after a restart.
func TestSignedOverTheWire(t *testing.T) {
	l, _, _ := prepared(t)
	signer := withSigner(t, l)
	a := &ledger.Authorize{Key: signer, Message: "GET /v1/cards\n{\"é\":1}", ID: ulid.Make().String()}
	a.Sign(pair, events.At(time.Now()))
	ask := func(id string) *ledger.Answer {
		t.Helper()
		a.ID = id
		answer, err := l.Authorize(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	first := a.ID
	if answer := ask(first); !answer.Allowed || answer.Replayed || *answer.Balance != 900 || answer.SecretAge != "" {
		t.Fatalf("at first: %+v", answer)
	}
	for range 2 {
		if answer := ask(first); !answer.Allowed || !answer.Replayed || *answer.Balance != 900 {
			t.Errorf("the same id: %+v", answer)
		}
		if answer := ask(ulid.Make().String()); answer.Code != events.IDReused || answer.Message == "" {
			t.Errorf("another id: %+v", answer)
		}
		l.Stop()
		l.Start()
	}
	// The header's id serves a request that stands alone.
	a.ID, a.Message = "", "another"
	a.Sign(pair, events.At(time.Now()))
	body, err := events.Encode(a)
	if err != nil {
		t.Fatal(err)
	}
	if reply := raw(t, l, "keyledger.authorize", string(body), "Nats-Msg-Id", ulid.Make().String()); codeOf(t, reply) != events.OK || !strings.Contains(string(reply.Data), `"allowed":true`) {
		t.Errorf("with the header's id: %s", reply.Data)
	}
	if answer, err := l.AuthorizeSigned(t.Context(), pair, &ledger.Authorize{Key: signer, Message: "third"}); err != nil || !answer.Allowed {
		t.Errorf("signed by the client: %+v, %v", answer, err)
	}
	for _, c := range l.Commits() {
		for _, e := range c.Entries {
			if d, ok := e.Events[0].Data.(*events.Debited); ok && (len(d.Signature) != 16 || d.SignedAt == 0 || d.Key != signer) {
				t.Errorf("debit %+v", d.Debit)
			}
		}
	}
	l.Stop()
}

// An array is decided in its order, however its items say who they are.
func TestSignedInAnArray(t *testing.T) {
	l, _, secret := prepared(t)
	signer := withSigner(t, l)
	cost := int64(100)
	item := func(message string) ledger.Authorize {
		if message == "" {
			return ledger.Authorize{Secret: secret, Cost: &cost}
		}
		a := ledger.Authorize{Key: signer, Message: message, Cost: &cost}
		a.Sign(pair, events.At(time.Now()))
		return a
	}
	forged := item("forged")
	forged.Message = "changed"
	answers, err := l.AuthorizeMany(t.Context(), []ledger.Authorize{
		item(""), item("a"), item(""), forged, item("a"), item("b"), {Secret: "sk_1", Cost: &cost}, item(""),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		code events.Code
		left int64
	}{
		{events.OK, 900}, {events.OK, 800}, {events.OK, 700}, {events.KeyNotFound, 0}, {events.OK, 600}, {events.OK, 500}, {events.OK, 400}, {events.OK, 300},
	}
	if answers[4].Code == events.IDReused { // signed within the same millisecond
		for i := 5; i < len(want); i++ {
			want[i].left += 100
		}
		want[4].code, want[4].left = events.IDReused, 0
	}
	for i, a := range answers {
		if a.Code != want[i].code || a.Allowed && *a.Balance != want[i].left {
			t.Errorf("item %d: %+v, want %+v", i, a, want[i])
		}
	}
	body, err := json.Marshal([]ledger.Authorize{item("no id")})
	if err != nil {
		t.Fatal(err)
	}
	reply := raw(t, l, "keyledger.authorize", string(body), "Nats-Msg-Id", ulid.Make().String())
	if !strings.Contains(string(reply.Data), `"code":"invalid_argument","message":"a signed request needs a command id`) {
		t.Errorf("an item without an id: %s", reply.Data)
	}
}
