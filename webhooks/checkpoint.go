package webhooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	// checkpointVersion is what is written. Version 1, without marks of endpoints, is read too.
	checkpointVersion = 2
	// checkpointBytesMax bounds one checkpoint; NATS takes 1 MiB.
	checkpointBytesMax = 768 << 10
	// reasonsMax bounds the different reasons in one checkpoint. The texts are fixed
	// ones, so there are fewer; of what is beyond, the text is left out.
	reasonsMax = 250
)

// checkpoint says how every endpoint stands: everything up to Feed is settled for each
// endpoint that is not listed, so it grows with trouble and not with endpoints. It is
// never ahead of what was delivered. Sequence and Hash are the last commit that was
// folded, and so a witness of the log.
type checkpoint struct {
	Writer   [16]byte // the dispatcher that wrote it
	At       events.Time
	Sequence uint64
	Hash     store.Hash
	Feed     uint64
	Lanes    []laneState
}

// laneState is an endpoint of which something up to Feed is not settled, or which is
// held back.
type laneState struct {
	Registered uint64      // feed sequence of its registration: its name here
	Cursor     uint64      // everything up to here is settled, except what Open and Groups list
	Held       events.Time // nothing is sent before; 0: it is not held back
	Parked     bool        // see lane.parked
	Probing    bool        // see lane.probing
	Ordered    bool        // its deliveries have groups
	Failing    failingState
	Open       []openState   // by Feed
	Replays    []replayState // by Asked
	Groups     []groupState  // if it is Ordered: those that withhold some, by From
}

// groupState is a group of which, up to the cursor too, nothing from a place on is settled.
type groupState struct{ Name, From uint64 }

// openState is a delivery that was tried, or was being tried.
type openState struct {
	Feed   uint64
	Group  uint64      // if the endpoint is Ordered
	Tries  int         // that ended; 0: the first was under way
	Next   events.Time // of the next try
	First  events.Time // of the first failure
	Last   events.Time // when the last try ended
	Status int
	Reason string
}

// snapshot takes down how every lane stands. d.mu is held.
func (d *Dispatcher) snapshot(now time.Time) *checkpoint {
	c := &checkpoint{
		Writer: d.saver.writer, At: events.At(now),
		Sequence: d.read.Sequence, Hash: d.read.Hash, Feed: d.read.Ordinal,
	}
	for _, l := range d.lanes {
		state := laneState{
			Registered: l.registered, Cursor: max(l.started(c.Feed).feed-1, l.restored),
			Parked: l.parked, Probing: l.probing, Ordered: l.ordered || len(l.groups)+len(l.listed) > 0, Groups: l.groupStates(),
			Failing: l.failing.state(),
		}
		if l.held.After(now) {
			state.Held = roundUp(l.held)
		}
		if state.Cursor >= c.Feed && state.Held == 0 && !l.parked && l.failing == nil && len(l.open)+len(l.saved)+len(l.replays)+len(state.Groups) == 0 {
			continue
		}
		state.Open = openStates(c.At, maps.Values(l.open), maps.Values(l.saved))
		state.nameGroups(l)
		for _, r := range l.replays {
			state.Replays = append(state.Replays, r.state(c.At))
		}
		c.Lanes = append(c.Lanes, state)
	}
	slices.SortFunc(c.Lanes, func(a, b laneState) int { return cmp.Compare(a.Registered, b.Registered) })
	return c
}

// roundUp cuts to the clock's resolution, never to an earlier time.
func roundUp(t time.Time) events.Time { return events.At(t.Add(time.Millisecond - 1)) }

// encode writes c in at most limit bytes. Where that does not hold everything it first
// leaves out the tries of the endpoints with the most of them, whose cursor then stands
// before the first, and then lists only the endpoints that are furthest back, and calls
// all others settled only as far as the first of those: what is left out is sent again
// after a crash, and nothing is lost.
func (c *checkpoint) encode(limit int) []byte {
	reasons := c.reasons()
	pieces := make([][]byte, len(c.Lanes))
	order := make([]int, len(c.Lanes))
	size := len(c.head(reasons, len(c.Lanes)))
	for i := range c.Lanes {
		pieces[i], order[i] = c.Lanes[i].encode(reasons), i
		size += len(pieces[i])
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(pieces[b]), len(pieces[a])) })
	for _, i := range order {
		if size <= limit {
			break
		}
		l := &c.Lanes[i]
		l.shorten()
		size -= len(pieces[i])
		pieces[i] = l.encode(reasons)
		size += len(pieces[i])
	}
	if size > limit {
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(c.Lanes[b].back(), c.Lanes[a].back()) })
		for size > limit && len(order) > 0 {
			i := order[0]
			order = order[1:]
			c.Feed = min(c.Feed, c.Lanes[i].back())
			size -= len(pieces[i])
			pieces[i] = nil
		}
	}
	b := c.head(reasons, len(order))
	for _, piece := range pieces {
		b = append(b, piece...)
	}
	return b
}

// reasons returns the different reasons, each once; "" is the first.
func (c *checkpoint) reasons() []string {
	list := []string{""}
	for i := range c.Lanes {
		c.Lanes[i].opens(func(open []openState) {
			for j := range open {
				if reason := open[j].Reason; len(list) < reasonsMax && !slices.Contains(list, reason) {
					list = append(list, reason)
				}
			}
		})
	}
	return list
}

// head is what stands before the lanes.
func (c *checkpoint) head(reasons []string, lanes int) []byte {
	w := events.NewWriter(nil)
	version := uint64(checkpointVersion)
	w.Uint(&version)
	c.code(w, &reasons)
	w.Len(lanes)
	return w.Bytes()
}

