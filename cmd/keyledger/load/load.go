// Package load keeps a fixed number of commands to a keyledger in flight, or to what
// stands in for one, and measures the answers. It keeps books: what was acknowledged
// must be what the balances lost.
//
// It is a client that shares no code with the server: it knows subjects, headers and
// JSON. keyledger bench and testing/bench are built on it.
package load

import (
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats.go"
)

const (
	// DrainTime is how long answers may still come after a run.
	DrainTime = 10 * time.Second
	// latencyMax is the longest latency that is told apart, in nanoseconds.
	latencyMax = int64(time.Minute)

	// HeaderID bears a command's id, a ULID of the caller's.
	HeaderID    = "Nats-Msg-Id"
	headerError = "Nats-Service-Error-Code"
)

// Target is what a command is sent to: an account to debit, or one of its keys.
type Target struct {
	Subject string
	Body    []byte // a JSON object; an id is added where it goes into an array
	Account int    // index in Books
	Cost    int64  // credits that it takes when it is done
}

// Spread is how commands are spread over targets.
type Spread string

// The spreads there are.
const (
	Uniform Spread = "uniform" // all alike
	Zipf    Spread = "zipf"    // the k-th in proportion to 1/k^1.1: a few are busy, most are not
	Hot     Spread = "hot"     // the first alone
)

// zipfExponent is Zipf's. Above 1, or there would be no such distribution for ever more
// targets.
const zipfExponent = 1.1

// Job is what one run does.
type Job struct {
	Targets []Target
	Spread  Spread // "" is Uniform
	// Array is how many commands one message holds, each with an id of its own. 0: one,
	// with its id in the header.
	Array int
	// Confirm stands once in an answer for each command that was done. Empty: every
	// answer that is no error says so.
	Confirm []byte

	InFlight int // messages without an answer yet
	// Rate is how many messages a second are sent, over all connections, evenly, as far as
	// InFlight lets them; each one's latency counts from when it was due. 0: an answer sends
	// the next.
	Rate            float64
	WarmUp, Measure time.Duration
	Drain           time.Duration // how long answers may come after that
}

// Outcome is what one run came to.
type Outcome struct {
	Replies int64                   // commands answered within the measured time
	Latency *hdrhistogram.Histogram // of the messages of those, in nanoseconds
	Done    int64                   // commands acknowledged, over the whole run
	Taken   []int64                 // credits of those, by account
	Refused map[string]int64        // commands refused, by code, over the whole run
	Lost    int                     // messages without an answer
}

// NewOutcome is that of a run in which nothing happened yet.
func NewOutcome(accounts int) *Outcome {
	return &Outcome{
		Latency: hdrhistogram.New(1, latencyMax, 3), Taken: make([]int64, accounts), Refused: map[string]int64{},
	}
}

// Measured counts commands that were answered within the measured time.
func (o *Outcome) Measured(commands int, latency time.Duration) {
	o.Replies += int64(commands)
	_ = o.Latency.RecordValue(min(max(int64(latency), 1), latencyMax)) // within range
}

// Add adds what another part of the same run came to.
func (o *Outcome) Add(part *Outcome) {
	o.Replies += part.Replies
	o.Latency.Merge(part.Latency)
	o.Done += part.Done
	for i, n := range part.Taken {
		o.Taken[i] += n
	}
	for code, n := range part.Refused {
		o.Refused[code] += n
	}
	o.Lost += part.Lost
}

// Run keeps j.InFlight messages in flight, spread over the connections, for as long as
// the job says, and waits for the last answers.
func Run(ctx context.Context, conns []*nats.Conn, j *Job) (*Outcome, error) {
	begin := time.Now().Add(j.WarmUp)
	lanes := make([]*lane, len(conns))
	for i, conn := range conns {
		slots := j.InFlight / len(conns)
		if i < j.InFlight%len(conns) {
			slots++
		}
		lanes[i] = newLane(conn, j, slots, begin)
		lanes[i].every = every(j.Rate, len(conns))
		sub, err := conn.Subscribe(lanes[i].inbox+".*", lanes[i].answered)
		if err != nil {
			return nil, fmt.Errorf("subscribe to answers: %w", err)
		}
		defer sub.Unsubscribe()
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			return nil, fmt.Errorf("subscribe to answers: %w", err)
		}
	}
	for _, l := range lanes {
		l.start()
	}
	timeout := time.NewTimer(j.WarmUp + j.Measure + j.Drain)
	defer timeout.Stop()
	sum := NewOutcome(j.accounts())
	for _, l := range lanes {
		select {
		case <-l.idle:
		case <-timeout.C:
			timeout.Reset(0) // for the lanes behind it
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		l.addTo(sum)
	}
	return sum, nil
}

// every is how far apart one of some lanes sends, 0 where answers say.
func every(rate float64, lanes int) time.Duration {
	if rate <= 0 {
		return 0
	}
	return time.Duration(float64(lanes) / rate * float64(time.Second))
}

// accounts is how many accounts the targets can belong to.
func (j *Job) accounts() int {
	n := 0
	for i := range j.Targets {
		n = max(n, j.Targets[i].Account+1)
	}
	return n
}
