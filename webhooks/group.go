package webhooks

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/keyledger/keyledger/events"
)

// Limits of one group of a lane, in deliveries.
const (
	groupHeldMax = 8 // in memory, not yet tried
	groupHeldLow = 4 // at which a group that is behind is filled up again
)

// group is the deliveries of events that must arrive in order, at an endpoint that asks for
// that: those of one key, or else of the account. One is under way or waits for its next try,
// and what follows waits behind it. A lane has only groups in which there is something to do;
// there are as many as open deliveries at most.
//
//	queue of the lane ──▶ opens ──▶ settled
//	     └──▶ held (8) ──▶ ┘
//	     └──▶ behind: counts the rest, remembers its first, and is refilled from the feed
//
// A lane that asks for no order any more has groups until what was held back has gone out.
type group struct {
	opens []*delivery // of lane.open, by feed sequence; only the first is tried. None without an order
	held  []place     // owed and not yet tried, behind those, in order
	more  uint64      // owed, behind those of held
	next  place       // while there are more: from where to read on
	// settled is what a checkpoint says at the start: up to this feed sequence everything is
	// settled, but for what lane.saved lists.
	settled uint64
}

// groupOf is the name of an event's group: FNV-1a of its partition key. Where two keys have
// the same name, one waits for the other.
func groupOf(e *events.Event) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, b := range []byte(e.PartitionKey()) {
		h = (h ^ uint64(b)) * prime
	}
	return max(h, 1) // 0 is no group
}

// withholds says whether there are deliveries that wait for their first try.
func (g *group) withholds() bool { return len(g.held) > 0 || g.more > 0 }

// first is the place of the first of those.
func (g *group) first() place {
	if len(g.held) > 0 {
		return g.held[0]
	}
	return g.next
}

// withhold lets a delivery wait behind all others.
func (g *group) withhold(p place) {
	switch {
	case g.more > 0:
		g.more++
	case len(g.held) >= groupHeldMax:
		g.more, g.next = 1, p
	default:
		g.held = append(g.held, p)
	}
}

// rereads says whether the group reads again what the checkpoint calls settled.
func (g *group) rereads() bool { return g.more > 0 && g.next.feed <= g.settled }

// wantsRefill says whether the feed should be read for the group.
func (g *group) wantsRefill() bool { return g.more > 0 && len(g.held) <= groupHeldLow }

// idle says whether nothing keeps the next of what is withheld from being tried.
func (g *group) idle() bool { return len(g.opens) == 0 }

// join lets an open delivery stand in its group, if the lane has an order, and says whether
// it is the one that is tried. Replays are in no group.
func (l *lane) join(d *delivery) bool {
	if !l.ordered || d.replay != nil {
		return true
	}
	g := l.group(d.group)
	i, found := slices.BinarySearchFunc(g.opens, d.feed, func(o *delivery, feed uint64) int { return cmp.Compare(o.feed, feed) })
	if !found {
		g.opens = slices.Insert(g.opens, i, d)
	}
	return i == 0
}

// group returns the group with a name, made if there is none.
func (l *lane) group(name uint64) *group {
	g := l.groups[name]
	if g == nil {
		if g = (&group{}); l.groups == nil {
			l.groups = map[uint64]*group{}
		}
		l.groups[name] = g
	}
	return g
}

// leave takes a delivery that is settled out of its group; the next one is tried then.
func (l *lane) leave(d *delivery) {
	g := l.groups[d.group]
	if g == nil || d.replay != nil {
		return
	}
	if i := slices.Index(g.opens, d); i >= 0 {
		g.opens = slices.Delete(g.opens, i, i+1)
		if i == 0 && len(g.opens) > 0 && !g.opens[0].flying {
			heap.Push(&l.waiting, g.opens[0])
		}
	}
	l.tidy(d.group)
}

// tidy drops a group in which nothing is left to do.
func (l *lane) tidy(name uint64) {
	if g := l.groups[name]; g != nil && len(g.opens) == 0 && !g.withholds() {
		delete(l.groups, name)
	}
}

