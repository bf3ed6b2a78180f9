package main

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/keyledger/keyledger/events"
)

// keySummary is the life of keys.
type keySummary struct {
	Tiles []tile
	Rows  []keyRow
	More  int // that are not shown
	Whole bool
}

type keyRow struct {
	Name, ID, Account, Environment, Kind, Status string
	Created, LastUsed, Expires                   string
	Remark                                       string
}

// statusExpired is the status of a key whose time is over, in a report.
const statusExpired = "expired"

// newKeySummary counts keys as they stand at the end of the report's time.
func newKeySummary(d *reportData) *keySummary {
	out := &keySummary{Whole: d.Account == nil}
	count := map[string]int64{}
	within := func(t events.Time) bool { return t >= d.From && t < d.To }
	keys := slices.Clone(d.Keys)
	// Those that somebody should look at come first, then the newest.
	slices.SortStableFunc(keys, func(a, b events.Key) int {
		one, two := d.remark(&a), d.remark(&b)
		return cmp.Or(cmp.Compare(rank(one), rank(two)), cmp.Compare(b.CreatedAt, a.CreatedAt))
	})
	for i := range keys {
		k := &keys[i]
		status := d.keyStatus(k)
		count[status]++
		for name, ok := range map[string]bool{
			"created": within(k.CreatedAt), "rotated": within(k.RotatedAt),
			"soon":   status == events.Active && k.ExpiresAt != 0 && k.ExpiresAt < d.To+events.Time(expiresSoon.Milliseconds()),
			"unused": status == events.Active && k.LastUsedAt == 0,
		} {
			if ok {
				count[name]++
			}
		}
		if len(out.Rows) < keyRowsMax {
			out.Rows = append(out.Rows, keyRow{
				k.Name, k.ID, k.Account, k.Environment, k.Kind, status,
				day(k.CreatedAt, "–"), day(k.LastUsedAt, "never"), day(k.ExpiresAt, "never"), d.remark(k),
			})
		}
	}
	out.More = len(keys) - len(out.Rows)
	n := func(name string) string { return grouped(count[name]) }
	out.Tiles = []tile{
		{n(events.Active), "active", n("unused") + " of them never used"},
		{n("created"), "created", "in this time"},
		{n("rotated"), "rotated", "last in this time"},
		{n("soon"), "expire soon", "within 30 days"},
		{n(statusExpired), "expired", "by their own time"},
		{n(events.Disabled), "disabled", "may be enabled again"},
		{n(events.Revoked), "revoked", "for good"},
	}
	return out
}

// keyStatus is a key's status, its time taken into account.
func (d *reportData) keyStatus(k *events.Key) string {
	if k.Status != events.Revoked && k.ExpiresAt != 0 && k.ExpiresAt <= d.To {
		return statusExpired
	}
	return k.Status
}

// remark is what somebody should look at, "" for nothing.
func (d *reportData) remark(k *events.Key) string {
	if d.keyStatus(k) != events.Active {
		return k.Reason
	}
	switch {
	case k.ExpiresAt != 0 && k.ExpiresAt < d.To+events.Time(expiresSoon.Milliseconds()):
		return "expires in " + days(k.ExpiresAt-d.To)
	case k.OldSecretUntil > d.To:
		return "its old secret works for " + days(k.OldSecretUntil-d.To)
	case k.LastUsedAt == 0 && k.CreatedAt < d.From:
		return "never used"
	case k.LastUsedAt != 0 && k.LastUsedAt < d.From:
		return "not used in this time"
	}
	return ""
}

func rank(remark string) int {
	if remark == "" {
		return 1
	}
	return 0
}

// days writes a length of time for people.
func days(t events.Time) string {
	length := time.Duration(t) * time.Millisecond
	if n := int(length.Hours() / 24); n >= 2 {
		return strconv.Itoa(n) + " days"
	}
	if n := int(length.Hours()); n >= 2 {
		return strconv.Itoa(n) + " hours"
	}
	return strconv.Itoa(max(int(length.Minutes()), 1)) + " min"
}

// webhookSummary is how deliveries went.
type webhookSummary struct {
	Tiles    []tile
	Settled  *chart // nil where nothing was
	Rows     []endpointRow
	Whole    bool
	Shortage string // what is not counted, "" for nothing
}

type endpointRow struct {
	URL, ID, Account, Environment, Status, Reason string
	Delivered, Dead, Pending, Last, LastError     string
	WidthDelivered, WidthPending, WidthDead       coordinate
	WidthBoth                                     coordinate // of delivered and pending
}

// newWebhookSummary counts the deliveries of each endpoint.
func newWebhookSummary(d *reportData) *webhookSummary {
	out := &webhookSummary{Whole: d.Account == nil, Shortage: d.DeliveriesCut}
	var delivered, dead, pending int64
	var most int64
	for i := range d.Endpoints {
		e := &d.Endpoints[i]
		delivered, dead, pending = delivered+e.Delivered, dead+e.Dead, pending+e.Pending
		most = max(most, e.Delivered+e.Dead+e.Pending)
	}
	for i := range d.Endpoints {
		e := &d.Endpoints[i]
		out.Rows = append(out.Rows, endpointRow{
			URL: e.URL, ID: e.ID, Account: e.Account, Environment: e.Environment, Status: e.Status, Reason: e.Reason,
			Delivered: grouped(e.Delivered), Dead: grouped(e.Dead), Pending: grouped(e.Pending),
			Last: day(e.Last, "–"), LastError: e.LastError,
			WidthDelivered: part(e.Delivered, most), WidthPending: part(e.Pending, most), WidthDead: part(e.Dead, most),
			WidthBoth: part(e.Delivered, most) + part(e.Pending, most),
		})
	}
	settled := delivered + dead
	share := "none was settled"
	if settled > 0 {
		share = percent(delivered, settled) + " of the settled"
	}
	out.Tiles = []tile{
		{grouped(delivered), "delivered", share},
		{grouped(pending), "pending", "owed now"},
		{grouped(dead), "dead", "given up after the last try"},
	}
	if settled > 0 {
		starts, at := d.spans()
		series := []barSeries{{"good", "delivered", make([]int64, len(starts))}, {"bad", "dead", make([]int64, len(starts))}}
		for _, s := range d.Settled {
			which := 0
			if s.Dead {
				which = 1
			}
			series[which].values[at(s.At)]++
		}
		out.Settled = stacked("deliveries", "Deliveries settled", d.By, starts, spanAfter(starts[len(starts)-1], d.By), series, unit{Name: "deliveries"})
	}
	return out
}
