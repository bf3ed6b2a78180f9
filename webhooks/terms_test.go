package webhooks

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// However often what an endpoint subscribes to changes, what is kept of it does not grow, in
// memory and in the saved directory; and a lane that is behind all those changes still reads
// each event by the terms of its time.
func TestTermsDoNotAddUp(t *testing.T) {
	const updates = 10_000
	m := newModel(t, random(t))
	e := events.Endpoint{ID: "endpoint_1", Account: "a", Environment: events.Test, Headers: []string{}, Status: events.Active}
	update := func(n int) {
		var list []events.Event
		for i := range n {
			after := e
			after.Events = []string{[]string{"credit.granted", "credit.*", "endpoint.*"}[m.rng.IntN(3)]}
			after.Keys = []string{fmt.Sprintf("key_%d", m.rng.IntN(2)), fmt.Sprintf("key_%08d", i)}
			list = append(list, debit("a", events.Test, 1),
				events.Event{Type: "endpoint.updated", Account: "a", Environment: events.Test, Subject: e.ID, Data: &after})
			if len(list) >= 500 || i == n-1 {
				m.commit(list)
				list = nil
			}
		}
	}
	update(1000) // the first of them stands for the registration
	l := m.d.lanes["endpoint_1"]
	if !l.behind {
		t.Fatal("the lane is not behind")
	}
	size := len(m.d.takeDown().encode())
	update(updates)
	const anchor = 64 // bytes; how many there are swings between a half of anchorsMax and all
	if n := len(m.d.takeDown().encode()); n > size+anchorsMax*anchor {
		t.Errorf("the saved directory grew from %d bytes to %d", size, n)
	}
	m.d = m.start(&checkpoint{}, nil) // folds the whole log
	l = m.d.lanes["endpoint_1"]
	got := 0
	for m.try(l) || m.refill(m.d, l) {
		for len(m.flying) > 0 {
			o := m.land(0, true).delivery.entry
			if want := m.owed[owedTo{l.registered, o.feed}]; o != want {
				t.Fatalf("sent %+v, want %+v", o, want)
			}
			got++
		}
	}
	if got != len(m.owed) || got < updates/10 {
		t.Errorf("%d of %d deliveries", got, len(m.owed))
	}
}

// Content filters that a newer keyledger may know match nothing, and a test is owed all the
// same.
func TestTermsThatCannotBeRead(t *testing.T) {
	bad := (*terms)(nil).after(&events.Endpoint{Environment: events.Test, Events: []string{"*"}, Filters: jsontext.Value(`[{"telepathy":{}}]`)})
	e := debit("a", events.Test, 1)
	if s := (&sight{Event: &e, feed: 1}); bad.unread == nil || bad.owes("endpoint_1", s) {
		t.Error("an event matches")
	}
	e = events.Event{Type: "endpoint.tested", Account: "a", Environment: events.Test, Subject: "endpoint_1"}
	if !bad.owes("endpoint_1", &sight{Event: &e}) || bad.owes("endpoint_2", &sight{Event: &e}) {
		t.Error("a test is owed to its endpoint, and to no other that does not match")
	}
}

// What is seen of an event is the same whether it is read from the log or from the feed, for
// every kind of event.
func TestSightOfTheFeed(t *testing.T) {
	files, err := filepath.Glob("../events/testdata/golden/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		want := events.CloudEvent{ID: ulid.Make(), CommandID: ulid.Make(), Time: 1_790_000_000_001, Position: events.Position{Sequence: 7, Index: 3}}
		r := events.NewReader(b)
		if want.Code(r); r.Err() != nil {
			t.Fatal(file, r.Err())
		}
		got, err := sightOf(scannedOf(t, 11, &want), func(*events.Event) bool { return true })
		if err != nil {
			t.Fatal(file, err)
		}
		if got.feed != 11 || got.commit != 7 || got.Account != want.Account || got.Environment != want.Environment || got.Type != want.Type ||
			got.Subject != want.Subject || got.cloud.ID != want.ID || got.cloud.CommandID != want.CommandID || got.cloud.Time != want.Time || got.cloud.Position != want.Position {
			t.Errorf("%s: %+v", file, got.cloud)
		}
		if got, want := events.KeyOf(got.Event), events.KeyOf(&want.Event); got != want {
			t.Errorf("%s is about key %q, want %q", file, got, want)
		}
		if after, _ := want.Data.(*events.Endpoint); (after == nil) != (got.about() == nil) || after != nil && (got.about().Status != after.Status || !(*terms)(nil).after(after).equal((*terms)(nil).after(got.about()))) {
			t.Errorf("%s: other terms: %+v", file, got.about())
		}
	}
}
