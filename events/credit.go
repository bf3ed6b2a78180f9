package events

import "strconv"

// Balance is the small balance that every money event and result carries: what one
// account has of one asset in one environment. Available = Posted − Held.
type Balance struct {
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Posted      int64  `json:"posted"`
	Held        int64  `json:"held"`
	Available   int64  `json:"available"`
}

func (b *Balance) code(c *Coder) {
	c.Word(&b.Environment)
	c.Word(&b.Asset)
	c.Int(&b.Posted)
	c.Int(&b.Held)
	b.Available = b.Posted - b.Held
}

// AppendJSON appends the balance as its struct tags say.
func (b *Balance) AppendJSON(out []byte) []byte {
	out = append(out, '{')
	out = append(AppendString(append(out, `"environment":`...), b.Environment), ',')
	out = append(AppendString(append(out, `"asset":`...), b.Asset), ',')
	out = strconv.AppendInt(append(out, `"posted":`...), b.Posted, 10)
	out = strconv.AppendInt(append(out, `,"held":`...), b.Held, 10)
	out = strconv.AppendInt(append(out, `,"available":`...), b.Available, 10)
	return append(out, '}')
}

// Grant is credit that was added, as it was made.
type Grant struct {
	ID          string `json:"id"`
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"`
	Priority    int64  `json:"priority"` // low is drawn first
	Category    string `json:"category"` // Paid or Promotional
	Reference   string `json:"reference,omitempty"`
	CreatedAt   Time   `json:"created_at"`
}

// Categories of grants.
const (
	Paid        = "paid"
	Promotional = "promotional"
)

// Granted is the data of credit.granted.
type Granted struct {
	Grant
	Balance Balance `json:"balance"` // after it
}

// Code implements Data.
func (g *Granted) Code(c *Coder) {
	c.String(&g.ID)
	c.Int(&g.Amount)
	c.Int(&g.Priority)
	c.Word(&g.Category)
	c.String(&g.Reference)
	c.Time(&g.CreatedAt)
	g.Balance.code(c)
	g.Environment, g.Asset = g.Balance.Environment, g.Balance.Asset
}

// Debit is credit that was taken, and from which grants. Key, Product, Access, Units
// and IP are there when known.
type Debit struct {
	ID          string `json:"id"`
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"`
	Drawn       []Draw `json:"drawn"`
	Key         string `json:"key,omitempty"`
	Product     string `json:"product,omitempty"`
	Access      string `json:"access,omitempty"`
	Units       int64  `json:"units,omitzero"`
	IP          string `json:"ip,omitempty"`
	SecretAge   string `json:"secret_age,omitempty"` // of a debit by authorize: CurrentSecret
	Reference   string `json:"reference,omitempty"`
	CreatedAt   Time   `json:"created_at"`
}

// CurrentSecret is the secret_age of a key's newest secret.
const CurrentSecret = "current"

// Draw is the part of a debit that one grant paid.
type Draw struct {
	Grant  string `json:"grant"`
	Amount int64  `json:"amount"`
}

// AppendJSON appends the debit as its struct tags say.
func (d *Debit) AppendJSON(b []byte) []byte {
	return append(d.appendMembers(append(b, '{')), '}')
}

// appendMembers appends what stands between the braces.
func (d *Debit) appendMembers(b []byte) []byte {
	b = append(AppendString(append(b, `"id":`...), d.ID), ',')
	b = append(AppendString(append(b, `"environment":`...), d.Environment), ',')
	b = append(AppendString(append(b, `"asset":`...), d.Asset), ',')
	b = strconv.AppendInt(append(b, `"amount":`...), d.Amount, 10)
	b = append(b, `,"drawn":[`...)
	for i := range d.Drawn {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(append(b, `{"grant":`...), d.Drawn[i].Grant)
		b = strconv.AppendInt(append(b, `,"amount":`...), d.Drawn[i].Amount, 10)
		b = append(b, '}')
	}
	b = append(b, `],`...)
	b = appendMember(b, "key", d.Key)
	b = appendMember(b, "product", d.Product)
	b = appendMember(b, "access", d.Access)
	if d.Units != 0 {
		b = append(strconv.AppendInt(append(b, `"units":`...), d.Units, 10), ',')
	}
	b = appendMember(b, "ip", d.IP)
	b = appendMember(b, "secret_age", d.SecretAge)
	b = appendMember(b, "reference", d.Reference)
	return d.CreatedAt.AppendJSON(append(b, `"created_at":`...))
}

// Debited is the data of credit.debited.
type Debited struct {
	Debit
	Balance Balance `json:"balance"` // after it
}

// AppendJSON appends the event's data as its struct tags say.
func (d *Debited) AppendJSON(b []byte) []byte {
	b = d.Debit.appendMembers(append(b, '{'))
	return append(d.Balance.AppendJSON(append(b, `,"balance":`...)), '}')
}

// Code implements Data.
func (d *Debited) Code(c *Coder) {
	c.String(&d.ID)
	c.Int(&d.Amount)
	n := c.Len(len(d.Drawn))
	if c.reading {
		d.Drawn = make([]Draw, n)
	}
	for i := range d.Drawn {
		c.more()
		c.String(&d.Drawn[i].Grant)
		c.more()
		c.Int(&d.Drawn[i].Amount)
	}
	c.String(&d.Key)
	c.String(&d.Product)
	c.Word(&d.Access)
	c.Int(&d.Units)
	c.String(&d.IP)
	c.Word(&d.SecretAge)
	c.String(&d.Reference)
	c.Time(&d.CreatedAt)
	d.Balance.code(c)
	d.Environment, d.Asset = d.Balance.Environment, d.Balance.Asset
}
