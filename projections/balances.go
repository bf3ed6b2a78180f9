package projections

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// defaultAsset is what balance.get means where no asset is named.
const defaultAsset = "credits"

// Balance is what an account has of one asset in one environment, in the asset's
// smallest unit. Grants are those with something left, in burn order: low priority first,
// then the earliest expiry, then the oldest; one that something was given back to after
// it was used up comes before its equals.
type Balance struct {
	Environment string    `json:"environment"`
	Asset       string    `json:"asset"`
	Posted      int64     `json:"posted"`
	Held        int64     `json:"held"`
	Available   int64     `json:"available"`
	Grants      []Grant   `json:"grants"`
	Allowance   Allowance `json:"allowance"`

	spent int64 // of the allowance; more than there is of it after a change to a smaller plan
	left  int64 // in all grants
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
//
// It is what the log says up to the answer's position. The start of a period is an event
// only where something was spent, so an allowance that is whole resets at the end of the
// period that the time of that position lies in. One that was spent of resets at the end of
// the period it was spent in; where that is past, it is about to: the event comes with the
// account's next command, or by itself a little later.
type Allowance struct {
	Amount    int64       `json:"amount"`
	Remaining int64       `json:"remaining"`
	ResetsAt  events.Time `json:"resets_at"`
}

// balances is the view of balances. One that never moved is not in it.
type balances struct {
	byID     map[balanceID]*Balance
	accounts map[string][]balanceID // of each account, in the order in which they first moved
}

type balanceID struct{ account, environment, asset string }

func newBalances() *balances {
	return &balances{byID: map[balanceID]*Balance{}, accounts: map[string][]balanceID{}}
}

// Name implements Projection.
func (v *balances) Name() string { return viewBalances }

// Version implements Projection.
func (v *balances) Version() uint64 { return 1 }

// Apply implements Projection. Each event says what the balance is after it; a fold that
// comes to something else means that an event was missed.
func (v *balances) Apply(_ *store.Commit, _ int, e *events.Event) error {
	list, n := events.Movements(e.Data)
	for i := range list[:n] {
		if err := v.make(e.Account, list[i].After).move(&list[i]); err != nil {
			return fmt.Errorf("%s of account %s: %w", e.Type, e.Account, err)
		}
	}
	return nil
}

// Save implements Projection.
func (v *balances) Save(account string, b []byte) []byte {
	w := events.NewWriter(b)
	for _, id := range v.accounts[account] {
		v.byID[id].code(w)
	}
	return w.Bytes()
}

// Load implements Projection.
func (v *balances) Load(account string, data []byte) error {
	return saved(data, func(r *events.Coder) error {
		b := &Balance{}
		b.code(r)
		id := balanceID{account, b.Environment, b.Asset}
		if v.byID[id] != nil {
			return fmt.Errorf("balance %s %s is there twice", id.environment, id.asset)
		}
		v.byID[id] = b
		v.accounts[account] = append(v.accounts[account], id)
		return nil
	})
}

// code codes a balance in its saved form.
func (b *Balance) code(c *events.Coder) {
	c.Word(&b.Environment)
	c.Word(&b.Asset)
	c.Int(&b.Posted)
	c.Int(&b.Held)
	c.Int(&b.Allowance.Amount)
	c.Int(&b.Allowance.Remaining)
	c.Time(&b.Allowance.ResetsAt)
	c.Int(&b.spent)
	n := c.Len(len(b.Grants))
	if c.Reading() {
		b.Available = b.Posted - b.Held
		b.Grants = slices.Grow(b.Grants, n)[:n]
	}
	for i := range b.Grants {
		g := &b.Grants[i]
		c.String(&g.ID)
		c.Int(&g.Remaining)
		c.Time(&g.ExpiresAt)
		c.Int(&g.Priority)
		if c.Reading() {
			b.left += g.Remaining
		}
	}
}

// make returns the balance that an event is about, and makes it where there is none.
func (v *balances) make(account string, after *events.Balance) *Balance {
	id := balanceID{account, after.Environment, after.Asset}
	b := v.byID[id]
	if b == nil {
		b = &Balance{Environment: id.environment, Asset: id.asset}
		v.byID[id] = b
		v.accounts[account] = append(v.accounts[account], id)
	}
	return b
}

// move folds a movement. What comes out must be the balance that the event tells, and all
// that is available must be left in a grant or in the allowance: whoever owes has neither.
func (b *Balance) move(m *events.Movement) error {
	available, held := b.Available+m.Available(), b.Held+m.Held
	if held != m.After.Held || available+held != m.After.Posted {
		return fmt.Errorf("it leaves %d %s posted and %d held, and comes to %d and %d",
			m.After.Posted, b.Asset, m.After.Held, available+held, held)
	}
	for i := range m.Drawn {
		if err := b.draw(&m.Drawn[i]); err != nil {
			return err
		}
	}
	for i := range m.Added {
		if err := b.add(&m.Added[i], m.Fresh); err != nil {
			return err
		}
	}
	if r := m.Allowance; r != nil {
		b.Allowance, b.spent = Allowance{Amount: r.Amount, Remaining: r.Remaining, ResetsAt: r.ResetsAt}, r.Spent
		if r.Amount == 0 {
			b.Allowance.ResetsAt = 0 // there is none any more
		}
	}
	b.Posted, b.Held, b.Available = m.After.Posted, held, available
	if left := b.left + b.Allowance.Remaining; left != max(0, b.Available) {
		return fmt.Errorf("%d %s are available, and grants and allowance have %d", b.Available, b.Asset, left)
	}
	return nil
}

// draw takes what was drawn from where it was.
func (b *Balance) draw(d *events.Draw) error {
	switch d.Grant {
	case events.OverdraftGrant:
		return nil
	case events.AllowanceGrant:
		a := &b.Allowance
		if a.Remaining < d.Amount {
			return fmt.Errorf("%d was drawn from the allowance, which has %d", d.Amount, a.Remaining)
		}
		a.Remaining, a.ResetsAt = a.Remaining-d.Amount, d.ExpiresAt
		b.spent += d.Amount
		return nil
	}
	i := b.find(d.Grant)
	if i < 0 || b.Grants[i].Remaining < d.Amount {
		return fmt.Errorf("%d was drawn from grant %s, which has less", d.Amount, d.Grant)
	}
	b.left -= d.Amount
	if b.Grants[i].Remaining -= d.Amount; b.Grants[i].Remaining == 0 {
		b.Grants = slices.Delete(b.Grants, i, i+1)
	}
	return nil
}

// add puts what was added where it went.
func (b *Balance) add(d *events.Draw, fresh bool) error {
	switch d.Grant {
	case events.OverdraftGrant:
		return nil
	case events.AllowanceGrant:
		if b.spent < d.Amount {
			return fmt.Errorf("%d was given back to the allowance, of which %d was spent", d.Amount, b.spent)
		}
		b.spent -= d.Amount
		b.Allowance.Remaining += d.Amount
		return nil
	}
	b.left += d.Amount
	if i := b.find(d.Grant); i >= 0 {
		b.Grants[i].Remaining += d.Amount
		return nil
	}
	g := Grant{ID: d.Grant, Remaining: d.Amount, ExpiresAt: d.ExpiresAt, Priority: d.Priority}
	i := 0
	for i < len(b.Grants) && (b.Grants[i].before(&g) || fresh && !g.before(&b.Grants[i])) {
		i++
	}
	b.Grants = slices.Insert(b.Grants, i, g)
	return nil
}

// find returns which of the grants has an id, -1 for none.
func (b *Balance) find(id string) int {
	return slices.IndexFunc(b.Grants, func(g Grant) bool { return g.ID == id })
}

// before says whether g is burnt before other by its terms.
func (g *Grant) before(other *Grant) bool {
	if g.Priority != other.Priority {
		return g.Priority < other.Priority
	}
	return g.ExpiresAt != other.ExpiresAt && (other.ExpiresAt == 0 || g.ExpiresAt != 0 && g.ExpiresAt < other.ExpiresAt)
}

// clone returns a copy that shares nothing with b, for readers: terms are the plan's, now
// is the time of the view.
func (b *Balance) clone(terms *events.Allowance, now events.Time) *Balance {
	out := *b
	out.Grants = append([]Grant{}, b.Grants...)
	if terms != nil && b.spent == 0 && b.Allowance.Amount > 0 && b.Allowance.ResetsAt <= now {
		zone, err := events.Zone(terms.TimeZone)
		if err != nil {
			zone = time.UTC // as the rules do
		}
		_, out.Allowance.ResetsAt = events.Period(terms.Every, zone, now)
	}
	return &out
}

// showBalance returns a balance as readers see it at the views' position.
func (v *Views) showBalance(account string, b *Balance) *Balance {
	var terms *events.Allowance
	if r := v.accounts.byID[account]; r != nil && r.value.Plan != nil {
		terms = r.value.Plan.Allowance
	}
	return b.clone(terms, v.applied.Time)
}

// balanceResult answers balance.get.
type balanceResult struct {
	Balance *Balance `json:"balance"`
}

// balanceBody is the body of balance.get.
type balanceBody struct {
	moment
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
	return balanceResult{v.showBalance(account, b)}, nil
}
