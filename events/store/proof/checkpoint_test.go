package proof_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events/store/proof"
)

// Without a key a checkpoint can be read, and says which key claims to have signed it; what
// is none of a keyledger cannot.
func TestReadCheckpoint(t *testing.T) {
	w := newWorld(t, 3)
	key := newKey(t)
	want := &proof.Checkpoint{Origin: origin, Size: 3, Time: w.commits[2].Time, Epoch: 1, Hash: w.commits[2].Hash}
	signed, err := key.Sign(want)
	if err != nil {
		t.Fatal(err)
	}
	c, by, err := proof.ReadCheckpoint(signed)
	if err != nil || *c != *want || by != origin+"+df35b7b0" {
		t.Errorf("%+v by %s, %v", c, by, err)
	}
	for name, text := range map[string][]byte{
		"nothing":             nil,
		"no signature":        signed[:bytes.Index(signed, []byte("— "))],
		"signed for another":  []byte(strings.Replace(string(signed), "— "+origin, "— example.com/log", 1)),
		"no text of ours":     []byte(strings.Replace(string(signed), "epoch 1", "epoch one", 1)),
		"longer than is read": append(bytes.Clone(signed), make([]byte, proof.NoteBytesMax)...),
	} {
		var refusal *proof.Refusal
		if c, _, err := proof.ReadCheckpoint(text); !errors.As(err, &refusal) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}
