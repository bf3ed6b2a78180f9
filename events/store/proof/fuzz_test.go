package proof_test

import (
	"bytes"
	"testing"

	"github.com/keyledger/keyledger/events/store/proof"
)

// FuzzDecode: a file is refused, or is exactly what it is when it is written again, and
// checking it is either a refusal or true of the log that it was made from.
func FuzzDecode(f *testing.F) {
	w := newWorld(f, 5)
	f.Add(w.inclusion(5, 2).Encode())
	f.Add(w.inclusion(1, 0).Encode())
	f.Add(w.consistency(5, 3).Encode())
	f.Add(w.consistency(5, 5).Encode())
	f.Add(w.signed(5))
	f.Fuzz(func(t *testing.T, file []byte) {
		if c, err := proof.OpenCheckpoint(file, w.key.Verifier()); err == nil && *c != *w.checkpoint(int(c.Size)) {
			t.Fatalf("a signature of ours on %+v", c)
		}
		decoded, err := proof.Decode(file)
		if err != nil {
			return
		}
		switch p := decoded.(type) {
		case *proof.Inclusion:
			if !bytes.Equal(p.Encode(), file) {
				t.Fatal("written again it is another file")
			}
			if c, _, err := p.Check(w.key.Verifier()); err == nil && c.Hash != w.commits[p.Index].Hash {
				t.Fatalf("proved a commit that is not in the log: %+v", c)
			}
		case *proof.Consistency:
			if !bytes.Equal(p.Encode(), file) {
				t.Fatal("written again it is another file")
			}
			if old, newer, err := p.Check(w.key.Verifier()); err == nil && old.Size > newer.Size {
				t.Fatalf("proved that %d begins with %d", newer.Size, old.Size)
			}
		}
	})
}
