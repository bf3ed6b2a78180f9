package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		scale   int
		n, most int64
		amount  string
		short   string
	}{
		{0, 0, 10, "0", "0"},
		{0, 1234567, 1234567, "1,234,567", "1,234.567k"},
		{0, 2000, 4000, "2,000", "2,000"},
		{0, 5000, 10_000, "5,000", "5k"},
		{0, -1500, 6000, "−1,500", "−1.5k"},
		{0, 20_000_000, 25_000_000, "20,000,000", "20M"},
		{0, 1<<53 - 1, 1<<53 - 1, "9,007,199,254,740,991", "9,007.199254740992T"},
		{2, 12345, 20_000, "123.45", "123.45"},
		{2, 5, 5, "0.05", "0.05"},
		{2, -100, 100, "−1.00", "−1"},
		{6, 20_000_000_000, 50_000_000_000, "20,000.000000", "20k"},
		{18, 1, 1, "0.000000000000000001", "0.000000000000000001"},
		{0, math.MinInt64, 1, "−9,223,372,036,854,775,808", "−9,223,372,036,854,776,000"},
	} {
		u := unit{Name: "x", Scale: c.scale}
		if got := u.amount(c.n); got != c.amount {
			t.Errorf("%d of scale %d: %s, not %s", c.n, c.scale, got, c.amount)
		}
		if got := u.short(c.n, c.most); got != c.short {
			t.Errorf("%d of scale %d on an axis: %s, not %s", c.n, c.scale, got, c.short)
		}
	}
}

// TestScale: an axis holds all amounts and zero, and has some round labels and not many.
func TestScale(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Int64Range(-(1<<53-1), 1<<53-1).Draw(t, "low")
		high := rapid.Int64Range(low, 1<<62-1).Draw(t, "high")
		if rapid.Bool().Draw(t, "small") {
			low, high = low%100, low%100+(high-low)%100
		}
		s := newScale(low, high)
		zero := false
		for i, at := range s.ticks {
			zero = zero || at == 0
			if i > 0 && at <= s.ticks[i-1] {
				t.Fatalf("labels do not rise: %v", s.ticks)
			}
		}
		if n := len(s.ticks); !zero || s.low > low || s.high < high || s.ticks[0] != s.low || s.ticks[n-1] != s.high || n < 2 || n > 9 {
			t.Fatalf("%d to %d: %+v", low, high, s)
		}
		for _, n := range []int64{low, high, 0} {
			if y := s.y(n); y < chartTop-0.01 || y > chartHeight-chartFoot+0.01 {
				t.Fatalf("%d stands at %v", n, y)
			}
		}
	})
}

func TestSampleTimes(t *testing.T) {
	from := events.Time(1_793_491_200_000)
	for _, length := range []events.Time{1, 90_000, milliHour, 50 * milliHour, 30 * milliDay, 365 * milliDay, 20 * 365 * milliDay} {
		points, every := sampleTimes(from+5, from+5+length)
		if n := len(points); points[0].At != from+5 || points[n-1].At != from+5+length || n > balanceSamples+2 {
			t.Errorf("%d: %d moments from %d to %d", length, n, points[0].At, points[n-1].At)
		}
		for i := 1; i < len(points); i++ {
			if points[i].At <= points[i-1].At {
				t.Errorf("%d: moment %d is not later than the one before", length, i)
			}
			if i >= 2 && i+1 < len(points) && points[i].At-points[i-1].At != every {
				t.Errorf("%d: moment %d is not %d behind the one before", length, i, every)
			}
		}
		// Also where no whole minute is between the two ends.
		c := balanceLine("b", "a balance", &balanceData{Points: points, Every: every}, unit{Name: "credits"})
		if want := "Looked at every " + days(every) + "; straight between."; c.Note != want || every <= 0 {
			t.Errorf("%d: %q and not %q", length, c.Note, want)
		}
	}
}

// TestTimeTicks: labels of time stand within the picture, and not on each other.
func TestTimeTicks(t *testing.T) {
	const room = 70 // what the longest label needs
	from := events.Time(1_793_491_200_000)
	for length := events.Time(60_000); length < 5000*milliDay; length += length/7 + 1 {
		ticks := timeTicks(timeAxis{from + 12_345, from + 12_345 + length})
		for i := range ticks {
			if ticks[i].At < chartLeft || ticks[i].At+coordinate(3*len(ticks[i].Label)) > chartWidth || i > 0 && ticks[i].At-ticks[i-1].At < room {
				t.Errorf("%s: %v", time.Duration(length)*time.Millisecond, ticks)
				break
			}
		}
		if length > 300_000 && len(ticks) == 0 {
			t.Errorf("%s: no labels", time.Duration(length)*time.Millisecond)
		}
	}
}

