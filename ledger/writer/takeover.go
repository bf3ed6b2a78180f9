package writer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Witness is something that proves that the log once reached a place.
type Witness struct {
	Name     string
	Sequence uint64      // of a commit that was acknowledged
	Hash     *store.Hash // of that commit, where known
	Ordinal  uint64      // or: so many events were acknowledged
}

const (
	takeoverPause    = 100 * time.Millisecond // after a failed try; doubled up to the most
	takeoverPauseMax = 2 * time.Second
)

// takeover makes the partition ours. It is the one path for a start and for every
// unknown outcome:
//
//  1. throw the state away, read the newest snapshot that is whole and fold the log after
//     it, checking every commit;
//  2. compare it with the witnesses;
//  3. append "epoch started" expecting the end that was read.
//
// Once that is acknowledged, no earlier append of ours or of a former writer can ever be
// stored: it expects a smaller sequence. So of every lost group it is now certain
// whether it is in the log. What is there is answered as it was decided; what is not is
// decided again.
func (w *Writer) takeover(ctx context.Context, lost []*group) error {
	// Accounts in an unfinished snapshot may reflect what the log never gets.
	w.snapshots.endWalk(w.snapshots.pause)
	var (
		began     = time.Now()
		looked    bool // for snapshots and witnesses
		witnesses []Witness
		base      store.Chain
		chain     store.Chain
		confirmed = map[store.Nonce]bool{}
		pause     = takeoverPause
	)
	for {
		var err error
		if !looked {
			if witnesses, base, err = w.lookUp(ctx); err == nil {
				looked, chain = true, base
			}
		}
		if err == nil {
			err = w.readAndClaim(ctx, &chain, witnesses, lost, confirmed)
		}
		if err == nil {
			break
		}
		var damage *store.DamageError
		if errors.As(err, &damage) || errors.Is(err, errLoss) || errors.Is(err, ErrImpossible) || errors.Is(err, store.ErrDamagedWitness) {
			return err
		}
		if errors.Is(err, store.ErrStorageFull) {
			w.serveReadOnly(chain, lost)
			lost = nil
		} else {
			w.log.Warn("cannot take the partition over yet", "error", err)
		}
		w.expireLost(lost)
		if w.pause(ctx, pause); ctx.Err() != nil {
			return ctx.Err()
		}
		pause = min(2*pause, takeoverPauseMax)
	}
	w.receipts.makeIndex()
	w.room.readOnly.Store(false)
	w.log.Info("the state is that of the log", "replayed_from", base.Position().String(),
		"commits", chain.Sequence-base.Sequence, "took_ms", time.Since(began).Milliseconds())
	w.chain, w.sent, w.stamps = chain, chain, nil
	w.cfg.Tail.Reset(chain)
	w.settle(lost, confirmed)
	return nil
}

// lookUp asks the witnesses and reads the newest snapshot that is whole. It returns where
// the replay goes on from.
func (w *Writer) lookUp(ctx context.Context) ([]Witness, store.Chain, error) {
	list, err := w.listSnapshots(ctx)
	if err != nil {
		return nil, store.Chain{}, err
	}
	witnesses, err := w.witnesses(ctx, list)
	if err != nil {
		return nil, store.Chain{}, err
	}
	return witnesses, w.restore(ctx, list), nil
}

// expireLost answers callers whose deadline passes while the partition is not ours.
func (w *Writer) expireLost(lost []*group) {
	now := w.forDeadlines()
	for _, g := range lost {
		w.expireGroup(g, now)
	}
	w.expireQueue(now)
}

