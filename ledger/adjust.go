package ledger

import "github.com/keyledger/keyledger/events"

const adjustmentIDPrefix = "adjustment_"

// AdjustCredit is credit.adjust: a correction by the operator, who says why. It may not
// take more than there is to be owed, but asks neither for the environment nor for what
// stands in at par.
type AdjustCredit struct {
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"` // what the balance changes by, not 0
	Reason      string `json:"reason"`
}

// Validate implements Command.
func (c *AdjustCredit) Validate() *events.Error {
	var check checks
	check.environment(c.Environment)
	check.asset(c.Asset)
	check.that(c.Amount != 0 && c.Amount >= -MaxAmount && c.Amount <= MaxAmount,
		"amount must be a whole number from -%d to %[1]d, and not 0", int64(MaxAmount))
	check.text("reason", c.Reason, 1, maxReferenceChars)
	return check.err
}

// Decide implements Command.
func (c *AdjustCredit) Decide(in *Input) (Decision, *events.Error) {
	place := balanceID{c.Environment, c.Asset}
	b := in.Account.balance(place)
	d := &events.Adjusted{Adjustment: events.Adjustment{
		ID: prefixed(adjustmentIDPrefix, in.CommandID), Environment: c.Environment, Asset: c.Asset,
		Amount: c.Amount, Reason: c.Reason, CreatedAt: in.Time,
	}}
	if c.Amount > 0 {
		if err := in.Account.refuseMore(place, c.Amount); err != nil {
			return Decision{}, err
		}
		d.Added = b.fund(c.Amount, events.Draw{Grant: prefixed(grantIDPrefix, in.CommandID)})
		d.Balance = b.after(place, c.Amount, 0)
	} else {
		var err *events.Error
		if d.Drawn, d.Balance, err = in.withdraw(place, -c.Amount); err != nil {
			return Decision{}, err
		}
	}
	list := []events.Event{{Type: "credit.adjusted", Account: in.AccountID, Environment: c.Environment, Data: d}}
	return Decision{Events: append(list, in.alerts(place, b.available(), &d.Balance)...)}, nil
}
