package client

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// inboxText is what a credential signs to get its inbox; inboxLength is the length of the
// token, 130 bits.
const (
	inboxText   = "keyledger inbox v1"
	inboxLength = 26
)

// Credentials are the options of a connection with an nkey seed in a file: who it is, and
// the inbox that a credential's answers come to. They suit the operator, too.
func Credentials(seedFile string) ([]nats.Option, error) {
	identity, err := nats.NkeyOptionFromSeed(seedFile)
	if err != nil {
		return nil, err
	}
	var opts nats.Options
	if err := identity(&opts); err != nil {
		return nil, err
	}
	token, err := InboxToken(opts.SignatureCB)
	if err != nil {
		return nil, err
	}
	return []nats.Option{identity, nats.CustomInboxPrefix(InboxPrefix(token))}, nil
}

// InboxToken is the token of a credential's inbox: the first 26 characters of the SHA-256, in
// base32 (RFC 4648, lower case), of its ed25519 signature of "keyledger inbox v1". Ed25519
// signatures are a function of key and text, so whoever has the seed finds it again, and
// nobody else does. Keep it as the seed: who knows it can send answers there.
func InboxToken(sign func(text []byte) ([]byte, error)) (string, error) {
	signature, err := sign([]byte(inboxText))
	if err != nil {
		return "", fmt.Errorf("derive the inbox: %w", err)
	}
	sum := sha256.Sum256(signature)
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:inboxLength], nil
}

// InboxPrefix is what a connection's inboxes begin with (nats.CustomInboxPrefix, and
// --inbox-prefix of the NATS CLI).
func InboxPrefix(token string) string { return "_INBOX." + token }
