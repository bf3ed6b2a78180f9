package writer

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

const (
	// maxEntryBytes is the largest a single entry may be.
	maxEntryBytes = 128 << 10
	// maxGroupBytes leaves room for the commit's own header. A request whose entry does not
	// fit any more is decided anew in the next group.
	maxGroupBytes = store.MaxCommitBytes - 1024
	// sweepEvery is how often deadlines are looked at while an append is in flight.
	sweepEvery = 100 * time.Millisecond
)

// group is the next commit while it is being filled: the entries decided so far and the
// replies that wait for it, refusals and free decisions among them.
type group struct {
	commit  store.Commit
	entries []byte // encoded, in order
	message []byte // the whole commit, once sealed
	events  int    // in all entries
	closed  bool   // the next entry did not fit
	waiting []pending
}

// pending is one reply that waits for its group.
type pending struct {
	req      *Request
	reply    Reply
	entry    bool      // it has an entry in the group
	replay   *receipt  // its answer is read from the log
	citation *citation // it can be decided once this was read from the log
	answered bool      // the caller has had its answer
}

// buffers are a group's bytes, to be used again once it was acknowledged.
type buffers struct{ entries, message []byte }

// empty says whether nothing rests on the group's time yet.
func (g *group) empty() bool { return len(g.waiting) == 0 && len(g.commit.Entries) == 0 }

func (g *group) full() bool {
	return len(g.commit.Entries) >= store.MaxCommitEntries || g.closed || len(g.waiting) >= 4*store.MaxCommitEntries
}

// nextSequence is where the open group will stand.
func (w *Writer) nextSequence() uint64 { return w.sent.Sequence + 1 }

// serve decides and commits until ctx ends (nil), or until the outcome of an append is
// unknown.
func (w *Writer) serve(ctx context.Context) error {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	var batch []*Request
	for {
		if w.open == nil {
			w.openGroup()
		}
		if w.open.empty() {
			w.open.commit.Time = w.now()
			w.fireDue()
		}
		if !w.open.full() {
			batch = w.intake.take(store.MaxCommitEntries, batch)
			for i, req := range batch {
				if w.open.full() {
					w.intake.putBack(batch[i:])
					break
				}
				if !w.decide(req) {
					w.intake.putBack(batch[i:])
					break
				}
			}
			clear(batch)
		}
		if w.inFlight == nil && !w.linger.holds(len(w.open.waiting)) {
			w.flush()
		}
		intake := w.intake.signal
		if w.open != nil && w.open.full() {
			intake = nil
		}
		select {
		case <-intake:
		case <-w.linger.timer.C:
			w.linger.elapsed()
		case a := <-w.acks:
			if err := w.acknowledged(a); err != nil {
				return err
			}
		case memory := <-w.turn():
			w.walkOn(memory)
		case <-sweep.C:
			w.now()
			w.expire(w.forDeadlines())
		case <-ctx.Done():
			return w.finish()
		}
	}
}

// finish waits for the append in flight and appends what was decided behind it.
func (w *Writer) finish() error {
	if w.inFlight == nil {
		w.flush()
	}
	for w.inFlight != nil {
		if err := w.acknowledged(<-w.acks); err != nil {
			return nil // its callers are told that the outcome is unknown
		}
		w.flush()
	}
	return nil
}

func (w *Writer) openGroup() {
	likely := w.linger.last + w.linger.last/4 // a little more than last time
	w.open = &group{
		commit: store.Commit{
			Partition: w.cfg.Partition, Epoch: w.chain.Epoch, Writer: w.id, Time: w.now(),
			Entries: make([]store.Entry, 0, min(w.entries+w.entries/4, store.MaxCommitEntries)),
		},
		entries: w.spare.entries[:0],
		waiting: make([]pending, 0, likely),
	}
	w.spare.entries = nil
	w.receipts.forgetOld(w.open.commit.Time)
}

