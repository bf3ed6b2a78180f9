package events

// Refund gives back a debit, or a part of it.
type Refund struct {
	ID          string `json:"id"`
	Debit       string `json:"debit"`
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"`
	Refunded    int64  `json:"refunded"` // of the debit in all, this included
	// Returned is where it went: back to the grants it was drawn from, the last drawn
	// first, where they are still live, else to a new grant.
	Returned  []Draw `json:"returned"`
	Key       string `json:"key,omitempty"` // of the debit
	Product   string `json:"product,omitempty"`
	Reference string `json:"reference,omitempty"`
	CreatedAt Time   `json:"created_at"`
}

// Refunded is the data of credit.refunded.
type Refunded struct {
	Refund
	Balance Balance `json:"balance"` // after it
}

// Code implements Data.
func (d *Refunded) Code(c *Coder) {
	c.String(&d.ID)
	c.String(&d.Debit)
	c.Int(&d.Amount)
	c.Int(&d.Refund.Refunded)
	draws(c, &d.Returned)
	c.String(&d.Key)
	c.Word(&d.Product)
	c.String(&d.Reference)
	c.Time(&d.CreatedAt)
	d.Balance.code(c)
	d.Environment, d.Asset = d.Balance.Environment, d.Balance.Asset
}

// Adjustment is a signed correction by the operator.
type Adjustment struct {
	ID          string `json:"id"`
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"` // what the balance changed by
	Drawn       []Draw `json:"drawn,omitempty"`
	Added       []Draw `json:"added,omitempty"` // to a new grant, and what was owed
	Reason      string `json:"reason"`
	CreatedAt   Time   `json:"created_at"`
}

// Adjusted is the data of credit.adjusted.
type Adjusted struct {
	Adjustment
	Balance Balance `json:"balance"` // after it
}

// Code implements Data.
func (d *Adjusted) Code(c *Coder) {
	c.String(&d.ID)
	c.Int(&d.Amount)
	draws(c, &d.Drawn)
	draws(c, &d.Added)
	c.String(&d.Reason)
	c.Time(&d.CreatedAt)
	d.Balance.code(c)
	d.Environment, d.Asset = d.Balance.Environment, d.Balance.Asset
}

// Transfer is one leg of a transfer between two accounts: the one that pays has Drawn,
// the one that is paid has Added.
type Transfer struct {
	ID          string `json:"id"` // the same in both legs
	From        string `json:"from"`
	To          string `json:"to"`
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"`
	Drawn       []Draw `json:"drawn,omitempty"`
	Added       []Draw `json:"added,omitempty"`
	Reference   string `json:"reference,omitempty"`
	CreatedAt   Time   `json:"created_at"`
}

// Transferred is the data of credit.transferred: two events, one for each account, in
// one entry.
type Transferred struct {
	Transfer
	Balance Balance `json:"balance"` // of the leg's account, after it
}

// Code implements Data.
func (d *Transferred) Code(c *Coder) {
	c.String(&d.ID)
	c.String(&d.From)
	c.String(&d.To)
	c.Int(&d.Amount)
	draws(c, &d.Drawn)
	draws(c, &d.Added)
	c.String(&d.Reference)
	c.Time(&d.CreatedAt)
	d.Balance.code(c)
	d.Environment, d.Asset = d.Balance.Environment, d.Balance.Asset
}

// Expiry is the rest of a grant whose time is over.
type Expiry struct {
	Grant       string `json:"grant"`
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"` // that is gone
	ExpiredAt   Time   `json:"expired_at"`
}

// Expired is the data of credit.expired.
type Expired struct {
	Expiry
	Balance Balance `json:"balance"` // after it
}

// Code implements Data.
func (d *Expired) Code(c *Coder) {
	c.String(&d.Grant)
	c.Int(&d.Amount)
	c.Time(&d.ExpiredAt)
	d.Balance.code(c)
	d.Environment, d.Asset = d.Balance.Environment, d.Balance.Asset
}

// Why an allowance was set.
const (
	ByPlan   = "plan"   // the plan was set
	ByPeriod = "period" // a new period began
)

// Replenishment is an allowance as it stands now.
type Replenishment struct {
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"`    // of the allowance; 0: there is none any more
	Spent       int64  `json:"spent"`     // of it, in the period that runs
	Remaining   int64  `json:"remaining"` // of it
	Before      int64  `json:"before"`    // what remained before this
	// OverdraftPaid is the part that paid at once what the balance owed; it counts as spent.
	OverdraftPaid int64  `json:"overdraft_paid,omitzero"`
	By            string `json:"by"` // ByPlan or ByPeriod
	ResetsAt      Time   `json:"resets_at"`
	CreatedAt     Time   `json:"created_at"`
}

// Replenished is the data of credit.replenished.
type Replenished struct {
	Replenishment
	Balance Balance `json:"balance"` // after it
}

// Code implements Data.
func (d *Replenished) Code(c *Coder) {
	c.Int(&d.Amount)
	c.Int(&d.Spent)
	c.Int(&d.Remaining)
	c.Int(&d.Before)
	c.Int(&d.OverdraftPaid)
	c.Word(&d.By)
	c.Time(&d.ResetsAt)
	c.Time(&d.CreatedAt)
	d.Balance.code(c)
	d.Environment, d.Asset = d.Balance.Environment, d.Balance.Asset
}

// Leg is one side of an exchange: what the balance of one asset lost or got.
type Leg struct {
	Asset   string  `json:"asset"`
	Amount  int64   `json:"amount"`
	Drawn   []Draw  `json:"drawn,omitempty"` // of the asset that is given
	Added   []Draw  `json:"added,omitempty"` // of the asset that is got
	Balance Balance `json:"balance"`         // after it
}

func (l *Leg) code(c *Coder) {
	c.Int(&l.Amount)
	draws(c, &l.Drawn)
	draws(c, &l.Added)
	l.Balance.code(c)
	l.Asset = l.Balance.Asset
}

// Exchanged is the data of credit.exchanged: of a par pair, one asset stood in for the
// other, value for value.
type Exchanged struct {
	ID          string `json:"id"`
	Environment string `json:"environment"`
	From        Leg    `json:"from"`
	To          Leg    `json:"to"`
	CreatedAt   Time   `json:"created_at"`
}

// Code implements Data.
func (d *Exchanged) Code(c *Coder) {
	c.String(&d.ID)
	d.From.code(c)
	d.To.code(c)
	c.Time(&d.CreatedAt)
	d.Environment = d.To.Balance.Environment
}

// Alert is the data of balance.low and balance.exhausted: the balance that fell below a
// threshold, or has nothing available any more.
type Alert struct {
	Environment string     `json:"environment"`
	Asset       string     `json:"asset"`
	Threshold   *Threshold `json:"threshold,omitempty"` // of balance.low
	Below       int64      `json:"below,omitzero"`      // the threshold in the asset's smallest unit
	Balance     Balance    `json:"balance"`
}

// Code implements Data.
func (d *Alert) Code(c *Coder) {
	has := d.Threshold != nil
	c.Bool(&has)
	if has {
		if c.reading {
			d.Threshold = &Threshold{}
		}
		c.more()
		d.Threshold.code(c)
	}
	c.Int(&d.Below)
	d.Balance.code(c)
	d.Environment, d.Asset = d.Balance.Environment, d.Balance.Asset
}
