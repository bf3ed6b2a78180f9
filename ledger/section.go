package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unique"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// sectionVersion is the first byte of a section. A section with more in it, or with
// events' structs that have grown, has a higher one.
const sectionVersion = 2

// errSection means that a section's bytes are not what AppendAccount makes.
var errSection = errors.New("the section is damaged")

// section codes an account with what it owns. The section is, after the version byte,
// in the terms of events.Coder (numbers are varints, "data" is an event's data behind
// its length, lists begin with their count):
//
//	account    data of events.Account
//	keys       list, sorted by id, revoked ones included, of: data of events.Key, and
//	           whether key.expired was written for its expiry; of an imported one the
//	           hash of its first secret (32 bytes); of a signing one the signatures that
//	           paid, list in order of time of: slot of signed_at, sorted list of names
//	           (16 bytes)
//	balances   list, sorted by environment and asset, of: environment, asset, posted,
//	           held, list of grants with something left in burn order: id (16 bytes),
//	           remaining, expiry, priority; and of the allowance: amount, spent, and
//	           unless both are 0: end of the period
//	endpoints  list of data of events.Endpoint, sorted by id, removed ones not
//	           included
//	grant ids  list of the ids (16 bytes) of all grants ever made, sorted
//	holds      list of the open ones, sorted by id, of: data of events.Held
//	refunded   list of debits of which something was refunded, sorted by id, of: id (16
//	           bytes), how much
//
// Rate buckets are not in it. All lists but the grants are sorted, so equal accounts
// have equal sections.
type section struct {
	events.Coder
	scratch []byte
	err     error // of a part
}

// data codes an event's data behind its length.
func (s *section) data(d events.Data) {
	if !s.Reading() {
		var w events.Coder
		w.Reset(s.scratch[:0])
		d.Code(&w)
		s.scratch = w.Bytes()
		s.Blob(&s.scratch)
		return
	}
	n := s.Len(0)
	if s.Err() != nil {
		return
	}
	rest := s.Bytes()
	r := events.NewReader(rest[:n])
	d.Code(r)
	if s.err == nil {
		s.err = r.Err()
	}
	s.Coder = *events.NewReader(rest[n:])
}

// write codes a.
func (s *section) write(a *Account) {
	s.data(&a.Account)
	s.Len(len(a.keys))
	for _, k := range a.keys {
		s.data(k.data())
		expired := k.words.Value().expired
		s.Bool(&expired)
		s.identity(k)
	}
	s.Len(len(a.balances))
	for i := range a.balances {
		b := &a.balances[i]
		id := b.id.Value()
		s.balance(&id, b)
		s.Len(len(b.grants))
		for j := range b.grants {
			s.grant(&b.grants[j])
		}
		s.allowance(&b.allowance)
	}
	s.Len(len(a.endpoints()))
	for _, id := range slices.Sorted(maps.Keys(a.endpoints())) {
		s.data(a.endpoints()[id])
	}
	s.Len(len(a.grantIDs))
	for i := range a.grantIDs {
		s.Fixed(a.grantIDs[i][:])
	}
	var m more
	if a.more != nil {
		m = *a.more
	}
	s.Len(len(m.holds))
	for _, h := range m.holds {
		d := events.Held{Hold: h.data()}
		d.Balance.Environment, d.Balance.Asset = d.Environment, d.Asset // they are stored there
		s.data(&d)
	}
	s.Len(len(m.refunded))
	for _, id := range slices.SortedFunc(maps.Keys(m.refunded), ulid.ULID.Compare) {
		amount := m.refunded[id]
		s.Fixed(id[:])
		s.Int(&amount)
	}
}

// read codes into a, which is empty.
func (s *section) read(a *Account) {
	s.data(&a.Account)
	a.Status = events.Shared(a.Status)
	a.keys = make([]*Key, s.Len(0))
	for i := range a.keys {
		var d events.Key
		s.data(&d)
		var expired bool
		s.Bool(&expired)
		k := &Key{account: a}
		k.set(&d, expired)
		s.identity(k)
		if a.keys[i] = k; d.Status != events.Revoked {
			a.live++
		}
		s.check(d.Account == a.ID, "a key of another account")
	}
	a.balances = make([]balance, s.Len(0))
	for i := range a.balances {
		b := &a.balances[i]
		var id balanceID
		s.balance(&id, b)
		b.id = unique.Make(id)
		b.grants = make([]grant, s.Len(0))
		for j := range b.grants {
			s.grant(&b.grants[j])
		}
		s.allowance(&b.allowance)
	}
	if n := s.Len(0); n > 0 {
		a.extra().endpoints = make(map[string]*events.Endpoint)
		for range n {
			d := new(events.Endpoint)
			s.data(d)
			s.check(d.Account == a.ID, "an endpoint of another account")
			a.more.endpoints[d.ID] = d
		}
	}
	a.grantIDs = make([]ulid.ULID, s.Len(0))
	for i := range a.grantIDs {
		s.Fixed(a.grantIDs[i][:])
	}
	s.readHolds(a)
	if n := s.Len(0); n > 0 {
		a.extra().refunded = make(map[ulid.ULID]int64)
		for range n {
			var id ulid.ULID
			var amount int64
			s.Fixed(id[:])
			s.Int(&amount)
			a.more.refunded[id] = amount
		}
	}
}

// identity codes what imported and signing keys have besides their event's data.
func (s *section) identity(k *Key) {
	m := k.more
	if m != nil && m.foreign != nil {
		s.Fixed(m.foreign[:])
	}
	if m != nil && m.publicKey != nil {
		s.spent(&k.spent)
	}
}

