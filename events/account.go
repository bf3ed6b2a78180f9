package events

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
	Status       string       `json:"status"` // Active or Suspended
	Reason       string       `json:"reason,omitempty"`
	Environments Environments `json:"environments"`
	Plan         *Plan        `json:"plan"`
	Metadata     Object       `json:"metadata"`
	CreatedAt    Time         `json:"created_at"`
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
	c.String(&a.Status)
	c.String(&a.Reason)
	a.Environments.Test.code(c)
	a.Environments.Live.code(c)
	c.Blob((*[]byte)(&a.Metadata))
	c.Time(&a.CreatedAt)
	has := a.Plan != nil
	c.Bool(&has)
	if !has {
		return
	}
	if c.reading {
		a.Plan = &Plan{}
	}
	a.Plan.code(c)
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
	if !has {
		return
	}
	if c.reading {
		p.Rate = &Rate{}
	}
	c.Int(&p.Rate.PerSecond)
	c.Int(&p.Rate.Burst)
}
