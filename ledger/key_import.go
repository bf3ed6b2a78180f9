package ledger

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"

	"github.com/keyledger/keyledger/events"
)

// ImportKey is key.import: a key that another system gave out works on. Its secret stays
// where it is, the ledger gets its SHA-256. The rest is as in key.create.
type ImportKey struct {
	CreateKey
	SHA256  string `json:"sha256"`          // of the secret's bytes, 64 hex digits
	ShownAs string `json:"prefix,omitzero"` // the key's prefix: how people know the secret
}

// Validate implements Command.
func (c *ImportKey) Validate() *events.Error {
	if err := c.CreateKey.Validate(); err != nil {
		return err
	}
	var check checks
	check.that(c.PublicKey == "", "public_key is for key.create: an imported key has a secret")
	n, err := hex.Decode(c.Hash[:], []byte(c.SHA256[:min(len(c.SHA256), 2*len(c.Hash))]))
	check.that(err == nil && n == len(c.Hash) && len(c.SHA256) == 2*n && c.Hash != [32]byte{},
		"sha256 must be the SHA-256 of the secret, 64 hex digits")
	check.text("prefix", c.ShownAs, 0, maxPrefixChars)
	check.that(sha256.Sum256([]byte(c.ShownAs)) != c.Hash, "prefix must not be the secret itself: it is shown to whoever sees the key")
	c.Prefix = c.ShownAs
	return check.err
}

// Decide implements Command. A secret is imported once in a ledger: one that was, of
// whichever account, is refused even after its key was revoked or got a new secret.
func (c *ImportKey) Decide(in *Input) (Decision, *events.Error) {
	if in.State.foreign[c.Hash] != nil {
		return Decision{}, events.Errorf(events.AlreadyExists, "this secret was imported before, and a secret is one key's for ever; create a key with a new one")
	}
	k, err := c.newKey(in)
	if err != nil {
		return Decision{}, err
	}
	k.Imported = true
	return one(in, "key.imported", k.Environment, k.ID, k)
}

// foreign returns the hash of the secret that a key was imported with, nil for one that
// was not: that of its first event, which stays when the key gets a new secret.
func (k *Key) foreign(d *events.Key) *[32]byte {
	switch {
	case !d.Imported:
		return nil
	case k.more != nil && k.more.foreign != nil:
		return k.more.foreign
	}
	hash := d.Hash
	return &hash
}

// addForeign puts an imported key into the index of foreign secrets, which it never
// leaves: whatever order accounts are restored in, the index is the same.
func (st *State) addForeign(k *Key) {
	if k.more != nil && k.more.foreign != nil {
		st.foreign[*k.more.foreign] = k
	}
}

// Names returns the key that a secret names, whether it still is the key's or not, nil for
// none.
func (a *Authorize) Names(st *State) *Key {
	if a.Signed() {
		return nil
	}
	if k := st.keys[a.secret.KeyID]; a.known && k != nil {
		return k
	}
	return st.foreign[a.secret.Hash]
}

// Find returns the key that asks at now, nil for an unknown, malformed or wrong secret and
// for a signature that is not the key's. One of our secrets names its key; any other is
// looked up by its hash among the imported ones, a secret of another keyledger too. Hashes
// are compared in constant time. A rotated key's old secret is found up to the end of the
// grace.
func (a *Authorize) Find(st *State, now events.Time) *Key {
	if a.Signed() {
		return a.findSigner(st)
	}
	a.old = false
	k := st.keys[a.secret.KeyID]
	if !a.known || k == nil {
		k = st.foreign[a.secret.Hash]
	}
	if k == nil || a.secret.Hash == [32]byte{} { // what has no secret has no hash
		return nil
	}
	if subtle.ConstantTimeCompare(k.hash[:], a.secret.Hash[:]) == 1 {
		return k
	}
	if k.knowsOldSecret(now) && subtle.ConstantTimeCompare(k.more.oldHash[:], a.secret.Hash[:]) == 1 {
		a.old = true
		return k
	}
	return nil
}
