package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/client"
)

// table is aligned text for people, and what is to be noted below it.
type table struct {
	w     *tabwriter.Writer
	notes []string
}

func newTable(w io.Writer) *table { return &table{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

// row writes one line. Control characters in a cell, which could steer a terminal, are
// shown as "?".
func (t *table) row(cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			io.WriteString(t.w, "\t")
		}
		io.WriteString(t.w, plain(fmt.Sprint(cell)))
	}
	io.WriteString(t.w, "\n")
}

func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// show prints a reply: as it came with --json, else decoded into v and written by f.
func (a *app) show(reply *client.Reply, v any, f func(*table)) error {
	if reply.Replayed {
		a.note("this command id was used before; this is its first answer again, and nothing happened now")
	}
	if a.json {
		_, err := fmt.Fprintf(a.out, "%s\n", reply.Body)
		return err
	}
	if err := reply.Decode(v); err != nil {
		return err
	}
	t := newTable(a.out)
	f(t)
	if err := t.w.Flush(); err != nil {
		return err
	}
	for _, text := range t.notes {
		a.note("%s", text)
	}
	return nil
}

// note says something beside the result, on standard error.
func (a *app) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !a.json {
		fmt.Fprintf(a.errOut, "note: %s\n", text)
		return
	}
	if body, err := events.Encode(map[string]string{"note": text}); err == nil {
		fmt.Fprintf(a.errOut, "%s\n", body)
	}
}

// secret tells a secret, this once.
func (t *table) secret(secret string) {
	if secret == "" {
		t.notes = append(t.notes, "a secret is in the first answer only; if it is lost, make a new one")
		return
	}
	t.row("secret", secret)
	t.notes = append(t.notes, "keep the secret now: it is shown only this once")
}

// more says that a list goes on.
func (t *table) more(cursor *string) {
	if cursor != nil && *cursor != "" {
		t.notes = append(t.notes, "there are more: --cursor "+*cursor)
	}
}

// isTerminal says whether a person may be looking at w.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	null, nullErr := os.Stat(os.DevNull)
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && !(nullErr == nil && os.SameFile(info, null))
}

// progressEvery is how often a progress line is drawn anew.
const progressEvery = 100 * time.Millisecond

// progress is the line that shows how far long work has come. On a terminal it is drawn
// over itself; elsewhere nothing is shown but what was done.
type progress struct {
	w     io.Writer
	live  bool
	what  string
	since time.Time
	first int // what at was told first
	begun bool
	drawn time.Time
}

func (a *app) newProgress() *progress {
	if a.json {
		return &progress{w: io.Discard}
	}
	return &progress{w: a.errOut, live: isTerminal(a.errOut)}
}

// begin starts a piece of work.
func (p *progress) begin(what string) {
	p.what, p.since, p.begun, p.drawn = what, time.Now(), false, time.Time{}
}

// at shows that n of total are done, how many a second, and how long the rest will take;
// total 0 is not known.
func (p *progress) at(n, total int) {
	if !p.begun {
		p.first, p.begun = n, true
	}
	if !p.live || time.Since(p.drawn) < progressEvery {
		return
	}
	p.drawn = time.Now()
	fmt.Fprintf(p.w, "\r\x1b[K%s: %s", p.what, howFar(n-p.first, n, total, time.Since(p.since)))
}

// howFar says that n of total are done, of which some were done in the time given.
func howFar(done, n, total int, took time.Duration) string {
	text := grouped(int64(n))
	if total > 0 {
		text += " of " + grouped(int64(total))
	}
	if done <= 0 || took < time.Second {
		return text
	}
	rate := float64(done) / took.Seconds()
	text += fmt.Sprintf(", %s a second", grouped(int64(rate)))
	if total > n {
		left := time.Duration(float64(total-n) / rate * float64(time.Second))
		text += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return text
}

// clear takes the line off the screen.
func (p *progress) clear() {
	if p.live {
		io.WriteString(p.w, "\r\x1b[K")
	}
}

// end says what was done, and how long it took.
func (p *progress) end(format string, args ...any) {
	p.clear()
	fmt.Fprintf(p.w, "%s (%s)\n", fmt.Sprintf(format, args...), time.Since(p.since).Round(time.Millisecond))
}

// grouped writes a number for people: 7,209.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	return sign + groupedDigits(digits)
}

// groupedDigits is the same of digits.
func groupedDigits(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// list writes names for people.
func list(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}

// when writes a time for people.
func when(t events.Time, none string) string {
	if t == 0 {
		return none
	}
	return t.String()
}

// parseTime reads what every flag with a time takes: an RFC 3339 time, a date, which is its
// beginning in UTC, or a duration from now. Zero stands for no time, so none is that or before.
func parseTime(flag, text string, now time.Time) (events.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t, err = time.Parse(time.DateOnly, text)
	}
	if err != nil {
		var d time.Duration
		d, err = time.ParseDuration(text)
		t = now.Add(d)
	}
	if err != nil {
		return 0, usagef("--%s %q must be a date such as 2026-01-31, a time such as 2026-01-31T12:00:00Z, or a duration from now such as -24h or 720h", flag, text)
	}
	if at := events.At(t); at > 0 {
		return at, nil
	}
	return 0, usagef("--%s %s must be later than 1970-01-01T00:00:00Z, where times begin", flag, text)
}

// parseAnyTime is parseTime of a flag that may be left out: then it is 0.
func parseAnyTime(flag, text string, now time.Time) (events.Time, error) {
	if text == "" {
		return 0, nil
	}
	return parseTime(flag, text, now)
}

// whenText is what the help of a flag says that parseTime reads; the others are that of the
// end of a span.
const (
	whenText    = "a date, a time, or a duration from now such as -24h"
	endIncluded = "`WHEN` to end, likewise; it is included, of a date its first moment"
	endLeftOut  = "`WHEN` to end, likewise; it is left out, so a date ends where it begins"
)

// parseObject reads a JSON object.
func parseObject(flag, text string) (events.Object, error) {
	var object events.Object
	if text == "" {
		return nil, nil
	}
	if err := object.UnmarshalJSON([]byte(text)); err != nil {
		return nil, usagef("--%s must be a JSON object such as {\"team\":\"payments\"}: %v", flag, err)
	}
	return object, nil
}
