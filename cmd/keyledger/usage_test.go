package main

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/keyledger/keyledger/events"
)

// threeDays is an answer of usage.get with a day without use.
const threeDays = `{"usage":[
 {"start":"2026-03-01T00:00:00Z","requests":1203,"allowed":1172,"refused":31,"refusals":{"rate_limited":30,"key_disabled":1},"spent":{"credits":117200,"usd":3},"refunded":{"credits":100}},
 {"start":"2026-03-03T00:00:00Z","requests":1,"allowed":1,"refused":0,"refusals":{},"spent":{"credits":100},"refunded":{}}],
 "from":"2026-03-01T00:00:00Z","to":"2026-03-04T00:00:00Z","by":"day",
 "totals":{"requests":1204,"allowed":1173,"refused":31,"refusals":{"rate_limited":30,"key_disabled":1},"spent":{"credits":117300,"usd":3},"refunded":{"credits":100}},
 "refusals_since":"2026-03-02T00:00:00Z"}`

func usageOf(t *testing.T, text string) *usage {
	t.Helper()
	u := new(usage)
	if err := json.Unmarshal([]byte(text), u); err != nil {
		t.Fatal(err)
	}
	return u
}

// drawn is a plot as text.
func drawn(u *usage, f *usageFlags, p plot) string {
	var out bytes.Buffer
	p.w = bufio.NewWriter(&out)
	u.plot(&p, f)
	p.flush()
	return out.String()
}

func TestUsagePlot(t *testing.T) {
	f := &usageFlags{account: "acme", environment: "live"}
	want := `acme, live: requests a day   █ allowed 1,173   ▒ refused 31
2026-03-01  ███████████████████▒  1,203
2026-03-02                            0
2026-03-03  ▏                         1

spent a day   █ credits 117,300
2026-03-01  ██████████████████  117,200
2026-03-02                            0
2026-03-03  ▏                       100

spent a day   █ usd 3
2026-03-01  ████████████████████████  3
2026-03-02                            0
2026-03-03                            0
`
	if diff := cmp.Diff(want, drawn(usageOf(t, threeDays), f, plot{width: 39, blocks: true})); diff != "" {
		t.Error(diff)
	}
	want = `acme, live: requests a day   # allowed 1,173   x refused 31
2026-03-01  ###################x  1,203
2026-03-02                            0
2026-03-03  #                         1
`
	if got := drawn(usageOf(t, threeDays), f, plot{width: 39}); !strings.HasPrefix(got, want) {
		t.Errorf("in ASCII:\n%s", got)
	}
	coloured := drawn(usageOf(t, threeDays), f, plot{width: 39, blocks: true, colour: true})
	for _, want := range []string{"\x1b[36m███████████████████\x1b[0m\x1b[31m▒\x1b[0m  1,203", "\x1b[33m▏\x1b[0m"} {
		if !strings.Contains(coloured, want) {
			t.Errorf("no %q in %q", want, coloured)
		}
	}
}

// TestUsagePlotBegins with the first use, where nobody said when to begin.
func TestUsagePlotBegins(t *testing.T) {
	u := usageOf(t, `{"usage":[{"start":"2026-03-03T00:00:00Z","requests":4,"allowed":4}],
 "from":"2026-03-01T00:00:00Z","to":"2026-03-05T00:00:00Z","by":"day","totals":{"requests":4,"allowed":4}}`)
	want := "2026-03-03  ###########################  4\n2026-03-04                               0\n"
	for from, lines := range map[string]int{"": 2, "2026-03-01": 4} {
		got := drawn(u, &usageFlags{account: "acme", environment: "live", from: from}, plot{width: 42})
		if !strings.HasSuffix(got, want) || strings.Count(got, "2026-03-0") != lines {
			t.Errorf("from %q:\n%s", from, got)
		}
	}
}

