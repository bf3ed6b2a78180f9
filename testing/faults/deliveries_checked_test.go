package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// What is owed, said by hand: the commits of each endpoint's events, in their order.
func TestOwedByTheLogAlone(t *testing.T) {
	m := history(t)
	for id, want := range map[string][]uint64{
		"all":  {3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		"some": {4, 5, 6, 8, 10, 12, 14},
		"gone": {12},
	} {
		var got []uint64
		for _, w := range m.h.owing[id].list {
			got = append(got, w.place.commit)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s is owed %v, want %v", id, got, want)
		}
	}
	for commit, want := range map[uint64]bool{4: true, 8: true, 10: false} {
		if got := !m.owed("some", commit).skipped.IsZero(); got != want {
			t.Errorf("%d is jumped over: %t", commit, got)
		}
	}
}

// Terms choose what they say, and change from the next event on.
func TestOwedByTerms(t *testing.T) {
	for what, tt := range map[string]struct {
		terms events.Endpoint
		want  []uint64
	}{
		"type":          {events.Endpoint{Events: []string{"credit.debited"}}, []uint64{2, 3, 4, 7}},
		"key":           {events.Endpoint{Events: []string{"*"}, Keys: []string{madeKey}}, []uint64{2, 4, 7}},
		"not":           {events.Endpoint{Events: []string{"*"}, Filters: []byte(`[{"not":{"prefix":{"subject":"key_"}}}]`)}, []uint64{4, 5, 7}},
		"any":           {events.Endpoint{Events: []string{"*"}, Filters: []byte(`[{"any":[{"exact":{"subject":"key_1"}},{"suffix":{"subject":"_2"}}]}]`)}, []uint64{2, 3, 4, 7}},
		"all":           {events.Endpoint{Events: []string{"*"}, Filters: []byte(`[{"all":[{"prefix":{"subject":"key_"}},{"suffix":{"subject":"_2"}}]}]`)}, []uint64{3, 4, 7}},
		"two attribute": {events.Endpoint{Events: []string{"*"}, Filters: []byte(`[{"exact":{"subject":"key_1","partitionkey":"key_2"}}]`)}, []uint64{4, 7}},
	} {
		m := newMade(t)
		e := tt.terms
		e.ID, e.Signing = "one", "v1"
		m.endpoint("registered", e, 1)
		m.debit(madeKey)
		m.debit("key_2")
		m.endpoint("tested", e, 1) // owed whatever the terms
		other := e
		other.Events, other.Keys, other.Filters = []string{"account.*"}, nil, nil
		m.endpoint("updated", other, 1) // 5
		m.debit(madeKey)
		m.commit(events.Event{Type: "account.updated", Account: "acme", Data: &events.Account{ID: "acme"}})  // 7
		m.commit(events.Event{Type: "account.updated", Account: "other", Data: &events.Account{ID: "acme"}}) // 8
		owing, err := foldOwed(m.commits, m.sealer)
		if err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for _, w := range owing["one"].list {
			got = append(got, w.place.commit)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: owed %v, want %v", what, got, tt.want)
		}
	}
}

// spoiled are ways to spoil a history in which all is well, with the verdicts that each is
// to be given.
var spoiled = map[string]struct {
	spoil func(*made)
	want  string
}{
	"nothing": {func(*made) {}, ""},
	"a path of nobody": {func(m *made) {
		m.h.requests[0].path = "/x"
		m.h.attempts = nil
		m.h.owing["all"].list[0].skipped = madeBegin
	}, "nobody's"},
	"another signature":    {func(m *made) { r := m.find("some", 10); r.signature = m.find("some", 12).signature }, "signature"},
	"no signature":         {func(m *made) { m.find("all", 10).signature = "" }, "signature"},
	"a good and a bad one": {func(m *made) { m.find("all", 10).signature += " v1,AAAA" }, "signature"},
	"another key":          {func(m *made) { m.sign(m.find("all", 10), 21) }, "signature"},
	"the secret before":    {func(m *made) { m.sign(m.find("all", 10), 1) }, "old secret"},
	"what others are owed": {func(m *made) {
		id, body := m.body(7, m.number("some", 6))
		m.add("some", 7, id, body, time.Second, 200)
	}, "not owed"},
	"another id": {func(m *made) {
		r := m.find("all", 3)
		r2 := *r
		r2.id = m.find("all", 4).id
		m.sign(&r2, 1)
		m.h.requests = append(m.h.requests, r2)
	}, "not owed"},
	"a number too high": {func(m *made) {
		id, body := m.body(10, fmt.Sprintf("%020d", 99))
		m.add("all", 10, id, body, time.Second, 200)
	}, "number"},
	"a number of two events": {func(m *made) {
		id, body := m.body(10, m.number("all", 8))
		m.add("all", 10, id, body, time.Second, 200)
	}, "number two events"},
	"other bytes":        {func(m *made) { r := m.find("all", 10); r.body = append(r.body, ' '); m.sign(r, 2) }, "other bytes"},
	"after the removal":  {func(m *made) { r := m.find("gone", 12); late(r, 20*time.Second); m.sign(r, 21) }, "removed"},
	"after the jump":     {func(m *made) { m.send("some", 8, 12*time.Second, 200) }, "skipped"},
	"again, no kill":     {func(m *made) { m.send("all", 12, 5*time.Second, 200) }, "again"},
	"again, long before": {func(m *made) { m.send("all", 12, 20*time.Second, 200) }, "again"},
	"again, after the kill alone": {func(m *made) {
		m.send("all", 13, 6*time.Second, 200)
	}, "again"},
	"again, before the kill": {func(m *made) { m.h.kills[0] = m.h.kills[0].Add(5 * time.Second) }, "again"},
	"without end": {func(m *made) {
		for range 5 {
			m.send("all", 14, time.Second, 500)
		}
	}, "too often"},
	"a record of nothing":     {func(m *made) { m.h.attempts = append(m.h.attempts, m.h.attempts[0]) }, "no request"},
	"a record otherwise":      {func(m *made) { status := 201; m.h.attempts[0].StatusCode = &status }, "no request"},
	"pending, another number": {func(m *made) { m.h.lists["all"].pending[0].Sequence = m.number("all", 3) }, "list lost"},
	"more pending than owed":  {func(m *made) { l := m.h.lists["all"]; l.count = 99; m.h.lists["all"] = l }, "list"},
	"dead and pending": {func(m *made) {
		l := m.h.lists["some"]
		l.pending, l.count = l.dead, 1
		m.h.lists["some"] = l
	}, "list"},
	"dead after two tries":   {func(m *made) { m.drop("some", 14) }, "dead early"},
	"the end forgotten":      {func(m *made) { l := m.h.lists["all"]; l.count = 1; m.h.lists["all"] = l }, "lost"},
	"one forgotten":          {func(m *made) { m.drop("some", 10) }, "gap"},
	"one too early":          {func(m *made) { r := m.find("all", 4); late(r, 20*time.Second); m.sign(r, 2) }, "order"},
	"a replay forgotten":     {func(m *made) { m.drop("some", 4) }, "not replayed"},
	"a replay of the unowed": {func(m *made) { m.drop("some", 3) }, "not replayed"},
	"a replay of too much":   {func(m *made) { m.replayed("some", 7, 100*time.Second) }, "not owed"},
}

func late(r *request, by time.Duration) { r.at, r.answered = r.at.Add(by), r.answered.Add(by) }

// A history in which all is well is not complained of; each way to spoil it is, with its
// verdict alone, and every verdict has a row.
func TestDeliveriesAreChecked(t *testing.T) {
	given := map[string]bool{}
	for what, tt := range spoiled {
		m := history(t)
		tt.spoil(m)
		var got []string
		complaints := m.h.check()
		for _, c := range complaints {
			verdict, _, _ := strings.Cut(c, ":")
			got = append(got, verdict)
			given[verdict] = true
			if !slices.Contains(hookVerdicts, verdict) {
				t.Errorf("the verdict %q is not listed", verdict)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, want %q", what, complaints, tt.want)
		}
	}
	for _, verdict := range hookVerdicts {
		if !given[verdict] {
			t.Errorf("nothing was given the verdict %q", verdict)
		}
	}
}
