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
	terms      *terms           // in force: those of endpoint
	owed       uint64           // events owed so far, and the number of the newest of them
	anchors    []place          // of its past, oldest first, the first behind its registration
	stride     uint64           // events of the log between two of them
}

// fold moves the directory over an event. It calls owe for each endpoint that is owed the
// event, after counting it: by the terms in force before the event, and not for an
// endpoint that the event removes. It returns the endpoint whose state the event has, nil
// if it has none.
func (d directory) fold(s *sight, owe func(*subscriber)) (about *subscriber) {
	after := s.about()
	at := -1
	for i, sub := range d[s.Account] {
		sub.anchor(s)
		if after != nil && sub.endpoint.ID == after.ID {
			at = i
			if after.Status == events.Removed {
				continue
			}
		}
		if sub.terms.owes(sub.endpoint.ID, s) {
			sub.owed++
			owe(sub)
		}
	}
	if after == nil {
		return nil
	}
	return d.change(s, at, after)
}

// change takes the endpoint's new state in; at is where it stands in its account's list,
// -1 if it is new.
func (d directory) change(s *sight, at int, after *events.Endpoint) *subscriber {
	if at < 0 {
		if after.Status == events.Removed {
			return nil
		}
		sub := &subscriber{account: s.Account, registered: s.feed, endpoint: after, terms: (*terms)(nil).after(after), stride: anchorStride}
		sub.anchors = []place{{entry{feed: s.feed + 1, commit: s.commit, number: 1}, sub.terms}}
		d[s.Account] = append(d[s.Account], sub)
		return sub
	}
	sub := d[s.Account][at]
	sub.endpoint = after
	if after.Status != events.Removed {
		sub.terms = sub.terms.after(after)
	} else if d[s.Account] = slices.Delete(d[s.Account], at, at+1); len(d[s.Account]) == 0 {
		delete(d, s.Account)
	}
	return sub
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
