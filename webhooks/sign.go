package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

const (
	// SecretPrefix begins every signing secret as it is shown to the customer.
	SecretPrefix = "whsec_"
	// SecretBytes is the length of the secrets that are made here.
	SecretBytes = 32

	// The Standard Webhooks specification allows secrets of 24 to 64 bytes.
	minSecretBytes = 24
	maxSecretBytes = 64

	signatureVersion = "v1" // HMAC-SHA256
)

// ErrSecret is what ParseSecret answers to anything but a signing secret. It
// never holds any part of its input.
var ErrSecret = errors.New("not a signing secret: " + SecretPrefix + " and the base64 of 24 to 64 bytes")

// NewSecret gives the text form of a secret: SecretPrefix and the standard
// base64 of the random bytes, which the caller takes from a cryptographic
// source (Standard Webhooks, "Signature scheme").
func NewSecret(random [SecretBytes]byte) string {
	return SecretPrefix + base64.StdEncoding.EncodeToString(random[:])
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

// Sign gives the value of the webhook-signature header: for each secret, in the
// order given (newest first), "v1," and the base64 of HMAC-SHA256 over
// id "." unix seconds "." body, with a space between them (Standard Webhooks,
// version v1). The id must hold no dot. Without secrets the value is empty.
func Sign(id string, at time.Time, body []byte, secrets ...[]byte) string {
	head := id + "." + strconv.FormatInt(at.Unix(), 10) + "."
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(head))
		mac.Write(body)
		signatures[i] = signatureVersion + "," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}
