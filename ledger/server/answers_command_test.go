package server_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// asked is a request of JetStream that a test has answered at a command.
type asked struct{ what, subject, body string }

// NATS answers where a request says. Nothing of that is taken for a command, whoever asks:
// answers without a body, stored messages, what a consumer delivers, answers of the API.
func TestServersAnswersAreNoCommands(t *testing.T) {
	l := opened(t)
	if _, err := l.Query(t.Context(), "_", "checkpoint.get", nil); err != nil { // one is stored
		t.Fatal(err)
	}
	js, err := jetstream.New(l.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(t.Context(), "KEYLEDGER_EVENTS_0", jetstream.ConsumerConfig{Durable: "mine", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	list := []asked{
		{"malformed", "$JS.API.DIRECT.GET.KEYLEDGER_CHECKPOINTS_0.keyledger.checkpoints.0", "x"},
		{"no such message", "$JS.API.DIRECT.GET.KEYLEDGER_LOG_0", `{"seq":999999}`},
		{"a checkpoint", "$JS.API.DIRECT.GET.KEYLEDGER_CHECKPOINTS_0.keyledger.checkpoints.0", ""},
		{"a commit", "$JS.API.DIRECT.GET.KEYLEDGER_LOG_0", `{"seq":2}`},
		{"a batch and its end", "$JS.API.DIRECT.GET.KEYLEDGER_EVENTS_0", `{"seq":1,"batch":3}`},
		{"delivered", "$JS.API.CONSUMER.MSG.NEXT.KEYLEDGER_EVENTS_0.mine", `{"batch":100,"no_wait":true}`},
		{"nothing to deliver", "$JS.API.CONSUMER.MSG.NEXT.KEYLEDGER_EVENTS_0.mine", `{"batch":1,"no_wait":true}`},
		{"acknowledged", "$JS.ACK.KEYLEDGER_EVENTS_0.mine.1.1.1.1.0", "+ACK"},
		{"the API's", "$JS.API.INFO", ""},
		{"a found message", "$JS.API.STREAM.MSG.GET.KEYLEDGER_EVENTS_0", `{"seq":1}`},
	}
	targets := []string{"other.account.close", "other.account.suspend", "new.account.open", "other.account.update", "_.ledger.accept_clock"}
	before := settled(t, l, l.Conn())
	for _, role := range []string{"operator", server.RoleReader, server.RoleGateway, server.RoleCustomer} {
		conn := l.Conn()
		if role != "operator" {
			account := map[string]string{server.RoleReader: "acme", server.RoleCustomer: "acme"}[role]
			conn = newHolder(t, "me-"+role, role, account).created(l).client(l).Conn()
		}
		for _, a := range list {
			for _, target := range targets {
				if err := conn.PublishRequest(a.subject, store.SubjectCommand+target, []byte(a.body)); err != nil {
					t.Fatal(err)
				}
			}
			if after := settled(t, l, conn); after != before {
				t.Fatalf("%s, %s: the log grew from %s to %s", role, a.what, before, after)
			}
		}
	}
	// The same commands, sent by who may: they need a body, {} at least.
	for _, target := range []string{"other.account.suspend", "new.account.open"} {
		if err := l.Conn().Publish(store.SubjectCommand+target, nil); err != nil {
			t.Fatal(err)
		}
	}
	if after := settled(t, l, l.Conn()); after != before {
		t.Errorf("a command without a reply and a body was executed: %v, then %v", before, after)
	}
	if err := l.Conn().Publish(store.SubjectCommand+"other.account.suspend", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	settled(t, l, l.Conn())
	reply, err := l.Query(t.Context(), "other", "account.get", nil, client.Strict())
	if err != nil || !strings.Contains(string(reply.Body), `"suspended"`) {
		t.Errorf("a command without a reply was not executed: %v, %v", reply, err)
	}
}

// settled returns when all is done that was sent over conn before, and the log's end. Each
// queue on the way is passed in order; none is longer than this is often.
func settled(t *testing.T, l *ledgertest.Ledger, conn *nats.Conn) (end string) {
	t.Helper()
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		for _, subject := range []string{"$JS.API.STREAM.INFO.KEYLEDGER_EVENTS_0", "$JS.API.DIRECT.GET.KEYLEDGER_LOG_0", "$JS.API.CONSUMER.INFO.KEYLEDGER_EVENTS_0.mine"} {
			if _, err := l.Conn().Request(subject, []byte(`{"seq":1}`), patience); err != nil {
				t.Fatalf("%s: %v", subject, err)
			}
		}
		reply, err := l.Query(t.Context(), "acme", "account.get", nil, client.Strict())
		if err != nil {
			t.Fatal(err)
		}
		end = reply.Position
	}
	return end
}
