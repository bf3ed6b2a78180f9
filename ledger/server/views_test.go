package server

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	ledgerclient "github.com/keyledger/keyledger/ledger/client"
)

// viewsFrom waits until status shows a checkpoint of the views that begins at a sequence or
// after it.
func viewsFrom(t *testing.T, s *Server, c *ledgerclient.Client, sequence uint64) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		// A commit, so that this waits for the log and not for the clock.
		if _, err := c.Grant(t.Context(), "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 1}); err != nil {
			t.Fatal(err)
		}
		if shown := s.parts.views.Checkpoint(); shown != nil {
			if at, err := events.ParsePosition(shown.Position); err == nil && at.Sequence >= sequence {
				return
			}
		}
	}
	t.Fatalf("no checkpoint within %s: %+v", patience, s.parts.views.Checkpoint())
}

// views lists the checkpoints in a data directory, the newest last.
func views(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, store.DirViews, "*"+store.SuffixCheckpoint))
	if err != nil || len(names) == 0 {
		t.Fatalf("checkpoints: %v, %v", names, err)
	}
	slices.Sort(names)
	return names
}

// A start takes the views from a checkpoint and the log after it; a damaged one is passed
// over with a warning, and the answers are the same. A log that lost what a checkpoint saw
// is refused.
func TestServeFromACheckpointOfTheViews(t *testing.T) {
	dir, ctx, lines := t.TempDir(), t.Context(), new(logLines)
	s, c, stop := snapper(t, dir, lines)
	for _, account := range []string{"acme", "beta"} {
		if _, err := c.OpenAccount(ctx, account, ledger.OpenAccount{Name: account}); err != nil {
			t.Fatal(err)
		}
	}
	key, err := c.CreateKey(ctx, "beta", ledger.CreateKey{Environment: events.Test, Name: "backend"})
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		t.Helper()
		out := ""
		for _, q := range [][2]string{
			{"_.account.list", "{}"}, {"acme.balance.get", `{"environment":"test"}`},
			{"beta.key.get", `{"key":"` + key.Key.ID + `"}`}, {"beta.hold.list", "{}"},
		} {
			answer, err := c.Conn().Request(store.SubjectQuery+q[0], []byte(q[1]), patience)
			if err != nil || answer.Header.Get(store.HeaderErrorCode) != "" {
				t.Fatalf("%s: %v, %v", q[0], answer, err)
			}
			out += string(answer.Data) + "\n"
		}
		return out
	}
	viewsFrom(t, s, c, s.tail.End().Sequence)
	if err := s.parts.views.Wait(ctx, s.tail.End().Sequence); err != nil {
		t.Fatal(err)
	}
	want := shown()
	stop()
	check := func(text string, skipped int) {
		t.Helper()
		lines := new(logLines)
		_, after, stop := serveConfig(t, Config{DataDir: dir, Logger: slog.New(slog.NewTextHandler(lines, nil))})
		c = after
		if got := shown(); got != want {
			t.Errorf("answers %s\nwant %s", got, want)
		}
		stop()
		if log := lines.String(); !strings.Contains(log, text) || strings.Count(log, "skip saved views") != skipped {
			t.Errorf("logged %s", log)
		}
	}
	check("read saved views", 0)
	verified, err := Verify(ctx, Config{DataDir: dir}, func(*store.Commit) error { return nil })
	if err != nil || !strings.Contains(strings.Join(verified.Witnesses, " "), "checkpoint of the views 0-") {
		t.Errorf("verify found %+v, %v", verified, err)
	}
	names := views(t, dir)
	for i := range names {
		name := names[len(names)-1-i]
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		check("skip saved views", i+1)
	}
}

// A checkpoint of the views is a witness: a data directory whose log ends before it, or
// went on differently, is not served.
func TestCheckpointOfTheViewsIsAWitness(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	s, c, stop := snapper(t, dir, new(logLines))
	if _, err := c.OpenAccount(ctx, "acme", ledger.OpenAccount{Name: "Acme"}); err != nil {
		t.Fatal(err)
	}
	before := t.TempDir()
	viewsFrom(t, s, c, s.tail.End().Sequence)
	stop()
	if err := os.CopyFS(before, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s, c, stop = snapper(t, dir, new(logLines))
	for range 10 {
		viewsFrom(t, s, c, s.tail.End().Sequence)
	}
	stop()
	if err := os.RemoveAll(filepath.Join(before, store.DirViews)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(before, store.DirViews), os.DirFS(filepath.Join(dir, store.DirViews))); err != nil {
		t.Fatal(err)
	}
	secrets, err := os.ReadDir(before) // a copy of a file is not its owner's alone
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets {
		if secret.Type().IsRegular() {
			if err := os.Chmod(filepath.Join(before, secret.Name()), modeSecret); err != nil {
				t.Fatal(err)
			}
		}
	}
	old, err := Open(Config{DataDir: before, Listen: "127.0.0.1:0", HTTP: httpOff})
	if err != nil {
		t.Fatal(err)
	}
	err = old.Run(ctx)
	if err = errors.Join(err, old.Close()); !errors.Is(err, ErrLoss) || !strings.Contains(err.Error(), "checkpoint of the views") {
		t.Errorf("an older log than the views saw: %v", err)
	}
}
