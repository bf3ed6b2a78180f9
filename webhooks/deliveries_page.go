package webhooks

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// Prefixes of the ids that deliveries are looked for by; a ULID follows.
const (
	keyIDPrefix    = "key_"
	replayIDPrefix = "replay_"
)

// anyReplay stands for every replay's id in a filter.
const anyReplay = "*"

// deliveriesBody is the body of delivery.list. All members are optional.
type deliveriesBody struct {
	Endpoint string        `json:"endpoint"`
	Status   DeliveryState `json:"status"`
	Type     string        `json:"type"`   // a type of event, or a filter such as credit.*
	Key      string        `json:"key"`    // that the event is about
	Replay   string        `json:"replay"` // a replay's id: what it sent; anyReplay: what one sent
	// The last attempt was not before FromTime and is before ToTime. A delivery that was
	// never tried has none.
	FromTime events.Time `json:"from_time"`
	ToTime   events.Time `json:"to_time"`
	Cursor   string      `json:"cursor"`
	Limit    *int64      `json:"limit"` // 1 to 500, default 50
}

// page is one delivery.list.
type page struct {
	deliveriesBody
	account string
	types   map[string]bool // CloudEvent types that pass; nil: all
	limit   int
	from    cursor
	out     Deliveries
	next    cursor // the last row's, once the page is full
}

// cursor names the row behind which a page begins: a pending one by its place in the
// feed, its endpoint's registration and the replay's event, 0 for none; or a settled one by
// its record. The zero cursor is the beginning.
type cursor struct {
	feed, registered, asked uint64 // pending
	record                  uint64 // settled: sequence in the attempts stream
}

// compare orders pending rows, newest event first.
func (c cursor) compare(other cursor) int {
	return cmp.Or(cmp.Compare(other.feed, c.feed), cmp.Compare(other.registered, c.registered), cmp.Compare(other.asked, c.asked))
}

func newPage(account string, text []byte) (*page, *events.Error) {
	p := &page{account: account, limit: deliveriesDefault}
	if err := events.DecodeStrict(text, &p.deliveriesBody); err != nil {
		return nil, err
	}
	p.out.Deliveries = []Delivery{}
	if err := p.filters(); err != nil {
		return nil, err
	}
	if p.Limit != nil {
		if *p.Limit < 1 || *p.Limit > deliveriesMax {
			return nil, events.Errorf(events.InvalidArgument, "limit must be from 1 to %d", deliveriesMax)
		}
		p.limit = int(*p.Limit)
	}
	if p.Cursor != "" {
		var ok bool
		p.from, ok = parseCursor(p.Cursor)
		ok = ok && (p.Status == "" || (p.Status == StatePending) == (p.from.record == 0))
		if !ok {
			return nil, events.Errorf(events.InvalidArgument, "cursor must be the next_cursor of an earlier page of the same list")
		}
	}
	return p, nil
}

// filters checks what is to pass.
func (p *page) filters() *events.Error {
	switch p.Status {
	case "", StatePending, StateDelivered, StateDead:
	default:
		return events.Errorf(events.InvalidArgument, "status must be one of pending, delivered, dead")
	}
	switch {
	case p.Type != "" && !events.ValidFilter(p.Type):
		return events.Errorf(events.InvalidArgument, "type must be a type of event such as credit.debited, or a filter such as credit.*")
	case p.Key != "" && !hasID(p.Key, keyIDPrefix):
		return events.Errorf(events.InvalidArgument, "key must be a key id such as %s01J…", keyIDPrefix)
	case p.Replay != "" && p.Replay != anyReplay && !hasID(p.Replay, replayIDPrefix):
		return events.Errorf(events.InvalidArgument, "replay must be a replay's id such as %s01J…, or %s for any", replayIDPrefix, anyReplay)
	case p.FromTime != 0 && p.ToTime != 0 && p.FromTime >= p.ToTime:
		return events.Errorf(events.InvalidArgument, "from_time must be before to_time")
	}
	if p.Type != "" {
		p.types = map[string]bool{}
		for i := range events.Catalog {
			if kind := &events.Catalog[i]; events.Matches(p.Type, kind.Name) {
				p.types[kind.CloudEventType()] = true
			}
		}
	}
	return nil
}

// hasID says whether a text is a prefix and a ULID.
func hasID(text, prefix string) bool {
	id, ok := strings.CutPrefix(text, prefix)
	_, err := ulid.ParseStrict(id)
	return ok && err == nil
}

// passes says whether a row is one of those that are asked for.
func (p *page) passes(row *Delivery) bool {
	return (p.Status == "" || p.Status == row.Status) && p.inTime(row.LastAttemptAt) &&
		(p.types == nil || p.types[row.Type]) && (p.Key == "" || p.Key == row.Key) &&
		(p.Replay == "" || row.Replay != nil && (p.Replay == anyReplay || p.Replay == *row.Replay))
}

// inTime says whether the last attempt, 0 for none, is in the span that is asked for.
func (p *page) inTime(last events.Time) bool {
	return (p.FromTime == 0 || last >= p.FromTime) && (p.ToTime == 0 || last != 0 && last < p.ToTime)
}

// String returns the cursor as the outside sees it: opaque.
func (c cursor) String() string {
	text := fmt.Sprintf("p%d.%d.%d", c.feed, c.registered, c.asked)
	if c.record > 0 {
		text = fmt.Sprintf("a%d", c.record)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// parseCursor reads what String writes, and nothing else.
func parseCursor(text string) (c cursor, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) == 0 {
		return cursor{}, false
	}
	if b[0] == 'a' {
		_, err = fmt.Sscanf(string(b), "a%d", &c.record)
	} else {
		_, err = fmt.Sscanf(string(b), "p%d.%d.%d", &c.feed, &c.registered, &c.asked)
	}
	return c, err == nil && c.String() == text && c != cursor{}
}

// room is how many rows still fit; -1: another one was found and the page is done.
func (p *page) room() int {
	if p.out.NextCursor != nil {
		return -1
	}
	return p.limit - len(p.out.Deliveries)
}

// end says that more rows may follow.
func (p *page) end() {
	text := p.next.String()
	p.out.NextCursor = &text
}

// add takes a row in, or ends the page.
func (p *page) add(row Delivery, at cursor) {
	if p.room() == 0 {
		p.end()
		return
	}
	p.out.Deliveries, p.next = append(p.out.Deliveries, row), at
}
