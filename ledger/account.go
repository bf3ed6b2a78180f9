package ledger

import (
	"slices"
	"strings"

	"github.com/keyledger/keyledger/events"
)

// OpenAccount is account.open.
type OpenAccount struct {
	Name     string        `json:"name"`
	Metadata events.Object `json:"metadata"`
	Plan     *events.Plan  `json:"plan"`
}

// Validate implements Command.
func (c *OpenAccount) Validate() *events.Error {
	var check checks
	check.text("name", c.Name, 0, maxNameChars)
	check.metadata(c.Metadata)
	check.plan(c.Plan)
	return check.err
}

// Decide implements Command.
func (c *OpenAccount) Decide(in *Input) (Decision, *events.Error) {
	if in.Account != nil {
		return Decision{}, events.Errorf(events.AlreadyExists, "account %s exists already", in.AccountID)
	}
	d, _ := one(in, "account.opened", "", "", &events.Account{
		ID: in.AccountID, Name: c.Name, Status: events.Active, Plan: c.Plan, Metadata: c.Metadata, CreatedAt: in.Time,
		Environments: events.Environments{Test: events.Environment{Enabled: true}},
	})
	if c.Plan == nil {
		return d, nil
	}
	in.Account = &Account{} // as it is: with nothing
	allowances, err := in.setAllowance(c.Plan)
	d.Events = append(d.Events, allowances...)
	return d, err
}

// UpdateAccount is account.update: only the members given change.
type UpdateAccount struct {
	Name       *string                             `json:"name,omitzero"`
	Metadata   events.Optional[events.Object]      `json:"metadata,omitzero"`
	Thresholds events.Optional[[]events.Threshold] `json:"thresholds,omitzero"` // null: none
}

// Validate implements Command.
func (c *UpdateAccount) Validate() *events.Error {
	var check checks
	if c.Name != nil {
		check.text("name", *c.Name, 0, maxNameChars)
	}
	check.metadata(c.Metadata.Value)
	c.Thresholds.Value = check.thresholds(c.Thresholds.Value)
	return check.err
}

// Decide implements Command.
func (c *UpdateAccount) Decide(in *Input) (Decision, *events.Error) {
	next := in.Account.data()
	if c.Name != nil {
		next.Name = *c.Name
	}
	if c.Metadata.Set {
		next.Metadata = c.Metadata.Value
	}
	if c.Thresholds.Set {
		next.Thresholds = c.Thresholds.Value
	}
	if same(&in.Account.Account, next) {
		return unchanged(next)
	}
	return one(in, "account.updated", "", "", next)
}

