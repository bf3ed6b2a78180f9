package ledger

import (
	"slices"
	"strings"
	"unique"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

const (
	defaultAsset  = "credits"
	defaultPrice  = 100 // a request, where no plan says otherwise
	grantIDPrefix = "grant_"
	debitIDPrefix = "debit_"
)

// balance is what an account has of one asset in one environment.
type balance struct {
	id           unique.Handle[balanceID] // shared by all accounts
	posted, held int64
	grants       []grant // with something left, in burn order: priority, then age
}

type grant struct {
	id        string
	remaining int64
	priority  int64
}

func (b *balance) available() int64 { return b.posted - b.held }

// after is the small balance once posted has changed by delta.
func (b *balance) after(id balanceID, delta int64) events.Balance {
	return events.Balance{
		Environment: id.environment, Asset: id.asset,
		Posted: b.posted + delta, Held: b.held, Available: b.posted + delta - b.held,
	}
}

// balance returns the balance, an empty one where nothing was ever granted.
func (a *Account) balance(id balanceID) *balance {
	if i, found := a.findBalance(id); found {
		return &a.balances[i]
	}
	return &balance{}
}

// findBalance returns where the balance stands, or would.
func (a *Account) findBalance(id balanceID) (int, bool) {
	for i := range a.balances {
		if c := a.balances[i].id.Value().compare(id); c >= 0 {
			return i, c == 0
		}
	}
	return len(a.balances), false
}

func (id balanceID) compare(other balanceID) int {
	if c := strings.Compare(id.environment, other.environment); c != 0 {
		return c
	}
	return strings.Compare(id.asset, other.asset)
}

// GrantCredit is credit.grant.
type GrantCredit struct {
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"`
	Grant       string `json:"grant"` // the client's own id, so that an invoice grants once
	Priority    int64  `json:"priority"`
	Category    string `json:"category"`
	Reference   string `json:"reference"`
}

// Validate implements Command.
func (c *GrantCredit) Validate() *events.Error {
	var check checks
	check.environment(c.Environment)
	check.asset(c.Asset)
	check.amount(c.Amount)
	if c.Grant != "" {
		_, err := ulid.ParseStrict(strings.TrimPrefix(c.Grant, grantIDPrefix))
		check.that(strings.HasPrefix(c.Grant, grantIDPrefix) && err == nil, "grant must be a grant id: grant_ and a ULID")
	}
	check.that(c.Priority >= -1000 && c.Priority <= 1000, "priority must be from -1000 to 1000")
	if c.Category == "" {
		c.Category = events.Paid
	}
	check.that(c.Category == events.Paid || c.Category == events.Promotional, "category must be paid or promotional")
	check.text("reference", c.Reference, 0, maxReferenceChars)
	return check.err
}

// Decide implements Command.
func (c *GrantCredit) Decide(in *Input) (Decision, *events.Error) {
	id := c.Grant
	if id == "" {
		id = grantIDPrefix + in.CommandID.String()
	}
	if _, used := slices.BinarySearch(in.Account.grantIDs, id); used {
		return Decision{}, events.Errorf(events.AlreadyExists, "account %s has a grant %s already", in.AccountID, id)
	}
	place := balanceID{c.Environment, c.Asset}
	b := in.Account.balance(place)
	if len(b.grants) >= maxGrants {
		return Decision{}, events.Errorf(events.LimitExceeded, "the balance has %d grants with something left, the most it may have", maxGrants).
			With("limit", maxGrants)
	}
	if b.posted > MaxAmount-c.Amount {
		return Decision{}, events.Errorf(events.LimitExceeded, "the balance would pass %d", int64(MaxAmount)).With("limit", int64(MaxAmount))
	}
	return one(in, "credit.granted", c.Environment, "", &events.Granted{
		Grant: events.Grant{
			ID: id, Environment: c.Environment, Asset: c.Asset, Amount: c.Amount,
			Priority: c.Priority, Category: c.Category, Reference: c.Reference, CreatedAt: in.Time,
		},
		Balance: b.after(place, c.Amount),
	})
}

// DebitCredit is credit.debit.
type DebitCredit struct {
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"`
	Key         string `json:"key"`
	Product     string `json:"product"`
	Reference   string `json:"reference"`
}

// Validate implements Command.
func (c *DebitCredit) Validate() *events.Error {
	var check checks
	check.environment(c.Environment)
	check.asset(c.Asset)
	check.amount(c.Amount)
	if c.Key != "" {
		check.key(c.Key)
	}
	check.that(c.Product == "" || events.ValidName(c.Product), "product must be 1 to 64 of a-z 0-9 _ -")
	check.text("reference", c.Reference, 0, maxReferenceChars)
	return check.err
}

// Decide implements Command.
func (c *DebitCredit) Decide(in *Input) (Decision, *events.Error) {
	if c.Key != "" {
		k, err := in.key(c.Key)
		if err != nil {
			return Decision{}, err
		}
		if e := k.words.Value().environment; e != c.Environment {
			return Decision{}, events.Errorf(events.FailedPrecondition, "key %s belongs to %s", k.id, e)
		}
	}
	if !in.Account.Environments.Get(c.Environment).Enabled {
		return Decision{}, events.Errorf(events.EnvironmentDisabled, "%s is not enabled for account %s", c.Environment, in.AccountID)
	}
	place := balanceID{c.Environment, c.Asset}
	b := in.Account.balance(place)
	if available := b.available(); available < c.Amount {
		return Decision{}, events.Errorf(events.InsufficientCredits, "%d %s are available, %d were asked for", available, c.Asset, c.Amount).
			With("available", available).With("required", c.Amount)
	}
	return one(in, "credit.debited", c.Environment, c.Key, b.debit(in, place, events.Debit{
		Amount: c.Amount, Key: c.Key, Product: c.Product, Reference: c.Reference,
	}))
}

// debit completes a debit that the balance covers: its id, which grants pay, and what is
// left.
func (b *balance) debit(in *Input, place balanceID, d events.Debit) *events.Debited {
	d.ID = debitIDPrefix + in.CommandID.String()
	d.Environment, d.Asset, d.CreatedAt = place.environment, place.asset, in.Time
	owed := d.Amount
	for i := 0; owed > 0 && i < len(b.grants); i++ {
		part := min(owed, b.grants[i].remaining)
		d.Drawn = append(d.Drawn, events.Draw{Grant: b.grants[i].id, Amount: part})
		owed -= part
	}
	return &events.Debited{Debit: d, Balance: b.after(place, -d.Amount)}
}

func (st *State) evolveGranted(account string, d *events.Granted) {
	a := st.accounts[account]
	if a == nil {
		return
	}
	place := balanceID{d.Environment, d.Asset}
	i, found := a.findBalance(place)
	if !found {
		a.balances = slices.Insert(a.balances, i, balance{id: unique.Make(place)})
	}
	b := &a.balances[i]
	b.posted, b.held = d.Balance.Posted, d.Balance.Held
	at := slices.IndexFunc(b.grants, func(g grant) bool { return g.priority > d.Priority })
	if at < 0 {
		at = len(b.grants)
	}
	b.grants = slices.Insert(b.grants, at, grant{id: d.ID, remaining: d.Amount, priority: d.Priority})
	if at, used := slices.BinarySearch(a.grantIDs, d.ID); !used {
		a.grantIDs = slices.Insert(a.grantIDs, at, d.ID)
	}
}

func (st *State) evolveDebited(account string, d *events.Debited) {
	a := st.accounts[account]
	if a == nil {
		return
	}
	place, found := a.findBalance(balanceID{d.Environment, d.Asset})
	if !found {
		return
	}
	b := &a.balances[place]
	b.posted, b.held = d.Balance.Posted, d.Balance.Held
	for _, draw := range d.Drawn {
		i := slices.IndexFunc(b.grants, func(g grant) bool { return g.id == draw.Grant })
		if i < 0 {
			continue
		}
		if b.grants[i].remaining -= draw.Amount; b.grants[i].remaining <= 0 {
			b.grants = slices.Delete(b.grants, i, i+1)
		}
	}
}
