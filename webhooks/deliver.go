package webhooks

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// PhaseSeal: the signing secret, the query or a header of the endpoint could not be
// opened, so nothing was sent.
const PhaseSeal Phase = "seal"

const (
	// readPause is how long a delivery waits whose commit could not be read.
	readPause = 5 * time.Second
	// Fields of what is sealed in an endpoint.
	fieldSecret = "secret"  // an HMAC key of 24 to 64 bytes, or the seed of an ed25519 key
	fieldQuery  = "query"   // without "?"
	fieldHeader = "header/" // followed by the header's name
)

// flight is one attempt.
type flight struct {
	lane     *lane
	delivery *delivery
	endpoint *events.Endpoint // as it was when the attempt began
	line     int              // lineFirst or lineAgain: which try it is
	slot     *line            // the line that it came from, whose slot it holds
	at       time.Time        // when it began
	event    *events.CloudEvent
	sealed   unsealed
	bytes    int // of the body
	result   Result

	timer *time.Timer // calls Dispatcher.late

	// Guarded by Dispatcher.mu, and not changed once landed:
	late   bool // it took Config.SlowAfter
	slow   bool // and gave its slot back
	landed bool // it has ended
}

// deliver makes one attempt and settles what came of it. Its error is a
// *store.DamageError; the delivery is as if its attempt had not been.
func (d *Dispatcher) deliver(ctx context.Context, f *flight) error {
	var err error
	if f.event, err = d.event(ctx, f.lane.account, f.delivery.entry); err != nil {
		damaged := isDamage(err)
		if ctx.Err() == nil && !damaged {
			d.cfg.Logger.Error("cannot read an event to deliver; trying again", "account", f.lane.account,
				"endpoint", f.endpoint.ID, "commit", f.delivery.commit, "error", err)
		}
		d.putBack(f, readPause)
		if damaged {
			return fmt.Errorf("deliver webhooks: %w", err)
		}
		return nil
	}
	if r := f.delivery.replay; r != nil && f.delivery.number == 0 {
		f.event.Replay = r.request.ID
	}
	if f.result, err = d.send(ctx, f); err != nil { // cut off: it does not count
		d.putBack(f, 0)
		return nil
	}
	d.settle(ctx, f)
	return nil
}

// send makes the request of an attempt. Its error means that the attempt was cut off.
func (d *Dispatcher) send(ctx context.Context, f *flight) (Result, error) {
	body, err := f.event.Structured()
	f.bytes = len(body)
	if err == nil {
		f.sealed, err = d.unseal(f.endpoint, f.at)
	}
	if err == nil {
		var result Result
		result, err = d.cfg.Client.Do(ctx, Request{
			URL: f.sealed.url, Body: body, ID: f.event.ID.String(),
			Headers: f.sealed.headers, Keys: f.sealed.keys, Now: f.at, Timeout: timeoutOf(f.endpoint), Trace: f.span(),
		})
		if err == nil || !errors.Is(err, ErrRequest) {
			return result, err
		}
	}
	d.cfg.Logger.Error("cannot make a webhook request: nothing is sent unsigned; is the seal key the one the endpoint was registered with?",
		"account", f.endpoint.Account, "endpoint", f.endpoint.ID, "error", err)
	return Result{Outcome: OutcomeFailed, Phase: PhaseSeal, Error: "cannot open sealed value"}, nil
}

// span is the attempt in the trace of the event's command, zero where that has none: the
// same trace, and a span of its own for each event, endpoint and number of the attempt.
func (f *flight) span() events.Trace {
	name := f.event.ID.String() + " " + f.endpoint.ID + " " + strconv.Itoa(f.delivery.tries+1)
	if r := f.delivery.replay; r != nil {
		name += " " + r.request.ID
	}
	return f.event.Trace.Span(name)
}

// sinceCommit is how long after its event's commit the attempt had a connection to send on,
// to the millisecond of that.
func (f *flight) sinceCommit() time.Duration {
	t := &f.result.Timings
	return max(f.at.Sub(f.event.Time.Std())+t.DNS+t.Connect+t.TLS, 0)
}

// putBack makes a delivery wait again, as if its attempt had not been.
func (d *Dispatcher) putBack(f *flight, pause time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Clock()
	d.land(f)
	if !f.lane.dropped(f.delivery) {
		f.delivery.next = now.Add(pause)
		f.lane.wait(f.delivery)
	}
	d.arrange(f.lane, now)
}

