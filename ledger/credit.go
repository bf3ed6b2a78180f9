package ledger

import (
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

const (
	defaultAsset  = "credits"
	defaultPrice  = 100 // a request, where no plan says otherwise
	grantIDPrefix = "grant_"
	debitIDPrefix = "debit_"
)

// GrantCredit is credit.grant.
type GrantCredit struct {
	Environment string      `json:"environment"`
	Asset       string      `json:"asset"`
	Amount      int64       `json:"amount"`
	Grant       string      `json:"grant"` // the client's own id, so that an invoice grants once
	ExpiresAt   events.Time `json:"expires_at,omitzero"`
	Priority    int64       `json:"priority"`
	Category    string      `json:"category"`
	Reference   string      `json:"reference"`
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
	id := in.CommandID
	if c.Grant != "" {
		id, _ = ulid.ParseStrict(strings.TrimPrefix(c.Grant, grantIDPrefix)) // by Validate
	}
	name := prefixed(grantIDPrefix, id)
	if _, used := slices.BinarySearchFunc(in.Account.grantIDs, id, ulid.ULID.Compare); used {
		return Decision{}, events.Errorf(events.AlreadyExists, "account %s has a grant %s already", in.AccountID, name)
	}
	if c.ExpiresAt != 0 && c.ExpiresAt <= in.Time {
		return Decision{}, errExpiryPast(c.ExpiresAt)
	}
	place := balanceID{c.Environment, c.Asset}
	b := in.Account.balance(place)
	if b.find(name) >= 0 { // made by something else, on terms of its own
		return Decision{}, events.Errorf(events.AlreadyExists, "the balance has a %s already", name)
	}
	if err := in.Account.refuseMore(place, c.Amount); err != nil {
		return Decision{}, err
	}
	return one(in, "credit.granted", c.Environment, "", &events.Granted{
		Grant: events.Grant{
			ID: name, Environment: c.Environment, Asset: c.Asset, Amount: c.Amount, Priority: c.Priority,
			Category: c.Category, Reference: c.Reference, CreatedAt: in.Time, ExpiresAt: c.ExpiresAt,
			OverdraftPaid: min(c.Amount, b.owed()),
		},
		Balance: b.after(place, c.Amount, 0),
	})
}

// refuseMore refuses an amount that there is no room for: in the balance, for one more
// grant in it, or for one more balance.
func (a *Account) refuseMore(id balanceID, amount int64) *events.Error {
	if _, found := a.findBalance(id); !found && len(a.balances) >= maxBalances {
		return events.Errorf(events.LimitExceeded, "the account has %d balances, the most it may have", maxBalances).With("limit", maxBalances)
	}
	return a.balance(id).refuse(1, amount)
}

func (b *balance) refuse(grants int, amount int64) *events.Error {
	if len(b.grants)+grants > maxGrants {
		return events.Errorf(events.LimitExceeded, "the balance has %d grants with something left, the most it may have", maxGrants).
			With("limit", maxGrants)
	}
	if b.room() < amount {
		return errBalanceFull()
	}
	return nil
}

func errBalanceFull() *events.Error {
	return events.Errorf(events.LimitExceeded, "the balance would pass %d", int64(MaxAmount)).With("limit", int64(MaxAmount))
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

// Member implements events.Flat.
func (c *DebitCredit) Member(name []byte, v events.Scalar) bool {
	switch string(name) {
	case "environment":
		return v.String(&c.Environment)
	case "asset":
		return v.String(&c.Asset)
	case "amount":
		return v.Int(&c.Amount)
	case "key":
		return v.String(&c.Key)
	case "product":
		return v.String(&c.Product)
	case "reference":
		return v.String(&c.Reference)
	}
	return false
}

// Reset implements events.Flat.
func (c *DebitCredit) Reset() { *c = DebitCredit{} }

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
	class, err := in.spendingKey(c.Key, c.Environment, c.Asset)
	if err != nil {
		return Decision{}, err
	}
	if err := in.inEnvironment(c.Environment); err != nil {
		return Decision{}, err
	}
	taken, err := in.take(balanceID{c.Environment, c.Asset}, c.Amount, class)
	if err != nil {
		return Decision{}, err
	}
	return Decision{Events: taken.debit(in, events.Debit{Key: c.Key, Product: c.Product, Reference: c.Reference})}, nil
}

// taken is an amount that a balance can give: where it comes from, and what it took to
// have it there.
type taken struct {
	place     balanceID
	amount    int64
	drawn     []events.Draw
	exchanges []events.Event
	alerts    []events.Event // of the exchanges
	before    int64          // available, before it
	after     events.Balance // of the exchanges, with the amount still in it
}

// take looks for an amount: in the balance, then in what stands in for it at par, then in
// what it may owe. Nothing is changed.
func (in *Input) take(place balanceID, amount int64, class string) (taken, *events.Error) {
	b := in.Account.balance(place)
	t := taken{place: place, amount: amount, before: b.available()}
	if short := amount - t.before; short > 0 {
		var err *events.Error
		if b, err = in.coverShortfall(&t, b, short, class); err != nil {
			return taken{}, err
		}
	}
	t.drawn = b.draw(amount, in.allowanceEnd(b))
	t.after = b.after(place, 0, 0)
	return t, nil
}

// debit is the events of taking it.
func (t *taken) debit(in *Input, d events.Debit) []events.Event {
	d.ID, d.Amount, d.Drawn = prefixed(debitIDPrefix, in.CommandID), t.amount, t.drawn
	d.Environment, d.Asset, d.CreatedAt = t.place.environment, t.place.asset, in.Time
	after := t.after
	after.Posted -= t.amount
	after.Available -= t.amount
	return t.events(in, events.Event{
		Type: "credit.debited", Account: in.AccountID, Environment: d.Environment, Subject: d.Key,
		Data: &events.Debited{Debit: d, Balance: after},
	}, &after)
}

// events puts around the event that says what the amount was taken for the exchanges that
// it took, and what the thresholds have to say.
func (t *taken) events(in *Input, e events.Event, after *events.Balance) []events.Event {
	list := append(t.exchanges, e)
	list = append(list, t.alerts...)
	return append(list, in.alerts(t.place, t.before, after)...)
}

// withdraw takes an amount out of a balance as it stands, down to what it may owe: nothing
// stands in for it at par. It returns where the amount comes from and the balance after it.
func (in *Input) withdraw(place balanceID, amount int64) ([]events.Draw, events.Balance, *events.Error) {
	b := in.Account.balance(place)
	if amount-b.available() > in.Account.overdraft(place.asset) {
		return nil, events.Balance{}, errInsufficient(place.asset, b.available(), amount)
	}
	return b.draw(amount, in.allowanceEnd(b)), b.after(place, -amount, 0), nil
}

// overdraft is how far below zero a balance of an asset may go.
func (a *Account) overdraft(asset string) int64 {
	if a.Plan == nil {
		return 0
	}
	return a.Plan.Overdraft[asset]
}

// inEnvironment refuses what takes from an environment that is off.
func (in *Input) inEnvironment(name string) *events.Error {
	if in.Account.Environments.Get(name).Enabled {
		return nil
	}
	return events.Errorf(events.EnvironmentDisabled, "%s is not enabled for account %s", name, in.AccountID)
}

// prefixed is an id made from a command's id.
func prefixed(prefix string, id ulid.ULID) string {
	var room [len(adjustmentIDPrefix) + ulid.EncodedSize]byte // no prefix is longer
	b := append(room[:0], prefix...)
	b = b[:len(prefix)+ulid.EncodedSize]
	_ = id.MarshalTextTo(b[len(prefix):]) // cannot fail: it has the size
	return string(b)
}

func (st *State) evolveGranted(account string, d *events.Granted) {
	var added []events.Draw
	if left := d.Amount - d.OverdraftPaid; left > 0 {
		added = []events.Draw{{Grant: d.ID, Amount: left, ExpiresAt: d.ExpiresAt, Priority: d.Priority}}
	}
	st.moved(account, &d.Balance, nil, added, true)
	id, err := ulid.ParseStrict(strings.TrimPrefix(d.ID, grantIDPrefix))
	if a := st.account(account); a != nil && err == nil {
		if at, used := slices.BinarySearchFunc(a.grantIDs, id, ulid.ULID.Compare); !used {
			a.grantIDs = slices.Insert(a.grantIDs, at, id)
		}
	}
}
