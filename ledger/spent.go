package ledger

import (
	"bytes"
	"maps"
	"slices"

	"github.com/keyledger/keyledger/events"
)

const (
	// maxSpent is how many signatures of one key may have paid within the window: more are
	// rate_limited until the oldest ones have passed out of it.
	maxSpent = 100_000
	// spentSlot is how many milliseconds of signed_at are remembered, and forgotten, together.
	spentSlot = 10_000
)

// errSpent says what maxSpent means for a request.
const errSpent = "this key paid with 100,000 signatures within 5 minutes of now, the most it may; wait, or spread the requests over more keys"

// signatureName is the first 16 bytes of the SHA-256 of a signature.
type signatureName [16]byte

// spent is the signatures of a key that paid for something, so that none pays twice. A
// signature is remembered while its signed_at is within the window of the key's last
// payment, and up to a slot longer: after that it is refused for its age. It is a fold of
// the log: the time it forgets by is that of the debits in it. Of a key that is not used
// any more, at most maxSpent of about 40 bytes stay.
type spent struct {
	slots []slot // in order of time; none is empty
	count int    // in all of them
}

// slot is the signatures of one time, in slots since 1970.
type slot struct {
	at    int64
	names map[signatureName]struct{}
}

// over says whether a slot's last signature is too old at now.
func (s *slot) over(now events.Time) bool {
	return events.Time((s.at+1)*spentSlot-1)+SignatureWindow < now
}

// find returns where the slot of a time stands, or would.
func (s *spent) find(at events.Time) (int, bool) {
	return slices.BinarySearchFunc(s.slots, int64(at)/spentSlot, func(s slot, at int64) int { return int(s.at - at) })
}

// has says whether a signature has paid.
func (s *spent) has(sig *signature) bool {
	if s == nil {
		return false
	}
	i, found := s.find(sig.at)
	if !found {
		return false
	}
	_, found = s.slots[i].names[sig.name]
	return found
}

// full says whether no more may pay at now.
func (s *spent) full(now events.Time) bool {
	if s == nil || s.count < maxSpent {
		return false
	}
	left := s.count
	for i := 0; i < len(s.slots) && s.slots[i].over(now); i++ {
		left -= len(s.slots[i].names)
	}
	return left >= maxSpent
}

// add remembers a signature that paid at now and forgets those that are over: whole slots,
// of which there are about sixty at most.
func (s *spent) add(name signatureName, at, now events.Time) {
	i, found := s.find(at)
	if !found {
		s.slots = slices.Insert(s.slots, i, slot{int64(at) / spentSlot, map[signatureName]struct{}{}})
	}
	before := len(s.slots[i].names)
	s.slots[i].names[name] = struct{}{}
	s.count += len(s.slots[i].names) - before
	over := 0
	for over < len(s.slots) && s.slots[over].over(now) {
		s.count -= len(s.slots[over].names)
		over++
	}
	s.slots = slices.Delete(s.slots, 0, over)
}

// evolveSpent folds a debit that a signature asked for.
func (st *State) evolveSpent(d *events.Debit) {
	if len(d.Signature) != len(signatureName{}) {
		return
	}
	id, err := ParseKeyID(d.Key)
	k := st.keys[id]
	if err != nil || k == nil || k.PublicKey() == nil {
		return
	}
	if k.spent == nil {
		k.spent = &spent{}
	}
	k.spent.add(signatureName(d.Signature), d.SignedAt, d.CreatedAt)
}

// spent codes the signatures of a signing key that paid.
func (s *section) spent(p **spent) {
	var list spent
	if *p != nil {
		list = **p
	}
	n := s.Len(len(list.slots))
	if s.Reading() {
		list = spent{slots: make([]slot, n)}
	}
	for i := range list.slots {
		l := &list.slots[i]
		s.Int(&l.at)
		s.names(l)
		list.count += len(l.names)
		s.check(len(l.names) > 0 && (i == 0 || list.slots[i-1].at < l.at), "signatures out of order")
	}
	if s.Reading() && n > 0 {
		*p = &list
	}
}

func (s *section) names(l *slot) {
	n := s.Len(len(l.names))
	if !s.Reading() {
		compare := func(a, b signatureName) int { return bytes.Compare(a[:], b[:]) }
		for _, name := range slices.SortedFunc(maps.Keys(l.names), compare) {
			s.Fixed(name[:])
		}
		return
	}
	l.names = make(map[signatureName]struct{}, n)
	for range n {
		var name signatureName
		s.Fixed(name[:])
		l.names[name] = struct{}{}
	}
}
