package ledger

import (
	"crypto/sha256"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// BenchmarkAuthorize decides and folds what the hot path does: find the key, decide,
// debit.
func BenchmarkAuthorize(b *testing.B) {
	st, id := NewState(), ulid.ULID{5: 1, 15: 1}
	secret := NewSecret("test", "acme", id, [32]byte{1})
	create := &CreateKey{Environment: "test", Name: "k", KeyID: id, Hash: sha256.Sum256([]byte(secret))}
	for _, cmd := range []Command{
		&OpenAccount{}, create, &GrantCredit{Environment: "test", Asset: "credits", Amount: MaxAmount},
	} {
		if err := cmd.Validate(); err != nil {
			b.Fatal(err)
		}
		in := Input{AccountID: "acme", CommandID: id, Time: 1}
		d, err := Decide(st, &Spec{Opens: true}, cmd, &in)
		if err != nil {
			b.Fatal(err)
		}
		st.Evolve(&d.Events[0])
	}
	a := &Authorize{Secret: secret}
	if err := a.Validate(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := range b.N {
		answer, list := a.Decide(st, a.Find(st, events.Time(i+1)), id, events.Time(i+1))
		if !answer.Allowed {
			b.Fatal(answer.Code)
		}
		st.Evolve(&list[0])
	}
}
