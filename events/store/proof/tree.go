// Package proof lets somebody outside check the log without this program and without a
// server: a Merkle tree over the commits (RFC 6962), signed checkpoints of it (C2SP
// tlog-checkpoint and signed-note) and files that prove that a commit is in the log, or
// that a later log begins with an earlier one.
//
// There is one leaf a commit. The leaf's data is the commit's hash, the SHA-256 with which
// its stored form ends and which the next commit names: it stands for every byte of the
// commit, it is there without reading the log again, and whoever has the hashes that
// audit replay --raw prints can make the whole tree. So the hash of a leaf is
// SHA-256(0x00, commit hash), that of a node SHA-256(0x01, left, right), and the leaf of
// commit 0:1 has index 0.
package proof

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyledger/keyledger/events/store"
)

const (
	// flushBytes of hashes are held before they are written to the file.
	flushBytes = 64 << 10
	// SizeMax is the largest tree, in commits: one more than JSON can count exactly is
	// no log of ours.
	SizeMax = 1<<53 - 1
)

// Tree is the Merkle tree of a partition's commits. Its right edge, from which the root
// comes, is in memory and made from leaves alone. All complete nodes lie in a file, 32
// bytes each and twice as many as there are commits, in the order of tlog.StoredHashIndex;
// only proofs read it. The file is derived: where it is missing, short or does not have
// a signed root, the tree is made again from the log.
type Tree struct {
	file *os.File

	mu      sync.Mutex // guards all below
	edge    Edge
	written int64  // bytes of the file that count
	pending []byte // hashes that come behind them
}

// Edge is the right edge of a Merkle tree: all that its root and what comes behind it need
// of what was added. The zero Edge is the empty tree.
type Edge struct {
	size  uint64      // leaves
	trees []tlog.Hash // by level, where size has that bit: the root of that complete tree
}

// Append adds the next commit.
func (e *Edge) Append(commit store.Hash) { e.add(commit, nil) }

// add adds the next commit and appends the nodes that are complete with it to b: its leaf,
// then upwards.
func (e *Edge) add(commit store.Hash, b []byte) []byte {
	hash := leaf(commit)
	b = append(b, hash[:]...)
	level := 0
	for ; e.size>>level&1 == 1; level++ {
		hash = tlog.NodeHash(e.trees[level], hash)
		b = append(b, hash[:]...)
	}
	if level == len(e.trees) {
		e.trees = append(e.trees, hash)
	}
	e.trees[level] = hash
	e.size++
	return b
}

// Root is the root (RFC 6962, 2.1): the complete trees from right to left.
func (e *Edge) Root() tlog.Hash {
	root, any := tlog.Hash{}, false
	for level, hash := range e.trees {
		switch {
		case e.size>>level&1 == 0:
		case any:
			root = tlog.NodeHash(hash, root)
		default:
			root, any = hash, true
		}
	}
	return root
}

func leaf(commit store.Hash) tlog.Hash { return tlog.RecordHash(commit[:]) }

// OpenTree opens the file, and makes it and its directory where they are missing. The
// tree is empty until Adopt takes over what the file holds.
func OpenTree(path string) (*Tree, error) {
	// If we stop anywhere in here: an empty file or none, which the next start makes.
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("open the hashes: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the hashes: %w", err)
	}
	return &Tree{file: file}, nil
}

// Close closes the file. What was not synced may be lost.
func (t *Tree) Close() error { return t.file.Close() }

// Reset empties the tree and the file.
func (t *Tree) Reset() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cut(Edge{})
}

