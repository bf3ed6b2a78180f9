package webhooks

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// listed is what delivery.list answers, as a client reads it.
type listed struct {
	Deliveries []map[string]any `json:"deliveries"`
	Pending    int              `json:"pending"`
	NextCursor *string          `json:"next_cursor"`
}

func (u *run) query(body string) (*listed, *events.Error) {
	u.t.Helper()
	result, at, refused := u.Queries()["delivery.list"](u.t.Context(), "acme", []byte(body))
	if refused != nil {
		return nil, refused
	}
	if at.Sequence == 0 || at.Index != events.NoIndex {
		u.t.Errorf("answered at %s", at)
	}
	data, err := events.Encode(result)
	if err != nil {
		u.t.Fatal(err)
	}
	var l listed
	if err := json.Unmarshal(data, &l); err != nil {
		u.t.Fatal(err)
	}
	if strings.Contains(string(data), `"deliveries":null`) {
		u.t.Error("the list is null")
	}
	return &l, nil
}

// all follows the cursor to the end.
func (u *run) all(members string, limit int) (rows []map[string]any) {
	u.t.Helper()
	cursor := ""
	for {
		page, refused := u.query(fmt.Sprintf(`{%s"limit":%d%s}`, members, limit, cursor))
		if refused != nil {
			u.t.Fatal(refused)
		}
		if len(page.Deliveries) > limit {
			u.t.Fatalf("%d rows, limit %d", len(page.Deliveries), limit)
		}
		rows = append(rows, page.Deliveries...)
		if page.NextCursor == nil {
			return rows
		}
		cursor = fmt.Sprintf(`,"cursor":%q`, *page.NextCursor)
	}
}

// scene is an account with deliveries of every status: at endpoint_1 30 delivered (some
// after a second try), 5 dead, 10 that wait and 50 held up; at endpoint_2 95 delivered.
func scene(t *testing.T) (*rig, *run) {
	r := newRig(t)
	within := func(got *received, from, to int) bool {
		return got.sequence >= numberText(uint64(from)) && got.sequence <= numberText(uint64(to))
	}
	one := newReceiver(t, func(w http.ResponseWriter, got *received, tries int) int {
		switch {
		case within(got, 1, 10) && tries == 1, within(got, 11, 15), within(got, 36, 45):
			if within(got, 45, 45) {
				w.Header().Set("Retry-After", "86400")
				return http.StatusServiceUnavailable
			}
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	two := newReceiver(t, nil)
	r.commit(opened("acme"), opened("empty"))
	r.add("endpoint_1", one)
	r.add("endpoint_2", two)
	d := r.start(r.onClock(0, time.Second, time.Hour))
	r.commit(debits(35)...)
	d.waiting("endpoint_1", 15)
	r.clock.advance(time.Second)
	d.waiting("endpoint_1", 5)
	r.clock.advance(time.Hour)
	d.waiting("endpoint_1", 0)
	r.commit(debits(9)...)
	d.waiting("endpoint_1", 9)
	r.commit(debits(1)...)
	d.waiting("endpoint_1", 10)
	c := r.commit(debits(50)...)
	d.wait(c.Sequence)
	d.see("endpoint_2 done", func() bool { return d.lanes["endpoint_2"].pending() == 0 })
	r.stored(d)
	return r, d
}

// stored waits until every attempt so far is recorded.
func (r *rig) stored(d *run) {
	r.t.Helper()
	s := d.Stats()
	r.await(store.StreamAttempts, s.Delivered+s.Failed)
}

func TestDeliveryList(t *testing.T) {
	r, d := scene(t)
	count := func(rows []map[string]any) map[string]int {
		m := map[string]int{}
		for _, row := range rows {
			m[fmt.Sprintf("%s %s", row["endpoint"], row["status"])]++
		}
		return m
	}
	want := map[string]int{
		"endpoint_1 pending": 60, "endpoint_1 delivered": 30, "endpoint_1 dead": 5, "endpoint_2 delivered": 95,
	}
	for _, limit := range []int{7, 60, 95, 500} {
		rows := d.all("", limit)
		if got := count(rows); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("limit %d: %v", limit, got)
		}
		names := map[string]bool{}
		for _, row := range rows {
			names[fmt.Sprint(row["endpoint"], row["event"])] = true
		}
		if len(names) != 190 {
			t.Errorf("limit %d: %d different deliveries", limit, len(names))
		}
	}
	for members, want := range map[string]int{
		`"status":"pending",`: 60, `"status":"delivered",`: 125, `"status":"dead",`: 5, `"endpoint":"endpoint_2",`: 95,
		`"endpoint":"endpoint_1",`: 95, `"endpoint":"endpoint_1","status":"delivered",`: 30, `"endpoint":"endpoint_2","status":"pending",`: 0,
	} {
		for _, limit := range []int{11, 500} {
			if rows := d.all(members, limit); len(rows) != want {
				t.Errorf("%s: %d rows, want %d", members, len(rows), want)
			}
		}
	}
	if page, _ := d.query(`{}`); len(page.Deliveries) != 50 || page.Pending != 60 || page.NextCursor == nil {
		t.Errorf("by default %d rows, %d pending", len(page.Deliveries), page.Pending)
	}
	if page, _ := d.query(`{"endpoint":"endpoint_2"}`); page.Pending != 0 {
		t.Errorf("endpoint_2 has %d pending", page.Pending)
	}
	// What the dispatcher knows by itself survives a restart.
	before := d.all(`"status":"pending",`, 500)
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	d = r.start(r.onClock(0, time.Second, time.Hour))
	if after := d.all(`"status":"pending",`, 500); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("pending before and after a restart:\n%v\n%v", before, after)
	}
}

func TestDeliveryRows(t *testing.T) {
	r, d := scene(t)
	owed := r.owed("endpoint_1")
	rows := map[string]map[string]any{}
	var order []string
	for _, row := range d.all(`"endpoint":"endpoint_1",`, 500) {
		n := row["sequence"].(string)
		if row["event"] != owed[number(t, n)-1] || row["type"] != "dev.keyledger.credit.debited.v1" || len(row) != 13 {
			t.Errorf("row %v", row)
		}
		rows[n], order = row, append(order, n)
	}
	if newest := order[:60]; !slices.IsSortedFunc(newest, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("pending ones are listed as %v", newest)
	}
	for n, want := range map[int][]any{
		1:  {"delivered", 2.0, false, true, 200.0, nil}, // the second try
		11: {"dead", 3.0, false, true, 500.0, nil},
		16: {"delivered", 1.0, false, true, 200.0, nil},
		36: {"pending", 1.0, false, false, 500.0, nil}, // waits
		45: {"pending", 1.0, false, false, 503.0, nil}, // made the rest wait
		46: {"pending", 0.0, true, true, nil, nil},     // never tried
	} {
		row := rows[numberText(uint64(n))]
		got := []any{row["status"], row["attempts"], row["last_attempt_at"] == nil, row["next_attempt_at"] == nil, row["status_code"], row["error"]}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("number %d: %v, want %v", n, got, want)
		}
	}
}

