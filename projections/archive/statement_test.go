package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// Keys of these tests.
const (
	usual = "key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB"
	rare  = "key_01J8Z5T0XKQ4R7N2M3V6W9Y1AC"
)

// debit is a debit of one, with a key, after which so much is posted.
func debit(account, key string, posted int64) events.Event {
	balance := events.Balance{Environment: events.Test, Asset: events.Credits, Posted: posted, Available: posted}
	return events.Event{Type: "credit.debited", Account: account, Environment: events.Test, Subject: key, Data: &events.Debited{
		Debit: events.Debit{ID: fmt.Sprint("debit_", posted), Environment: events.Test, Asset: events.Credits, Amount: 1,
			Drawn: []events.Draw{{Grant: "g", Amount: 1}}, Key: key, Product: "maps", Reference: "r"},
		Balance: balance,
	}}
}

func granted(account string, amount int64) events.Event {
	return events.Event{Type: "credit.granted", Account: account, Environment: events.Test, Data: &events.Granted{
		Grant:   events.Grant{ID: "g", Environment: events.Test, Asset: events.Credits, Amount: amount},
		Balance: events.Balance{Environment: events.Test, Asset: events.Credits, Posted: amount, Available: amount},
	}}
}

// stated opens and runs an archive of what h has.
func (h *bench) stated() *Archive {
	a := h.open(h.t.TempDir(), h.again(), nil)
	a.cfg.Known = func(account string) (events.Position, *events.Error) {
		if account == "nobody" {
			return events.Position{}, events.Errorf(events.NotFound, "no account")
		}
		return h.chain.Position(), nil
	}
	run(h.t, a)
	return a
}

func ask(a *Archive, account, body string) (*Statement, *events.Error) {
	out, _, err := a.Statement(context.Background(), account, []byte(body))
	if err != nil {
		return nil, err
	}
	return out.(*Statement), nil
}

func must(t *testing.T, a *Archive, body string) *Statement {
	t.Helper()
	s, err := ask(a, "acme", body)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return s
}

// TestStatementBounds: each limit at its edge, and what is wrong in a body.
func TestStatementBounds(t *testing.T) {
	h := newBench(t)
	h.append(granted("acme", 10_000))
	for i := range int64(statementMax + 1) {
		h.append(debit("acme", usual, 9_999-i))
	}
	a := h.stated()
	base := `{"environment":"test"`
	for limit, want := range map[int]int{1: 1, statementDefault: statementDefault, statementMax: statementMax} {
		s := must(t, a, fmt.Sprintf(`%s,"limit":%d}`, base, limit))
		if len(s.Movements) != want || s.NextCursor == nil {
			t.Errorf("limit %d: %d movements", limit, len(s.Movements))
		}
	}
	if s := must(t, a, base+"}"); len(s.Movements) != statementDefault {
		t.Errorf("without a limit: %d movements", len(s.Movements))
	}
	end := h.chain.Position()
	behindEnd := end
	behindEnd.Sequence++
	if s := must(t, a, fmt.Sprintf(`%s,"from_position":%q}`, base, end)); len(s.Movements) != 0 || s.Closing.Posted != 9_499 || s.Opening != s.Closing {
		t.Errorf("since the end: %+v", s)
	}
	if s := must(t, a, base+`,"from_time":"2300-01-01T00:00:00Z"}`); len(s.Movements) != 0 || s.Closing.Posted != 9_499 {
		t.Errorf("from a time to come: %+v", s)
	}
	if s := must(t, a, base+`,"asset":"usd"}`); len(s.Movements) != 0 || s.Closing != (Amounts{}) {
		t.Errorf("of another asset: %+v", s)
	}
	first := h.chain.Position()
	first.Sequence = 1
	if s := must(t, a, fmt.Sprintf(`%s,"from_position":%q,"to_position":%[2]q}`, base, end)); len(s.Movements) != 0 || s.Closing.Posted != 9_499 {
		t.Errorf("from a position to itself: %+v", s)
	}
	for body, want := range map[string]string{
		fmt.Sprintf(`%s,"from_position":%q,"to_position":%q}`, base, end, first):              "from_position " + end.String() + " must not be after to_position 0:1",
		base + `,"from_position":"0:9.1","to_position":"0:9.0"}`:                              "must not be after",
		fmt.Sprintf(`%s,"from_position":%q,"to_time":"1970-01-01T00:00:00.001Z"}`, base, end): "before it begins at " + end.String(),
		fmt.Sprintf(`%s,"from_time":"2300-01-01T00:00:00Z","to_position":%q}`, base, first):   "ends at 0:1, before it begins",
		`{}`:                               "environment must be",
		`{"environment":"prod"}`:           "environment must be",
		base + `,"asset":"A"}`:             "asset must be",
		base + `,"type":"credit"}`:         "type must be",
		base + `,"type":"nothing.*"}`:      "type must be",
		base + `,"key":"key_1"}`:           "key must be",
		base + `,"limit":0}`:               "limit must be",
		base + `,"limit":501}`:             "limit must be",
		base + `,"from_position":"1:1"}`:   "from_position must be",
		base + `,"from_position":"0:0"}`:   "from_position must be",
		base + `,"to_position":"end"}`:     "to_position must be",
		base + `,"cursor":"MDo0Mg="}`:      "cursor must be",
		base + `,"cursor":"eA"}`:           "cursor must be",
		base + `,"unknown":1}`:             "unknown",
		base + `,"from_time":"yesterday"}`: "from_time",
		base + `,"from_time":"2026-01-02T00:00:00Z","to_time":"2026-01-02T00:00:00Z"}`: "from_time must be before",
		fmt.Sprintf(`%s,"from_position":%q}`, base, behindEnd):                         "is beyond the log's end " + end.String(),
		fmt.Sprintf(`%s,"cursor":%q}`, base, cursorOf(behindEnd)):                      "cursor must be",
	} {
		if _, err := ask(a, "acme", body); err == nil || err.Code != events.InvalidArgument || !strings.Contains(err.Message, want) {
			t.Errorf("%s: %v, want invalid_argument with %q", body, err, want)
		}
	}
	if _, err := ask(a, "nobody", base+"}"); err == nil || err.Code != events.NotFound {
		t.Errorf("of nobody: %v", err)
	}
	if _, err := ask(a, "_", base+"}"); err == nil || err.Code != events.InvalidArgument {
		t.Errorf("of the ledger: %v", err)
	}
}

