package webhooks

import (
	"container/heap"
	"time"

	"github.com/keyledger/keyledger/events"
)

// Limits of one lane, in deliveries. What an endpoint is owed beyond them stays in the
// log: a lane remembers only where to go on.
const (
	laneQueueMax  = 64  // in memory, not yet tried
	laneQueueLow  = 32  // at which a lane that is behind is filled up again
	laneFlyingMax = 8   // attempts under way at once
	laneAgainMax  = 2   // of those, second and later tries
	laneOpenMax   = 100 // tried, or being tried, and not settled
	laneWidth     = 2   // first tries under way at once once there was a prompt answer; see lane.width
)

// entry is one delivery that is owed: where its event stands, and its number among all
// that the endpoint was ever owed, which is the extension "sequence". The body is made
// from the log at each attempt, so that nothing else has to be kept and the bytes are
// the same every time.
type entry struct {
	feed   uint64 // sequence in the feed
	commit uint64 // sequence of its commit in the log
	number uint64
	group  uint64 // name of its group; see groupOf
}

// delivery is an entry that was tried, or is being tried, and is not settled.
type delivery struct {
	entry
	tries  int         // that ended and counted
	next   time.Time   // of the next try; no meaning while it is under way
	flying bool        // under way
	first  events.Time // of the first failure
	last   events.Time // when the last try ended
	status int         // HTTP status of the last try, 0 if there was no answer
	reason string      // what the last try failed with: phase and text, "" for a status alone
	replay *replay     // that it is of; nil: it is owed
}

// lane is what stands between one endpoint and the log: the deliveries in memory, and
// how far the endpoint is. All of it is guarded by Dispatcher.mu.
//
//	log ──▶ queue (64) ──▶ open (100): under way (8), or waiting for the next try ──▶ settled
//	  └───▶ behind: remembers the first event that did not fit, and is refilled from the feed
type lane struct {
	*subscriber

	// What a checkpoint says at the start: everything up to restored is settled, except
	// what saved lists, by feed sequence. What the log or a reading of the feed has come
	// upon leaves saved for open.
	restored uint64
	saved    map[uint64]*delivery
	listed   map[uint64]uint64 // likewise, by group: from this feed sequence on nothing of it is settled
	skipped  uint64            // up to this feed sequence everything was jumped over; it is within restored

	queue   []place              // owed and not yet tried, in order
	behind  bool                 // more is owed than the queue has
	next    place                // while behind: from where to read on
	open    map[uint64]*delivery // tried and not settled, by feed sequence
	waiting tryHeap              // those of open that are not under way, and the oldest of their group
	ordered bool                 // the events of a group are kept in order
	groups  map[uint64]*group    // by name: those that have an open delivery, or withhold some
	firsts  int                  // first tries under way
	agains  int                  // later tries under way, and first ones of replays
	served  bool                 // the last attempt that began was one of agains

	replays     []*replay // that are not finished, oldest first
	replayFirst bool      // a replay is read before the queue is filled up: they take turns

	// width is how many first tries may be under way: 1 at first, laneWidth once there was a
	// prompt answer, and one more with each delivery, up to laneFlyingMax. An attempt without
	// a whole answer sets it to 1, and so does the first one that is late.
	width   int
	manner  manner    // how its endpoint answers
	late    int       // attempts under way that took Config.SlowAfter already
	held    time.Time // nothing is sent before
	pace    *pace     // of attempts; nil: there is no rate
	failing *failing  // since when every attempt fails; nil: not every one does
	gone    bool      // answered 410, or being disabled: nothing is sent until an event says more about the endpoint
	removed bool      // nothing is owed any more
	parked  bool      // only the oldest delivery is tried; see park.go
	probing bool      // parked, and one of the oldest is dead: tries come probeEvery apart at most

	refilling bool      // somebody reads the feed for it
	turn      bool      // the last reading was for a group
	look      time.Time // when to look at the feed again, which did not go far enough
	lagging   time.Time // since when the feed does not go far enough, or does not answer; zero: it does
	fromLog   time.Time // until then the log is read, and not the feed

	lined [lineCount]bool // the lines it stands in
	at    time.Time       // when the timer looks at it; zero: it does not
	index int             // in the timer's heap
}