func (c *checkpoint) code(w *events.Coder, reasons *[]string) {
	w.Fixed(c.Writer[:])
	w.Time(&c.At)
	w.Uint(&c.Sequence)
	w.Fixed(c.Hash[:])
	w.Uint(&c.Feed)
	w.Strings(reasons)
}

func (l *laneState) encode(reasons []string) []byte {
	w := events.NewWriter(nil)
	l.code(w, checkpointVersion, reasons)
	return w.Bytes()
}

// code says whether all that is stored is known.
func (l *laneState) code(c *events.Coder, version uint64, reasons []string) bool {
	c.Uint(&l.Registered)
	c.Uint(&l.Cursor)
	c.Time(&l.Held)
	replays := len(l.Replays) > 0
	fails := l.Failing.Since > 0
	if version > 1 && !codeMarks(c, &l.Parked, &l.Probing, &replays, &l.Ordered, &fails) {
		return false
	}
	codeOpen(c, &l.Open, reasons)
	if replays {
		n := c.Len(len(l.Replays))
		if c.Reading() {
			l.Replays = make([]replayState, n)
		}
		for i := range l.Replays {
			l.Replays[i].code(c, reasons)
		}
	}
	if l.Ordered {
		l.codeGroups(c)
	}
	if fails {
		l.Failing.code(c)
	}
	return true
}

// codeOpen codes deliveries that are ordered by Feed.
func codeOpen(c *events.Coder, open *[]openState, reasons []string) {
	n := c.Len(len(*open))
	if c.Reading() && n > 0 {
		*open = make([]openState, n)
	}
	var before uint64
	for i := range *open {
		o := &(*open)[i]
		o.code(c, before, reasons)
		before = o.Feed
	}
}

// codeMarks codes what is so of an endpoint, as the bits of one number, and says whether
// that has no others.
func codeMarks(c *events.Coder, marks ...*bool) bool {
	var bits uint64
	for i, mark := range marks {
		if *mark {
			bits |= 1 << i
		}
	}
	c.Uint(&bits)
	for i, mark := range marks {
		*mark = bits>>i&1 == 1
	}
	return bits>>len(marks) == 0
}

// code codes the feed sequence as the distance from the one before.
func (o *openState) code(c *events.Coder, before uint64, reasons []string) {
	distance, tries, status := o.Feed-before, uint64(o.Tries), uint64(o.Status)
	reason := uint64(max(slices.Index(reasons, o.Reason), 0))
	c.Uint(&distance)
	c.Uint(&tries)
	c.Time(&o.Next)
	c.Time(&o.First)
	c.Time(&o.Last)
	c.Uint(&status)
	c.Uint(&reason)
	if !c.Reading() {
		return
	}
	o.Feed, o.Tries, o.Status = before+distance, int(tries), int(status)
	if reason < uint64(len(reasons)) {
		o.Reason = reasons[reason]
	}
}

// decodeCheckpoint reads what encode writes.
func decodeCheckpoint(b []byte) (*checkpoint, error) {
	r := events.NewReader(b)
	var version uint64
	r.Uint(&version)
	if version < 1 || version > checkpointVersion {
		return nil, fmt.Errorf("checkpoint version %d is not known to this keyledger (it knows up to %d): use a newer one", version, checkpointVersion)
	}
	c := &checkpoint{}
	var reasons []string
	c.code(r, &reasons)
	c.Lanes = make([]laneState, r.Len(0))
	for i := range c.Lanes {
		if !c.Lanes[i].code(r, version, reasons) {
			return nil, fmt.Errorf("read checkpoint: what it says of endpoint %d is not known to this keyledger: use a newer one", c.Lanes[i].Registered)
		}
	}
	if r.Err() != nil {
		return nil, fmt.Errorf("read checkpoint: %w", r.Err())
	}
	if len(r.Bytes()) != 0 {
		return nil, fmt.Errorf("read checkpoint: %d bytes behind its end", len(r.Bytes()))
	}
	return c, nil
}

// lane returns how the endpoint registered at a feed sequence stands, nil where
// everything up to c.Feed is settled for it.
func (c *checkpoint) lane(registered uint64) *laneState {
	i, found := slices.BinarySearchFunc(c.Lanes, registered, func(l laneState, r uint64) int { return cmp.Compare(l.Registered, r) })
	if !found {
		return nil
	}
	return &c.Lanes[i]
}

// keepCheckpoints saves a checkpoint at every interval in which something changed.
// Whatever keeps one from being written but the fence is only logged: deliveries go on,
// and a crash repeats more of them.
func (d *Dispatcher) keepCheckpoints(ctx context.Context) error {
	for {
		d.pause(ctx, d.cfg.CheckpointEvery)
		if ctx.Err() != nil {
			return nil
		}
		err := d.save(context.WithoutCancel(ctx))
		if errors.Is(err, ErrFenced) {
			return err
		}
		if err != nil {
			d.cfg.Logger.Error("cannot write a checkpoint of webhooks; a crash now sends again what was settled since the last one", "error", err)
		}
	}
}

// save writes a checkpoint if anything changed since the last. Before the log has been
// folded up to where the last checkpoint was written, a new one would know less.
func (d *Dispatcher) save(ctx context.Context) error {
	d.mu.Lock()
	if !d.live || !d.dirty {
		d.mu.Unlock()
		return nil
	}
	d.dirty = false
	c := d.snapshot(d.cfg.Clock())
	d.mu.Unlock()
	data, began := c.encode(checkpointBytesMax), time.Now()
	err := d.saver.save(ctx, data)
	if err != nil {
		d.mu.Lock()
		d.dirty = true
		d.moved.Broadcast()
		d.mu.Unlock()
		return err
	}
	d.counts.saved(len(data), c.At.Std(), time.Since(began))
	return nil
}
