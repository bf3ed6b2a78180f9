package webhooks

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

func TestSubscriptionFilterSubject(t *testing.T) {
	const all = "keyledger.events.0.acme."
	for _, test := range []struct {
		filters []string
		want    string
	}{
		{[]string{"*"}, all + ">"},
		{[]string{"credit.*"}, all + "*.credit.*.>"},
		{[]string{"credit.debited"}, all + "*.credit.debited.>"},
		{[]string{"credit.debited", "credit.granted"}, all + "*.credit.*.>"},
		{[]string{"credit.debited", "credit.debited"}, all + "*.credit.debited.>"},
		{[]string{"credit.debited", "key.*"}, all + ">"},
		{[]string{"credit.debited", "*"}, all + ">"},
		{nil, all + ">"},
	} {
		s, refused := SubscriptionOf(&events.Endpoint{ID: "endpoint_1", Account: "acme", Events: test.filters})
		if refused != nil || s.FilterSubject(0) != test.want {
			t.Errorf("%v: %s, %v, want %s", test.filters, s.FilterSubject(0), refused, test.want)
		}
	}
	if _, refused := SubscriptionOf(&events.Endpoint{Filters: jsontext.Value(`[{"sql":"1"}]`)}); refused == nil {
		t.Error("filters that cannot be read are taken")
	}
}

// What is read of the feed is what the endpoint is owed by the same terms, and the subject
// that is filtered by has all of it.
func TestSubscriptionReadsWhatIsOwed(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"), opened("other"), debit("acme", events.Test, 1))
	e := r.endpoint("endpoint_1", to.server.URL+"/endpoint_1", to.key[:], "credit.*")
	e.Keys = []string{commonKey}
	e.Filters = jsontext.Value(`[{"not":{"exact":{"subject":"` + rareKey + `"}}}]`)
	e.CreatedAt = events.At(r.clock.now().Add(1))
	r.clock.advance(1e6)
	r.commit(about(e, ""))
	d := r.start(r.onClock())
	of := func(account, environment, key string) events.Event {
		x := debit(account, environment, 1)
		x.Subject = key
		return x
	}
	r.commit(of("acme", events.Test, commonKey), of("acme", events.Live, commonKey), of("other", events.Test, commonKey),
		of("acme", events.Test, rareKey), opened("acme"), of("acme", events.Test, commonKey))
	d.idle()
	s, refused := SubscriptionOf(e)
	if refused != nil {
		t.Fatal(refused)
	}
	scan, err := store.NewScan(t.Context(), r.js, store.StreamFeed(0), s.FilterSubject(0))
	if err != nil {
		t.Fatal(err)
	}
	var pulled []string
	err = scan.Window(t.Context(), 1, 1000, func(m *store.Scanned) error {
		e, err := s.Read(&nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}, m.Sequence)
		if e != nil {
			pulled = append(pulled, e.ID.String())
		}
		return err
	})
	var pushed []string
	for _, got := range to.list() {
		pushed = append(pushed, got.id)
	}
	if err != nil || len(pushed) != 2 || !sameSet(pushed, pulled) {
		t.Errorf("pulled %v, pushed %v, %v", pulled, pushed, err)
	}
}

func sameSet(a, b []string) bool {
	set := map[string]bool{}
	for _, s := range a {
		set[s] = true
	}
	for _, s := range b {
		if !set[s] {
			return false
		}
		delete(set, s)
	}
	return len(set) == 0
}
