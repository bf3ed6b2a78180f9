package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"
)

const (
	// drainTime is how long answers may still come after a run.
	drainTime = 10 * time.Second
	// latencyMax is the longest latency that is told apart, in nanoseconds.
	latencyMax = int64(time.Minute)

	headerID    = "Nats-Msg-Id"
	headerError = "Nats-Service-Error-Code"
)

// debitBody is the command that is sent over and over, under a fresh id each time.
var debitBody = []byte(`{"environment":"test","asset":"credits","amount":1,"reference":"bench"}`)

func debitSubject(account string) string { return "keyledger.cmd." + account + ".credit.debit" }

// job is what one run does.
type job struct {
	inFlight        int
	warmUp, measure time.Duration
	drain           time.Duration // how long answers may come after that
	accounts        []string
}

// outcome is what one run came to.
type outcome struct {
	replies int64                   // answers within the measured time
	latency *hdrhistogram.Histogram // of those, in nanoseconds
	acked   []int64                 // debits acknowledged, by account, over the whole run
	refused map[string]int64        // answers that are errors, by code, over the whole run
	lost    int                     // commands without an answer
}

// lane is one connection's part of the load: some slots, each with one command in
// flight. The answer to one sends the next.
type lane struct {
	conn     *nats.Conn
	inbox    string
	subjects []string // by account
	first    int      // of the accounts this lane begins with
	begin    time.Time
	end      time.Time
	idle     chan struct{} // closed when nothing is in flight any more

	mu      sync.Mutex // guards all below
	sent    []time.Time
	account []int // by slot
	busy    []bool
	flying  int
	next    int
	random  *rand.ChaCha8
	outcome outcome
}

// runLoad keeps job.inFlight commands in flight, spread over the connections, for as
// long as the job says, and waits for the last answers.
func runLoad(ctx context.Context, conns []*nats.Conn, j job) (*outcome, error) {
	subjects := make([]string, len(j.accounts))
	for i, account := range j.accounts {
		subjects[i] = debitSubject(account)
	}
	begin := time.Now().Add(j.warmUp)
	lanes := make([]*lane, len(conns))
	for i, conn := range conns {
		slots := j.inFlight / len(conns)
		if i < j.inFlight%len(conns) {
			slots++
		}
		lanes[i] = newLane(conn, subjects, i*len(subjects)/len(conns), slots, begin, begin.Add(j.measure))
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
	timeout := time.NewTimer(j.warmUp + j.measure + j.drain)
	defer timeout.Stop()
	sum := newOutcome(len(subjects))
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

func newOutcome(accounts int) *outcome {
	return &outcome{
		latency: hdrhistogram.New(1, latencyMax, 3), acked: make([]int64, accounts), refused: map[string]int64{},
	}
}

func newLane(conn *nats.Conn, subjects []string, first, slots int, begin, end time.Time) *lane {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	return &lane{
		conn: conn, inbox: nats.NewInbox(), subjects: subjects, first: first, begin: begin, end: end,
		idle: make(chan struct{}), sent: make([]time.Time, slots), account: make([]int, slots), busy: make([]bool, slots),
		random: rand.NewChaCha8(seed), outcome: *newOutcome(len(subjects)),
	}
}

func (l *lane) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for slot := range l.busy {
		l.send(slot, time.Now())
	}
	l.checkIdle()
}

// send sends the next command from a slot. The caller holds mu.
func (l *lane) send(slot int, now time.Time) {
	account := (l.first + l.next) % len(l.subjects)
	l.next++
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(now)) // cannot fail before the year 10889
	_, _ = l.random.Read(id[6:])        // never fails
	err := l.conn.PublishMsg(&nats.Msg{
		Subject: l.subjects[account], Reply: l.inbox + "." + strconv.Itoa(slot),
		Header: nats.Header{headerID: {id.String()}}, Data: debitBody,
	})
	if err != nil {
		l.outcome.refused["not sent: "+err.Error()]++
		return
	}
	l.sent[slot], l.account[slot], l.busy[slot] = now, account, true
	l.flying++
}

// answered takes an answer and sends the slot's next command while there is time.
func (l *lane) answered(m *nats.Msg) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	slot, err := strconv.Atoi(m.Subject[len(l.inbox)+1:])
	if err != nil || slot < 0 || slot >= len(l.busy) || !l.busy[slot] {
		l.outcome.refused["answer to nothing"]++
		return
	}
	l.busy[slot] = false
	l.flying--
	if code := errorCode(m); code != "" {
		l.outcome.refused[code]++
	} else {
		l.outcome.acked[l.account[slot]]++
		if !now.Before(l.begin) && now.Before(l.end) {
			l.outcome.replies++
			_ = l.outcome.latency.RecordValue(min(int64(now.Sub(l.sent[slot])), latencyMax)) // within range
		}
	}
	if now.Before(l.end) {
		l.send(slot, now)
	}
	l.checkIdle()
}

// checkIdle says so when nothing is in flight any more, which is so only once no slot
// sends again. The caller holds mu.
func (l *lane) checkIdle() {
	if l.flying > 0 {
		return
	}
	select {
	case <-l.idle:
	default:
		close(l.idle)
	}
}

// errorCode is an error reply's code, "" for a result.
func errorCode(m *nats.Msg) string {
	switch status := m.Header.Get("Status"); {
	case len(m.Header) == 0:
		return ""
	case status != "":
		return "status " + status // 503: nobody listens
	case m.Header.Get(headerError) == "":
		return ""
	}
	var body struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &body); err != nil || body.Error.Code == "" {
		return "error " + m.Header.Get(headerError)
	}
	return body.Error.Code
}

// addTo adds the lane's outcome; what is still in flight is lost.
func (l *lane) addTo(sum *outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum.replies += l.outcome.replies
	sum.latency.Merge(l.outcome.latency)
	for i, n := range l.outcome.acked {
		sum.acked[i] += n
	}
	for code, n := range l.outcome.refused {
		sum.refused[code] += n
	}
	sum.lost += l.flying
}
