package webhooks

import (
	"cmp"
	"context"
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Limits of delivery.list.
const (
	deliveriesDefault = 50
	deliveriesMax     = 500
	// deliveriesScan is how many attempt records one delivery.list looks at. A page
	// whose filter passes over more ends early, with a cursor to go on from.
	deliveriesScan = 20_000
	// deliveriesAgain is how many records before a page are searched for newer records
	// of its deliveries.
	deliveriesAgain = 1000
)

// QueryFunc answers one verb about an account. Body is JSON; an empty one counts as {}.
// The position is that of the last commit that was folded.
type QueryFunc func(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error)

// Queries is the query table: verb to function.
func (d *Dispatcher) Queries() map[string]QueryFunc {
	return map[string]QueryFunc{"delivery.list": d.listDeliveries, "endpoint.doctor": d.doctor}
}

// Delivery is one event owed to one endpoint, as delivery.list shows it.
type Delivery struct {
	Event         string        `json:"event"` // the event's id, which is the webhook-id
	Type          string        `json:"type"`  // as in the CloudEvent
	Endpoint      string        `json:"endpoint"`
	Status        DeliveryState `json:"status"`
	Attempts      int           `json:"attempts"` // that ended
	Position      string        `json:"position"` // of the event in the log
	Sequence      string        `json:"sequence"` // its number at the endpoint, as in the CloudEvent
	LastAttemptAt events.Time   `json:"last_attempt_at"`
	NextAttemptAt events.Time   `json:"next_attempt_at"`
	StatusCode    *int          `json:"status_code"` // of the last attempt, null without an answer
	Error         *string       `json:"error"`       // phase and text, null where there was a whole answer
}

// Deliveries answers delivery.list: first what is pending, newest event first, then what
// is settled, newest attempt first.
//
// Of the pending only those are listed that are in memory: tried ones, and the next ones
// of each endpoint; Pending counts all. Settled ones are found in the records of
// attempts, which are stored some milliseconds later and kept for a time; one whose last
// record was lost in a crash is not listed.
type Deliveries struct {
	Deliveries []Delivery `json:"deliveries"`
	Pending    uint64     `json:"pending"` // of the endpoint, or of all of the account's
	NextCursor *string    `json:"next_cursor"`
}

// deliveriesBody is the body of delivery.list. All members are optional.
type deliveriesBody struct {
	Endpoint string        `json:"endpoint"`
	Status   DeliveryState `json:"status"`
	Cursor   string        `json:"cursor"`
	Limit    *int64        `json:"limit"` // 1 to 500, default 50
}

// page is one delivery.list.
type page struct {
	account, endpoint string
	status            DeliveryState // "" for all
	limit             int
	from              cursor
	out               Deliveries
	next              cursor // the last row's, once the page is full
}

// cursor names the row behind which a page begins: a pending one by its place in the
// feed and its endpoint's registration, or a settled one by its record. The zero cursor
// is the beginning.
type cursor struct {
	feed, registered uint64 // pending
	record           uint64 // settled: sequence in the attempts stream
}

func (d *Dispatcher) listDeliveries(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error) {
	p, refused := newPage(account, body)
	if refused != nil {
		return nil, events.Position{}, refused
	}
	if _, refused := d.cfg.Known(account); refused != nil {
		return nil, events.Position{}, refused
	}
	rows, at, refused := d.pendingRows(p)
	if refused != nil {
		return nil, events.Position{}, refused
	}
	if refused := store.TurnOf(ctx).Read(ctx); refused != nil {
		return nil, events.Position{}, refused
	}
	if err := d.listPending(ctx, p, rows); err != nil {
		return nil, events.Position{}, d.cannotList(err)
	}
	if p.status != StatePending && p.room() >= 0 {
		if err := d.listSettled(ctx, p); err != nil {
			return nil, events.Position{}, d.cannotList(err)
		}
	}
	return &p.out, at, nil
}

func (d *Dispatcher) cannotList(err error) *events.Error {
	d.cfg.Logger.Warn("cannot list deliveries", "error", err)
	return events.Errorf(events.Unavailable, "the deliveries cannot be read at the moment; try again")
}

func newPage(account string, text []byte) (*page, *events.Error) {
	var body deliveriesBody
	if err := events.DecodeStrict(text, &body); err != nil {
		return nil, err
	}
	p := &page{account: account, endpoint: body.Endpoint, status: body.Status, limit: deliveriesDefault}
	p.out.Deliveries = []Delivery{}
	switch body.Status {
	case "", StatePending, StateDelivered, StateDead:
	default:
		return nil, events.Errorf(events.InvalidArgument, "status must be one of pending, delivered, dead")
	}
	if body.Limit != nil {
		if *body.Limit < 1 || *body.Limit > deliveriesMax {
			return nil, events.Errorf(events.InvalidArgument, "limit must be from 1 to %d", deliveriesMax)
		}
		p.limit = int(*body.Limit)
	}
	if body.Cursor != "" {
		var ok bool
		p.from, ok = parseCursor(body.Cursor)
		ok = ok && (p.status == "" || (p.status == StatePending) == (p.from.record == 0))
		if !ok {
			return nil, events.Errorf(events.InvalidArgument, "cursor must be the next_cursor of an earlier page of the same list")
		}
	}
	return p, nil
}

// String returns the cursor as the outside sees it: opaque.
func (c cursor) String() string {
	text := "p" + strconv.FormatUint(c.feed, 10) + "." + strconv.FormatUint(c.registered, 10)
	if c.record > 0 {
		text = "a" + strconv.FormatUint(c.record, 10)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// parseCursor reads what String writes, and nothing else.
func parseCursor(text string) (c cursor, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) == 0 {
		return cursor{}, false
	}
	first, second, _ := strings.Cut(string(b[1:]), ".")
	if b[0] == 'a' {
		c.record, err = strconv.ParseUint(first, 10, 64)
	} else if c.feed, err = strconv.ParseUint(first, 10, 64); err == nil {
		c.registered, err = strconv.ParseUint(second, 10, 64)
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

// end says that more rows follow.
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

// pendingRow is a pending delivery in memory.
type pendingRow struct {
	delivery
	endpoint   string
	registered uint64
}

// pendingRows notes what is pending, newest first, and checks the endpoint in a query.
func (d *Dispatcher) pendingRows(p *page) ([]pendingRow, events.Position, *events.Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.live {
		return nil, events.Position{}, events.Errorf(events.Unavailable, "webhooks still read the log, up to %s; try again", d.read.Position())
	}
	list := d.directory[p.account]
	if p.endpoint != "" {
		s := d.directory.find(p.account, p.endpoint)
		if s == nil {
			return nil, events.Position{}, events.Errorf(events.NotFound, "account %s has no endpoint %s", p.account, p.endpoint)
		}
		list = []*subscriber{s}
	}
	var rows []pendingRow
	for _, s := range list {
		l := d.lanes[s.endpoint.ID]
		if l.rereads() {
			return nil, events.Position{}, events.Errorf(events.Unavailable, "webhooks still read again what endpoint %s was owed before the start; try again", s.endpoint.ID)
		}
		p.out.Pending += l.pending()
		if p.status != "" && p.status != StatePending || p.from.record > 0 {
			continue
		}
		row := pendingRow{endpoint: s.endpoint.ID, registered: s.registered}
		for _, p := range l.untried() {
			row.delivery.entry = p.entry
			rows = append(rows, row)
		}
		for _, o := range l.open {
			row.delivery = *o
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b pendingRow) int {
		return cmp.Or(cmp.Compare(b.feed, a.feed), cmp.Compare(b.registered, a.registered))
	})
	return rows, d.read.Position(), nil
}

// listPending adds the rows behind the cursor. The ids and types stand in the log.
func (d *Dispatcher) listPending(ctx context.Context, p *page, rows []pendingRow) error {
	for i := range rows {
		r := &rows[i]
		if from := p.from; from.feed > 0 && (r.feed > from.feed || r.feed == from.feed && r.registered >= from.registered) {
			continue
		}
		if p.room() == 0 {
			p.end()
			return nil
		}
		e, err := d.event(ctx, p.account, r.entry)
		if err != nil {
			return err
		}
		row := Delivery{
			Event: e.ID.String(), Type: events.Lookup(e.Type).CloudEventType(), Endpoint: r.endpoint, Status: StatePending,
			Attempts: r.tries, Position: e.Position.String(), Sequence: e.Sequence, LastAttemptAt: r.last,
		}
		if r.tries > 0 && !r.flying {
			row.NextAttemptAt = roundUp(r.next)
		}
		if r.status != 0 {
			row.StatusCode = &r.status
		}
		if r.reason != "" {
			row.Error = &r.reason
		}
		p.add(row, cursor{feed: r.feed, registered: r.registered})
	}
	return nil
}

// listSettled adds what the records of attempts say, newest first. Of each delivery the
// newest record counts, and none of one that is pending.
func (d *Dispatcher) listSettled(ctx context.Context, p *page) error {
	scan, err := d.newScan(ctx, p.account, p.endpoint)
	if err != nil {
		return err
	}
	type name struct{ endpoint, event string }
	seen := map[name]bool{}
	before := uint64(math.MaxUint64)
	if p.from.record > 0 {
		before = p.from.record
		err := scan.window(ctx, before, min(before, math.MaxUint64-deliveriesAgain)+deliveriesAgain, func(r *scanned) {
			seen[name{r.Endpoint, r.Event}] = seen[name{r.Endpoint, r.Event}] || !r.aside()
		})
		if err != nil {
			return err
		}
	}
	looked := 0
	return scan.backwards(ctx, before, p.limit, func(r *scanned) bool {
		if looked++; looked > deliveriesScan {
			// The page ends here, wherever its last row was.
			p.next = cursor{record: r.at + 1}
			p.end()
			return false
		}
		this := name{r.Endpoint, r.Event}
		if seen[this] || r.aside() {
			return true
		}
		seen[this] = true
		status := r.state()
		if status == "" || p.status != "" && p.status != status || d.isPending(r.Endpoint, r.Sequence) {
			return true
		}
		if p.room() == 0 && p.next.record == 0 {
			p.next = cursor{record: r.at + 1} // the page before this row ended with a pending one
		}
		p.add(r.delivery(status), cursor{record: r.at})
		return p.room() >= 0
	})
}

// isPending says whether a delivery is in an endpoint's lane, or still behind it: a
// crash can make one so again that was recorded as settled.
func (d *Dispatcher) isPending(endpoint, sequence string) bool {
	number, err := strconv.ParseUint(sequence, 10, 64)
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lanes[endpoint]
	if l == nil || err != nil {
		return false
	}
	if number >= l.started(0).number {
		return true
	}
	for _, o := range l.open {
		if o.number == number {
			return true
		}
	}
	return slices.ContainsFunc(l.untried(), func(p place) bool { return p.number == number })
}
