package webhooks

import (
	"fmt"
	"slices"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyledger/keyledger/events"
)

// The fold, event by event, and a plain second answer that looks at the whole history
// anew for each event agree on who is owed what, under which number. So does what is read
// later from any place of the fold, whatever the terms became meanwhile.
func TestDirectoryAgainstAPlainModel(t *testing.T) {
	rng := random(t)
	accounts, environments := []string{"a", "b"}, []string{events.Test, events.Live}
	filters := []string{"*", "credit.*", "credit.debited", "endpoint.*", "account.suspended", "account.*"}
	statuses := []string{events.Active, events.Paused, events.Disabled, events.Removed}
	for round := range 60 {
		var history []events.Event
		for range 150 {
			account, environment := accounts[rng.IntN(2)], environments[rng.IntN(2)]
			switch rng.IntN(4) {
			case 0:
				e := &events.Endpoint{
					ID: fmt.Sprintf("%s%d", account, rng.IntN(4)), Account: account, Environment: environment,
					Events: []string{filters[rng.IntN(len(filters))], filters[rng.IntN(len(filters))]}, Status: statuses[rng.IntN(len(statuses))],
				}
				if rng.IntN(3) == 0 {
					e.Keys = []string{"key_2", "key_1"}[rng.IntN(2):]
				}
				if rng.IntN(3) == 0 {
					e.Filters = jsontext.Value(`[{"exact":{"subject":"key_1"}}]`)
				}
				types := []string{"endpoint.resumed", "endpoint.tested"}
				history = append(history, events.Event{Type: types[rng.IntN(2)], Account: account, Environment: environment, Subject: e.ID, Data: e})
			case 1:
				history = append(history, events.Event{Type: "account.suspended", Account: account, Data: &events.Account{}})
			default:
				e := debit(account, environment, 1)
				e.Subject = []string{"key_1", "key_2"}[rng.IntN(2)]
				history = append(history, e)
			}
		}
		got, want := map[string]uint64{}, map[string]uint64{}
		var places []place // from which a reading goes on, and of whom
		var whose []*subscriber
		d := directory{}
		for i := range history {
			feed := uint64(i + 1)
			d.fold(sightAt(history, feed), func(s *subscriber) {
				got[fmt.Sprintf("%d to %s of %d", feed, s.endpoint.ID, s.registered)] = s.owed
			})
			for _, list := range d {
				for _, s := range list {
					places = append(places, place{entry{feed: feed + 1, number: s.owed + 1}, s.terms})
					whose = append(whose, s)
				}
			}
		}
		for i := range history {
			for _, owedTo := range plainly(history, i) {
				want[owedTo.name(i)] = owedTo.number
			}
		}
		for _, list := range d {
			for _, s := range list {
				for _, a := range s.anchors {
					places, whose = append(places, a), append(whose, s)
				}
			}
		}
		for range 40 {
			n := len(places) - 1 - min(rng.IntN(len(places)), rng.IntN(len(places))) // more often an anchor
			if wrong := readAgain(history, whose[n], places[n], got); wrong != "" {
				t.Fatalf("round %d: read from %+v on, %s", round, places[n].entry, wrong)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("round %d:\nfold  %v\nplain %v", round, got, want)
		}
	}
}

// However long its past is, of an endpoint a bounded number of places is kept, about equally
// far from each other, and the one that is asked for is the last that is not behind.
func TestAnchors(t *testing.T) {
	d := directory{}
	e := &events.Endpoint{ID: "endpoint_1", Account: "a", Environment: events.Test, Events: []string{"*"}, Status: events.Active}
	history := []events.Event{{Type: "endpoint.registered", Account: "a", Environment: events.Test, Subject: e.ID, Data: e}}
	d.fold(sightAt(history, 1), func(*subscriber) {})
	s := d["a"][0]
	history[0] = debit("a", events.Test, 1)
	for feed := uint64(2); feed < 100_000; feed++ {
		e := sightAt(history, 1)
		e.feed, e.commit = feed, feed/10
		d.fold(e, func(*subscriber) {})
		if n := len(s.anchors); n > anchorsMax || uint64(n) < min(feed/anchorStride, anchorsMax/2) {
			t.Fatalf("%d anchors after %d events", n, feed)
		}
	}
	for i, a := range s.anchors {
		if i > 0 && a.feed != s.anchors[i-1].feed+s.stride || a.number != a.feed-1 || a.commit != max(a.feed/10, 0) && i > 0 {
			t.Errorf("anchor %d: %+v, stride %d", i, a, s.stride)
		}
		if s.before(a.feed) != &s.anchors[i] || s.before(a.feed+s.stride-1) != &s.anchors[i] {
			t.Errorf("anchor %d is not the one before %d", i, a.feed)
		}
	}
	if s.before(1) != nil || s.anchors[0].feed != 2 {
		t.Errorf("the first anchor is %+v", s.anchors[0])
	}
}

// readAgain reads a history for an endpoint from a place on, until it is removed, and says
// what has another number than it should.
func readAgain(history []events.Event, whose *subscriber, from place, numbers map[string]uint64) string {
	w := &want{account: whose.account, endpoint: whose.endpoint.ID, registered: whose.registered, from: from}
	f := &found{next: from}
	for feed := from.feed; feed <= uint64(len(history)); feed++ {
		s := sightAt(history, feed)
		if after := s.about(); after != nil && after.ID == w.endpoint && after.Status == events.Removed {
			break
		}
		if s.Account == w.account {
			f.take(w, s)
		}
	}
	for _, e := range f.entries {
		name := fmt.Sprintf("%d to %s of %d", e.feed, w.endpoint, w.registered)
		if numbers[name] != e.number {
			return fmt.Sprintf("%s has number %d, want %d", name, e.number, numbers[name])
		}
	}
	return ""
}

// sightAt is an event of a history, the first of which has feed sequence 1.
func sightAt(history []events.Event, feed uint64) *sight {
	e := &history[feed-1]
	return &sight{Event: e, feed: feed, cloud: &events.CloudEvent{Event: *e}}
}

type plainOwed struct {
	endpoint   string
	registered int
	number     uint64
}

func (p plainOwed) short() string     { return fmt.Sprintf("%s of %d", p.endpoint, p.registered) }
func (p plainOwed) name(i int) string { return fmt.Sprintf("%d to %s", i+1, p.short()) }

// plainly finds who is owed event i, from the history before it.
func plainly(history []events.Event, i int) (list []plainOwed) {
	var ids []string
	for _, e := range history[:i] {
		if d, ok := e.Data.(*events.Endpoint); ok && !slices.Contains(ids, d.ID) {
			ids = append(ids, d.ID)
		}
	}
	for _, id := range ids {
		var now *events.Endpoint // before the event looked at
		p := plainOwed{endpoint: id}
		for j := range i + 1 {
			e := &history[j]
			d, _ := e.Data.(*events.Endpoint)
			mine := d != nil && d.ID == id
			owed := now != nil && now.Account == e.Account && !(mine && d.Status == events.Removed) &&
				(e.Type == "endpoint.tested" && mine || (e.Environment == "" || e.Environment == now.Environment) &&
					slices.ContainsFunc(now.Events, func(f string) bool { return events.Matches(f, e.Type) }) &&
					(len(now.Keys) == 0 || slices.Contains(now.Keys, e.Subject)) &&
					(len(now.Filters) == 0 || e.Subject == "key_1"))
			if owed {
				p.number++
				if j == i {
					list = append(list, p)
				}
			}
			switch {
			case mine && d.Status == events.Removed:
				now, p.number = nil, 0
			case mine && now == nil:
				now, p.registered = d, j+1
			case mine:
				now = d
			}
		}
	}
	return list
}
