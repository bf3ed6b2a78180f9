package projections_test

import (
	"context"
	"fmt"
	"maps"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/projections"
)

// requests counts the debits of each account by product.
type requests struct{ counts map[string]map[string]int64 }

func (r *requests) Name() string    { return "requests" }
func (r *requests) Version() uint64 { return 1 } // up with every change of Apply or Save

func (r *requests) Apply(_ *store.Commit, _ int, e *events.Event) error {
	if d, ok := e.Data.(*events.Debited); ok && d.Product != "" {
		if r.counts[e.Account] == nil {
			r.counts[e.Account] = map[string]int64{}
		}
		r.counts[e.Account][d.Product]++
	}
	return nil
}

func (r *requests) Save(account string, b []byte) []byte {
	counts := r.counts[account]
	if len(counts) == 0 {
		return b
	}
	w := events.NewWriter(b)
	w.Map(&counts)
	return w.Bytes()
}

func (r *requests) Load(account string, data []byte) error {
	counts, saved := map[string]int64{}, events.NewReader(data)
	saved.Map(&counts)
	r.counts[account] = counts
	return saved.Err()
}

// ownRequests is what server.Config.Projections gets. A result may not change any more.
var ownRequests = projections.Registration{
	New: func() projections.Projection { return &requests{map[string]map[string]int64{}} },
	Queries: map[string]projections.AnswerFunc{
		"requests.get": func(p projections.Projection, q *projections.Query) (any, *events.Error) {
			return maps.Clone(p.(*requests).counts[q.Account]), nil
		},
	},
}

// A projection of one's own is handed to the server, and answers like the views.
func Example() {
	cfg := server.Config{Projections: []projections.Registration{ownRequests}}
	serve(cfg, func(ctx context.Context, c *client.Client) error { // Open, Run and a connection
		if err := debit(ctx, c, "acme", "search", "maps", "search"); err != nil {
			return err
		}
		reply, err := c.Query(ctx, "acme", "requests.get", nil, client.Strict())
		if err == nil {
			fmt.Println(string(reply.Body))
		}
		return err
	})
	// Output: {"maps":1,"search":2}
}
