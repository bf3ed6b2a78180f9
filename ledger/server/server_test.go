package server

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	ledgerclient "github.com/keyledger/keyledger/ledger/client"
)

// serve runs a whole server on a directory until the returned function stops it.
func serve(t *testing.T, dir string) (*ledgerclient.Client, func()) {
	t.Helper()
	_, c, stop := serveConfig(t, Config{DataDir: dir})
	return c, stop
}

// serveConfig is serve with more than a directory set.
func serveConfig(t *testing.T, cfg Config) (*Server, *ledgerclient.Client, func()) {
	t.Helper()
	cfg.Listen, cfg.HTTP = "127.0.0.1:0", "off"
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatalf("the server stopped: %v", err)
	}
	option, err := nats.NkeyOptionFromSeed(s.OperatorKeyPath())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(s.URL(), option)
	if err != nil {
		t.Fatal(err)
	}
	return s, ledgerclient.New(conn), func() {
		conn.Close()
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
}

func TestServeFromACommandToItsAnswer(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	c, stop := serve(t, dir)
	if _, err := c.OpenAccount(ctx, "acme", ledger.OpenAccount{Name: "Acme"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Grant(ctx, "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 150}); err != nil {
		t.Fatal(err)
	}
	key, err := c.CreateKey(ctx, "acme", ledger.CreateKey{Environment: events.Test, Name: "backend"})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	c, stop = serve(t, dir)
	defer stop()
	for _, want := range []events.Code{events.OK, events.InsufficientCredits} {
		answer, err := c.Authorize(ctx, &ledger.Authorize{Secret: key.Secret, Product: "payments"})
		if err != nil {
			t.Fatal(err)
		}
		if answer.Code != want || answer.Balance == nil || *answer.Balance != 50 || answer.Account != "acme" {
			t.Errorf("answer %+v, want %s with 50 left", answer, want)
		}
	}
}
