package archive

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// HourMS is the milliseconds of an hour, the grain of usage.
const HourMS = 3_600_000

// What stands for the whole ledger where an account is asked for. Neither can be an
// account's id.
const (
	Ledger   = "_"          // all accounts together, without their keys
	Accounts = "_/accounts" // likewise, with the account in the place of the key
)

// UsageRow is what one key used in one hour, for one product and in one asset. Key and
// Product are "" where the movement named none. The hour is that of the commit: a refund
// counts when it was made, not when the debit was.
type UsageRow struct {
	Hour        events.Time // when it began, UTC
	Environment string
	Key         string
	Product     string
	Asset       string
	UsageSums
}

// UsageSums is what a row counts. What would be more than an int64 holds stays at that.
type UsageSums struct {
	Requests int64 // authorisations that paid
	Spent    int64 // by debits and captures of every kind, in the asset's smallest unit
	Refunded int64 // of such, likewise
}

// Add adds other sums. In which order rows are added makes no difference.
func (s *UsageSums) Add(other *UsageSums) {
	s.Requests = AddUsage(s.Requests, other.Requests)
	s.Spent = AddUsage(s.Spent, other.Spent)
	s.Refunded = AddUsage(s.Refunded, other.Refunded)
}

// AddUsage adds two sums that are not negative, up to the most that an int64 holds.
func AddUsage(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// series is all that stays the same from hour to hour.
type series struct{ environment, key, product, asset string }

// usageID names a row of an account.
type usageID struct {
	hour int64 // since 1970
	series
}

// usageRow is a row of an account.
type usageRow struct {
	usageID
	UsageSums
}

// usageRows is the rows of an account, in any order.
type usageRows struct {
	list  []usageRow
	index map[usageID]int // where each is in list; nil while there are few
}

// usageIndexed is from how many rows on they have an index. Most accounts have a row or two,
// for which a map would take several times their room.
const usageIndexed = 16

// usage is the part that counts what was used. Its chunks have the form of appendUsage.
type usage struct {
	of    map[string]*usageRows
	words map[string]string // every string of the rows, once
}

func openUsage() part { return &usage{map[string]*usageRows{}, map[string]string{}} }

// add implements part.
func (u *usage) add(c *store.Commit, _ int, e *events.Event) {
	id, sums, ok := usageOf(e)
	if !ok {
		return
	}
	id.hour = int64(c.Time) / HourMS
	for _, text := range []*string{&id.environment, &id.key, &id.product, &id.asset} {
		*text = u.word(*text)
	}
	account := u.word(e.Account)
	u.row(account).add(&id, &sums)
	id.key = account
	u.row(Accounts).add(&id, &sums)
	id.key = ""
	u.row(Ledger).add(&id, &sums)
}

// word returns a copy of a string, the same each time: those of an event pin its commit.
func (u *usage) word(text string) string {
	own, ok := u.words[text]
	if !ok {
		own = strings.Clone(text)
		u.words[own] = own
	}
	return own
}

// usageOf is what an event counts as.
func usageOf(e *events.Event) (id usageID, sums UsageSums, ok bool) {
	switch d := e.Data.(type) {
	case *events.Debited:
		id.series, sums.Spent = series{d.Balance.Environment, d.Key, d.Product, d.Balance.Asset}, d.Amount
		if d.SecretAge != "" || len(d.Signature) > 0 { // a key asked, by its secret or a signature
			sums.Requests = 1
		}
	case *events.Held:
		if d.Capture == nil {
			return id, sums, false
		}
		id.series, sums.Spent = series{d.Balance.Environment, d.Key, "", d.Balance.Asset}, d.Capture.Amount
	case *events.Refunded:
		id.series, sums.Refunded = series{d.Balance.Environment, d.Key, d.Product, d.Balance.Asset}, d.Amount
	default:
		return id, sums, false
	}
	return id, sums, true
}

func (u *usage) row(account string) *usageRows {
	rows := u.of[account]
	if rows == nil {
		rows = new(usageRows)
		u.of[account] = rows
	}
	return rows
}

// add counts. The id's strings are kept.
func (r *usageRows) add(id *usageID, sums *UsageSums) {
	i := r.find(id)
	if i < 0 {
		r.list = append(r.list, usageRow{usageID: *id})
		i = len(r.list) - 1
		if r.index != nil {
			r.index[*id] = i
		}
	}
	r.list[i].Add(sums)
}

// find returns where a row is, -1 where there is none.
func (r *usageRows) find(id *usageID) int {
	if len(r.list) < usageIndexed {
		return slices.IndexFunc(r.list, func(row usageRow) bool { return row.usageID == *id })
	}
	if r.index == nil {
		r.index = make(map[usageID]int, 2*usageIndexed)
		for i := range r.list {
			r.index[r.list[i].usageID] = i
		}
	}
	if i, ok := r.index[*id]; ok {
		return i
	}
	return -1
}

// accounts implements part.
func (u *usage) accounts() iter.Seq[string] { return maps.Keys(u.of) }

// append implements part.
func (u *usage) append(b []byte, account string) []byte {
	if rows := u.of[account]; rows != nil {
		return appendUsage(b, rows)
	}
	return b
}

// Usage calls f for the rows of an account, Ledger or Accounts, whose hours begin at from or
// later and before to, oldest first, and returns the position that is true at: it waits until
// the archive has the commit at sequence. There may be
// several rows of the same hour and names, which add up. The row is f's until it returns; its
// strings are f's to keep. The error is f's, ctx's, that of Wait or of the query's turn, or of
// a file that is damaged, which will be made again.
func (a *Archive) Usage(ctx context.Context, sequence uint64, account string, from, to events.Time, f func(*UsageRow) error) (events.Position, error) {
	r, err := a.readAt(ctx, account, usagePart, sequence)
	if err != nil {
		return events.Position{}, err
	}
	defer r.close()
	inside := func(begin, end place) bool { return end.time >= from && begin.time < to }
	for chunk, err := range r.chunks(false, inside) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = readUsage(chunk, from, to, f)
		}
		if err != nil {
			return events.Position{}, fmt.Errorf("read the usage of account %s: %w", account, err)
		}
	}
	return r.at.Position(), nil
}

// joinUsage is what several chunks of an account say together: the same bytes as one
// chunk of the whole span.
func joinUsage(b []byte, chunks [][]byte) ([]byte, error) {
	var rows usageRows
	for _, chunk := range chunks {
		err := readUsage(chunk, math.MinInt64, math.MaxInt64, func(r *UsageRow) error {
			rows.add(&usageID{int64(r.Hour) / HourMS, series{r.Environment, r.Key, r.Product, r.Asset}}, &r.UsageSums)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return appendUsage(b, &rows), nil
}

// sorted is the rows by hour, and within one by name.
func (r *usageRows) sorted() []usageRow {
	list := slices.Clone(r.list)
	slices.SortFunc(list, func(a, b usageRow) int {
		return cmp.Or(cmp.Compare(a.hour, b.hour), strings.Compare(a.environment, b.environment),
			strings.Compare(a.key, b.key), strings.Compare(a.product, b.product), strings.Compare(a.asset, b.asset))
	})
	return list
}
