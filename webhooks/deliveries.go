package webhooks

import (
	"context"
	"math"
	"slices"
	"strconv"
	"time"

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
	// deliveriesPending is how many pending deliveries one delivery.list looks at, each by
	// its event in the log, likewise.
	deliveriesPending = 1000
	// deliveriesLate is how much later than it began an attempt is recorded, at the most: its
	// timeout, and the time until the record is stored.
	deliveriesLate = 2 * time.Minute
)

// QueryFunc answers one verb about an account. Body is JSON; an empty one counts as {}.
// The position is that of the last commit that was folded.
type QueryFunc func(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error)

// Queries is the query table: verb to function.
func (d *Dispatcher) Queries() map[string]QueryFunc {
	return map[string]QueryFunc{
		"delivery.list": d.listDeliveries, "delivery.get": d.getDelivery, "endpoint.doctor": d.doctor, "endpoint.status": d.endpointStatus,
	}
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
	Key           string        `json:"key"`      // that the event is about, "" for none
	Replay        *string       `json:"replay"`   // the replay that it is of, null for none
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
// record was lost in a crash is not listed. What a replay delivered again is a row of its own.
type Deliveries struct {
	Deliveries []Delivery `json:"deliveries"`
	Pending    uint64     `json:"pending"` // of the endpoint, or of all of the account's
	NextCursor *string    `json:"next_cursor"`
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
	if p.Status != StatePending && p.room() >= 0 {
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

// pendingRow is a pending delivery in memory.
type pendingRow struct {
	delivery
	endpoint string
	at       cursor
}

// pendingRows appends what is pending in the lane's memory.
func (l *lane) pendingRows(rows []pendingRow) []pendingRow {
	add := func(o delivery) {
		at := cursor{feed: o.feed, registered: l.registered}
		if o.replay != nil {
			at.asked = o.replay.asked
		}
		rows = append(rows, pendingRow{o, l.endpoint.ID, at})
	}
	for _, p := range l.untried() {
		add(delivery{entry: p.entry})
	}
	for _, o := range l.open {
		add(*o)
	}
	for _, r := range l.replays {
		for _, e := range r.ahead {
			add(delivery{entry: e, replay: r})
		}
		for _, o := range r.open {
			add(*o)
		}
	}
	return rows
}

// pendingRows notes what is pending, newest first, and checks the endpoint in a query.
func (d *Dispatcher) pendingRows(p *page) ([]pendingRow, events.Position, *events.Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.live {
		return nil, events.Position{}, events.Errorf(events.Unavailable, "webhooks still read the log, up to %s; try again", d.read.Position())
	}
	list := d.directory[p.account]
	if p.Endpoint != "" {
		s := d.directory.find(p.account, p.Endpoint)
		if s == nil {
			return nil, events.Position{}, events.Errorf(events.NotFound, "account %s has no endpoint %s", p.account, p.Endpoint)
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
		if p.Status != "" && p.Status != StatePending || p.from.record > 0 {
			continue
		}
		rows = l.pendingRows(rows)
	}
	slices.SortFunc(rows, func(a, b pendingRow) int { return a.at.compare(b.at) })
	return rows, d.read.Position(), nil
}

// listPending adds the rows behind the cursor.
func (d *Dispatcher) listPending(ctx context.Context, p *page, rows []pendingRow) error {
	looked := 0
	for i := range rows {
		r := &rows[i]
		if p.from.feed > 0 && r.at.compare(p.from) <= 0 {
			continue
		}
		if p.room() == 0 || looked == deliveriesPending {
			p.end()
			return nil
		}
		if !p.inTime(r.last) {
			p.next = r.at
			continue
		}
		looked++
		row, err := d.pendingDelivery(ctx, p.account, r)
		if err != nil {
			return err
		}
		if p.next = r.at; p.passes(&row) {
			p.add(row, r.at)
		}
	}
	return nil
}

// pendingDelivery is the row of a pending delivery. Its event stands in the log.
func (d *Dispatcher) pendingDelivery(ctx context.Context, account string, r *pendingRow) (Delivery, error) {
	e, err := d.event(ctx, account, r.entry)
	if err != nil {
		return Delivery{}, err
	}
	row := Delivery{
		Event: e.ID.String(), Type: events.Lookup(e.Type).CloudEventType(), Endpoint: r.endpoint, Status: StatePending,
		Attempts: r.tries, Position: e.Position.String(), Sequence: e.Sequence, Key: events.KeyOf(&e.Event), LastAttemptAt: r.last,
	}
	if r.tries > 0 && !r.flying {
		row.NextAttemptAt = roundUp(r.next)
	}
	if r.replay != nil {
		row.Replay = &r.replay.request.ID
	}
	if r.status != 0 {
		row.StatusCode = &r.status
	}
	if r.reason != "" {
		row.Error = &r.reason
	}
	return row, nil
}

// deliveryName names a delivery in the records.
type deliveryName struct{ endpoint, event, replay string }

// listSettled adds what the records of attempts say, newest first. Of each delivery the
// newest record that says how it ended counts, and none of one that is pending.
func (d *Dispatcher) listSettled(ctx context.Context, p *page) error {
	scan, err := d.newScan(ctx, p.account, p.Endpoint)
	if err != nil {
		return err
	}
	before := uint64(math.MaxUint64)
	if p.from.record > 0 {
		before = p.from.record
	} else if p.ToTime != 0 {
		if before, err = scan.Since(ctx, p.ToTime.Std().Add(deliveriesLate)); err != nil {
			return err
		}
	}
	seen := map[deliveryName]bool{}
	err = scan.window(ctx, before, min(before, math.MaxUint64-deliveriesAgain)+deliveriesAgain, func(r *scanned) { seen[r.name()] = seen[r.name()] || r.state() != "" })
	if err != nil {
		return err
	}
	looked := 0
	return scan.backwards(ctx, before, p.limit, func(r *scanned) bool {
		if p.FromTime != 0 && r.Time.Std().Before(p.FromTime.Std().Add(-deliveriesLate)) {
			return false // and so is all before it
		}
		if looked++; looked > deliveriesScan {
			// The page ends here, wherever its last row was.
			p.next = cursor{record: r.at + 1}
			p.end()
			return false
		}
		row := r.delivery()
		if row.Status == "" || seen[r.name()] {
			return true
		}
		seen[r.name()] = true
		if !p.passes(&row) || d.isPending(r.Endpoint, r.Sequence) {
			return true
		}
		if p.room() == 0 && p.next.record == 0 {
			p.next = cursor{record: r.at + 1} // the page before this row ended with a pending one
		}
		p.add(row, cursor{record: r.at})
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
