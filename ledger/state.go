package ledger

import (
	"net/netip"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// State is all that deciding needs to know of one partition. It belongs to one
// goroutine. Everything in it but the rate buckets is a fold of the log.
//
// It is compact, for a million accounts: it keeps no event's data but copies what it
// needs, so that words like "active" and an account's id are not held once per event,
// and it has slices where an account has few of a thing.
type State struct {
	accounts map[string]*Account
	order    []*Account // in order of opening
	keys     map[ulid.ULID]*Key
	foreign  map[[32]byte]*Key // imported keys, for ever, by the hash of the secret they came with
	turns    turns             // which account has something due, and when

	// What the last event was about: most are of the same account as the one before, and
	// most new keys and balances are like the one made before. So they are mostly not
	// looked up.
	last     *Account
	newWords unique.Handle[keyWords]
	newPlace unique.Handle[balanceID]

	// Notices is how long before a key's expiry key.expiring tells of it, as CheckNotices
	// takes it. Nil: DefaultNotices; empty: never. It is set before anything is folded.
	Notices []time.Duration
}

// NewState returns the state of an empty log.
func NewState() *State {
	return &State{accounts: map[string]*Account{}, keys: map[ulid.ULID]*Key{}, foreign: map[[32]byte]*Key{}}
}

// Account is an account with what it owns.
type Account struct {
	events.Account             // a copy of the newest event's data
	live           int         // keys that are not revoked
	due            events.Time // when the earliest of its dues is; 0: none
	keys           []*Key      // sorted by id
	balances       []balance   // made at the first movement; sorted by environment and asset
	grantIDs       []ulid.ULID // of all grants that credit.grant ever made, sorted, so that an id grants once
	more           *more       // nil for most accounts
}

// more is what few accounts have.
type more struct {
	dues      dues
	endpoints map[string]*events.Endpoint // not removed
	holds     []*hold                     // open ones, sorted by id
	refunded  map[ulid.ULID]int64         // of a debit, in all
}

// extra returns what few accounts have, to be written to.
func (a *Account) extra() *more {
	if a.more == nil {
		a.more = &more{}
	}
	return a.more
}

// endpoints returns the endpoints that are not removed.
func (a *Account) endpoints() map[string]*events.Endpoint {
	if a.more == nil {
		return nil
	}
	return a.more.endpoints
}

// data returns the account as an event or an answer holds it.
func (a *Account) data() *events.Account {
	d := a.Account
	return &d
}

// Key is a key with its restrictions in the form that is checked.
type Key struct {
	id                   string
	account              *Account
	words                unique.Handle[keyWords]
	name, reason, prefix string
	permissions          []string
	allowlist            []string
	allow                []netip.Prefix // the allowlist in the form that is checked
	metadata             events.Object
	expiresAt, createdAt events.Time
	hash                 [32]byte
	bucket               bucket   // in memory only; full after a restart
	more                 *moreKey // nil for most keys
	spent                *spent   // nil but for a signing key that paid for something
}

// moreKey is what few keys have. It is never written to: a change makes a new one.
type moreKey struct {
	publicKey   []byte    // of a signing key
	foreign     *[32]byte // hash of the secret it was imported with; nil: it was not
	oldHash     [32]byte  // of the secret before the newest
	oldUntil    events.Time
	rotatedAt   events.Time
	expirySetAt events.Time
	notice      int64 // see events.Key
	hasOldHash  bool
}

// keyWords are the members of a key that have few values: all keys share them.
type keyWords struct {
	environment, kind, status, assetClass string
	readOnly, expired                     bool // expired: key.expired was written for its expiry
}

// data returns the key as an event or an answer holds it.
func (k *Key) data() *events.Key {
	w := k.words.Value()
	d := &events.Key{
		ID: k.id, Account: k.account.ID, Environment: w.environment, Name: k.name, Kind: w.kind, Status: w.status,
		Reason: k.reason, Permissions: k.permissions, ReadOnly: w.readOnly, IPAllowlist: k.allowlist,
		ExpiresAt: k.expiresAt, AssetClass: w.assetClass, Prefix: k.prefix, CreatedAt: k.createdAt,
		Metadata: k.metadata, Hash: k.hash,
	}
	if m := k.more; m != nil {
		d.PublicKey, d.Imported, d.RotatedAt, d.OldSecretUntil, d.OldHash = m.publicKey, m.foreign != nil, m.rotatedAt, m.oldUntil, m.oldHash
		d.ExpirySetAt, d.Notice = m.expirySetAt, m.notice
	}
	return d
}

// set takes over an event's data. It keeps the strings and lists of it, which nobody
// writes to.
func (k *Key) set(d *events.Key, expired bool) {
	k.words = shared(k.words, keyWords{
		environment: d.Environment, kind: d.Kind, status: d.Status, assetClass: d.AssetClass, readOnly: d.ReadOnly,
		expired: expired,
	})
	k.id, k.name, k.reason, k.prefix = d.ID, d.Name, d.Reason, d.Prefix
	k.permissions, k.allowlist, k.metadata = d.Permissions, d.IPAllowlist, d.Metadata
	k.expiresAt, k.createdAt, k.hash = d.ExpiresAt, d.CreatedAt, d.Hash
	k.allow = make([]netip.Prefix, len(d.IPAllowlist))
	for i, s := range d.IPAllowlist {
		k.allow[i], _ = netip.ParsePrefix(s)
	}
	m := moreKey{
		publicKey: d.PublicKey, oldHash: d.OldHash, oldUntil: d.OldSecretUntil, rotatedAt: d.RotatedAt,
		expirySetAt: d.ExpirySetAt, notice: d.Notice, foreign: k.foreign(d), hasOldHash: d.OldHash != [32]byte{},
	}
	k.more = nil
	if m.publicKey != nil || m.foreign != nil || m.hasOldHash || m.rotatedAt != 0 || m.oldUntil != 0 || m.expirySetAt != 0 || m.notice != 0 {
		more := m // on the heap, which m is not
		k.more = &more
	}
}

// Evolve folds one event into the state. It never fails: what may happen was decided
// before.
func (st *State) Evolve(e *events.Event) {
	switch d := e.Data.(type) {
	case *events.Account:
		st.evolveAccount(d)
	case *events.Key:
		st.evolveKey(d, e.Type)
	case *events.Endpoint:
		st.evolveEndpoint(d)
	default:
		st.evolveMoney(e.Account, e.Data)
	}
}

func (st *State) evolveMoney(account string, data events.Data) {
	switch d := data.(type) {
	case *events.Debited:
		st.moved(account, &d.Balance, d.Drawn, nil, false)
		st.evolveSpent(&d.Debit)
	case *events.Granted:
		st.evolveGranted(account, d)
	case *events.Refunded:
		st.evolveRefunded(account, d)
	case *events.Adjusted:
		st.moved(account, &d.Balance, d.Drawn, d.Added, true)
	case *events.Transferred:
		st.moved(account, &d.Balance, d.Drawn, d.Added, true)
	case *events.Expired:
		st.evolveExpired(account, d)
	case *events.Replenished:
		st.evolveReplenished(account, d)
	case *events.Exchanged:
		st.moved(account, &d.From.Balance, d.From.Drawn, nil, false)
		st.moved(account, &d.To.Balance, nil, d.To.Added, true)
	case *events.Held:
		st.evolveHeld(account, d)
	}
}

// Accounts returns how many accounts there are.
func (st *State) Accounts() int { return len(st.order) }

// AccountAt returns the id of the i-th account in order of opening. It stays the i-th
// while others are opened.
func (st *State) AccountAt(i int) string { return st.order[i].ID }

// Keys returns how many keys there are, revoked ones included.
func (st *State) Keys() int { return len(st.keys) }

// account returns the account with an id, nil for none.
func (st *State) account(id string) *Account {
	if st.last == nil || st.last.ID != id {
		st.last = st.accounts[id]
	}
	return st.last
}

// shared returns the handle of a value: guess, where that is it, since making one costs
// more than a look.
func shared[T comparable](guess unique.Handle[T], value T) unique.Handle[T] {
	if guess != (unique.Handle[T]{}) && guess.Value() == value {
		return guess
	}
	return unique.Make(value)
}

// addAccount puts in an account that is new.
func (st *State) addAccount(a *Account) {
	st.accounts[a.ID] = a
	st.order = append(st.order, a)
}

// addKey puts in a key that is new, under its account.
func (st *State) addKey(id ulid.ULID, k *Key) {
	st.keys[id] = k
	a := k.account
	at, _ := slices.BinarySearchFunc(a.keys, k.id, func(k *Key, id string) int { return strings.Compare(k.id, id) })
	a.keys = slices.Insert(a.keys, at, k)
}
