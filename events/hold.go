package events

// Statuses of holds. A hold that is not Open is over.
const (
	Open     = "open"
	Captured = "captured" // all of it
	Released = "released"
	Lapsed   = "expired"
)

// Hold is credit that is set aside until it is captured, released or expires.
type Hold struct {
	ID          string `json:"id"`
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"`   // as it was placed
	Captured    int64  `json:"captured"` // of it, so far
	Held        int64  `json:"held"`     // of it, still
	Status      string `json:"status"`   // Open, Captured, Released or Lapsed
	Key         string `json:"key,omitempty"`
	Reference   string `json:"reference,omitempty"`
	ExpiresAt   Time   `json:"expires_at"`
	CreatedAt   Time   `json:"created_at"`
	// Reserved is which grants pay what is still held.
	Reserved []Draw `json:"reserved,omitempty"`
}

// Capture is what one hold.capture took. It can be refunded as a debit.
type Capture struct {
	Debit     string `json:"debit"`
	Amount    int64  `json:"amount"`
	Drawn     []Draw `json:"drawn"`
	CreatedAt Time   `json:"created_at"`
}

// Held is the data of every hold event: the hold after it.
type Held struct {
	Hold
	Capture *Capture `json:"capture,omitempty"` // of hold.captured
	// Returned is what a hold that ended gave back, and where to; Lapsed is what would have
	// gone back to grants whose time is over by now, and is gone with them.
	Returned []Draw  `json:"returned,omitempty"`
	Lapsed   []Draw  `json:"lapsed,omitempty"`
	Balance  Balance `json:"balance"` // after it
}

// Code implements Data for what stands in a view: all but environment and asset, which in
// an event are those of the balance.
func (h *Hold) Code(c *Coder) {
	c.String(&h.ID)
	c.Int(&h.Amount)
	c.Int(&h.Captured)
	c.Int(&h.Held)
	c.Word(&h.Status)
	c.String(&h.Key)
	c.String(&h.Reference)
	c.Time(&h.ExpiresAt)
	c.Time(&h.CreatedAt)
	draws(c, &h.Reserved)
}

// Code implements Data.
func (d *Held) Code(c *Coder) {
	d.Hold.Code(c)
	has := d.Capture != nil
	c.Bool(&has)
	if has {
		if c.reading {
			d.Capture = &Capture{}
		}
		d.Capture.code(c)
	}
	draws(c, &d.Returned)
	draws(c, &d.Lapsed)
	d.Balance.code(c)
	d.Environment, d.Asset = d.Balance.Environment, d.Balance.Asset
}

func (p *Capture) code(c *Coder) {
	c.more()
	c.String(&p.Debit)
	c.more()
	c.Int(&p.Amount)
	c.more()
	draws(c, &p.Drawn)
	c.more()
	c.Time(&p.CreatedAt)
}