func newLane(s *subscriber) *lane {
	return &lane{subscriber: s, width: 1, index: -1}
}

// owe takes an event that the fold finds the endpoint is owed, and says whether anything
// changed for the worker.
func (l *lane) owe(e entry) bool {
	if l.behind {
		return false
	}
	return l.meet(place{e, l.terms})
}

// meet takes a delivery in that the lane has come to, each once and in order: it is settled
// already, or open, by the checkpoint; or it waits for its first try; or the lane falls
// behind. It says whether anything changed for the worker.
func (l *lane) meet(p place) bool {
	seen := l.seen(p.entry)
	if from, listed := l.listed[p.group]; listed && !seen {
		l.listed[p.group] = max(from, p.feed+1)
	}
	g := l.groups[p.group]
	switch {
	case g != nil && g.more > 0:
		g.withhold(p) // to be judged when the group has read that far
	case seen:
		return l.resume(p.entry)
	case p.feed <= l.restored:
		l.group(p.group).withhold(p)
	case !l.admit(p):
		l.behind, l.next = true, p
	}
	return true
}

// seen says whether the checkpoint calls a delivery settled, or open.
func (l *lane) seen(e entry) bool {
	from, listed := l.listed[e.group]
	return e.feed <= l.restored && (!listed || e.feed < from || e.feed <= l.skipped)
}

// resume makes a delivery wait on that the checkpoint calls open, and says whether it does.
func (l *lane) resume(e entry) bool {
	d := l.saved[e.feed]
	if d == nil {
		return false
	}
	delete(l.saved, e.feed)
	if d.reason != "" && l.manner == mannerUnsure {
		l.manner = mannerSilent
	}
	d.entry = e
	l.wait(d)
	return true
}

// rereads says whether a place of the lane is not behind what the checkpoint calls settled: it
// reads on from a saved directory that is older. Until it is past that, the numbers of what
// it is owed are known, and not which of them are settled; it queues nothing.
func (l *lane) rereads() bool {
	if l.behind && l.next.feed <= l.restored {
		return true
	}
	for _, g := range l.groups {
		if g.rereads() {
			return true
		}
	}
	return false
}

// wait makes a delivery wait for its next try, or behind another of its group.
func (l *lane) wait(d *delivery) {
	d.flying = false
	l.keep(d)
	if l.join(d) {
		heap.Push(&l.waiting, d)
	}
}

// keep notes a delivery as open.
func (l *lane) keep(d *delivery) {
	if d.replay == nil && l.open == nil {
		l.open = map[uint64]*delivery{}
	}
	l.openOf(d)[d.feed] = d
}

// done takes a delivery out that is settled. A lane with nothing to do keeps no memory for it.
func (l *lane) done(d *delivery) {
	delete(l.openOf(d), d.feed)
	l.leave(d)
	l.endReplays()
	if len(l.open)+len(l.queue)+len(l.waiting)+len(l.groups) == 0 {
		l.open, l.queue, l.waiting, l.groups = nil, nil, nil, nil
	}
}

// runs says whether attempts may start at all, apart from the hold.
func (l *lane) runs() bool {
	return !l.removed && !l.gone && l.endpoint.Status == events.Active
}

// due says whether the time of a later try has come.
func (l *lane) due(now time.Time) bool {
	d := l.upNext()
	return d != nil && !d.next.After(now)
}

// firstReady says whether a first try may start. Where only one attempt may begin, first and
// later tries take turns.
func (l *lane) firstReady(now time.Time) bool {
	return l.firstCan(now) && (!l.single() || l.served || !l.againCan(now))
}

// againReady says whether a later try may start.
func (l *lane) againReady(now time.Time) bool {
	return l.againCan(now) && (!l.single() || !l.served || !l.firstCan(now))
}

// single says whether only one attempt may begin at a time.
func (l *lane) single() bool { return l.pace != nil || l.manner == mannerSilent }

// firstCan is firstReady whoever's turn it is. Two of the endpoint's slots are kept
// for later tries while there are any to make.
func (l *lane) firstCan(now time.Time) bool {
	if l.openAll() >= laneOpenMax && !l.parked || !l.runs() || l.rests().After(now) {
		return false
	}
	from, ok := l.source()
	if !ok || from != nil && len(from.held) == 0 {
		return false
	}
	if l.parked || l.manner == mannerSilent {
		return l.firsts+l.agains == 0
	}
	kept := l.agains
	if l.due(now) || l.replayReady() {
		kept++
	}
	return l.firsts < min(l.width, laneFlyingMax-min(kept, laneAgainMax))
}

