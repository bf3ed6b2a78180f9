package proof_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/oklog/ulid/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
)

// origin is that of the tests' ledger.
const origin = "keyledger/01K6Z5T0XKQ4R7N2M3V6W9Y1AB/0"

// seed is that of the tests' key: RFC 8032, 7.1, test 1.
var seed = [proof.SeedBytes]byte{
	0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
	0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
}

func newKey(t testing.TB) *proof.Key {
	t.Helper()
	key, err := proof.NewKey(seed, origin)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// world is a log of n commits with its tree.
type world struct {
	t        testing.TB
	key      *proof.Key
	tree     *proof.Tree
	path     string
	commits  []*store.Commit
	messages [][]byte
	notes    map[int][]byte // by size
}

func newWorld(t testing.TB, n int) *world {
	t.Helper()
	w := &world{t: t, key: newKey(t), notes: map[int][]byte{}, path: filepath.Join(t.TempDir(), "proof", "hashes")}
	w.tree = w.open()
	for range n {
		w.commit()
	}
	return w
}

// open opens the tree's file anew.
func (w *world) open() *proof.Tree {
	w.t.Helper()
	tree, err := proof.OpenTree(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { tree.Close() })
	return tree
}

// commit adds one: an epoch started, then an account in each.
func (w *world) commit() {
	w.t.Helper()
	n := len(w.commits)
	c := &store.Commit{Epoch: 1, Writer: ulid.ULID{15: 1}, Time: events.Time(1_800_000_000_000 + 1000*n), PrevSequence: uint64(n)}
	binary.BigEndian.PutUint64(c.Nonce[8:], uint64(n+1))
	if n > 0 {
		before := w.commits[n-1]
		c.PrevHash, c.Ordinal = before.Hash, before.End()
		c.Entries = []store.Entry{{
			CommandID: ulid.ULID{15: byte(n)}, Receipt: true, Command: "account.open", Account: "acme", Actor: "operator", Outcome: events.OK,
			Events: []events.Event{{Type: "account.opened", Account: "acme", Data: &events.Account{ID: "acme", Name: "Acme", Status: events.Active, CreatedAt: c.Time}}},
		}}
	}
	var entries []byte
	for i := range c.Entries {
		entries = store.AppendEntry(entries, &c.Entries[i])
	}
	w.messages = append(w.messages, c.Encode(entries))
	w.commits = append(w.commits, c)
	if err := w.tree.Append(c.Hash); err != nil {
		w.t.Fatal(err)
	}
}

// checkpoint is that of the first n commits; the root is made without the tree.
func (w *world) checkpoint(n int) *proof.Checkpoint {
	chain := store.ChainAt(w.commits[n-1])
	return proof.NewCheckpoint(origin, &chain, w.root(n))
}

func (w *world) signed(n int) []byte {
	w.t.Helper()
	if w.notes[n] == nil {
		var err error
		if w.notes[n], err = w.key.Sign(w.checkpoint(n)); err != nil {
			w.t.Fatal(err)
		}
	}
	return bytes.Clone(w.notes[n])
}

func (w *world) inclusion(size, index int) *proof.Inclusion {
	w.t.Helper()
	hashes, err := w.tree.Inclusion(uint64(size), uint64(index))
	if err != nil {
		w.t.Fatal(err)
	}
	return &proof.Inclusion{Commit: w.messages[index], Index: uint64(index), Hashes: hashes, Signed: w.signed(size)}
}

func (w *world) consistency(size, old int) *proof.Consistency {
	w.t.Helper()
	hashes, err := w.tree.Consistency(uint64(size), uint64(old))
	if err != nil {
		w.t.Fatal(err)
	}
	return &proof.Consistency{Hashes: hashes, Old: w.signed(old), New: w.signed(size)}
}

// root is RFC 6962, 2.1, word for word, and shares no code with the tree.
func (w *world) root(n int) tlog.Hash {
	leaves := make([][]byte, n)
	for i := range leaves {
		sum := sha256.Sum256(w.messages[i][:len(w.messages[i])-32])
		leaves[i] = sum[:]
	}
	return tlog.Hash(merkle(leaves))
}

func merkle(d [][]byte) []byte {
	if len(d) == 1 {
		sum := sha256.Sum256(append([]byte{0}, d[0]...))
		return sum[:]
	}
	k := 1
	for 2*k < len(d) {
		k *= 2
	}
	sum := sha256.Sum256(append(append([]byte{1}, merkle(d[:k])...), merkle(d[k:])...))
	return sum[:]
}
