package projections

import (
	"fmt"
	"slices"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// defaultAsset is what balance.get means where no asset is named.
const defaultAsset = "credits"

// Balance is what an account has of one asset in one environment, in the asset's
// smallest unit. Grants are those with something left, in burn order: low priority
// first, then the oldest.
type Balance struct {
	Environment string    `json:"environment"`
	Asset       string    `json:"asset"`
	Posted      int64     `json:"posted"`
	Held        int64     `json:"held"`
	Available   int64     `json:"available"`
	Grants      []Grant   `json:"grants"`
	Allowance   Allowance `json:"allowance"`
}

// Grant is what is left of one grant.
type Grant struct {
	ID        string      `json:"id"`
	Remaining int64       `json:"remaining"`
	ExpiresAt events.Time `json:"expires_at"`
	Priority  int64       `json:"priority"`
}

// Allowance is what a plan gives again and again, and what is left of it. All zero where
// there is none.
type Allowance struct {
	Amount    int64       `json:"amount"`
	Remaining int64       `json:"remaining"`
	ResetsAt  events.Time `json:"resets_at"`
}

// balances is the view of balances. One that never moved is not in it.
type balances struct {
	byID     map[balanceID]*Balance
	accounts map[string][]balanceID // of each account, in the order of their first grant
}

type balanceID struct{ account, environment, asset string }

func newBalances() *balances {
	return &balances{byID: map[balanceID]*Balance{}, accounts: map[string][]balanceID{}}
}

// Name implements Projection.
func (v *balances) Name() string { return "balances" }

// Apply implements Projection. Each event says what the balance is after it; a fold that
// comes to something else means that an event was missed.
func (v *balances) Apply(c *store.Commit) error {
	for e := range eventsOf(c) {
		var err error
		switch d := e.Data.(type) {
		case *events.Granted:
			err = v.granted(e.Account, d)
		case *events.Debited:
			err = v.debited(e.Account, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *balances) granted(account string, d *events.Granted) error {
	id := balanceID{account, d.Environment, d.Asset}
	b := v.byID[id]
	if b == nil {
		b = &Balance{Environment: d.Environment, Asset: d.Asset}
		v.byID[id] = b
		v.accounts[account] = append(v.accounts[account], id)
	}
	at := slices.IndexFunc(b.Grants, func(g Grant) bool { return g.Priority > d.Priority })
	if at < 0 {
		at = len(b.Grants)
	}
	b.Grants = slices.Insert(b.Grants, at, Grant{ID: d.ID, Remaining: d.Amount, Priority: d.Priority})
	return b.move(d.ID, d.Amount, &d.Balance)
}

func (v *balances) debited(account string, d *events.Debited) error {
	b := v.byID[balanceID{account, d.Environment, d.Asset}]
	if b == nil {
		return fmt.Errorf("debit %s was taken from a balance of %s that account %s never had", d.ID, d.Asset, account)
	}
	for _, draw := range d.Drawn {
		i := slices.IndexFunc(b.Grants, func(g Grant) bool { return g.ID == draw.Grant })
		if i < 0 || b.Grants[i].Remaining < draw.Amount {
			return fmt.Errorf("debit %s drew %d from grant %s, which has less", d.ID, draw.Amount, draw.Grant)
		}
		if b.Grants[i].Remaining -= draw.Amount; b.Grants[i].Remaining == 0 {
			b.Grants = slices.Delete(b.Grants, i, i+1)
		}
	}
	return b.move(d.ID, -d.Amount, &d.Balance)
}

// move takes over what an event says the balance is after it.
func (b *Balance) move(id string, delta int64, after *events.Balance) error {
	if b.Posted+delta != after.Posted {
		return fmt.Errorf("%s moved a balance of %d %s by %d to %d", id, b.Posted, b.Asset, delta, after.Posted)
	}
	b.Posted, b.Held, b.Available = after.Posted, after.Held, after.Available
	return nil
}

// clone returns a copy that shares nothing with b.
func (b *Balance) clone() *Balance {
	out := *b
	out.Grants = append([]Grant{}, b.Grants...)
	return &out
}

// balanceResult answers balance.get.
type balanceResult struct {
	Balance *Balance `json:"balance"`
}

// balanceBody is the body of balance.get.
type balanceBody struct {
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
}

func (v *Views) getBalance(account string, body *balanceBody) (any, *events.Error) {
	if body.Environment != events.Test && body.Environment != events.Live {
		return nil, events.Errorf(events.InvalidArgument, "environment must be test or live")
	}
	if body.Asset == "" {
		body.Asset = defaultAsset
	}
	if !events.ValidName(body.Asset) {
		return nil, events.Errorf(events.InvalidArgument, "asset must be 1 to 64 of a-z 0-9 _ -")
	}
	if _, err := v.accounts.get(account); err != nil {
		return nil, err
	}
	b := v.balances.byID[balanceID{account, body.Environment, body.Asset}]
	if b == nil {
		b = &Balance{Environment: body.Environment, Asset: body.Asset}
	}
	return balanceResult{b.clone()}, nil
}
