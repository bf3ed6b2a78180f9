package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
	"github.com/keyledger/keyledger/ledger/writer"
)

// fileRestored marks a data directory that was made of an export, for ever. The ledger that
// was exported may have gone on, and signed what this log lacks. Whoever signed another log
// with its key would show two histories under one published key. Names are stored: for ever.
const fileRestored = "restored.json"

// restored is what stands in it, and which key may sign: the one that this ledger made, or
// the one that signed Known.
type restored struct {
	// Exported is the newest signed checkpoint in the export, "" for none.
	Exported string `json:"exported"`
	// Known is the newest that the operator knows of the old key, which goes on signing. The
	// log has it. "" : the old key must not sign again.
	Known string `json:"known"`
	// Key is the public key of the key that was made here, "" while there is none.
	Key string `json:"key"`
}

// restored reads fileRestored; nil: the directory was not made of an export.
func (d *dataDir) restored() (*restored, error) {
	path := filepath.Join(d.path, fileRestored)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was restored: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4*proof.NoteBytesMax))
	if err != nil {
		return nil, fmt.Errorf("read what was restored: %w", err)
	}
	r := &restored{}
	if err := events.DecodeStrict(text, r); err != nil {
		return nil, fmt.Errorf("read %s: %w; restore it from its backup: it says which key may sign this log", path, err)
	}
	return r, nil
}

// note writes r down.
func (r *restored) note(d *dataDir) error {
	text, err := events.Encode(r)
	if err != nil {
		return err
	}
	if err := writeSecret(filepath.Join(d.path, fileRestored), string(text)); err != nil {
		return fmt.Errorf("note what was restored: %w", err)
	}
	return nil
}

// allows reports whether a key may sign a restored log.
func (r *restored) allows(key *proof.Key) bool {
	if r.Known != "" {
		_, err := proof.OpenCheckpoint([]byte(r.Known), key.Verifier())
		return err == nil
	}
	return key.Public() == r.Key
}

// mayMake says why no new key is made, nil where one is.
func (r *restored) mayMake(d *dataDir) error {
	if r.Known == "" {
		return nil
	}
	_, key, err := proof.ReadCheckpoint([]byte(r.Known))
	if err != nil {
		return err
	}
	return fmt.Errorf("checkpoint key %s is missing: this ledger was restored with a checkpoint of that key, which signs on: put it into %s, or give it in %s; to sign with a new key, which has to be published, run restore without --checkpoint",
		key, filepath.Join(d.path, fileCheckpointKey), envCheckpointKey)
}

// refused says what to do about a key that may not sign.
func (r *restored) refused(d *dataDir, key *proof.Key) error {
	where := filepath.Join(d.path, fileCheckpointKey)
	if _, err := os.Lstat(where); err != nil {
		where = envCheckpointKey
	}
	if r.Known != "" {
		return fmt.Errorf("checkpoint key %s in %s did not sign the checkpoint that this ledger was restored with: give the key that did", keyID(key), where)
	}
	return fmt.Errorf("checkpoint key %s in %s may not sign this ledger, which was restored from an export: the one that was exported may have gone on, and with this key have signed what is not in this log. "+
		"Take the key away, and the next start makes a new one, which has to be published; or run restore again with --checkpoint FILE, the newest checkpoint that this key has signed", keyID(key), where)
}

// keyID names a key in words: <origin>+<key id>.
func keyID(key *proof.Key) string {
	return fmt.Sprintf("%s+%08x", key.Verifier().Name(), key.Verifier().KeyHash())
}

// restoredWitnesses is what the checkpoints saw with which the ledger was restored.
func (s *Server) restoredWitnesses() ([]writer.Witness, error) {
	r, err := s.dir.restored()
	if r == nil || err != nil {
		return nil, err
	}
	var list []writer.Witness
	for _, w := range [][2]string{{"signed checkpoint of the export", r.Exported}, {"signed checkpoint given to restore", r.Known}} {
		if w[1] == "" {
			continue
		}
		c, _, err := proof.ReadCheckpoint([]byte(w[1]))
		if err != nil {
			return nil, fmt.Errorf("read %s: %s: %w; restore the file from its backup", filepath.Join(s.dir.path, fileRestored), w[0], err)
		}
		list = append(list, writer.Witness{Name: w[0], Sequence: c.Size, Hash: &c.Hash})
	}
	return list, nil
}

// claim is a checkpoint that a log must contain.
type claim struct {
	name string // of it in words
	*proof.Checkpoint
}

// claims compares checkpoints with a log as it is read.
type claims struct {
	edge proof.Edge
	left []claim
}

// claim adds a checkpoint, before the first commit.
func (l *claims) claim(name string, c *proof.Checkpoint) { l.left = append(l.left, claim{name, c}) }

// add takes the next commit. The error names the checkpoint that is of another log.
func (l *claims) add(c *store.Commit) error {
	if len(l.left) == 0 {
		return nil
	}
	l.edge.Append(c.Hash)
	chain := store.ChainAt(c)
	var left []claim
	for _, next := range l.left {
		if next.Size != c.Sequence {
			left = append(left, next)
			continue
		}
		if want := proof.NewCheckpoint(next.Origin, &chain, l.edge.Root()); *next.Checkpoint != *want {
			return fmt.Errorf("%s, of %s with hash %s and root %s, is not of this log, which has %s and %s there", next.name, next.Position(), next.Hash, next.Root, want.Hash, want.Root)
		}
	}
	l.left = left
	return nil
}

// end says what the log, which ends at end, does not reach.
func (l *claims) end(end store.Chain) error {
	if len(l.left) == 0 {
		return nil
	}
	return fmt.Errorf("%s is of %s, and the log ends at %s", l.left[0].name, l.left[0].Position(), end.Position())
}

// ofExport adds the signed checkpoint of an export of ledger, if there is one.
func (l *claims) ofExport(ledger string, signed []byte) error {
	if signed == nil {
		return nil
	}
	c, _, err := readOwn(ledger, signed)
	if err != nil {
		return fmt.Errorf("the signed checkpoint of the export: %w", err)
	}
	l.claim("the signed checkpoint of the export", c)
	return nil
}

// readOwn reads a checkpoint that must be of a ledger. Who signed it is not verified.
func readOwn(ledger string, signed []byte) (*proof.Checkpoint, string, error) {
	c, key, err := proof.ReadCheckpoint(signed)
	if err != nil {
		return nil, "", err
	}
	if want := proof.Origin(ledger, partition); c.Origin != want {
		return nil, "", fmt.Errorf("it is of %s, and the ledger is %s", c.Origin, want)
	}
	return c, key, nil
}
