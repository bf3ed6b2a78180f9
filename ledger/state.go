package ledger

import (
	"net/netip"
	"slices"
	"strings"
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
}

// NewState returns the state of an empty log.
func NewState() *State {
	return &State{accounts: map[string]*Account{}, keys: map[ulid.ULID]*Key{}}
}

// Account is an account with what it owns.
type Account struct {
	events.Account                             // a copy of the newest event's data
	live           int                         // keys that are not revoked
	keys           []*Key                      // sorted by id
	balances       []balance                   // made at the first grant; sorted by environment and asset
	endpoints      map[string]*events.Endpoint // not removed; nil, which is small, for most accounts
	grantIDs       []string                    // of all grants ever made, sorted, so that an id grants once
}

// data returns the account as an event or an answer holds it.
func (a *Account) data() *events.Account {
	d := a.Account
	return &d
}

type balanceID struct{ environment, asset string }

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
	bucket               bucket // in memory only; full after a restart
}

// keyWords are the members of a key that have few values: all keys share them.
type keyWords struct {
	environment, kind, status, assetClass string
	readOnly                              bool
}

// data returns the key as an event or an answer holds it.
func (k *Key) data() *events.Key {
	w := k.words.Value()
	return &events.Key{
		ID: k.id, Account: k.account.ID, Environment: w.environment, Name: k.name, Kind: w.kind, Status: w.status,
		Reason: k.reason, Permissions: k.permissions, ReadOnly: w.readOnly, IPAllowlist: k.allowlist,
		ExpiresAt: k.expiresAt, AssetClass: w.assetClass, Prefix: k.prefix, CreatedAt: k.createdAt,
		Metadata: k.metadata, Hash: k.hash,
	}
}

// set takes over an event's data. It keeps the strings and lists of it, which nobody
// writes to.
func (k *Key) set(d *events.Key) {
	k.words = unique.Make(keyWords{
		environment: d.Environment, kind: d.Kind, status: d.Status, assetClass: d.AssetClass, readOnly: d.ReadOnly,
	})
	k.id, k.name, k.reason, k.prefix = d.ID, d.Name, d.Reason, d.Prefix
	k.permissions, k.allowlist, k.metadata = d.Permissions, d.IPAllowlist, d.Metadata
	k.expiresAt, k.createdAt, k.hash = d.ExpiresAt, d.CreatedAt, d.Hash
	k.allow = make([]netip.Prefix, len(d.IPAllowlist))
	for i, s := range d.IPAllowlist {
		k.allow[i], _ = netip.ParsePrefix(s)
	}
}

// Evolve folds one event into the state. It never fails: what may happen was decided
// before.
func (st *State) Evolve(e *events.Event) {
	switch d := e.Data.(type) {
	case *events.Account:
		st.evolveAccount(d)
	case *events.Key:
		st.evolveKey(d)
	case *events.Granted:
		st.evolveGranted(e.Account, d)
	case *events.Debited:
		st.evolveDebited(e.Account, d)
	case *events.Endpoint:
		st.evolveEndpoint(d)
	}
}

// Accounts returns how many accounts there are.
func (st *State) Accounts() int { return len(st.order) }

// AccountAt returns the id of the i-th account in order of opening. It stays the i-th
// while others are opened.
func (st *State) AccountAt(i int) string { return st.order[i].ID }

// Keys returns how many keys there are, revoked ones included.
func (st *State) Keys() int { return len(st.keys) }

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
