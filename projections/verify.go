package projections

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// compareAccounts is how many accounts are compared at the most under one lock. Fewer are
// where they hold more than workPiece bytes.
const compareAccounts = 64

// Finding is what a verification says of one projection, of the feed or of a bucket.
type Finding struct {
	Name     string `json:"name"`
	Equal    bool   `json:"equal"`
	Position string `json:"position"`          // at which that is true
	Account  string `json:"account,omitempty"` // the first that differs, in the order of their creation
	Reason   string `json:"reason,omitempty"`  // what differs, or why it could not be compared

	// Of a projection: over all accounts in that order, each in a moment of its own where
	// the ledger is at work. The digests are SHA-256 over what Save writes.
	Accounts uint64      `json:"accounts,omitempty"`
	Live     *store.Hash `json:"live_digest,omitempty"`
	Fresh    *store.Hash `json:"fresh_digest,omitempty"` // made from the log again
}

// Check compares something that is derived from the log, such as the feed, and returns
// what is wrong with it: "" for nothing. An error says that it could not be compared. When it
// tells its progress it may have to rest, so that it takes half a core at the most while
// commands are committed.
type Check struct {
	Name string
	Run  func(ctx context.Context, progress func(done, total uint64)) (wrong string, err error)
}

// Verify makes every projection from the log's beginning beside the live ones, as Rebuild
// does, lets both take the same commits from then on and compares them account by account;
// then it does the checks. The result is in Work's findings. It takes the memory of all
// views once more. Its error is FailedPrecondition while other work is done.
func (v *Views) Verify(checks ...Check) (*Work, *events.Error) {
	return v.submit(workVerify, v.names(), func(ctx context.Context, j *job) error {
		if err := v.awaitLoaded(ctx); err != nil {
			return err
		}
		found, err := v.compare(ctx, j)
		if err != nil {
			return err
		}
		v.part(j) // its memory may go while the rest is compared
		for i := range checks {
			j.step(checks[i].Name)
			at := v.Applied().Position().String()
			wrong, err := checks[i].Run(ctx, func(done, total uint64) {
				j.progress(done, total)
				_ = j.rest(ctx, false) // an error is ctx's, which ends the check too
			})
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				wrong = fmt.Sprintf("it could not be compared: %v", err)
			}
			found = append(found, Finding{Name: checks[i].Name, Equal: wrong == "", Position: at, Reason: wrong})
		}
		j.update(func(w *Work) { w.Findings = found })
		return nil
	})
}

func (j *job) step(name string) {
	j.restedAt = time.Time{}
	j.update(func(w *Work) { w.Step, w.Done, w.Total = name, 0, 0 })
}

func (j *job) progress(done, total uint64) {
	j.update(func(w *Work) { w.Done, w.Total = done, total })
}

// comparison is one of projections that take the same commits.
type comparison struct {
	list []*pair
	made *accounts // the view of accounts that was made from the log
	at   store.Chain
	done uint64 // accounts
}

// pair is a projection and what was made from the log.
type pair struct {
	Finding
	slot         *slot
	fresh        *fresh
	live, again  hash.Hash
	saved, other []byte // what Save writes
}

// compare compares what the job made with the live projections.
func (v *Views) compare(ctx context.Context, j *job) ([]Finding, error) {
	var c comparison
	for _, f := range j.fresh {
		s := &v.slots[f.slot]
		c.list = append(c.list, &pair{Finding: Finding{Name: s.name, Equal: true}, slot: s, fresh: f, live: sha256.New(), again: sha256.New()})
		if made, ok := f.Projection.(*accounts); ok {
			c.made = made
		}
	}
	j.step(stepAccounts)
	// First the accounts that the log has, then those that the live view has alone.
	for _, ghosts := range []bool{false, true} {
		for next, more := 0, true; more; {
			next, more = v.compareTurn(&c, next, ghosts)
			j.progress(c.done, uint64(max(v.count(), int(c.done))))
			if err := j.rest(ctx, false); err != nil {
				return nil, err
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	found := make([]Finding, len(c.list))
	for i, p := range c.list {
		p.Position, p.Accounts = c.at.Position().String(), c.done
		if p.Reason == "" {
			live, again := store.Hash(p.live.Sum(nil)), store.Hash(p.again.Sum(nil))
			p.Live, p.Fresh = &live, &again
		}
		if p.Account != "" {
			p.Reason = fmt.Sprintf("account %s is not what the log makes of it; keyledger projections rebuild %s makes the view again", p.Account, p.Name)
		}
		found[i] = p.Finding
	}
	return found, nil
}

// compareTurn compares some accounts from next on while nothing is applied. It returns
// which is next and whether there is one.
func (v *Views) compareTurn(c *comparison, next int, ghosts bool) (int, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	c.at = v.applied
	ghosted, count, size := v.accounts.lists[ledgerItself], len(v.known), 0
	if ghosts {
		count = len(ghosted)
	}
	for end := min(next+compareAccounts, count); next < end && size < workPiece; next++ {
		var account string
		if !ghosts {
			account = v.known[next]
		} else if account = ghosted[next].id; c.made.byID[account] != nil {
			continue
		}
		c.done++
		for _, p := range c.list {
			size += p.compare(account)
		}
	}
	return next, next < count
}

// count is how many accounts there are.
func (r *Runner) count() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.known)
}

// compare compares what both hold of an account, and returns how many bytes that is.
func (p *pair) compare(account string) int {
	switch {
	case p.Reason != "":
		return 0
	case p.slot.failure != nil:
		p.Equal, p.Reason = false, fmt.Sprintf("it stopped at %s; keyledger projections rebuild %s makes it again", p.slot.failure.at, p.Name)
		return 0
	case p.slot.absent:
		p.Equal, p.Reason = false, "it is not there yet: it is made from the log"
		return 0
	case p.fresh.failure != nil:
		p.Equal, p.Reason = false, fmt.Sprintf("made from the log it stopped at %s: %v", p.fresh.failure.at, p.fresh.failure.err)
		return 0
	}
	p.saved, p.other = p.slot.Save(account, p.saved[:0]), p.fresh.Save(account, p.other[:0])
	digest(p.live, account, p.saved)
	digest(p.again, account, p.other)
	if p.Equal && !bytes.Equal(p.saved, p.other) {
		p.Equal, p.Account = false, account
	}
	return len(p.saved) + len(p.other)
}

// digest adds an account to a digest. One of which nothing is held does not change it.
func digest(h hash.Hash, account string, saved []byte) {
	if len(saved) == 0 {
		return
	}
	var length [binary.MaxVarintLen64]byte
	for _, part := range [][]byte{[]byte(account), saved} {
		h.Write(binary.AppendUvarint(length[:0], uint64(len(part))))
		h.Write(part)
	}
}
