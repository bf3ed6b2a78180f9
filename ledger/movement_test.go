package ledger

import (
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// A grant that an adjustment made keeps its terms: credit.grant cannot add to it under the
// same id, on other ones.
func TestGrantUnderAnAdjustmentsID(t *testing.T) {
	st := NewState()
	for _, s := range append(opened(), step{"credit.adjust", "acme", `{"environment":"test","asset":"credits","amount":5,"reason":"r"}`, 3}) {
		s.do(t, st)
	}
	again := step{"credit.grant", "acme", `{"environment":"test","asset":"credits","amount":7,"grant":"` + prefixed(grantIDPrefix, idOf(3)) + `","expires_at":"2090-01-01T00:00:00Z"}`, 4}
	if list, text := again.decide(t, st); len(list) > 0 || !strings.Contains(text, "already") {
		t.Errorf("%d events: %q", len(list), text)
	}
	elsewhere := step{"credit.grant", "acme", strings.Replace(again.body, "credits", "gold", 1), 5}
	elsewhere.do(t, st)
	restored(t, st, false)
}

// Clients may use one command id for two accounts: what a transfer brings does not fall
// into the grant that the receiver's own command made, on that one's terms.
func TestTransferBesideAGrantOfTheSameID(t *testing.T) {
	st := NewState()
	const expiring = `{"environment":"test","asset":"credits","amount":7,"expires_at":"2027-01-15T08:00:00.010Z"}`
	for _, s := range append(opened(),
		step{"credit.grant", "acme", expiring, 3},
		step{"credit.grant", "bolt", expiring, 4},
		step{"credit.transfer", "acme", `{"to":"bolt","environment":"test","asset":"credits","amount":5}`, 4},
	) {
		s.do(t, st)
	}
	step{number: 20}.due(st)
	checkBalances(t, st)
	for account, want := range map[string]int64{"acme": 0, "bolt": 5} {
		if b := st.accounts[account].balance(balanceID{events.Test, "credits"}); b.posted != want {
			t.Errorf("%s has %d after the grants' time, want %d", account, b.posted, want)
		}
	}
}

// What the events of a transfer move, each in its own account, adds up to nothing.
func TestLegsOfATransfer(t *testing.T) {
	st := NewState()
	for _, s := range append(opened(), step{"credit.grant", "acme", `{"environment":"test","asset":"credits","amount":7}`, 3}) {
		s.do(t, st)
	}
	list, _ := step{"credit.transfer", "acme", `{"to":"bolt","environment":"test","asset":"credits","amount":5,"reference":"r"}`, 4}.decide(t, st)
	if len(list) != 2 || list[0].Account != "acme" || list[1].Account != "bolt" {
		t.Fatalf("%+v", list)
	}
	paid, got := list[0].Data.(*events.Transferred), list[1].Data.(*events.Transferred)
	if paid.ID != got.ID || paid.ID != "transfer_"+idOf(4).String() || paid.Reference != "r" || got.Reference != "r" {
		t.Errorf("%+v and %+v are not two legs of one transfer", paid, got)
	}
	if total(paid.Drawn) != 5 || paid.Added != nil || total(got.Added) != 5 || got.Drawn != nil {
		t.Errorf("%+v pays, %+v gets", paid, got)
	}
}
