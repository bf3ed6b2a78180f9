package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
	"github.com/keyledger/keyledger/testing/receiver"
)

const patience = 20 * time.Second

// subscriber is an account with credits whose events go to a receiver.
func subscriber(t *testing.T, l *ledgertest.Ledger, hooks *receiver.Server, query string, headers map[string]string) *client.NewEndpoint {
	t.Helper()
	ctx := t.Context()
	if _, err := l.OpenAccount(ctx, "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	endpoint, err := l.RegisterEndpoint(ctx, "acme", ledger.RegisterEndpoint{
		URL: hooks.URL + "/acme" + query, Environment: events.Test, Events: []string{"credit.*", "key.*"}, Headers: headers,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := hooks.Register("/acme", endpoint.Secret); err != nil {
		t.Fatal(err)
	}
	return endpoint
}

func startReceiver(t *testing.T) *receiver.Server {
	t.Helper()
	hooks, err := receiver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hooks.Close(); err != nil {
			t.Error(err)
		}
	})
	return hooks
}

// A command becomes an event, the event a signed webhook; one that fails comes again
// with the same id and bytes, and delivery.list tells.
func TestFromACommandToAWebhook(t *testing.T) {
	hooks := startReceiver(t)
	l := ledgertest.Start(t, func(cfg *server.Config) {
		cfg.RetrySchedule = []time.Duration{0, 10 * time.Millisecond, 10 * time.Millisecond}
	})
	endpoint := subscriber(t, l, hooks, "", nil)
	hooks.Script("/acme", receiver.Answer{Status: http.StatusInternalServerError})
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	reply, err := l.Command(t.Context(), "acme", "credit.grant", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 10}, client.WithTraceparent(traceparent))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := hooks.Wait(ctx, func(receiver.Totals) bool { return len(hooks.Events("/acme")) == 1 }); err != nil {
		t.Fatal(err)
	}
	attempts := hooks.Attempts("/acme")
	if len(attempts) != 2 || attempts[0].ID != attempts[1].ID || attempts[0].Status != 500 {
		t.Errorf("attempts %+v, want two of one event", attempts)
	}
	got := hooks.Events("/acme")[0]
	if got.Type != "dev.keyledger.credit.granted.v1" || got.Source != "/keyledger/acme" || got.Sequence != fmt.Sprintf("%020d", 1) {
		t.Errorf("event %+v", got)
	}
	if !strings.Contains(string(got.Body), `"traceparent":"`+traceparent+`"`) {
		t.Errorf("the command's trace is not in its event: %s", got.Body)
	}
	row := awaitDelivery(t, l, endpoint.Endpoint.ID, 1)
	if row.Status != "delivered" || row.Attempts != 2 || row.Event != got.ID || row.Type != "credit.granted" && row.Type != got.Type {
		t.Errorf("delivery %+v of %s", row, reply.Position)
	}
}

type delivery struct {
	Event    string `json:"event"`
	Type     string `json:"type"`
	Endpoint string `json:"endpoint"`
	Status   string `json:"status"`
	Attempts int    `json:"attempts"`
}

// awaitDelivery returns the newest of an endpoint's n deliveries once all are settled and
// recorded.
func awaitDelivery(t *testing.T, l *ledgertest.Ledger, endpoint string, n int) delivery {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		reply, err := l.Query(t.Context(), "acme", "delivery.list", map[string]string{"endpoint": endpoint})
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Deliveries []delivery `json:"deliveries"`
		}
		if err := reply.Decode(&page); err != nil {
			t.Fatal(err)
		}
		pending := func(d delivery) bool { return d.Status == "pending" }
		if len(page.Deliveries) == n && !slices.ContainsFunc(page.Deliveries, pending) {
			return page.Deliveries[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("deliveries %+v", page.Deliveries)
		}
	}
}

