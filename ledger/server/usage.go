package server

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/access"
	"github.com/keyledger/keyledger/projections/archive"
)

// Limits of usage.get.
const (
	usageRowsMax    = 10_000                  // of an answer
	usageAmountsMax = 5 * usageRowsMax        // spent, refunded and refusals, in all rows of an answer
	usageBytesMax   = payloadBytesMax - 4<<10 // of an answer, with room for headers
	usageReadMax    = 5_000_000               // rows of the archive that one query reads: a quarter of a second's work
)

// What usage.get counts by, and what it keeps apart.
const (
	byHour  = "hour"
	byDay   = "day"
	byMonth = "month"
	byTotal = "total"

	groupAccount = "account"
	groupKey     = "key"
	groupProduct = "product"
)

// Usage answers usage.get.
type Usage struct {
	// Usage is by start, then by account, key and product. What has nothing to count has no
	// row.
	Usage []UsageRow `json:"usage"`
	// From and To are whole hours: what is counted began at From or later and before To.
	// Where no from was given, From is the first hour that has anything, null if none has.
	From   events.Time `json:"from"`
	To     events.Time `json:"to"`
	By     string      `json:"by"`
	Totals UsageCounts `json:"totals"` // of all rows
	// RefusalsSince is from when on refused and free requests are counted in full: their
	// records are kept for a time and in a number of bytes, and one query looks at so many
	// of them. Null: of all time.
	RefusalsSince events.Time `json:"refusals_since"`
}

// UsageRow is what was used in one hour, day or month, which began at Start (UTC), or in
// all; of a group's members it has those that were asked for, and none where the requests
// named none. Product "*" stands for those that the access log does not tell apart.
type UsageRow struct {
	Start   events.Time `json:"start"`
	Account string      `json:"account,omitempty"`
	Key     string      `json:"key,omitempty"`
	Product string      `json:"product,omitempty"`
	UsageCounts
}

// UsageCounts is requests, and amounts by asset in its smallest unit. Sums that would be
// more than 2^63-1 stay at that.
type UsageCounts struct {
	Requests int64                 `json:"requests"` // that authorize decided: Allowed + Refused
	Allowed  int64                 `json:"allowed"`  // paid and free ones
	Refused  int64                 `json:"refused"`
	Refusals map[events.Code]int64 `json:"refusals,omitempty"` // by code
	Spent    map[string]int64      `json:"spent,omitempty"`    // by debits and captures of every kind
	Refunded map[string]int64      `json:"refunded,omitempty"` // apart: it is not taken off Spent
}

// usageBody is the body of usage.get.
type usageBody struct {
	Environment string      `json:"environment"`
	Key         string      `json:"key"`     // only of this key
	Product     string      `json:"product"` // only of this product
	From        events.Time `json:"from"`    // inclusive, from the beginning of its hour; default: all
	To          events.Time `json:"to"`      // exclusive, up to the end of the hour it lies in; default: now
	By          string      `json:"by"`      // hour, day (default), month or total
	Group       []string    `json:"group"`   // of key and product; of the whole ledger, account and product
}

// usageQuery is one usage.get.
type usageQuery struct {
	usageBody
	account string
	rows    map[usageID]*UsageCounts
	amounts int // in all rows
	read    int // rows of the archive
	first   events.Time
	failed  *events.Error
}

// usageID names a row.
type usageID struct {
	start                 events.Time
	account, key, product string
}

// getUsage answers usage.get. What was paid is in the archive, for good; refused and free
// requests are in the access log. The account "_" is all of them together.
func (s *Server) getUsage(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error) {
	q := &usageQuery{account: account, rows: map[usageID]*UsageCounts{}}
	if err := q.decode(body); err != nil {
		return nil, events.Position{}, err
	}
	known, refused := s.parts.views.Known(account)
	if refused != nil {
		return nil, events.Position{}, refused
	}
	if q.To == 0 {
		now := max(events.At(s.clock()), s.tail.End().Time)
		if q.To = hourOf(now) + archive.HourMS; q.From >= q.To {
			return nil, events.Position{}, errUsageSpan()
		}
	}
	at, err := s.parts.archive.Usage(ctx, known.Sequence, q.source(), q.From, q.To, q.paid)
	var since events.Time
	if err == nil {
		since, err = s.parts.access.Count(ctx, account, q.From, q.To, q.unpaid)
	}
	switch {
	case q.failed != nil:
		return nil, events.Position{}, q.failed
	case errors.As(err, &refused):
		return nil, events.Position{}, refused
	case errors.Is(err, archive.ErrBehind):
		return nil, events.Position{}, events.Errorf(events.Unavailable, "the archive has not come to position %s yet; try again", known)
	case err != nil:
		if ctx.Err() == nil {
			s.cfg.Logger.Warn("cannot count usage", "account", account, "error", err)
		}
		return nil, events.Position{}, events.Errorf(events.Unavailable, "usage could not be counted in time; try again, for a shorter span or with a longer %s", store.HeaderTimeout)
	}
	answer, refused := q.answer(since)
	return answer, at, refused
}

