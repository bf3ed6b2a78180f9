package webhooks

import (
	"time"

	"github.com/keyledger/keyledger/events"
)

// pace keeps an endpoint's attempts, of whatever kind, within its rate: no minute has more of
// them, wherever it begins. They come evenly, but for those that were due a moment ago: what
// a timer was late is made up for, up to a tenth of a second (the generic cell rate algorithm
// of ITU-T I.371). It starts afresh with the dispatcher.
type pace struct {
	rate  int64         // attempts a minute
	every time.Duration // between two attempts
	early time.Duration // that one may be ahead of its even time
	next  time.Time     // even time of the next
}

// rateOf is how many attempts may be made in a minute, 0 if there is no limit: the smaller of
// what was asked for and what the receiver allows.
func rateOf(e *events.Endpoint) int64 {
	if e.RatePerMinute == 0 || e.AllowedRate == 0 {
		return max(e.RatePerMinute, e.AllowedRate)
	}
	return min(e.RatePerMinute, e.AllowedRate)
}

// withRate returns the pace of a rate, 0 for none, that goes on from p, which may be nil.
func (p *pace) withRate(rate int64) *pace {
	switch {
	case rate <= 0:
		return nil
	case p != nil && p.rate == rate:
		return p
	}
	// In a minute are as many attempts as fit evenly, and those that may come early.
	burst := 1 + rate/600
	evenly := time.Duration(rate - burst + 1)
	next := &pace{rate: rate, every: (time.Minute + evenly - 1) / evenly}
	next.early = next.every * time.Duration(burst-1)
	if p != nil {
		next.next = p.next.Add(next.every - p.every)
	}
	return next
}

// at is when the next attempt may be made; the zero time if p is nil.
func (p *pace) at() time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.next.Add(-p.early)
}

// spend notes an attempt that begins.
func (p *pace) spend(now time.Time) {
	if p == nil {
		return
	}
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(p.every)
}

// rests is until when nothing is sent: the endpoint is held back, or its rate is used up.
func (l *lane) rests() time.Time {
	if at := l.pace.at(); at.After(l.held) {
		return at
	}
	return l.held
}