func number(t *testing.T, sequence string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(sequence, "%020d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDeliveryListRefusals(t *testing.T) {
	_, d := scene(t)
	page, _ := d.query(`{"status":"pending","limit":1}`)
	pendingCursor := *page.NextCursor
	page, _ = d.query(`{"status":"delivered","limit":1}`)
	settledCursor := *page.NextCursor
	for body, want := range map[string]events.Code{
		`{"endpoint":"endpoint_9"}`: events.NotFound,
		`{"status":"failed"}`:       events.InvalidArgument,
		`{"limit":0}`:               events.InvalidArgument,
		`{"limit":501}`:             events.InvalidArgument,
		`{"limit":"10"}`:            events.InvalidArgument,
		`{"account":"other"}`:       events.InvalidArgument,
		`{"cursor":"?"}`:            events.InvalidArgument,
		`{"cursor":"cDA"}`:          events.InvalidArgument,
		`{"cursor":"YTAx"}`:         events.InvalidArgument,
		`{"status":"delivered","cursor":"` + pendingCursor + `"}`: events.InvalidArgument,
		`{"status":"pending","cursor":"` + settledCursor + `"}`:   events.InvalidArgument,
		`[]`: events.InvalidArgument,
	} {
		if _, refused := d.query(body); refused == nil || refused.Code != want {
			t.Errorf("%s: %v, want %s", body, refused, want)
		}
	}
	ask := d.Queries()["delivery.list"]
	if _, _, refused := ask(t.Context(), "nobody", nil); refused == nil || refused.Code != events.NotFound {
		t.Errorf("unknown account: %v", refused)
	}
	result, _, refused := ask(t.Context(), "empty", nil)
	if refused != nil {
		t.Fatal(refused)
	}
	if data, err := events.Encode(result); err != nil || string(data) != `{"deliveries":[],"pending":0,"next_cursor":null}` {
		t.Errorf("account without endpoints: %s, %v", data, err)
	}
}

// Before the log was read, nobody can say what is pending.
func TestDeliveryListBeforeTheLogIsRead(t *testing.T) {
	d := New(Config{Known: func(string) (events.Position, *events.Error) { return events.Position{}, nil }})
	if _, _, refused := d.Queries()["delivery.list"](t.Context(), "acme", nil); refused == nil || refused.Code != events.Unavailable {
		t.Errorf("answered %v", refused)
	}
}

// A delivery that a crash made pending again is listed as that, once; so is one that
// was recorded twice.
func TestDeliveryListAfterACrash(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	e := r.add("endpoint_1", to)
	d := r.start(r.onClock())
	r.commit(debits(30)...)
	d.idle()
	r.stored(d)
	d.crash()
	r.commit(about(e, events.Paused))
	d = r.start(r.onClock())
	for members, want := range map[string]int{"": 30, `"status":"pending",`: 30, `"status":"delivered",`: 0} {
		if rows := d.all(members, 7); len(rows) != want {
			t.Errorf("%q: %d rows, want %d", members, len(rows), want)
		}
	}
	r.commit(about(e, events.Active))
	d.idle()
	r.await(store.StreamAttempts, 60)
	for members, want := range map[string]int{"": 30, `"status":"pending",`: 0, `"status":"delivered",`: 30} {
		for _, limit := range []int{1, 7, 30} {
			if rows := d.all(members, limit); len(rows) != want {
				t.Errorf("%q, limit %d: %d rows, want %d", members, limit, len(rows), want)
			}
		}
	}
}
