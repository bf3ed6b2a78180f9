package webhooks

import (
	"fmt"
	"slices"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// The fold, event by event, and a plain second answer that looks at the whole history
// anew for each event agree on who is owed what, under which number. So does what a lane
// that reads later takes, by the terms it has in the end.
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
				history = append(history, events.Event{Type: "endpoint.resumed", Account: account, Environment: environment, Subject: e.ID, Data: e})
			case 1:
				history = append(history, events.Event{Type: "account.suspended", Account: account, Data: &events.Account{}})
			default:
				history = append(history, debit(account, environment, 1))
			}
		}
		got, want := map[string]uint64{}, map[string]uint64{}
		later := map[string][]terms{}
		d := directory{}
		for i := range history {
			feed := uint64(i + 1)
			d.fold(feed, &history[i], func(s *subscriber) {
				got[fmt.Sprintf("%d to %s of %d", feed, s.endpoint.ID, s.registered)] = s.owed
			})
			for _, list := range d {
				for _, s := range list {
					later[fmt.Sprintf("%s of %d", s.endpoint.ID, s.registered)] = s.terms
				}
			}
		}
		for i := range history {
			for _, owedTo := range plainly(history, i) {
				want[owedTo.name(i)] = owedTo.number
				if !owedBy(later[owedTo.short()], uint64(i+1), history[i].Type, history[i].Environment) {
					t.Fatalf("round %d: event %d is not owed to %s by the terms it ends with", round, i+1, owedTo.short())
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("round %d:\nfold  %v\nplain %v", round, got, want)
		}
	}
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
				(e.Environment == "" || e.Environment == now.Environment) &&
				slices.ContainsFunc(now.Events, func(f string) bool { return events.Matches(f, e.Type) })
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