// readAndClaim reads the log to its end and appends "epoch started". The chain and the
// state move only over what is stored, so after an error it can simply be called again:
// an "epoch started" of ours whose acknowledgement was lost is then read like any other
// commit, and a new one claims the place behind it.
func (w *Writer) readAndClaim(ctx context.Context, chain *store.Chain, witnesses []Witness, lost []*group, confirmed map[store.Nonce]bool) error {
	try, cancel := context.WithTimeout(ctx, w.cfg.AppendTimeout)
	last, err := w.cfg.Log.Last(try)
	cancel()
	if err != nil {
		return err
	}
	if err := w.checkBehind(ctx, chain, witnesses); err != nil {
		return err
	}
	swept := time.Now()
	progress := progress{log: w.log, last: swept, at: *chain}
	err = store.ReadChecked(ctx, w.cfg.Log, chain, last, func(c *store.Commit) error {
		if err := checkHash(witnesses, c); err != nil {
			return err
		}
		w.fold(c)
		now := time.Now()
		progress.passed(now, *chain, last)
		if now.Sub(swept) > sweepEvery {
			swept = now
			w.expireLost(lost)
		}
		for _, g := range lost {
			if g.commit.Nonce == c.Nonce {
				confirmed[c.Nonce] = true
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := checkReached(witnesses, chain); err != nil {
		return err
	}
	return w.claim(ctx, chain)
}

// claim appends "epoch started" behind chain.
func (w *Writer) claim(ctx context.Context, chain *store.Chain) error {
	if err := w.room.checkClaim(); err != nil {
		return err
	}
	w.chain, w.sent = *chain, *chain
	g := &group{commit: store.Commit{
		Partition: w.cfg.Partition, Epoch: chain.Epoch + 1, Writer: w.id,
		Time: w.now(), // while the clock is wrong that is the time expected
	}}
	w.seal(&g.commit, g)
	try, cancel := context.WithTimeout(ctx, w.cfg.AppendTimeout)
	defer cancel()
	sequence, err := w.cfg.Log.Append(try, g.message, chain.Sequence)
	if err != nil {
		return fmt.Errorf("start epoch %d: %w", g.commit.Epoch, err)
	}
	if sequence != g.commit.Sequence {
		return fmt.Errorf("%w: epoch started at %d was acknowledged as %d", ErrImpossible, g.commit.Sequence, sequence)
	}
	*chain = store.ChainAt(&g.commit)
	w.room.appended.Add(recordBytes(g))
	if w.head != nil {
		if err := w.head.note(chain); err != nil {
			return fmt.Errorf("write the head witness: %w", err)
		}
	}
	w.count(&g.commit)
	w.log.Info("took the partition over", "partition", chain.Partition, "epoch", chain.Epoch, "sequence", chain.Sequence)
	return nil
}

// fold applies one stored commit to state and receipts, but not to accounts that reflect
// it already.
func (w *Writer) fold(c *store.Commit) {
	for i := range c.Entries {
		e := &c.Entries[i]
		for j := range e.Events {
			if c.Sequence > w.stamps[e.Events[j].Account] {
				w.evolve(&e.Events[j])
			}
		}
		if e.Receipt && c.Sequence > w.stamps[e.Account] {
			w.receipts.add(e, c.Time, c.Sequence, i)
		}
	}
	w.receipts.forgetOld(c.Time)
}

// settle answers lost groups that are in the log and puts the commands of the others
// back in front of the queue.
func (w *Writer) settle(lost []*group, confirmed map[store.Nonce]bool) {
	var again []*Request
	for _, g := range lost {
		if g.message != nil && confirmed[g.commit.Nonce] {
			w.answerGroup(g)
			continue
		}
		for i := range g.waiting {
			if p := &g.waiting[i]; !p.answered {
				again = append(again, p.req)
			}
		}
	}
	w.intake.putBack(again)
}

// giveUp answers lost groups when the writer stops without having taken over.
func (w *Writer) giveUp(lost []*group) {
	for _, g := range lost {
		for i := range g.waiting {
			p := &g.waiting[i]
			if p.answered {
				continue
			}
			p.answered = true
			w.answerOne(p.req, &Reply{Err: events.Errorf(events.OutcomeUnknown, "it is not known whether this was done; retry with the same command id to find out")})
		}
	}
}

// errLoss is proof that the log lost what it once held.
var errLoss = errors.New("the log lost acknowledged commits")

// witnesses are all there are.
func (w *Writer) witnesses(ctx context.Context, snapshots []store.Snapshot) ([]Witness, error) {
	list := SnapshotWitnesses(snapshots)
	if w.cfg.Witnesses != nil {
		more, err := w.cfg.Witnesses(ctx)
		if err != nil {
			return nil, fmt.Errorf("look up witnesses: %w", err)
		}
		list = append(list, more...)
	}
	if w.head != nil {
		if head, ok := w.head.read(); ok {
			list = append(list, head)
		}
	}
	return list, nil
}

func checkHash(witnesses []Witness, c *store.Commit) error {
	for _, witness := range witnesses {
		if witness.Sequence == c.Sequence && witness.Hash != nil && *witness.Hash != c.Hash {
			return fmt.Errorf("%w: %s saw commit %d:%d with hash %s, the log holds %s; restore the newest intact copy of the data directory",
				errLoss, witness.Name, c.Partition, c.Sequence, witness.Hash, c.Hash)
		}
	}
	return nil
}

func checkReached(witnesses []Witness, end *store.Chain) error {
	for _, witness := range witnesses {
		if witness.Sequence > end.Sequence {
			return fmt.Errorf("%w: %s saw commit %d:%d, the log ends at %d; restore the newest intact copy of the data directory",
				errLoss, witness.Name, end.Partition, witness.Sequence, end.Sequence)
		}
		if witness.Ordinal > end.Ordinal {
			return fmt.Errorf("%w: %s saw %d events, the log ends after %d, at %d:%d; restore the newest intact copy of the data directory",
				errLoss, witness.Name, witness.Ordinal, end.Ordinal, end.Partition, end.Sequence)
		}
	}
	return nil
}
