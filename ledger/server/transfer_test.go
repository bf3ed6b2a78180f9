package server_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/testing/ledgertest"
	"github.com/keyledger/keyledger/testing/receiver"
)

// A transfer reaches whoever looks at the account that is paid: its view, its endpoint, its
// part of the feed. None of them sees the other leg.
func TestTransferReachesTheReceiver(t *testing.T) {
	hooks := startReceiver(t)
	l := ledgertest.Start(t)
	subscriber(t, l, hooks, "", nil) // acme
	if _, err := l.OpenAccount(t.Context(), "globex", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Grant(t.Context(), "globex", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 100}); err != nil {
		t.Fatal(err)
	}
	paid, err := l.Transfer(t.Context(), "globex", ledger.TransferCredit{To: "acme", Environment: events.Test, Asset: "credits", Amount: 30})
	if err != nil || paid.Balance.Posted != 70 || paid.Transfer.From != "globex" || paid.Transfer.To != "acme" {
		t.Fatalf("%+v, %v", paid, err)
	}
	for account, want := range map[string]int64{"acme": 30, "globex": 70} {
		if b, err := l.Balance(t.Context(), account, events.Test, "credits", client.Strict()); err != nil || b.Posted != want {
			t.Errorf("%s: %+v, %v, want %d", account, b, err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := hooks.Wait(ctx, func(receiver.Totals) bool { return len(hooks.Events("/acme")) == 1 }); err != nil {
		t.Fatal(err)
	}
	if got := hooks.Events("/acme")[0]; got.Type != "dev.keyledger.credit.transferred.v1" || got.Source != "/keyledger/acme" {
		t.Errorf("the receiver's endpoint got %+v", got)
	}
	js, err := jetstream.New(l.Conn())
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{"acme", "globex"} {
		subject := store.SubjectFeed(0) + account + ".test.credit.transferred.-"
		feed, err := js.OrderedConsumer(t.Context(), store.StreamFeed(0), jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
		if err != nil {
			t.Fatal(err)
		}
		msg, err := feed.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		if got := msg.Headers().Get("ce-source"); got != "/keyledger/"+account {
			t.Errorf("%s bears an event of %s", subject, got)
		}
	}
}
