package main

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/keyledger/keyledger/events"
)

// Places in a chart, in units of its view box.
const (
	chartWidth  = 920
	chartHeight = 250
	chartLeft   = 54 // room for the labels of amounts
	chartRight  = 16
	chartTop    = 12
	chartFoot   = 26 // room for the labels of times
	barMax      = 36 // how wide a bar is at most
	barShare    = 0.72
	timeLabels  = 8 // at most
	amountTicks = 5 // steps between labels of amounts, about
)

// unit is what an amount is counted in: 10^Scale of the smallest unit are a whole one.
type unit struct {
	Name  string
	Scale int
}

// requests are counted in whole numbers.
var requestUnit = unit{Name: "requests"}

// amount writes an amount of the smallest unit in whole ones: 12345 as 123.45.
func (u unit) amount(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "−", digits[1:]
	}
	if u.Scale == 0 {
		return sign + groupedDigits(digits)
	}
	if missing := u.Scale + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	point := len(digits) - u.Scale
	return sign + groupedDigits(digits[:point]) + "." + digits[point:]
}

// with writes an amount and its unit.
func (u unit) with(n int64) string { return u.amount(n) + " " + u.Name }

// short writes an amount on an axis whose largest is most: all of one axis alike, 500k
// beside 1,500k.
func (u unit) short(n, most int64) string {
	whole := math.Pow10(u.Scale)
	value, suffix := float64(n)/whole, ""
	for _, s := range []struct {
		size float64
		name string
	}{{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}} {
		if float64(most)/whole >= 5*s.size {
			value, suffix = value/s.size, s.name
			break
		}
	}
	text := strconv.FormatFloat(math.Abs(value), 'f', -1, 64)
	if digits, rest, point := strings.Cut(text, "."); point {
		text = groupedDigits(digits) + "." + rest
	} else {
		text = groupedDigits(digits)
	}
	if n == 0 {
		return "0"
	}
	if value < 0 {
		text = "−" + text
	}
	return text + suffix
}

// coordinate is a number in a view box, to a tenth.
type coordinate float64

// String implements fmt.Stringer.
func (c coordinate) String() string {
	return strconv.FormatFloat(math.Round(float64(c)*10)/10, 'f', -1, 64)
}

// chart is a picture and the table with its numbers.
type chart struct {
	ID, Title, Desc string
	Width, Height   coordinate
	Left, Right     coordinate // of the area
	Foot            coordinate // where the labels of times stand
	Amounts, Times  []tick
	Rects           []rect
	Area            string      // path, "" for none
	Lines           []line      // paths
	Zero            coordinate  // where nothing is
	Legend          []legend    // what colours mean
	Note            string      // how the numbers came about, "" where that is plain
	Table           *chartTable // nil for none
}

// tick is a label on an axis.
type tick struct {
	At    coordinate
	Label string
}

// rect is a bar or a part of one. Title is what a pointer on it tells.
type rect struct {
	X, Y, W, H   coordinate
	Class, Title string
}

type line struct{ Path, Class string }

type legend struct{ Class, Label, Value string }

// chartTable is the numbers of a chart. Of what Head names the first column is a time or
// name, the others are amounts.
type chartTable struct {
	Head []string
	Rows [][]string
	Foot []string // nil for none
}

// Open says whether the table is short enough to stand open.
func (t *chartTable) Open() bool { return len(t.Rows) <= 8 }

// scale is where amounts from low to high stand.
type scale struct {
	low, high int64
	ticks     []int64
}

// scaleMax is how large an amount on an axis can be, so that what is rounded up is still a
// number; larger ones stand at the edge.
const scaleMax = math.MaxInt64 / 2

// newScale finds round ends and steps, zero among them.
func newScale(low, high int64) scale {
	low, high = max(min(low, 0), -scaleMax), min(max(high, 0), scaleMax)
	if low == 0 && high == 0 {
		high = 1
	}
	step := niceStep((float64(high) - float64(low)) / amountTicks)
	s := scale{low: floorTo(low, step), high: -floorTo(-high, step)}
	for at := s.low; at <= s.high; at += step {
		s.ticks = append(s.ticks, at)
	}
	return s
}

// niceStep is the least of 1, 2, 5, 10, 20 … that is not less than a step, which is at most
// a fifth of what int64 holds.
func niceStep(step float64) int64 {
	for power := int64(1); ; power *= 10 {
		for _, n := range []int64{1, 2, 5} {
			if float64(n*power) >= step {
				return n * power
			}
		}
	}
}

// floorTo is the greatest multiple of step that is not more than n.
func floorTo(n, step int64) int64 {
	rest := n % step
	if rest < 0 {
		rest += step
	}
	return n - rest
}

