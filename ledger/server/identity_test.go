package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

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

// A commit of a format to come is refused for what it is, and not called damaged.
func TestUnknownCommitFormat(t *testing.T) {
	dir, _ := ledgerIn(t, "acme")
	found, err := Verify(t.Context(), Config{DataDir: dir}, func(*store.Commit) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	onStore(t, dir, func(js jetstream.JetStream) {
		if _, err := js.Publish(t.Context(), store.SubjectLog(partition), newerCommit(&found.End)); err != nil {
			t.Fatal(err)
		}
	})
	err = refuses(t, dir, "log cannot be read from 0:3 on", "commit format version 9 is not known to this keyledger", "use a newer one")
	var damage *store.DamageError
	if !errors.As(err, &damage) || !damage.Newer {
		t.Errorf("a start said %v", err)
	}
}

// newerCommit is a commit behind end whose format is version 9.
func newerCommit(end *store.Chain) []byte {
	c := &store.Commit{Epoch: end.Epoch, PrevSequence: end.Sequence, PrevHash: end.Hash, Ordinal: end.Ordinal, Time: end.Time}
	data := c.Encode(nil)
	body := data[:len(data)-len(store.Hash{})]
	body[3] = 9
	sum := sha256.Sum256(body)
	return append(body, sum[:]...)
}
