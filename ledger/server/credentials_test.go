package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// holder is somebody with a seed of his own.
type holder struct {
	t    *testing.T
	path string
	body map[string]any // of creds.create
}

func newHolder(t *testing.T, name, role, account string) *holder {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	token, err := store.InboxToken(pair.Sign)
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{t: t, path: filepath.Join(t.TempDir(), "seed.nk"), body: map[string]any{"name": name, "role": role, "public_key": public, "inbox": token}}
	if account != "" {
		h.body["account"] = account
	}
	if err := os.WriteFile(h.path, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

// created makes the credential.
func (h *holder) created(l *ledgertest.Ledger) *holder {
	h.t.Helper()
	if _, err := l.Command(h.t.Context(), "_", "creds.create", h.body); err != nil {
		h.t.Fatal(err)
	}
	return h
}

func (h *holder) dial(l *ledgertest.Ledger, more ...nats.Option) (*nats.Conn, error) {
	h.t.Helper()
	opts, err := client.Credentials(h.path)
	if err != nil {
		h.t.Fatal(err)
	}
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	return nats.Connect(l.Server.URL(), append(append(opts, quiet), more...)...)
}

func (h *holder) client(l *ledgertest.Ledger, more ...nats.Option) *client.Client {
	h.t.Helper()
	conn, err := h.dial(l, more...)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(conn.Close)
	return client.New(conn)
}

// shutOut asserts that nobody connects with the seed.
func (h *holder) shutOut(l *ledgertest.Ledger) {
	h.t.Helper()
	conn, err := h.dial(l)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, nats.ErrAuthorization) {
		h.t.Errorf("%s connects: %v", h.body["name"], err)
	}
}

func wantRefusal(t *testing.T, err error, code events.Code, text string) {
	t.Helper()
	var refused *events.Error
	if !errors.As(err, &refused) || refused.Code != code || !strings.Contains(refused.Message, text) {
		t.Errorf("got %v, want %s with %q", err, code, text)
	}
}

// opened is a ledger with two accounts.
func opened(t *testing.T) *ledgertest.Ledger {
	t.Helper()
	l := ledgertest.Start(t)
	for _, account := range []string{"acme", "other"} {
		if _, err := l.OpenAccount(t.Context(), account, ledger.OpenAccount{}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Grant(t.Context(), account, ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// Every role does its work against a whole keyledger, at once and after a restart.
func TestCredentialsWork(t *testing.T) {
	l := opened(t)
	books := newHolder(t, "books", server.RoleReader, "acme").created(l)
	all := newHolder(t, "all", server.RoleReader, "").created(l)
	gateway := newHolder(t, "gateway", server.RoleGateway, "").created(l)
	portal := newHolder(t, "portal", server.RoleCustomer, "acme").created(l)
	for round := range 2 {
		ctx := t.Context()
		if round > 0 { // a stop has signed a checkpoint, which everybody may read
			for _, h := range []*holder{books, gateway, portal} {
				reply, err := h.client(l).Query(ctx, "_", "checkpoint.newest", nil)
				if err != nil || !strings.Contains(string(reply.Body), `"signed":"keyledger/`) {
					t.Errorf("%s: the newest checkpoint: %v, %v", h.body["name"], reply, err)
				}
			}
		}
		if _, err := books.client(l).Query(ctx, "acme", "statement.list", map[string]string{"environment": events.Test}, client.Strict()); err != nil {
			t.Error(err)
		}
		for _, verb := range []string{"account.list", "ledger.status", "creds.list"} {
			if _, err := all.client(l).Query(ctx, "_", verb, nil); err != nil {
				t.Errorf("%s: %v", verb, err)
			}
		}
		key, err := portal.client(l).CreateKey(ctx, "acme", ledger.CreateKey{Environment: events.Test, Name: "k"})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := gateway.client(l).Authorize(ctx, &ledger.Authorize{Secret: key.Secret})
		if err != nil || !answer.Allowed {
			t.Errorf("%+v, %v", answer, err)
		}
		// What it may not do gets no answer, only the word of NATS.
		conn := portal.client(l).Conn()
		if err := conn.Publish(store.SubjectCommand+"acme.credit.grant", []byte(`{"environment":"test","asset":"credits","amount":5}`)); err != nil {
			t.Fatal(err)
		}
		if err := conn.Flush(); err != nil || !errors.Is(conn.LastError(), nats.ErrPermissionViolation) {
			t.Errorf("%v, %v", err, conn.LastError())
		}
		reply, err := portal.client(l).Query(ctx, "acme", "creds.list", nil)
		wantRefusal(t, err, events.InvalidArgument, "the ledger's own")
		if reply != nil {
			t.Errorf("a customer sees credentials: %s", reply.Body)
		}
		restart(l)
	}
	l.Verify()
	l.Stop()
}

func restart(l *ledgertest.Ledger) {
	l.Stop()
	l.Start()
}

// A query that does more than read has another last word than these, and is denied to
// readers of all accounts.
func TestReadersOnlyRead(t *testing.T) {
	l := opened(t)
	conn := newHolder(t, "all", server.RoleReader, "").created(l).client(l).Conn()
	_, err := l.Query(t.Context(), "_", "no.query", nil)
	var refused *events.Error
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	verbs, _ := refused.Details["verbs"].([]any)
	if len(verbs) < 20 {
		t.Fatalf("only %d queries: %v", len(verbs), verbs)
	}
	for _, verb := range verbs {
		reads := false
		for _, word := range []string{".get", ".list", ".status", ".consistency", ".newest"} {
			reads = reads || strings.HasSuffix(verb.(string), word)
		}
		if err := conn.Publish(store.SubjectQuery+"_."+verb.(string), nil); err != nil {
			t.Fatal(err)
		}
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
		last := conn.LastError()
		if denied := last != nil && strings.Contains(last.Error(), verb.(string)); denied == reads {
			t.Errorf("%s: denied is %v (%v)", verb, denied, last)
		}
	}
}

// The log says who gave a command: the operator, or a customer, or that it cannot be told.
func TestActors(t *testing.T) {
	l := opened(t)
	portal := newHolder(t, "portal", server.RoleCustomer, "acme").created(l)
	newHolder(t, "books", server.RoleReader, "other").created(l)
	elsewhere, err := nats.NkeyOptionFromSeed(l.Server.OperatorKeyPath())
	if err != nil {
		t.Fatal(err)
	}
	random, err := nats.Connect(l.Server.URL(), elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer random.Close()
	var want []string
	create := func(c *client.Client, account, actor string) {
		t.Helper()
		if _, err := c.CreateKey(t.Context(), account, ledger.CreateKey{Environment: events.Test, Name: "k"}); err != nil {
			t.Fatal(err)
		}
		want = append(want, actor)
	}
	create(l.Client, "acme", "operator")
	create(portal.client(l), "acme", "customer:portal")
	create(client.New(random), "acme", "unknown")
	create(client.New(random), "other", "operator") // which has no customer
	body := []byte(`{"environment":"test","name":"hidden"}`)
	conn := portal.client(l).Conn()
	for _, reply := range []string{"", "_INBOX.nobody.x"} {
		if err := conn.PublishMsg(&nats.Msg{Subject: store.SubjectCommand + "acme.key.create", Reply: reply, Data: body}); err != nil {
			t.Fatal(err)
		}
		want = append(want, "unknown")
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	create(portal.client(l), "acme", "customer:portal")
	revoke(t, l, "portal", 3)
	create(client.New(random), "acme", "unknown") // one may still have been on its way
	var got []string
	for _, c := range l.Commits() {
		for _, entry := range c.Entries {
			if entry.Command == "key.create" {
				got = append(got, entry.Actor)
			} else if entry.Actor != "operator" {
				t.Errorf("%s by %s", entry.Command, entry.Actor)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("actors %q, want %q", got, want)
	}
}

// A customer reads its account's part of the feed, live and by the one consumer it may
// have, and nothing else however it asks.
func TestCustomerReadsItsFeed(t *testing.T) {
	l := opened(t)
	conn := newHolder(t, "portal", server.RoleCustomer, "acme").created(l).client(l).Conn()
	live, err := conn.SubscribeSync("keyledger.events.0.acme.>")
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	consumer, err := js.CreateOrUpdateConsumer(ctx, store.StreamFeed(0), jetstream.ConsumerConfig{
		Durable: "creds_portal", FilterSubject: "keyledger.events.0.acme.>", AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{"other", "acme"} {
		if _, err := l.CreateKey(ctx, account, ledger.CreateKey{Environment: events.Test, Name: "k"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, noun := range []string{"account.opened", "credit.granted", "key.created"} {
		m, err := consumer.Next(jetstream.FetchContext(ctx))
		if err != nil || !strings.HasPrefix(m.Subject(), "keyledger.events.0.acme.") || !strings.Contains(m.Subject(), noun) {
			t.Fatalf("%v, %v, want %s", m, err, noun)
		}
		if err := m.DoubleAck(ctx); err != nil {
			t.Errorf("ack %s: %v", noun, err)
		}
	}
	if m, err := live.NextMsg(patience); err != nil || !strings.Contains(m.Subject, "keyledger.events.0.acme.test.key.created.") {
		t.Errorf("live: %v, %v", m, err)
	}
	create := "$JS.API.CONSUMER.CREATE.KEYLEDGER_EVENTS_0.creds_portal.keyledger.events.0.acme.>"
	for name, config := range map[string]string{
		"another filter":       `"filter_subject":"keyledger.events.0.other.>"`,
		"no filter":            `"ack_policy":"explicit"`,
		"filters":              `"filter_subjects":["keyledger.events.0.acme.>","keyledger.events.0.other.>"]`,
		"a filter and others":  `"filter_subject":"keyledger.events.0.acme.>","filter_subjects":["keyledger.events.0.other.>"]`,
		"another name":         `"filter_subject":"keyledger.events.0.acme.>","durable_name":"someone"`,
		"delivery to a stream": `"filter_subject":"keyledger.events.0.acme.>","durable_name":"creds_portal","deliver_subject":"keyledger.log.0"`,
	} {
		m, err := conn.RequestWithContext(ctx, create, []byte(`{"stream_name":"KEYLEDGER_EVENTS_0","config":{`+config+`}}`))
		if err != nil || !strings.Contains(string(m.Data), `"error"`) {
			t.Errorf("%s: %s, %v", name, m.Data, err)
		}
	}
	m, err := conn.RequestWithContext(ctx, create, []byte(`{"stream_name":"KEYLEDGER_LOG_0","config":{"filter_subject":"keyledger.events.0.acme.>"}}`))
	if err != nil || !strings.Contains(string(m.Data), `"error"`) {
		t.Errorf("another stream: %s, %v", m.Data, err)
	}
	if info, err := consumer.Info(ctx); err != nil || info.Config.FilterSubject != "keyledger.events.0.acme.>" || info.AckFloor.Consumer != 3 {
		t.Errorf("%+v, %v", info, err)
	}
	revoke(t, l, "portal", 1)
	if _, err := jetstreamOf(t, l).Consumer(ctx, store.StreamFeed(0), "creds_portal"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("the consumer of a revoked credential: %v", err)
	}
}

func jetstreamOf(t *testing.T, l *ledgertest.Ledger) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(l.Conn())
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// revoke shuts a credential out that has so many connections.
func revoke(t *testing.T, l *ledgertest.Ledger, name string, connections int) {
	t.Helper()
	reply, err := l.Command(t.Context(), "_", "creds.revoke", map[string]string{"name": name})
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`"connections_closed":%d}`, connections); !strings.Contains(string(reply.Body), want) {
		t.Errorf("revoked %s: %s, want %s", name, reply.Body, want)
	}
}

// closes tells when a connection has ended for good.
func closes(ended chan<- struct{}) nats.Option {
	return func(o *nats.Options) error {
		o.ClosedCB = func(*nats.Conn) { ended <- struct{}{} }
		o.ReconnectWait, o.ReconnectJitter, o.ReconnectJitterTLS = time.Millisecond, 0, 0
		o.MaxReconnect = 1000 // it ends because it is refused twice, not because it gives up
		return nil
	}
}

func await(t *testing.T, what string, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatalf("%s did not end", what)
	}
}

// Revoking takes effect at once, on connections that are open too, and stays.
func TestRevokedConnectionsEnd(t *testing.T) {
	l := opened(t)
	books := newHolder(t, "books", server.RoleReader, "acme").created(l)
	stays := newHolder(t, "stays", server.RoleReader, "acme").created(l).client(l)
	ended := make(chan struct{}, 2)
	for range 2 {
		books.client(l, closes(ended))
	}
	revoke(t, l, "books", 2)
	await(t, "the first connection", ended)
	await(t, "the second connection", ended)
	books.shutOut(l)
	if _, err := stays.Query(t.Context(), "acme", "account.get", nil); err != nil {
		t.Errorf("another credential: %v", err)
	}
	_, err := l.Command(t.Context(), "_", "creds.revoke", map[string]string{"name": "books"})
	wantRefusal(t, err, events.NotFound, "no credential")
	// The name is free again; who had it stays out.
	again := newHolder(t, "books", server.RoleReader, "other").created(l)
	books.shutOut(l)
	restart(l)
	books.shutOut(l)
	again.client(l)
	l.Verify()
	l.Stop()
}

// Whoever connects while the credential is revoked is either refused or shut out.
func TestRevokeWhileTheyConnect(t *testing.T) {
	l := opened(t)
	const clients = 20
	for round := range 5 {
		books := newHolder(t, fmt.Sprint("books-", round), server.RoleReader, "acme").created(l)
		begun, ended := make(chan struct{}, clients), make(chan struct{}, 100*clients)
		var all sync.WaitGroup
		var connected sync.Map
		for i := range clients {
			all.Go(func() {
				for n := 0; ; n++ {
					conn, err := books.dial(l, closes(ended))
					if err != nil {
						return
					}
					connected.Store([2]int{i, n}, conn)
					if n == 0 {
						begun <- struct{}{}
					}
				}
			})
		}
		<-begun
		if _, err := l.Command(t.Context(), "_", "creds.revoke", map[string]any{"name": books.body["name"]}); err != nil {
			t.Fatal(err)
		}
		all.Wait()
		connected.Range(func(_, conn any) bool {
			await(t, "a connection", ended)
			return true
		})
	}
}

// A credential ends at its time: connections too, without anybody's doing.
func TestCredentialExpires(t *testing.T) {
	l := opened(t)
	books := newHolder(t, "books", server.RoleReader, "acme")
	books.body["expires_at"] = events.At(time.Now().Add(-time.Millisecond))
	_, err := l.Command(t.Context(), "_", "creds.create", books.body)
	wantRefusal(t, err, events.InvalidArgument, "is over already")
	books.body["expires_at"] = events.At(time.Now().Add(500 * time.Millisecond))
	books.created(l)
	ended := make(chan struct{}, 1)
	books.client(l, closes(ended))
	await(t, "the connection", ended)
	books.shutOut(l)
	reply, err := l.Query(t.Context(), "_", "creds.list", nil)
	if err != nil || !strings.Contains(string(reply.Body), `"status":"expired"`) {
		t.Errorf("%s, %v", reply.Body, err)
	}
	restart(l)
	books.shutOut(l)
	l.Verify()
	l.Stop()
}
