package ledger

import (
	"crypto/sha256"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// rotationOf decides a rotation of the one key of an account, with a grace of an hour.
func rotationOf(t *testing.T, key events.Key, now events.Time) (*State, []events.Event, *events.Error) {
	t.Helper()
	st := NewState()
	key.ID, key.Account, key.Environment, key.Status = "key_"+idOf(1).String(), "acme", events.Live, events.Active
	st.Evolve(&events.Event{Type: "account.opened", Account: "acme", Data: &events.Account{ID: "acme", Status: events.Active}})
	st.Evolve(&events.Event{Type: "key.created", Account: "acme", Data: &key})
	c := &RotateKey{Key: key.ID, Grace: "1h"}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	d, err := Decide(st, &Spec{}, c, &Input{AccountID: "acme", Time: now})
	for i := range d.Events {
		st.Evolve(&d.Events[i])
	}
	return st, d.Events, err
}

// A signing key has no secret that could be rotated.
func TestRotateASigningKey(t *testing.T) {
	_, list, err := rotationOf(t, events.Key{PublicKey: make([]byte, 32)}, 1_800_000_000_000)
	if err == nil || err.Code != events.FailedPrecondition || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// An imported key is found by its foreign secret up to the end of the grace; its new
// secret is one of ours, of the key's environment.
func TestRotateAnImportedKey(t *testing.T) {
	const now = events.Time(1_800_000_000_000)
	foreign := sha256.Sum256([]byte("another system's"))
	st, list, err := rotationOf(t, events.Key{Imported: true, Hash: foreign}, now)
	if err != nil {
		t.Fatal(err)
	}
	d := list[0].Data.(*events.Key)
	secret := (&RotateKey{Key: d.ID}).Secret(events.Live, "acme")
	parsed, ok := ParseSecret(secret)
	if !ok || parsed.Environment != events.Live || parsed.Hash != d.Hash || d.Prefix != SecretPrefix(secret) || !d.Imported {
		t.Errorf("the new secret is %+v of %+v", parsed, d)
	}
	a := &Authorize{Secret: "another system's"}
	if err := a.Validate(); err != nil {
		t.Fatal(err)
	}
	if k := a.Find(st, now+3_599_999); k != st.keys[idOf(1)] || !a.old {
		t.Errorf("the foreign secret is not known in its grace: %+v", d)
	}
	if a.Find(st, now+3_600_000) != nil {
		t.Error("the foreign secret is known after its grace")
	}
	for _, e := range st.Due(now + 3_600_000) {
		st.Evolve(&e)
	}
	if a.Find(st, now+3_600_000) != nil {
		t.Error("the foreign secret is known after it was retired")
	}
}
