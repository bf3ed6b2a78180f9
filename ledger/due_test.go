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

// What falls due at one time comes in the same order out of a snapshot as without one:
// by kind and id, account by account.
func TestDueInOneOrder(t *testing.T) {
	const at = `"expires_at":"2027-01-15T08:00:00.100Z"`
	key := func(n int) string { return fmt.Sprintf(`{"environment":"test","name":"k%d",%s}`, n, at) }
	st := NewState()
	for i, s := range append(opened(),
		step{"key.create", "bolt", key(1), 3}, step{"key.create", "acme", key(2), 9}, step{"key.create", "acme", key(3), 5},
		step{"key.update", "acme", `{"key":"key_` + idOf(5).String() + `","expires_at":null}`, 10},
		step{"key.update", "acme", `{"key":"key_` + idOf(5).String() + `",` + at + `}`, 11}, // it is noted twice now
		step{"credit.grant", "acme", `{"environment":"test","asset":"credits","amount":9,` + at + `}`, 12},
		step{"credit.grant", "bolt", `{"environment":"test","asset":"credits","amount":9,` + at + `}`, 13},
		step{"hold.place", "acme", `{"environment":"test","asset":"credits","amount":4,"expires_in":"86ms"}`, 14},
	) {
		if s.do(t, st) == "" {
			t.Fatalf("step %d did nothing", i)
		}
	}
	again := restored(t, st, true)
	want, got := step{number: 100}.due(st), step{number: 100}.due(again)
	if len(want) != 8 || encoded(want) != encoded(got) { // two of them are alerts
		t.Errorf("%d events, restored %d:\n%q\n%q", len(want), len(got), encoded(want), encoded(got))
	}
}
