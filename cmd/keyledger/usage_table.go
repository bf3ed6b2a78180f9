package main

import (
	"encoding/csv"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// rows writes a table for people, and the totals below it.
func (u *usage) rows(t *table, group []string) {
	head := []any{"START"}
	for _, name := range group {
		head = append(head, strings.ToUpper(name))
	}
	t.row(append(head, "REQUESTS", "ALLOWED", "REFUSED", "SPENT", "REFUNDED")...)
	line := func(start string, r *usageRow, names func(string) string) {
		cells := []any{start}
		for _, name := range group {
			cells = append(cells, names(name))
		}
		t.row(append(cells, grouped(r.Requests), grouped(r.Allowed), grouped(r.Refused), amounts(r.Spent), amounts(r.Refunded))...)
	}
	for i := range u.Rows {
		r := &u.Rows[i]
		line(span(r.Start, u.By), r, func(name string) string { return orDash(r.of(name)) })
	}
	if u.By != "total" || len(group) > 0 {
		line("total", &u.Totals, func(string) string { return "" })
	}
	if text := u.since(); text != "" {
		t.notes = append(t.notes, text)
	}
}

// amounts writes amounts of assets: "1,200 credits, 3 usd".
func amounts(list map[string]int64) string {
	var parts []string
	for _, asset := range slices.Sorted(maps.Keys(list)) {
		if list[asset] != 0 {
			parts = append(parts, grouped(list[asset])+" "+asset)
		}
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ", ")
}

// writeCSV writes a row a line: the names of the group, the counts, then a column for each
// code and asset that occurs, in the order of their names. A span without use is no line.
func (u *usage) writeCSV(w io.Writer, group []string) error {
	// The totals have every code and asset.
	codes := slices.Sorted(maps.Keys(u.Totals.Refusals))
	spent, refunded := slices.Sorted(maps.Keys(u.Totals.Spent)), slices.Sorted(maps.Keys(u.Totals.Refunded))
	head := append(append([]string{"start"}, group...), "requests", "allowed", "refused")
	for _, columns := range []struct {
		prefix string
		names  []string
	}{{"refused_", codes}, {"spent_", spent}, {"refunded_", refunded}} {
		for _, name := range columns.names {
			head = append(head, columns.prefix+name)
		}
	}
	out := csv.NewWriter(w)
	if err := out.Write(head); err != nil {
		return err
	}
	for i := range u.Rows {
		r := &u.Rows[i]
		line := []string{r.Start.String()}
		for _, name := range group {
			line = append(line, r.of(name))
		}
		for _, n := range []int64{r.Requests, r.Allowed, r.Refused} {
			line = append(line, strconv.FormatInt(n, 10))
		}
		line = appendCells(line, r.Refusals, codes)
		line = appendCells(line, r.Spent, spent)
		line = appendCells(line, r.Refunded, refunded)
		if err := out.Write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func appendCells(line []string, values map[string]int64, names []string) []string {
	for _, name := range names {
		line = append(line, strconv.FormatInt(values[name], 10))
	}
	return line
}
