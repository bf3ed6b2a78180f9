package proof_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
)

var update = flag.Bool("update", false, "write vectors that are missing; one that is there is never changed")

// check reads a file as audit check does.
func check(file []byte, vkey string) error {
	v, err := proof.ParseVerifier(vkey)
	if err != nil {
		return err
	}
	if proof.IsCheckpoint(file) {
		_, err := proof.OpenCheckpoint(file, v)
		return err
	}
	decoded, err := proof.Decode(file)
	if err != nil {
		return err
	}
	switch p := decoded.(type) {
	case *proof.Inclusion:
		_, _, err = p.Check(v)
	case *proof.Consistency:
		_, _, err = p.Check(v)
	}
	return err
}

// The vectors are published: the files that a fixed key and three commits give, and what
// they are made of.
func TestVectors(t *testing.T) {
	w := newWorld(t, 3)
	for name, got := range map[string][]byte{
		"key":                []byte(w.key.Public() + "\n"),
		"checkpoint":         w.signed(3),
		"tlog-proof":         w.inclusion(3, 1).Encode(),
		"consistency":        w.consistency(3, 2).Encode(),
		"consistency-itself": w.consistency(3, 3).Encode(),
	} {
		path := filepath.Join("testdata", "three."+name)
		want, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && *update {
			want, err = got, os.WriteFile(path, got, 0o644)
		}
		if err != nil {
			t.Fatalf("%v (write it with: go test ./events/store/proof -run TestVectors -update)", err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is now\n%s\nand was\n%s", path, got, want)
		}
		if name != "key" {
			if err := check(want, w.key.Public()); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(w.key.Public()+"\n"+string(w.signed(3)), "\n") {
		if !bytes.Contains(text, []byte(line)) {
			t.Errorf("ARCHITECTURE.md lacks %s", line)
		}
	}
}

// No byte of a file or of the key can be changed, no file cut, and nothing be added.
func TestEveryByteCounts(t *testing.T) {
	w := newWorld(t, 11)
	for name, file := range map[string][]byte{
		"proof": w.inclusion(11, 6).Encode(), "proof of the newest": w.inclusion(11, 10).Encode(), "proof in a tree of one": w.inclusion(1, 0).Encode(),
		"consistency": w.consistency(11, 6).Encode(), "consistency with itself": w.consistency(11, 11).Encode(), "checkpoint": w.signed(11),
	} {
		if err := check(file, w.key.Public()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range file {
			changed := bytes.Clone(file)
			changed[i] ^= []byte{1, 32}[i%2] // another character, or the same in its other case
			refused(t, check(changed, w.key.Public()), "%s with byte %d changed to %q", name, i, changed[i])
			refused(t, check(file[:i], w.key.Public()), "%s cut to %d bytes", name, i)
		}
		for _, more := range []string{"\n", "x", "— " + origin + " AAAA\n"} {
			refused(t, check(append(bytes.Clone(file), more...), w.key.Public()), "%s with %q behind it", name, more)
		}
	}
	for i := range w.key.Public() {
		for _, bit := range []byte{1, 2, 4, 8, 16, 32, 64, 128} {
			changed := []byte(w.key.Public())
			changed[i] ^= bit
			if err := check(w.signed(11), string(changed)); err == nil {
				t.Errorf("taken with the key %s", changed)
			}
		}
	}
}

func refused(t *testing.T, err error, format string, args ...any) {
	t.Helper()
	var refusal *proof.Refusal
	if !errors.As(err, &refusal) {
		t.Errorf(format+": %v, want a refusal", append(args, err)...)
	}
}

// What is well signed and still proves nothing is refused, with a word that says what it
// is and, where it is known, the position.
func TestRefusals(t *testing.T) {
	w := newWorld(t, 11)
	other := newWorld(t, 5)
	other.key, _ = proof.NewKey([proof.SeedBytes]byte{1}, origin)
	resign := func(n int, change func(*proof.Checkpoint)) []byte {
		c := w.checkpoint(n)
		change(c)
		signed, err := w.key.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	inclusion := func(change func(*proof.Inclusion)) []byte {
		p := w.inclusion(11, 6)
		change(p)
		return p.Encode()
	}
	consistency := w.changedConsistency
	for name, test := range map[string]struct {
		file     []byte
		position string
		word     string
	}{
		"not a proof":               {[]byte("hello\n"), "", "the file is no proof"},
		"nothing":                   {nil, "", "the file is no proof"},
		"too large":                 {make([]byte, proof.FileBytesMax+1), "", "more than any proof"},
		"a checkpoint too large":    {[]byte("keyledger/" + strings.Repeat("x", proof.NoteBytesMax)), "", "at most 65536 are read"},
		"another key":               {other.signed(5), "", "is signed by " + origin + "+"},
		"commit of another place":   {inclusion(func(p *proof.Inclusion) { p.Commit = w.messages[7] }), "0:7", "the commit was written as 0:8"},
		"commit of another log":     {inclusion(func(p *proof.Inclusion) { p.Commit = elsewhere(t) }), "0:7", "do not lead from the commit to the root"},
		"damaged commit":            {inclusion(func(p *proof.Inclusion) { p.Commit = bytes.Replace(p.Commit, []byte("acme"), []byte("acne"), 1) }), "0:7", "hash does not match the content"},
		"index past the checkpoint": {inclusion(func(p *proof.Inclusion) { p.Index = 11 }), "0:12", "the checkpoint ends at 0:11"},
		"index past everything":     {inclusion(func(p *proof.Inclusion) { p.Index = 1<<64 - 1 }), "", "the checkpoint ends at 0:11"},
		"a hash less":               {inclusion(func(p *proof.Inclusion) { p.Hashes = p.Hashes[1:] }), "0:7", "do not lead from the commit to the root"},
		"a hash more":               {inclusion(func(p *proof.Inclusion) { p.Hashes = append(p.Hashes, tlog.Hash{}) }), "0:7", "do not lead from the commit to the root"},
		"65 hashes":                 {inclusion(func(p *proof.Inclusion) { p.Hashes = make([]tlog.Hash, 65) }), "", "65 hashes, at most 64"},
		"checkpoint of less":        {inclusion(func(p *proof.Inclusion) { p.Signed = w.signed(3) }), "0:7", "the checkpoint ends at 0:3"},
		"another tree":              {inclusion(func(p *proof.Inclusion) { p.Signed = w.signed(10) }), "0:7", "do not lead from the commit to the root"},
		"a hash of the head that is not its": {
			(&proof.Inclusion{Commit: w.messages[10], Index: 10, Hashes: w.inclusion(11, 10).Hashes, Signed: resign(11, func(c *proof.Checkpoint) { c.Hash[0] ^= 1 })}).Encode(),
			"0:11", "says another hash, time or epoch"},
		"of no commit":      {resign(11, func(c *proof.Checkpoint) { c.Size = 0 }), "", "0 commits are no log"},
		"of too many":       {resign(11, func(c *proof.Checkpoint) { c.Size = proof.SizeMax + 1 }), "", "are no log"},
		"old and new":       {consistency(func(p *proof.Consistency) { p.Old, p.New = p.New, p.Old }), "0:6", "more than the new one's 6"},
		"not the beginning": {consistency(func(p *proof.Consistency) { p.Old = w.signed(5) }), "0:5", "does not begin with that of the checkpoint at 0:5"},
		"another beginning": {consistency(func(p *proof.Consistency) { p.Old = resign(6, func(c *proof.Checkpoint) { c.Root[0] ^= 1 }) }), "0:6", "does not begin with that"},
		"a split view": {(&proof.Consistency{Old: w.signed(11), New: resign(11, func(c *proof.Checkpoint) { c.Time++ })}).Encode(),
			"0:11", "shown to somebody else"},
		"time goes back": {consistency(func(p *proof.Consistency) { p.New = resign(11, func(c *proof.Checkpoint) { c.Time = 1 }) }), "0:6", "earlier time or epoch"},
	} {
		t.Run(name, func(t *testing.T) {
			err := check(test.file, w.key.Public())
			var refusal *proof.Refusal
			if !errors.As(err, &refusal) || !strings.Contains(err.Error(), test.word) {
				t.Fatalf("%v, want %q", err, test.word)
			}
			position := ""
			if refusal.Position.Sequence != 0 {
				position = refusal.Position.String()
			}
			if position != test.position {
				t.Errorf("at %q, want %q", position, test.position)
			}
		})
	}
}

// changedConsistency is the file of a changed proof that 11 commits begin with 6.
func (w *world) changedConsistency(change func(*proof.Consistency)) []byte {
	p := w.consistency(11, 6)
	change(p)
	return p.Encode()
}

// elsewhere is a whole commit 0:7 that is not the world's.
func elsewhere(t *testing.T) []byte {
	c := &store.Commit{Epoch: 9, Time: events.Time(1), PrevSequence: 6}
	return c.Encode(nil)
}

// Signatures of others, such as witnesses that sign too, do not matter, and a key of
// another ledger or program is told from ours.
func TestOtherSignatures(t *testing.T) {
	w := newWorld(t, 4)
	secret, public, err := note.GenerateKey(zeroes{}, "witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	witness, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := note.Open(w.signed(4), note.VerifierList(w.key.Verifier()))
	if err != nil {
		t.Fatal(err)
	}
	both, err := note.Sign(opened, witness)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := proof.OpenCheckpoint(both, w.key.Verifier()); err != nil || *c != *w.checkpoint(4) {
		t.Errorf("%+v, %v", c, err)
	}
	p := w.inclusion(4, 2)
	p.Signed = both
	if err := check(p.Encode(), w.key.Public()); err != nil {
		t.Error(err)
	}
	if err := check(both, public); err == nil || !strings.Contains(err.Error(), "not of a keyledger") {
		t.Errorf("a key of another program: %v", err)
	}
	if _, err := w.key.Sign(&proof.Checkpoint{Origin: "keyledger/other/0"}); err == nil {
		t.Error("a checkpoint of another ledger was signed")
	}
	if !proof.SignedBy(w.signed(4), w.key.Verifier()) || proof.SignedBy([]byte(strings.ReplaceAll(string(w.signed(4)), "/0", "/1")), w.key.Verifier()) {
		t.Error("SignedBy does not tell whose signature it is")
	}
}

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
