package ledger

import (
	"net/netip"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// State is all that deciding needs to know of one partition. It belongs to one
// goroutine. Everything in it but the rate buckets is a fold of the log.
type State struct {
	accounts map[string]*Account
	keys     map[ulid.ULID]*Key
	dues     dues // what time alone will bring about
}

// NewState returns the state of an empty log.
func NewState() *State {
	return &State{accounts: map[string]*Account{}, keys: map[ulid.ULID]*Key{}}
}

// Account is an account with what it owns.
type Account struct {
	*events.Account                             // the newest event's data: never written to
	keys            int                         // not revoked
	balances        map[balanceID]*balance      // made at the first grant
	endpoints       map[string]*events.Endpoint // not removed
	grantIDs        map[string]struct{}         // of all grants ever made, so that an id grants once
}

type balanceID struct{ environment, asset string }

// Key is a key with its restrictions in the form that is checked.
type Key struct {
	*events.Key // the newest event's data: never written to
	account     *Account
	expired     bool // key.expired was written for its expiry
	allow       []netip.Prefix
	bucket      bucket // in memory only; full after a restart
}

// Evolve folds one event into the state. It never fails: what may happen was decided
// before.
func (st *State) Evolve(e *events.Event) {
	switch d := e.Data.(type) {
	case *events.Account:
		st.evolveAccount(d)
	case *events.Key:
		st.evolveKey(d, e.Type)
	case *events.Granted:
		st.evolveGranted(e.Account, d)
	case *events.Debited:
		st.evolveDebited(e.Account, d)
	case *events.Endpoint:
		st.evolveEndpoint(d)
	}
}

// Accounts returns how many accounts there are.
func (st *State) Accounts() int { return len(st.accounts) }

// Keys returns how many keys there are, revoked ones included.
func (st *State) Keys() int { return len(st.keys) }
