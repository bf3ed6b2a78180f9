package store

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

const (
	// InboxRoot is what all inboxes begin with.
	InboxRoot = "_INBOX."
	// InboxLength is the length of the token behind it in characters: 130 bits.
	InboxLength = 26

	// inboxText is what is signed to get the token.
	inboxText = "keyledger inbox v1"
)

// InboxToken is the token of a credential's inbox, given how its key signs: the first 26
// characters of the SHA-256, in base32 (RFC 4648, lower case), of its ed25519 signature of
// "keyledger inbox v1". Ed25519 signatures are a function of key and text (RFC 8032), so
// whoever has the seed finds the token again, and nobody else does. Keep it as the seed:
// who knows it can send answers there.
func InboxToken(sign func(text []byte) ([]byte, error)) (string, error) {
	signature, err := sign([]byte(inboxText))
	if err != nil {
		return "", fmt.Errorf("derive the inbox: %w", err)
	}
	sum := sha256.Sum256(signature)
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:InboxLength], nil
}
