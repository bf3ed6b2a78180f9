// Package ledger is the rules: what a command may do and what an event means. It is
// pure: no context, no clock, no input or output, no randomness. Time, ids, hashes and
// sealed values come in with the command.
//
// Decide looks at a command and the state and returns the events that shall happen, or
// a refusal. Evolve folds an event into the state and never fails. Each noun has its
// own file, with the same name here as in package events.
package ledger

import (
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// Command is one verb's body, decoded from JSON. Members that the edge fills in once
// (ids, hashes, sealed values) are tagged "-".
type Command interface {
	// Validate checks what can be told from the body alone.
	Validate() *events.Error
	// Decide returns what shall happen. It must not change the state.
	Decide(in *Input) (Decision, *events.Error)
}

// Citer is implemented by commands about an older entry of their account. The state does
// not hold what every entry led to; the log does, and there it never changes. The
// command's first Decision names the entry, and it is decided again once it has it.
type Citer interface {
	// Cite gives the command the events of that entry, none where the account has no such
	// entry.
	Cite(list []events.Event)
}

// Touches is implemented by commands that move something of a second account too.
type Touches interface {
	// Touches returns that account's id.
	Touches() string
}

// Input is what a command is decided on.
type Input struct {
	State     *State
	AccountID string
	Account   *Account    // nil only for a Spec with Opens
	CommandID ulid.ULID   // unique among the account's commands
	Time      events.Time // of the commit it will stand in
}

// Decision is what a command leads to.
type Decision struct {
	Events []events.Event
	// Unchanged is the noun as it stands, of a command that changes nothing.
	Unchanged events.Data
	// Before is the endpoint that endpoint.update is about, as it stands: who asks its receiver
	// first has to know. Nil of every other command.
	Before events.Data
	// Cites, if not zero, is the command id of the entry that a Citer takes. Nothing is
	// decided yet.
	Cites ulid.ULID
}

// one is the Decision of a single event.
func one(in *Input, eventType, environment, subject string, data events.Data) (Decision, *events.Error) {
	return Decision{Events: []events.Event{{
		Type: eventType, Account: in.AccountID, Environment: environment, Subject: subject, Data: data,
	}}}, nil
}

// unchanged is the Decision of a command that finds what it asks for.
func unchanged(data events.Data) (Decision, *events.Error) {
	return Decision{Unchanged: data}, nil
}

// Spec is one line of the command table.
type Spec struct {
	New            func() Command
	Opens          bool // needs no account: it makes one
	WhileSuspended bool // works although the account is suspended
	WhileClosed    bool // works although the account is closed: it takes something away
}

// Commands is the command table: verb to rule. The order of the lines is the order in
// which help lists them.
var Commands = []struct {
	Verb string
	Spec
}{
	{"account.open", Spec{New: func() Command { return new(OpenAccount) }, Opens: true}},
	{"account.update", Spec{New: func() Command { return new(UpdateAccount) }, WhileSuspended: true}},
	{"account.suspend", Spec{New: func() Command { return new(SuspendAccount) }, WhileSuspended: true}},
	{"account.resume", Spec{New: func() Command { return new(ResumeAccount) }, WhileSuspended: true}},
	{"account.close", Spec{New: func() Command { return new(CloseAccount) }, WhileSuspended: true, WhileClosed: true}},
	{"account.set_products", Spec{New: func() Command { return new(SetProducts) }, WhileSuspended: true}},
	{"account.enable_environment", Spec{New: func() Command { return new(EnableEnvironment) }, WhileSuspended: true}},
	{"account.disable_environment", Spec{New: func() Command { return new(DisableEnvironment) }, WhileSuspended: true}},
	{"account.set_plan", Spec{New: func() Command { return new(SetPlan) }, WhileSuspended: true}},
	{"key.create", Spec{New: func() Command { return new(CreateKey) }}},
	{"key.import", Spec{New: func() Command { return new(ImportKey) }}},
	{"key.update", Spec{New: func() Command { return new(UpdateKey) }, WhileSuspended: true}},
	{"key.rotate", Spec{New: func() Command { return new(RotateKey) }}},
	{"key.disable", Spec{New: func() Command { return new(DisableKey) }, WhileSuspended: true, WhileClosed: true}},
	{"key.enable", Spec{New: func() Command { return new(EnableKey) }, WhileSuspended: true}},
	{"key.revoke", Spec{New: func() Command { return new(RevokeKey) }, WhileSuspended: true, WhileClosed: true}},
	{"credit.grant", Spec{New: func() Command { return new(GrantCredit) }, WhileSuspended: true}},
	{"credit.debit", Spec{New: func() Command { return new(DebitCredit) }}},
	{"credit.adjust", Spec{New: func() Command { return new(AdjustCredit) }, WhileSuspended: true}},
	{"credit.transfer", Spec{New: func() Command { return new(TransferCredit) }, WhileSuspended: true}},
	{"hold.place", Spec{New: func() Command { return new(PlaceHold) }}},
	{"hold.capture", Spec{New: func() Command { return new(CaptureHold) }, WhileSuspended: true}},
	{"hold.release", Spec{New: func() Command { return new(ReleaseHold) }, WhileSuspended: true}},
	{"credit.refund", Spec{New: func() Command { return new(RefundCredit) }, WhileSuspended: true}},
	{"endpoint.register", Spec{New: func() Command { return new(RegisterEndpoint) }, WhileSuspended: true}},
	{"endpoint.pause", Spec{New: func() Command { return new(PauseEndpoint) }, WhileSuspended: true, WhileClosed: true}},
	{"endpoint.resume", Spec{New: func() Command { return new(ResumeEndpoint) }, WhileSuspended: true}},
	{"endpoint.remove", Spec{New: func() Command { return new(RemoveEndpoint) }, WhileSuspended: true, WhileClosed: true}},
	{"endpoint.update", Spec{New: func() Command { return new(UpdateEndpoint) }, WhileSuspended: true}},
	{"endpoint.rotate_secret", Spec{New: func() Command { return new(RotateEndpointSecret) }, WhileSuspended: true}},
	{"endpoint.test", Spec{New: func() Command { return new(TestEndpoint) }, WhileSuspended: true}},
	{"endpoint.replay", Spec{New: func() Command { return new(ReplayEndpoint) }, WhileSuspended: true}},
}

// Decide runs a command of a Spec against a state: first the account, then its state,
// then the verb's own rule.
func Decide(st *State, spec *Spec, cmd Command, in *Input) (Decision, *events.Error) {
	in.State = st
	in.Account = st.accounts[in.AccountID]
	if in.Account != nil {
		in.AccountID = in.Account.ID // the one string to keep: the given one may be part of a larger one
	}
	if in.Account == nil && !spec.Opens {
		return Decision{}, events.Errorf(events.NotFound, "there is no account %s; open it with account.open", in.AccountID)
	}
	if in.Account != nil && !spec.Opens {
		if err := in.Account.refuses(spec); err != nil {
			return Decision{}, err
		}
	}
	return cmd.Decide(in)
}

// refuses says what does not work in the state the account is in.
func (a *Account) refuses(spec *Spec) *events.Error {
	switch {
	case a.Status == events.Closed && !spec.WhileClosed:
		return events.Errorf(events.FailedPrecondition, "account %s is closed, which is final; open another one", a.ID)
	case a.Status == events.Suspended && !spec.WhileSuspended:
		return events.Errorf(events.AccountSuspended, "account %s is suspended", a.ID)
	}
	return nil
}

// same says whether two objects are equal in all that is stored.
func same(a, b events.Data) bool {
	x, y := events.NewWriter(nil), events.NewWriter(nil)
	a.Code(x)
	b.Code(y)
	return string(x.Bytes()) == string(y.Bytes())
}

// Outcome is the data of the event that answers an entry's command: the first that is not
// an exchange, which only makes the one behind it possible.
func Outcome(list []events.Event) events.Data {
	for i := range list {
		if list[i].Type != "credit.exchanged" {
			return list[i].Data
		}
	}
	return nil
}

// Result is the object that answers a command. It is a pure function of the event's
// data, so that a receipt gives the first answer again; only a secret is shown once.
type Result struct {
	Data    events.Data
	Secret  string // of the first answer to a command that makes one
	Omitted bool   // of a repeated answer: there was one
}

// AppendJSON appends the object: the noun under its name, for money with its balance.
func (r *Result) AppendJSON(b []byte) ([]byte, error) {
	var err error
	switch d := r.Data.(type) {
	case *events.Account:
		b, err = events.AppendJSON(append(b, `{"account":`...), d)
	case *events.Key:
		b, err = events.AppendJSON(append(b, `{"key":`...), d)
	case *events.Endpoint:
		b, err = events.AppendJSON(append(b, `{"endpoint":`...), d)
	case *events.Replay:
		b, err = events.AppendJSON(append(b, `{"replay":`...), d)
	case *events.Granted:
		if b, err = events.AppendJSON(append(b, `{"grant":`...), &d.Grant); err == nil {
			b = d.Balance.AppendJSON(append(b, `,"balance":`...))
		}
	case *events.Debited:
		b = d.Debit.AppendJSON(append(b, `{"debit":`...))
		b = d.Balance.AppendJSON(append(b, `,"balance":`...))
	case *events.Adjusted:
		if b, err = events.AppendJSON(append(b, `{"adjustment":`...), &d.Adjustment); err == nil {
			b = d.Balance.AppendJSON(append(b, `,"balance":`...))
		}
	case *events.Transferred:
		if b, err = events.AppendJSON(append(b, `{"transfer":`...), &d.Transfer); err == nil {
			b = d.Balance.AppendJSON(append(b, `,"balance":`...))
		}
	case *events.Held:
		b, err = appendHeld(b, d)
	case *events.Refunded:
		if b, err = events.AppendJSON(append(b, `{"refund":`...), &d.Refund); err == nil {
			b = d.Balance.AppendJSON(append(b, `,"balance":`...))
		}
	}
	switch {
	case r.Omitted:
		b = append(b, `,"secret_omitted":true`...)
	case r.Secret != "":
		b = events.AppendString(append(b, `,"secret":`...), r.Secret)
	}
	return append(b, '}'), err
}
