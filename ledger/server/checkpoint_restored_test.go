package server

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
	"github.com/keyledger/keyledger/ledger"
)

// signedLedger is one that was exported, and signed more after that.
type signedLedger struct {
	dir           string
	export        []byte // while it served
	stopped       []byte // when it served no more
	early, newest string // signed checkpoints: before the first export, and the last of all
	seed          string // of its key
	public        string
}

func newSignedLedger(t *testing.T) *signedLedger {
	t.Helper()
	l := &signedLedger{dir: t.TempDir()}
	_, c, stop := serveConfig(t, Config{DataDir: l.dir})
	ask := func(name string) string {
		t.Helper()
		if _, err := c.OpenAccount(t.Context(), name, ledger.OpenAccount{Name: name}); err != nil {
			t.Fatal(err)
		}
		signed, err := askedOwn[SignedCheckpoint](t, c, "checkpoint.get", `{}`)
		if err != nil {
			t.Fatal(err)
		}
		l.public = signed.Key
		return signed.Signed
	}
	l.early = ask("acme")
	ask("beta")
	js, err := jetstream.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if _, err := Export(t.Context(), js, &file, ExportConfig{}); err != nil {
		t.Fatal(err)
	}
	l.export = file.Bytes()
	ask("gamma")
	stop()
	file = bytes.Buffer{}
	found, err := ExportDir(t.Context(), Config{DataDir: l.dir}, &file, ExportConfig{})
	if err != nil || found.Signed == "" {
		t.Fatalf("%+v, %v", found, err)
	}
	l.stopped, l.newest = file.Bytes(), found.Signed
	if l.seed, err = readSecret(filepath.Join(l.dir, fileCheckpointKey)); err != nil {
		t.Fatal(err)
	}
	return l
}

// restore makes a directory of an export.
func (l *signedLedger) restore(t *testing.T, export []byte, known string) (dir string, err error) {
	t.Helper()
	dir = t.TempDir()
	_, err = Restore(t.Context(), bytes.NewReader(export), RestoreConfig{
		DataDir: dir, SealKeyFile: filepath.Join(l.dir, fileSealKey), Checkpoint: []byte(known),
	})
	return dir, err
}

