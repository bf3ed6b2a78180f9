package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestReadmeTour runs every command of the README's tour, in a shell, as it stands
// there. Only the ports are others, and "make build" has happened.
func TestReadmeTour(t *testing.T) {
	runDocument(t, "README.md", "", 12,
		"refused: the key is for other addresses", "refused: 100 credits are left", "acme, test: requests a day", "intact +yes")
}

// TestGuide runs every command of the guide on a fresh server.
func TestGuide(t *testing.T) {
	serve := "keyledger serve &\nuntil keyledger status >/dev/null 2>&1; do sleep 0.1; done\n"
	runDocument(t, "GUIDE.md", serve, 40,
		"permission_denied: this key reads search only", "permission_denied: this key only reads", "available +10500",
		"available +99900", "a reader cannot do this", "available +500", "acme, live: requests a day", "report +acme.html", "public key +whpk_", "intact +yes", "key.disabled", "revoked")
}

// runDocument runs a document's shell blocks after a prologue. They must have so many
// commands, end well, and print what is wanted.
func runDocument(t *testing.T, name, prologue string, commands int, wants ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	tour := shellBlocks(string(text))
	if n := strings.Count(tour, "keyledger "); n < commands {
		t.Fatalf("%s has %d commands, not %d or more:\n%s", name, n, commands, tour)
	}
	script := "exec sh -eu tour.sh\n"
	for _, want := range wants {
		script += "stdout '" + want + "'\n"
	}
	script += "-- tour.sh --\ntrap 'kill $! 2>/dev/null || true' EXIT\n" + prologue + tour
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tour.txtar"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:      dir,
		Deadline: time.Now().Add(time.Minute), // the tour waits for its server
		Setup: func(env *testscript.Env) error {
			listen, err := freeAddress()
			if err != nil {
				return err
			}
			env.Setenv("KEYLEDGER_LISTEN", listen)
			env.Setenv("KEYLEDGER_HTTP", "off")
			env.Setenv("GORACE", noRaceNap)
			env.Setenv("KEYLEDGER_SERVER", "nats://"+listen)
			return nil
		},
	})
}

// shellBlocks is what stands in the README between ```sh and ```.
func shellBlocks(readme string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(readme) {
		switch text := strings.TrimSpace(line); {
		case text == "```sh":
			inside = true
		case text == "```":
			inside = false
		case inside && text == "make build", inside && strings.HasPrefix(text, "PATH="):
			// The program under test is on the path already.
		case inside:
			b.WriteString(line)
		}
	}
	return b.String()
}

// freeAddress is a loopback address with a port that nothing listened on just now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
