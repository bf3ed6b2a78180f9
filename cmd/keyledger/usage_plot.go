package main

import (
	"bufio"
	"cmp"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keyledger/keyledger/events"
)

// Columns of a plot.
const (
	plotWidth    = 80 // where nothing says how wide the screen is
	plotWidthMin = 40
	plotWidthMax = 200
	plotBarMin   = 10 // of these for bars, at least
	// plotFillMax is up to how many spans those without use are drawn too, so that time
	// runs evenly.
	plotFillMax = 1000
)

// plot draws bars in a terminal.
type plot struct {
	w      *bufio.Writer
	width  int // columns
	blocks bool
	colour bool
}

// newPlot is a plot for what w is, as the environment says.
func newPlot(w io.Writer) *plot {
	live, dumb := isTerminal(w), os.Getenv("TERM") == "dumb"
	p := &plot{w: bufio.NewWriter(w), width: plotWidth, blocks: !dumb && hasUnicode(os.Getenv)}
	p.colour = live && !dumb && os.Getenv("NO_COLOR") == ""
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		p.width = n
	} else if n := screenWidth(w); n > 0 {
		p.width = n
	}
	p.width = min(max(p.width, plotWidthMin), plotWidthMax)
	return p
}

// hasUnicode says whether the locale is in UTF-8. The first of these that is set counts,
// as POSIX says.
func hasUnicode(getenv func(string) string) bool {
	locale := strings.ToLower(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
}

func (p *plot) flush() error { return p.w.Flush() }

// bar is a line of a plot: two amounts one behind the other, and what is said of them.
type bar struct {
	label         string
	first, second int64
	text          string
}

// ink is how an amount is drawn.
type ink struct{ block, ascii, colour string }

var (
	inkAllowed = ink{"█", "#", "\x1b[36m"}
	inkRefused = ink{"▒", "x", "\x1b[31m"}
	inkSpent   = ink{"█", "#", "\x1b[33m"}
)

// eighths are parts of a block, from one eighth on.
var eighths = [...]string{"▏", "▎", "▍", "▌", "▋", "▊", "▉"}

// draw n columns, and so many eighths of one more.
func (p *plot) draw(i ink, n, rest int) string {
	text := strings.Repeat(i.ascii, n)
	if p.blocks {
		text = strings.Repeat(i.block, n)
		if rest > 0 {
			text += eighths[rest-1]
		}
	}
	if p.colour && text != "" {
		return i.colour + text + "\x1b[0m"
	}
	return text
}

// bars draws lines to one scale. What is not zero can be seen.
func (p *plot) bars(first ink, lines []bar) {
	var label, text int
	var most int64
	for _, b := range lines {
		label, text = max(label, utf8.RuneCountInString(b.label)), max(text, utf8.RuneCountInString(b.text))
		most = max(most, b.first+b.second)
	}
	width := max(p.width-label-text-4, plotBarMin)
	for _, b := range lines {
		one, rest, two := columns(b, most, width)
		if !p.blocks && rest > 0 {
			one, rest = max(one, 1), 0
		}
		used := one + two + min(rest, 1)
		p.w.WriteString(padded(b.label, label) + "  " + p.draw(first, one, rest) + p.draw(inkRefused, two, 0))
		p.w.WriteString(strings.Repeat(" ", width-used+2+text-utf8.RuneCountInString(b.text)) + b.text + "\n")
	}
}

// columns divides the width of a line: whole columns and eighths of one for what comes
// first, whole columns for the second.
func columns(b bar, most int64, width int) (one, rest, two int) {
	if most == 0 {
		return 0, 0, 0
	}
	scaled := func(n int64, parts int) int {
		m := int(float64(n)/float64(most)*float64(parts) + 0.5)
		if n > 0 {
			m = max(m, 1)
		}
		return m
	}
	if b.second == 0 {
		n := scaled(b.first, 8*width)
		return n / 8, n % 8, 0
	}
	two = min(scaled(b.second, width), width)
	one = min(scaled(b.first+b.second, width)-two, width-two)
	if b.first > 0 && one < 1 {
		one, two = 1, max(two-1, 1)
	}
	return one, 0, two
}

func padded(s string, width int) string {
	return s + strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 0))
}