// A receiver that is gone for good says so with 410: the ledger disables its endpoint.
func TestGoneDisablesTheEndpoint(t *testing.T) {
	hooks := startReceiver(t)
	l := ledgertest.Start(t)
	endpoint := subscriber(t, l, hooks, "", nil)
	hooks.Script("/acme", receiver.Answer{Status: http.StatusGone})
	if _, err := l.Grant(t.Context(), "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 10}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; {
		reply, err := l.Query(t.Context(), "acme", "endpoint.get", map[string]string{"endpoint": endpoint.Endpoint.ID})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(reply.Body), `"status":"disabled"`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("endpoint %s", reply.Body)
		}
	}
}

// Reading your own writes, by position and strictly.
func TestReadYourWrites(t *testing.T) {
	l := ledgertest.Start(t)
	ctx := t.Context()
	if _, err := l.OpenAccount(ctx, "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	for n := int64(1); n <= 50; n++ {
		reply, err := l.Command(ctx, "acme", "credit.grant", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 1})
		if err != nil {
			t.Fatal(err)
		}
		option := client.Strict()
		if n%2 == 0 {
			option = client.WithMinPosition(reply.Position)
		}
		b, err := l.Balance(ctx, "acme", events.Test, "credits", option)
		if err != nil || b.Posted != n {
			t.Fatalf("after %d grants: %+v, %v", n, b, err)
		}
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := l.Balance(short, "acme", events.Test, "credits", client.WithMinPosition("0:999999"))
	if refused, ok := err.(*events.Error); !ok || refused.Code != events.Unavailable {
		t.Errorf("a position far ahead: %v, want unavailable", err)
	}
}

// lines is a log that a test reads.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A secret is in no stream, no bucket and no log line: not a key's, not an endpoint's,
// no header's value, no query of a URL. The receiver gets the header and the query.
func TestSecretsAreNowhere(t *testing.T) {
	hooks := startReceiver(t)
	log := new(lines)
	l := ledgertest.Start(t, func(cfg *server.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	const headerValue, query = "Bearer header-value-123", "?token=query-token-456"
	endpoint := subscriber(t, l, hooks, query, map[string]string{"Authorization": headerValue})
	key, err := l.CreateKey(t.Context(), "acme", ledger.CreateKey{Environment: events.Test, Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := l.RotateKey(t.Context(), "acme", ledger.RotateKey{Key: key.Key.ID})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{key.Secret, rotated.Secret} {
		if _, err := l.Authorize(t.Context(), &ledger.Authorize{Secret: secret}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := hooks.Wait(ctx, func(receiver.Totals) bool { return len(hooks.Events("/acme")) == 2 }); err != nil {
		t.Fatal(err)
	}
	awaitDelivery(t, l, endpoint.Endpoint.ID, 2)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(endpoint.Secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{key.Secret, key.Secret[20:60], rotated.Secret, rotated.Secret[35:75], endpoint.Secret, strings.TrimPrefix(endpoint.Secret, "whsec_"), string(raw), "header-value-123", "query-token-456"}
	seen := 0
	for name, text := range everything(t, l) {
		seen++
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds a secret", name)
			}
		}
	}
	if seen < 8 {
		t.Errorf("only %d messages were looked at", seen)
	}
	for _, secret := range secrets {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log lines hold a secret:\n%s", log)
		}
	}
}

// everything is every message of every stream.
func everything(t *testing.T, l *ledgertest.Ledger) map[string]string {
	t.Helper()
	js, err := jetstream.New(l.Conn())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range []string{store.StreamLog(0), store.StreamFeed(0), store.StreamLanes(0), store.StreamCheckpoints(0), store.StreamAttempts, "KV_" + store.BucketKeys, "KV_" + store.BucketBalances} {
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		state := stream.CachedInfo().State
		for sequence := state.FirstSeq; sequence <= state.LastSeq; sequence++ {
			if msg, err := stream.GetMsg(t.Context(), sequence); err == nil {
				all[fmt.Sprintf("%s %d %s", name, sequence, msg.Subject)] = fmt.Sprintf("%s %v", msg.Data, msg.Header)
			}
		}
	}
	return all
}