// settle takes an attempt's result in.
func (d *Dispatcher) settle(ctx context.Context, f *flight) {
	d.mu.Lock()
	now := d.cfg.Clock()
	step, disable := d.conclude(f, now)
	tries, next := f.delivery.tries, time.Time{}
	if step.State == StatePending && !f.lane.dropped(f.delivery) {
		next = f.delivery.next
	}
	d.dirty = true
	d.arrange(f.lane, now)
	d.mu.Unlock()
	a := f.record(step.State, tries, next)
	if d.report(a); d.cfg.Observe != nil {
		d.cfg.Observe(a, f.sinceCommit())
	}
	if disable {
		_ = d.disable(ctx, f.lane, f.endpoint, "the receiver answered 410 Gone")
	}
}

// conclude ends an attempt: the delivery is done, or waits for its next try, or is dead; the
// endpoint may be held back, or is to be disabled, and the lane may be parked. d.mu is held.
func (d *Dispatcher) conclude(f *flight, now time.Time) (step Step, disable bool) {
	l, job := f.lane, f.delivery
	job.tries++
	step = d.cfg.Schedule.After(f.result.Outcome, job.tries, f.result.RetryAfter)
	if l.probing {
		step = step.within(probeEvery, f.result.RetryAfter)
	}
	d.land(f)
	l.judge(f)
	job.last, job.status, job.reason = events.At(now), f.result.Status, reasonOf(f.result)
	switch step.State {
	case StateDelivered:
		d.delivered++
		l.width = min(l.width+1, laneFlyingMax)
	case StateDead:
		d.dead++
		d.failed++
	case StatePending:
		d.failed++
		job.next = now.Add(step.Wait)
	}
	if job.first == 0 {
		job.first = job.last
	}
	switch {
	case l.removed: // nothing is owed any more
		return step, false
	case l.dropped(job):
	case step.State == StatePending:
		l.wait(job)
	default:
		l.done(job)
	}
	l.park(job, step.State, d.cfg.Schedule, now)
	l.ended(f, step.State, now)
	if until := now.Add(step.Hold); step.Hold > 0 && until.After(l.held) {
		l.held = until
	}
	// An answer to a request from before the endpoint last changed says nothing about now.
	disable = step.Disable && !l.gone && l.endpoint == f.endpoint
	l.gone = l.gone || disable
	return step, disable
}

// reasonOf says in a fixed text why an attempt failed before there was a whole answer.
func reasonOf(r Result) string {
	if r.Phase == "" {
		return ""
	}
	return string(r.Phase) + ": " + r.Error
}

// disable has an endpoint disabled, for a reason. Until the event comes by the log its lane
// stands still.
//
// If we crash before the event is in the log, the delivery that was answered 410 is
// still open, and its next try is answered likewise.
func (d *Dispatcher) disable(ctx context.Context, l *lane, endpoint *events.Endpoint, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, disableWithin)
	defer cancel()
	err := d.cfg.Disable(ctx, endpoint.Account, endpoint.ID, reason)
	if err == nil {
		return nil
	}
	d.cfg.Logger.Error("cannot disable an endpoint; trying again", "account", endpoint.Account, "endpoint", endpoint.ID, "error", err)
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Clock()
	l.gone = false
	if until := now.Add(disablePause); until.After(l.held) {
		l.held = until
	}
	d.arrange(l, now)
	return err
}

// event returns the event of an entry as the endpoint gets it.
func (d *Dispatcher) event(ctx context.Context, account string, at entry) (*events.CloudEvent, error) {
	c, err := d.commits.get(ctx, at.commit, account)
	if err != nil {
		return nil, err
	}
	e := eventAt(c, at.feed)
	if e == nil || e.Account != account {
		return nil, fmt.Errorf("event %d of the feed is not one of account %s in commit %d", at.feed, account, at.commit)
	}
	if at.number > 0 {
		e.Sequence = numberText(at.number)
	}
	return e, nil
}

// numberText is a delivery's number as the extension "sequence" has it.
func numberText(number uint64) string { return fmt.Sprintf("%020d", number) }

// eventAt returns the event of a commit that has a feed sequence, nil if it has none.
func eventAt(c *store.Commit, feed uint64) *events.CloudEvent {
	if feed <= c.Ordinal {
		return nil
	}
	index := int(feed - c.Ordinal - 1)
	rest := index
	for i := range c.Entries {
		entry := &c.Entries[i]
		if rest >= len(entry.Events) {
			rest -= len(entry.Events)
			continue
		}
		return &events.CloudEvent{
			Event:     entry.Events[rest],
			ID:        events.EventID(c.Time, c.Nonce, index),
			Time:      c.Time,
			Position:  events.Position{Partition: c.Partition, Sequence: c.Sequence, Index: index},
			CommandID: entry.CommandID,
			Trace:     entry.Trace,
		}
	}
	return nil
}
