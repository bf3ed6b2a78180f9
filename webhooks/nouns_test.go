package webhooks

import (
	"slices"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// TestEveryNounIsDelivered: filters match holds and alerts as they match all else, and an
// event goes to the endpoints of its own account, whoever's command it was: of a transfer,
// which is one entry, each account gets its leg.
func TestEveryNounIsDelivered(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"), opened("other"))
	r.add("endpoint_1", to, "hold.*")
	r.add("endpoint_2", to, "balance.*")
	r.add("endpoint_3", to, "credit.transferred", "hold.captured")
	receiving := r.endpoint("endpoint_4", to.server.URL+"/endpoint_4", to.key[:], "credit.*", "balance.low")
	receiving.Account = "other"
	receiving.SealedSecret = r.sealer.Seal("other", "endpoint_4", "secret", to.key[:])
	r.commit(about(receiving, ""))
	d := r.start()

	event := func(account, eventType string, data events.Data) events.Event {
		return events.Event{Type: eventType, Account: account, Environment: events.Test, Data: data}
	}
	balance := events.Balance{Environment: events.Test, Asset: "credits", Posted: 10, Available: 10}
	leg := &events.Transferred{Transfer: events.Transfer{ID: "transfer_1", From: "acme", To: "other", Amount: 5}, Balance: balance}
	held := &events.Held{Hold: events.Hold{ID: "hold_1", Amount: 5}, Balance: balance}
	alert := &events.Alert{Threshold: &events.Threshold{Asset: "credits", Amount: 20}, Below: 20, Balance: balance}
	r.append(
		command(event("acme", "credit.transferred", leg), event("other", "credit.transferred", leg), event("acme", "balance.low", alert)),
		command(event("acme", "hold.placed", held), event("acme", "balance.exhausted", alert)),
		command(event("acme", "hold.captured", held)), command(event("acme", "hold.released", held)),
		command(event("acme", "hold.expired", held)), command(event("other", "credit.expired", &events.Expired{Balance: balance})),
	)
	c := r.commit()
	d.wait(c.Sequence)
	d.idle()
	for id, want := range map[string][]string{
		"endpoint_1": {"hold.placed", "hold.captured", "hold.released", "hold.expired"},
		"endpoint_2": {"balance.low", "balance.exhausted"},
		"endpoint_3": {"credit.transferred", "hold.captured"},
		"endpoint_4": {"credit.transferred", "credit.expired"},
	} {
		if got := r.types(r.owed(id)); !slices.Equal(got, want) {
			t.Errorf("%s is owed %v, want %v", id, got, want)
		}
		if got := to.count(func(g received) bool { return g.endpoint == id }); got != len(want) {
			t.Errorf("%s got %d requests, want %d", id, got, len(want))
		}
		r.checkDelivered(to, id)
	}
}

// types are the types of the events with these ids.
func (r *rig) types(ids []string) (list []string) {
	r.t.Helper()
	for sequence := uint64(1); sequence <= r.chain.Sequence; sequence++ {
		c, err := r.tail.Commit(r.t.Context(), sequence)
		if err != nil {
			r.t.Fatal(err)
		}
		_ = c.Each(func(e *events.CloudEvent) error {
			if slices.Contains(ids, e.ID.String()) {
				list = append(list, e.Type)
			}
			return nil
		})
	}
	return list
}
