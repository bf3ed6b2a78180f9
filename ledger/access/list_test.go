package access

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// scene is a log of 5 minutes: in each, 40 keys of acme are refused once and every second
// is allowed for nothing twice; 7 keys of beta are refused; there are unknown secrets. The
// first three minutes are stored.
func scene(t *testing.T) (*rig, *Log) {
	r := newRig(t)
	l := r.open()
	for minute := range events.Time(5) {
		at := noon + minute*minuteMS
		for key := range 40 {
			l.Observe(refused("acme", key, at+10))
			free := refused("acme", key, at+20_000)
			free.Code = events.OK
			if key%2 == 0 {
				l.Observe(free)
				l.Observe(free)
			}
		}
		for key := range 7 {
			l.Observe(refused("beta", 1000+key, at))
		}
		l.Observe(&Request{Code: events.KeyNotFound, Time: at})
	}
	r.at(noon + 4*minuteMS)
	l.cells.finish(noon + 3*minuteMS)
	for len(l.cells.next(1)) > 0 && l.cells.next(1)[0].Minute < noon+3*minuteMS {
		if !l.send(t.Context(), l.cells.next(1)) {
			t.Fatal("not stored")
		}
	}
	return r, l
}

// Pages of every size give each record once, newest first, whatever is stored between
// two of them.
func TestListGivesEachRecordOnce(t *testing.T) {
	for _, limit := range []int{3, 40, listMax} {
		for _, storing := range []bool{false, true} {
			r, l := scene(t)
			rows := r.all(l, "acme", "", limit, func() {
				if batch := l.cells.next(11); storing && len(batch) > 0 {
					l.send(t.Context(), batch)
				}
				l.Observe(refused("acme", 1, noon+4*minuteMS)) // an old cell
			})
			if len(rows) != 5*60 {
				t.Errorf("limit %d, storing %v: %d rows, want %d", limit, storing, len(rows), 5*60)
			}
			seen := map[ulid.ULID]bool{}
			for i, row := range rows {
				if seen[row.ID] || row.Account != "acme" {
					t.Fatalf("limit %d: row %d is %+v", limit, i, row)
				}
				seen[row.ID] = true
				if i > 0 && row.ID.Compare(rows[i-1].ID) >= 0 {
					t.Fatalf("limit %d: row %d is newer than the one before", limit, i)
				}
			}
		}
	}
}

func TestListFilters(t *testing.T) {
	r, l := scene(t)
	third := noon + 2*minuteMS
	for members, want := range map[string]int{
		``:             300,
		`"code":"ok",`: 100,
		`"code":"ok","key":` + fmt.Sprintf("%q,", keyID(4)):                5,
		`"key":` + fmt.Sprintf("%q,", keyID(3)):                            5,
		`"key":` + fmt.Sprintf("%q,", keyID(1000)):                         0,
		`"code":"rate_limited",`:                                           0,
		fmt.Sprintf(`"from_time":%q,`, third):                              180,
		fmt.Sprintf(`"from_time":%q,`, third+10):                           180,
		fmt.Sprintf(`"from_time":%q,`, third+11):                           20 + 120, // after the refusals
		fmt.Sprintf(`"to_time":%q,`, third):                                120,
		fmt.Sprintf(`"to_time":%q,`, third+1):                              180,
		fmt.Sprintf(`"from_time":%q,"to_time":%q,`, third, third+minuteMS): 60,
	} {
		if rows := r.all(l, "acme", members, 50, func() {}); len(rows) != want {
			t.Errorf("{%s}: %d rows, want %d", members, len(rows), want)
		}
	}
	rows := r.all(l, nobody, "", 50, func() {})
	if len(rows) != 5 || total(rows) != 5 || rows[0].Code != events.KeyNotFound || rows[0].Minute != noon+4*minuteMS {
		t.Errorf("unknown secrets: %+v", rows)
	}
	page, _ := r.list(l, "acme", "")
	if len(page.Records) != listDefault || page.NextCursor == nil {
		t.Errorf("without a body: %d rows", len(page.Records))
	}
	if rows := r.all(l, "acme", fmt.Sprintf(`"key":%q,"code":"ok",`, keyID(4)), 50, func() {}); total(rows) != 10 {
		t.Errorf("free requests %+v", rows)
	}
}

func TestListRefuses(t *testing.T) {
	r, l := scene(t)
	page, _ := r.list(l, "acme", `{"limit":500}`)
	if page == nil || len(page.Records) != 300 {
		t.Errorf("limit 500: %+v", page)
	}
	for body, want := range map[string]string{
		`{"limit":0}`:                            "limit must be from 1 to 500",
		`{"limit":501}`:                          "limit must be from 1 to 500",
		`{"code":"teapot"}`:                      "code must be",
		`{"code":"ok.>"}`:                        "code must be",
		`{"key":"key_1"}`:                        "key must be",
		`{"key":"` + keyID(1)[4:] + `"}`:         "key must be",
		`{"cursor":"x"}`:                         "cursor must be",
		`{"cursor":"!"}`:                         "cursor must be",
		`{"cursor":"` + cursor{}.String() + `"}`: "cursor must be",
		`{"from_time":"2026-03-01T12:00:00Z","to_time":"2026-03-01T12:00:00Z"}`: "from_time must be before",
		`{"codes":["ok"]}`: "unknown field",
		`[]`:               "must be",
	} {
		_, refused := r.list(l, "acme", body)
		if refused == nil || refused.Code != events.InvalidArgument || !strings.Contains(refused.Message, want) {
			t.Errorf("%s: %v, want %q", body, refused, want)
		}
	}
	if _, refused := r.list(l, "nobody", "{}"); refused == nil || refused.Code != events.NotFound {
		t.Errorf("an account that is not there: %v", refused)
	}
	r.conn.Close()
	if _, refused := r.list(l, "acme", `{"limit":500}`); refused == nil || refused.Code != events.Unavailable {
		t.Errorf("without a connection: %v", refused)
	}
}

// A page looks at so many stored records and no more; where it ends early the next one
// goes on.
func TestListLooksAtSoManyRecords(t *testing.T) {
	r := newRig(t)
	l := r.open()
	if l.scan != listScan {
		t.Fatalf("it looks at %d", l.scan)
	}
	l.scan = 1000
	l.Observe(refused("acme", l.scan, noon)) // the oldest
	for key := range l.scan {
		l.Observe(refused("acme", key, noon))
	}
	l.stop()
	body := fmt.Sprintf(`{"key":%q`, keyID(l.scan))
	page, refused := r.list(l, "acme", body+"}")
	if refused != nil || len(page.Records) != 0 || page.NextCursor == nil {
		t.Fatalf("behind %d records: %+v, %v", l.scan, page, refused)
	}
	page, refused = r.list(l, "acme", fmt.Sprintf(`%s,"cursor":%q}`, body, *page.NextCursor))
	if refused != nil || len(page.Records) != 1 || page.NextCursor != nil {
		t.Errorf("the next page: %+v, %v", page, refused)
	}
	page, refused = r.list(l, "acme", fmt.Sprintf(`{"key":%q}`, keyID(0)))
	if refused != nil || len(page.Records) != 1 {
		t.Errorf("the last record that is looked at: %+v, %v", page, refused)
	}
}
