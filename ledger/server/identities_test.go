package server

import (
	"bufio"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/keyledger/keyledger/events/store"
)

// forbiddenToPublish is what the operator must not publish: streams' own subjects, and
// what changes JetStream.
var forbiddenToPublish = []string{
	"keyledger.log.0", "keyledger.log.1", "keyledger.log",
	"keyledger.events.0.acme.test.key.created.key_1",
	"keyledger.lanes.0",
	"keyledger.attempts.acme.endpoint_1.delivered",
	"keyledger.access.acme.ok",
	"keyledger.checkpoints.0",
	"$KV.KEYLEDGER_KEYS.acme.test.key_1", "$KV.KEYLEDGER_BALANCES.acme.test.credits",
	"$O.KEYLEDGER_SNAPSHOTS.C.x", "$O.KEYLEDGER_SNAPSHOTS.M.x",

	"$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.UPDATE.KEYLEDGER_LOG_0",
	"$JS.API.STREAM.DELETE.KEYLEDGER_LOG_0", "$JS.API.STREAM.PURGE.KEYLEDGER_EVENTS_0",
	"$JS.API.STREAM.MSG.DELETE.KEYLEDGER_EVENTS_0",
	"$JS.API.STREAM.SNAPSHOT.KEYLEDGER_LOG_0", "$JS.API.STREAM.RESTORE.X",
	"$JS.API.STREAM.PEER.REMOVE.KEYLEDGER_LOG_0", "$JS.API.STREAM.LEADER.STEPDOWN.KEYLEDGER_LOG_0",
	"$JS.API.CONSUMER.DURABLE.CREATE.KEYLEDGER_EVENTS_0.x",
	"$JS.API.CONSUMER.PAUSE.KEYLEDGER_EVENTS_0.x", "$JS.API.CONSUMER.UNPIN.KEYLEDGER_EVENTS_0.x",
	"$JS.API.CONSUMER.RESET.KEYLEDGER_EVENTS_0.x", "$JS.API.CONSUMER.LEADER.STEPDOWN.KEYLEDGER_EVENTS_0.x",
	"$JS.API.META.LEADER.STEPDOWN", "$JS.API.SERVER.REMOVE",
	"$JS.API.ACCOUNT.PURGE.KEYLEDGER_STORE", "$JS.API.ACCOUNT.STREAM.MOVE.KEYLEDGER_STORE.X",
	"$JS.API.DIRECT.GET", "$JS.API.>", "$JS.snapshot.ack.X",
	"$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.KEYLEDGER_STORE.CONNZ", "$SYS.REQ.USER.INFO",
	"_INBOX.someone.else", "_KEYLEDGER.x", "_R_.x", "anything.else",
}

// forbiddenToSubscribe is what the operator must not listen to: commands, which carry
// secrets, and streams' inner traffic.
var forbiddenToSubscribe = []string{
	"keyledger.cmd.>", "keyledger.cmd.acme.key.create", "keyledger.cmd.*.*.*",
	"keyledger.query.>", "keyledger.authorize", "keyledger.>", "keyledger.*", "*.authorize",
	"$SRV.>", "$SRV.PING", "$SRV.INFO.keyledger",
	">", "*", "*.>", "*.*.>",
	"keyledger.log.>", "keyledger.log.0", "keyledger.lanes.0", "keyledger.attempts.>",
	"keyledger.access.>", "keyledger.*.0.>",
	"$KV.>", "$O.>", "$JS.>", "$JS.API.>", "$JS.API.CONSUMER.CREATE.>", "$JS.EVENT.>", "$JS.ACK.>",
	"_R_.>", "_KEYLEDGER.>", "$SYS.>",
}

func TestOperatorForbiddenSubjects(t *testing.T) {
	r := newRig(t, nil)
	streams := r.ledgerStreams()
	before := lastSequences(t, streams)
	c := r.client()
	for _, subject := range forbiddenToPublish {
		if err := c.Publish(subject, []byte("forged")); err != nil {
			t.Fatal(err)
		}
		c.violation(t, "publish", subject)
	}
	for _, subject := range forbiddenToSubscribe {
		if _, err := c.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		c.violation(t, "subscribe", subject)
		if _, err := c.QueueSubscribeSync(subject, "q"); err != nil {
			t.Fatal(err)
		}
		c.violation(t, "queue subscribe", subject)
	}
	// The server has answered each, so whatever it let through is stored by now.
	if after := lastSequences(t, streams); !maps.Equal(before, after) {
		t.Errorf("streams changed: %v, then %v", before, after)
	}
}

