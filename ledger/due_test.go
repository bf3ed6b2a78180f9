package ledger

import (
	"fmt"
	"testing"
	"time"

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

// An allowance that was spent and given back again and again comes again all the same, in a
// state that lived through it as in one out of sections.
func TestAllowanceComesAfterManyHolds(t *testing.T) {
	const day = uint64(24 * time.Hour / time.Millisecond)
	st := NewState()
	for _, s := range opened() {
		s.do(t, st)
	}
	step{"account.set_plan", "acme", `{"plan":{"name":"p","allowance":{"amount":100,"every":"day"}}}`, 3}.do(t, st)
	n := uint64(10)
	for range 40 {
		step{"hold.place", "acme", `{"environment":"test","asset":"credits","amount":10,"expires_in":"720h"}`, n}.do(t, st)
		step{"hold.release", "acme", fmt.Sprintf(`{"hold":"hold_%s"}`, idOf(n)), n + 1}.do(t, st)
		n += 2
	}
	step{"credit.debit", "acme", `{"environment":"test","asset":"credits","amount":100}`, n}.do(t, st)
	again := restored(t, st, true)
	for what, st := range map[string]*State{"lived": st, "restored": again} {
		if list := (step{number: n + day}).due(st); len(list) != 1 || list[0].Type != "credit.replenished" {
			t.Errorf("%s: the next day %+v", what, list)
		}
	}
}

// Turns stay few where each account has something due far off and something soon, again and
// again.
func TestTurnsAreBounded(t *testing.T) {
	const accounts = 50
	st := NewState()
	name := func(i uint64) string { return fmt.Sprint("a", i) }
	for i := range uint64(accounts) {
		step{"account.open", name(i), `{}`, i + 1}.do(t, st)
		step{"credit.grant", name(i), `{"environment":"test","asset":"credits","amount":900,"expires_at":"2030-01-01T00:00:00Z"}`, i + 1}.do(t, st)
	}
	n := uint64(1000)
	for range 20 {
		most := 0
		for i := range uint64(accounts) {
			step{"hold.place", name(i), `{"environment":"test","asset":"credits","amount":1,"expires_in":"5ms"}`, n}.do(t, st)
			n, most = n+10, max(most, len(st.turns))
		}
		if most > 2*accounts+64 {
			t.Fatalf("%d turns for %d accounts", most, accounts)
		}
	}
}

// What a hold gives back after a change of the plan's period is there again.
func TestHoldOverAChangeOfPeriod(t *testing.T) {
	st := NewState()
	for _, s := range opened() {
		s.do(t, st)
	}
	step{"account.set_plan", "acme", `{"plan":{"name":"p","allowance":{"amount":100,"every":"day"}}}`, 3}.do(t, st)
	step{"hold.place", "acme", `{"environment":"test","asset":"credits","amount":80,"expires_in":"1h"}`, 10}.do(t, st)
	step{"account.set_plan", "acme", `{"plan":{"name":"p","allowance":{"amount":3000,"every":"month"}}}`, 11}.do(t, st)
	step{"hold.release", "acme", fmt.Sprintf(`{"hold":"hold_%s"}`, idOf(10)), 12}.do(t, st)
	b := st.accounts["acme"].balance(balanceID{"test", "credits"})
	if b.posted != 3000 || b.held != 0 || b.allowance.spent != 0 {
		t.Errorf("posted %d, held %d, spent %d", b.posted, b.held, b.allowance.spent)
	}
}
