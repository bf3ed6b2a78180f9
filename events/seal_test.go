package events_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/keyledger/keyledger/events"
)

func newSealer(t *testing.T, fill byte) *events.Sealer {
	t.Helper()
	s, err := events.NewSealer(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealer(t *testing.T) {
	s := newSealer(t, 1)
	plain := []byte("whsec_not-a-real-one")
	sealed := s.Seal("acme", "endpoint_1", "header/x-token", plain)
	if bytes.Contains(sealed, plain) {
		t.Error("the plain value stands in the sealed one")
	}
	if bytes.Equal(sealed, s.Seal("acme", "endpoint_1", "header/x-token", plain)) {
		t.Error("two seals of one value are the same: the nonce is not random")
	}
	got, err := newSealer(t, 1).Open("acme", "endpoint_1", "header/x-token", sealed)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("opened %q, %v", got, err)
	}
	if got, err := s.Open("acme", "e", "secret", s.Seal("acme", "e", "secret", nil)); err != nil || len(got) != 0 {
		t.Errorf("an empty value opens as %q, %v", got, err)
	}
}

// TestSealedValuesCannotBeMoved: a sealed value opens only where it was sealed.
func TestSealedValuesCannotBeMoved(t *testing.T) {
	s := newSealer(t, 1)
	sealed := s.Seal("acme", "endpoint_1", "header/x-token", []byte("value"))
	for name, place := range map[string][3]string{
		"another account":  {"other", "endpoint_1", "header/x-token"},
		"another endpoint": {"acme", "endpoint_2", "header/x-token"},
		"another field":    {"acme", "endpoint_1", "secret"},
		"another header":   {"acme", "endpoint_1", "header/x-other"},
	} {
		if _, err := s.Open(place[0], place[1], place[2], sealed); !errors.Is(err, events.ErrSealed) {
			t.Errorf("%s: %v, want %v", name, err, events.ErrSealed)
		}
	}
}

// TestSealedValuesCannotBeChanged: every byte counts, and so does every missing one.
func TestSealedValuesCannotBeChanged(t *testing.T) {
	s := newSealer(t, 1)
	sealed := s.Seal("acme", "endpoint_1", "secret", []byte("value"))
	for i := range sealed {
		for _, flip := range []byte{1, 0x80} {
			changed := bytes.Clone(sealed)
			changed[i] ^= flip
			if _, err := s.Open("acme", "endpoint_1", "secret", changed); !errors.Is(err, events.ErrSealed) {
				t.Errorf("byte %d changed: %v, want %v", i, err, events.ErrSealed)
			}
		}
		if _, err := s.Open("acme", "endpoint_1", "secret", sealed[:i]); !errors.Is(err, events.ErrSealed) {
			t.Errorf("cut to %d bytes: %v, want %v", i, err, events.ErrSealed)
		}
	}
}

func TestSealerOfAnotherKey(t *testing.T) {
	sealed := newSealer(t, 1).Seal("acme", "endpoint_1", "secret", []byte("value"))
	if _, err := newSealer(t, 2).Open("acme", "endpoint_1", "secret", sealed); !errors.Is(err, events.ErrSealed) {
		t.Errorf("%v, want %v", err, events.ErrSealed)
	}
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := events.NewSealer(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes was taken", n)
		}
	}
}
