package writer

import (
	"crypto/sha256"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// A request that was paid is paid: its retry gets the first answer although its secret
// works no more. What is not the same request learns nothing.
func TestRetryOutlivesItsSecret(t *testing.T) {
	f := run(t, new(store.Memory), newClock())
	f.funded("acme", 1000)
	id := ulid.Make()
	secret := ledger.NewSecret(events.Test, "acme", id, [32]byte{1})
	f.must("acme", "key.create", &ledger.CreateKey{
		Environment: events.Test, Name: "k", KeyID: id, Hash: sha256.Sum256([]byte(secret)), Prefix: ledger.SecretPrefix(secret),
	})
	req := f.asks(secret)
	send := func(change func(*Request)) *Reply {
		again, a := *req, *req.Authorize
		again.Authorize = &a
		change(&again)
		return <-f.send(&again)
	}
	first := send(func(*Request) {})
	if first.Err != nil || !first.Answer.Allowed {
		t.Fatalf("%+v", first)
	}
	f.must("acme", "key.rotate", &ledger.RotateKey{Key: "key_" + id.String(), Grace: "0"})
	if r := send(func(*Request) {}); r.Err != nil || !r.Replayed || r.Answer.Debit != first.Answer.Debit || r.Position != first.Position {
		t.Errorf("the retry: %+v", r)
	}
	for what, r := range map[string]*Reply{
		"another body":  send(func(r *Request) { r.InputHash[0]++ }),
		"another id":    send(func(r *Request) { r.ID = ulid.Make() }),
		"without an id": send(func(r *Request) { r.Receipt = false }),
	} {
		if r.Err != nil || r.Replayed || r.Answer.Code != events.KeyNotFound || r.Answer.Account != "" {
			t.Errorf("%s: %+v", what, r)
		}
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}