// admit lets a delivery that was not tried wait for that, in its group if that has others,
// or else in the queue; false: there is no room.
func (l *lane) admit(p place) bool {
	if g := l.groups[p.group]; g != nil {
		g.withhold(p)
		return true
	}
	if len(l.queue) >= laneQueueMax {
		return false
	}
	l.queue = append(l.queue, p)
	return true
}

// load is how many of laneOpenMax are taken: by open deliveries, and by groups that wait until
// more was read for them.
func (l *lane) load() int {
	n := l.openAll()
	for _, g := range l.groups {
		if g.idle() && len(g.held) == 0 {
			n++
		}
	}
	return n
}

// source says where the next first try comes from: the queue (nil) or a group, whichever has
// the older event; false if there is none at the moment. Nothing behind the queue's first is
// tried before it, for a checkpoint calls nothing behind that settled. A parked lane tries
// only its oldest, so that it waits where this is still to be read.
func (l *lane) source() (from *group, ok bool) {
	var best uint64
	older := func(p place) bool { return !ok || p.feed < best }
	for _, g := range l.groups {
		if g.idle() && (len(g.held) > 0 || l.parked) && older(g.first()) {
			from, best, ok = g, g.first().feed, true
		}
	}
	if len(l.queue) > 0 && older(l.queue[0]) {
		from, best, ok = nil, l.queue[0].feed, l.parked || l.load() < laneOpenMax
	}
	if ok && l.parked {
		if d := l.oldest(); d != nil && d.feed < best {
			return nil, false
		}
	}
	return from, ok
}

// takeFrom takes the delivery whose first try begins out of the queue, or a group. What the
// queue has of its group waits for it then.
func (l *lane) takeFrom(from *group) *delivery {
	var d *delivery
	if from != nil {
		d = &delivery{entry: from.held[0].entry}
		from.held = slices.Delete(from.held, 0, 1)
	} else {
		d = &delivery{entry: l.queue[0].entry}
		l.queue = append(l.queue[:0], l.queue[1:]...)
	}
	d.flying = true
	l.keep(d)
	l.join(d)
	if from == nil && l.ordered {
		l.regroup()
	}
	l.tidy(d.group)
	return d
}

// regroup takes out of the queue what has to wait in its group.
func (l *lane) regroup() {
	queue := l.queue
	l.queue = l.queue[:0]
	for _, p := range queue {
		l.admit(p)
	}
}

// order makes the lane keep the events of each group in order from now on, or not any more.
// What is under way is not stopped; of what waits for its next try in a group, the oldest
// goes first.
func (l *lane) order(ordered bool) {
	if l.ordered == ordered {
		return
	}
	l.ordered = ordered
	for name, g := range l.groups {
		g.opens = nil
		l.tidy(name)
	}
	for _, d := range l.open {
		l.join(d)
	}
	l.rewait()
	l.regroup()
}

// rewait finds anew which open deliveries wait for their next try.
func (l *lane) rewait() {
	l.waiting = slices.DeleteFunc(l.waiting, func(d *delivery) bool { return l.open[d.feed] == d })
	for _, d := range l.open {
		if !d.flying && l.join(d) {
			l.waiting = append(l.waiting, d)
		}
	}
	heap.Init(&l.waiting)
}

// groupToRead is the name of the group that is furthest behind of those for which the feed
// should be read, 0 if there is none.
func (l *lane) groupToRead() (name uint64) {
	for n, g := range l.groups {
		if g.wantsRefill() && (name == 0 || g.next.feed < l.groups[name].next.feed) {
			name = n
		}
	}
	return name
}

// untried is what waits for its first try and is in memory.
func (l *lane) untried() []place {
	list := slices.Clone(l.queue)
	for _, g := range l.groups {
		list = append(list, g.held...)
	}
	return list
}

// wantedOwed is what a lane, or one of its groups, wants now: they take turns. d.mu is held.
func (d *Dispatcher) wantedOwed(l *lane, now time.Time) *want {
	w, name := d.wanted(l, now), l.groupToRead()
	if l.turn = name != 0 && !(l.turn && l.readsOn()); l.turn {
		g := l.groups[name]
		w.group, w.name, w.most = g, name, g.more
		w.from, w.settled, w.room = g.next, g.settled, groupHeldMax-len(g.held)
	}
	return w
}

