package ledger

import (
	"cmp"
	"maps"
	"slices"

	"github.com/keyledger/keyledger/events"
)

// RegisterEndpoint is endpoint.register. The URL and the headers are checked by the
// package that will use them, before Validate.
type RegisterEndpoint struct {
	URL           string            `json:"url"`
	Environment   string            `json:"environment"`
	Events        []string          `json:"events"`
	Description   string            `json:"description"`
	Headers       map[string]string `json:"headers"`
	Keys          []string          `json:"keys,omitzero"`            // only events of these keys; none: of all
	Filters       events.JSON       `json:"filters,omitzero"`         // see events.Endpoint
	Ordering      string            `json:"ordering,omitzero"`        // none, the default, or key
	Signing       string            `json:"signing"`                  // v1, the default, or v1a
	RatePerMinute int64             `json:"rate_per_minute,omitzero"` // attempts; 0: as many as it takes
	Timeout       string            `json:"timeout,omitzero"`         // a duration such as 5s; "": the operator's

	// Endpoint is made at the edge: id, URL without query, sealed members, the public key for
	// v1a, and whether the receiver consented.
	Endpoint *events.Endpoint `json:"-"`
	// RequireConsent says that the operator wants no receiver that did not.
	RequireConsent bool `json:"-"`
}

// Validate implements Command.
func (c *RegisterEndpoint) Validate() *events.Error {
	var check checks
	check.url(c.URL)
	check.environment(c.Environment)
	check.eventFilters(c.Events)
	check.that(len(c.Events) > 0, `events is required: filters such as "credit.*", or "*" for all`)
	check.text("description", c.Description, 0, maxDescriptionChars)
	check.headers(c.Headers)
	check.endpointKeys(c.Keys)
	c.Filters = check.contentFilters(c.Filters)
	c.Ordering = cmp.Or(c.Ordering, events.OrderingNone)
	check.ordering(c.Ordering)
	c.Signing = cmp.Or(c.Signing, events.SigningV1)
	check.signing(c.Signing)
	check.endpointRate(c.RatePerMinute)
	c.Timeout = check.endpointTimeout(c.Timeout)
	return check.err
}

// HeaderNames returns the names of the custom headers, sorted.
func (c *RegisterEndpoint) HeaderNames() []string { return headerNames(c.Headers) }

func headerNames(headers map[string]string) []string {
	return sortedUnique(slices.Collect(maps.Keys(headers)))
}

// Decide implements Command.
func (c *RegisterEndpoint) Decide(in *Input) (Decision, *events.Error) {
	if err := in.keysOf(c.Environment, c.Keys); err != nil {
		return Decision{}, err
	}
	next := *c.Endpoint
	if err := consents(&next, c.RequireConsent); err != nil {
		return Decision{}, err
	}
	if len(in.Account.endpoints()) >= maxEndpoints {
		return Decision{}, events.Errorf(events.LimitExceeded, "account %s has %d endpoints, the most it may have; remove one first", in.AccountID, maxEndpoints).
			With("limit", maxEndpoints)
	}
	next.Account, next.Environment, next.Events = in.AccountID, c.Environment, sortedUnique(c.Events)
	next.Description, next.Status, next.Signing = c.Description, events.Active, c.Signing
	next.Keys, next.Filters, next.Ordering = keyList(c.Keys), c.Filters, c.Ordering
	next.RatePerMinute, next.Timeout = c.RatePerMinute, c.Timeout
	if next.Signing == events.SigningV1 {
		next.PublicKey = ""
	}
	next.CreatedAt = in.Time
	return one(in, "endpoint.registered", c.Environment, next.ID, &next)
}

// consents refuses a receiver that did not consent, where it has to.
func consents(e *events.Endpoint, require bool) *events.Error {
	if !require || e.Consent == events.ConsentConfirmed {
		return nil
	}
	return events.Errorf(events.FailedPrecondition,
		"the receiver does not agree to deliveries: its URL must answer OPTIONS with a WebHook-Request-Origin header with 200 and that origin, or *, in WebHook-Allowed-Origin")
}

// endpointAndReason is the body of the verbs that change an endpoint's status.
type endpointAndReason struct {
	Endpoint string `json:"endpoint"`
	Reason   string `json:"reason"`
}

// Validate implements Command.
func (c *endpointAndReason) Validate() *events.Error {
	var check checks
	check.endpoint(c.Endpoint)
	check.text("reason", c.Reason, 0, maxReferenceChars)
	return check.err
}

// EndpointIDPrefix is what every endpoint id begins with; a ULID follows.
const EndpointIDPrefix = "endpoint_"

// endpoint finds an endpoint of the account by its id.
func (in *Input) endpoint(id string) (*events.Endpoint, *events.Error) {
	if e := in.Account.endpoints()[id]; e != nil {
		return e, nil
	}
	return nil, events.Errorf(events.NotFound, "account %s has no endpoint %s", in.AccountID, id)
}

// after returns a copy of an endpoint for an event at a time: without what was said by one
// event alone, and without former secrets whose time is over.
func after(e *events.Endpoint, now events.Time) *events.Endpoint {
	next := *e
	next.SkipTo, next.FailingSince, next.FailingPercent = "", 0, 0
	next.Former = slices.DeleteFunc(slices.Clone(e.Former), func(f events.FormerSecret) bool { return f.Until <= now })
	return &next
}