// Adopt takes over the first size leaves of the file and cuts off what is behind them. It
// says no, and leaves the tree as it was, where the file is shorter or has another root
// there. It reads one hash a level: nodes that only proofs of old commits need are not
// looked at, for which every proof is checked before it is given out.
func (t *Tree) Adopt(size uint64, root tlog.Hash) (bool, error) {
	if size == 0 || size > SizeMax {
		return false, nil
	}
	edge := Edge{size: size}
	for level := 0; size>>level > 0; level++ {
		var hash tlog.Hash
		if size>>level&1 == 1 {
			at := tlog.StoredHashIndex(level, int64(size>>level-1)) * tlog.HashSize
			_, err := t.file.ReadAt(hash[:], at)
			if errors.Is(err, io.EOF) {
				return false, nil
			}
			if err != nil {
				return false, fmt.Errorf("read the hashes: %w", err)
			}
		}
		edge.trees = append(edge.trees, hash)
	}
	if edge.Root() != root {
		return false, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return true, t.cut(edge)
}

// cut makes the tree one of which the file has all nodes. t.mu is held.
func (t *Tree) cut(edge Edge) error {
	bytes := tlog.StoredHashCount(int64(edge.size)) * tlog.HashSize
	// If we stop before or in here: what is behind the signed size is cut off, or not,
	// and the next start comes here again.
	if err := t.file.Truncate(bytes); err != nil {
		return fmt.Errorf("cut the hashes: %w", err)
	}
	t.edge, t.written, t.pending = edge, bytes, t.pending[:0]
	return nil
}

// Append adds the next commit. After an error it was not added.
func (t *Tree) Append(commit store.Hash) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) >= flushBytes {
		if err := t.flush(); err != nil {
			return err
		}
	}
	t.pending = t.edge.add(commit, t.pending)
	return nil
}

// flush writes what is pending. t.mu is held.
func (t *Tree) flush() error {
	// If we stop in here: more, or half, is in the file than counts. The next start goes on
	// from a signed size and cuts the rest off.
	if _, err := t.file.WriteAt(t.pending, t.written); err != nil {
		return fmt.Errorf("write the hashes: %w", err)
	}
	t.written += int64(len(t.pending))
	t.pending = t.pending[:0]
	return nil
}

// Sync makes all that was appended durable.
func (t *Tree) Sync() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.flush(); err != nil {
		return err
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("sync the hashes: %w", err)
	}
	return nil
}

// Head returns how many commits the tree has and its root. It does not read the file.
func (t *Tree) Head() (size uint64, root tlog.Hash) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.edge.size, t.edge.Root()
}

// Inclusion proves that the tree of the first size commits has the commit at an index.
func (t *Tree) Inclusion(size, index uint64) (tlog.RecordProof, error) {
	if err := t.has(size); err != nil {
		return nil, err
	}
	if index >= size {
		return nil, fmt.Errorf("prove commit %d of a tree of %d", index, size)
	}
	return tlog.ProveRecord(int64(size), int64(index), tlog.HashReaderFunc(t.read))
}

// Consistency proves that the tree of the first size commits begins with that of the
// first old ones.
func (t *Tree) Consistency(size, old uint64) (tlog.TreeProof, error) {
	if err := t.has(size); err != nil {
		return nil, err
	}
	if old == 0 || old > size {
		return nil, fmt.Errorf("prove that a tree of %d begins with one of %d", size, old)
	}
	return tlog.ProveTree(int64(size), int64(old), tlog.HashReaderFunc(t.read))
}

// RootAt is the root of the first size commits, by the file.
func (t *Tree) RootAt(size uint64) (tlog.Hash, error) {
	if err := t.has(size); err != nil {
		return tlog.Hash{}, err
	}
	return tlog.TreeHash(int64(size), tlog.HashReaderFunc(t.read))
}

// ErrShort means that the tree is being made and has not so many commits yet.
var ErrShort = errors.New("the tree is being made again from the log and has not come that far")

func (t *Tree) has(size uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if size == 0 || size > t.edge.size {
		return fmt.Errorf("%w: %d of %d commits", ErrShort, t.edge.size, size)
	}
	return nil
}

// read returns stored hashes.
func (t *Tree) read(indexes []int64) ([]tlog.Hash, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		at := index * tlog.HashSize
		if at >= t.written {
			if at -= t.written; at >= int64(len(t.pending)) {
				return nil, ErrShort
			}
			copy(hashes[i][:], t.pending[at:])
			continue
		}
		if _, err := t.file.ReadAt(hashes[i][:], at); err != nil {
			return nil, fmt.Errorf("read the hashes: %w", err)
		}
	}
	return hashes, nil
}
