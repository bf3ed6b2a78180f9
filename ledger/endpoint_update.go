package ledger

import (
	"cmp"
	"slices"

	"github.com/keyledger/keyledger/events"
)

// SkipNow is the place of endpoint.update's skip_to that is the update itself.
const SkipNow = "now"

// UpdateEndpoint is endpoint.update. Members that are absent stay as they are; headers
// replace all. The URL and the headers are checked as those of RegisterEndpoint.
type UpdateEndpoint struct {
	Endpoint      string            `json:"endpoint"`
	URL           *string           `json:"url,omitzero"`
	Events        *[]string         `json:"events,omitzero"`
	Description   *string           `json:"description,omitzero"`
	Headers       map[string]string `json:"headers,omitzero"` // nil: as they are
	Keys          *[]string         `json:"keys,omitzero"`    // []: events of all
	Filters       events.JSON       `json:"filters,omitzero"` // []: none
	Ordering      *string           `json:"ordering,omitzero"`
	RatePerMinute *int64            `json:"rate_per_minute,omitzero"` // 0: no limit
	Timeout       *string           `json:"timeout,omitzero"`         // "": the operator's
	// SkipTo is a position, or SkipNow: what the endpoint was owed up to there is not
	// delivered any more.
	SkipTo string `json:"skip_to,omitzero"`
	// Environment and Signing may be given as they are: the one never changes, the other with
	// endpoint.rotate_secret.
	Environment string `json:"environment,omitzero"`
	Signing     string `json:"signing,omitzero"`

	// Made at the edge.

	// Made has the URL without its query, the headers' names, what is sealed of both, and
	// whether the receiver consented.
	Made *events.Endpoint `json:"-"`
	// Same says whether what is sealed under a field of this endpoint is what the body has.
	Same func(field string, sealed []byte) bool `json:"-"`
	// RequireConsent as of RegisterEndpoint.
	RequireConsent bool `json:"-"`

	filters events.JSON // as they are stored
}

// Validate implements Command.
func (c *UpdateEndpoint) Validate() *events.Error {
	var check checks
	check.endpoint(c.Endpoint)
	if c.URL != nil {
		check.url(*c.URL)
	}
	if c.Events != nil {
		check.eventFilters(*c.Events)
		check.that(len(*c.Events) > 0, `events must not be empty: "*" is for all`)
	}
	if c.Description != nil {
		check.text("description", *c.Description, 0, maxDescriptionChars)
	}
	check.headers(c.Headers)
	if c.Keys != nil {
		check.endpointKeys(*c.Keys)
	}
	c.filters = check.contentFilters(c.Filters)
	if c.Ordering != nil {
		check.ordering(*c.Ordering)
	}
	if c.RatePerMinute != nil {
		check.endpointRate(*c.RatePerMinute)
	}
	if c.Timeout != nil {
		*c.Timeout = check.endpointTimeout(*c.Timeout)
	}
	if c.SkipTo != "" && c.SkipTo != SkipNow {
		c.SkipTo = check.position(`skip_to, unless it is "now",`, c.SkipTo).String()
	}
	return check.err
}

// HeaderNames returns the names of the custom headers, sorted.
func (c *UpdateEndpoint) HeaderNames() []string { return headerNames(c.Headers) }

// Decide implements Command.
func (c *UpdateEndpoint) Decide(in *Input) (Decision, *events.Error) {
	e, err := in.endpoint(c.Endpoint)
	if err != nil {
		return Decision{}, err
	}
	if c.Keys != nil {
		if err := in.keysOf(e.Environment, *c.Keys); err != nil {
			return Decision{}, err
		}
	}
	old := after(e, in.Time)
	old.Ordering = cmp.Or(old.Ordering, events.OrderingNone)
	next := *old
	if err := c.change(&next); err != nil {
		return Decision{}, err
	}
	again := c.SkipTo == "" || c.SkipTo == e.SkipTo && c.SkipTo != SkipNow
	var decision Decision
	if again && same(old, &next) {
		decision, err = unchanged(e)
	} else {
		next.SkipTo = c.SkipTo
		decision, err = happens(in, "endpoint.updated", &next)
	}
	decision.Before = e
	return decision, err
}

// change gives an endpoint the members that are there.
func (c *UpdateEndpoint) change(next *events.Endpoint) *events.Error {
	switch {
	case c.Environment != "" && c.Environment != next.Environment:
		return events.Errorf(events.FailedPrecondition, "endpoint %s belongs to %s, which stays so; register another one", next.ID, next.Environment)
	case c.Signing != "" && c.Signing != next.Signing:
		return events.Errorf(events.FailedPrecondition, "endpoint %s signs with %s; change that with endpoint.rotate_secret", next.ID, next.Signing)
	}
	if c.URL != nil {
		if err := c.move(next); err != nil {
			return err
		}
	}
	if c.Headers != nil {
		c.setHeaders(next)
	}
	if c.Events != nil {
		next.Events = sortedUnique(*c.Events)
	}
	if c.Keys != nil {
		next.Keys = keyList(*c.Keys)
	}
	if c.Filters != nil && c.Filters.Kind() != 'n' {
		next.Filters = c.filters
	}
	if c.Ordering != nil {
		next.Ordering = *c.Ordering
	}
	if c.RatePerMinute != nil {
		next.RatePerMinute = *c.RatePerMinute
	}
	if c.Timeout != nil {
		next.Timeout = *c.Timeout
	}
	if c.Description != nil {
		next.Description = *c.Description
	}
	return nil
}

// move gives an endpoint the URL, and what its receiver said. Of the URL that it has
// already, the receiver can only say yes: it may be down for a moment.
func (c *UpdateEndpoint) move(next *events.Endpoint) *events.Error {
	queries := len(next.SealedQuery) > 0
	stays := c.Made.URL == next.URL && queries == (len(c.Made.SealedQuery) > 0) && (!queries || c.Same("query", next.SealedQuery))
	if stays && c.Made.Consent != events.ConsentConfirmed {
		return nil
	}
	next.Consent, next.AllowedRate = c.Made.Consent, c.Made.AllowedRate
	if stays {
		return nil
	}
	next.URL, next.SealedQuery = c.Made.URL, c.Made.SealedQuery
	return consents(next, c.RequireConsent)
}

// setHeaders gives an endpoint the headers. One that it has already stays as it is sealed.
func (c *UpdateEndpoint) setHeaders(next *events.Endpoint) {
	sealed := slices.Clone(c.Made.SealedHeaders)
	for i, name := range c.Made.Headers {
		if at := slices.Index(next.Headers, name); at >= 0 && c.Same("header/"+name, next.SealedHeaders[at]) {
			sealed[i] = next.SealedHeaders[at]
		}
	}
	next.Headers, next.SealedHeaders = c.Made.Headers, sealed
}