func TestUsagePlotOfGroups(t *testing.T) {
	u := usageOf(t, `{"usage":[
 {"start":"2026-03-01T00:00:00Z","key":"key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB","product":"search","requests":4,"allowed":2,"refused":2},
 {"start":"2026-03-01T00:00:00Z","product":"\u001b[2J","requests":2,"allowed":0,"refused":2},
 {"start":"2026-03-02T00:00:00Z","product":"search","requests":1,"allowed":1,"refused":0,"spent":{"credits":100}}],
 "from":"2026-03-01T00:00:00Z","to":"2026-03-04T00:00:00Z","by":"day","totals":{"requests":7,"allowed":3,"refused":4,"spent":{"credits":100}}}`)
	f := &usageFlags{account: ledgerItself, environment: "test", group: []string{"key", "product"}}
	want := `the whole ledger, test: requests a day   █ allowed 3   ▒ refused 4
2026-03-01 …4R7N2M3V6W9Y1AB search  █████▒▒▒▒▒  4
2026-03-01 - ?[2J                   ▒▒▒▒▒       2
2026-03-02 - search                 ██▌         1

spent a day   █ credits 100
2026-03-02 - search  ██████████████  100
`
	if diff := cmp.Diff(want, drawn(u, f, plot{width: 40, blocks: true})); diff != "" {
		t.Error(diff)
	}
	u.By = "total"
	if got := drawn(u, f, plot{width: 60}); !strings.Contains(got, "requests   # allowed") || strings.Contains(got, "2026") {
		t.Errorf("of the whole time:\n%s", got)
	}
	u = usageOf(t, `{"usage":[],"from":"2026-03-01T00:00:00Z","to":"2026-03-04T00:00:00Z","by":"day","totals":{}}`)
	if got := drawn(u, f, plot{width: 60}); got != "no requests of the whole ledger in test from 2026-03-01T00:00:00Z to 2026-03-04T00:00:00Z\n" {
		t.Errorf("of nothing: %q", got)
	}
}

// TestColumns: a bar is never wider than there is room for, and what is not zero is seen.
func TestColumns(t *testing.T) {
	for width := 10; width <= 40; width++ {
		for _, most := range []int64{1, 2, 7, 1000, 1<<53 - 1} {
			for _, first := range []int64{0, 1, most / 3, most - 1, most} {
				for _, second := range []int64{0, 1, most - first} {
					if first < 0 || second < 0 || first+second > most {
						continue
					}
					one, rest, two := columns(bar{first: first, second: second}, most, width)
					if one < 0 || two < 0 || one+two+min(rest, 1) > width || first+second == most && one+two != width {
						t.Errorf("%d and %d of %d in %d columns: %d, %d, %d", first, second, most, width, one, rest, two)
					}
					if (first > 0) != (one+rest > 0) || (second > 0) != (two > 0) {
						t.Errorf("%d and %d of %d cannot be seen: %d, %d, %d", first, second, most, one, rest, two)
					}
				}
			}
		}
	}
}