// decide decides one request on the speculative state: that after everything in flight
// and in the open group. It returns false where the group has no room for the outcome:
// then nothing was decided, and the group is closed.
func (w *Writer) decide(req *Request) bool {
	g := w.open
	w.date(req)
	g.waiting = append(g.waiting, pending{req: req})
	p := &g.waiting[len(g.waiting)-1]
	switch {
	case !req.Deadline.IsZero() && w.forDeadlines().After(req.Deadline):
		p.reply.Err = events.Errorf(events.Unavailable, "the deadline passed before it was this command's turn; it was certainly not done")
	case req.AcceptClock:
		w.acceptClock()
	case req.Authorize == nil && req.Command == nil:
	case w.clock.off != 0:
		p.reply.Err = w.clock.refusal()
	case req.Authorize != nil:
		w.decideAuthorize(p)
	default:
		w.decideCommand(p)
	}
	if g.closed {
		g.waiting[len(g.waiting)-1] = pending{}
		g.waiting = g.waiting[:len(g.waiting)-1]
		return false
	}
	if !p.entry {
		p.reply.Position = w.stateAt()
	}
	return true
}

// stateAt is the position of the state that was decided on.
func (w *Writer) stateAt() events.Position {
	at := events.Position{Partition: w.cfg.Partition, Sequence: w.sent.Sequence, Index: events.NoIndex}
	if len(w.open.commit.Entries) > 0 {
		at.Sequence++
	}
	return at
}

func (w *Writer) decideCommand(p *pending) {
	req := p.req
	if req.Receipt && w.answeredBefore(p, req.Account) {
		return
	}
	if !w.meetDue(p, req.Account) {
		return
	}
	if t, ok := req.Command.(ledger.Touches); ok && !w.meetDue(p, t.Touches()) {
		return
	}
	in := ledger.Input{AccountID: req.Account, CommandID: req.ID, Time: w.open.commit.Time}
	decision, err := ledger.Decide(w.state, req.Spec, req.Command, &in)
	if err != nil {
		p.reply.Err = err
		return
	}
	if !decision.Cites.IsZero() {
		w.cites(p, in.AccountID, decision.Cites)
		return
	}
	if req.Preview {
		if p.reply.Err = w.refuseMore(0); p.reply.Err == nil {
			p.reply.Data = decision.Before
		}
		return
	}
	if len(decision.Events) == 0 {
		p.reply.Data = decision.Unchanged
		return
	}
	if w.commit(p, in.AccountID, req.Verb, decision.Events) {
		p.reply.Data = ledger.Outcome(decision.Events)
	}
}

func (w *Writer) decideAuthorize(p *pending) {
	a, now := p.req.Authorize, w.open.commit.Time
	key := a.Find(w.state, now)
	if key == nil && p.req.Receipt && w.paidBefore(p, a.Names(w.state)) {
		return
	}
	if key != nil {
		if p.req.Receipt && w.answeredBefore(p, key.AccountID()) || !w.meetDue(p, key.AccountID()) {
			return
		}
	}
	answer, list := a.Decide(w.state, key, p.req.ID, now)
	p.reply.Answer = answer
	if len(list) > 0 && !w.commit(p, key.AccountID(), "authorize", list) {
		return
	}
	if answer.Allowed {
		key.Take(now)
	}
}

// paidBefore looks for the first answer to a request whose secret has stopped working
// since: it was paid, and a retry must not say that it was not. Only the same request, with
// the secret in it, gets that answer; any other learns nothing.
func (w *Writer) paidBefore(p *pending, key *ledger.Key) bool {
	if key == nil {
		return false
	}
	found, ok := w.receipts.find(key.AccountID(), p.req.ID)
	return ok && found.input == inputOf(&p.req.InputHash) && w.answeredBefore(p, key.AccountID())
}

// answeredBefore looks the id up among the receipts. It returns true when the reply is
// settled by that: the first answer again, or a refusal.
func (w *Writer) answeredBefore(p *pending, account string) bool {
	found, ok := w.receipts.find(account, p.req.ID)
	if !ok {
		p.reply.Err = w.receipts.check(account, p.req.ID, w.open.commit.Time)
		return p.reply.Err != nil
	}
	if found.input != inputOf(&p.req.InputHash) {
		p.reply.Err = events.Errorf(events.IDReused, "this command id was used for another command; make a new id for a new command")
		return true
	}
	switch {
	case found.sequence == w.nextSequence():
		p.reply = replyOf(&w.open.commit, w.nextSequence(), int(found.entry))
	case w.inFlight != nil && found.sequence == w.inFlight.commit.Sequence:
		p.reply = replyOf(&w.inFlight.commit, found.sequence, int(found.entry))
	default:
		again := found // a copy for this case alone, so that the others allocate nothing
		p.replay = &again
	}
	p.reply.Replayed = true
	p.entry = true // its position is that of the first answer
	return true
}

