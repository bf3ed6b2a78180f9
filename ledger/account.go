package ledger

import (
	"slices"
	"strings"
	"unique"

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
	if c.Plan != nil {
		in.Account = &Account{} // as it is: with nothing
		d.Events = append(d.Events, in.setAllowance(c.Plan)...)
	}
	return d, nil
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
	if in.Account.Environments.Get(c.Environment).Enabled {
		return unchanged(in.Account.data())
	}
	next := in.Account.data()
	next.Environments.Get(c.Environment).Enabled = true
	return one(in, "account.environment_enabled", c.Environment, "", next)
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
	if in.Account.Plan != nil && samePlan(in.Account.Plan, c.Plan) {
		return unchanged(in.Account.data())
	}
	next := in.Account.data()
	next.Plan = c.Plan
	d, _ := one(in, "account.plan_set", "", "", next)
	d.Events = append(d.Events, in.setAllowance(c.Plan)...)
	return d, nil
}

func samePlan(a, b *events.Plan) bool {
	x, y := events.NewWriter(nil), events.NewWriter(nil)
	(&events.Account{Plan: a}).Code(x)
	(&events.Account{Plan: b}).Code(y)
	return string(x.Bytes()) == string(y.Bytes())
}

func (st *State) evolveAccount(d *events.Account) {
	a := st.accounts[d.ID]
	if a == nil {
		a = &Account{Account: events.Account{ID: strings.Clone(d.ID)}} // it may be part of a larger one
		st.addAccount(a)
	}
	id := a.ID
	a.Account = *d
	a.ID, a.Status = id, unique.Make(d.Status).Value()
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