// TestStatementFilters: by type and key. A page whose filter passes over many commits ends
// early, and the pages together have all.
func TestStatementFilters(t *testing.T) {
	h := newBench(t)
	h.append(granted("acme", 100_000))
	posted := int64(100_000)
	next := func(key string) string {
		posted--
		h.append(debit("acme", key, posted))
		return h.chain.Position().String() + ".0"
	}
	var want []string
	for range statementCommits - 2 {
		next(usual)
	}
	want = append(want, next(rare)) // the last commit of the first page
	for range 3 {
		next(usual)
	}
	want = append(want, next(rare))
	a := h.stated()
	var got []string
	pages, more := 0, ""
	for {
		s := must(t, a, fmt.Sprintf(`{"environment":"test","key":%q%s}`, rare, more))
		pages++
		for _, m := range s.Movements {
			if got = append(got, m.Position); m.Key != rare || m.Product != "maps" || m.Reference != "r" || m.Amount != -1 {
				t.Errorf("movement %+v", m)
			}
		}
		if len(s.Movements) == 1 && s.Opening.Posted-s.Closing.Posted != 1 {
			t.Errorf("opens with %+v, closes with %+v", s.Opening, s.Closing)
		}
		if s.NextCursor == nil {
			break
		}
		more = fmt.Sprintf(`,"cursor":%q`, *s.NextCursor)
	}
	if !slices.Equal(got, want) || pages != 2 {
		t.Errorf("%v in %d pages, want %v in 2", got, pages, want)
	}
	if s := must(t, a, `{"environment":"test","type":"credit.granted"}`); len(s.Movements) != 1 || s.Opening.Posted != 0 || s.Closing.Posted != 100_000 {
		t.Errorf("grants: %+v", s)
	}
	if s := must(t, a, `{"environment":"test","type":"hold.*"}`); len(s.Movements) != 0 || s.Closing.Posted != posted || s.NextCursor != nil {
		t.Errorf("holds: %+v", s)
	}
}

// TestStatementAnswersWhenItCannot: what cannot be read is unavailable, and said.
func TestStatementAnswersWhenItCannot(t *testing.T) {
	h := newBench(t)
	h.append(granted("acme", 1000))
	for i := range int64(3 * testSpan) {
		h.append(debit("acme", usual, 999-i))
	}
	dir := t.TempDir()
	a := h.open(dir, h.again(), nil)
	a.cfg.Known = func(string) (events.Position, *events.Error) { return h.chain.Position(), nil }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := a.Statement(ctx, "acme", []byte(`{"environment":"test"}`)); err == nil || err.Code != events.Unavailable || !strings.Contains(err.Message, "it is at 0:0") {
		t.Errorf("before it has begun: %v", err)
	}
	stop := run(t, a)
	h.reach(a)
	stop()
	path := filepath.Join(dir, segmentName(0, 1))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := openSegment(path)
	if err != nil {
		t.Fatal(err)
	}
	head, err := file.find("acme")
	file.release()
	if err != nil || head == nil {
		t.Fatalf("%v, %v", head, err)
	}
	data[head.parts[historyPart][0].offset] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(a, "acme", `{"environment":"test","limit":500}`); err == nil || err.Code != events.Unavailable || !strings.Contains(err.Message, "damaged") {
		t.Errorf("with a damaged file: %v", err)
	}
	run(t, a)
	h.reach(a)
	if s := must(t, a, `{"environment":"test","limit":500}`); len(s.Movements) != 3*testSpan+1 {
		t.Errorf("%d movements after it was made again", len(s.Movements))
	}
	h.log.ReadFault = func(uint64) error { return errors.New("the network") }
	if _, err := ask(a, "acme", `{"environment":"test"}`); err == nil || err.Code != events.Unavailable || !strings.Contains(err.Message, "the network") {
		t.Errorf("without a log: %v", err)
	}
}

// TestStatementOfNothing: where a filter passes over all, both balances are that of the end
// of what was asked for.
func TestStatementOfNothing(t *testing.T) {
	h := newBench(t)
	h.append(granted("acme", 100))
	h.append(debit("acme", usual, 90))
	h.append(granted("acme", 95))
	middle := h.chain.Position()
	h.append(granted("acme", 97))
	a := h.stated()
	for body, want := range map[string]int64{
		`{"environment":"test","type":"credit.debited","key":"` + rare + `"}`:                                                     97,
		`{"environment":"test","type":"credit.adjusted"}`:                                                                         97,
		`{"environment":"test","type":"credit.debited","key":"` + rare + `","to_position":"` + middle.String() + `"}`:             95,
		`{"environment":"test","type":"credit.debited","key":"` + rare + `","from_position":"0:1","to_position":"0:3","limit":1}`: 90,
	} {
		s := must(t, a, body)
		if len(s.Movements) != 0 || s.NextCursor != nil || s.Closing.Posted != want || s.Opening != s.Closing {
			t.Errorf("%s: %+v, want %d", body, s, want)
		}
	}
}
