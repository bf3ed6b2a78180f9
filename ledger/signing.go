package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"iter"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// A signing key has no secret: its owner keeps an ed25519 key (RFC 8032) and the ledger
// knows the public half. A request of it is signed. What is signed is signed_at exactly as
// it is sent, a newline (0x0A), and the message: SignedBytes. What the message says is
// between the gateway and its customer; the ledger knows that the key's owner wrote it,
// when, and that no signature pays twice.

// SignatureWindow is how far signed_at may be from the time of the commit, both ways.
const SignatureWindow = events.Time(5 * 60 * 1000) // milliseconds

// SignedBytes is what a signing key signs.
func SignedBytes(signedAt, message string) []byte {
	b := make([]byte, 0, len(signedAt)+1+len(message))
	return append(append(append(b, signedAt...), '\n'), message...)
}

// signature is what Authorize keeps of a signature.
type signature struct {
	key      ulid.ULID
	bytes    [ed25519.SignatureSize]byte
	name     signatureName
	at       events.Time
	verified bool // by Verify
}

// Sign signs the message with the key's private half at a time.
func (a *Authorize) Sign(private ed25519.PrivateKey, at events.Time) {
	a.SignedAt = at.String()
	a.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(private, SignedBytes(a.SignedAt, a.Message)))
}

// Signed says whether a signing key asks, after Validate.
func (a *Authorize) Signed() bool { return a.signature != nil }

// Signer returns the id of the key that is said to have signed.
func (a *Authorize) Signer() ulid.ULID { return a.signature.key }

// Verify checks the signature with the key's public half, which takes about 60 µs. Without
// it, or with any other key, the request is that of an unknown key. Go's ed25519 takes no
// S beyond the group's order (RFC 8032, 5.1.7), so nobody can make a second signature out
// of one: a signature's bytes are its name.
func (a *Authorize) Verify(public ed25519.PublicKey) {
	a.signature.verified = ed25519.Verify(public, SignedBytes(a.SignedAt, a.Message), a.signature.bytes[:])
}

// signing checks the members of a signed request, and that it is no other.
func (a *Authorize) signing(check *checks) {
	check.that(a.Secret == "", "a request has a secret or is signed, not both")
	s := &signature{}
	var err error
	s.key, err = ParseKeyID(a.Key)
	check.that(err == nil, "key must be the key id of a signing key, such as key_01J…")
	check.that(len(a.Message) <= maxMessageBytes, "message has %d bytes, at most %d are allowed", len(a.Message), maxMessageBytes)
	check.that(decodeExactly(s.bytes[:], a.Signature), "signature must be an ed25519 signature, 64 bytes in base64")
	sum := sha256.Sum256(s.bytes[:])
	s.name = signatureName(sum[:])
	s.at, err = events.ParseTime(a.SignedAt)
	check.that(err == nil, "signed_at must be an RFC 3339 time such as \"2026-01-31T12:00:00Z\"")
	a.signature = s
}

func (a *Authorize) findSigner(st *State) *Key {
	k := st.keys[a.signature.key]
	if k == nil || k.more == nil || k.more.publicKey == nil || !a.signature.verified {
		return nil
	}
	return k
}

// refuseSignature refuses one that is too old or too new, or that has paid.
func (a *Authorize) refuseSignature(k *Key, now events.Time) (events.Code, string) {
	s := a.signature
	switch {
	case s.at < now-SignatureWindow || s.at > now+SignatureWindow:
		return events.CommandExpired, "signed_at must be within 5 minutes of the server's time, " + now.String() + "; sign anew"
	case k.spent.has(s):
		return events.IDReused, "this signature took credits before, under another command id; sign anew"
	}
	return events.OK, ""
}

// publicKey checks a public key's form; empty is none.
func (c *checks) publicKey(text string) {
	if text == "" {
		return
	}
	public, ok := decodePublicKey(text)
	c.that(ok, "public_key must be an ed25519 public key, 32 bytes in base64")
	c.that(!ok || !smallOrder(public), "public_key is a point of small order, for which anybody could sign")
}

// decodePublicKey reads a public key, false for what is none.
func decodePublicKey(text string) ([]byte, bool) {
	b := make([]byte, ed25519.PublicKeySize)
	if !decodeExactly(b, text) {
		return nil, false
	}
	return b, true
}

// decodeExactly reads base64 (RFC 4648, section 4) that is written in the one right way
// and fills b.
func decodeExactly(b []byte, text string) bool {
	if len(text) != base64.StdEncoding.EncodedLen(len(b)) || strings.ContainsAny(text, "\r\n") { // which Go passes over
		return false
	}
	room := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(room, []byte(text))
	return err == nil && n == len(b) && copy(b, room) == n
}

// smallOrders are the y coordinates of the points whose order divides 8, in all the forms
// that a reader takes them in: 0, 1 and p-1, the two of order 8, and p and p+1, which
// are 0 and 1 not reduced.
var smallOrders = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

// smallOrder says whether a public key is such a point, of either sign.
func smallOrder(public []byte) bool {
	y := [ed25519.PublicKeySize]byte(public)
	y[31] &= 0x7f
	text := hex.EncodeToString(y[:])
	for _, s := range smallOrders {
		if s == text {
			return true
		}
	}
	return false
}

// Signing returns the signing keys with their ids, in no order.
func (st *State) Signing() iter.Seq2[ulid.ULID, *Key] {
	return func(yield func(ulid.ULID, *Key) bool) {
		for id, k := range st.keys {
			if k.PublicKey() != nil && !yield(id, k) {
				return
			}
		}
	}
}

// Imported returns the imported keys with the hash of the secret they came with, in no
// order.
func (st *State) Imported() iter.Seq2[[32]byte, *Key] {
	return func(yield func([32]byte, *Key) bool) {
		for hash, k := range st.foreign {
			if !yield(hash, k) {
				return
			}
		}
	}
}

// PublicKey returns the public half of a signing key, nil of any other. It never changes.
func (k *Key) PublicKey() ed25519.PublicKey {
	if k.more == nil {
		return nil
	}
	return k.more.publicKey
}
