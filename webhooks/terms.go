package webhooks

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// terms is what an endpoint subscribes to from one of its events on. It is read once,
// shared, and never changed.
type terms struct {
	environment string
	events      []string // filters of types
	keys        []string // empty: the events of all, and of none
	text        []byte   // of the content filters
	filters     events.Filters
	unread      *events.Error // why the text could not be read; nothing matches then
}

// after returns the terms of an endpoint's new state: t itself where they are the same. t
// may be nil.
func (t *terms) after(e *events.Endpoint) *terms {
	next := &terms{environment: e.Environment, events: e.Events, keys: e.Keys, text: e.Filters}
	if t.equal(next) {
		return t
	}
	next.filters, next.unread = events.ParseFilters(next.text)
	return next
}

func (t *terms) equal(u *terms) bool {
	if t == nil || u == nil {
		return t == u
	}
	return t.environment == u.environment && slices.Equal(t.events, u.events) &&
		slices.Equal(t.keys, u.keys) && bytes.Equal(t.text, u.text)
}

// owes says whether an endpoint is owed an event by terms that are in force before it: a
// test of its own it always is.
func (t *terms) owes(endpoint string, s *sight) bool {
	return s.Type == "endpoint.tested" && s.Subject == endpoint || t.match(s)
}

// match says whether an event is subscribed to. Events of no environment go to the endpoints
// of both.
func (t *terms) match(s *sight) bool {
	if s.Environment != "" && s.Environment != t.environment || t.unread != nil {
		return false
	}
	return slices.ContainsFunc(t.events, func(filter string) bool { return events.Matches(filter, s.Type) }) &&
		(len(t.keys) == 0 || slices.Contains(t.keys, events.KeyOf(s.Event))) &&
		(len(t.text) == 0 || t.filters.Match(s.attributes()))
}

// code codes the terms; those that read as others before them are these.
func (t *terms) code(c *events.Coder, before *terms) *terms {
	same := !c.Reading() && t.equal(before)
	if c.Bool(&same); same {
		return before
	}
	if t == nil {
		t = &terms{}
	}
	c.String(&t.environment)
	c.Strings(&t.events)
	c.Strings(&t.keys)
	c.Blob(&t.text)
	if c.Reading() {
		t.filters, t.unread = events.ParseFilters(t.text)
	}
	return t
}

// sight is one event as matching sees it.
type sight struct {
	*events.Event // its Data is nil if it came by the feed and nothing asks for it
	feed, commit  uint64
	in            *store.Commit      // that it stands in, nil if it came by the feed
	cloud         *events.CloudEvent // once it was asked for
}

// attributes returns the event with its context attributes.
func (s *sight) attributes() *events.CloudEvent {
	if s.cloud == nil {
		s.cloud = eventAt(s.in, s.feed)
	}
	return s.cloud
}

// about returns an endpoint's state after the event, nil if the event has none.
func (s *sight) about() *events.Endpoint {
	after, _ := s.Data.(*events.Endpoint)
	return after
}

// sightOf reads a message of the feed: its headers, and its data if wanted says so.
func sightOf(m *store.Scanned, wanted func(e *events.Event) bool) (*sight, error) {
	// keyledger.events.<p>.<account>.<environment>.<noun>.<verb>.<subject>
	token := strings.Split(m.Subject, ".")
	if len(token) < 8 {
		return nil, fmt.Errorf("message %d of the feed, on %s, is not an event", m.Sequence, m.Subject)
	}
	e := &events.CloudEvent{Event: events.Event{
		Account: token[3], Environment: absent(token[4]), Type: token[5] + "." + token[6], Subject: absent(strings.Join(token[7:], ".")),
	}}
	if err := readHeaders(e, m.Header); err != nil {
		return nil, fmt.Errorf("message %d of the feed, on %s, is not an event: %w", m.Sequence, m.Subject, err)
	}
	kind := events.Lookup(e.Type)
	if kind == nil {
		return nil, fmt.Errorf("message %d of the feed is of type %q: %w", m.Sequence, e.Type, events.ErrNewer)
	}
	if wanted(&e.Event) {
		e.Data = kind.New()
		if err := json.Unmarshal(m.Data, e.Data); err != nil {
			return nil, fmt.Errorf("read the data of message %d of the feed: %w", m.Sequence, err)
		}
	}
	return &sight{Event: &e.Event, feed: m.Sequence, commit: e.Position.Sequence, cloud: e}, nil
}

// absent is what a token of a subject stands for.
func absent(token string) string {
	if token == "-" {
		return ""
	}
	return token
}

// readHeaders reads the context attributes that the subject of a message does not have.
func readHeaders(e *events.CloudEvent, h nats.Header) (err error) {
	if e.Position, err = events.ParsePosition(h.Get("ce-position")); err != nil {
		return err
	}
	if e.ID, err = ulid.ParseStrict(h.Get("ce-id")); err != nil {
		return err
	}
	if e.CommandID, err = ulid.ParseStrict(h.Get("ce-commandid")); err != nil {
		return err
	}
	e.Trace = events.ParseTraceparent(h.Get("ce-traceparent"))
	return json.Unmarshal([]byte(`"`+h.Get("ce-time")+`"`), &e.Time)
}
