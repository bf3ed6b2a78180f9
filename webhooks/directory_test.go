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
		for range 20 {
			n := rng.IntN(len(places))
			name := fmt.Sprintf("%s of %d", whose[n].endpoint.ID, whose[n].registered)
			f := readAgain(history, whose[n], places[n])
			for _, e := range f.entries {
				if number := got[fmt.Sprintf("%d to %s", e.feed, name)]; number != e.number {
					t.Fatalf("round %d: read from %+v on, %d to %s has number %d, want %d", round, places[n].entry, e.feed, name, e.number, number)
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("round %d:\nfold  %v\nplain %v", round, got, want)
		}
	}
}

// readAgain reads a history for an endpoint from a place on, until it is removed.
func readAgain(history []events.Event, whose *subscriber, from place) *found {
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
	return f
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
