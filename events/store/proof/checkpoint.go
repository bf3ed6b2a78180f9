package proof

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// NoteBytesMax is the largest signed checkpoint that is read: room for our signature and
// many of others.
const NoteBytesMax = 64 << 10

// Checkpoint is what is signed: the first Size commits of a partition. Hash, Time and
// Epoch are those of the newest of them, so whoever has it can check them; nothing in a
// checkpoint says when it was signed, and two of the same size are the same.
type Checkpoint struct {
	Origin string      `json:"origin"`
	Size   uint64      `json:"size"` // commits: the sequence of the newest
	Root   tlog.Hash   `json:"root"` // base64
	Hash   store.Hash  `json:"hash"` // the chain's head
	Time   events.Time `json:"time"`
	Epoch  uint64      `json:"epoch"`
}

// NewCheckpoint is the checkpoint of a tree whose newest commit is the end of chain.
func NewCheckpoint(origin string, chain *store.Chain, root tlog.Hash) *Checkpoint {
	return &Checkpoint{Origin: origin, Size: chain.Sequence, Root: root, Hash: chain.Hash, Time: chain.Time, Epoch: chain.Epoch}
}

// Position is the newest commit's.
func (c *Checkpoint) Position() events.Position {
	partition, _ := partitionOf(c.Origin)
	return events.Position{Partition: partition, Sequence: c.Size, Index: events.NoIndex}
}

// Text is the text that is signed (C2SP tlog-checkpoint): origin, size, root, and three
// extension lines.
func (c *Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\nhash %s\ntime %s\nepoch %d\n", c.Origin, c.Size, c.Root, c.Hash, c.Time, c.Epoch)
}

// parseCheckpoint reads a text in the only form in which Text writes it.
func parseCheckpoint(text string) (*Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 7 {
		return nil, errors.New("it is not of six lines: origin, size, root, hash, time, epoch")
	}
	c := &Checkpoint{Origin: lines[0]}
	var errs [5]error
	c.Size, errs[0] = strconv.ParseUint(lines[1], 10, 64)
	c.Root, errs[1] = parseRoot(lines[2])
	errs[2] = c.Hash.UnmarshalText([]byte(strings.TrimPrefix(lines[3], "hash ")))
	c.Time, errs[3] = events.ParseTime(strings.TrimPrefix(lines[4], "time "))
	c.Epoch, errs[4] = strconv.ParseUint(strings.TrimPrefix(lines[5], "epoch "), 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if _, ok := partitionOf(c.Origin); !ok {
		return nil, fmt.Errorf("%q is no origin of a keyledger", c.Origin)
	}
	if c.Size == 0 || c.Size > SizeMax {
		return nil, fmt.Errorf("%d commits are no log", c.Size)
	}
	if c.Text() != text {
		return nil, errors.New("it is not written as keyledger writes it")
	}
	return c, nil
}

func parseRoot(text string) (tlog.Hash, error) {
	b, err := decode64(text)
	if err == nil && len(b) != tlog.HashSize {
		err = fmt.Errorf("a hash of %d bytes", len(b))
	}
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("read a hash: %w", err)
	}
	return tlog.Hash(b), nil
}

// OpenCheckpoint verifies a signed checkpoint and reads it. Signatures of others beside
// that of v are not looked at. What does not hold is a *Refusal.
func OpenCheckpoint(signed []byte, v note.Verifier) (*Checkpoint, error) {
	if len(signed) > NoteBytesMax {
		return nil, refuse(0, 0, "the checkpoint has %d bytes, at most %d are read", len(signed), NoteBytesMax)
	}
	opened, err := note.Open(signed, note.VerifierList(v))
	var other *note.UnverifiedNoteError
	var forged *note.InvalidSignatureError
	switch {
	case errors.As(err, &forged):
		return nil, refuse(0, 0, "the signature of the checkpoint is not of its text: one of the two was changed")
	case errors.As(err, &other):
		return nil, refuse(0, 0, "the checkpoint is signed by %s, not by the key %s", signers(other.Note), keyName(v.Name(), v.KeyHash()))
	case err != nil:
		return nil, refuse(0, 0, "the checkpoint is no signed note: %v", err)
	}
	for _, s := range append(opened.Sigs, opened.UnverifiedSigs...) {
		if _, err := decode64(s.Base64); err != nil {
			return nil, refuse(0, 0, "the signature by %s was changed: %v", keyName(s.Name, s.Hash), err)
		}
	}
	c, err := parseCheckpoint(opened.Text)
	if err != nil {
		return nil, refuse(0, 0, "the checkpoint's text: %v", err)
	}
	if c.Origin != v.Name() {
		return nil, refuse(0, 0, "the checkpoint is of %s, and the key of %s", c.Origin, v.Name())
	}
	return c, nil
}

// ReadCheckpoint reads a signed checkpoint without verifying who signed it, and names the
// key that says it did, as <origin>+<key id>. What cannot be read is a *Refusal.
func ReadCheckpoint(signed []byte) (c *Checkpoint, key string, err error) {
	if len(signed) > NoteBytesMax {
		return nil, "", refuse(0, 0, "the checkpoint has %d bytes, at most %d are read", len(signed), NoteBytesMax)
	}
	_, err = note.Open(signed, note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return nil, "", refuse(0, 0, "the checkpoint is no signed note: %v", err)
	}
	if c, err = parseCheckpoint(unverified.Note.Text); err != nil {
		return nil, "", refuse(0, 0, "the checkpoint's text: %v", err)
	}
	for _, s := range unverified.Note.UnverifiedSigs {
		if s.Name == c.Origin {
			return c, keyName(s.Name, s.Hash), nil
		}
	}
	return nil, "", refuse(0, 0, "the checkpoint is not signed by a key of %s", c.Origin)
}

// SignedBy reports whether a note that OpenCheckpoint refused may be one by v's key that was
// damaged: it is false where the note is whole and signed by other keys alone.
func SignedBy(signed []byte, v note.Verifier) bool {
	_, err := note.Open(signed, note.VerifierList(v))
	var other *note.UnverifiedNoteError
	return !errors.As(err, &other)
}

func signers(n *note.Note) string {
	var names []string
	for _, s := range n.UnverifiedSigs {
		names = append(names, keyName(s.Name, s.Hash))
	}
	return strings.Join(names, ", ")
}

func keyName(name string, id uint32) string { return fmt.Sprintf("%s+%08x", name, id) }

// IsCheckpoint reports whether a file looks like a signed checkpoint by itself.
func IsCheckpoint(file []byte) bool {
	return bytes.HasPrefix(file, []byte(originPrefix))
}

// Refusal says why something proves nothing.
type Refusal struct {
	Position events.Position // of the commit in question; sequence 0: not known
	Reason   string
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Position.Sequence == 0 {
		return "refused: " + r.Reason
	}
	return fmt.Sprintf("refused at %s: %s", r.Position, r.Reason)
}

func refuse(partition uint32, sequence uint64, format string, args ...any) error {
	return &Refusal{
		Position: events.Position{Partition: partition, Sequence: sequence, Index: events.NoIndex},
		Reason:   fmt.Sprintf(format, args...),
	}
}
