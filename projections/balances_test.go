package projections

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// planned is a plan with an allowance of 100 a day in Kathmandu, where it begins at 18:15
// UTC, and the allowance that comes with it.
func (h *history) planned(account string, resets events.Time) []events.Event {
	set := h.account(account)
	set.Type = "account.plan_set"
	set.Data.(*events.Account).Plan = &events.Plan{Name: "daily", Price: events.Price{Asset: "credits", Default: new(int64)},
		Allowance: &events.Allowance{Asset: "credits", Amount: 100, Every: events.Day, TimeZone: "Asia/Kathmandu"}}
	return []events.Event{set, {Type: "credit.replenished", Account: account, Environment: events.Test, Data: &events.Replenished{
		Replenishment: events.Replenishment{Environment: events.Test, Asset: "credits", Amount: 100, Remaining: 100, By: events.ByPlan,
			ResetsAt: resets, CreatedAt: h.now + 1},
		Balance: smallBalance(100),
	}}}
}

// TestWhenAnAllowanceResets: one that is whole at the end of the period that the view's
// time lies in, though no event told of it; one that was spent of at the end of the period
// it was spent in, until the log says more.
func TestWhenAnAllowanceResets(t *testing.T) {
	at := func(text string) events.Time {
		std, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return events.At(std)
	}
	h := newHistory(t)
	v := follow(t, h.tail)
	check := func(remaining int64, resets string) {
		t.Helper()
		wait(t, v, h.chain.Sequence)
		got, err := ask(t, v, "balance.get", "acme", `{"environment":"test"}`)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`"allowance":{"amount":100,"remaining":%d,"resets_at":%q}`, remaining, resets); !strings.Contains(got, want) {
			t.Errorf("at %s: %s, want %s", h.chain.Time, got, want)
		}
	}
	to := func(text string) { h.now = at(text) - 1 } // the next commit's time

	to("2027-03-01T10:00:00Z")
	h.commit(h.planned("acme", at("2027-03-01T18:15:00Z"))...)
	check(100, "2027-03-01T18:15:00Z")
	to("2027-03-01T18:14:59.999Z")
	h.commit()
	check(100, "2027-03-01T18:15:00Z")
	to("2027-03-01T18:15:00Z")
	h.commit()
	check(100, "2027-03-02T18:15:00Z")
	to("2027-03-05T09:00:00Z")
	h.commit()
	check(100, "2027-03-05T18:15:00Z")
	h.commit(h.debited("acme", "", 60, events.Draw{Grant: events.AllowanceGrant, Amount: 40, ExpiresAt: at("2027-03-05T18:15:00Z")}))
	check(60, "2027-03-05T18:15:00Z")
	to("2027-03-07T00:00:00Z")
	h.commit()
	check(60, "2027-03-05T18:15:00Z") // it is about to
	h.commit(events.Event{Type: "credit.replenished", Account: "acme", Environment: events.Test, Data: &events.Replenished{
		Replenishment: events.Replenishment{Amount: 100, Remaining: 100, Before: 60, By: events.ByPeriod, ResetsAt: at("2027-03-07T18:15:00Z")},
		Balance:       smallBalance(100),
	}})
	check(100, "2027-03-07T18:15:00Z")
}

// TestMovementsKnowTheCatalog: whatever is of credits or holds moves a balance.
func TestMovementsKnowTheCatalog(t *testing.T) {
	for i := range events.Catalog {
		kind := &events.Catalog[i]
		_, n := events.Movements(kind.New())
		if money := events.Matches("credit.*", kind.Name) || events.Matches("hold.*", kind.Name); money != (n > 0) {
			t.Errorf("%s moves %d balances", kind.Name, n)
		}
	}
}

// TestEveryMissedEventIsFound: without any one of a history's events, the next event of the
// same balance does not fit.
func TestEveryMissedEventIsFound(t *testing.T) {
	h := newHistory(t)
	m := newModel(h, newRandom(t))
	var list []events.Event
	for range 80 {
		for e := range eventsOf(m.commit(10)) {
			list = append(list, *e)
		}
	}
	if err := refold(list); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for i := range list {
		if !movesOn(list[i+1:], &list[i]) {
			continue
		}
		if refold(slices.Concat(list[:i], list[i+1:])) == nil {
			t.Errorf("%s, event %d of %d, is missed and nothing is found", list[i].Type, i, len(list))
		}
		found[list[i].Type]++
	}
	t.Logf("found: %v", found)
	if len(found) < 10 {
		t.Errorf("only %d types were missed", len(found))
	}
}

// refold folds events into new balances.
func refold(list []events.Event) error {
	v := newBalances()
	for i := range list {
		if err := v.Apply(&store.Commit{}, i, &list[i]); err != nil {
			return err
		}
	}
	return nil
}

// movesOn says whether a balance that an event changes moves again in list.
func movesOn(list []events.Event, e *events.Event) bool {
	moved, n := events.Movements(e.Data)
	for _, m := range moved[:n] {
		if m.Available() == 0 && m.Held == 0 {
			continue
		}
		for i := range list {
			others, n := events.Movements(list[i].Data)
			if slices.ContainsFunc(others[:n], func(o events.Movement) bool {
				return list[i].Account == e.Account && o.After.Environment == m.After.Environment && o.After.Asset == m.After.Asset
			}) {
				return true
			}
		}
	}
	return false
}

// TestKVMarksWhatMoved: both accounts of a transfer, both assets of an exchange, and the
// balance of a hold.
func TestKVMarksWhatMoved(t *testing.T) {
	k := newKVTest(t)
	b := k.kv(follow(t, k.tail), k.tail).buckets[1]
	leg := func(account string) events.Event {
		return events.Event{Type: "credit.transferred", Account: account, Environment: events.Test, Data: &events.Transferred{Balance: smallBalance(1)}}
	}
	other := events.Balance{Environment: events.Test, Asset: "usd"}
	for want, entry := range map[string]store.Entry{
		"acme.test.credits beta.test.credits": k.entry(leg("acme"), leg("beta")),
		"acme.test.credits acme.test.usd": k.entry(events.Event{Type: "credit.exchanged", Account: "acme", Environment: events.Test,
			Data: &events.Exchanged{From: events.Leg{Balance: other}, To: events.Leg{Balance: smallBalance(1)}}}),
		"acme.test.credits": k.entry(k.held("acme", "placed", k.placed("hold_1", ""), 10, 10)),
		"":                  k.entry(events.Event{Type: "balance.low", Account: "acme", Environment: events.Test, Data: &events.Alert{Balance: smallBalance(1)}}),
	} {
		b.dirty = map[kvKey]struct{}{}
		if err := b.commit(patience(t), &store.Commit{Entries: []store.Entry{entry}}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for key := range b.dirty {
			got = append(got, key.String())
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("marked: %v, want %s", got, want)
		}
	}
}
