package events

import (
	"encoding/base64"
	"strconv"
)

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
	ExpiresAt   Time   `json:"expires_at"` // null: never
	// OverdraftPaid is the part of Amount that paid what the balance owed and never was
	// there to be drawn.
	OverdraftPaid int64 `json:"overdraft_paid,omitzero"`
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
	c.Time(&g.ExpiresAt)
	c.Int(&g.OverdraftPaid)
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

	// Signature is the first 16 bytes of the SHA-256 of the signature that asked for the
	// debit, SignedAt when it was made: they take nothing twice.
	Signature []byte `json:"signature,omitempty"`
	SignedAt  Time   `json:"signed_at,omitzero"`
}

// What secret_age says of the secret that a key was used with.
const (
	CurrentSecret = "current" // the newest
	OldSecret     = "old"     // the one before, within its grace
)

// Draw is an amount taken from one grant, or given back to it, with the grant's terms.
// AllowanceGrant stands for the plan's allowance (ExpiresAt: the end of its period),
// OverdraftGrant for what is not there: drawn, the balance owes it; given back, it is paid.
type Draw struct {
	Grant     string `json:"grant"`
	Amount    int64  `json:"amount"`
	ExpiresAt Time   `json:"expires_at,omitzero"`
	Priority  int64  `json:"priority,omitzero"`
}

// The names in a Draw that are no grant's id.
const (
	AllowanceGrant = "allowance"
	OverdraftGrant = "overdraft"
)

// draws codes a list of draws with their terms.
func draws(c *Coder, p *[]Draw) { list(c, p, (*Draw).code) }

func (d *Draw) code(c *Coder) {
	c.Word(&d.Grant)
	c.more()
	c.Int(&d.Amount)
	c.more()
	c.terms(d)
}

func (c *Coder) terms(d *Draw) {
	c.Time(&d.ExpiresAt)
	c.more()
	c.Int(&d.Priority)
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
		if at := d.Drawn[i].ExpiresAt; at != 0 {
			b = at.AppendJSON(append(b, `,"expires_at":`...))
		}
		if p := d.Drawn[i].Priority; p != 0 {
			b = strconv.AppendInt(append(b, `,"priority":`...), p, 10)
		}
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
	b = d.CreatedAt.AppendJSON(append(b, `"created_at":`...))
	if len(d.Signature) > 0 {
		b = append(b, `,"signature":"`...)
		b = append(base64.StdEncoding.AppendEncode(b, d.Signature), '"')
	}
	if d.SignedAt != 0 {
		b = d.SignedAt.AppendJSON(append(b, `,"signed_at":`...))
	}
	return b
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
	if c.reading && n > 0 {
		d.Drawn = make([]Draw, n)
	}
	for i := range d.Drawn {
		c.more()
		c.Word(&d.Drawn[i].Grant)
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
	d.codeTerms(c)
	c.Blob(&d.Signature)
	c.Time(&d.SignedAt)
}

// codeTerms codes the terms of what was drawn, where any has some.
func (d *Debited) codeTerms(c *Coder) {
	terms := false
	for i := range d.Drawn {
		terms = terms || d.Drawn[i].ExpiresAt != 0 || d.Drawn[i].Priority != 0
	}
	c.Bool(&terms)
	if !terms {
		return
	}
	for i := range d.Drawn {
		c.more()
		c.terms(&d.Drawn[i])
	}
}
