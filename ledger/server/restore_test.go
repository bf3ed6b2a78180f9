package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	ledgerclient "github.com/keyledger/keyledger/ledger/client"
)

// old is a ledger that was exported while it served.
type old struct {
	dir    string
	export []byte
	end    store.Chain
	secret string // of a key
	debit  ulid.ULID
	answer []byte // to that debit
	feed   []string
}

var restoredDebit = ledger.DebitCredit{Environment: events.Test, Asset: "credits", Amount: 40}

// exportedLedger makes one with an account, a key, an endpoint and credits.
func exportedLedger(t *testing.T) *old {
	t.Helper()
	ctx := t.Context()
	o := &old{dir: t.TempDir(), debit: ulid.Make()}
	s, c, stop := serveConfig(t, Config{DataDir: o.dir})
	defer stop()
	if _, err := c.OpenAccount(ctx, "acme", ledger.OpenAccount{Name: "Acme"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Grant(ctx, "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 1000}); err != nil {
		t.Fatal(err)
	}
	key, err := c.CreateKey(ctx, "acme", ledger.CreateKey{Environment: events.Test, Name: "backend"})
	if err != nil {
		t.Fatal(err)
	}
	o.secret = key.Secret
	reply, err := c.Command(ctx, "acme", "credit.debit", restoredDebit, ledgerclient.WithID(o.debit))
	if err != nil {
		t.Fatal(err)
	}
	o.answer = reply.Body
	o.feed = feedIDs(t, s)
	js, err := jetstream.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	found, err := Export(ctx, js, &file, ExportConfig{Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	o.export, o.end = file.Bytes(), found.End
	return o
}

// feedIDs are the ids of the feed's messages, by their sequence.
func feedIDs(t *testing.T, s *Server) (ids []string) {
	t.Helper()
	ctx := t.Context()
	stream, err := s.js.Stream(ctx, store.StreamFeed(partition))
	if err != nil {
		t.Fatal(err)
	}
	end := s.tail.End()
	for deadline := time.Now().Add(patience); s.parts.feed.Status().Position != end.Position().String(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the feed does not reach the log's end")
		}
	}
	info, err := stream.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(1); sequence <= info.State.LastSeq; sequence++ {
		msg, err := stream.GetMsg(ctx, sequence)
		if err != nil {
			t.Fatalf("feed %d: %v", sequence, err)
		}
		ids = append(ids, msg.Header.Get("ce-id")+" "+msg.Header.Get("ce-position"))
	}
	return ids
}

func (o *old) sealKey() string { return filepath.Join(o.dir, fileSealKey) }

func (o *old) restore(ctx context.Context, cfg RestoreConfig) error {
	found, err := Restore(ctx, bytes.NewReader(o.export), cfg)
	if err == nil && found.End != o.end {
		err = errors.New("restored to another end")
	}
	return err
}

// A restored ledger has the balances, keys, receipts and feed sequences of the one that was
// exported, and goes on in a new epoch.
func TestRestoredLedgerGoesOn(t *testing.T) {
	ctx, o := t.Context(), exportedLedger(t)
	dir := filepath.Join(t.TempDir(), "new", "data")
	if err := o.restore(ctx, RestoreConfig{DataDir: dir, SealKeyFile: o.sealKey()}); err != nil {
		t.Fatal(err)
	}
	found, err := Verify(ctx, Config{DataDir: dir}, func(*store.Commit) error { return nil })
	if err != nil || found.End != o.end || !slices.Contains(found.Witnesses, "head file") {
		t.Errorf("verified %+v, %v", found, err)
	}
	s, c, stop := serveConfig(t, Config{DataDir: dir})
	defer stop()
	if end := s.tail.End(); end.Epoch != o.end.Epoch+1 || end.Sequence != o.end.Sequence+1 {
		t.Errorf("the log goes on at %s in epoch %d, after epoch %d", end.Position(), end.Epoch, o.end.Epoch)
	}
	balance := func(want int64) {
		t.Helper()
		b, err := c.Balance(ctx, "acme", events.Test, "credits", ledgerclient.Strict())
		if err != nil || b.Posted != want {
			t.Errorf("balance %+v, %v; want %d", b, err, want)
		}
	}
	balance(960)
	reply, err := c.Command(ctx, "acme", "credit.debit", restoredDebit, ledgerclient.WithID(o.debit))
	if err != nil || !reply.Replayed || !bytes.Equal(reply.Body, o.answer) {
		t.Errorf("the old debit again: %s, %v; want %s", reply.Body, err, o.answer)
	}
	balance(960)
	answer, err := c.Authorize(ctx, &ledger.Authorize{Secret: o.secret})
	if err != nil || !answer.Allowed {
		t.Errorf("the old key: %+v, %v", answer, err)
	}
	balance(860)
	feed := feedIDs(t, s)
	if got, want := strings.Join(feed[:len(o.feed)], "\n"), strings.Join(o.feed, "\n"); got != want || len(feed) != len(o.feed)+1 {
		t.Errorf("the feed holds\n%s\nand held\n%s", got, want)
	}
}

// The export of a directory on which nothing runs is that of a server, but for its time.
func TestExportOfADirectory(t *testing.T) {
	o := exportedLedger(t)
	if err := os.Remove(o.sealKey()); err != nil { // it is not needed
		t.Fatal(err)
	}
	var file bytes.Buffer
	found, err := ExportDir(t.Context(), Config{DataDir: o.dir}, &file, ExportConfig{})
	if err != nil || found.End != o.end {
		t.Fatalf("%+v, %v", found, err)
	}
	checked, err := CheckExport(&file, nil, func(*store.Commit, uint64) error { return nil })
	if err != nil || *checked != *found {
		t.Errorf("checked %+v, %v; written %+v", checked, err, found)
	}
	// One that lost what a witness saw is not exported as if it were whole.
	if err := os.WriteFile(filepath.Join(o.dir, "head"), []byte("00000000000000000099 "+strings.Repeat("00", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ExportDir(t.Context(), Config{DataDir: o.dir}, new(bytes.Buffer), ExportConfig{}); !errors.Is(err, ErrLoss) {
		t.Errorf("a log shorter than its witness: %v", err)
	}
}

// Stopped at any step, a restore leaves a directory that nothing uses, and a second run
// makes it whole.
func TestRestoreStoppedAnywhere(t *testing.T) {
	ctx, o := t.Context(), exportedLedger(t)
	steps := []string{"marked", "filled", "durable", "identified", "written"}
	for _, name := range steps {
		t.Run(name, func(t *testing.T) {
			dir, stopped := t.TempDir(), errors.New("stopped")
			err := o.restore(ctx, RestoreConfig{DataDir: dir, SealKeyFile: o.sealKey(), step: func(at string) error {
				if at == name {
					return stopped
				}
				return nil
			}})
			if !errors.Is(err, stopped) || !strings.Contains(err.Error(), "run restore on it again") {
				t.Fatalf("stopped with %v", err)
			}
			for what, use := range map[string]func() error{
				"serve": func() error { _, err := Open(Config{DataDir: dir, Listen: "127.0.0.1:0", HTTP: httpOff}); return err },
				"verify": func() error {
					_, err := Verify(ctx, Config{DataDir: dir}, func(*store.Commit) error { return nil })
					return err
				},
			} {
				nothing := what == "verify" && name == "marked" // there is no log to verify
				if err := use(); err == nil || !nothing && !strings.Contains(err.Error(), "run keyledger restore again") {
					t.Errorf("%s: %v", what, err)
				}
			}
			if err := o.restore(ctx, RestoreConfig{DataDir: dir, SealKeyFile: o.sealKey()}); err != nil {
				t.Fatalf("again: %v", err)
			}
			found, err := Verify(ctx, Config{DataDir: dir}, func(*store.Commit) error { return nil })
			if err != nil || found.End != o.end {
				t.Errorf("the second run restored %+v, %v", found, err)
			}
		})
	}
}

// Before a restore says that it is done, every file and directory of it was made durable
// after it was written, and the directory once more when the marker was gone.
func TestRestoreSyncsEverything(t *testing.T) {
	o, dir, synced := exportedLedger(t), t.TempDir(), map[string]bool{}
	missing := func(below string) {
		t.Helper()
		err := filepath.WalkDir(below, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !synced[path] {
				t.Errorf("%s was not made durable", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var last string
	err := o.restore(t.Context(), RestoreConfig{DataDir: dir, SealKeyFile: o.sealKey(),
		sync: func(f *os.File) error {
			_, err := os.Stat(filepath.Join(dir, fileUnfinished))
			synced[f.Name()], last = true, fmt.Sprintf("%s, marker gone %t", f.Name(), err != nil)
			return f.Sync()
		},
		step: func(at string) error {
			switch at {
			case "filled":
				clear(synced)
			case "durable":
				missing(filepath.Join(dir, dirNATS))
				clear(synced)
			case "written":
				missing(dir)
			}
			return nil
		},
	})
	if err != nil || last != dir+", marker gone true" {
		t.Errorf("%v; the last that was made durable: %s", err, last)
	}
}

// What restore refuses, it refuses before it writes, or leaves marked.
func TestRestoreRefusals(t *testing.T) {
	ctx, o := t.Context(), exportedLedger(t)
	other := filepath.Join(t.TempDir(), fileSealKey)
	if err := writeSecret(other, strings.Repeat("00", sealKeyBytes)); err != nil {
		t.Fatal(err)
	}
	full, missing := t.TempDir(), filepath.Join(t.TempDir(), "none")
	if err := os.WriteFile(filepath.Join(full, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, cfg := range map[string]RestoreConfig{
		"notes.txt is in it; give a directory that is empty": {DataDir: full},
		"and the export was sealed with":                     {DataDir: missing, SealKeyFile: other},
		"read seal key":                                      {DataDir: missing, SealKeyFile: filepath.Join(full, "nothing")},
		"another keyledger is running on it":                 {DataDir: lockedDir(t)},
	} {
		if err := o.restore(ctx, cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a wrong seal key: the directory is there (%v)", err)
	}
	cut := *o
	cut.export = o.export[:len(o.export)-1]
	var bad *store.ExportError
	if err := cut.restore(ctx, RestoreConfig{DataDir: missing}); !errors.As(err, &bad) || bad.Sequence != o.end.Sequence+1 {
		t.Errorf("an export that is cut off: %v", err)
	}
	if _, err := Open(Config{DataDir: missing, Listen: "127.0.0.1:0", HTTP: httpOff}); err == nil || !strings.Contains(err.Error(), "run keyledger restore again") {
		t.Errorf("served: %v", err)
	}
	if err := o.restore(ctx, RestoreConfig{DataDir: missing, LogBytesMax: store.LogBytesMin}); err != nil {
		t.Errorf("the whole one in its place: %v", err)
	}
	// Without the seal key nothing is served, and the log can be verified; with it, put there
	// by hand, it is served.
	if found, err := verifyDir(missing); err != nil || !found.SealKeyMissing || found.End != o.end {
		t.Errorf("verified without the seal key: %+v, %v", found, err)
	}
	if _, err := Open(Config{DataDir: missing, Listen: "127.0.0.1:0", HTTP: httpOff}); err == nil || !strings.Contains(err.Error(), "seal.key is missing") {
		t.Errorf("served without the seal key: %v", err)
	}
	text, err := readSecret(o.sealKey())
	if err != nil {
		t.Fatal(err)
	}
	_, _, stop := serveConfig(t, Config{DataDir: missing, SealKey: text})
	stop()
	found, err := Verify(ctx, Config{DataDir: missing, SealKey: text}, func(*store.Commit) error { return nil })
	if err != nil || found.SealKeyMissing {
		t.Errorf("verified with the seal key in the environment: %+v, %v", found, err)
	}
}

func lockedDir(t *testing.T) string {
	t.Helper()
	d, err := lockDataDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.path
}