func TestUsageFilled(t *testing.T) {
	for name, c := range map[string]struct {
		by, from, to, row string
		want              int
	}{
		"hours":                  {"hour", "2026-03-01T00:30:00Z", "2026-03-01T04:00:00Z", "2026-03-01T02:00:00Z", 4},
		"hours, one more begun":  {"hour", "2026-03-01T00:30:00Z", "2026-03-01T04:00:00.001Z", "2026-03-01T02:00:00Z", 5},
		"months":                 {"month", "2025-12-31T00:00:00Z", "2026-03-01T00:00:00Z", "2026-02-01T00:00:00Z", 3},
		"as many as are drawn":   {"hour", "2026-01-01T00:00:00Z", "2026-02-11T16:00:00Z", "2026-01-01T00:00:00Z", 1000},
		"more than can be drawn": {"hour", "2026-01-01T00:00:00Z", "2026-02-11T17:00:00Z", "2026-01-01T00:00:00Z", 1},
		"one row":                {"total", "2026-01-01T00:00:00Z", "2026-02-11T17:00:00Z", "2026-01-01T00:00:00Z", 1},
	} {
		moment := func(text string) events.Time {
			at, err := events.ParseTime(text)
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
		u := usage{From: moment(c.from), To: moment(c.to), By: c.by, Rows: []usageRow{{Start: moment(c.row), Requests: 7}}}
		rows := u.filled(nil)
		var found int
		for _, r := range rows {
			found += int(r.Requests)
		}
		if len(rows) != c.want || found != 7 {
			t.Errorf("%s: %d rows with %d requests, not %d with 7", name, len(rows), found, c.want)
		}
	}
}

func TestUsageTables(t *testing.T) {
	u := usageOf(t, threeDays)
	var out bytes.Buffer
	table := newTable(&out)
	u.rows(table, nil)
	table.w.Flush()
	want := `START       REQUESTS  ALLOWED  REFUSED  SPENT                   REFUNDED
2026-03-01  1,203     1,172    31       117,200 credits, 3 usd  100 credits
2026-03-03  1         1        0        100 credits             -
total       1,204     1,173    31       117,300 credits, 3 usd  100 credits
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	if len(table.notes) != 1 || !strings.Contains(table.notes[0], "since 2026-03-02T00:00:00Z") {
		t.Errorf("notes: %q", table.notes)
	}
	out.Reset()
	if err := u.writeCSV(&out, []string{"product"}); err != nil {
		t.Fatal(err)
	}
	want = `start,product,requests,allowed,refused,refused_key_disabled,refused_rate_limited,spent_credits,spent_usd,refunded_credits
2026-03-01T00:00:00Z,,1203,1172,31,1,30,117200,3,100
2026-03-03T00:00:00Z,,1,1,0,0,0,100,0,0
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestUsageBody(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	f := usageFlags{account: "acme", environment: "live", by: "hour", from: "2026-03-01", to: "-1h", group: []string{"key"}, product: "search"}
	body, err := f.body(now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := events.Encode(body)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"by":"hour","environment":"live","from":"2026-03-01T00:00:00Z","group":["key"],"product":"search","to":"2026-03-04T11:00:00Z"}`
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !cmp.Equal(a, b) {
		t.Errorf("got %s", got)
	}
}

func TestUsageSpan(t *testing.T) {
	now := time.Date(2026, 3, 31, 12, 30, 0, 0, time.UTC)
	for _, c := range []struct{ by, from, to, wantFrom, wantTo string }{
		{"hour", "", "", "2026-03-30T13:00:00Z", ""},
		{"day", "", "", "2026-03-02T00:00:00Z", ""},
		{"month", "", "", "2025-04-01T00:00:00Z", ""},
		{"total", "", "", "", ""},
		{"day", "", "2026-03-01", "2026-01-30T00:00:00Z", "2026-03-01T00:00:00Z"},
		{"day", "-1h", "", "2026-03-31T11:30:00Z", ""},
	} {
		f := usageFlags{by: c.by, from: c.from, to: c.to}
		if from, to, err := f.span(now); err != nil || from.String() != c.wantFrom || to.String() != c.wantTo {
			t.Errorf("%+v: from %s to %s, %v", c, from, to, err)
		}
	}
}

func TestPlotOf(t *testing.T) {
	for _, c := range []struct {
		all, kind, lang string
		want            bool
	}{
		{"", "", "", false}, {"", "", "C.UTF-8", true}, {"", "de_DE.utf8", "C", true}, {"C", "en_US.UTF-8", "en_US.UTF-8", false},
	} {
		env := map[string]string{"LC_ALL": c.all, "LC_CTYPE": c.kind, "LANG": c.lang}
		if got := hasUnicode(func(name string) string { return env[name] }); got != c.want {
			t.Errorf("%v: %v", env, got)
		}
	}
	t.Setenv("LC_ALL", "C.UTF-8")
	for _, c := range []struct {
		columns, term string
		want          plot
	}{
		{"", "xterm", plot{width: plotWidth, blocks: true}},
		{"", "dumb", plot{width: plotWidth}},
		{"120", "xterm", plot{width: 120, blocks: true}},
		{"7", "xterm", plot{width: plotWidthMin, blocks: true}},
		{"5000", "xterm", plot{width: plotWidthMax, blocks: true}},
		{"many", "xterm", plot{width: plotWidth, blocks: true}},
	} {
		t.Setenv("COLUMNS", c.columns)
		t.Setenv("TERM", c.term)
		p := newPlot(new(bytes.Buffer))
		if p.width != c.want.width || p.blocks != c.want.blocks || p.colour {
			t.Errorf("COLUMNS=%s TERM=%s: %+v", c.columns, c.term, p)
		}
	}
}
