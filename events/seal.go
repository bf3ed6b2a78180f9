package events

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrSealed means that a sealed value could not be opened: it was made with another
// key, for another place, or it was changed.
var ErrSealed = errors.New("sealed value does not open with this seal key")

const sealVersion = 1

// Sealer seals what must be recoverable but never readable in the log: signing secrets
// of endpoints, values of custom headers, query parts of URLs. AES-256-GCM (NIST SP
// 800-38D) with a random 96-bit nonce; the associated data binds a value to its
// account, endpoint and field, so that it cannot be moved. Layout: version (1 byte),
// key id (4 bytes: the first of the key's SHA-256), nonce (12), ciphertext and tag.
type Sealer struct {
	aead  cipher.AEAD
	keyID [4]byte
}

// NewSealer makes a Sealer from a 32-byte key.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("seal key has %d bytes, not 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(key)
	return &Sealer{aead: aead, keyID: [4]byte(sum[:4])}, nil
}

// Seal seals plain for one place. About 2^32 values may be sealed under one key before
// random nonces become a risk (SP 800-38D §8.3).
func (s *Sealer) Seal(account, endpoint, field string, plain []byte) []byte {
	out := make([]byte, 5, 5+12+len(plain)+16)
	out[0] = sealVersion
	copy(out[1:], s.keyID[:])
	var nonce [12]byte
	rand.Read(nonce[:])
	out = append(out, nonce[:]...)
	return s.aead.Seal(out, nonce[:], plain, associated(account, endpoint, field))
}

// Open returns what was sealed for the same place, or ErrSealed.
func (s *Sealer) Open(account, endpoint, field string, sealed []byte) ([]byte, error) {
	if len(sealed) < 5+12+16 || sealed[0] != sealVersion || [4]byte(sealed[1:5]) != s.keyID {
		return nil, fmt.Errorf("open %s of %s: %w", field, endpoint, ErrSealed)
	}
	plain, err := s.aead.Open(nil, sealed[5:17], sealed[17:], associated(account, endpoint, field))
	if err != nil {
		return nil, fmt.Errorf("open %s of %s: %w", field, endpoint, ErrSealed)
	}
	return plain, nil
}

// associated is the associated data. Ids cannot hold the separator, so no two places have
// the same.
func associated(account, endpoint, field string) []byte {
	return []byte(account + "/" + endpoint + "/" + field)
}

// KeyID names the key without giving it away: the first 4 bytes of its SHA-256, in
// hexadecimal, which stand in every sealed value too.
func (s *Sealer) KeyID() string { return hex.EncodeToString(s.keyID[:]) }