// commit adds a request's entry. It returns false, with the refusal set, for one that is
// too large or that the log has no room for.
func (w *Writer) commit(p *pending, account, command string, evs []events.Event) bool {
	req := p.req
	entry := store.Entry{
		CommandID: req.ID, Receipt: req.Receipt, Command: command,
		Account: account, Actor: req.Actor, Outcome: events.OK, Events: evs,
	}
	if req.Trace != nil {
		entry.Trace = *req.Trace
	}
	if req.Receipt {
		entry.InputHash = req.InputHash
	}
	if err := w.add(entry); err != nil {
		p.reply.Err = err
		return false
	}
	p.entry = true
	p.reply.Position = events.Position{Partition: w.cfg.Partition, Sequence: w.nextSequence(), Index: w.open.events - 1}
	return true
}

// errClosed means that an entry does not fit into the open group, which is closed.
var errClosed = events.Errorf(events.Unavailable, "the group is closed")

// add adds an entry to the open group and evolves the speculative state over it. One
// that is too large is refused and changes nothing, and so does one that does not fit.
func (w *Writer) add(entry store.Entry) *events.Error {
	g := w.open
	before, number := len(g.entries), len(g.commit.Entries)
	g.commit.Entries = append(g.commit.Entries, entry)
	added := &g.commit.Entries[number]
	g.entries = store.AppendEntry(g.entries, added)
	err := w.refuseEntry(len(g.entries) - before)
	if err == nil && len(g.entries) > maxGroupBytes {
		err, g.closed = errClosed, true
	}
	if err != nil {
		g.entries, g.commit.Entries = g.entries[:before], g.commit.Entries[:number]
		return err
	}
	g.events += len(entry.Events)
	for i := range entry.Events {
		w.evolve(&entry.Events[i])
	}
	if entry.Receipt {
		w.receipts.add(added, g.commit.Time, w.nextSequence(), number)
	}
	return nil
}

// evolve folds an event into the state and into what is known before it is decided.
func (w *Writer) evolve(e *events.Event) {
	w.state.Evolve(e)
	w.directory.note(e)
}

// flush appends the open group, or answers it at once if it has no entries. Nothing may
// be in flight: a second append would be a bug, not an optimisation. If the first were
// lost, a rival could take its sequence and the second, arriving late, would match and
// commit for a writer that no longer owns the log.
func (w *Writer) flush() {
	g := w.open
	if g == nil || g.empty() {
		return
	}
	w.open = nil
	w.linger.sent(len(g.waiting))
	if len(g.commit.Entries) == 0 {
		w.answerGroup(g)
		return
	}
	w.entries = len(g.commit.Entries)
	w.seal(&g.commit, g)
	w.inFlight = g
	w.sent = store.ChainAt(&g.commit)
	// If we stop right here, the log may or may not get the commit: nobody was answered,
	// and the next takeover reads which it is.
	w.appends <- g
}

// seal makes a commit follow the acknowledged end and encodes it.
func (w *Writer) seal(c *store.Commit, g *group) {
	c.PrevSequence, c.PrevHash, c.Ordinal = w.chain.Sequence, w.chain.Hash, w.chain.Ordinal
	rand.Read(c.Nonce[:])
	g.message = c.AppendTo(w.spare.message[:0], g.entries)
	w.spare.message = nil
}

