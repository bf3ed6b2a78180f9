package proof

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// SeedBytes is the size of a private key: an ed25519 seed (RFC 8032).
const SeedBytes = 32

// originPrefix begins the origin of every checkpoint.
const originPrefix = "keyledger/"

// Origin names a partition's log in its checkpoints: keyledger/<ledger id>/<partition>. It
// is also the name of the key that signs them.
func Origin(ledger string, partition uint32) string {
	return originPrefix + ledger + "/" + strconv.FormatUint(uint64(partition), 10)
}

// partitionOf reads the partition out of an origin.
func partitionOf(origin string) (uint32, bool) {
	rest, ok := strings.CutPrefix(origin, originPrefix)
	ledger, number, more := strings.Cut(rest, "/")
	partition, err := strconv.ParseUint(number, 10, 32)
	return uint32(partition), ok && more && err == nil && ledger != "" && origin == Origin(ledger, uint32(partition))
}

// Key signs checkpoints.
type Key struct {
	signer   note.Signer
	verifier note.Verifier
	public   string
}

// NewKey makes the key of an origin from its seed.
func NewKey(seed [SeedBytes]byte, origin string) (*Key, error) {
	private := ed25519.NewKeyFromSeed(seed[:])
	public, err := note.NewEd25519VerifierKey(origin, private.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("make the checkpoint key: %w", err)
	}
	verifier, err := ParseVerifier(public)
	if err != nil {
		return nil, fmt.Errorf("make the checkpoint key: %w", err)
	}
	// A private key has the public one's name and id, and the seed behind the same type.
	secret := base64.StdEncoding.EncodeToString(append([]byte{ed25519Type}, seed[:]...))
	signer, err := note.NewSigner("PRIVATE+KEY+" + keyName(verifier.Name(), verifier.KeyHash()) + "+" + secret)
	if err != nil {
		return nil, fmt.Errorf("make the checkpoint key: %w", err)
	}
	return &Key{signer: signer, verifier: verifier, public: public}, nil
}

// ed25519Type is the signature type of C2SP signed-note.
const ed25519Type = 1

// Public is the verifier key to be published: <origin>+<key id>+<base64>.
func (k *Key) Public() string { return k.public }

// Verifier verifies what the key has signed.
func (k *Key) Verifier() note.Verifier { return k.verifier }

// Sign writes a checkpoint as a signed note. The same checkpoint gives the same note.
func (k *Key) Sign(c *Checkpoint) ([]byte, error) {
	if c.Origin != k.signer.Name() {
		return nil, fmt.Errorf("sign a checkpoint of %s with the key of %s", c.Origin, k.signer.Name())
	}
	return note.Sign(&note.Note{Text: c.Text()}, k.signer)
}

// ParseVerifier reads a public key as audit key prints it. One in which any character was
// changed is refused, by the id in it.
func ParseVerifier(text string) (note.Verifier, error) {
	const want = "it must be a key as keyledger audit key prints it: keyledger/<ledger>/<partition>+<8 hex digits>+<base64>"
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, want)
	}
	if _, ok := partitionOf(v.Name()); !ok {
		return nil, fmt.Errorf("it is the key of %q, not of a keyledger; %s", v.Name(), want)
	}
	_, id, _ := strings.Cut(text, "+")
	id, public, _ := strings.Cut(id, "+")
	if _, err := decode64(public); err != nil || id != fmt.Sprintf("%08x", v.KeyHash()) {
		return nil, fmt.Errorf("it is not written as it is printed; %s", want)
	}
	return v, nil
}

// decode64 reads base64 (RFC 4648, 4) in its only canonical form.
func decode64(text string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err == nil && base64.StdEncoding.EncodeToString(b) != text { // it held line breaks
		err = base64.CorruptInputError(0)
	}
	return b, err
}
