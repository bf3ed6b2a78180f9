package webhooks

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/keyledger/keyledger/events"
)

// Limits of the replays of one lane, in deliveries. They use the slots of later tries.
const (
	replayAheadMax = 16              // read, not yet tried
	replayAheadLow = 8               // at which more are read
	replayOpenMax  = laneOpenMax / 4 // tried, or being tried, and not done
)

// replay is a job of a lane: events of the past are sent to the endpoint again. All of it is
// guarded by Dispatcher.mu.
//
//	feed or log ──▶ ahead (16) ──▶ open (25): under way (2), or waiting for the next try ──▶ done
type replay struct {
	asked   uint64 // feed sequence of its event, which is its name in checkpoints; it ends before
	commit  uint64 // log sequence of its event
	request *events.Replay
	terms   *terms // what is sent
	skipped uint64 // nothing up to this feed sequence is: the endpoint has jumped over it since

	// What a checkpoint says at the start: everything up to done is done, except what saved
	// lists, by feed sequence.
	done  uint64
	saved map[uint64]*delivery

	located bool   // what follows is known: it takes some reading
	last    uint64 // feed sequence of the last event that may be sent
	first   uint64 // and of the first
	next    place  // from where to read on
	ahead   []entry
	open    map[uint64]*delivery // tried and not done, by feed sequence
}

// replay takes a job in. It is finished already if the last checkpoint is of after it, and
// does not list it. d.mu is held.
func (d *Dispatcher) replay(l *lane, r *replay, now time.Time) {
	r.open = map[uint64]*delivery{}
	state := d.restored.replay(l.registered, r.asked)
	if state == nil && r.asked <= d.restored.Feed {
		return
	}
	if state != nil {
		r.done, r.saved = state.Done, openDeliveries(state.Open, now)
		for feed, o := range r.saved {
			if o.replay = r; feed <= r.skipped {
				delete(r.saved, feed)
			}
		}
	}
	l.replays = append(l.replays, r)
	d.dirty = true
	d.arrange(l, now)
}

// asked makes a job of an event. d.mu is held.
func (d *Dispatcher) asked(s *sight, now time.Time) {
	request, _ := s.Data.(*events.Replay)
	if request == nil {
		return
	}
	l := d.lanes[request.Endpoint]
	if l == nil || l.account != s.Account {
		return
	}
	r := &replay{asked: s.feed, commit: s.commit, request: request, terms: l.terms}
	if len(request.Events) > 0 {
		r.terms = (*terms)(nil).after(&events.Endpoint{Environment: l.terms.environment, Events: request.Events})
	}
	d.replay(l, r, now)
}

// selects says whether an event is to be sent, unless it is jumped over; d.mu need not be held.
// A replay that names no events sends the endpoint's own tests too, which it is owed by any
// terms.
func (r *replay) selects(s *sight) bool {
	if s.feed < r.first {
		return false
	}
	if len(r.request.Events) > 0 {
		return r.terms.match(s)
	}
	return r.terms.owes(r.request.Endpoint, s)
}

// begin is the feed sequence before which nothing is left to send.
func (r *replay) begin() uint64 {
	from := r.done + 1
	for feed := range r.saved {
		from = min(from, feed)
	}
	return max(r.first, from, r.skipped+1)
}

// locate sets out from the newest place of the fold that is not behind what is to be sent;
// commit is that of the first event.
func (r *replay) locate(s *subscriber, first, last, commit uint64) {
	r.located, r.first, r.last = true, first, last
	r.next = place{entry: entry{feed: first, commit: commit, number: 1}}
	if begin := r.begin(); begin > last {
		r.next.feed = last + 1
	} else if a := s.before(begin); a != nil {
		r.next = *a
	}
}

// started is the feed sequence before which everything was tried.
func (r *replay) started() uint64 {
	switch {
	case !r.located:
		return r.done + 1
	case len(r.ahead) > 0:
		return max(r.ahead[0].feed, r.done+1)
	}
	return max(min(r.next.feed, r.last+1), r.done+1)
}

// read says whether all was read, or was jumped over.
func (r *replay) read() bool {
	return r.located && r.next.feed > r.last || r.skipped >= r.asked-1
}

// finished says whether nothing is left to do.
func (r *replay) finished() bool { return r.read() && len(r.ahead)+len(r.open) == 0 }

// skip forgets what is to be sent up to a feed sequence.
func (r *replay) skip(up uint64) {
	r.skipped = max(r.skipped, up)
	maps.DeleteFunc(r.saved, func(feed uint64, _ *delivery) bool { return feed <= up })
	maps.DeleteFunc(r.open, func(feed uint64, _ *delivery) bool { return feed <= up })
	r.ahead = slices.DeleteFunc(r.ahead, func(e entry) bool { return e.feed <= up })
}

// openOf is where a delivery stands while it is tried and not settled.
func (l *lane) openOf(d *delivery) map[uint64]*delivery {
	if d.replay != nil {
		return d.replay.open
	}
	return l.open
}

