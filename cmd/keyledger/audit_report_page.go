package main

import (
	"cmp"
	"html/template"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/keyledger/keyledger/events"
)

// What a page has room for.
const (
	seriesMax  = 6  // products with a colour of their own; the others share one
	topMax     = 15 // keys, or accounts, in a table of the top ones
	keyRowsMax = 40 // keys in the table of keys
)

// reportPage is a report as the template reads it.
type reportPage struct {
	Style        template.CSS
	Policy       string
	Title, Whose string
	From, To     events.Time
	Made         events.Time
	By           string
	True, Newest string // positions
	HeadHash     string
	Events       string
	Version      string

	Notes        []string
	Empty        bool
	Environments []*pageEnvironment
	Keys         *keySummary
	Webhooks     *webhookSummary
}

// pageEnvironment is what was used in one environment.
type pageEnvironment struct {
	Name     string
	Tiles    []tile
	Requests *chart
	Spent    []*chart // one an asset
	Balances []*chart // one an asset
	Refusals []portion
	Top      []topRow
	TopOf    string // Key or Account
	TopMore  int    // that are not shown
	SpentIn  []unit
}

// tile is one large number.
type tile struct{ Value, Label, More string }

// portion is a line of bars: a name, an amount, and its part of the largest.
type portion struct {
	Name, Count, Percent string
	Width                coordinate // of 100
}

// topRow is a key or an account.
type topRow struct {
	Name, ID                   string
	Requests, Allowed, Refused string
	Spent                      []string // by asset
	WidthAllowed, WidthRefused coordinate
}

// newPage makes a page of what was gathered.
func newPage(d *reportData) *reportPage {
	p := &reportPage{
		Title: "The whole ledger", From: d.From, To: d.To, Made: d.Made, By: d.By,
		True: d.True, Newest: d.Status.Position, HeadHash: d.Status.HeadHash, Events: grouped(int64(d.Status.Events)), Version: d.Status.Version,
		Notes: slices.Clone(d.Notes),
	}
	if d.Account == nil {
		p.Notes = append(p.Notes, "Amounts are in each asset's smallest unit.")
	} else {
		p.Title, p.Whose = cmp.Or(d.Account.Name, d.Account.ID), d.Account.ID
	}
	for i := range d.Environments {
		if e := &d.Environments[i]; e.used() {
			p.Environments = append(p.Environments, newPageEnvironment(d, e))
		} else {
			p.Notes = append(p.Notes, "Nothing happened in "+e.Name+".")
		}
	}
	if len(d.Keys) > 0 {
		p.Keys = newKeySummary(d)
	}
	if len(d.Endpoints) > 0 {
		p.Webhooks = newWebhookSummary(d)
	}
	p.Empty = len(p.Environments) == 0 && p.Keys == nil && p.Webhooks == nil
	return p
}

// used says whether there is anything to show of an environment.
func (e *environmentData) used() bool {
	moved := slices.ContainsFunc(e.Balances, func(b balanceData) bool { return b.moved() })
	return e.Spans.Totals.Requests > 0 || len(e.Spans.Totals.Spent) > 0 || moved
}

// moved says whether a balance was ever anything but zero.
func (b *balanceData) moved() bool {
	return slices.ContainsFunc(b.Points, func(p balancePoint) bool { return p.Posted != 0 || p.Held != 0 })
}

func newPageEnvironment(d *reportData, e *environmentData) *pageEnvironment {
	out := &pageEnvironment{Name: e.Name, TopOf: "Key"}
	if d.Account == nil {
		out.TopOf = "Account"
	}
	t := &e.Spans.Totals
	assets := slices.Sorted(maps.Keys(t.Spent))
	for _, asset := range assets {
		out.SpentIn = append(out.SpentIn, d.unit(asset))
	}
	out.tiles(t)
	products := e.products()
	if t.Requests > 0 {
		series, starts := productSeries(e.Spans.Rows, products, d, func(r *usageRow) int64 { return r.Requests })
		out.Requests = stacked(e.Name+"-requests", "Requests by product", d.By, starts, spanAfter(starts[len(starts)-1], d.By), series, requestUnit)
	}
	for _, asset := range assets {
		series, starts := productSeries(e.Spans.Rows, products, d, func(r *usageRow) int64 { return r.Spent[asset] })
		out.Spent = append(out.Spent, stacked(e.Name+"-spent-"+asset, "Spent by product: "+asset, d.By, starts, spanAfter(starts[len(starts)-1], d.By), series, d.unit(asset)))
	}
	for i := range e.Balances {
		if b := &e.Balances[i]; b.moved() {
			out.Balances = append(out.Balances, balanceLine(e.Name+"-balance-"+b.Asset, "Balance: "+b.Asset, b, d.unit(b.Asset)))
		}
	}
	out.Refusals = refusalShares(t.Refusals)
	out.top(d, e)
	return out
}

// unit is how an asset is counted, as far as the account's plan says.
func (d *reportData) unit(asset string) unit {
	u := unit{Name: asset}
	if d.Account != nil && d.Account.Plan != nil {
		u.Scale = int(d.Account.Plan.Assets[asset].Scale)
	}
	return u
}

