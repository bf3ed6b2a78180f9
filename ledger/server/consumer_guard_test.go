package server

import (
	"encoding/json"
	"maps"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events/store"
)

// A push consumer must not make the server publish to a stream, or to a command.
func TestConsumerDeliversToInboxesOnly(t *testing.T) {
	r := newRig(t, nil)
	streams := r.ledgerStreams()
	before := lastSequences(t, streams)
	c := r.client()
	for _, target := range []string{
		store.SubjectLog(0), store.SubjectLanes(0), store.SubjectFeed(0) + "a.b.c.d.e", "$KV.KEYLEDGER_KEYS.x",
		"keyledger.attempts.a.b.c", store.SubjectCommand + "acme.key.revoke", "$JS.API.STREAM.DELETE.KEYLEDGER_LANES_0",
		"_KEYLEDGER.x", "_INBOXES.x", "_INBOX",
	} {
		for name, body := range map[string]string{
			"plainly":      `{"stream_name":"KEYLEDGER_EVENTS_0","config":{"name":"x","ack_policy":"none","deliver_subject":"` + target + `"}}`,
			"in capitals":  `{"stream_name":"KEYLEDGER_EVENTS_0","config":{"name":"x","ack_policy":"none","DELIVER_SUBJECT":"` + target + `"}}`,
			"second":       `{"stream_name":"KEYLEDGER_EVENTS_0","config":{"name":"x","ack_policy":"none","deliver_subject":"_INBOX.a","deliver_subject":"` + target + `"}}`,
			"in a second":  `{"stream_name":"KEYLEDGER_EVENTS_0","config":{"name":"x"},"config":{"ack_policy":"none","deliver_subject":"` + target + `"}}`,
			"as an update": `{"stream_name":"KEYLEDGER_EVENTS_0","action":"update","config":{"name":"x","ack_policy":"none","deliver_subject":"` + target + `"}}`,
		} {
			if got := create(t, c, body); got.Error == nil || got.Error.Code != 403 {
				t.Errorf("deliver to %s, %s: got %+v, want a refusal", target, name, got.Error)
			}
		}
	}
	// What follows the first value is not passed on: a second value cannot undo the check.
	got := create(t, c, `{"stream_name":"KEYLEDGER_EVENTS_0","config":{"name":"x","ack_policy":"none","deliver_subject":"_INBOX.a"}} {"config":{"deliver_subject":"keyledger.log.0"}}`)
	if got.Error != nil || got.Config.DeliverSubject != "_INBOX.a" {
		t.Errorf("two values: got %+v, want a consumer that delivers to the first one's inbox", got)
	}
	if after := lastSequences(t, streams); !maps.Equal(before, after) {
		t.Errorf("streams changed: %v, then %v", before, after)
	}
}

func TestConsumerGuardRefusals(t *testing.T) {
	r := newRig(t, nil)
	r.ledgerStreams()
	c := r.client()
	for body, code := range map[string]int{
		`not JSON`: 400,
		`{"stream_name":"KEYLEDGER_EVENTS_0","config":{"name":"x","ack_policy":"none","unheard_of":1}}`:                                       400,
		`{"stream_name":"KEYLEDGER_EVENTS_0","config":{"name":"x","ack_policy":"none","deliver_subject":"_INBOX.a","direct":true}}`:           403,
		`{"stream_name":"KEYLEDGER_EVENTS_0","config":{"name":"x","ack_policy":"flow_control","deliver_subject":"_INBOX.a","sourcing":true}}`: 403,
		`{"stream_name":"KEYLEDGER_LOG_0","config":{"name":"x","ack_policy":"none"}}`:                                                         400, // NATS: not the subject's stream
	} {
		got := create(t, c, body)
		if got.Error == nil || got.Error.Code != code || got.Type != typeConsumerCreate {
			t.Errorf("%s: got %s %+v, want code %d", body, got.Type, got.Error, code)
		}
	}
}

// The trace header is the one that would be obeyed with the guard's own rights.
func TestConsumerGuardPassesNoForeignHeaders(t *testing.T) {
	r := newRig(t, nil)
	streams := r.ledgerStreams()
	before := lastSequences(t, streams)
	service := r.service() // may publish anything on the clients' side, unlike a client
	m := nats.NewMsg("$JS.API.CONSUMER.CREATE.KEYLEDGER_EVENTS_0.x")
	m.Data = []byte(`{"stream_name":"KEYLEDGER_EVENTS_0","config":{"name":"x","ack_policy":"none"}}`)
	m.Header.Set("Nats-Trace-Dest", store.SubjectLog(0))
	m.Reply = "_INBOX.x.1"
	sub, err := service.SubscribeSync(m.Reply)
	if err != nil {
		t.Fatal(err)
	}
	if err := service.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.NextMsg(patience); err != nil {
		t.Fatal(err)
	}
	nc, _ := r.store()
	ask(t, nc, "$JS.API.STREAM.INFO.KEYLEDGER_LOG_0", "")
	if after := lastSequences(t, streams); !maps.Equal(before, after) {
		t.Errorf("streams changed: %v, then %v", before, after)
	}
}

// The guard's answer is keyledger's message: a client must not have it sent to a command.
func TestConsumerGuardAnswersInboxesOnly(t *testing.T) {
	r := newRig(t, nil)
	r.ledgerStreams()
	service := r.service()
	heard, err := service.SubscribeSync(store.SubjectCommand + ">")
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	c := r.client()
	for range 20 { // more than the guard has workers
		if err := c.PublishRequest("$JS.API.CONSUMER.CREATE.KEYLEDGER_EVENTS_0.x", store.SubjectCommand+"acme.key.revoke", []byte("not JSON")); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		create(t, c, "not JSON")
	}
	if err := c.Publish(store.SubjectCommand+"end", nil); err != nil {
		t.Fatal(err)
	}
	m, err := heard.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != store.SubjectCommand+"end" {
		t.Errorf("the guard sent a command: %s %s", m.Subject, m.Data)
	}
}

func create(t *testing.T, c *client, body string) natsserver.JSApiConsumerCreateResponse {
	t.Helper()
	var got natsserver.JSApiConsumerCreateResponse
	m := ask(t, c.Conn, "$JS.API.CONSUMER.CREATE.KEYLEDGER_EVENTS_0.x", body)
	if err := json.Unmarshal(m.Data, &got); err != nil {
		t.Fatalf("%s: %v", m.Data, err)
	}
	return got
}
