// Package projections turns the log into what readers want: views that answer queries,
// the feed with one CloudEvent a message, and key-value buckets with the current keys
// and balances. Everything here is derived: thrown away, it is rebuilt from the log and
// comes out the same.
//
// A Runner folds the log into views, all of them one commit at a time under one lock,
// so that every answer is true at one position. A Feed and a KV follow the same log by
// themselves and write to streams; neither can hold up the views or the writer.
//
// A view of one's own is a Projection, and a Registration in server.Config.Projections: the
// example has both. It is checkpointed, rebuilt, verified and listed as ours are.
package projections

import (
	"iter"
	"log/slog"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Projection is a named fold of the log. What it holds is divided by account: the events
// of one account change nothing of another's, and each account's part can be saved, taken
// in again and compared by itself. It is used under its Runner's lock only.
type Projection interface {
	// Name is the projection's name in status and logs.
	Name() string
	// Version goes up with every change of what Apply makes of events or of what Save
	// writes: what another version saved is not read, it is made again from the log.
	Version() uint64
	// Apply folds one event: the one at index of its commit, over all entries. It gets
	// every acknowledged event of an account once, in order. Commit and event are shared
	// with other readers and must not be changed. An error, which no valid log leads to,
	// stops this projection for good.
	Apply(c *store.Commit, index int, e *events.Event) error
	// Save appends what it holds of an account to b, and nothing where it holds nothing.
	// It depends on the account's events alone: after the same ones it is the same.
	Save(account string, b []byte) []byte
	// Load takes in what Save of the same version wrote, of an account of which it holds
	// nothing yet.
	Load(account string, data []byte) error
}

// Views is every view with the Runner that keeps them, and the queries they answer.
type Views struct {
	*Runner

	// Past answers questions about the past. It is set before anything is asked.
	Past Past

	accounts  *accounts
	keys      *keys
	balances  *balances
	holds     *holds
	endpoints *endpoints
}

// Names of the views, as status, queries' needs and projection.rebuild have them.
const (
	viewAccounts  = "accounts"
	viewBalances  = "balances"
	viewHolds     = "holds"
	viewEndpoints = "endpoints"

	// ViewKeys also holds the uses of keys that Used tells of.
	ViewKeys = "keys"
)

// NewViews makes empty views of a partition, and beside them an embedder's own
// projections. Run fills them from the tail and keeps them up with it.
func NewViews(tail *store.Tail, partition uint32, logger *slog.Logger, own ...Registration) *Views {
	v := &Views{}
	keys := keep(&v.keys, newKeys)
	keys.replaced = v.inherit
	// Registering a view is one line here.
	v.Runner = NewRunner(tail, partition, logger, append([]Registration{
		keep(&v.accounts, newAccounts),
		keys,
		keep(&v.balances, newBalances),
		keep(&v.holds, newHolds),
		keep(&v.endpoints, newEndpoints),
	}, own...)...)
	return v
}

// saved reads what Save wrote: piece by piece until nothing is left.
func saved(data []byte, piece func(*events.Coder) error) error {
	r := events.NewReader(data)
	for len(r.Bytes()) > 0 {
		if err := piece(r); err != nil {
			return err
		}
		if r.Err() != nil {
			return r.Err()
		}
	}
	return nil
}

// eventsOf is every event of a commit in order.
func eventsOf(c *store.Commit) iter.Seq[*events.Event] {
	return func(yield func(*events.Event) bool) {
		for i := range c.Entries {
			for j := range c.Entries[i].Events {
				if !yield(&c.Entries[i].Events[j]) {
					return
				}
			}
		}
	}
}
