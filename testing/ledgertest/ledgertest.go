// Package ledgertest runs a whole keyledger inside a test: NATS embedded, a directory of
// its own, a free port on loopback. When the test ends the log is walked and checked, so
// every test that uses it is a test of the chain, of the money and of the views too.
package ledgertest

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
)

// startWithin bounds a start, so that one that hangs says so.
const startWithin = time.Minute

// Ledger is a running keyledger.
type Ledger struct {
	*client.Client
	Server *server.Server
	Dir    string

	t      testing.TB
	change []func(*server.Config)
	cancel context.CancelFunc
	done   chan error
}

// Start starts a keyledger in a temporary directory; change may alter its
// configuration. Webhook endpoints on loopback and with http:// are allowed.
func Start(t testing.TB, change ...func(*server.Config)) *Ledger {
	t.Helper()
	l := &Ledger{t: t, Dir: t.TempDir(), change: change}
	l.Start()
	t.Cleanup(func() {
		if l.Server != nil {
			l.Verify()
			l.Stop()
		}
	})
	return l
}

// Start starts it again after Stop, on the same directory.
func (l *Ledger) Start() {
	l.t.Helper()
	cfg := server.Config{
		DataDir: l.Dir, Listen: "127.0.0.1:0", HTTP: "off", Logger: slog.New(slog.NewTextHandler(l.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		AllowHTTPEndpoints: true, AllowEndpointNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	for _, f := range l.change {
		f(&cfg)
	}
	s, err := server.Open(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.Server, l.cancel, l.done = s, cancel, make(chan error, 1)
	go func() { l.done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-l.done:
		l.t.Fatalf("keyledger stopped while it started: %v", err)
	case <-time.After(startWithin):
		l.t.Fatalf("keyledger does not serve after %s", startWithin)
	}
	l.Client = client.New(l.Connect())
}

// Connect opens a connection as the operator, which is closed with the test.
func (l *Ledger) Connect() *nats.Conn {
	l.t.Helper()
	operator, err := client.Credentials(l.Server.OperatorKeyPath())
	if err != nil {
		l.t.Fatal(err)
	}
	conn, err := nats.Connect(l.Server.URL(), operator...)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(conn.Close)
	return conn
}

// Stop stops it as a signal would.
func (l *Ledger) Stop() {
	l.t.Helper()
	l.Conn().Close()
	l.cancel()
	if err := errors.Join(<-l.done, l.Server.Close()); err != nil {
		l.t.Errorf("keyledger stopped with: %v", err)
	}
	l.Server = nil
}

// Commits reads the log as an auditor would and checks its chain.
func (l *Ledger) Commits() []*store.Commit {
	l.t.Helper()
	js, err := jetstream.New(l.Conn())
	if err != nil {
		l.t.Fatal(err)
	}
	ctx := context.Background()
	log, err := store.OpenJetStream(ctx, js, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	last, err := log.Last(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	var list []*store.Commit
	chain := store.Chain{}
	err = store.ReadChecked(ctx, log, &chain, last, func(c *store.Commit) error {
		list = append(list, c)
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return list
}

// Verify checks the log's chain and its money, and that every view still follows it.
func (l *Ledger) Verify() {
	l.t.Helper()
	money := NewMoney()
	for _, c := range l.Commits() {
		if err := money.Add(c); err != nil {
			l.t.Errorf("the money of the log: %v", err)
			break
		}
	}
	reply, err := l.Query(context.Background(), "_", "ledger.status", nil)
	if err != nil {
		l.t.Errorf("ask for the status: %v", err)
		return
	}
	var status server.Status
	if err := reply.Decode(&status); err != nil {
		l.t.Error(err)
	}
	for _, p := range status.Projections {
		if p.Failure != "" && strings.HasPrefix(p.Failure, "stopped at") {
			l.t.Errorf("the view %s %s", p.Name, p.Failure)
		}
	}
}
