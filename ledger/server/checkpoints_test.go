package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
	"github.com/keyledger/keyledger/ledger"
	ledgerclient "github.com/keyledger/keyledger/ledger/client"
)

// askedOwn is a query's answer, or its refusal.
func askedOwn[T any](t *testing.T, c *ledgerclient.Client, verb, body string) (out T, err error) {
	t.Helper()
	reply, err := c.Query(t.Context(), "_", verb, json.RawMessage(body))
	if err == nil {
		err = reply.Decode(&out)
	}
	return out, err
}

// Through the server: the newest checkpoint, a proof of a commit that was just made, and
// that a later log begins with an earlier one, over a restart; those who listen get what is
// signed.
func TestProofsThroughTheServer(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	c, stop := serve(t, dir)
	heard := make(chan *nats.Msg, 10)
	listening, err := c.Conn().ChanSubscribe("keyledger.checkpoints.*", heard)
	if err != nil || c.Conn().Flush() != nil {
		t.Fatal(err)
	}
	first, err := askedOwn[SignedCheckpoint](t, c, "checkpoint.get", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	if msg := <-heard; string(msg.Data) != first.Signed || msg.Subject != store.SubjectCheckpoints(0) {
		t.Errorf("heard %s on %s, signed was %s", msg.Data, msg.Subject, first.Signed)
	}
	if err := listening.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	v, err := proof.ParseVerifier(first.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.OpenAccount(ctx, "acme", ledger.OpenAccount{Name: "Acme"}); err != nil {
		t.Fatal(err)
	}
	p, err := askedOwn[ProofFile](t, c, "proof.get", `{"position":"0:2.0"}`)
	if err != nil || p.Position != "0:2" || p.Key != first.Key {
		t.Fatalf("%+v, %v", p, err)
	}
	decoded, err := proof.Decode([]byte(p.Proof))
	if err != nil {
		t.Fatal(err)
	}
	commit, _, err := decoded.(*proof.Inclusion).Check(v)
	if err != nil || commit.Entries[0].Events[0].Type != "account.opened" {
		t.Errorf("%+v, %v", commit, err)
	}
	stop()
	c, stop = serve(t, dir)
	defer stop()
	old, err := json.Marshal(first.Signed)
	if err != nil {
		t.Fatal(err)
	}
	p, err = askedOwn[ProofFile](t, c, "proof.consistency", `{"old":`+string(old)+`}`)
	if err != nil || p.Key != first.Key {
		t.Fatalf("%+v, %v", p, err)
	}
	if decoded, err = proof.Decode([]byte(p.Proof)); err != nil {
		t.Fatal(err)
	}
	before, after, err := decoded.(*proof.Consistency).Check(v)
	if err != nil || *before != *first.Checkpoint || after.Size < 2 {
		t.Errorf("%+v, %+v, %v", before, after, err)
	}
	status, err := askedOwn[Status](t, c, "ledger.status", `{}`)
	if err != nil || status.Checkpoints.Key != first.Key || status.Checkpoints.Position == "" || status.Checkpoints.Commits < 2 {
		t.Errorf("status %+v, %v", status.Checkpoints, err)
	}
}

// Who asks for a proof while the hashes are damaged hears that they are made again, and
// later gets it.
func TestProofWhileHashesAreMadeAgain(t *testing.T) {
	dir := signedDir(t)
	path := filepath.Join(dir, dirProof, fileHashes)
	hashes, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	hashes[0] ^= 1 // of the first commit: no start reads it
	if err := os.WriteFile(path, hashes, 0o600); err != nil {
		t.Fatal(err)
	}
	c, stop := serve(t, dir)
	defer stop()
	_, err = askedOwn[ProofFile](t, c, "proof.get", `{"position":"0:2"}`)
	var refused *events.Error
	if !errors.As(err, &refused) || refused.Code != events.Unavailable || !strings.Contains(refused.Message, "hashes is damaged, and is being made again from the log") {
		t.Errorf("the first answer: %v", err)
	}
	for deadline := time.Now().Add(patience); err != nil; {
		if _, err = askedOwn[ProofFile](t, c, "proof.get", `{"position":"0:2"}`); time.Now().After(deadline) {
			t.Fatalf("no proof after %s: %v", patience, err)
		}
	}
}

// Bad input is refused with what to do.
func TestProofRefusals(t *testing.T) {
	s, c, stop := serveConfig(t, Config{DataDir: t.TempDir()})
	defer stop()
	if _, err := c.OpenAccount(t.Context(), "acme", ledger.OpenAccount{Name: "Acme"}); err != nil {
		t.Fatal(err)
	}
	signed := func(c *proof.Checkpoint) string {
		note, err := s.checkpointKey.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(string(note))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	origin := s.checkpointKey.Verifier().Name()
	newest, err := askedOwn[SignedCheckpoint](t, c, "checkpoint.get", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	other := *newest.Checkpoint
	other.Root[0] ^= 1
	far := signed(&proof.Checkpoint{Origin: origin, Size: 99, Time: 1})
	for _, test := range []struct {
		verb, body string
		code       events.Code
		word       string
	}{
		{"proof.get", `{}`, events.InvalidArgument, "such as 0:42"},
		{"proof.get", `{"position":"1:1"}`, events.InvalidArgument, "of partition 0"},
		{"proof.get", `{"position":"0:0"}`, events.InvalidArgument, "such as 0:42"},
		{"proof.get", `{"position":"0:3"}`, events.NotFound, "the log ends at 0:2"},
		{"proof.get", `{"position":"0:2.1"}`, events.NotFound, "there is no 0:2.1: commit 0:2 has 1 event"},
		{"proof.get", `{"position":"0:1.0"}`, events.NotFound, "commit 0:1 has no events"},
		{"proof.get", `{"sequence":1}`, events.InvalidArgument, "sequence"},
		{"checkpoint.get", `{"size":1}`, events.InvalidArgument, "size"},
		{"proof.consistency", `{}`, events.InvalidArgument, "old must be a checkpoint signed by " + origin},
		{"proof.consistency", `{"old":` + far + `}`, events.FailedPrecondition, "is of 0:99, and the log ends at 0:2"},
		{"proof.consistency", `{"old":` + signed(newest.Checkpoint) + `,"new":"x"}`, events.InvalidArgument, "new must be a checkpoint"},
		{"proof.consistency", `{"old":` + signed(&other) + `}`, events.FailedPrecondition, "it is not of this log"},
	} {
		_, err := askedOwn[ProofFile](t, c, test.verb, test.body)
		var refused *events.Error
		if !errors.As(err, &refused) || refused.Code != test.code || !strings.Contains(refused.Message, test.word) {
			t.Errorf("%s %s: %v, want %s with %q", test.verb, test.body, err, test.code, test.word)
		}
	}
	if _, err := c.Query(t.Context(), "acme", "proof.get", nil); err == nil || !strings.Contains(err.Error(), "keyledger.query._.proof.get") {
		t.Errorf("an account's own: %v", err)
	}
}

// signedDir is a data directory at rest with several stored checkpoints.
func signedDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"acme", "beta", "gamma"} {
		c, stop := serve(t, dir)
		if _, err := c.OpenAccount(t.Context(), name, ledger.OpenAccount{Name: name}); err != nil {
			t.Fatal(err)
		}
		stop()
	}
	return dir
}

func verifyDir(dir string) (*Verification, error) {
	return Verify(context.Background(), Config{DataDir: dir}, func(*store.Commit) error { return nil })
}

// storeCheckpoint stores a checkpoint that change makes out of the newest.
func storeCheckpoint(t *testing.T, dir string, change func(*proof.Checkpoint)) {
	t.Helper()
	s := &Server{cfg: Config{DataDir: dir}.withDefaults()}
	var err error
	if s.dir, err = openDataDir(dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.openStore(); err != nil {
		t.Fatal(err)
	}
	if err := s.openCheckpointKey(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	stream, err := s.js.Stream(t.Context(), store.StreamCheckpoints(0))
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(t.Context(), stream.CachedInfo().State.LastSeq)
	if err != nil {
		t.Fatal(err)
	}
	c, err := proof.OpenCheckpoint(msg.Data, s.checkpointKey.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	change(c)
	note, err := s.checkpointKey.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.js.Publish(t.Context(), store.SubjectCheckpoints(0), note); err != nil {
		t.Fatal(err)
	}
}

// A signed checkpoint that the log does not contain: a start refuses, and says which.
func TestSignedCheckpointIsAWitness(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*proof.Checkpoint)
		word   string
	}{
		"log is shorter": {func(c *proof.Checkpoint) { c.Size += 2 }, "signed checkpoint 4 saw commit 0:8, the log ends at 6"},
		"another hash":   {func(c *proof.Checkpoint) { c.Hash[0] ^= 1 }, "signed checkpoint 4 saw commit 0:6 with hash"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := signedDir(t)
			storeCheckpoint(t, dir, test.change)
			refuses(t, dir, test.word, "restore the newest intact copy")
		})
	}
}

// Verify compares every stored checkpoint with the log, its root too.
func TestVerifyChecksEveryCheckpoint(t *testing.T) {
	dir := signedDir(t)
	found, err := verifyDir(dir)
	if err != nil || found.Checkpoints != 3 || found.Witnesses[len(found.Witnesses)-1] == "" || !strings.Contains(strings.Join(found.Witnesses, ","), "signed checkpoint 3") {
		t.Fatalf("%+v, %v", found, err)
	}
	block := filepath.Join((&dataDir{path: dir}).streamsDir(), store.StreamCheckpoints(0), "msgs", "1.blk")
	whole, err := os.ReadFile(block)
	if err != nil {
		t.Fatal(err)
	}
	// Not the newest: a start does not look at it.
	changed := bytes.Replace(whole, []byte("epoch 2\n"), []byte("epoch 3\n"), 1)
	if err := os.WriteFile(block, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = verifyDir(dir)
	wantError(t, err, "message 2 of stream KEYLEDGER_CHECKPOINTS_0 cannot be used", "the signature of the checkpoint is not of its text")
	if err := os.WriteFile(block, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	storeCheckpoint(t, dir, func(c *proof.Checkpoint) { c.Root[0] ^= 1 })
	_, err = verifyDir(dir)
	if !errors.Is(err, ErrLoss) {
		t.Errorf("another root is no loss: %v", err)
	}
	wantError(t, err, "signed checkpoint 4 saw commit 0:6 with hash", "and root")
}

// The key is made once, is what the environment says where it says one, and is not made
// anew where it is lost.
func TestCheckpointKey(t *testing.T) {
	dir := signedDir(t)
	path := filepath.Join(dir, fileCheckpointKey)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	another := strings.Repeat("01", 32)
	open := func(key string) error {
		s, err := Open(Config{DataDir: dir, Listen: "127.0.0.1:0", HTTP: "off", CheckpointKey: key})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	wantError(t, open(another), "hold different keys")
	wantError(t, open("short"), "read checkpoint key from KEYLEDGER_CHECKPOINT_KEY", "32 bytes")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantError(t, open(""), "checkpoint.key is missing", "restore the file from its backup", "KEYLEDGER_CHECKPOINT_KEY")
	_, err = verifyDir(dir)
	wantError(t, err, "checkpoint.key is missing")
	if err := open(string(text)); err != nil {
		t.Errorf("with the key in the environment: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the key of the environment was written down: %v", err)
	}
	if err := os.WriteFile(path, []byte(another), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, dir, "the newest signed checkpoint cannot be used", "restore checkpoint.key")
	// What the words say helps: another key, and a history that begins anew.
	if err := os.RemoveAll(filepath.Join((&dataDir{path: dir}).streamsDir(), store.StreamCheckpoints(0))); err != nil {
		t.Fatal(err)
	}
	c, stop := serve(t, dir)
	defer stop()
	if newest, err := askedOwn[SignedCheckpoint](t, c, "checkpoint.get", `{}`); err != nil || newest.Checkpoint.Size < 6 {
		t.Errorf("%+v, %v", newest, err)
	}
}

// A ledger from before there were checkpoints gets them at its next start.
func TestOldLedgerIsSigned(t *testing.T) {
	dir := signedDir(t)
	for _, name := range []string{fileCheckpointKey, dirProof, filepath.Join("nats", "jetstream", natsAccountStore, "streams", store.StreamCheckpoints(0))} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := verifyDir(dir); err != nil {
		t.Fatal(err)
	}
	c, stop := serve(t, dir)
	defer stop()
	if newest, err := askedOwn[SignedCheckpoint](t, c, "checkpoint.get", `{}`); err != nil || newest.Checkpoint.Size != 7 {
		t.Errorf("%+v, %v", newest, err)
	}
	// The first ones may have been signed while the hashes were still being made.
	if _, err := askedOwn[ProofFile](t, c, "proof.get", `{"position":"0:2"}`); err != nil {
		t.Error(err)
	}
	js, err := jetstream.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Stream(t.Context(), store.StreamCheckpoints(0)); err != nil {
		t.Errorf("the history cannot be read by the operator: %v", err)
	}
}
