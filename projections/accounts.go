package projections

import (
	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// ledgerItself is the account that stands for the ledger in subjects of commands and
// queries.
const ledgerItself = "_"

// accounts is the view of account objects, all in one list.
type accounts struct {
	table[*events.Account]
	behind bool // the list gets its accounts by enlist, in order
}

func newAccounts() *accounts { return &accounts{table: newTable[*events.Account]()} }

// Name implements Projection.
func (v *accounts) Name() string { return viewAccounts }

// Version implements Projection.
func (v *accounts) Version() uint64 { return 1 }

// Apply implements Projection.
func (v *accounts) Apply(_ *store.Commit, _ int, e *events.Event) error {
	if d, ok := e.Data.(*events.Account); ok {
		v.put(d)
	}
	return nil
}

func (v *accounts) put(d *events.Account) {
	switch r := v.byID[d.ID]; {
	case r != nil:
		r.value = d
	case v.behind:
		v.make(d.ID, d.CreatedAt).value = d
	default:
		v.place(ledgerItself, d.ID, d.CreatedAt).value = d
	}
}

// listLater implements listing.
func (v *accounts) listLater() { v.behind = true }

// listNow implements listing.
func (v *accounts) listNow(account string) {
	if r := v.byID[account]; r != nil && v.behind {
		v.enlist(ledgerItself, r)
	}
}

// listed implements listing.
func (v *accounts) listed() { v.behind = false }

// Save implements Projection.
func (v *accounts) Save(account string, b []byte) []byte {
	r := v.byID[account]
	if r == nil {
		return b
	}
	w := events.NewWriter(b)
	w.Nested(r.value)
	return w.Bytes()
}

// Load implements Projection.
func (v *accounts) Load(_ string, data []byte) error {
	return saved(data, func(r *events.Coder) error {
		d := &events.Account{}
		r.Nested(d)
		v.put(d)
		return nil
	})
}

// get returns an account, or NotFound.
func (v *accounts) get(id string) (*events.Account, *events.Error) {
	if r := v.byID[id]; r != nil {
		return r.value, nil
	}
	return nil, events.Errorf(events.NotFound, "there is no account %s", id)
}

// accountResult answers account.get.
type accountResult struct {
	Account *events.Account `json:"account"`
}

// accountsResult answers account.list.
type accountsResult struct {
	Accounts   []*events.Account `json:"accounts"`
	NextCursor *string           `json:"next_cursor"`
}

// accountListBody is the body of account.list.
type accountListBody struct {
	page
	Status string `json:"status"`
}

func (v *Views) getAccount(account string, _ *struct{}) (any, *events.Error) {
	a, err := v.accounts.get(account)
	if err != nil {
		return nil, err
	}
	return accountResult{a}, nil
}

// listAccounts is a query of the ledger itself: a customer, who may ask all queries of
// its own account, must not see the others.
func (v *Views) listAccounts(account string, body *accountListBody) (any, *events.Error) {
	if account != ledgerItself {
		return nil, events.Errorf(events.InvalidArgument, "account.list is a query of the ledger itself: ask %s%s.account.list",
			store.SubjectQuery, ledgerItself)
	}
	if err := oneOf("status", body.Status, events.Active, events.Suspended, events.Closed); err != nil {
		return nil, err
	}
	list, next, err := v.accounts.list(ledgerItself, &body.page, func(a *events.Account) bool {
		return body.Status == "" || a.Status == body.Status
	})
	if err != nil {
		return nil, err
	}
	return accountsResult{list, next}, nil
}
