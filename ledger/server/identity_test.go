package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// ledgerIn makes a directory with a ledger in it and returns its id.
func ledgerIn(t *testing.T, account string) (dir, id string) {
	t.Helper()
	dir = t.TempDir()
	c, stop := serve(t, dir)
	if _, err := c.OpenAccount(t.Context(), account, ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	stop()
	text, err := os.ReadFile(filepath.Join(dir, fileLedger))
	if err != nil {
		t.Fatal(err)
	}
	return dir, string(bytes.TrimSpace(text))
}

// refuses checks that neither a start nor Verify takes a directory, both with the same
// words.
func refuses(t *testing.T, dir string, words ...string) error {
	t.Helper()
	_, verifyErr := Verify(t.Context(), Config{DataDir: dir}, func(*store.Commit) error { return nil })
	wantError(t, verifyErr, words...)
	s, err := Open(Config{DataDir: dir, Listen: "127.0.0.1:0", HTTP: "off"})
	if err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err = errors.Join(s.Run(ctx), s.Close())
	}
	wantError(t, err, words...)
	if err != nil && verifyErr != nil && err.Error() != verifyErr.Error() {
		t.Errorf("a start said %v, verify %v", err, verifyErr)
	}
	return err
}

// onStore runs NATS alone on a directory.
func onStore(t *testing.T, dir string, f func(jetstream.JetStream)) {
	t.Helper()
	_, public := newUser(t)
	d := openTestDir(t, dir)
	e, err := startNATS(natsOptions{StoreDir: d.natsDir(), Listen: "127.0.0.1:0", Operator: public, Logger: Config{}.withDefaults().Logger})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := e.ConnectStore("test")
	if err != nil {
		t.Fatal(err)
	}
	_, js := withJetStream(t, conn)
	f(js)
	conn.Close()
	e.Close()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// metadata changes that of the log's stream.
func metadata(t *testing.T, dir string, change func(map[string]string)) {
	t.Helper()
	onStore(t, dir, func(js jetstream.JetStream) {
		stream, err := js.Stream(t.Context(), store.StreamLog(partition))
		if err != nil {
			t.Fatal(err)
		}
		config := stream.CachedInfo().Config
		change(config.Metadata)
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLogOfAnotherLedger(t *testing.T) {
	acme, acmeID := ledgerIn(t, "acme")
	globex, globexID := ledgerIn(t, "globex")
	if err := errors.Join(os.RemoveAll(filepath.Join(acme, dirNATS)), os.Rename(filepath.Join(globex, dirNATS), filepath.Join(acme, dirNATS))); err != nil {
		t.Fatal(err)
	}
	refuses(t, acme, "the log is that of ledger "+globexID, "the data directory of ledger "+acmeID, "restore")
	// With the id it came with, the seal key still tells.
	if err := os.Remove(filepath.Join(acme, fileLedger)); err != nil {
		t.Fatal(err)
	}
	refuses(t, acme, "the log was sealed with key", "restore seal.key")
}

func TestLogOfAnotherPartitionCount(t *testing.T) {
	dir, _ := ledgerIn(t, "acme")
	metadata(t, dir, func(m map[string]string) { m["keyledger.partitions"] = "4" })
	refuses(t, dir, "made for 4 partitions", "this keyledger has 1")
}

func TestLogThatIsGone(t *testing.T) {
	dir, id := ledgerIn(t, "acme")
	if err := os.RemoveAll(filepath.Join(dir, dirNATS)); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Config{DataDir: dir, Listen: "127.0.0.1:0", HTTP: "off"})
	if err == nil {
		_ = s.Close() // the test has failed
	}
	wantError(t, err, "the log of ledger "+id+" is gone", "restore the newest intact copy")
	_, err = Verify(t.Context(), Config{DataDir: dir}, func(*store.Commit) error { return nil })
	wantError(t, err, "there is no log in it")
}

// A directory from before there were identities gets one at its next start, once.
func TestOldDirectoryGetsItsIdentity(t *testing.T) {
	dir, first := ledgerIn(t, "acme")
	strip := func(m map[string]string) {
		for _, name := range []string{"keyledger.ledger", "keyledger.partitions", "keyledger.seal_key"} {
			delete(m, name)
		}
	}
	metadata(t, dir, strip)
	refuses(t, dir, "the log says not whose it is", "the data directory of ledger "+first)
	if err := os.Remove(filepath.Join(dir, fileLedger)); err != nil {
		t.Fatal(err)
	}
	signed := filepath.Join((&dataDir{path: dir}).streamsDir(), store.StreamCheckpoints(0)) // nor were there any
	if err := os.RemoveAll(signed); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for range 2 {
		_, stop := serve(t, dir)
		stop()
		found, err := Verify(t.Context(), Config{DataDir: dir}, func(*store.Commit) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, found.Ledger)
	}
	if ids[0] == "" || ids[0] == first || ids[0] != ids[1] {
		t.Errorf("the ids are %q, before it was %s", ids, first)
	}
}

// A stop between the log's identity and the directory's leaves the log's.
func TestDirectoryTakesTheLogsIdentity(t *testing.T) {
	dir, id := ledgerIn(t, "acme")
	if err := os.Remove(filepath.Join(dir, fileLedger)); err != nil {
		t.Fatal(err)
	}
	_, stop := serve(t, dir)
	stop()
	if text, err := os.ReadFile(filepath.Join(dir, fileLedger)); err != nil || string(bytes.TrimSpace(text)) != id {
		t.Errorf("the directory says %q (%v), want %s", text, err, id)
	}
}

// A commit of a format to come, or with an event or a payload to come, is refused for what
// it is by whoever reads it, and not called damaged; nothing of it is passed over.
func TestUnknownCommits(t *testing.T) {
	for want, newer := range map[string]func(*store.Chain) []byte{
		"commit format version 9 is":                   func(end *store.Chain) []byte { return newerCommit(end, "", 9) },
		`event type "account.merged" version 1 is`:     func(end *store.Chain) []byte { return newerCommit(end, "account.merged\x01", 1) },
		`event type "account.opened" version 2 is not`: func(end *store.Chain) []byte { return newerCommit(end, "account.opened\x02", 1) },
	} {
		dir, _ := ledgerIn(t, "acme")
		found, err := Verify(t.Context(), Config{DataDir: dir}, func(*store.Commit) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		onStore(t, dir, func(js jetstream.JetStream) {
			if _, err := js.Publish(t.Context(), store.SubjectLog(partition), newer(&found.End)); err != nil {
				t.Fatal(err)
			}
		})
		starting := refuses(t, dir, "log cannot be read from 0:3 on", want, "not known to this keyledger", "use a newer one")
		_, verifying := Verify(t.Context(), Config{DataDir: dir}, func(*store.Commit) error { return nil })
		for _, err := range []error{starting, verifying} {
			var damage *store.DamageError
			if !errors.As(err, &damage) || !damage.Newer || !strings.Contains(err.Error(), want) {
				t.Errorf("said %v, want %s", err, want)
			}
		}
	}
}

// newerCommit is a commit behind end that a newer program wrote: of another format, and
// with an event of another type and version, such as "account.opened\x02".
func newerCommit(end *store.Chain, event string, format byte) []byte {
	c := &store.Commit{Epoch: end.Epoch, PrevSequence: end.Sequence, PrevHash: end.Hash, Ordinal: end.Ordinal, Time: end.Time,
		Entries: make([]store.Entry, 1)}
	const known = "account.opened\x01"
	entry := store.AppendEntry(nil, &store.Entry{Account: "acme", Command: "account.open", Outcome: events.OK,
		Events: []events.Event{{Type: "account.opened", Account: "acme", Data: &events.Account{ID: "acme"}}}})
	if event != "" {
		entry = bytes.Replace(entry, []byte(known), []byte(event), 1)
	}
	data := c.Encode(entry)
	body := data[:len(data)-len(store.Hash{})]
	body[3] = format
	sum := sha256.Sum256(body)
	return append(body, sum[:]...)
}