// withheld is how many deliveries groups withhold.
func (l *lane) withheld() (n uint64) {
	for _, g := range l.groups {
		n += uint64(len(g.held)) + g.more
	}
	return n
}

// skipGroups forgets what groups withhold up to a feed sequence; met is that up to which the
// lane has come. How much is behind a group up to a place before that is not known: it is
// read again, and passed over.
func (l *lane) skipGroups(up, met uint64) {
	for name, g := range l.groups {
		g.opens = slices.DeleteFunc(g.opens, func(d *delivery) bool { return d.feed <= up })
		g.held = slices.DeleteFunc(g.held, func(p place) bool { return p.feed <= up })
		if g.settled = max(g.settled, up); up >= met {
			g.more = 0
		}
		l.tidy(name)
	}
}

// withholds says whether a delivery waits for its first try in a group.
func (l *lane) withholds(e entry) bool {
	g := l.groups[e.group]
	return g != nil && g.withholds() && e.feed >= g.first().feed
}

// groupStates says for a checkpoint what groups withhold. While the lane reads again what the
// last one calls settled, it goes on to say what that one did.
func (l *lane) groupStates() (list []groupState) {
	from := maps.Clone(l.listed)
	for name, first := range from {
		from[name] = max(first, l.skipped+1)
	}
	for name, g := range l.groups {
		if !g.withholds() {
			continue
		}
		if from == nil {
			from = map[uint64]uint64{}
		}
		first := max(g.first().feed, g.settled+1)
		if listed, ok := from[name]; ok {
			first = min(first, listed)
		}
		from[name] = first
	}
	for name, first := range from {
		list = append(list, groupState{name, first})
	}
	slices.SortFunc(list, func(a, b groupState) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Name, b.Name)) })
	return list
}

// groups returns what groups withhold, by their names.
func (l *laneState) groups() map[uint64]uint64 {
	if len(l.Groups) == 0 {
		return nil
	}
	m := make(map[uint64]uint64, len(l.Groups))
	for _, g := range l.Groups {
		m[g.Name] = g.From
	}
	return m
}

// nameGroups notes the groups of the open deliveries, if they have any.
func (l *laneState) nameGroups(from *lane) {
	for i := range l.Open {
		o := &l.Open[i]
		if d := from.open[o.Feed]; l.Ordered && d != nil {
			o.Group = d.group
		} else if d := from.saved[o.Feed]; l.Ordered && d != nil {
			o.Group = d.group
		}
	}
}

// codeGroups codes the groups, and those of the open deliveries.
func (l *laneState) codeGroups(c *events.Coder) {
	for i := range l.Open {
		codeName(c, &l.Open[i].Group)
	}
	n := c.Len(len(l.Groups))
	if c.Reading() && n > 0 {
		l.Groups = make([]groupState, n)
	}
	for i := range l.Groups {
		codeName(c, &l.Groups[i].Name)
		c.Uint(&l.Groups[i].From)
	}
}

// codeName codes the name of a group, 8 bytes.
func codeName(c *events.Coder, name *uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], *name)
	c.Fixed(b[:])
	*name = binary.BigEndian.Uint64(b[:])
}

// takeGroup moves a group on over what was read for it. d.mu is held.
func (d *Dispatcher) takeGroup(l *lane, w *want, f *found) (say notices) {
	g := w.group
	for _, p := range f.entries {
		g.more--
		if p.feed > g.settled {
			g.held = append(g.held, p)
		} else {
			l.resume(p.entry)
		}
	}
	d.unsaved += f.next.feed - g.next.feed
	g.next = f.next
	if g.more > 0 && g.next.feed > d.read.Ordinal {
		say.add(l, slog.LevelError, "the feed and the log do not agree on what an endpoint is owed in a group", "missing", g.more)
		g.more = 0
	}
	l.tidy(w.name)
	if !l.rereads() {
		l.leaveOut(&say)
	}
	return say
}
