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
		acme := st.accounts["acme"]
		if n := len(acme.more.dues); n > 2*st.mayBeDue(acme)+16 || len(st.turns) > 2*len(st.accounts)+64 {
			t.Fatalf("%d dues and %d turns are noted for %d accounts", n, len(st.turns), len(st.accounts))
		}
	}
	last := st.accounts["acme"].keys[0].expiresAt
	if list := st.Due(last - 1); list != nil {
		t.Errorf("%+v fell due before its time", list)
	}
	for range 2 { // it stays due until it is folded
		list := st.Due(last)
		if len(list) != 1 || list[0].Subject != key || list[0].Data.(*events.Key).ExpiresAt != last {
			t.Fatalf("due at %s: %+v", last, list)
		}
	}
	for _, e := range st.DueOf("acme", last) {
		st.Evolve(&e)
	}
	if list := st.Due(last + 1_000_000); list != nil {
		t.Errorf("%+v is due a second time", list)
	}
}
