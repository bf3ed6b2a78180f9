package writer

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

const (
	// maxEntryBytes is the largest a single entry may be. A group is closed while one of
	// that size still fits, so an entry never has to move to a later commit than the one
	// whose time it was decided on.
	maxEntryBytes = 128 << 10
	// closeGroupAt leaves room for one more entry and the commit's own header.
	closeGroupAt = store.MaxCommitBytes - maxEntryBytes - 1024
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
	waiting []*pending
}

// pending is one reply that waits for its group.
type pending struct {
	req      *Request
	reply    Reply
	entry    bool     // it has an entry in the group
	replay   *receipt // its answer is read from the log
	answered bool     // the caller has had its answer
}

func (g *group) full() bool {
	return len(g.commit.Entries) >= store.MaxCommitEntries || len(g.entries) >= closeGroupAt || len(g.waiting) >= 4*store.MaxCommitEntries
}

// sequence is where the open group will stand.
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
		if !w.open.full() {
			batch = w.intake.take(store.MaxCommitEntries, batch)
			for i, req := range batch {
				if w.open.full() {
					w.intake.putBack(batch[i:])
					break
				}
				w.decide(req)
			}
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
			w.expire(w.cfg.Clock())
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
			return nil // the caller gets no answer, which always means unknown
		}
		w.flush()
	}
	return nil
}

func (w *Writer) openGroup() {
	now := max(events.At(w.cfg.Clock()), w.sent.Time)
	w.open = &group{commit: store.Commit{
		Partition: w.cfg.Partition, Epoch: w.chain.Epoch, Writer: w.id, Time: now,
	}}
	w.receipts.forgetOld(now)
}

// decide decides one request on the speculative state: that after everything in flight
// and in the open group.
func (w *Writer) decide(req *Request) {
	g := w.open
	if len(g.waiting) == 0 {
		// Nothing rests on the group's time yet.
		g.commit.Time = max(events.At(w.cfg.Clock()), w.sent.Time)
	}
	p := &pending{req: req}
	g.waiting = append(g.waiting, p)
	switch {
	case !req.Deadline.IsZero() && w.cfg.Clock().After(req.Deadline):
		p.reply.Err = events.Errorf(events.Unavailable, "the deadline passed before it was this command's turn; it was certainly not done")
	case req.Authorize != nil:
		w.decideAuthorize(p)
	case req.Command != nil:
		w.decideCommand(p)
	}
	if !p.entry {
		p.reply.Position = w.stateAt()
	}
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
	in := ledger.Input{AccountID: req.Account, CommandID: req.ID, Time: w.open.commit.Time}
	decision, err := ledger.Decide(w.state, req.Spec, req.Command, &in)
	if err != nil {
		p.reply.Err = err
		return
	}
	if len(decision.Events) == 0 {
		p.reply.Data = decision.Unchanged
		return
	}
	if w.commit(p, in.AccountID, req.Verb, decision.Events) {
		p.reply.Data = decision.Events[len(decision.Events)-1].Data
	}
}

func (w *Writer) decideAuthorize(p *pending) {
	a, now := p.req.Authorize, w.open.commit.Time
	key := a.Find(w.state)
	if key != nil && p.req.Receipt && w.answeredBefore(p, key.AccountID()) {
		return
	}
	answer, event := a.Decide(key, p.req.ID, now)
	p.reply.Answer = answer
	if event != nil && !w.commit(p, event.Account, "authorize", []events.Event{*event}) {
		return
	}
	if answer.Allowed {
		key.Take(now)
	}
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

// commit adds an entry to the open group and evolves the speculative state over it. It
// returns false, with the refusal set, for an entry that is too large.
func (w *Writer) commit(p *pending, account, command string, evs []events.Event) bool {
	g, req := w.open, p.req
	entry := store.Entry{
		CommandID: req.ID, Receipt: req.Receipt, Command: command,
		Account: account, Actor: req.Actor, Outcome: events.OK, Events: evs,
	}
	if req.Receipt {
		entry.InputHash = req.InputHash
	}
	before := len(g.entries)
	g.entries = store.AppendEntry(g.entries, &entry)
	if size := len(g.entries) - before; size > maxEntryBytes {
		g.entries = g.entries[:before]
		p.reply.Err = events.Errorf(events.LimitExceeded, "the command's outcome has %d bytes, at most %d fit in the log", size, maxEntryBytes)
		return false
	}
	g.commit.Entries = append(g.commit.Entries, entry)
	g.events += len(evs)
	for i := range evs {
		w.state.Evolve(&evs[i])
	}
	sequence := w.nextSequence()
	if req.Receipt {
		w.receipts.add(&entry, g.commit.Time, sequence, len(g.commit.Entries)-1)
	}
	p.entry = true
	p.reply.Position = events.Position{Partition: w.cfg.Partition, Sequence: sequence, Index: g.events - 1}
	return true
}

// flush appends the open group, or answers it at once if it has no entries. Nothing may
// be in flight: a second append would be a bug, not an optimisation. If the first were
// lost, a rival could take its sequence and the second, arriving late, would match and
// commit for a writer that no longer owns the log.
func (w *Writer) flush() {
	g := w.open
	if g == nil || len(g.waiting) == 0 {
		return
	}
	w.open = nil
	w.linger.sent(len(g.waiting))
	if len(g.commit.Entries) == 0 {
		w.answers <- g.waiting
		return
	}
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
	g.message = c.Encode(g.entries)
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
	if w.head != nil {
		if err := w.head.note(&w.chain); err != nil {
			w.log.Error("cannot write the head witness", "error", err)
		}
	}
	w.cfg.Tail.Push(c)
	w.answerGroup(a.group)
	w.count(c)
	return nil
}

// answerGroup gives out the replies of a group that are still wanted.
func (w *Writer) answerGroup(g *group) {
	kept := g.waiting[:0]
	for _, p := range g.waiting {
		if !p.answered {
			kept = append(kept, p)
		}
	}
	w.answers <- kept
}

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
	for _, p := range g.waiting {
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
		Data:     e.Events[len(e.Events)-1].Data,
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
		p.req.Done(&Reply{Err: events.Errorf(events.Unavailable, "this was done before, but its answer cannot be read now; try again with the same id")})
		return
	}
	reply := replyOf(c, c.Sequence, int(p.replay.entry))
	p.req.Done(&reply)
}
