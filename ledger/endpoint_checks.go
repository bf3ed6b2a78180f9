package ledger

import (
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// What endpoint.register and endpoint.update check alike.

func (c *checks) endpoint(id string) {
	text, ok := strings.CutPrefix(id, EndpointIDPrefix)
	_, err := ulid.ParseStrict(text)
	c.that(ok && err == nil, "endpoint must be an endpoint id such as endpoint_01J…")
}

func (c *checks) url(url string) {
	c.that(url != "", "url is required")
	c.that(len(url) <= maxURLBytes, "url has %d bytes, at most %d are allowed", len(url), maxURLBytes)
}

func (c *checks) headers(headers map[string]string) {
	c.that(len(headers) <= maxHeaders, "%d headers, at most %d are allowed", len(headers), maxHeaders)
}

func (c *checks) eventFilters(list []string) {
	c.that(len(list) <= maxFilters, "%d event filters, at most %d are allowed", len(list), maxFilters)
	for _, filter := range list {
		c.that(events.ValidFilter(filter), "event filter %.60q matches no event type", filter)
	}
}

func (c *checks) endpointKeys(list []string) {
	c.that(len(list) <= maxEndpointKeys, "%d keys, at most %d are allowed", len(list), maxEndpointKeys)
	for _, id := range list {
		_, err := ParseKeyID(id)
		c.that(err == nil, "keys must be key ids such as key_01J…")
	}
}

// contentFilters returns the filters as they are stored, nil for none.
func (c *checks) contentFilters(text events.JSON) events.JSON {
	filters, err := events.ParseFilters(text)
	if c.err == nil {
		c.err = err
	}
	return filters.JSON()
}

func (c *checks) ordering(s string) {
	c.that(s == events.OrderingNone || s == events.OrderingKey, "ordering must be none or key")
}

func (c *checks) signing(s string) {
	c.that(s == events.SigningV1 || s == events.SigningV1a, "signing must be v1 or v1a")
}

func (c *checks) endpointRate(perMinute int64) {
	c.that(perMinute >= 0 && perMinute <= maxEndpointRate, "rate_per_minute must be from 1 to %d, or 0 for no limit", int64(maxEndpointRate))
}

// endpointTimeout returns a timeout in the one way it is written, "" for the operator's.
func (c *checks) endpointTimeout(s string) string {
	if s == "" {
		return ""
	}
	d, err := time.ParseDuration(s)
	c.that(err == nil && d >= minEndpointTimeout && d <= maxEndpointTimeout, "timeout must be a duration such as 5s, from %s to %s", minEndpointTimeout, maxEndpointTimeout)
	return d.String()
}

// position returns a place in the log in the one way it is written.
func (c *checks) position(member, s string) events.Position {
	p, err := events.ParsePosition(s)
	c.that(err == nil && p.Partition == 0, "%s must be a position such as 0:42.3 or 0:42", member)
	return p
}

// keysOf makes sure that an account has keys, in an environment.
func (in *Input) keysOf(environment string, ids []string) *events.Error {
	for _, id := range ids {
		k, err := in.key(id)
		if err != nil {
			return err
		}
		if of := k.words.Value().environment; of != environment {
			return events.Errorf(events.FailedPrecondition, "key %s belongs to %s, the endpoint to %s: nothing of it would be sent", k.id, of, environment)
		}
	}
	return nil
}

// keyList is a list of keys as it is stored, nil for none.
func keyList(ids []string) []string {
	if len(ids) == 0 {
		return nil
	}
	return sortedUnique(ids)
}
