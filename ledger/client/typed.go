package client

import (
	"context"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

// OpenAccount opens an account.
func (c *Client) OpenAccount(ctx context.Context, account string, body ledger.OpenAccount, opts ...Option) (*events.Account, error) {
	return c.account(ctx, account, "account.open", body, opts)
}

// UpdateAccount changes the members given of an account.
func (c *Client) UpdateAccount(ctx context.Context, account string, body ledger.UpdateAccount, opts ...Option) (*events.Account, error) {
	return c.account(ctx, account, "account.update", body, opts)
}

// CloseAccount closes an account, for ever.
func (c *Client) CloseAccount(ctx context.Context, account string, body ledger.CloseAccount, opts ...Option) (*events.Account, error) {
	return c.account(ctx, account, "account.close", body, opts)
}

// DisableEnvironment lets nothing work any more in an environment of an account.
func (c *Client) DisableEnvironment(ctx context.Context, account string, body ledger.DisableEnvironment, opts ...Option) (*events.Account, error) {
	return c.account(ctx, account, "account.disable_environment", body, opts)
}

func (c *Client) account(ctx context.Context, account, verb string, body any, opts []Option) (*events.Account, error) {
	var out struct {
		Account *events.Account `json:"account"`
	}
	err := c.command(ctx, account, verb, body, &out, opts)
	return out.Account, err
}

// NewKey is a key with its secret, which is told this once.
type NewKey struct {
	Key    *events.Key `json:"key"`
	Secret string      `json:"secret"`
}

// CreateKey creates a key. Secret is empty when the answer is a repeated one, and for a
// signing key, which has none.
func (c *Client) CreateKey(ctx context.Context, account string, body ledger.CreateKey, opts ...Option) (*NewKey, error) {
	out := new(NewKey)
	return out, c.command(ctx, account, "key.create", body, out, opts)
}

// RotateKey gives a key a new secret. Secret is empty when the answer is a repeated one.
func (c *Client) RotateKey(ctx context.Context, account string, body ledger.RotateKey, opts ...Option) (*NewKey, error) {
	out := new(NewKey)
	return out, c.command(ctx, account, "key.rotate", body, out, opts)
}

// ImportKey imports a key that another system gave out; its secret stays with its owner.
func (c *Client) ImportKey(ctx context.Context, account string, body ledger.ImportKey, opts ...Option) (*events.Key, error) {
	var out struct {
		Key *events.Key `json:"key"`
	}
	err := c.command(ctx, account, "key.import", body, &out, opts)
	return out.Key, err
}

// Granted is what credit.grant answers.
type Granted struct {
	Grant   events.Grant   `json:"grant"`
	Balance events.Balance `json:"balance"`
}

// Grant adds credit to a balance.
func (c *Client) Grant(ctx context.Context, account string, body ledger.GrantCredit, opts ...Option) (*Granted, error) {
	out := new(Granted)
	return out, c.command(ctx, account, "credit.grant", body, out, opts)
}

// Debited is what credit.debit answers.
type Debited struct {
	Debit   events.Debit   `json:"debit"`
	Balance events.Balance `json:"balance"`
}

// Debit takes credit from a balance.
func (c *Client) Debit(ctx context.Context, account string, body ledger.DebitCredit, opts ...Option) (*Debited, error) {
	out := new(Debited)
	return out, c.command(ctx, account, "credit.debit", body, out, opts)
}

// Adjusted is what credit.adjust answers.
type Adjusted struct {
	Adjustment events.Adjustment `json:"adjustment"`
	Balance    events.Balance    `json:"balance"`
}

// Adjust corrects a balance: up, or down to what it may owe.
func (c *Client) Adjust(ctx context.Context, account string, body ledger.AdjustCredit, opts ...Option) (*Adjusted, error) {
	out := new(Adjusted)
	return out, c.command(ctx, account, "credit.adjust", body, out, opts)
}

// Transferred is what credit.transfer answers: the leg and the balance of the account
// that pays.
type Transferred struct {
	Transfer events.Transfer `json:"transfer"`
	Balance  events.Balance  `json:"balance"`
}

// Transfer moves credit to another account.
func (c *Client) Transfer(ctx context.Context, account string, body ledger.TransferCredit, opts ...Option) (*Transferred, error) {
	out := new(Transferred)
	return out, c.command(ctx, account, "credit.transfer", body, out, opts)
}

// Held is what the commands of holds answer: the hold after it, what a capture took, and
// where the rest of one that ended went to.
type Held struct {
	Hold     events.Hold     `json:"hold"`
	Capture  *events.Capture `json:"capture"`
	Returned []events.Draw   `json:"returned"`
	Lapsed   []events.Draw   `json:"lapsed"` // with the grants it came from
	Balance  events.Balance  `json:"balance"`
}

// PlaceHold sets credit aside.
func (c *Client) PlaceHold(ctx context.Context, account string, body ledger.PlaceHold, opts ...Option) (*Held, error) {
	out := new(Held)
	return out, c.command(ctx, account, "hold.place", body, out, opts)
}

// CaptureHold takes a part of what is held, or all of it.
func (c *Client) CaptureHold(ctx context.Context, account string, body ledger.CaptureHold, opts ...Option) (*Held, error) {
	out := new(Held)
	return out, c.command(ctx, account, "hold.capture", body, out, opts)
}

// ReleaseHold gives back what is still held.
func (c *Client) ReleaseHold(ctx context.Context, account string, body ledger.ReleaseHold, opts ...Option) (*Held, error) {
	out := new(Held)
	return out, c.command(ctx, account, "hold.release", body, out, opts)
}

// Refunded is what credit.refund answers.
type Refunded struct {
	Refund  events.Refund  `json:"refund"`
	Balance events.Balance `json:"balance"`
}

// Refund gives a debit back, or a part of it. An old debit is searched for in the log,
// which may take long: ctx bounds it.
func (c *Client) Refund(ctx context.Context, account string, body ledger.RefundCredit, opts ...Option) (*Refunded, error) {
	out := new(Refunded)
	return out, c.command(ctx, account, "credit.refund", body, out, opts)
}

// Balance returns the current balance of an asset.
func (c *Client) Balance(ctx context.Context, account, environment, asset string, opts ...Option) (*events.Balance, error) {
	var out struct {
		Balance *events.Balance `json:"balance"`
	}
	reply, err := c.Query(ctx, account, "balance.get", map[string]string{"environment": environment, "asset": asset}, opts...)
	if err != nil {
		return nil, err
	}
	err = reply.Decode(&out)
	return out.Balance, err
}

func (c *Client) command(ctx context.Context, account, verb string, body, out any, opts []Option) error {
	reply, err := c.Command(ctx, account, verb, body, opts...)
	if err != nil {
		return err
	}
	return reply.Decode(out)
}
