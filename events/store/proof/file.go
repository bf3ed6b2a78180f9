package proof

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyledger/keyledger/events/store"
)

// Limits of a proof's file.
const (
	// FileBytesMax is the largest one that is read: the largest commit in base64, two
	// checkpoints and the hashes.
	FileBytesMax = store.MaxCommitBytes*4/3 + 2*NoteBytesMax + 64<<10
	// hashesMax is one a level, and one more for a proof of consistency.
	hashesMax = 64
)

// First lines of a proof's file: its kind and version.
const (
	inclusionKind   = "c2sp.org/tlog-proof@v1"
	consistencyKind = "keyledger.dev/tlog-consistency@v1"
)

// Inclusion proves that a commit is in the log. Its file is a C2SP tlog-proof whose extra
// data is the commit:
//
//	c2sp.org/tlog-proof@v1
//	extra <the commit as it is stored, in base64>
//	index <its sequence, less one>
//	<one hash a line, in base64, from the leaf's sibling to the child of the root>
//
//	<the signed checkpoint>
type Inclusion struct {
	Commit []byte // as it is stored
	Index  uint64
	Hashes tlog.RecordProof
	Signed []byte // the checkpoint
}

// Consistency proves that a log of a later checkpoint begins with that of an earlier one:
// nothing was taken out or changed in between. Its file has the same parts:
//
//	keyledger.dev/tlog-consistency@v1
//	<one hash a line, in base64, as RFC 6962, 2.1.2 orders them>
//
//	<the old signed checkpoint>
//
//	<the new signed checkpoint>
type Consistency struct {
	Hashes   tlog.TreeProof
	Old, New []byte // the signed checkpoints
}

// Encode writes the file.
func (p *Inclusion) Encode() []byte {
	b := fmt.Appendf(nil, "%s\nextra %s\nindex %d\n", inclusionKind, base64.StdEncoding.EncodeToString(p.Commit), p.Index)
	b = appendHashes(b, p.Hashes)
	return append(append(b, '\n'), p.Signed...)
}

// Encode writes the file.
func (p *Consistency) Encode() []byte {
	b := appendHashes([]byte(consistencyKind+"\n"), p.Hashes)
	b = append(append(b, '\n'), p.Old...)
	return append(append(b, '\n'), p.New...)
}

func appendHashes(b []byte, hashes []tlog.Hash) []byte {
	for _, hash := range hashes {
		b = append(append(b, hash.String()...), '\n')
	}
	return b
}

// Decode reads a file: an *Inclusion or a *Consistency. It checks the form alone, which
// has one way to be written. What it refuses is a *Refusal.
func Decode(file []byte) (any, error) {
	if len(file) > FileBytesMax {
		return nil, refuse(0, 0, "the file has %d bytes, more than any proof", len(file))
	}
	first, rest, _ := bytes.Cut(file, []byte("\n"))
	var decoded interface{ Encode() []byte }
	var err error
	switch string(first) {
	case inclusionKind:
		decoded, err = decodeInclusion(rest)
	case consistencyKind:
		decoded, err = decodeConsistency(rest)
	default:
		return nil, refuse(0, 0, "the file is no proof: it must begin with the line %s or %s", inclusionKind, consistencyKind)
	}
	if err != nil {
		return nil, refuse(0, 0, "the proof is not whole: %v", err)
	}
	if !bytes.Equal(decoded.Encode(), file) {
		return nil, refuse(0, 0, "the proof is not written as keyledger writes it")
	}
	return decoded, nil
}

