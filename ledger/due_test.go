package ledger

import (
	"fmt"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// An expiry that is moved again and again takes no memory, and is still told once, at its
// last time.
func TestDueIsBounded(t *testing.T) {
	st := sample(t)
	key := "key_" + idOf(3).String()
	for n := range uint64(5000) {
		s := step{"key.update", "acme", fmt.Sprintf(`{"key":%q,"expires_at":"2027-01-15T09:%02d:%02dZ"}`, key, n/60%60, n%60), 20}
		s.do(t, st)
		if len(st.dues) > 2*len(st.keys)+64 {
			t.Fatalf("after %d updates %d expiries are noted for %d keys", n, len(st.dues), len(st.keys))
		}
	}
	last := st.accounts["acme"].keys[0].expiresAt
	if e, ok := st.Due(last - 1); ok {
		t.Errorf("%s of %s fell due before its time", e.Type, e.Subject)
	}
	e, ok := st.Due(last)
	if !ok || e.Subject != key || e.Data.(*events.Key).ExpiresAt != last {
		t.Fatalf("due at %s: %+v, %t", last, e, ok)
	}
	st.Undue(&e) // it could not be written
	if again, ok := st.Due(last); !ok || again.Subject != key {
		t.Fatalf("given back, and not due again: %+v, %t", again, ok)
	}
	st.Evolve(&e)
	if e, ok := st.Due(last + 1_000_000); ok {
		t.Errorf("%s of %s is due a second time", e.Type, e.Subject)
	}
}
