package projections

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
)

// A log that does not contain what was signed is a loss, and says which signature.
func TestSignedWitness(t *testing.T) {
	wrongRoot := func(s *signTest) *proof.Checkpoint {
		c := s.checkpoint(s.chain.Sequence)
		c.Root[3] ^= 1
		return c
	}
	for name, test := range map[string]struct {
		signed func(*signTest) *proof.Checkpoint
		after  func(*signTest)
		word   string
	}{
		"log is shorter": {func(s *signTest) *proof.Checkpoint { return s.checkpoint(s.chain.Sequence) },
			func(s *signTest) { s.history = newHistory(t) }, "the signed checkpoint 1 in KEYLEDGER_CHECKPOINTS_0 is of 0:3, the log ends at 1"},
		"log is another": {func(s *signTest) *proof.Checkpoint { return s.checkpoint(s.chain.Sequence) },
			func(s *signTest) {
				s.history = newHistory(t)
				s.made = 1000
				s.commit(s.account("beta"))
				s.commit(s.account("beta"))
			}, "the signed checkpoint 1 in KEYLEDGER_CHECKPOINTS_0 saw 0:3 with hash"},
		"root is another": {wrongRoot, func(*signTest) {}, "saw 0:3 with root"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSignTest(t)
			s.commit(s.account("acme"))
			s.commit(s.account("acme"))
			s.store(test.signed(s))
			test.after(s)
			err := s.signer().Run(patience(t))
			if !errors.Is(err, ErrLoss) || !strings.Contains(err.Error(), test.word) {
				t.Fatalf("Run: %v, want %q", err, test.word)
			}
		})
	}
}

// store stores a checkpoint as the newest.
func (s *signTest) store(c *proof.Checkpoint) {
	s.t.Helper()
	signed, err := s.key.Sign(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.storeNote(signed)
}

func (s *signTest) storeNote(signed []byte) {
	s.t.Helper()
	if err := store.CreateStreams(patience(s.t), s.js, []jetstream.StreamConfig{s.config}); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.js.Publish(patience(s.t), store.SubjectCheckpoints(0), signed); err != nil {
		s.t.Fatal(err)
	}
}

// A stored checkpoint that does not verify is no witness, and what to do is said.
func TestDamagedCheckpoint(t *testing.T) {
	other, err := proof.NewKey([proof.SeedBytes]byte{8}, testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*signTest, []byte) []byte
		word   string
	}{
		"changed":     {func(_ *signTest, b []byte) []byte { b[len(testOrigin)+1]++; return b }, "to give up the history of checkpoints"},
		"no note":     {func(*signTest, []byte) []byte { return []byte("hello") }, "is no signed note"},
		"another key": {func(s *signTest, _ []byte) []byte { b, _ := other.Sign(s.checkpoint(1)); return b }, "restore checkpoint.key"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSignTest(t)
			signed, err := s.key.Sign(s.checkpoint(1))
			if err != nil {
				t.Fatal(err)
			}
			s.storeNote(test.change(s, signed))
			_, _, err = NewestCheckpoint(patience(t), s.js, 0, s.key.Verifier())
			if !errors.Is(err, store.ErrDamagedWitness) || !strings.Contains(err.Error(), test.word) {
				t.Errorf("%v, want %q", err, test.word)
			}
		})
	}
	s := newSignTest(t)
	if c, _, err := NewestCheckpoint(patience(t), s.js, 0, s.key.Verifier()); c != nil || err != nil {
		t.Errorf("without a stream: %v, %v", c, err)
	}
}

// A checkpoint that the key signed and that is of another log is told from damage.
func TestOtherTreeIsTold(t *testing.T) {
	s := newSignTest(t)
	c, _ := s.start()
	for range 9 {
		s.commit(s.account("acme"))
	}
	newest, err := c.Newest(patience(t), 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{1, 6, 10} {
		old := s.checkpoint(n)
		old.Root[0] ^= 1
		signed, err := s.key.Sign(old)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ProveConsistent(Signed{old, signed}, newest); !errors.Is(err, ErrOtherTree) {
			t.Errorf("at %d: %v", n, err)
		}
	}
}
