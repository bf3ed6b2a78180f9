package webhooks

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Subscription is what an endpoint subscribes to now, for somebody who reads the feed
// instead of being sent deliveries. It knows no sequence: that counts what was owed by the
// terms of each time.
type Subscription struct {
	account, endpoint string
	since             events.Time // of the registration
	*terms
}

// SubscriptionOf returns an endpoint's subscription, as its public form has it.
func SubscriptionOf(e *events.Endpoint) (*Subscription, *events.Error) {
	s := &Subscription{account: e.Account, endpoint: e.ID, since: e.CreatedAt, terms: (*terms)(nil).after(e)}
	return s, s.unread
}

// FilterSubject is the narrowest filter on the feed of a partition that has all of the
// subscription's events: one subject, because NATS holds a consumer's permissions against
// one. Environment, keys and content filters are not in it, nor more than one type.
func (s *Subscription) FilterSubject(partition uint32) string {
	all := store.SubjectFeed(partition) + s.account + "."
	var noun, verb string
	for i, filter := range s.events {
		n, v, typed := strings.Cut(filter, ".")
		switch {
		case !typed, i > 0 && n != noun:
			return all + ">"
		case i > 0 && v != verb:
			v = "*"
		}
		noun, verb = n, v
	}
	if noun == "" {
		return all + ">"
	}
	return fmt.Sprintf("%s*.%s.%s.>", all, noun, verb)
}

// Read reads a message of the feed. It returns nil for an event that is not subscribed to, or
// is of before the endpoint was registered.
func (s *Subscription) Read(m *nats.Msg, sequence uint64) (*events.CloudEvent, error) {
	at, err := sightOf(&store.Scanned{Sequence: sequence, Subject: m.Subject, Header: m.Header, Data: m.Data}, func(*events.Event) bool { return true })
	if err != nil {
		return nil, err
	}
	own := at.Type == "endpoint.registered" && at.Subject == s.endpoint
	if own || at.Account != s.account || at.cloud.Time < s.since || !s.match(at) {
		return nil, nil
	}
	return at.cloud, nil
}
