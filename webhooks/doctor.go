package webhooks

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Limits of endpoint.doctor.
const (
	// DoctorTimeout is the time one has for all its steps.
	DoctorTimeout = 30 * time.Second

	doctorsAtOnce = 16                     // over all accounts
	doctorsEach   = 2                      // of one account
	doctorAnswer  = 500 * time.Millisecond // of the caller's time, left for the answer
)

// Results of a step.
const (
	StepOK      = "ok"
	StepWarning = "warning" // deliveries are made, and something should be seen to
	StepFailed  = "failed"
	StepSkipped = "skipped" // there was nothing to do, or a step before it failed
)

// CheckupStep is one thing that a delivery needs, tried for itself.
type CheckupStep struct {
	Name       string  `json:"name"` // resolve, guard, connect, tls, consent, sign, ping
	Result     string  `json:"result"`
	DurationMS float64 `json:"duration_ms"` // to the microsecond
	// Detail says what was found. It is empty where an address was refused: whoever chose
	// the URL learns nothing of what is there.
	Detail string `json:"detail,omitzero"`
	// Error is a class, one of a fixed set of texts; Hint says what to do about it.
	Error string `json:"error,omitzero"`
	Hint  string `json:"hint,omitzero"`
}

// Checkup is the answer of endpoint.doctor.
type Checkup struct {
	Endpoint string `json:"endpoint"`
	URL      string `json:"url"` // without its query
	// Healthy says that no step failed.
	Healthy bool          `json:"healthy"`
	Steps   []CheckupStep `json:"steps"`
	// Status and Reason are the endpoint's.
	Status string `json:"status"`
	Reason string `json:"reason,omitzero"`
	// Notes say what keeps deliveries back although the receiver is well.
	Notes []string `json:"notes,omitzero"`
}

// doctors bounds how many examine at once. The zero value is ready for use.
type doctors struct {
	mu   sync.Mutex // guards what follows
	all  int
	each map[string]int // by account
}

// enter is refused where too many are at work.
func (p *doctors) enter(account string) *events.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= doctorsAtOnce || p.each[account] >= doctorsEach {
		return events.Errorf(events.Unavailable, "endpoints are being examined already, %d at once and %d of an account; try again", doctorsAtOnce, doctorsEach)
	}
	if p.each == nil {
		p.each = map[string]int{}
	}
	p.all++
	p.each[account]++
	return nil
}

func (p *doctors) leave(account string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.each[account]--; p.each[account] == 0 {
		delete(p.each, account)
	}
}

// doctorBody is the body of endpoint.doctor.
type doctorBody struct {
	Endpoint string `json:"endpoint"`
}

// doctor answers endpoint.doctor: it goes through all that a delivery to the endpoint needs,
// one step after the other, and sends a signed event of its own. It changes nothing here: no
// record, no sequence number, no hold, whatever the receiver answers. It does so for a
// paused and for a disabled endpoint too.
func (d *Dispatcher) doctor(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error) {
	var in doctorBody
	if err := events.DecodeStrict(body, &in); err != nil {
		return nil, events.Position{}, err
	}
	if in.Endpoint == "" {
		return nil, events.Position{}, events.Errorf(events.InvalidArgument, "endpoint is required: the id of one of the account's endpoints")
	}
	if _, err := d.cfg.Known(account); err != nil {
		return nil, events.Position{}, err
	}
	endpoint, notes, at := d.standing(account, in.Endpoint)
	if endpoint == nil {
		return nil, events.Position{}, events.Errorf(events.NotFound, "account %s has no endpoint %s", account, in.Endpoint)
	}
	if err := store.TurnOf(ctx).Wait(ctx); err != nil { // others look into memory meanwhile
		return nil, events.Position{}, err
	}
	if err := d.doctors.enter(account); err != nil {
		return nil, events.Position{}, err
	}
	defer d.doctors.leave(account)
	ctx, cancel := withinDoctor(ctx)
	defer cancel()
	x := &examination{d: d, endpoint: endpoint, at: at}
	x.run(ctx)
	healthy := true
	for i := range x.steps {
		healthy = healthy && x.steps[i].Result != StepFailed
	}
	return map[string]*Checkup{"doctor": {
		Endpoint: endpoint.ID, URL: endpoint.URL, Healthy: healthy, Steps: x.steps,
		Status: endpoint.Status, Reason: endpoint.Reason, Notes: notes,
	}}, at, nil
}

// withinDoctor gives an examination its time, and of the caller's leaves some for the answer.
func withinDoctor(ctx context.Context) (context.Context, context.CancelFunc) {
	until := time.Now().Add(DoctorTimeout)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-doctorAnswer).Before(until) {
		until = deadline.Add(-doctorAnswer)
	}
	return context.WithDeadline(ctx, until)
}

// standing tells how an endpoint stands, nil if the account has no such, what keeps its
// deliveries back, and the position all that is true at.
func (d *Dispatcher) standing(account, id string) (e *events.Endpoint, notes []string, at events.Position) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at = d.read.Position()
	l := d.lanes[id]
	if l == nil || l.account != account || l.removed {
		return nil, nil, at
	}
	e = l.endpoint
	if e.Status != events.Active {
		why := ""
		if e.Reason != "" {
			why = " (" + e.Reason + ")"
		}
		notes = append(notes, "the endpoint is "+e.Status+why+": nothing is delivered until it is resumed (endpoint.resume)")
	}
	now := d.statusOf(l, d.cfg.Clock())
	if now.HeldUntil > 0 {
		notes = append(notes, "the receiver asked for a pause, or is overloaded: nothing is sent before "+now.HeldUntil.String())
	}
	if now.Parked {
		notes = append(notes, fmt.Sprintf("%d deliveries failed, so only the oldest is tried, next at %s; whatever is delivered lets the rest flow", now.OpenRetries, now.NextAttemptAt))
	}
	if now.FailingSince > 0 {
		notes = append(notes, "every attempt has failed since "+now.FailingSince.String()+"; after five days of that the endpoint is disabled")
	}
	return e, notes, at
}
