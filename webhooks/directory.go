package webhooks

import (
	"slices"

	"github.com/keyledger/keyledger/events"
)

// directory says who is owed which event: a pure fold of the log, without a clock, I/O
// or a decision. It has the accounts with endpoints, each with them in the order in which
// they were registered; removed ones are gone from it.
type directory map[string][]*subscriber

// subscriber is an endpoint as the fold knows it.
type subscriber struct {
	account    string
	registered uint64           // feed sequence of its registration; its short name in checkpoints
	endpoint   *events.Endpoint // after its newest event; shared, never changed
	terms      []terms          // what it subscribed to, oldest first, never empty; from its lane's place on
	owed       uint64           // events matched so far, and the number of the newest of them
}

// terms is what an endpoint subscribes to from one event on.
type terms struct {
	since       uint64 // feed sequence of the event that set them; they hold behind it
	filters     []string
	environment string
}

// fold moves the directory over the event with a feed sequence. It calls owe for each
// endpoint that is owed the event, after counting it: by the terms in force before the
// event, and not for an endpoint that the event removes. It returns the endpoint that
// the event is about, nil if it is about none.
func (d directory) fold(feed uint64, e *events.Event, owe func(*subscriber)) (about *subscriber) {
	after, _ := e.Data.(*events.Endpoint)
	at := -1
	for i, s := range d[e.Account] {
		if after != nil && s.endpoint.ID == after.ID {
			at = i
			if after.Status == events.Removed {
				continue
			}
		}
		if s.terms[len(s.terms)-1].match(e.Type, e.Environment) {
			s.owed++
			owe(s)
		}
	}
	if after == nil {
		return nil
	}
	return d.change(feed, e.Account, at, after)
}

// change takes the endpoint's new state in; at is where it stands in its account's list,
// -1 if it is new.
func (d directory) change(feed uint64, account string, at int, after *events.Endpoint) *subscriber {
	if at < 0 {
		if after.Status == events.Removed {
			return nil
		}
		s := &subscriber{account: account, registered: feed, endpoint: after}
		s.agree(feed)
		d[account] = append(d[account], s)
		return s
	}
	s := d[account][at]
	s.endpoint = after
	if after.Status == events.Removed {
		if d[account] = slices.Delete(d[account], at, at+1); len(d[account]) == 0 {
			delete(d, account)
		}
		return s
	}
	s.agree(feed)
	return s
}

// agree notes the terms of the endpoint's new state where they are other ones. A list of
// terms that was handed out stays as it is.
func (s *subscriber) agree(feed uint64) {
	if n := len(s.terms); n > 0 {
		last := s.terms[n-1]
		if last.environment == s.endpoint.Environment && slices.Equal(last.filters, s.endpoint.Events) {
			return
		}
	}
	s.terms = append(s.terms, terms{since: feed, filters: s.endpoint.Events, environment: s.endpoint.Environment})
}

// match says whether an event of a type and environment is subscribed to. Events of no
// environment go to the endpoints of both.
func (t *terms) match(eventType, environment string) bool {
	if environment != "" && environment != t.environment {
		return false
	}
	return slices.ContainsFunc(t.filters, func(filter string) bool { return events.Matches(filter, eventType) })
}

// owedBy says whether an event was owed by the terms that were in force at its feed
// sequence.
func owedBy(list []terms, feed uint64, eventType, environment string) bool {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].since < feed {
			return list[i].match(eventType, environment)
		}
	}
	return false
}

// find returns an endpoint of an account, nil if there is none.
func (d directory) find(account, endpoint string) *subscriber {
	for _, s := range d[account] {
		if s.endpoint.ID == endpoint {
			return s
		}
	}
	return nil
}
