package server

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/access"
	ledgerclient "github.com/keyledger/keyledger/ledger/client"
)

// accessOf asks access.list.
func accessOf(t *testing.T, c *ledgerclient.Client, account string) []access.Record {
	t.Helper()
	reply, err := c.Query(t.Context(), account, "access.list", nil)
	if err != nil {
		t.Fatal(err)
	}
	var out access.Listed
	if err := reply.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out.Records
}

// keyOf asks key.get.
func keyOf(t *testing.T, c *ledgerclient.Client, id string) *events.Key {
	t.Helper()
	reply, err := c.Query(t.Context(), "acme", "key.get", map[string]string{"key": id})
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Key *events.Key `json:"key"`
	}
	if err := reply.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out.Key
}

// awaitUse asks for a key until its last use was at an address.
func awaitUse(t *testing.T, c *ledgerclient.Client, id, ip string) *events.Key {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		key := keyOf(t, c, id)
		if key.LastUsedIP == ip {
			return key
		}
		if time.Now().After(deadline) {
			t.Fatalf("last used at %s from %q, want from %s", key.LastUsedAt, key.LastUsedIP, ip)
		}
	}
}

// Whatever is refused or costs nothing is counted, also under load and over a restart; a
// free request is the last use of its key, a refused one is not, and the log has none of
// them.
func TestAccessLog(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	s, c, stop := serveConfig(t, Config{DataDir: dir})
	if _, err := c.OpenAccount(ctx, "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	made, err := c.CreateKey(ctx, "acme", ledger.CreateKey{Environment: events.Test, Name: "backend"})
	if err != nil {
		t.Fatal(err)
	}
	logged := s.tail.End().Sequence
	nothing := int64(0)
	var clients sync.WaitGroup
	const each, calls = 500, 4
	for range calls {
		clients.Go(func() {
			list := make([]ledger.Authorize, 0, 3*each)
			for range each {
				list = append(list,
					ledger.Authorize{Secret: made.Secret, IP: "192.0.2.1"}, // no credits
					ledger.Authorize{Secret: made.Secret, IP: "192.0.2.2", Product: "payments", Access: events.Read, Cost: &nothing},
					ledger.Authorize{Secret: "kl_test_unknown", IP: "192.0.2.3"})
			}
			for len(list) > 0 {
				n := min(len(list), 1000)
				if _, err := c.AuthorizeMany(ctx, list[:n]); err != nil {
					t.Error(err)
				}
				list = list[n:]
			}
		})
	}
	clients.Wait()
	check := func() {
		t.Helper()
		count := map[events.Code]int64{}
		for _, r := range append(accessOf(t, c, "acme"), accessOf(t, c, "_")...) {
			count[r.Code] += r.Count
			if known := r.Code != events.KeyNotFound; known != (r.Key == made.Key.ID) || known != (r.Account == "acme") {
				t.Errorf("record %+v", r)
			}
		}
		const all = calls * each
		if len(count) != 3 || count[events.InsufficientCredits] != all || count[events.OK] != all || count[events.KeyNotFound] != all {
			t.Errorf("counts %v, want %d each", count, all)
		}
	}
	check()
	key := awaitUse(t, c, made.Key.ID, "192.0.2.2")
	if end := s.tail.End().Sequence; end != logged || s.parts.access.Stats().Folded+s.parts.access.Stats().Dropped != 0 {
		t.Errorf("the log went from %d to %d, stats %+v", logged, end, s.parts.access.Stats())
	}
	stop()
	_, c, stop = serveConfig(t, Config{DataDir: dir})
	defer stop()
	check()
	again := awaitUse(t, c, made.Key.ID, "192.0.2.2")
	if again.LastUsedAt != key.LastUsedAt || again.LastUsedAt == 0 || again.LastUsedProduct != "payments" {
		t.Errorf("last used %s for %q, want %s for payments", again.LastUsedAt, again.LastUsedProduct, key.LastUsedAt)
	}
}

// A request that paid is a use too, and the newest use counts.
func TestLastUsed(t *testing.T) {
	c, stop := serve(t, t.TempDir())
	defer stop()
	ctx := t.Context()
	if _, err := c.OpenAccount(ctx, "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Grant(ctx, "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 100}); err != nil {
		t.Fatal(err)
	}
	made, err := c.CreateKey(ctx, "acme", ledger.CreateKey{Environment: events.Test, Name: "backend"})
	if err != nil {
		t.Fatal(err)
	}
	for cost, ip := range []string{"192.0.2.1", "192.0.2.2"} {
		paid := int64(cost)
		answer, err := c.Authorize(ctx, &ledger.Authorize{Secret: made.Secret, IP: ip, Product: "search", Cost: &paid})
		if err != nil || !answer.Allowed {
			t.Fatalf("%+v, %v", answer, err)
		}
		if key := awaitUse(t, c, made.Key.ID, ip); key.LastUsedProduct != "search" {
			t.Errorf("last used for %q", key.LastUsedProduct)
		}
	}
}

// Nobody but keyledger writes the access log: the operator is refused, whether it
// publishes there or names it as where an answer goes.
func TestAccessLogIsKeyledgersOwn(t *testing.T) {
	s, c, stop := serveConfig(t, Config{DataDir: t.TempDir()})
	defer stop()
	errs := make(chan error, 1)
	c.Conn().SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err })
	subject := store.SubjectAccess + "acme.ok"
	if err := c.Conn().Publish(subject, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	(&client{Conn: c.Conn(), errs: errs}).violation(t, "publish", subject)
	if err := c.Conn().PublishRequest("$JS.API.INFO", subject, nil); err != nil {
		t.Fatal(err)
	}
	for range 50 { // JetStream answers in order
		ask(t, c.Conn(), "$JS.API.INFO", "")
	}
	stream, err := s.js.Stream(t.Context(), store.StreamAccess)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.LastSeq; n != 0 {
		t.Errorf("the access log has %d records", n)
	}
}