// mustRestore is restore that must work.
func (l *signedLedger) mustRestore(t *testing.T, export []byte, known string) string {
	t.Helper()
	dir, err := l.restore(t, export, known)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// openWith is what a start says with a key in the environment.
func openWith(dir, key string) error {
	s, err := Open(Config{DataDir: dir, Listen: "127.0.0.1:0", HTTP: httpOff, CheckpointKey: key})
	if err == nil {
		err = s.Close()
	}
	return err
}

// signedOnce is the public key with which a served directory signs.
func signedOnce(t *testing.T, cfg Config) string {
	t.Helper()
	_, c, stop := serveConfig(t, cfg)
	defer stop()
	signed, err := askedOwn[SignedCheckpoint](t, c, "checkpoint.get", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	return signed.Key
}

// The key of the ledger that was exported signs no restored one, wherever it comes from,
// and however often it is exported again; a new key does, and the log says so.
func TestOldKeySignsNoRestoredLedger(t *testing.T) {
	l := newSignedLedger(t)
	const refused = "may not sign this ledger, which was restored from an export"
	dir := l.mustRestore(t, l.export, "")
	path := filepath.Join(dir, fileCheckpointKey)
	wantError(t, openWith(dir, l.seed), refused, "in KEYLEDGER_CHECKPOINT_KEY", "restore again with --checkpoint")
	if err := writeSecret(path, l.seed); err != nil {
		t.Fatal(err)
	}
	wantError(t, openWith(dir, ""), refused, path)
	_, err := verifyDir(dir)
	wantError(t, err, refused)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	first := signedOnce(t, Config{DataDir: dir})
	if again := signedOnce(t, Config{DataDir: dir}); first == l.public || first != again {
		t.Errorf("signed by %s, then by %s; the old key was %s", first, again, l.public)
	}
	made, err := readSecret(path)
	if err != nil || os.Remove(path) != nil {
		t.Fatal(err)
	}
	if fromEnv := signedOnce(t, Config{DataDir: dir, CheckpointKey: made}); fromEnv != first {
		t.Errorf("the new key in the environment: signed by %s", fromEnv)
	}
	var file bytes.Buffer
	if _, err := ExportDir(t.Context(), Config{DataDir: dir}, &file, ExportConfig{}); err != nil {
		t.Fatal(err)
	}
	second := l.mustRestore(t, file.Bytes(), "")
	wantError(t, openWith(second, l.seed), refused)
	wantError(t, openWith(second, made), refused)
	// A history that begins anew, as the words of a lost key say.
	if err := os.RemoveAll(filepath.Join((&dataDir{path: dir}).streamsDir(), store.StreamCheckpoints(0))); err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	s, _, stop := serveConfig(t, Config{DataDir: dir, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	third := s.checkpointKey.Public()
	stop()
	if third == first || third == l.public {
		t.Errorf("signed by %s again", third)
	}
	if !strings.Contains(logged.String(), "publish its public key") || !strings.Contains(logged.String(), third) {
		t.Errorf("the log does not name the new key %s:\n%s", third, logged.String())
	}
}

// With the newest checkpoint that the old key signed, which the log has, that key signs on,
// and no other.
func TestOldKeySignsOn(t *testing.T) {
	l := newSignedLedger(t)
	dir := l.mustRestore(t, l.stopped, l.newest)
	wantError(t, openWith(dir, ""), "is missing: this ledger was restored with a checkpoint of that key", "restore without --checkpoint")
	wantError(t, openWith(dir, strings.Repeat("01", 32)), "did not sign the checkpoint that this ledger was restored with")
	if by := signedOnce(t, Config{DataDir: dir, CheckpointKey: l.seed}); by != l.public {
		t.Errorf("signed by %s, want %s", by, l.public)
	}
	_, c, stop := serveConfig(t, Config{DataDir: dir, CheckpointKey: l.seed})
	defer stop()
	old, err := json.Marshal(l.newest)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := askedOwn[ProofFile](t, c, "proof.consistency", `{"old":`+string(old)+`}`); err != nil || p.Key != l.public {
		t.Errorf("what was signed before: %+v, %v", p, err)
	}
}

// A checkpoint that cannot be the newest of the old key, or is of another log, is refused.
func TestRestoreRefusesCheckpoints(t *testing.T) {
	l := newSignedLedger(t)
	key, err := proof.NewKey([proof.SeedBytes]byte{1}, proof.Origin("01J8Z5T0XKQ4R7N2M3V6W9Y1AB", 0))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := key.Sign(&proof.Checkpoint{Origin: key.Verifier().Name(), Size: 2, Time: 1})
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := proof.ReadCheckpoint([]byte(l.newest))
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(l.newest, c.Root.String(), "AAAA"+c.Root.String()[4:], 1)
	for name, test := range map[string]struct {
		export []byte
		known  string
		words  []string
	}{
		"signed after the export": {l.export, l.newest, []string{"it is of " + c.Position().String() + ", and the export ends at", "has signed what would not be in the restored log"}},
		"older than the export's": {l.stopped, l.early, []string{"is not the newest: the export has one of " + c.Position().String()}},
		"another root":            {l.stopped, forged, []string{"the checkpoint that was given, of " + c.Position().String(), "is not of this log"}},
		"of another ledger":       {l.stopped, string(foreign), []string{"it is of " + key.Verifier().Name()}},
		"none":                    {l.stopped, "what", []string{"the checkpoint is no signed note"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := l.restore(t, test.export, test.known)
			wantError(t, err, test.words...)
		})
	}
}

// What an export's signed checkpoint says must be in its log, and so must one that is given.
func TestCheckExportComparesCheckpoints(t *testing.T) {
	l := newSignedLedger(t)
	check := func(file []byte, known *proof.Checkpoint) error {
		_, err := CheckExport(bytes.NewReader(file), known, func(*store.Commit, uint64) error { return nil })
		return err
	}
	newest, _, err := proof.ReadCheckpoint([]byte(l.newest))
	if err != nil {
		t.Fatal(err)
	}
	if err := check(l.stopped, newest); err != nil {
		t.Error(err)
	}
	wantError(t, check(l.export, newest), "the checkpoint that was given is of "+newest.Position().String()+", and the log ends at")
	other := *newest
	other.Root[0] ^= 1
	wantError(t, check(l.stopped, &other), "the checkpoint that was given", "is not of this log")
	// One whose commits were written again, hashes and all, around the same checkpoint.
	var file bytes.Buffer
	header := store.ExportHeader{Ledger: strings.Split(newest.Origin, "/")[1], Partitions: 1, End: 0}
	w, err := store.NewExportWriter(&file, header, store.ExportBeside{Signed: []byte(l.newest)}, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, check(file.Bytes(), nil), "the signed checkpoint of the export is of", "and the log ends at 0:0")
}

// What a restored ledger was restored with stays a witness; where it cannot be read a start
// refuses.
func TestRestoredCheckpointIsAWitness(t *testing.T) {
	l := newSignedLedger(t)
	dir := l.mustRestore(t, l.stopped, "")
	found, err := verifyDir(dir)
	if err != nil || !strings.Contains(strings.Join(found.Witnesses, ","), "signed checkpoint of the export") {
		t.Fatalf("%+v, %v", found, err)
	}
	r, err := (&dataDir{path: dir}).restored()
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := proof.ReadCheckpoint([]byte(r.Exported))
	if err != nil {
		t.Fatal(err)
	}
	other := c.Hash
	other[0] ^= 1
	r.Exported = strings.Replace(r.Exported, c.Hash.String(), other.String(), 1)
	if err := r.note(&dataDir{path: dir}); err != nil {
		t.Fatal(err)
	}
	refuses(t, dir, "signed checkpoint of the export saw commit "+c.Position().String()+" with hash "+other.String())
	if err := os.WriteFile(filepath.Join(dir, fileRestored), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, openWith(dir, ""), fileRestored, "it says which key may sign this log")
}
