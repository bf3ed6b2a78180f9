package webhooks

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Limits of delivery.get.
const (
	// attemptsMax is how many attempts are shown, the newest of them; the schedule has ten.
	attemptsMax = 100
	// attemptsScan is how many records are looked at from the event's time on, and from the
	// end back.
	attemptsScan = 10_000
	// commitsOfTime is how many commits of one millisecond are looked through for an event. A
	// clock that is set back makes many of one time.
	commitsOfTime = 4096
)

// StateSettled is that of a delivery that is not pending and of which there is no record any
// more: it was delivered, or died, or was skipped.
const StateSettled DeliveryState = "settled"

// errEventUnknown: no commit of an event id's time has that event.
var errEventUnknown = errors.New("there is no such event")

// DeliveryDetail answers delivery.get: a delivery, with each attempt.
type DeliveryDetail struct {
	Delivery
	// Attempts are the records there are, oldest first, those of replays too; see Attempt.
	Log []jsontext.Value `json:"attempts_log"`
	// Complete says whether every record was looked at that is kept. Otherwise so many
	// were made to the endpoint since that some may not have been come to.
	Complete bool `json:"attempts_log_complete"`
	// Retry is the command that sends a dead delivery again, null for others.
	Retry *Retry `json:"retry"`
}

// Retry is a command and its body.
type Retry struct {
	Command string    `json:"command"`
	Body    retryBody `json:"body"`
}

type retryBody struct {
	Endpoint string `json:"endpoint"`
	From     string `json:"from_position"`
	To       string `json:"to_position"`
}

// getDelivery answers delivery.get. Body is {event, endpoint}: the event's id, which is the
// webhook-id, and the endpoint's.
func (d *Dispatcher) getDelivery(ctx context.Context, account string, text []byte) (any, events.Position, *events.Error) {
	var body struct {
		Event    string `json:"event"`
		Endpoint string `json:"endpoint"`
	}
	if err := events.DecodeStrict(text, &body); err != nil {
		return nil, events.Position{}, err
	}
	id, err := ulid.ParseStrict(body.Event)
	if err != nil || id.String() != body.Event {
		return nil, events.Position{}, events.Errorf(events.InvalidArgument, "event must be an event's id, which is a ULID: the webhook-id of its delivery")
	}
	if _, refused := d.cfg.Known(account); refused != nil {
		return nil, events.Position{}, refused
	}
	p := &page{account: account}
	p.Endpoint, p.Status = body.Endpoint, StatePending
	if p.Endpoint == "" {
		return nil, events.Position{}, events.Errorf(events.InvalidArgument, "endpoint must be an endpoint's id")
	}
	rows, at, refused := d.pendingRows(p)
	if refused != nil {
		return nil, events.Position{}, refused
	}
	if refused := store.TurnOf(ctx).Read(ctx); refused != nil {
		return nil, events.Position{}, refused
	}
	out, err := d.delivery(ctx, p, id, at, rows)
	switch {
	case errors.Is(err, errEventUnknown):
		return nil, at, events.Errorf(events.NotFound, "endpoint %s was never owed an event %s", body.Endpoint, body.Event)
	case errors.As(err, &refused):
		return nil, at, refused
	case err != nil:
		return nil, at, d.cannotList(err)
	}
	return &struct {
		Delivery *DeliveryDetail `json:"delivery"`
	}{out}, at, nil
}

// delivery finds out how the delivery of an event stands: from the lane, or the records of
// its attempts, or, where there are none, from what the endpoint was owed at the time.
func (d *Dispatcher) delivery(ctx context.Context, p *page, id ulid.ULID, at events.Position, rows []pendingRow) (*DeliveryDetail, error) {
	e, feed, err := d.eventOf(ctx, p.account, id, at.Sequence)
	if err != nil {
		return nil, err
	}
	out := &DeliveryDetail{Log: []jsontext.Value{}}
	found, err := d.attemptsOf(ctx, p, e, out)
	if err != nil {
		return nil, err
	}
	out.Delivery = newest(found)
	i := slices.IndexFunc(rows, func(r pendingRow) bool {
		return r.feed == feed && (r.replay == nil || r.number == 0 && out.Status == "")
	})
	behind := d.isBehind(p.Endpoint, e, feed)
	switch {
	case i >= 0:
		out.Delivery, err = d.pendingDelivery(ctx, p.account, &rows[i])
		return out, err
	case out.Event != "" && (out.Replay != nil || !behind):
	default:
		if err := d.unrecorded(ctx, p, e, feed, behind, out); err != nil {
			return nil, err
		}
	}
	if out.Status == "" { // its last record is lost, or not stored yet
		out.Status = StateSettled
	}
	if out.Status == StateDead {
		out.Retry = &Retry{"endpoint.replay", retryBody{Endpoint: p.Endpoint, From: out.Position, To: out.Position}}
	}
	return out, nil
}

// newest is what the records of a delivery say: how it ended, if one says so, and how it was
// delivered at first rather than by a replay.
func newest(found []*scanned) (out Delivery) {
	for _, r := range found {
		row := r.delivery()
		switch {
		case out.Event == "", out.Replay != nil && row.Replay == nil:
			out = row
		case out.Replay == nil && row.Replay != nil, out.Status != "" && row.Status == "":
		default:
			out = row
		}
	}
	return out
}