func (s *section) readHolds(a *Account) {
	n := s.Len(0)
	if n == 0 {
		return
	}
	a.extra().holds = make([]*hold, n)
	for i := range a.more.holds {
		var d events.Held
		s.data(&d)
		id, err := ulid.ParseStrict(strings.TrimPrefix(d.ID, holdIDPrefix))
		s.check(err == nil, "a hold's id is malformed")
		a.more.holds[i] = newHold(id, &d)
	}
}

func (s *section) balance(id *balanceID, b *balance) {
	s.String(&id.environment)
	s.String(&id.asset)
	s.Int(&b.posted)
	s.Int(&b.held)
}

func (s *section) grant(g *grant) {
	s.Fixed(g.id[:])
	s.Int(&g.remaining)
	s.Time(&g.expiresAt)
	s.Int(&g.priority)
}

func (s *section) allowance(p **allowance) {
	var a allowance
	if *p != nil {
		a = **p
	}
	s.Int(&a.amount)
	s.Int(&a.spent)
	if a.amount == 0 && a.spent == 0 {
		return
	}
	s.Time(&a.until)
	if s.Reading() {
		*p = &allowance{amount: a.amount, spent: a.spent, until: a.until}
	}
}

// check notes the first thing that no fold would have made.
func (s *section) check(ok bool, what string) {
	if !ok && s.err == nil {
		s.err = fmt.Errorf("%w: %s", errSection, what)
	}
}

// checkAccount holds what was read against what the rules rely on.
func (s *section) checkAccount(a *Account) {
	s.check(ValidAccount(a.ID), "an account without a name")
	if p := a.Plan; p != nil {
		s.check(p.Price.Default != nil, "a plan without a price")
		s.check(p.Rate == nil || p.Rate.PerSecond > 0, "a rate of nothing")
	}
	s.check(ascending(a.keys, func(a, b *Key) int { return strings.Compare(a.id, b.id) }), "keys out of order")
	for _, k := range a.keys {
		s.check(a.Environments.Get(k.words.Value().environment) != nil, "a key of no environment")
	}
	s.check(ascending(a.balances, func(a, b balance) int { return a.id.Value().compare(b.id.Value()) }), "balances out of order")
	s.check(ascending(a.grantIDs, ulid.ULID.Compare), "grant ids out of order")
	for i := range a.balances {
		b, live := &a.balances[i], map[ulid.ULID]bool{}
		for j, g := range b.grants {
			s.check(g.remaining > 0 && (j == 0 || !g.before(&b.grants[j-1])), "grants out of order or with nothing left")
			s.check(!live[g.id], "a grant stands twice")
			live[g.id] = true
		}
		s.check(b.allowance == nil || b.allowance.amount == 0 || a.Plan != nil && a.Plan.Allowance != nil, "an allowance without a plan")
	}
	if a.more != nil {
		s.check(ascending(a.more.holds, func(a, b *hold) int { return a.id.Compare(b.id) }), "holds out of order")
	}
}

// ascending says whether each comes after the one before it.
func ascending[T any](list []T, compare func(a, b T) int) bool {
	for i := 1; i < len(list); i++ {
		if compare(list[i-1], list[i]) >= 0 {
			return false
		}
	}
	return true
}

// AppendAccount appends the section of the i-th account: all that a fold of the log has
// made of it.
func (st *State) AppendAccount(b []byte, i int) []byte { return appendSection(b, st.order[i]) }

func appendSection(b []byte, a *Account) []byte {
	s := section{scratch: make([]byte, 0, 512)} // most data are shorter
	s.Reset(append(b, sectionVersion))
	s.write(a)
	return s.Bytes()
}

// RestoreAccount puts in the account of a section, as the newest one, and returns its
// id. Bytes that AppendAccount would not have made, and an account or a key that is
// there already, are refused; the state is then as it was.
func (st *State) RestoreAccount(b []byte) (string, error) {
	if len(b) == 0 || b[0] != sectionVersion {
		return "", fmt.Errorf("read an account's section: %w: unknown version", errSection)
	}
	s := section{Coder: *events.NewReader(b[1:])}
	a := &Account{}
	s.read(a)
	s.check(s.Err() == nil, "cut short")
	s.checkAccount(a)
	// Whatever the lenient reading let pass (cut fields, other spellings of a number,
	// bytes behind the end) does not come out the same again.
	if s.err == nil {
		s.check(bytes.Equal(appendSection(make([]byte, 0, len(b)), a), b), "not as it was written")
	}
	s.check(st.accounts[a.ID] == nil, "the account is there already")
	ids := make([]ulid.ULID, len(a.keys))
	for i, k := range a.keys {
		id, err := ulid.ParseStrict(strings.TrimPrefix(k.id, keyIDPrefix))
		s.check(err == nil && k.id == keyIDPrefix+id.String() && st.keys[id] == nil, "a key's id is malformed or there already")
		ids[i] = id
		if k.more != nil && k.more.foreign != nil {
			s.check(st.foreign[*k.more.foreign] == nil, "an imported secret is there already")
		}
	}
	if s.err != nil {
		return "", fmt.Errorf("read an account's section: %w", s.err)
	}
	st.addAccount(a)
	for i, k := range a.keys {
		st.keys[ids[i]] = k
		st.addForeign(k)
	}
	st.setAllDue(a)
	return a.ID, nil
}

// Digest returns the SHA-256 over all accounts' sections, each behind its length, in the
// order of their ids. Equal states have equal digests, whatever way they came about.
func (st *State) Digest() [32]byte {
	sum := sha256.New()
	var length [8]byte
	var b []byte
	for _, id := range slices.Sorted(maps.Keys(st.accounts)) {
		b = appendSection(b[:0], st.accounts[id])
		binary.BigEndian.PutUint64(length[:], uint64(len(b)))
		sum.Write(length[:])
		sum.Write(b)
	}
	return [32]byte(sum.Sum(nil))
}
