package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/access"
	ledgerclient "github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/projections/archive"
)

// asked is a query of an account that is not answered yet.
func asked(t *testing.T, account, body string) *usageQuery {
	t.Helper()
	q := &usageQuery{account: account, rows: map[usageID]*UsageCounts{}}
	if err := q.decode([]byte(body)); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return q
}

// answered is what it answers.
func answered(t *testing.T, q *usageQuery) (*Usage, *events.Error) {
	t.Helper()
	result, refused := q.answer(0)
	if refused != nil {
		return nil, refused
	}
	var u Usage
	if err := (&ledgerclient.Reply{Body: result.(events.Object)}).Decode(&u); err != nil {
		t.Fatal(err)
	}
	return &u, nil
}

func moment(t *testing.T, text string) events.Time {
	t.Helper()
	at, err := events.ParseTime(text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// spent is a row of the archive.
func spent(hour events.Time, key, product, asset string, n int64) *archive.UsageRow {
	return &archive.UsageRow{Hour: hour, Environment: events.Live, Key: key, Product: product, Asset: asset, UsageSums: archive.UsageSums{Requests: 1, Spent: n}}
}

// The first millisecond of an hour, day or month belongs to it, and the last one before
// does not, in UTC.
func TestUsageBegins(t *testing.T) {
	for _, c := range []struct{ at, hour, day, month string }{
		{"2024-02-28T23:59:59.999Z", "2024-02-28T23:00:00Z", "2024-02-28T00:00:00Z", "2024-02-01T00:00:00Z"},
		{"2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "2024-02-01T00:00:00Z"},
		{"2024-02-29T23:59:59.999Z", "2024-02-29T23:00:00Z", "2024-02-29T00:00:00Z", "2024-02-01T00:00:00Z"},
		{"2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z"},
		{"2025-12-31T23:59:59.999Z", "2025-12-31T23:00:00Z", "2025-12-31T00:00:00Z", "2025-12-01T00:00:00Z"},
		{"2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"},
		{"2026-03-29T02:30:00+02:00", "2026-03-29T00:00:00Z", "2026-03-29T00:00:00Z", "2026-03-01T00:00:00Z"},
	} {
		hour := hourOf(moment(t, c.at))
		if hour.String() != c.hour || startOf(hour, byHour) != hour || startOf(hour, byDay).String() != c.day ||
			startOf(hour, byMonth).String() != c.month || startOf(hour, byTotal) != 0 {
			t.Errorf("%s: hour %s, day %s, month %s", c.at, hour, startOf(hour, byDay), startOf(hour, byMonth))
		}
	}
}

// From counts from the beginning of its hour, to up to the end of the hour it lies in, and
// not beyond where it is one's beginning.
func TestUsageSpan(t *testing.T) {
	for _, c := range []struct{ from, to, first, end string }{
		{"2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z", "2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z"},
		{"2026-01-01T10:59:59.999Z", "2026-01-01T11:00:00.001Z", "2026-01-01T10:00:00Z", "2026-01-01T12:00:00Z"},
		{"2026-01-01T10:00:00Z", "2026-01-01T10:00:00.001Z", "2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z"},
		{"2026-01-01T10:00:00Z", "9999-12-31T23:59:59.999Z", "2026-01-01T10:00:00Z", "9999-12-31T23:00:00Z"},
	} {
		q := asked(t, "acme", fmt.Sprintf(`{"environment":"live","from":%q,"to":%q}`, c.from, c.to))
		if q.From.String() != c.first || q.To.String() != c.end || q.By != byDay {
			t.Errorf("%s to %s: %s to %s by %s", c.from, c.to, q.From, q.To, q.By)
		}
	}
}

func TestUsageRefuses(t *testing.T) {
	key := `"key":"key_01J00000000000000000000000"`
	for _, c := range []struct{ account, body, want string }{
		{"acme", `{}`, "environment must be"},
		{"acme", `{"environment":"prod"}`, "environment must be"},
		{"acme", `{"environment":"live","by":"week"}`, "by must be"},
		{"acme", `{"environment":"live","key":"k"}`, "key must be"},
		{"acme", `{"environment":"live","key":"key_1"}`, "key must be"},
		{"acme", `{"environment":"live","product":"A"}`, "product must be"},
		{"acme", `{"environment":"live","group":["day"]}`, "group must be of key, product"},
		{"acme", `{"environment":"live","group":["account"]}`, "group must be of key, product"},
		{"acme", `{"environment":"live","group":["key","key"]}`, "each once"},
		{"acme", `{"environment":"live","from":"2026-01-01T00:00:00Z","to":"2026-01-01T00:00:00Z"}`, "from must be before to"},
		{"acme", `{"environment":"live","from":"yesterday"}`, "RFC 3339"},
		{"acme", `{"environment":"live","asset":"usd"}`, "unknown field"},
		{"_", `{"environment":"live","group":["key"]}`, "group must be of account, product"},
		{"_", `{"environment":"live",` + key + `}`, "one account's"},
	} {
		q := &usageQuery{account: c.account}
		err := q.decode([]byte(c.body))
		if err == nil || err.Code != events.InvalidArgument || !strings.Contains(err.Message, c.want) {
			t.Errorf("%s %s: %v, want %q", c.account, c.body, err, c.want)
		}
	}
	asked(t, "acme", `{"environment":"live","group":["product","key"],"product":"*",`+key+`}`)
	asked(t, "_", `{"environment":"test","group":["product","account"],"by":"total","product":"search"}`)
}

// The last row, amount and row of the archive that fit are answered; one more is
// limit_exceeded and says what to ask instead.
func TestUsageAtItsLimits(t *testing.T) {
	exceeded := func(what string, q *usageQuery, err error) {
		t.Helper()
		if err == nil || q.failed == nil || q.failed.Code != events.LimitExceeded || !strings.Contains(q.failed.Message, what) || !strings.Contains(q.failed.Message, "shorter span") {
			t.Errorf("%s: %v, %v", what, err, q.failed)
		}
	}
	q := asked(t, "acme", `{"environment":"live","by":"hour"}`)
	for hour := range events.Time(usageRowsMax) {
		if err := q.paid(spent((500_000+hour)*archive.HourMS, "", "", "credits", 1_000_000)); err != nil {
			t.Fatal(err)
		}
	}
	if u, err := answered(t, q); err != nil || len(u.Usage) != usageRowsMax || u.Totals.Spent["credits"] != usageRowsMax*1_000_000 || u.Totals.Requests != usageRowsMax {
		t.Errorf("%d rows: %v, %v", usageRowsMax, u, err)
	}
	if err := q.paid(spent(500_000*archive.HourMS, "", "", "credits", 1)); err != nil {
		t.Error(err)
	}
	exceeded("10000 rows", q, q.paid(spent(400_000*archive.HourMS, "", "", "credits", 1)))

	q = asked(t, "acme", `{"environment":"live","by":"total"}`)
	q.read = usageReadMax - 1
	if err := q.paid(spent(archive.HourMS, "", "", "credits", 1)); err != nil {
		t.Error(err)
	}
	exceeded("5000000 rows", q, q.paid(spent(archive.HourMS, "", "", "credits", 1)))

	q = asked(t, "acme", `{"environment":"live","by":"total"}`)
	q.amounts = usageAmountsMax - 1
	for range 2 {
		if err := q.paid(spent(archive.HourMS, "", "", "credits", 1)); err != nil {
			t.Error(err)
		}
	}
	exceeded("50000 amounts", q, q.paid(spent(archive.HourMS, "", "", "usd", 1)))

	q = asked(t, "acme", `{"environment":"live","by":"hour","group":["product"]}`)
	name := strings.Repeat("x", 64)
	for hour := range events.Time(usageRowsMax) {
		if err := q.paid(spent((500_000+hour)*archive.HourMS, "", name, "credits", 1)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := answered(t, q)
	exceeded("bytes", q, err)
}

// Requests are counted from both sides; products that the access log does not tell apart
// stand as "*", and sums that are full stay so.
func TestUsageMerges(t *testing.T) {
	hour := moment(t, "2026-01-31T23:00:00Z")
	q := asked(t, "acme", `{"environment":"live","group":["product"]}`)
	for range 2 {
		if err := q.paid(spent(hour, "", "search", "credits", 1<<62)); err != nil {
			t.Fatal(err)
		}
	}
	q.unpaid(&access.Record{Account: "acme", Environment: events.Live, Minute: hour + 59*60_000, Code: events.OK, Outcome: access.Free, Count: 5, Product: "search"})
	q.unpaid(&access.Record{Account: "acme", Environment: events.Live, Minute: hour + archive.HourMS, Code: events.RateLimited, Outcome: access.Refused, Count: 7,
		Products: []access.ProductCount{{Product: "search", Count: 4}, {Product: "", Count: 1}}})
	q.unpaid(&access.Record{Account: "acme", Environment: events.Test, Minute: hour, Code: events.OK, Outcome: access.Free, Count: 9})
	u, err := answered(t, q)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, r := range append(u.Usage, UsageRow{UsageCounts: u.Totals}) {
		got += fmt.Sprintln(r.Start, r.Product, r.Requests, r.Allowed, r.Refused, r.Refusals, r.Spent)
	}
	const want = `2026-01-31T00:00:00Z search 7 7 0 map[] map[credits:9223372036854775807]
2026-02-01T00:00:00Z  1 0 1 map[rate_limited:1] map[]
2026-02-01T00:00:00Z * 2 0 2 map[rate_limited:2] map[]
2026-02-01T00:00:00Z search 4 0 4 map[rate_limited:4] map[]
  14 7 7 map[rate_limited:7] map[credits:9223372036854775807]
`
	if got != want || u.From != hour || u.RefusalsSince != 0 {
		t.Errorf("from %s:\n%swant\n%s", u.From, got, want)
	}
}

// asker returns a function that asks usage.get and sees all that was answered before.
func asker(t *testing.T, c *ledgerclient.Client) func(account, body string) (*Usage, error) {
	return func(account, body string) (*Usage, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		reply, err := c.Query(ctx, account, "usage.get", []byte(body), ledgerclient.Strict())
		if err != nil {
			return nil, err
		}
		u := new(Usage)
		return u, reply.Decode(u)
	}
}

// Without a span it is all there is up to now.
func TestUsageUpToNow(t *testing.T) {
	_, c, stop := serveConfig(t, Config{DataDir: t.TempDir()})
	defer stop()
	ask := asker(t, c)
	refused := func(account, body string, code events.Code) {
		t.Helper()
		if u, err := ask(account, body); err == nil || !strings.HasPrefix(err.Error(), string(code)) {
			t.Errorf("%s %s: %+v, %v, want %s", account, body, u, err, code)
		}
	}
	refused("acme", `{"environment":"test"}`, events.NotFound)
	if _, err := c.OpenAccount(t.Context(), "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	u, err := ask("acme", `{"environment":"test"}`)
	if err != nil || u.Usage == nil || len(u.Usage) != 0 || u.From != 0 || u.Totals.Requests != 0 {
		t.Errorf("of nothing: %+v, %v", u, err)
	}
	refused("acme", `{"environment":"test","from":"2999-01-01T00:00:00Z"}`, events.InvalidArgument)
	if _, err := c.Grant(t.Context(), "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 100}); err != nil {
		t.Fatal(err)
	}
	before := hourOf(events.At(time.Now()))
	if _, err := c.Debit(t.Context(), "acme", ledger.DebitCredit{Environment: events.Test, Asset: "credits", Amount: 7}); err != nil {
		t.Fatal(err)
	}
	u, err = ask("_", `{"environment":"test","by":"total","group":["account"]}`)
	after := hourOf(events.At(time.Now()))
	if err != nil || len(u.Usage) != 1 || u.Usage[0].Account != "acme" || u.Usage[0].Start != u.From || u.Totals.Spent["credits"] != 7 || u.Totals.Requests != 0 ||
		u.From < before || u.From > after || u.To < before+archive.HourMS || u.To > after+archive.HourMS {
		t.Errorf("of an hour: %+v, %v", u, err)
	}
}

// While the archive has not come to what the account's view shows, there is no answer.
func TestUsageWaitsForTheArchive(t *testing.T) {
	s, c, stop := serveConfig(t, Config{DataDir: t.TempDir()})
	defer stop()
	if _, err := c.OpenAccount(t.Context(), "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	behind, err := archive.Open(archive.Config{Tail: s.tail, Dir: t.TempDir(), Logger: s.cfg.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	if err := s.parts.views.Wait(t.Context(), s.tail.End().Sequence); err != nil {
		t.Fatal(err)
	}
	late := &Server{cfg: s.cfg, tail: s.tail, parts: parts{views: s.parts.views, archive: behind, access: s.parts.access}}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, refused := late.getUsage(short, "acme", []byte(`{"environment":"test"}`))
	if refused == nil || refused.Code != events.Unavailable || !strings.Contains(refused.Message, "archive") {
		t.Errorf("answered before the archive is there: %v", refused)
	}
}

// From when on the access log has all is told.
func TestUsageSince(t *testing.T) {
	s, c, stop := serveConfig(t, Config{DataDir: t.TempDir()})
	defer stop()
	ask := asker(t, c)
	if _, err := c.OpenAccount(t.Context(), "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	minute := hourOf(events.At(time.Now())) - archive.HourMS
	for _, at := range []events.Time{minute, minute + 60_000, minute + 120_000} {
		record, err := events.Encode(&access.Record{Account: "acme", Environment: events.Test, Code: events.RateLimited, Outcome: access.Refused, Minute: at, Count: 3})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.js.Publish(t.Context(), store.SubjectAccess+"acme.rate_limited", record); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := s.js.Stream(t.Context(), store.StreamAccess)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(2)); err != nil {
		t.Fatal(err)
	}
	if u, err := ask("acme", `{"environment":"test"}`); err != nil || u.RefusalsSince != minute+120_000 || u.Totals.Refusals[events.RateLimited] != 6 {
		t.Errorf("after records were dropped: %+v, %v", u, err)
	}
}