// TestReportPage: what is on the page is what was gathered.
func TestReportPage(t *testing.T) {
	d := exampleReport()
	p := newPage(d)
	if len(p.Environments) != 1 || p.Empty || len(p.Notes) != 1 || p.Notes[0] != "Nothing happened in test." {
		t.Fatalf("environments %d, notes %q", len(p.Environments), p.Notes)
	}
	e := p.Environments[0]
	var sum int64
	for i := range d.Environments[0].Spans.Rows {
		sum += d.Environments[0].Spans.Rows[i].Requests
	}
	foot := e.Requests.Table.Foot
	if foot[len(foot)-1] != grouped(sum) || e.Tiles[0].Value != grouped(sum) {
		t.Errorf("requests: %q and %+v, not %d", foot, e.Tiles[0], sum)
	}
	if got := e.Requests.Table.Head; len(got) != 9 || got[7] != "others" || got[8] != "All" || len(e.Requests.Table.Rows) != 29 {
		t.Errorf("the table has %q and %d rows", got, len(e.Requests.Table.Rows))
	}
	if e.Spent[1].Legend[0] != (legend{"s1", "payments", e.Tiles[3].Value}) {
		t.Errorf("usd: %+v beside %+v", e.Spent[1].Legend, e.Tiles[3])
	}
	for _, chart := range e.Spent {
		for i, l := range chart.Legend {
			if l.Label != e.Requests.Legend[i].Label || l.Class != e.Requests.Legend[i].Class {
				t.Errorf("%s has another colour in %s", l.Label, chart.Title)
			}
		}
	}
	if got := e.Balances[1].Amounts; got[0].Label != "−5k" || !strings.Contains(e.Balances[1].Desc, "usd at the beginning") {
		t.Errorf("the axis of usd begins with %v; %s", got[0], e.Balances[1].Desc)
	}
	want := map[string]string{"active": "6", "created": "3", "rotated": "1", "expire soon": "1", "expired": "1", "disabled": "1", "revoked": "1"}
	for _, tile := range p.Keys.Tiles {
		if tile.Value != want[tile.Label] {
			t.Errorf("keys %s: %s, not %s", tile.Label, tile.Value, want[tile.Label])
		}
	}
	if p.Keys.Rows[len(p.Keys.Rows)-1].Remark != "" || p.Keys.Rows[0].Remark == "" {
		t.Error("keys with a remark do not come first")
	}
	if got := p.Webhooks.Tiles[1].Value; got != "212" || len(p.Webhooks.Settled.Rects) == 0 {
		t.Errorf("pending: %s", got)
	}
}

// TestReportEscapes: a name is text, wherever it stands.
func TestReportEscapes(t *testing.T) {
	d := exampleReport()
	d.Notes, d.True, d.Status = []string{hostile}, hostile, ledgerStatus{Version: hostile, Position: hostile, HeadHash: hostile}
	d.Keys[0].Environment, d.Keys[0].Status, d.Keys[0].Reason = hostile, hostile, hostile
	d.Endpoints[0].Status, d.Environments[0].Balances[0].Asset = hostile, hostile
	d.Environments[0].Spans.Totals.Refusals[hostile], d.Environments[0].Spans.Totals.Spent[hostile] = 1, 1
	d.Environments[0].Spans.Rows[0].Spent[hostile] = 1
	var out bytes.Buffer
	if err := newPage(d).render(&out); err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{"<script", "<img", "onerror=alert(2)>"} {
		if strings.Contains(out.String(), never) {
			i := strings.Index(out.String(), never)
			t.Errorf("the page has %s: %s", never, out.String()[max(i-100, 0):i+60])
		}
	}
	if n := strings.Count(out.String(), "&lt;script&gt;"); n < 30 {
		t.Errorf("only %d of the names are there", n)
	}
	if n := strings.Count(out.String(), "ZgotmplZ"); n > 0 {
		t.Errorf("the template refused %d values", n)
	}
}

func TestReportOfTheLedger(t *testing.T) {
	d := exampleReport()
	d.Account = nil
	for i := range d.Environments[0].Top.Rows {
		r := &d.Environments[0].Top.Rows[i]
		r.Key, r.Account = "", fmt.Sprintf("customer-%d", i)
	}
	var out bytes.Buffer
	p := newPage(d)
	if err := p.render(&out); err != nil {
		t.Fatal(err)
	}
	if p.Environments[0].Top[0].Name != "customer-0" || p.Environments[0].Tiles[3].Value != grouped(d.Environments[0].Spans.Totals.Spent["usd"]) {
		t.Errorf("top %+v, spent %+v", p.Environments[0].Top[0], p.Environments[0].Tiles[3])
	}
	for _, want := range []string{"<h1>The whole ledger</h1>", "Top accounts", `<th scope="col">Account</th>`, "smallest unit"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestReportFlags(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		f    reportFlags
		by   string
		from string
		bad  string
	}{
		"as it is":       {reportFlags{account: "acme"}, "day", "2026-02-03T00:00:00Z", ""},
		"two days":       {reportFlags{account: "acme", from: "-48h"}, "hour", "2026-03-02T12:00:00Z", ""},
		"and more":       {reportFlags{all: true, from: "2026-03-01", to: "2026-03-03T00:00:00.001Z"}, "day", "2026-03-01T00:00:00Z", ""},
		"120 days":       {reportFlags{all: true, from: "2025-11-01", to: "2026-03-01"}, "day", "2025-11-01T00:00:00Z", ""},
		"a year":         {reportFlags{all: true, from: "2025-03-04"}, "month", "2025-03-04T00:00:00Z", ""},
		"neither":        {reportFlags{}, "", "", "either --account ACCOUNT or --all"},
		"both":           {reportFlags{account: "acme", all: true}, "", "", "either --account ACCOUNT or --all"},
		"no account":     {reportFlags{account: "_"}, "", "", "is no account id"},
		"backwards":      {reportFlags{all: true, from: "2026-03-04", to: "2026-03-04"}, "", "", "must be before"},
		"no time at all": {reportFlags{all: true, to: "soon"}, "", "", "must be a date"},
	} {
		d, err := c.f.data(now)
		var usage *usageError
		switch {
		case c.bad != "" && (!errors.As(err, &usage) || !strings.Contains(err.Error(), c.bad)):
			t.Errorf("%s: %v", name, err)
		case c.bad == "" && (err != nil || d.By != c.by || d.From.String() != c.from):
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}
