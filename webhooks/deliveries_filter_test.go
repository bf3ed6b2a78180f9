package webhooks

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	rareKey    = "key_01JARARE000000000000000000"
	commonKey  = "key_01JCC0MM0N0000000000000000"
	rareReplay = "replay_01JARARE000000000000000000"
)

// recorded stores n records of attempts at an endpoint, as if they had been made.
func (r *rig) recorded(endpoint string, n int, change func(i int, a *Attempt)) {
	r.t.Helper()
	for i := range n {
		a := &Attempt{
			Event: events.EventID(events.At(r.clock.now()), [16]byte{1}, i).String(), Type: "dev.keyledger.credit.debited.v1",
			Account: "acme", Endpoint: endpoint, Key: commonKey, Attempt: 1, Outcome: string(OutcomeDelivered), Time: events.At(r.clock.now()),
		}
		change(i, a)
		data, err := events.Encode(a)
		if err != nil {
			r.t.Fatal(err)
		}
		msg := &nats.Msg{Subject: store.SubjectAttempts + "acme." + endpoint + "." + a.Outcome, Data: data}
		if _, err := r.js.PublishMsgAsync(msg, jetstream.WithStallWait(patience)); err != nil {
			r.t.Fatal(err)
		}
	}
	select {
	case <-r.js.PublishAsyncComplete():
	case <-time.After(patience):
		r.t.Fatal("the records are not stored")
	}
}

// Each filter finds what is rare behind more records than one page looks at.
func TestDeliveryListPassesOverMuch(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	d := r.start(r.onClock())
	const common, rare = deliveriesScan + 1000, 7
	start := r.clock.now()
	r.recorded("endpoint_1", common+rare, func(i int, a *Attempt) {
		a.Time = events.At(start.Add(time.Duration(i) * time.Second))
		if i < rare {
			a.Type, a.Key, a.Outcome, a.Replay = "dev.keyledger.key.created.v1", rareKey, outcomeDead, rareReplay
		}
	})
	at := func(i int) string {
		return fmt.Sprintf("%q", events.At(start.Add(time.Duration(i)*time.Second)).String())
	}
	for members, want := range map[string]int{
		`"status":"dead",`:               rare,
		`"type":"key.*",`:                rare,
		`"key":"` + rareKey + `",`:       rare,
		`"replay":"` + rareReplay + `",`: rare,
		`"to_time":` + at(rare) + `,`:    rare,
		`"type":"key.created","replay":"*","from_time":` + at(3) + `,"to_time":` + at(5) + `,`:           2,
		`"from_time":` + at(common) + `,"key":"` + commonKey + `",`:                                      rare,
		`"from_time":` + at(common) + `,"type":"key.*",`:                                                 0,
		`"from_time":` + at(common) + `,"replay":"*",`:                                                   0,
		`"from_time":` + at(common) + `,"endpoint":"endpoint_1","status":"delivered","type":"credit.*",`: rare,
	} {
		if rows := d.all(members, 500); len(rows) != want {
			t.Errorf("%s: %d rows, want %d", members, len(rows), want)
		}
	}
	page, refused := d.query(`{"status":"dead"}`)
	if refused != nil || len(page.Deliveries) != 0 || page.NextCursor == nil {
		t.Errorf("a page that passed over %d records: %v, %v", deliveriesScan, page, refused)
	}
	// The beginning of a span ends the list: what is before it is not looked at.
	page, refused = d.query(`{"status":"dead","from_time":` + at(common) + `}`)
	if refused != nil || page.NextCursor != nil {
		t.Errorf("a page from a time on goes on: %v, %v", page, refused)
	}
	rows := d.all(`"status":"dead",`, 3)
	if len(rows) != rare {
		t.Fatalf("by pages of 3: %d rows", len(rows))
	}
	if row := rows[0]; row["replay"] != rareReplay || row["key"] != rareKey {
		t.Errorf("row %v", row)
	}
}

// What was stored long after the end of a span is not looked at.
func TestDeliveryListBeginsAtTheEndOfTheSpan(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	d := r.start(r.onClock())
	r.recorded("endpoint_1", deliveriesScan+100, func(int, *Attempt) {})
	page, refused := d.query(fmt.Sprintf(`{"to_time":%q}`, events.At(r.clock.now().Add(-2*deliveriesLate))))
	if refused != nil || len(page.Deliveries) != 0 || page.NextCursor != nil {
		t.Errorf("%v, %v", page, refused)
	}
}