// happens is the Decision of an endpoint's event.
func happens(in *Input, eventType string, e *events.Endpoint) (Decision, *events.Error) {
	return one(in, eventType, e.Environment, e.ID, e)
}

func (c *endpointAndReason) setStatus(in *Input, status, eventType string) (Decision, *events.Error) {
	e, err := in.endpoint(c.Endpoint)
	if err != nil {
		return Decision{}, err
	}
	if e.Status == status {
		return unchanged(e)
	}
	next := after(e, in.Time)
	next.Status, next.Reason = status, c.Reason
	return happens(in, eventType, next)
}

// PauseEndpoint is endpoint.pause.
type PauseEndpoint struct{ endpointAndReason }

// Decide implements Command.
func (c *PauseEndpoint) Decide(in *Input) (Decision, *events.Error) {
	if e := in.Account.endpoints()[c.Endpoint]; e != nil && e.Status == events.Disabled {
		return Decision{}, events.Errorf(events.FailedPrecondition, "endpoint %s is disabled; resume it first", e.ID)
	}
	return c.setStatus(in, events.Paused, "endpoint.paused")
}

// ResumeEndpoint is endpoint.resume, of a paused or disabled endpoint.
type ResumeEndpoint struct{ endpointAndReason }

// Decide implements Command.
func (c *ResumeEndpoint) Decide(in *Input) (Decision, *events.Error) {
	return c.setStatus(in, events.Active, "endpoint.resumed")
}

// RemoveEndpoint is endpoint.remove.
type RemoveEndpoint struct{ endpointAndReason }

// Decide implements Command.
func (c *RemoveEndpoint) Decide(in *Input) (Decision, *events.Error) {
	return c.setStatus(in, events.Removed, "endpoint.removed")
}

// TestEndpoint is endpoint.test: an event that the endpoint is owed, whatever it subscribes
// to.
type TestEndpoint struct {
	Endpoint string `json:"endpoint"`
}

// Validate implements Command.
func (c *TestEndpoint) Validate() *events.Error {
	var check checks
	check.endpoint(c.Endpoint)
	return check.err
}

// Decide implements Command.
func (c *TestEndpoint) Decide(in *Input) (Decision, *events.Error) {
	e, err := in.endpoint(c.Endpoint)
	if err != nil {
		return Decision{}, err
	}
	if e.Status != events.Active {
		return Decision{}, events.Errorf(events.FailedPrecondition, "endpoint %s is %s and gets nothing; resume it first", e.ID, e.Status)
	}
	return happens(in, "endpoint.tested", after(e, in.Time))
}

// DisableEndpoint is keyledger's own command, after a receiver answered 410 Gone or failed
// everything for too long. It is not in the command table: nobody else can give it.
type DisableEndpoint struct{ endpointAndReason }

// DisableEndpointSpec is its line.
var DisableEndpointSpec = Spec{New: func() Command { return new(DisableEndpoint) }, WhileSuspended: true, WhileClosed: true}

// NewDisableEndpoint makes the command.
func NewDisableEndpoint(endpoint, reason string) *DisableEndpoint {
	return &DisableEndpoint{endpointAndReason{Endpoint: endpoint, Reason: reason}}
}

// Decide implements Command.
func (c *DisableEndpoint) Decide(in *Input) (Decision, *events.Error) {
	return c.setStatus(in, events.Disabled, "endpoint.disabled")
}

// NoteFailing is keyledger's own command as well: a notice before an endpoint is disabled.
type NoteFailing struct {
	Endpoint string      // its id
	Since    events.Time // every attempt failed
	Percent  int64       // 1 to 99: of the time after which it is disabled
}

// NoteFailingSpec is its line.
var NoteFailingSpec = Spec{New: func() Command { return new(NoteFailing) }, WhileSuspended: true, WhileClosed: true}

// Validate implements Command.
func (c *NoteFailing) Validate() *events.Error {
	var check checks
	check.endpoint(c.Endpoint)
	check.that(c.Since > 0, "since is required")
	check.that(c.Percent >= 1 && c.Percent <= 99, "percent must be from 1 to 99")
	return check.err
}

// Decide implements Command. A notice is given once, and only of what is delivered to.
func (c *NoteFailing) Decide(in *Input) (Decision, *events.Error) {
	e, err := in.endpoint(c.Endpoint)
	if err != nil {
		return Decision{}, err
	}
	if e.Status != events.Active || e.FailingSince == c.Since && e.FailingPercent >= c.Percent {
		return unchanged(e)
	}
	next := after(e, in.Time)
	next.FailingSince, next.FailingPercent = c.Since, c.Percent
	return happens(in, "endpoint.failing", next)
}

func (st *State) evolveEndpoint(d *events.Endpoint) {
	a := st.account(d.Account)
	if a == nil {
		return
	}
	if d.Status == events.Removed {
		delete(a.endpoints(), d.ID)
		return
	}
	if a.extra().endpoints == nil {
		a.more.endpoints = map[string]*events.Endpoint{}
	}
	a.more.endpoints[d.ID] = d
}
