package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
)

// foreignReplies are subjects that somebody else listens to.
var foreignReplies = []string{
	"keyledger.cmd.other.account.close", "keyledger.cmd._.ledger.accept_clock", "keyledger.query.other.account.get", "keyledger.authorize",
	"keyledger.events.0.other.test.key.created.key_2", "keyledger.checkpoints.0", "$JS.API.CONSUMER.DELETE.KEYLEDGER_EVENTS_0.creds_portal",
	"$JS.API.CONSUMER.CREATE.KEYLEDGER_EVENTS_0.x", "$JS.ACK.KEYLEDGER_EVENTS_0.creds_portal.1.1.1.1.0", "replay.x", "_KEYLEDGER.x", "_R_.x",
}

// Whatever less than the operator may ask, nobody answers where it has no right to publish
// but to inboxes: permissions do not bind reply subjects.
func TestRolesAreAnsweredAtInboxesOnly(t *testing.T) {
	for role, account := range map[string]string{RoleReader: "acme", RoleGateway: "", RoleCustomer: "acme"} {
		t.Run(role, func(t *testing.T) {
			r := newRig(t, nil)
			r.ledgerStreams()
			svc := r.service()
			heard, err := svc.SubscribeSync(">")
			if err != nil {
				t.Fatal(err)
			}
			if err := svc.Flush(); err != nil {
				t.Fatal(err)
			}
			c, cred := r.credential("me", role, account)
			if role == RoleCustomer {
				createOwn(t, c, cred)
			}
			for _, subject := range everySubject(cred) {
				for _, reply := range foreignReplies {
					for _, body := range []string{"", "x", `{"batch":1,"no_wait":true}`} {
						if err := c.PublishRequest(subject, reply, []byte(body)); err != nil {
							t.Fatal(err)
						}
					}
				}
				c.violated(t) // no more errors at once than there is room for
			}
			op := r.client()
			for range 50 { // what the store had queued is done by then
				ask(t, op.Conn, "$JS.API.STREAM.INFO.KEYLEDGER_EVENTS_0", "")
				ask(t, op.Conn, "$JS.API.CONSUMER.CREATE.KEYLEDGER_EVENTS_0.y", "not JSON")
			}
			// The operator's requests do cross, so this is heard: NATS answers wherever it is told.
			if err := op.PublishRequest("$JS.API.INFO", "keyledger.cmd.end", nil); err != nil {
				t.Fatal(err)
			}
			for {
				m, err := heard.NextMsg(patience)
				if err != nil {
					t.Fatal(err)
				}
				if m.Subject == "keyledger.cmd.end" {
					return
				}
				// What it sent itself has one of the foreign subjects to be answered at.
				for _, reply := range foreignReplies {
					if m.Subject == reply && m.Reply == "" {
						t.Errorf("published at %s: %v %q", m.Subject, m.Header, m.Data)
					}
				}
			}
		})
	}
}

// createOwn makes the customer's consumer, as its own program would.
func createOwn(t *testing.T, c *client, cred *Credential) {
	t.Helper()
	body := fmt.Sprintf(`{"stream_name":"KEYLEDGER_EVENTS_0","config":{"name":%q,"durable_name":%[1]q,"ack_policy":"explicit","filter_subject":"keyledger.events.0.acme.>"}}`, consumerOf(cred.Name))
	m := ask(t, c.Conn, "$JS.API.CONSUMER.CREATE.KEYLEDGER_EVENTS_0."+consumerOf(cred.Name)+".keyledger.events.0.acme.>", body)
	var got struct{ Error *jetstream.APIError }
	if err := json.Unmarshal(m.Data, &got); err != nil || got.Error != nil {
		t.Fatalf("%s, %v", m.Data, err)
	}
}

// The guard takes subjects up to its limit, and is not brought down by longer ones: its own
// line must fit into NATS's 4 KiB.
func TestConsumerGuardSubjects(t *testing.T) {
	r := newRig(t, nil)
	r.ledgerStreams()
	c := r.client()
	const subject = "$JS.API.CONSUMER.INFO.KEYLEDGER_EVENTS_0.x"
	for _, bytes := range []int{guardSubjectsMax, guardSubjectsMax + 1, 4000} {
		reply := store.InboxRoot + strings.Repeat("x", bytes-len(subject)-len(store.InboxRoot))
		sub, err := c.SubscribeSync(reply)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.PublishRequest(subject, reply, nil); err != nil {
			t.Fatal(err)
		}
		ask(t, c.Conn, subject, "") // behind it
		_, err = sub.NextMsg(patience / 1000)
		if answered := err == nil; answered != (bytes <= guardSubjectsMax) {
			t.Errorf("%d bytes: answered is %v", bytes, answered)
		}
	}
	for _, bytes := range []int{consumerBytesMax, consumerBytesMax + 1} {
		body := `{"stream_name":"KEYLEDGER_EVENTS_0","config":{"name":"x","ack_policy":"none","description":"`
		body += strings.Repeat("x", 10) + `"}}`
		got := create(t, c, body+strings.Repeat(" ", bytes-len(body)))
		if refused := got.Error != nil; refused != (bytes > consumerBytesMax) {
			t.Errorf("a body of %d bytes: %+v", bytes, got.Error)
		}
	}
	if strings.Contains(r.log.String(), "connection lost") {
		t.Errorf("the guard lost its connection: %s", r.log.String())
	}
}

// A consumer's life goes past the guard, acknowledgements that are themselves answered
// included.
func TestConsumerGuardPassesAcknowledgements(t *testing.T) {
	r := newRig(t, nil)
	r.ledgerStreams()
	c, cred := r.credential("me", RoleCustomer, "acme")
	createOwn(t, c, cred)
	_, js := withJetStream(t, c.Conn)
	cons, err := js.CreateOrUpdateConsumer(t.Context(), "KEYLEDGER_EVENTS_0", jetstream.ConsumerConfig{
		Durable: consumerOf(cred.Name), FilterSubject: "keyledger.events.0.acme.>", AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := cons.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Error(err)
	}
	if info, err := cons.Info(t.Context()); err != nil || info.NumAckPending != 0 || info.AckFloor.Stream != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := cons.Next(jetstream.FetchMaxWait(patience / 100)); err == nil {
		t.Error("there is another")
	}
	if err := js.DeleteConsumer(t.Context(), "KEYLEDGER_EVENTS_0", consumerOf(cred.Name)); err != nil {
		t.Error(err)
	}
	var gone *nats.Msg
	if gone = ask(t, c.Conn, "$JS.API.CONSUMER.INFO.KEYLEDGER_EVENTS_0."+consumerOf(cred.Name), ""); !strings.Contains(string(gone.Data), "not found") {
		t.Errorf("%s", gone.Data)
	}
}
