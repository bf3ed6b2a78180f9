// Package projections turns the log into what readers want: views that answer queries,
// the feed with one CloudEvent a message, and key-value buckets with the current keys
// and balances. Everything here is derived: thrown away, it is rebuilt from the log and
// comes out the same.
//
// A Runner folds the log into views, all of them one commit at a time under one lock,
// so that every answer is true at one position. A Feed and a KV follow the same log by
// themselves and write to streams; neither can hold up the views or the writer.
package projections

import (
	"iter"
	"log/slog"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Projection is a named fold of the log.
type Projection interface {
	// Name is the projection's name in status and logs.
	Name() string
	// Apply folds one commit. It gets every acknowledged commit once, in order. The
	// commit and all it points to is shared with other readers and must not be
	// changed. An error, which no valid log leads to, stops this projection for good.
	Apply(c *store.Commit) error
}

// Views is every view with the Runner that keeps them, and the queries they answer.
type Views struct {
	*Runner

	accounts  *accounts
	keys      *keys
	balances  *balances
	holds     *holds
	endpoints *endpoints
}

// NewViews makes empty views of a partition. Run fills them from the tail and keeps them
// up with it.
func NewViews(tail *store.Tail, partition uint32, logger *slog.Logger) *Views {
	v := &Views{accounts: newAccounts(), keys: newKeys(), balances: newBalances(), holds: newHolds(), endpoints: newEndpoints()}
	// Registering a view is one line here.
	v.Runner = NewRunner(tail, partition, logger,
		v.accounts,
		v.keys,
		v.balances,
		v.holds,
		v.endpoints,
	)
	return v
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
