package ledger

import "github.com/keyledger/keyledger/events"

const transferIDPrefix = "transfer_"

// TransferCredit is credit.transfer: what one account pays another gets, in one entry. It
// takes like a debit, but nothing stands in for it at par. The one that is paid gets a
// grant without expiry; it may be suspended, and its environment off.
type TransferCredit struct {
	To          string `json:"to"`
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"`
	Reference   string `json:"reference"`
}

// Validate implements Command.
func (c *TransferCredit) Validate() *events.Error {
	var check checks
	check.that(ValidAccount(c.To), "to must be an account id: 1 to 64 of A-Z a-z 0-9 _ -")
	check.environment(c.Environment)
	check.asset(c.Asset)
	check.amount(c.Amount)
	check.text("reference", c.Reference, 0, maxReferenceChars)
	return check.err
}

// Touches implements Touches.
func (c *TransferCredit) Touches() string { return c.To }

// receiverGrant tells the receiver's grant from the ids that the command makes in the
// sender's account.
const receiverGrant = 255

// Decide implements Command.
func (c *TransferCredit) Decide(in *Input) (Decision, *events.Error) {
	to, err := c.receiver(in)
	if err != nil {
		return Decision{}, err
	}
	if err := in.inEnvironment(c.Environment); err != nil {
		return Decision{}, err
	}
	place := balanceID{c.Environment, c.Asset}
	b := to.balance(place)
	if err := to.refuseMore(place, c.Amount); err != nil {
		err.Message = "account " + to.ID + ": " + err.Message
		return Decision{}, err
	}
	t := events.Transfer{
		ID: prefixed(transferIDPrefix, in.CommandID), From: in.AccountID, To: to.ID,
		Environment: c.Environment, Asset: c.Asset, Amount: c.Amount, Reference: c.Reference, CreatedAt: in.Time,
	}
	paid, got := &events.Transferred{Transfer: t}, &events.Transferred{Transfer: t}
	if paid.Drawn, paid.Balance, err = in.withdraw(place, c.Amount); err != nil {
		return Decision{}, err
	}
	// Not the command's own id: the receiver may have one like it that made a grant.
	id := derived(in.CommandID, receiverGrant)
	got.Added, got.Balance = b.fund(c.Amount, events.Draw{Grant: prefixed(grantIDPrefix, id)}), b.after(place, c.Amount, 0)
	list := []events.Event{
		{Type: "credit.transferred", Account: in.AccountID, Environment: c.Environment, Data: paid},
		{Type: "credit.transferred", Account: to.ID, Environment: c.Environment, Data: got},
	}
	return Decision{Events: append(list, in.alerts(place, in.Account.balance(place).available(), &paid.Balance)...)}, nil
}

// receiver finds the account that is paid.
func (c *TransferCredit) receiver(in *Input) (*Account, *events.Error) {
	to := in.State.accounts[c.To]
	switch {
	case c.To == in.AccountID:
		return nil, events.Errorf(events.InvalidArgument, "to must be another account than the one that pays")
	case to == nil:
		return nil, events.Errorf(events.NotFound, "there is no account %s to be paid; open it with account.open", c.To)
	case to.Status == events.Closed:
		return nil, events.Errorf(events.FailedPrecondition, "account %s is closed, which is final", c.To)
	}
	return to, nil
}