// clock is the wall clock.
func (s *Server) clock() time.Time {
	if s.cfg.Clock != nil {
		return s.cfg.Clock()
	}
	return time.Now()
}

// decode reads and checks the body.
func (q *usageQuery) decode(body []byte) *events.Error {
	if err := events.DecodeStrict(body, &q.usageBody); err != nil {
		return err
	}
	q.By = cmp.Or(q.By, byDay)
	groups := []string{groupKey, groupProduct}
	if q.account == archive.Ledger {
		groups = []string{groupAccount, groupProduct}
	}
	refuse := func(format string, args ...any) *events.Error {
		return events.Errorf(events.InvalidArgument, format, args...)
	}
	switch {
	case q.Environment != events.Test && q.Environment != events.Live:
		return refuse("environment must be test or live")
	case !slices.Contains([]string{byHour, byDay, byMonth, byTotal}, q.By):
		return refuse("by must be one of hour, day, month, total")
	case q.Product != "" && q.Product != access.OtherProducts && !events.ValidName(q.Product):
		return refuse("product must be 1 to 64 of a-z 0-9 _ -")
	case q.Key != "" && q.account == archive.Ledger:
		return refuse("a key is one account's: ask keyledger.query.<account>.usage.get")
	case q.From != 0 && q.To != 0 && q.From >= q.To:
		return errUsageSpan()
	}
	if id, ok := strings.CutPrefix(q.Key, "key_"); q.Key != "" {
		if _, err := ulid.ParseStrict(id); !ok || err != nil {
			return refuse("key must be a key id such as key_01J…")
		}
	}
	for i, name := range q.Group {
		if !slices.Contains(groups, name) || slices.Contains(q.Group[:i], name) {
			return refuse("group must be of %s, each once at most", strings.Join(groups, ", "))
		}
	}
	q.From = hourOf(q.From)
	if hour := hourOf(q.To); hour != q.To {
		q.To = min(hour+archive.HourMS, lastHour)
	}
	return nil
}

// lastHour is 9999-12-31T23:00:00Z, the last hour that RFC 3339 can name.
const lastHour = events.Time(253402300799999 / archive.HourMS * archive.HourMS)

func errUsageSpan() *events.Error {
	return events.Errorf(events.InvalidArgument, "from must be before to, which is now where it is left out")
}

// hourOf is the beginning of an hour.
func hourOf(at events.Time) events.Time { return at - at%archive.HourMS }

// source is whose rows the archive is asked for.
func (q *usageQuery) source() string {
	if q.account == archive.Ledger && slices.Contains(q.Group, groupAccount) {
		return archive.Accounts
	}
	return q.account
}

var errUsageLimit = errors.New("a limit of usage.get is reached")

// paid takes a row of the archive.
func (q *usageQuery) paid(r *archive.UsageRow) error {
	if q.read++; q.read > usageReadMax {
		q.exceed("more than %d rows would have to be read", usageReadMax)
		return errUsageLimit
	}
	counts := q.row(r.Hour, r.Environment, r.Key, r.Key, r.Product) // of archive.Accounts the key is the account
	if counts == nil {
		return q.err()
	}
	counts.Allowed = archive.AddUsage(counts.Allowed, r.Requests)
	add(q, &counts.Spent, r.Asset, r.Spent)
	add(q, &counts.Refunded, r.Asset, r.Refunded)
	return q.err()
}