func (s scale) y(n int64) coordinate {
	const room = chartHeight - chartTop - chartFoot
	n = min(max(n, s.low), s.high)
	return coordinate(chartTop + room*(float64(s.high)-float64(n))/(float64(s.high)-float64(s.low)))
}

// span of time along a chart.
type timeAxis struct{ from, to events.Time }

func (x timeAxis) x(at events.Time) coordinate {
	const room = chartWidth - chartLeft - chartRight
	return coordinate(chartLeft + room*float64(at-x.from)/float64(max(x.to-x.from, 1)))
}

// newChart has axes and no content.
func newChart(id, title string, s scale, u unit) *chart {
	c := &chart{
		ID: id, Title: title, Width: chartWidth, Height: chartHeight,
		Left: chartLeft, Right: chartWidth - chartRight, Foot: chartHeight - 6, Zero: s.y(0),
	}
	for _, n := range s.ticks {
		c.Amounts = append(c.Amounts, tick{s.y(n), u.short(n, max(s.high, -s.low))})
	}
	return c
}

// timeFormat is how spans are labelled, and what stands in a table.
func timeFormat(by string) (label, full string) {
	switch by {
	case "hour":
		return "15:04", minuteFormat
	case "month":
		return "Jan 2006", "January 2006"
	}
	return "2 Jan", "Mon 2 Jan 2006"
}

// barSeries is the amounts of one colour, one a span.
type barSeries struct {
	class, label string
	values       []int64
}

// stacked draws bars over the spans that begin at starts; the last ends at end.
func stacked(id, title, by string, starts []events.Time, end events.Time, series []barSeries, u unit) *chart {
	sums := make([]int64, len(starts))
	var most, total int64
	for i := range starts {
		for _, s := range series {
			sums[i] += s.values[i]
		}
		most, total = max(most, sums[i]), total+sums[i]
	}
	sc, axis := newScale(0, most), timeAxis{starts[0], end}
	c := newChart(id, title, sc, u)
	label, full := timeFormat(by)
	every := (len(starts) + timeLabels - 1) / timeLabels
	for i, start := range starts {
		next := end
		if i+1 < len(starts) {
			next = starts[i+1]
		}
		left, right := axis.x(start), axis.x(next)
		width := min((right-left)*barShare, barMax)
		middle := (left + right) / 2
		if i%every == 0 {
			text := start.Std().Format(label)
			if by == "hour" && (i == 0 || starts[i-every].Std().Day() != start.Std().Day()) {
				text = start.Std().Format("2 Jan " + label)
			}
			c.Times = append(c.Times, timeTick(middle, text))
		}
		var below int64
		for _, s := range series {
			if n := s.values[i]; n > 0 {
				top := sc.y(below + n)
				c.Rects = append(c.Rects, rect{
					middle - width/2, top, width, sc.y(below) - top, s.class,
					start.Std().Format(full) + ", " + s.label + ": " + u.with(n),
				})
				below += n
			}
		}
	}
	for _, s := range series {
		var sum int64
		for _, n := range s.values {
			sum += n
		}
		c.Legend = append(c.Legend, legend{s.class, s.label, u.amount(sum)})
	}
	c.Table = stackedTable(by, starts, series, sums, u)
	c.Desc = barsInWords(by, starts, sums, total, u)
	return c
}

// barsInWords says what a chart of bars shows to those who cannot see it.
func barsInWords(by string, starts []events.Time, sums []int64, total int64, u unit) string {
	_, full := timeFormat(by)
	peak := 0
	for i, n := range sums {
		if n > sums[peak] {
			peak = i
		}
	}
	return u.with(total) + " in all; the most in one " + by + " were " + u.amount(sums[peak]) + ", on " + starts[peak].Std().Format(full) +
		". The table below has all numbers."
}