// unrecorded is a delivery of which nothing is recorded, or nothing that counts: it waits
// where the lane reads on, or was settled.
func (d *Dispatcher) unrecorded(ctx context.Context, p *page, e *events.CloudEvent, feed uint64, behind bool, out *DeliveryDetail) error {
	owed, err := d.wasOwed(ctx, p, e, feed)
	if err != nil {
		return err
	}
	if !owed {
		return errEventUnknown
	}
	out.Delivery = Delivery{
		Event: e.ID.String(), Type: events.Lookup(e.Type).CloudEventType(), Endpoint: p.Endpoint, Status: StateSettled,
		Position: e.Position.String(), Key: events.KeyOf(&e.Event),
	}
	if behind {
		out.Status = StatePending
	}
	return nil
}

// isBehind says whether an event stands where an endpoint's lane, or its group there, has not
// come to yet.
func (d *Dispatcher) isBehind(endpoint string, e *events.CloudEvent, feed uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lanes[endpoint]
	if l == nil {
		return false
	}
	g := l.groups[groupOf(&e.Event)]
	return l.behind && feed >= l.next.feed || g != nil && g.more > 0 && feed >= g.next.feed
}

// wasOwed says whether an endpoint was owed an event, by the terms in force before it: those
// of the endpoint's own event before it, which the feed has.
func (d *Dispatcher) wasOwed(ctx context.Context, p *page, e *events.CloudEvent, feed uint64) (bool, error) {
	d.mu.Lock()
	sub := d.directory.find(p.account, p.Endpoint)
	d.mu.Unlock()
	if sub == nil || feed <= sub.registered {
		return false, nil
	}
	scan, err := store.NewScan(ctx, d.cfg.JS, store.StreamFeed(d.cfg.Partition),
		store.SubjectFeed(d.cfg.Partition)+p.account+".*.endpoint.*."+p.Endpoint)
	if err != nil {
		return false, err
	}
	var before *events.Endpoint
	err = scan.Backwards(ctx, feed, 1, func(m *store.Scanned) (bool, error) {
		s, err := sightOf(m, func(*events.Event) bool { return true })
		if err == nil {
			before = s.about()
		}
		return err == nil && before == nil, err
	})
	switch {
	case err != nil:
		return false, err
	case before == nil:
		return false, events.Errorf(events.FailedPrecondition, "there is no record of an attempt, and the feed does not reach back to what endpoint %s subscribed to before %s", p.Endpoint, e.Position)
	}
	return (*terms)(nil).after(before).owes(p.Endpoint, &sight{Event: &e.Event, feed: feed, commit: e.Position.Sequence, cloud: e}), nil
}

// eventOf finds an event by its id, in the commits up to a sequence, and its place in the feed.
func (d *Dispatcher) eventOf(ctx context.Context, account string, id ulid.ULID, end uint64) (*events.CloudEvent, uint64, error) {
	at := events.Time(id.Time())
	get := func(sequence uint64) (*store.Commit, error) { return d.foldedCommit(ctx, sequence) }
	_, c, err := store.Until(end, at, get)
	for looked := 0; err == nil && c != nil && c.Time == at; looked++ {
		if looked == commitsOfTime {
			return nil, 0, events.Errorf(events.FailedPrecondition, "more than %d commits are of the time of event %s, at %s; \"keyledger audit replay\" finds it there", commitsOfTime, id, at)
		}
		for i := range c.EventCount() {
			if events.EventID(c.Time, c.Nonce, i) != id {
				continue
			}
			feed := c.Ordinal + uint64(i) + 1
			if e := eventAt(c, feed); e.Account == account {
				return e, feed, nil
			}
			return nil, 0, errEventUnknown
		}
		if c.Sequence == 1 {
			break
		}
		c, err = get(c.Sequence - 1)
	}
	if err != nil {
		return nil, 0, err
	}
	return nil, 0, errEventUnknown
}

// attemptsOf looks for the records of a delivery's attempts: from the event's time on, and,
// where not all from then on can be looked at, from the end back.
func (d *Dispatcher) attemptsOf(ctx context.Context, p *page, e *events.CloudEvent, out *DeliveryDetail) (found []*scanned, err error) {
	scan, err := d.newScan(ctx, p.account, p.Endpoint)
	if err != nil {
		return nil, err
	}
	id, texts := e.ID.String(), map[uint64]jsontext.Value{}
	take := func(m *store.Scanned) error {
		r, err := readScanned(m)
		if err == nil && r.Event == id {
			found, texts[r.at] = append(found, r), m.Data
		}
		return err
	}
	reached, err := scan.Since(ctx, e.Time.Std())
	if err != nil {
		return nil, err
	}
	looked := 0
	err = scan.Window(ctx, reached, math.MaxUint64, func(m *store.Scanned) error {
		if looked++; looked > attemptsScan {
			return errEnough
		}
		reached = m.Sequence + 1
		return take(m)
	})
	out.Complete = err == nil && len(found) > 0
	if !out.Complete && (err == nil || errors.Is(err, errEnough)) {
		early := len(found) > 0 // as it is, unless the clock was set back
		looked, out.Complete = 0, true
		err = scan.Backwards(ctx, math.MaxUint64, attemptsMax, func(m *store.Scanned) (bool, error) {
			if early && m.Sequence < reached {
				return false, nil
			}
			looked++
			out.Complete = looked <= attemptsScan
			return out.Complete, take(m)
		})
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b *scanned) int { return cmp.Compare(a.at, b.at) })
	found = found[max(0, len(found)-attemptsMax):]
	for _, r := range found {
		out.Log = append(out.Log, texts[r.at])
	}
	return found, nil
}
