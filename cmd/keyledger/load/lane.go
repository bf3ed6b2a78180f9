package load

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"
)

// lane is one connection's part of the load: some slots, each with one message in
// flight. The answer to one sends the next.
type lane struct {
	conn  *nats.Conn
	job   *Job
	inbox string
	begin time.Time // of the measured time
	end   time.Time
	every time.Duration // between messages, 0: as soon as a slot is free
	free  chan int      // slots without a message, where every is not 0
	idle  chan struct{} // closed when nothing is in flight any more

	mu      sync.Mutex // guards all below
	slots   []slot
	flying  int
	pacing  bool // more will be sent, whatever is in flight
	random  *rand.ChaCha8
	pick    func() int // the next target
	body    []byte     // of the message being built; the connection copies it
	outcome *Outcome
}

// slot is one message in flight.
type slot struct {
	busy    bool
	sent    time.Time
	targets []int // of its commands
}

func newLane(conn *nats.Conn, j *Job, slots int, begin time.Time) *lane {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	random := rand.NewChaCha8(seed)
	return &lane{
		conn: conn, job: j, inbox: nats.NewInbox(), begin: begin, end: begin.Add(j.Measure),
		idle: make(chan struct{}), slots: make([]slot, slots), free: make(chan int, slots),
		random: random, pick: picker(random, j.Spread, len(j.Targets)), outcome: NewOutcome(j.accounts()),
	}
}

// picker picks one of n targets after the other.
func picker(source rand.Source, spread Spread, n int) func() int {
	random := rand.New(source)
	switch spread {
	case Hot:
		return func() int { return 0 }
	case Zipf:
		zipf := rand.NewZipf(random, zipfExponent, 1, uint64(n-1))
		return func() int { return int(zipf.Uint64()) }
	}
	return func() int { return random.IntN(n) }
}

func (l *lane) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.every > 0 {
		l.pacing = true
		for i := range l.slots {
			l.free <- i
		}
		go l.pace(time.Now())
		return
	}
	for i := range l.slots {
		l.send(i, time.Now())
	}
	l.checkIdle()
}

// pace sends a message whenever one is due, or as soon after that as a slot is free.
func (l *lane) pace(due time.Time) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	over := time.NewTimer(time.Until(l.end))
	defer over.Stop()
	for more := true; more && due.Before(l.end); due = due.Add(l.every) {
		timer.Reset(time.Until(due))
		<-timer.C
		select {
		case i := <-l.free:
			l.mu.Lock()
			l.send(i, due)
			l.mu.Unlock()
		case <-over.C:
			more = false
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pacing = false
	l.checkIdle()
}

// send sends the next message from a slot. The caller holds mu.
func (l *lane) send(i int, now time.Time) {
	s := &l.slots[i]
	s.targets = s.targets[:0]
	for range max(l.job.Array, 1) {
		s.targets = append(s.targets, l.pick())
	}
	first := &l.job.Targets[s.targets[0]]
	msg := &nats.Msg{Subject: first.Subject, Reply: l.inbox + "." + strconv.Itoa(i)}
	if l.job.Array == 0 {
		msg.Header = nats.Header{HeaderID: {l.newID(now)}}
		msg.Data = first.Body
	} else {
		msg.Data = l.array(s.targets, now)
	}
	if err := l.conn.PublishMsg(msg); err != nil {
		l.outcome.Refused["not sent: "+err.Error()]++
		return
	}
	s.sent, s.busy = now, true
	l.flying++
}

// array is the body of a message with several commands.
func (l *lane) array(targets []int, now time.Time) []byte {
	b := append(l.body[:0], '[')
	for _, target := range targets {
		b = append(b, `{"id":"`...)
		b = append(b, l.newID(now)...)
		b = append(b, `",`...)
		b = append(b, l.job.Targets[target].Body[1:]...)
		b = append(b, ',')
	}
	b[len(b)-1] = ']'
	l.body = b
	return b
}

// newID makes a command id.
func (l *lane) newID(now time.Time) string {
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(now)) // cannot fail before the year 10889
	_, _ = l.random.Read(id[6:])        // never fails
	return id.String()
}

// answered takes an answer and sends the slot's next message while there is time.
func (l *lane) answered(m *nats.Msg) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	i, err := strconv.Atoi(m.Subject[len(l.inbox)+1:])
	if err != nil || i < 0 || i >= len(l.slots) || !l.slots[i].busy {
		l.outcome.Refused["answer to nothing"]++
		return
	}
	s := &l.slots[i]
	s.busy = false
	l.flying--
	if code := l.refusal(m, len(s.targets)); code != "" {
		l.outcome.Refused[code]++
	} else {
		l.count(s, now)
	}
	switch {
	case l.every > 0:
		l.free <- i
	case now.Before(l.end):
		l.send(i, now)
	}
	l.checkIdle()
}

// count counts the commands of a slot, all of which were done.
func (l *lane) count(s *slot, now time.Time) {
	for _, target := range s.targets {
		t := &l.job.Targets[target]
		l.outcome.Taken[t.Account] += t.Cost
	}
	l.outcome.Done += int64(len(s.targets))
	if !now.Before(l.begin) && now.Before(l.end) {
		l.outcome.Measured(len(s.targets), now.Sub(s.sent))
	}
}

// refusal is why not all n commands of a message were done, "" if they were.
func (l *lane) refusal(m *nats.Msg, n int) string {
	if code := errorCode(m); code != "" {
		return code
	}
	if len(l.job.Confirm) == 0 || bytes.Count(m.Data, l.job.Confirm) == n {
		return ""
	}
	var answer struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil || answer.Code == "" {
		return "not all done" // of an array
	}
	return answer.Code
}

// checkIdle says so when nothing is in flight any more, which is so only once no slot
// sends again. The caller holds mu.
func (l *lane) checkIdle() {
	if l.flying > 0 || l.pacing {
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
func (l *lane) addTo(sum *Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcome.Lost = l.flying
	sum.Add(l.outcome)
}