func stackedTable(by string, starts []events.Time, series []barSeries, sums []int64, u unit) *chartTable {
	_, full := timeFormat(by)
	t := &chartTable{Head: []string{strings.ToUpper(by[:1]) + by[1:]}, Foot: []string{"Total"}}
	var total int64
	for _, s := range series {
		var sum int64
		for _, n := range s.values {
			sum += n
		}
		total += sum
		t.Head, t.Foot = append(t.Head, s.label), append(t.Foot, u.amount(sum))
	}
	all := len(series) > 1
	if all {
		t.Head, t.Foot = append(t.Head, "All"), append(t.Foot, u.amount(total))
	}
	for i, start := range starts {
		if sums[i] == 0 {
			continue
		}
		row := []string{start.Std().Format(full)}
		for _, s := range series {
			row = append(row, u.amount(s.values[i]))
		}
		if all {
			row = append(row, u.amount(sums[i]))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// balancePoint is what a balance was from a moment on.
type balancePoint struct {
	At events.Time
	balanceParts
}

// balanceLine draws a balance over time: what is posted as an area, and what is available
// of it as a line where holds make the two differ.
func balanceLine(id, title string, b *balanceData, u unit) *chart {
	first, last := b.Points[0], b.Points[len(b.Points)-1]
	low, high := first.Posted, first.Posted
	held := false
	for _, p := range b.Points {
		low, high = min(low, p.Posted, p.Available), max(high, p.Posted, p.Available)
		held = held || p.Held != 0
	}
	sc, axis := newScale(low, high), timeAxis{first.At, last.At}
	c := newChart(id, title, sc, u)
	posted := b.path(axis, sc, func(p balancePoint) int64 { return p.Posted })
	c.Area = posted + "V" + c.Zero.String() + "H" + axis.x(first.At).String() + "Z"
	c.Lines = []line{{posted, "l1"}}
	if held {
		c.Lines = append(c.Lines, line{b.path(axis, sc, func(p balancePoint) int64 { return p.Available }), "l2"})
		c.Legend = []legend{{"s1", "posted", u.with(last.Posted)}, {"s2", "available", u.with(last.Available)}}
	}
	c.Times = timeTicks(axis)
	if b.Every > 0 {
		c.Note = "Looked at every " + days(b.Every) + "; straight between."
	}
	c.Desc = u.with(first.Posted) + " at the beginning, " + u.with(last.Posted) + " at the end, " + u.with(last.Available) +
		" of it available; between " + u.amount(low) + " and " + u.amount(high) + ". The table below has the numbers."
	c.Table = b.table(u)
	return c
}

// path draws a value: straight between samples, in steps where every movement is known.
func (b *balanceData) path(x timeAxis, y scale, value func(balancePoint) int64) string {
	var text strings.Builder
	for i, p := range b.Points {
		at, n := x.x(p.At).String(), y.y(value(p)).String()
		switch {
		case i == 0:
			text.WriteString("M" + at + " " + n)
		case b.Every > 0:
			text.WriteString("L" + at + " " + n)
		default:
			text.WriteString("H" + at + "V" + n)
		}
	}
	return text.String()
}

// balanceRowsMax is up to how many rows the table of a balance has each moment; where
// there would be more, it has the last of each day.
const balanceRowsMax = 60

// table is the numbers, but for moments at which nothing moved.
func (b *balanceData) table(u unit) *chartTable {
	rows := make([]balancePoint, 0, len(b.Points))
	for i, p := range b.Points {
		if n := len(rows); i > 0 && i+1 < len(b.Points) && rows[n-1].balanceParts == p.balanceParts {
			continue
		}
		rows = append(rows, p)
	}
	t := &chartTable{Head: []string{"At (UTC)", "Posted", "Held", "Available"}}
	const day = 24 * 60 * 60 * 1000
	format := "2 Jan 2006, 15:04:05"
	if b.Every > 0 {
		format = minuteFormat
	}
	for i, p := range rows {
		if len(rows) > balanceRowsMax && i > 0 && i+1 < len(rows) && p.At/day == rows[i+1].At/day {
			continue
		}
		t.Rows = append(t.Rows, []string{p.At.Std().Format(format), u.amount(p.Posted), u.amount(p.Held), u.amount(p.Available)})
	}
	return t
}

// timeTicks labels a span of time at round moments.
func timeTicks(x timeAxis) []tick {
	const day, year = 24 * time.Hour, 366 * 24 * time.Hour
	length := time.Duration(x.to-x.from) * time.Millisecond
	step := (length/(timeLabels-1)/year + 1) * year
	for _, s := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 5 * day, 7 * day, 14 * day, 28 * day, 91 * day} {
		if length/s < timeLabels {
			step = s
			break
		}
	}
	label := "2 Jan"
	if length > year {
		label = "Jan 2006"
	}
	var out []tick
	last := 0 // day of the label before
	first := x.from.Std().Truncate(min(step, day))
	for at := first; !at.After(x.to.Std()); at = at.Add(step) {
		if place := x.x(events.At(at)); place >= chartLeft {
			if step < day {
				label = "15:04"
				if at.Day() != last {
					label = "2 Jan 15:04"
				}
			}
			last = at.Day()
			out = append(out, timeTick(place, at.Format(label)))
		}
	}
	return out
}

// timeTick is a label in the middle of a place, or as near as it is not cut off at the edge.
func timeTick(place coordinate, label string) tick {
	const half = 3.6 // of what a character of it is wide, in small writing
	return tick{min(place, chartWidth-half*coordinate(len(label))), label}
}
