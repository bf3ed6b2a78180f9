package service_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// waiters is how many queries of one account can wait for a position.
const waiters = 512

// TestWaitingHoldsUpNobody: an account's queries wait for a position that is far ahead. One
// more is refused at once; other queries of the account, and what others wait for, go on.
func TestWaitingHoldsUpNobody(t *testing.T) {
	l := ledgertest.Start(t)
	for _, account := range []string{"acme", "beta"} {
		if _, err := l.OpenAccount(t.Context(), account, ledger.OpenAccount{}); err != nil {
			t.Fatal(err)
		}
	}
	inbox := nats.NewInbox()
	answers, err := l.Conn().SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for range waiters + 1 {
		msg := nats.NewMsg("keyledger.query.acme.account.get")
		msg.Reply = inbox
		msg.Header.Set("Keyledger-Min-Position", "0:1000000")
		msg.Header.Set("Keyledger-Timeout", "1m")
		if err := l.Conn().PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	refusal, err := answers.NextMsg(10 * time.Second)
	if err != nil || !strings.Contains(string(refusal.Data), "too many of this account's queries wait for a position") {
		t.Fatalf("one too many: %v, %v", refusal, err)
	}
	for range 300 {
		for _, account := range []string{"acme", "beta"} {
			if reply := raw(t, l, "keyledger.query."+account+".account.get", `{}`); codeOf(t, reply) != "ok" {
				t.Fatalf("account %s: %s", account, reply.Data)
			}
		}
	}
	if reply := raw(t, l, "keyledger.query.beta.account.get", `{}`, "Keyledger-Min-Position", "0:1"); codeOf(t, reply) != "ok" {
		t.Errorf("another account waits: %s", reply.Data)
	}
	if n, _, err := answers.Pending(); n != 0 || err != nil {
		t.Errorf("%d more were answered, %v", n, err)
	}
}