// acknowledged takes the outcome of the append in flight. Only the expected sequence
// means that it is ours; an error means that the outcome is unknown.
func (w *Writer) acknowledged(a ack) error {
	if a.err != nil {
		return a.err
	}
	c := &a.group.commit
	if a.sequence != c.Sequence {
		return fmt.Errorf("%w: append %d was acknowledged as %d", ErrImpossible, c.Sequence, a.sequence)
	}
	// The commit is durable. If we stop right here, nobody was told; a retry with the
	// same id is answered from the receipt in the log.
	w.chain = store.ChainAt(c)
	w.inFlight = nil
	// It was sent and answered: nobody reads these bytes any more.
	w.spare = buffers{entries: a.group.entries, message: a.group.message}
	w.room.appended.Add(recordBytes(a.group))
	if w.head != nil {
		if err := w.head.note(&w.chain); err != nil {
			w.log.Error("cannot write the head witness", "error", err)
		}
	}
	// A copy: a commit that is kept must not keep its group, and so every request in it.
	kept := *c
	kept.Entries = slices.Clip(kept.Entries)
	w.cfg.Tail.Push(&kept)
	w.answerGroup(a.group)
	w.count(c)
	return nil
}

// answerGroup gives out the replies of a group that are still wanted.
func (w *Writer) answerGroup(g *group) { w.answers <- answered{g.waiting, g.commit.Time} }

func (w *Writer) count(c *store.Commit) {
	w.stats[statEpoch].Store(int64(c.Epoch))
	w.stats[statCommits].Add(1)
	w.stats[statEntries].Add(int64(len(c.Entries)))
	w.stats[statAccounts].Store(int64(w.state.Accounts()))
	w.stats[statKeys].Store(int64(w.state.Keys()))
	w.stats[statReceipts].Store(int64(w.receipts.held))
	w.stats[statHorizon].Store(int64(w.receipts.horizon(c.Time)))
	w.stats[statBelowFull].Store(w.receipts.short.belowFull)
	w.stats[statBelowFloor].Store(w.receipts.short.belowFloor)
}

// expire answers callers whose deadline has passed: "outcome_unknown" for what has an
// entry in a group, "unavailable" for what is certainly not done.
func (w *Writer) expire(now time.Time) {
	for _, g := range []*group{w.inFlight, w.open} {
		if g != nil {
			w.expireGroup(g, now)
		}
	}
	w.expireQueue(now)
}

func (w *Writer) expireQueue(now time.Time) {
	late := w.intake.remove(func(req *Request) bool {
		return !req.Deadline.IsZero() && now.After(req.Deadline)
	})
	for _, req := range late {
		w.answerOne(req, &Reply{Err: events.Errorf(events.Unavailable, "the deadline passed before it was this command's turn; it was certainly not done")})
	}
}

func (w *Writer) expireGroup(g *group, now time.Time) {
	for i := range g.waiting {
		p := &g.waiting[i]
		if p.answered || p.req.Deadline.IsZero() || !now.After(p.req.Deadline) {
			continue
		}
		p.answered = true
		code, text := events.Unavailable, "the answer could not be confirmed in time; nothing was done"
		if p.entry {
			code, text = events.OutcomeUnknown, "it is not known yet whether this was done; retry with the same command id to find out"
		}
		w.answerOne(p.req, &Reply{Err: events.Errorf(code, "%s", text)})
	}
}

// replyOf rebuilds the answer of an entry from its commit.
func replyOf(c *store.Commit, sequence uint64, entry int) Reply {
	index := -1
	for i := 0; i <= entry; i++ {
		index += len(c.Entries[i].Events)
	}
	e := &c.Entries[entry]
	reply := Reply{
		Replayed: true,
		Position: events.Position{Partition: c.Partition, Sequence: sequence, Index: index},
		Data:     ledger.Outcome(e.Events),
	}
	if d, ok := reply.Data.(*events.Debited); ok && e.Command == "authorize" {
		reply.Answer = ledger.AnswerOf(e.Account, d)
	}
	return reply
}

// replay answers from the log what a receipt points to.
func (w *Writer) replay(p *pending) {
	ctx, cancel := context.WithTimeout(context.Background(), w.cfg.AppendTimeout)
	defer cancel()
	c, err := w.cfg.Tail.Commit(ctx, p.replay.sequence)
	if err != nil {
		w.log.Error("cannot read a receipt's commit", "sequence", p.replay.sequence, "error", err)
		p.req.Done(&Reply{Err: events.Errorf(events.OutcomeUnknown, "this was done before, but its answer cannot be read now; try again with the same id")})
		return
	}
	reply := replyOf(c, c.Sequence, int(p.replay.entry))
	p.req.Done(&reply)
}
