package ledger

import (
	"maps"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// RegisterEndpoint is endpoint.register. The URL and the headers are checked by the
// package that will use them, before Validate.
type RegisterEndpoint struct {
	URL         string            `json:"url"`
	Environment string            `json:"environment"`
	Events      []string          `json:"events"`
	Description string            `json:"description"`
	Headers     map[string]string `json:"headers"`
	Signing     string            `json:"signing"`

	Endpoint *events.Endpoint `json:"-"` // id, URL without query and sealed members, made at the edge
}

// Validate implements Command.
func (c *RegisterEndpoint) Validate() *events.Error {
	var check checks
	check.that(c.URL != "", "url is required")
	check.that(len(c.URL) <= maxURLBytes, "url has %d bytes, at most %d are allowed", len(c.URL), maxURLBytes)
	check.environment(c.Environment)
	check.that(len(c.Events) > 0, `events is required: filters such as "credit.*", or "*" for all`)
	check.that(len(c.Events) <= maxFilters, "%d event filters, at most %d are allowed", len(c.Events), maxFilters)
	for _, filter := range c.Events {
		check.that(events.ValidFilter(filter), "event filter %.60q matches no event type", filter)
	}
	check.text("description", c.Description, 0, maxDescriptionChars)
	check.that(len(c.Headers) <= maxHeaders, "%d headers, at most %d are allowed", len(c.Headers), maxHeaders)
	if c.Signing == "" {
		c.Signing = "v1"
	}
	check.that(c.Signing == "v1", "signing must be v1")
	return check.err
}

// HeaderNames returns the names of the custom headers, sorted.
func (c *RegisterEndpoint) HeaderNames() []string {
	return sortedUnique(slices.Collect(maps.Keys(c.Headers)))
}

// Decide implements Command.
func (c *RegisterEndpoint) Decide(in *Input) (Decision, *events.Error) {
	if len(in.Account.endpoints()) >= maxEndpoints {
		return Decision{}, events.Errorf(events.LimitExceeded, "account %s has %d endpoints, the most it may have; remove one first", in.AccountID, maxEndpoints).
			With("limit", maxEndpoints)
	}
	next := *c.Endpoint
	next.Account, next.Environment, next.Events = in.AccountID, c.Environment, sortedUnique(c.Events)
	next.Description, next.Status, next.Signing = c.Description, events.Active, c.Signing
	next.CreatedAt = in.Time
	return one(in, "endpoint.registered", c.Environment, next.ID, &next)
}

// endpointAndReason is the body of the verbs that change an endpoint's status.
type endpointAndReason struct {
	Endpoint string `json:"endpoint"`
	Reason   string `json:"reason"`
}

// Validate implements Command.
func (c *endpointAndReason) Validate() *events.Error {
	var check checks
	id, ok := cutID(c.Endpoint, EndpointIDPrefix)
	_, err := ulid.ParseStrict(id)
	check.that(ok && err == nil, "endpoint must be an endpoint id such as endpoint_01J…")
	check.text("reason", c.Reason, 0, maxReferenceChars)
	return check.err
}

// EndpointIDPrefix is what every endpoint id begins with; a ULID follows.
const EndpointIDPrefix = "endpoint_"

func cutID(id, prefix string) (string, bool) {
	if len(id) < len(prefix) || id[:len(prefix)] != prefix {
		return "", false
	}
	return id[len(prefix):], true
}

func (c *endpointAndReason) setStatus(in *Input, status, eventType string) (Decision, *events.Error) {
	e := in.Account.endpoints()[c.Endpoint]
	if e == nil {
		return Decision{}, events.Errorf(events.NotFound, "account %s has no endpoint %s", in.AccountID, c.Endpoint)
	}
	if e.Status == status {
		return unchanged(e)
	}
	next := *e
	next.Status, next.Reason = status, c.Reason
	return one(in, eventType, e.Environment, e.ID, &next)
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

// DisableEndpoint is keyledger's own command, after a receiver answered 410 Gone. It is
// not in the command table: nobody else can give it.
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