func (out *pageEnvironment) tiles(t *usageRow) {
	out.Tiles = []tile{
		{grouped(t.Requests), "requests", grouped(t.Allowed) + " allowed"},
		{grouped(t.Refused), "refused", percent(t.Refused, t.Requests) + " of all requests"},
	}
	for _, u := range out.SpentIn {
		more := "nothing refunded"
		if n := t.Refunded[u.Name]; n > 0 {
			more = u.amount(n) + " refunded"
		}
		out.Tiles = append(out.Tiles, tile{u.amount(t.Spent[u.Name]), u.Name + " spent", more})
	}
}

// percent writes a part of a whole: 12.3 %.
func percent(part, whole int64) string {
	switch {
	case part == 0 || whole == 0:
		return "0 %"
	case part == whole:
		return "100 %"
	}
	n := 100 * float64(part) / float64(whole)
	// What is not all and not nothing is not written so.
	return strconv.FormatFloat(min(max(n, 0.1), 99.9), 'f', 1, 64) + " %"
}

// products ranks the products of an environment: those with most requests come first and
// have a colour each, the same in all its pictures; the others share one.
func (e *environmentData) products() []string {
	requests := map[string]int64{}
	for i := range e.Spans.Rows {
		requests[e.Spans.Rows[i].Product] += e.Spans.Rows[i].Requests
	}
	return slices.SortedFunc(maps.Keys(requests), func(a, b string) int {
		return cmp.Or(cmp.Compare(requests[b], requests[a]), cmp.Compare(a, b))
	})
}

// productSeries sums a value by product and span, in the order of products; one that has
// nothing of it is left out. Spans without use are among the starts.
func productSeries(rows []usageRow, products []string, d *reportData, value func(*usageRow) int64) ([]barSeries, []events.Time) {
	starts, at := d.spans()
	all := make([]barSeries, min(len(products), seriesMax+1))
	place := map[string]int{}
	for i, name := range products {
		place[name] = min(i, seriesMax)
		if i <= seriesMax {
			all[i] = barSeries{"s" + strconv.Itoa(i+1), productName(name), make([]int64, len(starts))}
		}
	}
	if len(all) > seriesMax {
		all[seriesMax].class, all[seriesMax].label = "s0", "others"
	}
	for i := range rows {
		all[place[rows[i].Product]].values[at(rows[i].Start)] += value(&rows[i])
	}
	return slices.DeleteFunc(all, func(s barSeries) bool {
		return !slices.ContainsFunc(s.values, func(n int64) bool { return n > 0 })
	}), starts
}

// productName is a product's name for people.
func productName(name string) string {
	switch name {
	case "":
		return "no product"
	case "*":
		return "several products" // which the access log did not tell apart
	}
	return name
}

// spans is the beginnings of all spans of the report, and the place of a time among them.
func (d *reportData) spans() (starts []events.Time, at func(events.Time) int) {
	for start := spanStart(d.From, d.By); len(starts) == 0 || start < d.To; start = spanAfter(start, d.By) {
		starts = append(starts, start)
	}
	return starts, func(t events.Time) int {
		i, found := slices.BinarySearch(starts, t)
		if !found {
			i--
		}
		return max(i, 0)
	}
}

func refusalShares(refusals map[string]int64) (list []portion) {
	codes := slices.SortedFunc(maps.Keys(refusals), func(a, b string) int {
		return cmp.Or(cmp.Compare(refusals[b], refusals[a]), cmp.Compare(a, b))
	})
	var total int64
	for _, n := range refusals {
		total += n
	}
	for _, code := range codes {
		n := refusals[code]
		list = append(list, portion{code, grouped(n), percent(n, total), part(n, refusals[codes[0]])})
	}
	return list
}

// part is how wide a bar is of 100, so that it can be seen.
func part(n, most int64) coordinate {
	if n == 0 || most == 0 {
		return 0
	}
	return coordinate(max(100*float64(n)/float64(most), 0.5))
}

// top lists the keys, or accounts, with the most requests.
func (out *pageEnvironment) top(d *reportData, e *environmentData) {
	rows := slices.Clone(e.Top.Rows)
	slices.SortFunc(rows, func(a, b usageRow) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Account, b.Account))
	})
	names := map[string]string{}
	for i := range d.Keys {
		names[d.Keys[i].ID] = d.Keys[i].Name
	}
	for i := range rows[:min(len(rows), topMax)] {
		r := &rows[i]
		row := topRow{
			Name: r.Account, Requests: grouped(r.Requests), Allowed: grouped(r.Allowed), Refused: grouped(r.Refused),
			WidthAllowed: part(r.Allowed, rows[0].Requests), WidthRefused: part(r.Refused, rows[0].Requests),
		}
		if d.Account != nil {
			row.Name, row.ID = cmp.Or(names[r.Key], "no key"), r.Key
		}
		row.WidthRefused = min(row.WidthRefused, 100-row.WidthAllowed)
		for _, u := range out.SpentIn {
			row.Spent = append(row.Spent, u.amount(r.Spent[u.Name]))
		}
		out.Top = append(out.Top, row)
	}
	out.TopMore = max(len(rows)-topMax, 0)
}

// day writes a time for people.
func day(t events.Time, none string) string {
	if t == 0 {
		return none
	}
	return t.Std().Format("2 Jan 2006")
}

// minute writes a time for people, exactly enough to find it elsewhere.
func minute(t events.Time) string { return t.Std().Format(minuteFormat) }

const minuteFormat = "2 Jan 2006, 15:04"

// expiresSoon is how near an expiry is that a report points out.
const expiresSoon = 30 * 24 * time.Hour