// The filters hold for what is pending too, and a page looks at so many of those.
func TestDeliveryListOfPendingPassesOverMuch(t *testing.T) {
	const endpoints = deliveriesPending/laneQueueMax + 2
	r := newRig(t)
	r.commit(opened("acme"))
	for i := range endpoints {
		e := r.endpoint(fmt.Sprintf("endpoint_%d", i), "https://192.0.2.1/", make([]byte, 32))
		e.Status = events.Paused
		r.commit(about(e, ""))
	}
	rare := debit("acme", events.Test, 0)
	rare.Type, rare.Subject, rare.Data = "credit.granted", rareKey, &events.Granted{}
	d := r.start(r.onClock())
	d.wait(r.commit(append([]events.Event{rare}, debits(laneQueueMax-1)...)...).Sequence)
	for members, want := range map[string]int{
		`"type":"credit.granted",`: endpoints, `"type":"credit.*",`: endpoints * laneQueueMax, `"type":"key.*",`: 0,
		`"key":"` + rareKey + `",`: endpoints, `"key":"` + commonKey + `",`: 0,
		`"from_time":"2020-01-01T00:00:00Z",`: endpoints * laneQueueMax, `"to_time":"2030-01-01T00:00:00Z",`: 0,
		`"replay":"` + rareReplay + `",`: 0,
	} {
		if members == `"from_time":"2020-01-01T00:00:00Z",` {
			want = 0 // never tried
		}
		for _, limit := range []int{19, 500} {
			rows := d.all(members, limit)
			names := map[string]bool{}
			for _, row := range rows {
				names[fmt.Sprint(row["endpoint"], row["event"])] = true
			}
			if len(rows) != want || len(names) != want {
				t.Errorf("%s limit %d: %d rows, %d different, want %d", members, limit, len(rows), len(names), want)
			}
		}
	}
	page, refused := d.query(`{"type":"credit.granted","limit":500}`)
	if refused != nil || len(page.Deliveries) != 0 || page.NextCursor == nil {
		t.Errorf("a page that passed over %d pending ones: %v, %v", deliveriesPending, page, refused)
	}
}

// The time is that of the last attempt, from the first moment up to the last, exclusive.
func TestDeliveryListByTime(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, func(_ http.ResponseWriter, got *received, tries int) int {
		if got.sequence == numberText(2) || tries == 1 && got.sequence == numberText(1) {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	first := r.clock.now()
	d := r.start(r.onClock(0, time.Minute, time.Hour))
	r.commit(debits(3)...)
	d.waiting("endpoint_1", 2)
	r.clock.advance(time.Minute)
	d.waiting("endpoint_1", 1)
	d.see("the third is delivered", func() bool { return d.delivered == 2 })
	r.stored(d)
	sequences := func(from, to time.Time) (list []int) {
		members := ""
		for name, at := range map[string]time.Time{"from_time": from, "to_time": to} {
			if !at.IsZero() {
				members += fmt.Sprintf(`"%s":%q,`, name, events.At(at))
			}
		}
		for _, row := range d.all(members, 1) {
			list = append(list, number(t, row["sequence"].(string)))
		}
		return slices.Sorted(slices.Values(list))
	}
	second := first.Add(time.Minute)
	for _, test := range []struct {
		from, to time.Time
		want     []int
	}{
		{time.Time{}, time.Time{}, []int{1, 2, 3}},
		{first, time.Time{}, []int{1, 2, 3}},
		{first.Add(time.Millisecond), time.Time{}, []int{1, 2}},
		{second, time.Time{}, []int{1, 2}},
		{second.Add(time.Millisecond), time.Time{}, nil},
		{time.Time{}, first, nil},
		{time.Time{}, first.Add(time.Millisecond), []int{3}},
		{time.Time{}, second, []int{3}},
		{time.Time{}, second.Add(time.Millisecond), []int{1, 2, 3}},
		{first, second, []int{3}},
	} {
		if got := sequences(test.from, test.to); !slices.Equal(got, test.want) {
			t.Errorf("from %v to %v: %v, want %v", test.from, test.to, got, test.want)
		}
	}
}

func TestDeliveryListFilterRefusals(t *testing.T) {
	_, d := scene(t)
	for body, want := range map[string]string{
		`{"type":"credit"}`:                    "type must be a type of event such as credit.debited, or a filter such as credit.*",
		`{"type":"credit.*.v1"}`:               "type must be",
		`{"key":"key_1"}`:                      "key must be a key id such as key_01J…",
		`{"key":"01JARARE000000000000000000"}`: "key must be",
		`{"replay":"x"}`:                       "replay must be a replay's id such as replay_01J…",
		`{"from_time":"yesterday"}`:            "",
		`{"from_time":"2026-01-01T00:00:00Z","to_time":"2026-01-01T00:00:00Z"}`: "from_time must be before to_time",
	} {
		_, refused := d.query(body)
		if refused == nil || refused.Code != events.InvalidArgument || len(want) > 0 && refused.Message[:len(want)] != want {
			t.Errorf("%s: %v, want %s", body, refused, want)
		}
	}
}
