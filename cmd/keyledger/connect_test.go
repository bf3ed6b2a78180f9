package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/keyledger/keyledger/events/store"
)

// startNATS starts a NATS server that is not keyledger's.
func startNATS(t *testing.T, opts natsserver.Options) *natsserver.Server {
	t.Helper()
	opts.Host, opts.Port, opts.NoSigs, opts.NoLog = "127.0.0.1", natsserver.RANDOM_PORT, true, true
	s, err := natsserver.NewServer(&opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS did not start")
	}
	return s
}

// seedFile writes a new identity.
func seedFile(t *testing.T) string {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "who.nk")
	if err := os.WriteFile(path, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// expectFailure runs a command that must fail with exit code 1 and say what to do.
func expectFailure(t *testing.T, args []string, wants ...string) {
	t.Helper()
	code, out, errOut := invoke(args...)
	if code != exitFailed || out != "" {
		t.Errorf("%s: exit code %d, output %q", strings.Join(args, " "), code, out)
	}
	for _, want := range wants {
		if !strings.Contains(errOut, want) {
			t.Errorf("%s: %q lacks %q", strings.Join(args, " "), errOut, want)
		}
	}
}

func TestNATSWithoutKeyledger(t *testing.T) {
	t.Chdir(t.TempDir())
	url := startNATS(t, natsserver.Options{}).ClientURL()
	expectFailure(t, []string{"account", "get", "acme", "--server", url}, "no keyledger answers", "keyledger serve")
	expectFailure(t, []string{"account", "get", "acme", "--server", url, "--json"}, `{"error":{"code":"unavailable",`)
	expectFailure(t, []string{"audit", "verify", "--server", url, "--timeout", "500ms"}, "KEYLEDGER_LOG_0", "is keyledger on this NATS server")
	expectFailure(t, []string{"status", "--server", url, "--creds", seedFile(t)}, "is keyledger on this NATS server")
}

// TestPermissions: a subject that may not be used gets no answer from NATS, and must not
// look like a server that is slow.
func TestPermissions(t *testing.T) {
	t.Chdir(t.TempDir())
	s := startNATS(t, natsserver.Options{Users: []*natsserver.User{{
		Username: "customer", Password: "x",
		Permissions: &natsserver.Permissions{
			Publish:   &natsserver.SubjectPermission{Allow: []string{"keyledger.query.>"}},
			Subscribe: &natsserver.SubjectPermission{Allow: []string{"_INBOX.>"}},
		},
	}}})
	url := "nats://customer:x@" + s.Addr().String()
	expectFailure(t, []string{"account", "open", "acme", "--server", url, "--timeout", "100ms"}, "may not do this", "keyledger.cmd.acme.account.open")
	expectFailure(t, []string{"status", "--server", s.ClientURL()}, "give --creds FILE")
}

// TestSlowLedger: a command whose outcome is open says how to settle it, a query does not.
func TestSlowLedger(t *testing.T) {
	t.Chdir(t.TempDir())
	s := startNATS(t, natsserver.Options{})
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ids := make(chan string, 100)
	_, err = conn.Subscribe(store.SubjectCommand+">", func(m *nats.Msg) { ids <- m.Header.Get(store.HeaderCommandID) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.SubscribeSync(store.SubjectQuery + ">"); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	code, _, errOut := invoke("credits", "grant", "acme", "5", "--server", s.ClientURL(), "--timeout", "50ms")
	id := <-ids
	if code != exitFailed || !strings.Contains(errOut, "--id "+id) || !strings.Contains(errOut, "50ms") {
		t.Errorf("exit code %d, %s; the id was %s", code, errOut, id)
	}
	code, _, errOut = invoke("account", "get", "acme", "--server", s.ClientURL(), "--timeout", "50ms")
	if code != exitFailed || !strings.Contains(errOut, "no answer") || strings.Contains(errOut, "--id") {
		t.Errorf("a query: exit code %d, %s", code, errOut)
	}
}

func TestInterruptedIsSaid(t *testing.T) {
	var errOut strings.Builder
	a := &app{errOut: &errOut, started: true}
	code := a.exit(nil, nil, fmt.Errorf("ask: %w", context.Canceled))
	if code != exitFailed || errOut.String() != "keyledger: interrupted\n" {
		t.Errorf("exit code %d, %q", code, errOut.String())
	}
}
