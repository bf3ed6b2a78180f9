package webhooks

import (
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// owedTo names a delivery: the registration of its endpoint, and its event.
type owedTo struct{ registered, feed uint64 }

// model is a log in memory with a dispatcher of which a test moves every part, what the
// whole log owes, and what is settled.
type model struct {
	t     *testing.T
	rng   *mathrand.Rand
	log   *store.Memory
	tail  *store.Tail
	chain store.Chain
	now   time.Time
	lines *lines
	dir   string

	whole directory         // the whole log, folded
	owed  map[owedTo]entry  // by that fold, of endpoints that are not removed
	ids   map[string]uint64 // registrations by endpoint
	skips map[uint64]uint64 // by registration: feed sequence up to which everything was jumped over
	ends  []uint64          // of each commit: feed sequence of its last event

	d       *Dispatcher
	settled map[owedTo]bool // as d knows it
	flying  []*flight

	checkpoints []*checkpoint
	files       [][]byte
}

func newModel(t *testing.T, rng *mathrand.Rand) *model {
	m := &model{
		t: t, rng: rng, log: &store.Memory{}, now: time.UnixMilli(1_790_000_000_000), lines: &lines{}, dir: t.TempDir(),
		whole: directory{}, owed: map[owedTo]entry{}, ids: map[string]uint64{}, skips: map[uint64]uint64{}, settled: map[owedTo]bool{},
	}
	m.tail = store.NewTail(m.log, 0)
	m.d = m.start(&checkpoint{}, nil)
	return m
}

// start makes a dispatcher as it is when a start has folded the log.
func (m *model) start(c *checkpoint, file []byte) *Dispatcher {
	m.t.Helper()
	d := New(Config{
		Tail: m.tail, Dir: m.dir, Clock: func() time.Time { return m.now }, Logger: slog.New(slog.NewJSONHandler(m.lines, nil)),
	})
	d.restored = decode(m.t, c.encode(checkpointBytesMax))
	if file != nil {
		if err := os.WriteFile(d.directoryPath(), file, 0o600); err != nil {
			m.t.Fatal(err)
		}
	} else if err := removeDirectory(d.directoryPath()); err != nil {
		m.t.Fatal(err)
	}
	if err := d.recall(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	for d.read.Sequence < m.chain.Sequence {
		next, err := m.tail.Commit(m.t.Context(), d.read.Sequence+1)
		if err != nil {
			m.t.Fatal(err)
		}
		if err := d.fold(m.t.Context(), next); err != nil {
			m.t.Fatal(err)
		}
	}
	d.begin()
	return d
}

// commit appends events; the dispatcher and the fold of the whole log take them in.
func (m *model) commit(list []events.Event) {
	c := appendTo(m.t, m.log, &m.chain, m.now, []store.Entry{command(list...)})
	m.tail.Push(c)
	m.ends = append(m.ends, c.End())
	if err := m.d.fold(m.t.Context(), c); err != nil {
		m.t.Fatal(err)
	}
	for i := range list {
		feed := c.Ordinal + uint64(i) + 1
		about := m.whole.fold(&sight{Event: &list[i], feed: feed, commit: c.Sequence, in: c}, func(s *subscriber) {
			m.owed[owedTo{s.registered, feed}] = entry{feed: feed, commit: c.Sequence, number: s.owed, group: groupOf(&list[i])}
		})
		if about != nil && about.endpoint.Status == events.Removed {
			delete(m.ids, about.endpoint.ID)
			maps.DeleteFunc(m.owed, func(o owedTo, _ entry) bool { return o.registered == about.registered })
		} else if about != nil {
			m.ids[about.endpoint.ID] = about.registered
			m.skip(about, feed)
		}
	}
}

// skip settles what an endpoint's event with a feed sequence jumps over.
func (m *model) skip(about *subscriber, feed uint64) {
	var commit, index int
	up := feed
	switch n, _ := fmt.Sscanf(about.endpoint.SkipTo, "0:%d.%d", &commit, &index); {
	case about.endpoint.SkipTo == "":
		return
	case n == 1 && commit < len(m.ends): // not the event's own, which is the last
		up = m.ends[commit-1]
	case n == 2 && commit <= len(m.ends):
		up = m.ends[commit-1]
		if begin := append([]uint64{0}, m.ends...)[commit-1]; begin+uint64(index)+1 < up {
			up = begin + uint64(index) + 1
		}
	}
	m.skips[about.registered] = max(m.skips[about.registered], min(up, feed))
	m.settleSkipped()
}

// settleSkipped settles all that was jumped over.
func (m *model) settleSkipped() {
	for o := range m.owed {
		if o.feed <= m.skips[o.registered] {
			m.settled[o] = true
		}
	}
}

// happen commits some random events: mostly such as are owed, and changes of endpoints.
func (m *model) happen() {
	accounts, environments := []string{"a", "b"}, []string{events.Test, events.Live}
	filters := []string{"*", "credit.*", "credit.debited", "endpoint.*", "account.*"}
	statuses := []string{events.Active, events.Active, events.Paused, events.Disabled, events.Removed}
	account := accounts[m.rng.IntN(2)]
	var list []events.Event
	for range 1 + m.rng.IntN(40) {
		e := debit(account, environments[m.rng.IntN(2)], 1)
		e.Subject = []string{"key_1", "key_2"}[m.rng.IntN(2)]
		list = append(list, e)
	}
	if m.rng.IntN(3) == 0 {
		e := &events.Endpoint{
			ID: fmt.Sprintf("%s%d", account, m.rng.IntN(3)), Account: account, Environment: environments[m.rng.IntN(2)],
			Events: []string{filters[m.rng.IntN(len(filters))]}, Headers: []string{}, Keys: []string{}, Status: statuses[m.rng.IntN(len(statuses))],
			Ordering: []string{events.OrderingNone, events.OrderingKey}[m.rng.IntN(2)],
		}
		switch m.rng.IntN(4) {
		case 0:
			e.Keys = []string{"key_2"}
		case 1:
			e.Filters = jsontext.Value(`[{"exact":{"subject":"key_1"}}]`)
		}
		switch m.rng.IntN(8) {
		case 0:
			e.SkipTo = skipNow
		case 1:
			e.SkipTo = fmt.Sprintf("0:%d", 1+m.rng.IntN(len(m.ends)+3))
		case 2:
			e.SkipTo = fmt.Sprintf("0:%d.%d", 1+m.rng.IntN(len(m.ends)+2), m.rng.IntN(45))
		}
		at, types := m.rng.IntN(len(list)), []string{"endpoint.resumed", "endpoint.tested"}
		list[at] = events.Event{Type: types[m.rng.IntN(2)], Account: account, Environment: e.Environment, Subject: e.ID, Data: e}
	}
	m.commit(list)
}

// lane returns one of the dispatcher's lanes, nil where there are none.
func (m *model) lane() *lane {
	ids := slices.Sorted(maps.Keys(m.d.lanes))
	if len(ids) == 0 {
		return nil
	}
	return m.d.lanes[ids[m.rng.IntN(len(ids))]]
}

// try begins an attempt of a lane, if one may begin, and says whether it did.
func (m *model) try(l *lane) bool {
	f := &flight{lane: l, line: lineFirst}
	switch {
	case l.firstReady(m.now):
		f.delivery = l.takeFirst()
	case l.againReady(m.now):
		f.line, f.delivery = lineAgain, l.takeAgain()
	default:
		return false
	}
	m.flying = append(m.flying, f)
	return true
}

// land ends the attempt at an index: delivered or dead, or to be tried again.
func (m *model) land(i int, settled bool) *flight {
	f := m.flying[i]
	m.flying = slices.Delete(m.flying, i, i+1)
	f.lane.land(f.line == lineFirst)
	switch {
	case f.lane.dropped(f.delivery):
	case settled:
		f.lane.done(f.delivery)
		m.settled[owedTo{f.lane.registered, f.delivery.feed}] = true
	default:
		f.delivery.tries++
		f.delivery.next = m.now.Add(time.Duration(m.rng.IntN(5000)) * time.Millisecond)
		f.lane.wait(f.delivery)
	}
	return f
}

// refill reads on for a lane that wants it, and says whether it did.
func (m *model) refill(d *Dispatcher, l *lane) bool {
	if !l.wantsRefill(m.now) {
		return false
	}
	w := d.wantedOwed(l, m.now)
	f, err := d.readLog(m.t.Context(), w)
	if err != nil {
		m.t.Fatal(err)
	}
	d.refilled(l, w, f, nil)
	return true
}

// step does one random thing.
func (m *model) step() {
	l := m.lane()
	switch n := m.rng.IntN(20); {
	case n < 3 || l == nil:
		m.happen()
	case n < 6:
		for m.rng.IntN(8) > 0 && m.try(l) {
		}
	case n < 8: // it catches up
		for range m.rng.IntN(200) {
			if m.try(l) {
				m.land(len(m.flying)-1, m.rng.IntN(30) > 0)
			}
			m.refill(m.d, l)
		}
	case n < 13:
		for len(m.flying) > 0 && m.rng.IntN(10) > 0 {
			m.land(m.rng.IntN(len(m.flying)), m.rng.IntN(4) > 0)
		}
	case n < 15:
		m.refill(m.d, l)
	case n < 16:
		m.now = m.now.Add(time.Duration(m.rng.IntN(4000)) * time.Millisecond)
	case n < 17:
		l.held = m.now.Add(time.Duration(m.rng.IntN(3000)) * time.Millisecond)
	case n < 18:
		s := m.d.takeDown()
		for o, e := range m.owed {
			if s.settledFor(o.registered, e) && !m.settled[o] {
				m.t.Fatalf("event %d to the endpoint of %d is called settled", o.feed, o.registered)
			}
		}
		m.files = append(m.files, s.encode())
	default:
		c := m.d.snapshot(m.now)
		m.agrees(c)
		limit := checkpointBytesMax
		if m.rng.IntN(4) == 0 { // too little room: it then calls less settled
			limit = len(c.head(c.reasons(), 0)) + 16 + m.rng.IntN(200)
		}
		cut := decode(m.t, c.encode(limit))
		for o, e := range m.owed {
			if cut.settledFor(o.registered, e) && !m.settled[o] {
				m.t.Fatalf("event %d to the endpoint of %d is called settled in %d bytes", o.feed, o.registered, limit)
			}
		}
		m.checkpoints = append(m.checkpoints, cut)
	}
}

// agrees checks that a checkpoint calls settled what is, and nothing else.
func (m *model) agrees(c *checkpoint) {
	m.t.Helper()
	for o, e := range m.owed {
		if got := c.settledFor(o.registered, e); got != m.settled[o] {
			m.t.Fatalf("event %d to the endpoint of %d: settled is %t, want %t", o.feed, o.registered, got, m.settled[o])
		}
	}
}

// settledFor says whether a saved directory calls a delivery settled.
func (s *savedDirectory) settledFor(registered uint64, e entry) bool {
	feed := e.feed
	for i := range s.lanes {
		l := &s.lanes[i]
		if l.registered != registered || feed > s.at.Ordinal {
			continue
		}
		if feed <= l.skipped {
			return true
		}
		held := func(g savedGroup) bool { return g.name == e.group && feed >= g.next.feed }
		if l.behind && feed >= l.next.feed || slices.ContainsFunc(l.groups, held) {
			continue
		}
		same := func(e entry) bool { return e.feed == feed }
		return !slices.ContainsFunc(l.open, same) && !slices.ContainsFunc(l.queue, func(p place) bool { return same(p.entry) })
	}
	return false
}

// recent picks one of a list, more often one of the last, and forgets those after it.
func recent[T any](rng *mathrand.Rand, list *[]T) T {
	n := len(*list)
	*list = (*list)[:n-min(rng.IntN(n), rng.IntN(n), rng.IntN(n))]
	return (*list)[len(*list)-1]
}

// crash goes on as after a crash: from a checkpoint and a directory of whatever age. What was
// saved after either is lost, or was never written.
func (m *model) crash() {
	c, file, saved := &checkpoint{}, []byte(nil), &savedDirectory{}
	if len(m.checkpoints) > 0 && m.rng.IntN(10) > 0 {
		c = recent(m.rng, &m.checkpoints)
	} else {
		m.checkpoints = nil
	}
	if len(m.files) > 0 && m.rng.IntN(5) > 0 {
		file = recent(m.rng, &m.files)
	}
	if c.Sequence == 0 || file == nil {
		m.files = nil
	} else {
		saved, _ = decodeDirectory(file)
	}
	m.settled = map[owedTo]bool{}
	for o, e := range m.owed {
		if c.settledFor(o.registered, e) || saved.settledFor(o.registered, e) {
			m.settled[o] = true
		}
	}
	m.settleSkipped()
	m.flying = nil
	m.drain(m.start(c, file), c)
	m.d = m.start(c, file)
	m.agrees(m.d.snapshot(m.now))
}

// drain checks what a dispatcher that has just started owes: that its directory is what the
// fold of the whole log makes, that each lane, running or not, comes to know what is
// pending, and that exactly this is delivered then, under the same numbers.
func (m *model) drain(d *Dispatcher, c *checkpoint) {
	m.t.Helper()
	same := cmp.Options{cmp.AllowUnexported(subscriber{}, place{}, entry{}), cmp.Comparer((*terms).equal), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(m.whole, d.directory, same); diff != "" {
		m.t.Fatalf("the directory (-whole +started):\n%s", diff)
	}
	pending := map[uint64]map[uint64]entry{}
	for _, l := range d.lanes {
		pending[l.registered] = map[uint64]entry{}
	}
	for o, e := range m.owed {
		if !m.settled[o] {
			pending[o.registered][o.feed] = e
		}
	}
	for _, l := range d.lanes {
		for l.rereads() && m.refill(d, l) {
		}
		if n := l.pending(); l.rereads() || n != uint64(len(pending[l.registered])) {
			m.t.Fatalf("%s of %d has %d pending, want %d", l.endpoint.ID, l.registered, n, len(pending[l.registered]))
		}
		m.drainLane(d, l, c, pending[l.registered])
		if len(pending[l.registered]) > 0 {
			m.t.Fatalf("%s of %d is not delivered %v", l.endpoint.ID, l.registered, pending[l.registered])
		}
	}
}

// drainLane delivers all that a lane has pending, and takes it out of want.
func (m *model) drainLane(d *Dispatcher, l *lane, c *checkpoint, want map[uint64]entry) {
	m.t.Helper()
	active := *l.endpoint
	active.Status = events.Active
	before := l.endpoint
	l.endpoint, l.held = &active, time.Time{}
	tries := map[uint64]int{}
	if state := c.lane(l.registered); state != nil {
		for _, o := range state.Open {
			tries[o.Feed] = o.Tries
		}
	}
	now, settled := m.now, m.settled
	m.now, m.settled = m.now.Add(MaxWait), maps.Clone(settled)
	defer func() { m.now, m.settled, l.endpoint = now, settled, before }()
	for m.try(l) || m.refill(d, l) {
		for len(m.flying) > 0 {
			got := m.land(0, true).delivery
			if got.entry != want[got.feed] || got.tries != tries[got.feed] {
				m.t.Fatalf("%s of %d is sent %+v after %d tries, want %+v after %d", l.endpoint.ID, l.registered, got.entry, got.tries, want[got.feed], tries[got.feed])
			}
			delete(want, got.feed)
		}
	}
}

// A dispatcher that goes on from a checkpoint and a saved directory, either of them older,
// owes what one owes that has folded the whole log: nothing is lost, no number is given to
// another event, and what either calls settled is not sent again.
func TestRecallAgainstAPlainModel(t *testing.T) {
	rng := random(t)
	recalled, reread := 0, 0
	for range 40 {
		m := newModel(t, rng)
		for range 6 {
			for range 40 + rng.IntN(150) {
				m.step()
			}
			m.crash()
			for _, l := range m.d.lanes {
				if l.rereads() {
					reread++
				}
			}
		}
		text := m.lines.String()
		recalled += strings.Count(text, goesOn)
		for _, bad := range []string{"do not agree", "left out", "is not used"} {
			if strings.Contains(text, bad) {
				t.Fatal(text)
			}
		}
	}
	if recalled == 0 || reread == 0 {
		t.Errorf("%d starts from a saved directory, %d lanes that read again", recalled, reread)
	}
	t.Logf("%d starts from a saved directory, %d lanes that read again", recalled, reread)
}