// againCan is againReady whoever's turn it is.
func (l *lane) againCan(now time.Time) bool {
	if !l.due(now) && !l.replayReady() || !l.runs() || l.rests().After(now) {
		return false
	}
	if l.manner == mannerSilent {
		return l.firsts+l.agains == 0
	}
	return l.agains < laneAgainMax && l.firsts+l.agains < laneFlyingMax
}

// takeFirst starts the first try of the oldest delivery that may have one.
func (l *lane) takeFirst() *delivery {
	from, _ := l.source()
	l.firsts, l.served = l.firsts+1, false
	return l.takeFrom(from)
}

// takeAgain starts the next try of the waiting delivery whose time came first.
func (l *lane) takeAgain() *delivery {
	d := l.upNext()
	l.unwait(d)
	d.flying = true
	l.agains, l.served = l.agains+1, true
	return d
}

// land ends an attempt; first says whether takeFirst began it.
func (l *lane) land(first bool) {
	if first {
		l.firsts--
	} else {
		l.agains--
	}
}

// drop forgets all that is owed: the endpoint was removed.
func (l *lane) drop() {
	l.removed, l.behind = true, false
	l.queue, l.waiting, l.saved, l.listed, l.groups = nil, nil, nil, nil, nil
	clear(l.open)
	for _, r := range l.replays {
		clear(r.open)
	}
	l.replays = nil
}

// wantsRefill says whether the feed should be read for the lane.
func (l *lane) wantsRefill(now time.Time) bool { return l.refillable() && !l.look.After(now) }

// wantsReplay says whether the feed should be read for a replay of the lane.
func (l *lane) wantsReplay(now time.Time) bool { return l.readable() != nil && !l.look.After(now) }

// refillable is wantsRefill at any time.
func (l *lane) refillable() bool {
	return !l.refilling && (l.readsOn() || l.groupToRead() != 0) && (l.runs() || l.rereads())
}

// readsOn says whether the queue should be filled up.
func (l *lane) readsOn() bool { return l.behind && len(l.queue) <= laneQueueLow }

// wakeAt is when time alone lets the lane go on, zero if it never does.
func (l *lane) wakeAt(now time.Time) time.Time {
	var at time.Time
	earlier := func(t time.Time) {
		if t.After(now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if l.refillable() || l.readable() != nil {
		earlier(l.look)
	}
	if !l.runs() {
		return at
	}
	if rest := l.rests(); rest.After(now) {
		if len(l.queue)+len(l.waiting)+len(l.groups)+len(l.replays) > 0 {
			earlier(rest)
		}
	} else if d := l.upNext(); d != nil {
		earlier(d.next)
	}
	return at
}

// started is the place behind which nothing was tried, but for what groups withhold: the
// first delivery in the queue, or the first that did not fit, or, with everything tried, what
// is behind end.
func (l *lane) started(end uint64) entry {
	switch {
	case len(l.queue) > 0:
		return l.queue[0].entry
	case l.behind:
		return l.next.entry
	}
	return entry{feed: end + 1, number: l.owed + 1}
}

// pending is how many deliveries are owed and not settled.
func (l *lane) pending() uint64 {
	n := uint64(len(l.queue)+len(l.open)) + l.withheld()
	if l.behind {
		n += l.owed + 1 - l.next.number
	}
	return n
}

// tryHeap has the delivery whose next try comes first at its top; of those at the same
// moment the oldest.
type tryHeap []*delivery

// Len implements heap.Interface.
func (h tryHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h tryHeap) Less(i, j int) bool {
	if !h[i].next.Equal(h[j].next) {
		return h[i].next.Before(h[j].next)
	}
	return h[i].feed < h[j].feed
}

// Swap implements heap.Interface.
func (h tryHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *tryHeap) Push(x any) { *h = append(*h, x.(*delivery)) }

// Pop implements heap.Interface.
func (h *tryHeap) Pop() any {
	old := *h
	last := len(old) - 1
	d := old[last]
	old[last] = nil
	*h = old[:last]
	return d
}