// A service answers where the request says, and NATS itself answers JetStream requests
// there. Neither may reach a stream.
func TestOperatorReplySubjectReachesNoStream(t *testing.T) {
	r := newRig(t, nil)
	streams := r.ledgerStreams()
	_, js := r.store()
	c := r.client()
	if _, err := js.CreateConsumer(t.Context(), store.StreamFeed(0), jetstream.ConsumerConfig{Durable: "d", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	service := r.service()
	answer := func(m *nats.Msg) {
		if err := m.Respond([]byte("answer")); err != nil {
			t.Error(err)
		}
	}
	for _, subject := range []string{store.SubjectCommand + ">", store.SubjectQuery + ">", store.SubjectAuthorize} {
		if _, err := service.Subscribe(subject, answer); err != nil {
			t.Fatal(err)
		}
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	before := lastSequences(t, streams)
	const next = `{"batch":1,"expires":1000000}`
	for _, req := range []struct{ subject, body string }{
		{store.SubjectAuthorize, "{}"},
		{store.SubjectCommand + "acme.key.create", "{}"},
		{store.SubjectQuery + "acme.key.list", "{}"},
		{"$JS.API.INFO", ""},
		{"$JS.API.STREAM.INFO.KEYLEDGER_EVENTS_0", ""},
		{"$JS.API.STREAM.NAMES", ""},
		{"$JS.API.STREAM.LIST", ""},
		{"$JS.API.STREAM.MSG.GET.KEYLEDGER_EVENTS_0", `{"seq":1}`},
		{"$JS.API.DIRECT.GET.KEYLEDGER_EVENTS_0", `{"seq":1}`},
		{"$JS.API.DIRECT.GET.KEYLEDGER_EVENTS_0", `{"seq":1,"batch":2}`},
		{"$JS.API.DIRECT.GET.KEYLEDGER_EVENTS_0.keyledger.events.0.acme.test.key.created.key_1", ""},
		{"$JS.API.CONSUMER.CREATE.KEYLEDGER_EVENTS_0.x", `{"stream_name":"KEYLEDGER_EVENTS_0","config":{"name":"x","ack_policy":"none"}}`},
		{"$JS.API.CONSUMER.CREATE.KEYLEDGER_EVENTS_0.x", `not JSON`},
		{"$JS.API.CONSUMER.INFO.KEYLEDGER_EVENTS_0.d", ""},
		{"$JS.API.CONSUMER.NAMES.KEYLEDGER_EVENTS_0", ""},
		{"$JS.API.CONSUMER.LIST.KEYLEDGER_EVENTS_0", ""},
		{"$JS.API.CONSUMER.MSG.NEXT.KEYLEDGER_EVENTS_0.d", next},
		{"$JS.API.CONSUMER.DELETE.KEYLEDGER_EVENTS_0.none", ""},
		{"$JS.ACK.KEYLEDGER_EVENTS_0.d.1.1.1.1.0", "+NXT"},
	} {
		for name, target := range map[string]string{
			"log": store.SubjectLog(0), "feed": store.SubjectFeed(0) + "a.b.c.d.e", "lanes": store.SubjectLanes(0), "view": "$KV.KEYLEDGER_KEYS.x",
		} {
			if err := c.PublishRequest(req.subject, target, []byte(req.body)); err != nil {
				t.Fatalf("%s to %s: %v", req.subject, name, err)
			}
		}
	}
	// Requests of one connection are taken in order, and what is queued for JetStream's
	// workers is taken before what comes later: after enough rounds it is all done.
	for range 50 {
		ask(t, c.Conn, "$JS.API.STREAM.INFO.KEYLEDGER_EVENTS_0", "")
		ask(t, c.Conn, "$JS.API.DIRECT.GET.KEYLEDGER_EVENTS_0", `{"seq":1}`)
		ask(t, c.Conn, "$JS.API.CONSUMER.CREATE.KEYLEDGER_EVENTS_0.y", "not JSON")
		ask(t, c.Conn, store.SubjectAuthorize, "{}")
	}
	if after := lastSequences(t, streams); !maps.Equal(before, after) {
		t.Errorf("streams changed: %v, then %v", before, after)
	}
}

// NATS sends traces of a message where its header says, if the sender may publish there.
func TestOperatorTraceReachesNoStream(t *testing.T) {
	r := newRig(t, nil)
	streams := r.ledgerStreams()
	before := lastSequences(t, streams)
	c := r.client()
	for _, subject := range []string{store.SubjectAuthorize, "$JS.API.INFO", "$JS.API.DIRECT.GET.KEYLEDGER_EVENTS_0"} {
		m := nats.NewMsg(subject)
		m.Header.Set("Nats-Trace-Dest", store.SubjectLog(0))
		if err := c.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		c.violation(t, "trace to", store.SubjectLog(0))
	}
	if after := lastSequences(t, streams); !maps.Equal(before, after) {
		t.Errorf("streams changed: %v, then %v", before, after)
	}
}

func TestAnonymousAndUnknownAreRefused(t *testing.T) {
	r := newRig(t, nil)
	stranger, strangerPublic := newUser(t)
	own := r.nats.ids.own
	for name, opts := range map[string][]nats.Option{
		"anonymous":                   nil,
		"password":                    {nats.UserInfo("keyledger", "keyledger")},
		"token":                       {nats.Token("x")},
		"unknown nkey":                {nats.Nkey(strangerPublic, stranger.Sign)},
		"operator, another signature": {nats.Nkey(r.public, stranger.Sign)},
		"store's own, over TCP":       {nats.Nkey(publicOf(t, own[natsAccountStore]), own[natsAccountStore].Sign)},
		"service's own, over TCP":     {nats.Nkey(publicOf(t, own[natsAccountClients]), own[natsAccountClients].Sign)},
	} {
		nc, err := nats.Connect(r.nats.ClientURL(), opts...)
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: got %v, want an authorization violation", name, err)
		}
		if nc != nil {
			nc.Close()
		}
	}
}

// Being inside the process is not enough either. nats.go does not read the refusal from
// a pipe before it writes again, so this speaks the protocol itself.
func TestAnonymousInProcessIsRefused(t *testing.T) {
	conn, err := newRig(t, nil).nats.server.InProcessConn()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lines := bufio.NewReader(conn)
	if info, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(info, "INFO ") {
		t.Fatalf("got %q, %v; want INFO", info, err)
	}
	if _, err := conn.Write([]byte("CONNECT {\"verbose\":false}\r\n")); err != nil {
		t.Fatal(err)
	}
	if answer, err := lines.ReadString('\n'); !strings.HasPrefix(answer, "-ERR 'Authorization Violation'") {
		t.Errorf("got %q, %v; want a refusal", answer, err)
	}
}

func publicOf(t *testing.T, pair interface{ PublicKey() (string, error) }) string {
	t.Helper()
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func TestOwnConnections(t *testing.T) {
	r := newRig(t, nil)
	r.ledgerStreams() // with all rights in the store
	nc, js := r.store()
	if nc.Opts.ReconnectBufSize != -1 {
		t.Errorf("ReconnectBufSize is %d, want -1: nothing may be sent again by itself", nc.Opts.ReconnectBufSize)
	}
	// What keyledger is answered crosses to nobody, though inboxes do.
	c := r.client()
	heard, err := c.SubscribeSync(inboxes)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), store.SubjectLog(0), []byte("a commit")); err != nil {
		t.Fatal(err)
	}
	// A message that does cross, to know that the first would have been here before.
	if err := nc.Publish("_INBOX.end", nil); err != nil {
		t.Fatal(err)
	}
	m, err := heard.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "_INBOX.end" {
		t.Errorf("the operator heard %s, an answer to keyledger itself", m.Subject)
	}
}

func TestOperatorCommands(t *testing.T) {
	r := newRig(t, nil)
	service := r.service()
	echo := micro.HandlerFunc(func(req micro.Request) {
		headers := micro.Headers{store.HeaderPosition: {"0:1.0"}, "Echo": {req.Headers().Get(store.HeaderTimeout)}}
		if err := req.Respond(req.Data(), micro.WithHeaders(headers)); err != nil {
			t.Error(err)
		}
	})
	svc, err := micro.AddService(service, micro.Config{Name: "keyledger", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	for name, subject := range map[string]string{"cmd": store.SubjectCommand + ">", "query": store.SubjectQuery + ">", "authorize": store.SubjectAuthorize} {
		if err := svc.AddEndpoint(name, echo, micro.WithEndpointSubject(subject)); err != nil {
			t.Fatal(err)
		}
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	c := r.client()
	for _, subject := range []string{store.SubjectCommand + "acme.key.create", store.SubjectQuery + "acme.key.list", store.SubjectAuthorize} {
		m := nats.NewMsg(subject)
		m.Header.Set(store.HeaderTimeout, "3s")
		m.Data = []byte(`{"a":1}`)
		got, err := c.RequestMsg(m, patience)
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		if string(got.Data) != `{"a":1}` || got.Header.Get("Echo") != "3s" || got.Header.Get(store.HeaderPosition) != "0:1.0" {
			t.Errorf("%s: got %q, %v", subject, got.Data, got.Header)
		}
	}
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		for _, of := range []string{"", ".keyledger", ".keyledger." + svc.Info().ID} {
			if got := ask(t, c.Conn, "$SRV."+verb+of, ""); len(got.Data) == 0 {
				t.Errorf("$SRV.%s%s: empty answer", verb, of)
			}
		}
	}
}