func decodeInclusion(b []byte) (*Inclusion, error) {
	head, signed, ok := strings.Cut(string(b), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 {
		return nil, errors.New("it must have the lines extra and index, and the checkpoint behind an empty line")
	}
	p := &Inclusion{Signed: []byte(signed)}
	extra, ok := strings.CutPrefix(lines[0], "extra ")
	index, isIndex := strings.CutPrefix(lines[1], "index ")
	if !ok || !isIndex {
		return nil, errors.New("its second line must begin with extra and its third with index")
	}
	var err error
	if p.Commit, err = decode64(extra); err != nil {
		return nil, fmt.Errorf("the line extra: %w", err)
	}
	if p.Index, err = strconv.ParseUint(index, 10, 64); err != nil {
		return nil, fmt.Errorf("the line index: %w", err)
	}
	p.Hashes, err = decodeHashes(lines[2:])
	return p, err
}

func decodeConsistency(b []byte) (*Consistency, error) {
	// Hashes, then text and signatures of both checkpoints: an empty line behind each.
	parts := strings.Split(string(b), "\n\n")
	if b, ok := bytes.CutPrefix(b, []byte("\n")); ok { // no hashes: both are of the same size
		parts = append([]string{""}, strings.Split(string(b), "\n\n")...)
	}
	if len(parts) != 5 {
		return nil, errors.New("it must have hashes and two checkpoints, an empty line behind each")
	}
	p := &Consistency{Old: []byte(parts[1] + "\n\n" + parts[2] + "\n"), New: []byte(parts[3] + "\n\n" + parts[4])}
	var lines []string
	if parts[0] != "" {
		lines = strings.Split(parts[0], "\n")
	}
	var err error
	p.Hashes, err = decodeHashes(lines)
	return p, err
}

func decodeHashes(lines []string) ([]tlog.Hash, error) {
	if len(lines) > hashesMax {
		return nil, fmt.Errorf("%d hashes, at most %d can be in a proof", len(lines), hashesMax)
	}
	hashes := make([]tlog.Hash, len(lines))
	for i, line := range lines {
		var err error
		if hashes[i], err = parseRoot(line); err != nil {
			return nil, fmt.Errorf("hash %d: %w", i+1, err)
		}
	}
	return hashes, nil
}

// Check returns the commit and the checkpoint that it is in. It needs nothing but the
// proof and the published key. What does not hold is a *Refusal.
func (p *Inclusion) Check(v note.Verifier) (*store.Commit, *Checkpoint, error) {
	partition, _ := partitionOf(v.Name())
	sequence := p.Index + 1
	c, err := OpenCheckpoint(p.Signed, v)
	if err != nil {
		return nil, nil, err
	}
	if p.Index >= c.Size {
		return nil, nil, refuse(partition, sequence, "the checkpoint ends at %s", c.Position())
	}
	commit, err := store.Decode(p.Commit)
	switch {
	case err != nil:
		return nil, nil, refuse(partition, sequence, "the commit: %v", err)
	case commit.Sequence != sequence || commit.Partition != partition:
		return nil, nil, refuse(partition, sequence, "the commit was written as %d:%d", commit.Partition, commit.Sequence)
	}
	if err := tlog.CheckRecord(p.Hashes, int64(c.Size), c.Root, int64(p.Index), leaf(commit.Hash)); err != nil {
		return nil, nil, refuse(partition, sequence, "the hashes do not lead from the commit to the root that was signed at %s: one of them, or the commit, is not what the log holds", c.Position())
	}
	if sequence == c.Size && (commit.Hash != c.Hash || commit.Time != c.Time || commit.Epoch != c.Epoch) {
		return nil, nil, refuse(partition, sequence, "it is the newest commit of the checkpoint, which says another hash, time or epoch of it")
	}
	return commit, c, nil
}

// Check returns the two checkpoints. What does not hold is a *Refusal.
func (p *Consistency) Check(v note.Verifier) (old, newer *Checkpoint, err error) {
	if old, err = OpenCheckpoint(p.Old, v); err != nil {
		return nil, nil, fmt.Errorf("the old checkpoint: %w", err)
	}
	if newer, err = OpenCheckpoint(p.New, v); err != nil {
		return nil, nil, fmt.Errorf("the new checkpoint: %w", err)
	}
	partition, _ := partitionOf(v.Name())
	if old.Size > newer.Size {
		return nil, nil, refuse(partition, newer.Size, "the old checkpoint has %d commits, more than the new one's %d", old.Size, newer.Size)
	}
	if err := CheckConsistency(p.Hashes, old, newer); err != nil {
		return nil, nil, err
	}
	return old, newer, nil
}

// CheckConsistency checks that the tree of newer begins with that of old.
func CheckConsistency(hashes tlog.TreeProof, old, newer *Checkpoint) error {
	partition, _ := partitionOf(old.Origin)
	if err := tlog.CheckTree(hashes, int64(newer.Size), newer.Root, int64(old.Size), old.Root); err != nil {
		return refuse(partition, old.Size, "the log of the checkpoint at %s does not begin with that of the checkpoint at %s, or the hashes between them are wrong", newer.Position(), old.Position())
	}
	if old.Size == newer.Size && *old != *newer {
		return refuse(partition, old.Size, "two checkpoints of the same size differ: each must have been shown to somebody else")
	}
	if old.Time > newer.Time || old.Epoch > newer.Epoch {
		return refuse(partition, old.Size, "the newer checkpoint, at %s, has an earlier time or epoch", newer.Position())
	}
	return nil
}
