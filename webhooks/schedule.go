package webhooks

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	// MaxWait is the longest time between two tries of a delivery, whatever the
	// schedule, the jitter and the receiver say.
	MaxWait = 24 * time.Hour
	// MaxTries is the most tries a schedule may have.
	MaxTries = 64
)

// Outcome is what one attempt came to. The names are stored: in attempt records
// and in their subjects.
type Outcome string

const (
	// OutcomeDelivered is any 2xx answer, read to its end or to the limit.
	OutcomeDelivered Outcome = "delivered"
	// OutcomeFailed is no answer, or one that asks for nothing in particular.
	// Redirects are among them: they are never followed.
	OutcomeFailed Outcome = "failed"
	// OutcomeHeldBack is an answer that asks for fewer requests: 429, 502, 503, 504.
	OutcomeHeldBack Outcome = "held_back"
	// OutcomeGone is 410: the receiver wants no more events.
	OutcomeGone Outcome = "gone"
)

// Classify gives the outcome of an answer with the HTTP status.
func Classify(status int) Outcome {
	switch status {
	case http.StatusGone:
		return OutcomeGone
	case http.StatusTooManyRequests, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return OutcomeHeldBack
	}
	if status >= 200 && status <= 299 {
		return OutcomeDelivered
	}
	return OutcomeFailed
}

// DeliveryState is how a delivery stands. The names are part of the wire contract.
type DeliveryState string

const (
	// StateDelivered is final.
	StateDelivered DeliveryState = "delivered"
	// StatePending means that the event is still owed.
	StatePending DeliveryState = "pending"
	// StateDead means that the last try failed: kept, replayable, not tried again.
	StateDead DeliveryState = "dead"
)

// Step is what follows an attempt.
type Step struct {
	State DeliveryState
	// Wait is the time until the next try; zero unless State is StatePending.
	Wait time.Duration
	// Hold is how long nothing at all is to be sent to the endpoint; zero unless it
	// asked for that.
	Hold time.Duration
	// Disable says that the endpoint is to be disabled at once.
	Disable bool
}

// Schedule says when a delivery is tried. It is safe for concurrent use if its
// source of randomness is.
type Schedule struct {
	delays []time.Duration // before each try; not changed after NewSchedule
	jitter float64
	random func() float64
}

// DefaultDelays are the waits before each of the ten tries: at once, 5 s,
// 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h, about 75 h in all.
func DefaultDelays() []time.Duration {
	return []time.Duration{
		0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
		5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// NewSchedule makes a schedule of one try after each of the delays: 1 to
// MaxTries of them, each 0 to MaxWait. A wait is its delay and up to jitter
// times as much on top (jitter 0 to 1), never less than the delay and never
// more than MaxWait. random gives numbers in [0, 1).
func NewSchedule(delays []time.Duration, jitter float64, random func() float64) (*Schedule, error) {
	if len(delays) < 1 || len(delays) > MaxTries {
		return nil, fmt.Errorf("make schedule: %d tries, want 1 to %d", len(delays), MaxTries)
	}
	for i, d := range delays {
		if d < 0 || d > MaxWait {
			return nil, fmt.Errorf("make schedule: wait %s before try %d, want 0 to %s", d, i+1, MaxWait)
		}
	}
	if !(jitter >= 0 && jitter <= 1) { // not a number is neither
		return nil, fmt.Errorf("make schedule: jitter %v, want 0 to 1", jitter)
	}
	if random == nil {
		return nil, errors.New("make schedule: no source of randomness")
	}
	return &Schedule{delays: append([]time.Duration(nil), delays...), jitter: jitter, random: random}, nil
}

// Tries is how many tries a delivery gets.
func (s *Schedule) Tries() int { return len(s.delays) }

// Wait is the time from one try to the next, after that many tries (0: before
// the first): the schedule's, or retryAfter if that is longer, at most
// MaxWait. It is false when no try is left.
func (s *Schedule) Wait(tries int, retryAfter time.Duration) (time.Duration, bool) {
	if tries < 0 || tries >= len(s.delays) {
		return 0, false
	}
	delay := s.delays[tries]
	wait := delay + time.Duration(s.jitter*s.random()*float64(delay))
	return min(max(wait, retryAfter), MaxWait), true
}

// longest is the most that the schedule itself lets a delivery wait after that many tries,
// with a second for the rounding of stored times.
func (s *Schedule) longest(tries int) time.Duration {
	delay := s.delays[tries]
	return delay + time.Duration(s.jitter*float64(delay)) + time.Second
}

// After is the table of outcomes: what follows an attempt that ended in o,
// after that many tries (the attempt included), when the receiver asked to
// wait for retryAfter (0: it did not).
//
//	delivered   delivered
//	failed      the next try, or dead after the last
//	held_back   the same, and nothing goes to the endpoint until then
//	gone        the same, and the endpoint is disabled
func (s *Schedule) After(o Outcome, tries int, retryAfter time.Duration) Step {
	if o == OutcomeDelivered {
		return Step{State: StateDelivered}
	}
	step := Step{State: StateDead, Disable: o == OutcomeGone}
	hold := min(max(retryAfter, 0), MaxWait)
	if wait, ok := s.Wait(tries, retryAfter); ok {
		step.State, step.Wait = StatePending, wait
		hold = wait
	}
	if o == OutcomeHeldBack {
		step.Hold = hold
	}
	return step
}

// ParseRetryAfter reads a Retry-After header (RFC 9110 §10.2.3): seconds, or an
// HTTP date in any of its three forms, which is taken relative to now. The
// result is 0 to MaxWait; 0 stands for none, the past, and what is neither form.
func ParseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.Trim(value, " \t")
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		return retryAfterSeconds(value)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), MaxWait)
}

// retryAfterSeconds reads digits, however many.
func retryAfterSeconds(digits string) time.Duration {
	const most = int64(MaxWait / time.Second)
	var seconds int64
	for _, d := range []byte(digits) {
		seconds = min(seconds*10+int64(d-'0'), most)
	}
	return time.Duration(seconds) * time.Second
}
