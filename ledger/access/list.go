package access

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Limits of access.list.
const (
	listDefault = 50
	listMax     = 500
	// listScan is how many stored records one access.list looks at. A page whose filter
	// passes over more ends early, with a cursor to go on from.
	listScan = 20_000
)

// keyIDPrefix is what every key id begins with; a ULID follows.
const keyIDPrefix = "key_"

// Listed answers access.list: first what is still counted or waits to be stored, then
// what is stored, each newest first.
type Listed struct {
	Records    []Record `json:"records"`
	NextCursor *string  `json:"next_cursor"`
}

// listBody is the body of access.list. All members are optional.
type listBody struct {
	Key  string      `json:"key"`
	Code events.Code `json:"code"`
	// A record is listed if any of its time, from the beginning of its minute to last_at,
	// is not before FromTime and is before ToTime.
	FromTime events.Time `json:"from_time"`
	ToTime   events.Time `json:"to_time"`
	Cursor   string      `json:"cursor"`
	Limit    *int64      `json:"limit"` // 1 to 500, default 50
}

// page is one access.list.
type page struct {
	listBody
	account string
	limit   int
	from    cursor
	out     Listed
	next    cursor // behind the last row
}

// cursor is where a page begins: behind the held record top, or where before is not 0
// with the stored records before that sequence. Records whose id is not below top were
// listed as held before they were stored. The zero cursor is the beginning.
type cursor struct {
	top    ulid.ULID
	before uint64
}

// List answers access.list for an account, "_" for unknown secrets and what was folded
// last. Body is JSON; an empty one counts as {}. Stored records appear once they are, and
// are kept for a time and in a number of bytes.
func (l *Log) List(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error) {
	p, refused := newPage(account, body)
	if refused != nil {
		return nil, events.Position{}, refused
	}
	at, refused := l.cfg.Known(account)
	if refused != nil {
		return nil, events.Position{}, refused
	}
	if p.from.before == 0 {
		l.listHeld(p)
	}
	if p.out.NextCursor == nil {
		if refused := store.TurnOf(ctx).Read(ctx); refused != nil {
			return nil, events.Position{}, refused
		}
		if err := l.listStored(ctx, p); err != nil {
			l.cfg.Logger.Warn("cannot list the access log", "error", err)
			return nil, events.Position{}, events.Errorf(events.Unavailable, "the access log cannot be read at the moment; try again")
		}
	}
	return &p.out, at, nil
}

func newPage(account string, text []byte) (*page, *events.Error) {
	p := &page{account: account, limit: listDefault}
	if err := events.DecodeStrict(text, &p.listBody); err != nil {
		return nil, err
	}
	p.out.Records = []Record{}
	if p.Key != "" {
		id, ok := strings.CutPrefix(p.Key, keyIDPrefix)
		if _, err := ulid.ParseStrict(id); !ok || err != nil {
			return nil, events.Errorf(events.InvalidArgument, "key must be a key id such as %s01J…", keyIDPrefix)
		}
	}
	if p.Code != "" && p.Code.Status() == (events.Code("")).Status() {
		return nil, events.Errorf(events.InvalidArgument, "code must be one of an answer, such as ok, key_not_found or ip_not_allowed")
	}
	if p.FromTime != 0 && p.ToTime != 0 && p.FromTime >= p.ToTime {
		return nil, events.Errorf(events.InvalidArgument, "from_time must be before to_time")
	}
	if p.Limit != nil {
		if *p.Limit < 1 || *p.Limit > listMax {
			return nil, events.Errorf(events.InvalidArgument, "limit must be from 1 to %d", listMax)
		}
		p.limit = int(*p.Limit)
	}
	if p.Cursor != "" {
		var ok bool
		if p.from, ok = parseCursor(p.Cursor); !ok {
			return nil, events.Errorf(events.InvalidArgument, "cursor must be the next_cursor of an earlier page of the same list")
		}
	}
	p.next = p.from
	return p, nil
}

// String returns the cursor as the outside sees it: opaque.
func (c cursor) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s.%d", c.top, c.before))
}

// parseCursor reads what String writes, and nothing else.
func parseCursor(text string) (c cursor, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return cursor{}, false
	}
	top, before, _ := strings.Cut(string(b), ".")
	if c.top, err = ulid.ParseStrict(top); err != nil {
		return cursor{}, false
	}
	c.before, err = strconv.ParseUint(before, 10, 64)
	return c, err == nil && c.String() == text && c != cursor{}
}

// listed says whether a record was listed as held on this page or an earlier one.
func (c cursor) listed(id ulid.ULID) bool { return c.top != ulid.ULID{} && id.Compare(c.top) >= 0 }

// end says that more rows follow.
func (p *page) end() {
	text := p.next.String()
	p.out.NextCursor = &text
}

// listHeld adds what is held. A cell that is stored meanwhile is not listed again.
func (l *Log) listHeld(p *page) {
	var found []*cell
	oldest, held := l.cells.newest(func(c *cell) {
		if c.Account == p.account && p.names(&c.Record) && !p.from.listed(c.ID) {
			found = append(found, c)
		}
	})
	for some := range slices.Chunk(found, listMax) { // few at once: who counts waits for them
		for _, r := range l.cells.copies(some) {
			if !p.within(&r) {
				continue
			}
			if len(p.out.Records) == p.limit {
				p.end()
				return
			}
			p.out.Records, p.next.top = append(p.out.Records, r), r.ID
		}
	}
	if held && !p.next.listed(oldest) {
		p.next.top = oldest
	}
}

// names says whether key and code are those that are asked for.
func (p *page) names(r *Record) bool {
	return (p.Key == "" || r.Key == p.Key) && (p.Code == "" || r.Code == p.Code)
}

// within says whether the time is what is asked for.
func (p *page) within(r *Record) bool {
	return r.LastAt >= p.FromTime && (p.ToTime == 0 || r.Minute < p.ToTime)
}

// listStored adds what the stream holds.
func (l *Log) listStored(ctx context.Context, p *page) error {
	code := string(p.Code)
	if code == "" {
		code = "*"
	}
	scan, err := store.NewScan(ctx, l.js, store.StreamAccess, store.SubjectAccess+p.account+"."+code)
	if err != nil {
		return err
	}
	before := uint64(math.MaxUint64)
	if p.from.before > 0 {
		before = p.from.before
	}
	looked := 0
	return scan.Backwards(ctx, before, p.limit, func(m *store.Scanned) (bool, error) {
		if p.FromTime != 0 && events.At(m.Stored) < p.FromTime {
			return false, nil // nothing that happened later was stored before it
		}
		var r Record
		if err := json.Unmarshal(m.Data, &r); err != nil {
			return false, fmt.Errorf("record %d: %w", m.Sequence, err)
		}
		if looked++; looked > l.scan {
			p.next.before = m.Sequence + 1
			p.end()
			return false, nil
		}
		if !p.names(&r) || !p.within(&r) || p.next.listed(r.ID) {
			return true, nil
		}
		if len(p.out.Records) == p.limit {
			p.next.before = m.Sequence + 1
			p.end()
			return false, nil
		}
		p.out.Records = append(p.out.Records, r)
		return true, nil
	})
}
