package webhooks

import (
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// plainDelivery is one delivery as a plain model of a lane knows it.
type plainDelivery struct {
	key     string
	tries   int
	begun   bool // a first try began, and may have been cut off by a crash
	flying  bool
	settled bool
	due     time.Time // of the next try
}

// plain is a plain model of a lane: all that it was ever owed, by number, from 1 on.
type plain struct {
	list   []plainDelivery
	parked bool
	dead   bool // parked, and an oldest one died
}

func (d *plainDelivery) untried() bool { return !d.settled && !d.begun }

func (p *plain) copy() plain {
	c := *p
	c.list = slices.Clone(p.list)
	return c
}

// oldest is the index of the first that is not settled, -1 if all are.
func (p *plain) oldest() int {
	return slices.IndexFunc(p.list, func(d plainDelivery) bool { return !d.settled })
}

// open counts those that failed at least that often and are not settled; of those that did
// not fail yet, the ones of which a try began.
func (p *plain) open(failures int) (n int) {
	for _, d := range p.list {
		if !d.settled && d.begun && d.tries >= failures {
			n++
		}
	}
	return n
}

// laneModel holds one lane of a dispatcher against the plain model.
type laneModel struct {
	*model
	plain
	asSaved, asFile []plain   // as it was with each of checkpoints and files
	last            time.Time // when an attempt ended
	status          string
	ordered, never  bool // events of a key are in order; they never are
	keys            int

	parkings, probes, behind int
}

func newLaneModel(t *testing.T, rng *mathrand.Rand, ordered bool) *laneModel {
	m := &laneModel{model: newModel(t, rng), status: events.Active, ordered: ordered, never: !ordered, keys: 1 + rng.IntN(300)}
	if ordered && rng.IntN(4) > 0 {
		m.keys = 1 + rng.IntN(9)
	}
	m.commit([]events.Event{opened("a")})
	m.change()
	m.d.cfg.Schedule = schedule(t)
	return m
}

// change commits the endpoint as it is to be.
func (m *laneModel) change() {
	e := &events.Endpoint{
		ID: "a0", Account: "a", Environment: events.Test, Events: []string{"credit.*"}, Headers: []string{}, Status: m.status,
		Ordering: map[bool]string{true: events.OrderingKey, false: events.OrderingNone}[m.ordered],
	}
	m.commit([]events.Event{{Type: "endpoint.resumed", Account: "a", Environment: events.Test, Subject: "a0", Data: e}})
	if next := m.oldest(); m.parked && m.d.live && next >= 0 && !m.list[next].flying && m.list[next].due.After(m.now) {
		m.list[next].due = m.now // it is tried at once
	}
}

func (m *laneModel) lane() *lane { return m.d.lanes["a0"] }

// happen commits events that are owed.
func (m *laneModel) happen(n int) {
	list := make([]events.Event, n)
	for i := range list {
		list[i] = debit("a", events.Test, i)
		list[i].Subject = fmt.Sprintf("key_%d", min(m.rng.IntN(m.keys), m.rng.IntN(m.keys)))
		m.list = append(m.list, plainDelivery{key: list[i].Subject})
	}
	m.commit(list)
}

// blocked says whether another delivery comes before one, for they are of the same key.
func (m *laneModel) blocked(i int) bool {
	return m.ordered && slices.ContainsFunc(m.list[:i], func(d plainDelivery) bool { return !d.settled && d.key == m.list[i].key })
}

// begin begins an attempt if one may, and checks that it is one that should.
func (m *laneModel) begin() bool {
	l := m.lane()
	f := &flight{lane: l, line: lineFirst, endpoint: l.endpoint, at: m.now}
	switch first, again := l.firstReady(m.now), l.againReady(m.now); {
	case first && (!again || m.rng.IntN(2) == 0):
		f.delivery = l.takeFirst()
	case again:
		f.line, f.delivery = lineAgain, l.takeAgain()
	default:
		return false
	}
	i := int(f.delivery.number) - 1
	d := &m.list[i]
	switch {
	case d.flying || d.settled:
		m.t.Fatalf("delivery %d is sent while it is under way (%t) or settled (%t)", i+1, d.flying, d.settled)
	case f.delivery.tries != d.tries || d.tries >= m.d.cfg.Schedule.Tries():
		m.t.Fatalf("delivery %d is sent after %d tries, and had %d", i+1, f.delivery.tries, d.tries)
	case d.due.After(m.now):
		m.t.Fatalf("delivery %d is sent %s before its time", i+1, d.due.Sub(m.now))
	case m.parked && (i != m.oldest() || len(m.flying) > 0):
		m.t.Fatalf("parked, delivery %d is sent with %d under way, and the oldest is %d", i+1, len(m.flying), m.oldest()+1)
	case m.blocked(i):
		m.t.Fatalf("delivery %d is sent before one of before it is settled, of the same key", i+1)
	case m.never && !d.begun && slices.ContainsFunc(m.list[:i], func(d plainDelivery) bool { return d.untried() }):
		m.t.Fatalf("delivery %d is sent before one of before it was tried", i+1)
	}
	if d.begun, d.flying = true, true; m.open(0) > laneOpenMax {
		m.t.Fatalf("%d deliveries are open", m.open(0))
	}
	if m.dead {
		m.probes++
	}
	m.flying = append(m.flying, f)
	return true
}

// end ends the attempt at an index with an outcome.
func (m *laneModel) end(at int, o Outcome) {
	f := m.flying[at]
	m.flying = slices.Delete(m.flying, at, at+1)
	f.result = Result{Outcome: o}
	step, _ := m.d.conclude(f, m.now)
	oldest, i := m.oldest(), int(f.delivery.number)-1
	d := &m.list[i]
	d.tries, d.flying = d.tries+1, false
	d.settled = o == OutcomeDelivered || d.tries == len(DefaultDelays())
	if step.State == StatePending == d.settled {
		m.t.Fatalf("after %d tries delivery %d is %s", d.tries, i+1, step.State)
	}
	m.later(d)
	m.last = m.now
	switch {
	case o == OutcomeDelivered:
		m.parked, m.dead = false, false
	case m.parked && d.settled && i == oldest:
		m.dead = true
		if next := m.oldest(); next >= 0 {
			m.later(&m.list[next])
		}
	case !m.parked && m.open(1) >= laneOpenMax:
		m.parked = true
		m.parkings++
	}
	if m.lane().parked != m.parked {
		m.t.Fatalf("the lane is parked: %t, want %t", m.lane().parked, m.parked)
	}
}

// later sets the time of a delivery's next try.
func (m *laneModel) later(d *plainDelivery) {
	if d.settled {
		return
	}
	wait := DefaultDelays()[d.tries]
	if m.dead {
		wait = min(wait, probeEvery)
	}
	d.due = m.now.Add(wait)
}

// read reads on for the lane as long as it wants that.
func (m *laneModel) read() {
	for m.refill(m.d, m.lane()) {
	}
}

// check checks what must hold between two steps.
func (m *laneModel) check() {
	l := m.lane()
	if l.endpoint.Status != events.Active || len(m.flying) > 0 {
		return
	}
	m.read()
	ready, wake := l.firstReady(m.now) || l.againReady(m.now), l.wakeAt(m.now)
	i := m.oldest()
	switch {
	case !m.parked && !ready && m.open(0) < laneOpenMax && m.startable() >= 0:
		m.t.Fatalf("delivery %d could be sent, and is not", m.startable()+1)
	case i < 0 || ready:
	case wake.IsZero():
		m.t.Fatalf("the lane stands still with delivery %d owed", i+1)
	case m.dead && wake.Sub(m.last) > probeEvery:
		m.t.Fatalf("parked, with one dead, the lane waits %s after a try", wake.Sub(m.last))
	case m.parked && !wake.Equal(m.list[i].due):
		m.t.Fatalf("parked, the lane waits until %s, and its oldest until %s", wake, m.list[i].due)
	}
	if n := len(l.open) + len(l.queue); n > laneOpenMax+laneQueueMax || len(l.waiting) > len(l.open) || len(l.groups) > 2*laneOpenMax {
		m.t.Fatalf("%d deliveries in memory, %d wait, %d groups", n, len(l.waiting), len(l.groups))
	}
	for _, g := range l.groups {
		if g.more > 0 {
			m.behind++
		}
		if len(g.held) > groupHeldMax {
			m.t.Fatalf("%d deliveries are held back in a group", len(g.held))
		}
	}
	if n := slices.DeleteFunc(slices.Clone(m.list), func(d plainDelivery) bool { return d.settled }); uint64(len(n)) != l.pending() {
		m.t.Fatalf("%d deliveries are pending, want %d", l.pending(), len(n))
	}
}

// startable is the index of a delivery that was not tried and that nothing keeps from it, -1
// if there is none.
func (m *laneModel) startable() int {
	before := map[string]bool{}
	for i, d := range m.list {
		if d.settled {
			continue
		}
		if d.untried() && !(m.ordered && before[d.key]) {
			return i
		}
		before[d.key] = true
	}
	return -1
}

// step does one random thing. sick receivers fail nearly everything.
func (m *laneModel) step(sick bool) {
	l := m.lane()
	outcome := func() Outcome {
		if sick && m.rng.IntN(400) > 0 || !sick && m.rng.IntN(10) == 0 {
			return OutcomeFailed
		}
		return OutcomeDelivered
	}
	switch n := m.rng.IntN(20); {
	case n < 2 && l.pending() < 3*laneOpenMax:
		m.happen(1 + m.rng.IntN(60))
	case n < 10:
		for m.rng.IntN(8) > 0 && m.begin() {
		}
	case n < 15:
		for len(m.flying) > 0 && m.rng.IntN(8) > 0 {
			m.end(m.rng.IntN(len(m.flying)), outcome())
		}
	case n < 16:
		m.now = m.now.Add(time.Duration(m.rng.IntN(4000)) * time.Second)
	case n < 18:
		if wake := l.wakeAt(m.now); !wake.IsZero() {
			m.now = wake
		}
	case n < 19 && m.rng.IntN(10) == 0:
		m.status = []string{events.Paused, events.Active}[m.rng.IntN(2)]
		m.ordered = !m.never && m.rng.IntN(2) == 0
		m.change()
	default:
		m.read()
	}
	m.check()
}

// keep saves a checkpoint, or the directory.
func (m *laneModel) keep() {
	if m.rng.IntN(3) == 0 {
		m.files, m.asFile = append(m.files, m.d.takeDown().encode()), append(m.asFile, m.copy())
		return
	}
	m.checkpoints = append(m.checkpoints, decode(m.t, m.d.snapshot(m.now).encode(checkpointBytesMax)))
	m.asSaved = append(m.asSaved, m.copy())
}

// crash goes on as after a crash from a checkpoint and a directory of whatever age: what
// either calls settled is, and the tries are as the checkpoint has them.
func (m *laneModel) crash() {
	c, was := &checkpoint{}, plain{}
	if n := len(m.checkpoints); n > 0 {
		i := n - 1 - m.rng.IntN(min(n, 3))
		c, was = m.checkpoints[i], m.asSaved[i]
		m.checkpoints, m.asSaved = m.checkpoints[:i+1], m.asSaved[:i+1]
	}
	var file []byte
	if n := len(m.files); n > 0 && c.Sequence > 0 && m.rng.IntN(3) > 0 {
		i := n - 1 - m.rng.IntN(min(n, 3))
		file, m.files = m.files[i], m.files[:i+1]
		for j, d := range m.asFile[i].list {
			if j >= len(was.list) {
				was.list = append(was.list, plainDelivery{})
			}
			was.list[j].settled = was.list[j].settled || d.settled
			was.list[j].begun = was.list[j].begun || d.begun
		}
	}
	if file == nil {
		m.files, m.asFile = nil, nil
	}
	m.asFile = m.asFile[:len(m.files)]
	m.d = m.start(c, file)
	m.d.cfg.Schedule = schedule(m.t)
	all := m.list
	m.plain, m.flying = was.copy(), nil
	m.list = append(m.list, make([]plainDelivery, len(all)-len(m.list))...)
	for i := range m.list {
		if d := &m.list[i]; d.key == "" {
			d.key = all[i].key
		}
		if d := &m.list[i]; d.flying || d.due.IsZero() {
			d.flying, d.due = false, m.now.Add(-time.Hour)
		}
	}
	m.read()
}

// drain lets the receiver be well, and checks that all is delivered that is not settled.
func (m *laneModel) drain() {
	m.status = events.Active
	m.change()
	for m.oldest() >= 0 {
		m.read()
		for m.begin() {
		}
		m.check()
		if len(m.flying) == 0 {
			m.now = m.lane().wakeAt(m.now)
		}
		for len(m.flying) > 0 {
			m.end(m.rng.IntN(len(m.flying)), OutcomeDelivered)
		}
	}
	if l := m.lane(); l.parked || l.pending() > 0 || len(l.open) > 0 {
		m.t.Fatalf("all is settled; parked %t, %d pending, %d open", l.parked, l.pending(), len(l.open))
	}
}

// A lane does as the plain model, whatever its receiver answers and wherever it crashes:
// nothing is lost, no delivery has more tries than the schedule, and nothing behind the
// cursor of a parked lane is tried or dies.
func TestLaneAgainstAPlainModel(t *testing.T) {
	rng := random(t)
	parkings, probes, behind := 0, 0, 0
	for i := range 12 {
		m := newLaneModel(t, rng, i%2 == 0)
		for range 4 {
			sick := rng.IntN(3) > 0
			for range 100 + rng.IntN(1200) {
				m.step(sick)
				if rng.IntN(20) == 0 {
					m.keep()
				}
			}
			m.crash()
		}
		m.drain()
		parkings, probes, behind = parkings+m.parkings, probes+m.probes, behind+m.behind
	}
	text := fmt.Sprintf("%d times parked, %d tries with one dead, %d times a group behind", parkings, probes, behind)
	if parkings == 0 || probes == 0 || behind == 0 {
		t.Error(text)
	}
	t.Log(text)
}