// openAll is how many deliveries were tried and are not settled, those of replays too.
func (l *lane) openAll() int { return len(l.open) + l.replaysOpen() }

func (l *lane) replaysOpen() (n int) {
	for _, r := range l.replays {
		n += len(r.open)
	}
	return n
}

// replayReady says whether a delivery of a replay may be tried for the first time, as far as
// replays are concerned.
func (l *lane) replayReady() bool {
	return len(l.replays) > 0 && !l.parked && l.replaysOpen() < replayOpenMax && l.openAll() < laneOpenMax &&
		slices.ContainsFunc(l.replays, func(r *replay) bool { return len(r.ahead) > 0 })
}

// takeReplay starts the first try of the next delivery of a replay.
func (l *lane) takeReplay() *delivery {
	i := slices.IndexFunc(l.replays, func(r *replay) bool { return len(r.ahead) > 0 })
	r := l.replays[i]
	d := &delivery{entry: r.ahead[0], replay: r, flying: true}
	r.ahead = append(r.ahead[:0], r.ahead[1:]...)
	r.open[d.feed] = d
	l.agains, l.served = l.agains+1, true
	return d
}

// readable returns the replay that is read on, nil if none wants it.
func (l *lane) readable() *replay {
	if len(l.replays) == 0 || l.refilling || !l.runs() || l.rereads() {
		return nil
	}
	ahead := 0
	for _, r := range l.replays {
		if ahead += len(r.ahead); ahead > replayAheadLow {
			return nil
		}
		if !r.read() {
			return r
		}
	}
	return nil
}

// endReplays forgets what is finished.
func (l *lane) endReplays() {
	if len(l.replays) > 0 {
		l.replays = slices.DeleteFunc(l.replays, (*replay).finished)
	}
}

// wantedReplay is what a replay wants now. d.mu is held.
func (d *Dispatcher) wantedReplay(l *lane, r *replay, now time.Time) *want {
	w := d.wanted(l, now)
	w.replay, w.locate, w.from, w.to, w.settled, w.room = r, !r.located, r.next, r.last, r.done, replayAheadMax
	for _, r := range l.replays {
		w.room -= len(r.ahead)
	}
	return w
}

// takeReplayIn moves a replay on over what was read. What the endpoint is owed and still has
// pending is not sent twice: if it was tried it is due now, and else left to its turn. d.mu is
// held.
func (d *Dispatcher) takeReplayIn(l *lane, w *want, f *found, now time.Time) {
	r := w.replay
	if w.locate {
		r.locate(l.subscriber, f.first, f.last, f.next.commit)
	} else {
		pending := l.started(d.read.Ordinal).feed
		for _, p := range f.entries {
			e := p.entry
			switch o := l.open[e.feed]; {
			case e.feed <= r.skipped:
			case r.saved[e.feed] != nil:
				again := r.saved[e.feed]
				delete(r.saved, e.feed)
				again.entry = e
				l.wait(again)
			case e.feed <= r.done:
			case e.number > 0 && o != nil:
				if slices.Contains(l.waiting, o) {
					l.unwait(o)
					o.next = now
					l.wait(o)
				}
			case e.number == 0 || e.feed < pending && !l.withholds(e):
				r.ahead = append(r.ahead, e)
			}
		}
		r.next = f.next
		if f.feed {
			l.lagging = time.Time{}
		}
	}
	if r.read() {
		r.saved = nil
	}
	l.endReplays()
	d.dirty = true
}

// Replays returns how many replays of an endpoint are not finished, 0 for an endpoint that is
// not known.
func (d *Dispatcher) Replays(account, endpoint string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lanes[endpoint]; l != nil && l.account == account {
		return len(l.replays)
	}
	return 0
}

// ReplayStatus is a replay that is not finished, as endpoint.status shows it.
type ReplayStatus struct {
	ID      string `json:"id"`
	Percent int64  `json:"percent"` // of its range, in events of the log, that were read; 0 to 100
	Ahead   int    `json:"ahead"`   // deliveries that were read and not yet tried
	Open    int    `json:"open"`    // tried, and not done
}

// replayStatus lists the lane's replays, oldest first. d.mu is held.
func (l *lane) replayStatus() []ReplayStatus {
	list := make([]ReplayStatus, 0, len(l.replays))
	for _, r := range l.replays {
		s := ReplayStatus{ID: r.request.ID, Ahead: len(r.ahead), Open: len(r.open) + len(r.saved)}
		if r.located && r.last >= r.first {
			read := min(max(r.next.feed, r.first), r.last+1) - r.first
			s.Percent = int64(read * 100 / (r.last + 1 - r.first))
		}
		list = append(list, s)
	}
	return list
}

// replay returns how a replay stands, nil where it is not listed.
func (c *checkpoint) replay(registered, asked uint64) *replayState {
	l := c.lane(registered)
	if l == nil {
		return nil
	}
	i, found := slices.BinarySearchFunc(l.Replays, asked, func(r replayState, asked uint64) int { return cmp.Compare(r.Asked, asked) })
	if !found {
		return nil
	}
	return &l.Replays[i]
}
