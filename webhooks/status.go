package webhooks

import (
	"context"
	"time"

	"github.com/keyledger/keyledger/events"
)

// EndpointStatus is how deliveries to an endpoint stand, as endpoint.status shows it.
type EndpointStatus struct {
	Endpoint       string         `json:"endpoint"`
	Status         string         `json:"status"`          // the endpoint's
	Pending        uint64         `json:"pending"`         // deliveries owed and not settled
	InFlight       int            `json:"in_flight"`       // attempts under way
	OpenRetries    int            `json:"open_retries"`    // deliveries that failed and are not settled
	Withheld       uint64         `json:"withheld"`        // deliveries that wait behind another of their key
	Behind         bool           `json:"behind"`          // it is owed more than is in memory
	Parked         bool           `json:"parked"`          // so much fails that only the oldest delivery is tried
	HeldUntil      events.Time    `json:"held_until"`      // the receiver asked for a pause; "" where it did not
	FailingSince   events.Time    `json:"failing_since"`   // every attempt failed since; "" where not every one did
	FailingPercent int            `json:"failing_percent"` // of the time after which it is disabled, that was told last
	NextAttemptAt  events.Time    `json:"next_attempt_at"` // "": none is to come, or the endpoint is not active
	Cursor         string         `json:"cursor"`          // a position up to which everything is settled
	Replays        []ReplayStatus `json:"replays"`         // that are not finished, oldest first
}

func (d *Dispatcher) endpointStatus(_ context.Context, account string, text []byte) (any, events.Position, *events.Error) {
	var body struct {
		Endpoint string `json:"endpoint"`
	}
	if err := events.DecodeStrict(text, &body); err != nil {
		return nil, events.Position{}, err
	}
	if body.Endpoint == "" {
		return nil, events.Position{}, events.Errorf(events.InvalidArgument, "endpoint is missing: give the endpoint's id")
	}
	if _, refused := d.cfg.Known(account); refused != nil {
		return nil, events.Position{}, refused
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	l, refused := d.laneOf(account, body.Endpoint)
	if refused != nil {
		return nil, events.Position{}, refused
	}
	return map[string]EndpointStatus{"status": d.statusOf(l, d.cfg.Clock())}, d.read.Position(), nil
}

// laneOf returns an endpoint's lane once it is known what of it is settled. d.mu is held.
func (d *Dispatcher) laneOf(account, endpoint string) (*lane, *events.Error) {
	if !d.live {
		return nil, events.Errorf(events.Unavailable, "webhooks still read the log, up to %s; try again", d.read.Position())
	}
	s := d.directory.find(account, endpoint)
	if s == nil {
		return nil, events.Errorf(events.NotFound, "account %s has no endpoint %s", account, endpoint)
	}
	l := d.lanes[s.endpoint.ID]
	if l.rereads() {
		return nil, events.Errorf(events.Unavailable, "webhooks still read again what endpoint %s was owed before the start; try again", s.endpoint.ID)
	}
	return l, nil
}

// statusOf takes down how a lane stands. d.mu is held.
func (d *Dispatcher) statusOf(l *lane, now time.Time) EndpointStatus {
	s := EndpointStatus{
		Endpoint: l.endpoint.ID, Status: l.endpoint.Status, Pending: l.pending(), InFlight: l.firsts + l.agains,
		Withheld: l.withheld(), Behind: l.behind, Parked: l.parked, Replays: l.replayStatus(),
	}
	for _, o := range l.open {
		if o.tries > 0 {
			s.OpenRetries++
		}
	}
	if l.held.After(now) {
		s.HeldUntil = roundUp(l.held)
	}
	if l.failing != nil {
		s.FailingSince, s.FailingPercent = l.failing.since, l.failing.told
	}
	if at := l.nextAttempt(now); !at.IsZero() {
		s.NextAttemptAt = roundUp(at)
	}
	settled := d.read.Position()
	settled.Sequence = min(settled.Sequence, l.unsettled(settled.Sequence+1)-1)
	s.Cursor = settled.String()
	return s
}

// nextAttempt is when the next attempt may begin, zero if none is to come.
func (l *lane) nextAttempt(now time.Time) time.Time {
	if !l.runs() {
		return time.Time{}
	}
	at := now
	if _, ok := l.source(); !ok && !l.replayReady() {
		d := l.upNext()
		if d == nil {
			return time.Time{}
		}
		at = d.next
	}
	for _, earliest := range []time.Time{l.rests(), now} {
		if at.Before(earliest) {
			at = earliest
		}
	}
	return at
}

// unsettled is the log sequence of the first commit of which something is not settled, or
// which comes after: end where all is.
func (l *lane) unsettled(end uint64) uint64 {
	if len(l.queue) > 0 {
		end = min(end, l.queue[0].commit)
	}
	if l.behind {
		end = min(end, l.next.commit)
	}
	for _, o := range l.open {
		end = min(end, o.commit)
	}
	for _, g := range l.groups {
		if g.withholds() {
			end = min(end, g.first().commit)
		}
	}
	return end
}