// unpaid takes a record of the access log.
func (q *usageQuery) unpaid(r *access.Record) {
	r.EachProduct(func(product string, n int64) {
		counts := q.row(hourOf(r.Minute), r.Environment, r.Account, r.Key, product)
		switch {
		case counts == nil:
		case r.Outcome == access.Free:
			counts.Allowed = archive.AddUsage(counts.Allowed, n)
		default:
			counts.Refused = archive.AddUsage(counts.Refused, n)
			add(q, &counts.Refusals, r.Code, n)
		}
	})
}

// row is where something counts, nil for what was not asked for and behind a limit.
func (q *usageQuery) row(hour events.Time, environment, account, key, product string) *UsageCounts {
	if q.failed != nil || environment != q.Environment || q.Key != "" && key != q.Key || q.Product != "" && product != q.Product {
		return nil
	}
	if q.first == 0 || hour < q.first {
		q.first = hour
	}
	id := usageID{start: startOf(hour, q.By)}
	for _, name := range q.Group {
		switch name {
		case groupAccount:
			id.account = account
		case groupKey:
			id.key = key
		case groupProduct:
			id.product = product
		}
	}
	found := q.rows[id]
	if found == nil {
		if len(q.rows) == usageRowsMax {
			q.exceed("the answer would have more than %d rows", usageRowsMax)
			return nil
		}
		found = new(UsageCounts)
		q.rows[id] = found
	}
	return found
}

// startOf is where the hour, day or month of an hour began; all of a total begin at 0.
func startOf(hour events.Time, by string) events.Time {
	at := hour.Std()
	switch by {
	case byDay:
		return events.At(time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC))
	case byMonth:
		return events.At(time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC))
	case byTotal:
		return 0
	}
	return hour
}

// add adds to one of a row's amounts, which is there once it is more than nothing.
func add[Name ~string](q *usageQuery, to *map[Name]int64, name Name, n int64) {
	if n == 0 {
		return
	}
	if *to == nil {
		*to = map[Name]int64{}
	}
	before, known := (*to)[name]
	if !known {
		if q.amounts++; q.amounts > usageAmountsMax {
			q.exceed("the answer would have more than %d amounts", usageAmountsMax)
			return
		}
	}
	(*to)[name] = archive.AddUsage(before, n)
}

// exceed makes the query fail.
func (q *usageQuery) exceed(format string, args ...any) {
	if q.failed == nil {
		q.failed = events.Errorf(events.LimitExceeded, format+"; ask for a shorter span (from, to), by a longer time (by), or with a smaller group", args...)
	}
}

func (q *usageQuery) err() error {
	if q.failed != nil {
		return errUsageLimit
	}
	return nil
}

// answer makes the answer, encoded.
func (q *usageQuery) answer(since events.Time) (any, *events.Error) {
	a := Usage{Usage: make([]UsageRow, 0, len(q.rows)), From: cmp.Or(q.From, q.first), To: q.To, By: q.By, RefusalsSince: since}
	q.amounts = 0 // the totals have no more than the rows
	for id, counts := range q.rows {
		counts.Requests = archive.AddUsage(counts.Allowed, counts.Refused)
		a.Usage = append(a.Usage, UsageRow{Start: cmp.Or(id.start, a.From), Account: id.account, Key: id.key, Product: id.product, UsageCounts: *counts})
		a.Totals.Allowed = archive.AddUsage(a.Totals.Allowed, counts.Allowed)
		a.Totals.Refused = archive.AddUsage(a.Totals.Refused, counts.Refused)
		for code, n := range counts.Refusals {
			add(q, &a.Totals.Refusals, code, n)
		}
		for asset, n := range counts.Spent {
			add(q, &a.Totals.Spent, asset, n)
		}
		for asset, n := range counts.Refunded {
			add(q, &a.Totals.Refunded, asset, n)
		}
	}
	a.Totals.Requests = archive.AddUsage(a.Totals.Allowed, a.Totals.Refused)
	slices.SortFunc(a.Usage, func(a, b UsageRow) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), strings.Compare(a.Account, b.Account), strings.Compare(a.Key, b.Key), strings.Compare(a.Product, b.Product))
	})
	encoded, err := events.Encode(&a)
	if err != nil {
		return nil, events.Errorf(events.Unavailable, "the answer could not be encoded")
	}
	if len(encoded) > usageBytesMax {
		q.exceed("the answer would have %d bytes, more than %d", len(encoded), usageBytesMax)
		return nil, q.failed
	}
	return events.Object(encoded), nil
}
