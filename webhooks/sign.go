package webhooks

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keyledger/keyledger/events"
)

const (
	// SecretPrefix begins every signing secret as it is shown to the customer.
	SecretPrefix = "whsec_"
	// PublicKeyPrefix begins every public key as it is shown to the customer.
	PublicKeyPrefix = "whpk_"
	// SecretBytes is the length of the secrets that are made here: HMAC keys, and the
	// seeds of ed25519 keys.
	SecretBytes = 32

	// The Standard Webhooks specification allows secrets of 24 to 64 bytes.
	minSecretBytes = 24
	maxSecretBytes = 64
)

// SigningKey is what a delivery is signed with.
type SigningKey struct {
	Version string // events.SigningV1 or events.SigningV1a
	Secret  []byte // v1: the HMAC key; v1a: the 32-byte seed of the ed25519 key (RFC 8032 §5.1.5)
}

// check finds what no signature can be made with. Its error shows no part of the secret.
func (k SigningKey) check() error {
	switch {
	case k.Version == events.SigningV1 && len(k.Secret) >= minSecretBytes && len(k.Secret) <= maxSecretBytes:
	case k.Version == events.SigningV1a && len(k.Secret) == ed25519.SeedSize:
	default:
		return fmt.Errorf("no signing key: version %.8q with %d bytes", k.Version, len(k.Secret))
	}
	return nil
}

// sign signs a message that stands in two pieces.
func (k SigningKey) sign(head string, body []byte) []byte {
	if k.Version == events.SigningV1a { // which needs the message in one
		message := append(append(make([]byte, 0, len(head)+len(body)), head...), body...)
		return ed25519.Sign(ed25519.NewKeyFromSeed(k.Secret), message)
	}
	mac := hmac.New(sha256.New, k.Secret)
	mac.Write([]byte(head))
	mac.Write(body)
	return mac.Sum(nil)
}

// ErrSecret is what ParseSecret answers to anything but a signing secret. It
// never holds any part of its input.
var ErrSecret = errors.New("not a signing secret: " + SecretPrefix + " and the base64 of 24 to 64 bytes")

// NewSecret gives the text form of a secret: SecretPrefix and the standard
// base64 of the random bytes, which the caller takes from a cryptographic
// source (Standard Webhooks, "Signature scheme").
func NewSecret(random [SecretBytes]byte) string {
	return SecretPrefix + base64.StdEncoding.EncodeToString(random[:])
}

// NewKeyPair gives the text form of the public key whose private half is made from the
// random bytes, its seed: PublicKeyPrefix and the standard base64 of its 32 bytes.
func NewKeyPair(random [SecretBytes]byte) (public string) {
	key := ed25519.NewKeyFromSeed(random[:]).Public().(ed25519.PublicKey)
	return PublicKeyPrefix + base64.StdEncoding.EncodeToString(key)
}

// ParseSecret gives the key behind a secret's text form, 24 to 64 bytes, or
// ErrSecret. There is one text form to a key: padding, no line breaks.
func ParseSecret(secret string) ([]byte, error) {
	text, ok := strings.CutPrefix(secret, SecretPrefix)
	if !ok {
		return nil, ErrSecret
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) < minSecretBytes || len(key) > maxSecretBytes {
		return nil, ErrSecret
	}
	if base64.StdEncoding.EncodeToString(key) != text {
		return nil, ErrSecret
	}
	return key, nil
}

// Sign gives the value of the webhook-signature header: for each key, in the order
// given (newest first), its version, a comma and the base64 of its signature over
// id "." unix seconds "." body, with a space between them (Standard Webhooks,
// "Signature scheme"): v1 is HMAC-SHA256, v1a is ed25519. The id must hold no dot. Without
// keys the value is empty.
func Sign(id string, at time.Time, body []byte, keys ...SigningKey) string {
	head := id + "." + strconv.FormatInt(at.Unix(), 10) + "."
	signatures := make([]string, len(keys))
	for i, key := range keys {
		signatures[i] = key.Version + "," + base64.StdEncoding.EncodeToString(key.sign(head, body))
	}
	return strings.Join(signatures, " ")
}