// plot draws requests, and below them what was spent of each asset.
func (u *usage) plot(p *plot, f *usageFlags) {
	whose := f.account
	if whose == ledgerItself {
		whose = "the whole ledger"
	}
	a := map[string]string{"hour": " an hour", "day": " a day", "month": " a month"}[u.By]
	rows := u.filled(f.group)
	if f.from == "" && len(f.group) == 0 {
		rows = begun(rows)
	}
	if len(rows) == 0 || u.Totals.Requests == 0 && len(u.Totals.Spent) == 0 {
		p.w.WriteString("no requests of " + whose + " in " + f.environment + " from " + when(u.From, "the beginning") + " to " + when(u.To, "now") + "\n")
		return
	}
	p.w.WriteString(whose + ", " + f.environment + ": requests" + a + "   " +
		p.draw(inkAllowed, 1, 0) + " allowed " + grouped(u.Totals.Allowed) + "   " +
		p.draw(inkRefused, 1, 0) + " refused " + grouped(u.Totals.Refused) + "\n")
	labels := u.labels(p, rows, f.group)
	lines := func(line func(*usageRow) bar) (out []bar) {
		for i := range rows {
			b := line(&rows[i])
			if b.label = labels[i]; len(f.group) == 0 || b.first+b.second > 0 {
				out = append(out, b)
			}
		}
		return out
	}
	p.bars(inkAllowed, lines(func(r *usageRow) bar { return bar{"", r.Allowed, r.Refused, grouped(r.Requests)} }))
	for _, asset := range slices.Sorted(maps.Keys(u.Totals.Spent)) {
		p.w.WriteString("\nspent" + a + "   " + p.draw(inkSpent, 1, 0) + " " + asset + " " + grouped(u.Totals.Spent[asset]) + "\n")
		p.bars(inkSpent, lines(func(r *usageRow) bar { return bar{first: r.Spent[asset], text: grouped(r.Spent[asset])} }))
	}
}

// begun leaves out the first rows of which nothing was used, where nobody asked for them.
func begun(rows []usageRow) []usageRow {
	i := slices.IndexFunc(rows, func(r usageRow) bool {
		return r.Requests != 0 || len(r.Spent) > 0 || len(r.Refunded) > 0
	})
	return rows[max(i, 0):]
}

// filled returns the rows, and between them, where nothing is kept apart, spans without
// use.
func (u *usage) filled(group []string) []usageRow {
	if len(group) > 0 || len(u.Rows) == 0 || u.By == "total" {
		return u.Rows
	}
	var out []usageRow
	next := 0
	for at := spanStart(u.From, u.By); at < u.To || next < len(u.Rows); at = spanAfter(at, u.By) {
		row := usageRow{Start: at}
		if next < len(u.Rows) && u.Rows[next].Start <= at {
			row = u.Rows[next]
			next++
		}
		if out = append(out, row); len(out) > plotFillMax {
			return u.Rows
		}
	}
	return out
}

// spanStart is the beginning of the hour, day or month that a time lies in.
func spanStart(at events.Time, by string) events.Time {
	t := at.Std()
	switch by {
	case "hour":
		return events.At(t.Truncate(time.Hour))
	case "month":
		return events.At(time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC))
	}
	return events.At(t.Truncate(24 * time.Hour))
}

// spanAfter is the beginning of the next one.
func spanAfter(start events.Time, by string) events.Time {
	switch by {
	case "hour":
		return events.At(start.Std().Add(time.Hour))
	case "month":
		return events.At(start.Std().AddDate(0, 1, 0))
	}
	return events.At(start.Std().AddDate(0, 0, 1))
}

// labels names the rows by their span and what is kept apart.
func (u *usage) labels(p *plot, rows []usageRow, group []string) []string {
	out := make([]string, len(rows))
	for i := range rows {
		parts := []string{span(rows[i].Start, u.By)}
		if len(group) > 0 && u.By == "total" {
			parts = nil
		}
		for _, name := range group {
			parts = append(parts, p.short(orDash(plain(rows[i].of(name)))))
		}
		out[i] = strings.Join(parts, " ")
	}
	return out
}

// labelMax is how long a name in a plot may be. Of a longer one its end is shown: ids
// begin alike.
const labelMax = 16

func (p *plot) short(name string) string {
	if len(name) <= labelMax {
		return name
	}
	if p.blocks {
		return "…" + name[len(name)-labelMax+1:]
	}
	return ".." + name[len(name)-labelMax+2:]
}