// thresholds checks a list of thresholds, which is returned without repetitions.
func (c *checks) thresholds(list []events.Threshold) (out []events.Threshold) {
	c.that(len(list) <= maxThresholds, "%d thresholds, at most %d are allowed", len(list), maxThresholds)
	for _, t := range list {
		if t.Environment != "" {
			c.environment(t.Environment)
		}
		c.asset(t.Asset)
		c.that((t.Amount == 0) != (t.Percent == 0), "a threshold has an amount or a percent, and not both")
		c.that(t.Amount >= 0 && t.Amount <= MaxAmount, "a threshold's amount must be a whole number from 1 to %d", int64(MaxAmount))
		c.that(t.Percent >= 0 && t.Percent <= 100, "a threshold's percent must be a whole number from 1 to 100")
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// SuspendAccount is account.suspend.
type SuspendAccount struct {
	Reason string `json:"reason"`
}

// Validate implements Command.
func (c *SuspendAccount) Validate() *events.Error {
	var check checks
	check.text("reason", c.Reason, 0, maxReferenceChars)
	return check.err
}

// Decide implements Command.
func (c *SuspendAccount) Decide(in *Input) (Decision, *events.Error) {
	return setAccountStatus(in, events.Suspended, c.Reason, "account.suspended")
}

// ResumeAccount is account.resume.
type ResumeAccount struct {
	Reason string `json:"reason"`
}

// Validate implements Command.
func (c *ResumeAccount) Validate() *events.Error {
	var check checks
	check.text("reason", c.Reason, 0, maxReferenceChars)
	return check.err
}

// Decide implements Command.
func (c *ResumeAccount) Decide(in *Input) (Decision, *events.Error) {
	return setAccountStatus(in, events.Active, c.Reason, "account.resumed")
}

// CloseAccount is account.close, which is final.
type CloseAccount struct {
	Reason string `json:"reason"`
}

// Validate implements Command.
func (c *CloseAccount) Validate() *events.Error {
	var check checks
	check.text("reason", c.Reason, 0, maxReferenceChars)
	return check.err
}

// Decide implements Command.
func (c *CloseAccount) Decide(in *Input) (Decision, *events.Error) {
	return setAccountStatus(in, events.Closed, c.Reason, "account.closed")
}

func setAccountStatus(in *Input, status, reason, eventType string) (Decision, *events.Error) {
	if in.Account.Status == status {
		return unchanged(in.Account.data())
	}
	next := in.Account.data()
	next.Status, next.Reason = status, reason
	return one(in, eventType, "", "", next)
}

// SetProducts is account.set_products.
type SetProducts struct {
	Environment string    `json:"environment"`
	Products    *[]string `json:"products"`
}

// Validate implements Command.
func (c *SetProducts) Validate() *events.Error {
	var check checks
	check.environment(c.Environment)
	check.that(c.Products != nil, "products is required: an array of product names, [] for none")
	if c.Products != nil {
		check.products(*c.Products)
	}
	return check.err
}

// Decide implements Command.
func (c *SetProducts) Decide(in *Input) (Decision, *events.Error) {
	products := sortedUnique(*c.Products)
	old := in.Account.Environments.Get(c.Environment).Products
	if old != nil && slices.Equal(old, products) {
		return unchanged(in.Account.data())
	}
	next := in.Account.data()
	next.Environments.Get(c.Environment).Products = products
	return one(in, "account.products_set", c.Environment, "", next)
}

// EnableEnvironment is account.enable_environment.
type EnableEnvironment struct {
	Environment string `json:"environment"`
}

// Validate implements Command.
func (c *EnableEnvironment) Validate() *events.Error {
	var check checks
	check.environment(c.Environment)
	return check.err
}

// Decide implements Command.
func (c *EnableEnvironment) Decide(in *Input) (Decision, *events.Error) {
	return setEnvironment(in, c.Environment, true, "account.environment_enabled")
}

// DisableEnvironment is account.disable_environment.
type DisableEnvironment struct {
	Environment string `json:"environment"`
}

// Validate implements Command.
func (c *DisableEnvironment) Validate() *events.Error {
	var check checks
	check.environment(c.Environment)
	return check.err
}

// Decide implements Command.
func (c *DisableEnvironment) Decide(in *Input) (Decision, *events.Error) {
	return setEnvironment(in, c.Environment, false, "account.environment_disabled")
}

func setEnvironment(in *Input, environment string, enabled bool, eventType string) (Decision, *events.Error) {
	next := in.Account.data()
	e := next.Environments.Get(environment)
	if e.Enabled == enabled {
		return unchanged(next)
	}
	e.Enabled = enabled
	return one(in, eventType, environment, "", next)
}

// SetPlan is account.set_plan.
type SetPlan struct {
	Plan *events.Plan `json:"plan"`
}

// Validate implements Command.
func (c *SetPlan) Validate() *events.Error {
	var check checks
	check.that(c.Plan != nil, "plan is required: the full terms")
	check.plan(c.Plan)
	return check.err
}

// Decide implements Command.
func (c *SetPlan) Decide(in *Input) (Decision, *events.Error) {
	if in.Account.Plan != nil && same(&events.Account{Plan: in.Account.Plan}, &events.Account{Plan: c.Plan}) {
		return unchanged(in.Account.data())
	}
	next := in.Account.data()
	next.Plan = c.Plan
	allowances, err := in.setAllowance(c.Plan)
	if err != nil {
		return Decision{}, err
	}
	d, _ := one(in, "account.plan_set", "", "", next)
	d.Events = append(d.Events, allowances...)
	return d, nil
}

func (st *State) evolveAccount(d *events.Account) {
	a := st.account(d.ID)
	if a == nil {
		a = &Account{Account: events.Account{ID: strings.Clone(d.ID)}} // it may be part of a larger one
		st.addAccount(a)
	}
	id := a.ID
	a.Account = *d
	a.ID, a.Status = id, events.Shared(d.Status)
}

// sortedUnique returns a sorted copy without repetitions, never nil.
func sortedUnique(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.Clone(s)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
