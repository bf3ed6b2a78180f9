package writer

import (
	"crypto/ed25519"
	"sync"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

// directory is what must be known of a request before it is the request's turn: the slot
// of an imported secret, and a signing key's public half. Whoever submits reads it; the
// goroutine of Run writes it, with each event that it folds.
//
// Nothing is ever taken out: a key's public half never changes, and a secret is one key's
// for ever, revoked or not. So it is right after a takeover too, for which it stays as it
// is. An entry of an append that was lost does no harm: whether there is such a key, the
// writer decides on its state. A key is in it before its first answer is given out, so
// nobody can ask for one that is not.
type directory struct {
	mu       sync.RWMutex // guards all below
	imported map[[32]byte]uint16
	signing  map[ulid.ULID]signer
}

// signer is a signing key.
type signer struct {
	public ed25519.PublicKey
	slot   uint16
}

func newDirectory() *directory {
	return &directory{imported: map[[32]byte]uint16{}, signing: map[ulid.ULID]signer{}}
}

// note takes what an event tells: that a key was made.
func (d *directory) note(e *events.Event) {
	k, ok := e.Data.(*events.Key)
	if !ok || e.Type != "key.imported" && k.PublicKey == nil {
		return
	}
	slot := ledger.Slot(k.Account)
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Type == "key.imported" {
		d.imported[k.Hash] = slot
	} else if id, err := ledger.ParseKeyID(k.ID); err == nil {
		d.signing[id] = signer{k.PublicKey, slot}
	}
}

// fill takes what a snapshot's state holds.
func (d *directory) fill(st *ledger.State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for hash, k := range st.Imported() {
		d.imported[hash] = ledger.Slot(k.AccountID())
	}
	for id, k := range st.Signing() {
		d.signing[id] = signer{k.PublicKey(), ledger.Slot(k.AccountID())}
	}
}

// place tells a request whose secret does not name its account's slot. One that does is
// believed without a look: its lane is no worse.
func (d *directory) place(a *ledger.Authorize) {
	if _, known := a.Slot(); known {
		return
	}
	if a.Signed() {
		if s, ok := d.signer(a.Signer()); ok {
			a.Place(s.slot)
		}
		return
	}
	d.mu.RLock()
	slot, ok := d.imported[a.SecretHash()]
	d.mu.RUnlock()
	if ok {
		a.Place(slot)
	}
}

func (d *directory) signer(id ulid.ULID) (signer, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s, ok := d.signing[id]
	return s, ok
}

// verify checks a request's signature, if it has one and its key is known.
func (d *directory) verify(a *ledger.Authorize) {
	if a == nil || !a.Signed() {
		return
	}
	if s, ok := d.signer(a.Signer()); ok {
		a.Verify(s.public)
	}
}
