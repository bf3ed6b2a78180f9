package events

import (
	"maps"
	"slices"
)

// Environment names; each account has both, with separate keys and balances.
const (
	Test = "test"
	Live = "live"
)

// Statuses of accounts, keys and endpoints.
const (
	Active    = "active"
	Suspended = "suspended"
	Closed    = "closed"
	Disabled  = "disabled"
	Revoked   = "revoked"
	Paused    = "paused"
	Removed   = "removed"
)

// Account is the data of every account event: the account after it.
type Account struct {
	ID           string       `json:"id"`
	Name         string       `json:"name"`
	Status       string       `json:"status"` // Active, Suspended or Closed
	Reason       string       `json:"reason,omitempty"`
	Environments Environments `json:"environments"`
	Plan         *Plan        `json:"plan"`
	Metadata     Object       `json:"metadata"`
	CreatedAt    Time         `json:"created_at"`
	Thresholds   []Threshold  `json:"thresholds,omitempty"`
}

// Threshold is a mark that balance.low tells of when a balance falls below it: Amount in
// the asset's smallest unit, or Percent of the plan's allowance. One of them is zero.
type Threshold struct {
	Environment string `json:"environment,omitempty"` // empty: both
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount,omitzero"`
	Percent     int64  `json:"percent,omitzero"` // 1 to 100
}

// Environments holds an account's two environments.
type Environments struct {
	Test Environment `json:"test"`
	Live Environment `json:"live"`
}

// Environment says what works in one environment of an account. Products nil: never
// set, which means any in test and none in live; empty: none.
type Environment struct {
	Enabled  bool     `json:"enabled"`
	Products Products `json:"products"`
}

// Products is a list of product names, sorted. Nil, which is null in JSON, means never
// set; empty means none.
type Products []string

// MarshalJSON implements json.Marshaler.
func (p Products) MarshalJSON() ([]byte, error) {
	if p == nil {
		return []byte("null"), nil
	}
	return Encode([]string(p))
}

// Get returns the environment called name, nil for a name that is neither.
func (e *Environments) Get(name string) *Environment {
	switch name {
	case Test:
		return &e.Test
	case Live:
		return &e.Live
	}
	return nil
}

// Plan is the full terms an account buys under. They are copied into the event, so
// that replay needs nothing else.
type Plan struct {
	Name    string `json:"name"`
	Price   Price  `json:"price"`
	Rate    *Rate  `json:"rate"`     // null: no limit
	MaxKeys int64  `json:"max_keys"` // 0: the ledger's own limit

	Allowance *Allowance       `json:"allowance"` // null: none
	Overdraft map[string]int64 `json:"overdraft"` // asset to how far below zero it may go
	// Par is pairs of assets that are worth the same: each stands in for the other where
	// it runs short.
	Par    [][]string       `json:"par"`
	Assets map[string]Asset `json:"assets"` // those it does not name: scale 0, class credits
}

// Allowance is what each environment has again at every period's start, at 00:00 in its
// time zone. What is left of the last period does not add up.
type Allowance struct {
	Asset    string `json:"asset"`
	Amount   int64  `json:"amount"`
	Every    string `json:"every"`     // Day or Month
	TimeZone string `json:"time_zone"` // of the IANA database; UTC where none is given
}

// Asset is what a unit of an asset means: 10^-Scale of a whole one, and its class.
type Asset struct {
	Scale int64  `json:"scale"`
	Class string `json:"class"` // Credits, Fiat or Crypto
}

// Classes of assets, and of keys: a key of class Any may spend every class, any other its
// own and Credits.
const (
	Credits = "credits"
	Fiat    = "fiat"
	Crypto  = "crypto"
	Any     = "any"
)

// Class returns the class of an asset under a plan, which may be nil.
func (p *Plan) Class(asset string) string {
	if p != nil {
		if a, ok := p.Assets[asset]; ok {
			return a.Class
		}
	}
	return Credits
}

// Price is what requests cost, in the asset's smallest unit.
type Price struct {
	Asset   string           `json:"asset"`
	Default *int64           `json:"default"` // set in every event
	Per     map[string]int64 `json:"per"`     // "<product>:<access>" to price
}

// Rate is a token bucket: PerSecond tokens flow in, Burst fit.
type Rate struct {
	PerSecond int64 `json:"per_second"`
	Burst     int64 `json:"burst"`
}

// Code implements Data.
func (a *Account) Code(c *Coder) {
	c.String(&a.ID)
	c.String(&a.Name)
	c.Word(&a.Status)
	c.String(&a.Reason)
	a.Environments.Test.code(c)
	a.Environments.Live.code(c)
	c.Blob((*[]byte)(&a.Metadata))
	c.Time(&a.CreatedAt)
	has := a.Plan != nil
	c.Bool(&has)
	if has {
		if c.reading {
			a.Plan = &Plan{}
		}
		a.Plan.code(c)
	}
	list(c, &a.Thresholds, (*Threshold).code)
}

func (t *Threshold) code(c *Coder) {
	c.Word(&t.Environment)
	c.more()
	c.Word(&t.Asset)
	c.more()
	c.Int(&t.Amount)
	c.more()
	c.Int(&t.Percent)
}

func (e *Environment) code(c *Coder) {
	c.Bool(&e.Enabled)
	set := e.Products != nil
	c.Bool(&set)
	if set {
		c.Strings((*[]string)(&e.Products))
	}
}

func (p *Plan) code(c *Coder) {
	c.String(&p.Name)
	c.String(&p.Price.Asset)
	c.optional(&p.Price.Default)
	c.Map(&p.Price.Per)
	c.Int(&p.MaxKeys)
	has := p.Rate != nil
	c.Bool(&has)
	if has {
		if c.reading {
			p.Rate = &Rate{}
		}
		c.more()
		c.Int(&p.Rate.PerSecond)
		c.more()
		c.Int(&p.Rate.Burst)
	}
	has = p.Allowance != nil
	c.Bool(&has)
	if has {
		if c.reading {
			p.Allowance = &Allowance{}
		}
		p.Allowance.code(c)
	}
	c.numbers(&p.Overdraft)
	list(c, &p.Par, func(pair *[]string, c *Coder) { c.Strings(pair) })
	assets(c, &p.Assets)
}

func (a *Allowance) code(c *Coder) {
	c.more()
	c.Word(&a.Asset)
	c.more()
	c.Int(&a.Amount)
	c.more()
	c.Word(&a.Every)
	c.more()
	c.Word(&a.TimeZone)
}

// assets codes a map of assets in the order of their names; nil and empty are the same.
func assets(c *Coder, p *map[string]Asset) {
	names := slices.Sorted(maps.Keys(*p))
	n := c.Len(len(names))
	if c.reading && n > 0 {
		names, *p = make([]string, n), make(map[string]Asset, n)
	}
	for i := range n {
		c.more()
		c.Word(&names[i])
		a := (*p)[names[i]]
		c.more()
		c.Int(&a.Scale)
		c.more()
		c.Word(&a.Class)
		if c.reading {
			(*p)[names[i]] = a
		}
	}
}
