package writer

import (
	"encoding/binary"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	// receiptHorizon is how long a command id is remembered.
	receiptHorizon = 24 * time.Hour
	// receiptFloor is the least that an account's horizon may be for its new ids to be
	// taken: a caller must have that long to find out what came of a command.
	receiptFloor = 5 * time.Minute
	// idAhead is how far a command id's time may be ahead of the ledger's clock.
	idAhead = time.Minute

	// ReceiptBytes is the memory a receipt takes: its slot of 48 bytes and its place in
	// the index. An account that has receipts takes about 130 bytes besides.
	ReceiptBytes = 60

	// defaultMaxReceipts is what 512 MiB hold.
	defaultMaxReceipts = 512 << 20 / ReceiptBytes

	// sweepHolders and sweepReceipts are how many accounts a sweep looks at and how many
	// receipts it forgets, at most: a share of the work with every commit, no pause.
	sweepHolders  = 16
	sweepReceipts = 2 * store.MaxCommitEntries
)

// receipt remembers one command id: where its entry stands, and the first 64 bits of the
// hash of its input. They are enough: whoever finds a collision fools only itself.
type receipt struct {
	input    uint64
	sequence uint64
	entry    int32
}

// inputOf is what a receipt keeps of the hash of an input.
func inputOf(hash *store.Hash) uint64 { return binary.LittleEndian.Uint64(hash[:8]) }

// receipts are the command ids of the horizon, as many as the budget allows. When it is
// used up, the account with the most receipts loses its oldest, so that an account that
// floods shortens its own horizon and no other's.
//
// An id whose receipt was forgotten is told by its time: every unknown id of an account
// up to its newest forgotten one is refused as expired and can never become a second
// debit.
type receipts struct {
	limit uint32
	held  uint32
	slots slab
	index index
	holders

	// committed is the time of the newest receipt. Accounts are dropped by it and not by
	// the clock: a clock may run ahead and be set back, the time of commits never goes back.
	committed events.Time

	reading uint32 // next slot that appendSome gives out, 0: the account's oldest

	cursor uint32     // account that the sweep looks at next
	seen   shortfalls // by the sweep that is under way
	short  shortfalls // by the last whole one
}

// shortfalls is how far the horizons of all accounts fall short.
type shortfalls struct {
	newest     events.Time // of all marks
	belowFull  int64       // accounts whose horizon is below 24 hours
	belowFloor int64       // accounts whose horizon is below 5 minutes
}

func newReceipts(limit int) *receipts {
	return &receipts{limit: uint32(min(max(limit, 1), 1<<30)), index: newIndex(), holders: newHolders(), cursor: 1}
}

// dropIndex ends the index: nobody may ask for a receipt until makeIndex was called. While
// a snapshot is read and the log is replayed nobody does.
func (r *receipts) dropIndex() { r.index = index{} }

// makeIndex makes the index of all that is held at once, for much less than one costs that
// grows with each receipt.
func (r *receipts) makeIndex() { r.index = indexOf(&r.slots, r.held) }

// find returns the receipt of an id.
func (r *receipts) find(account string, id ulid.ULID) (receipt, bool) {
	n := r.number(account)
	if n == 0 {
		return receipt{}, false
	}
	s := r.index.find(&r.slots, n, id)
	if s == nil {
		return receipt{}, false
	}
	return s.receipt(), true
}

// add remembers an entry.
func (r *receipts) add(e *store.Entry, at events.Time, sequence uint64, entry int) {
	s := slot{id: e.CommandID, input: inputOf(&e.InputHash), place: sequence<<16 | uint64(entry)}
	s.setAt(at)
	r.put(e.Account, &s)
}

// put adds the youngest receipt of an account.
func (r *receipts) put(account string, s *slot) {
	for r.held >= r.limit {
		r.forget(r.most())
	}
	n := r.enter(account)
	a, added := r.holders.at(n), r.slots.take()
	s.account = n
	*r.slots.at(added) = *s
	if a.count == 0 {
		a.oldest, a.due = added, s.at()
	} else {
		r.slots.at(a.youngest).younger = added
	}
	a.youngest = added
	r.resize(n, a.count+1)
	r.held++
	r.committed = max(r.committed, s.at())
	if !r.index.off() {
		r.index.add(&r.slots, added, r.held)
	}
}

// forget drops the oldest receipt of an account and moves its mark.
func (r *receipts) forget(n uint32) {
	a := r.holders.at(n)
	oldest := a.oldest
	s := r.slots.at(oldest)
	r.mark(a, events.Time(s.id.Time()))
	a.oldest = s.younger
	if r.reading == oldest {
		r.reading = 0
	}
	if !r.index.off() {
		r.index.remove(&r.slots, oldest)
	}
	r.slots.give(oldest)
	r.resize(n, a.count-1)
	r.held--
}

// mark notes the time of an id of an account that was forgotten.
func (r *receipts) mark(a *holder, at events.Time) {
	a.forgotten = max(a.forgotten, at)
	r.seen.newest, r.short.newest = max(r.seen.newest, at), max(r.short.newest, at)
}

// forgetOld is the sweep: it looks at some of the accounts, drops their receipts that are
// older than the horizon, and drops accounts that have nothing left to tell. A minute
// more than the horizon is kept, because an id may be ahead of its commit by that much.
func (r *receipts) forgetOld(now events.Time) {
	limit := now - milliseconds(receiptHorizon+idAhead)
	forgets := sweepReceipts
	for range min(sweepHolders, r.used) {
		a := r.holders.at(r.cursor)
		for a.count > 0 && a.due < limit {
			if a.due = r.slots.at(a.oldest).at(); a.due >= limit {
				break
			}
			if forgets == 0 {
				return // to go on here
			}
			forgets--
			r.forget(r.cursor)
		}
		r.look(r.cursor, now)
		if r.cursor++; r.cursor > r.used {
			r.cursor, r.short, r.seen = 1, r.seen, shortfalls{}
		}
	}
}

// look counts one account for the sweep, or drops it.
func (r *receipts) look(n uint32, now events.Time) {
	a := r.holders.at(n)
	if a.account == "" {
		return
	}
	if a.count == 0 && a.forgotten < r.committed-milliseconds(receiptHorizon) {
		r.leave(n)
		return
	}
	r.seen.newest = max(r.seen.newest, a.forgotten)
	if horizonAt(a.forgotten, now) < milliseconds(receiptHorizon) {
		r.seen.belowFull++
	}
	if horizonAt(a.forgotten, now) < milliseconds(receiptFloor) {
		r.seen.belowFloor++
	}
}

// check says whether an unknown id of an account may still be taken.
func (r *receipts) check(account string, id ulid.ULID, now events.Time) *events.Error {
	forgotten := r.holders.at(r.number(account)).forgotten
	horizon := horizonAt(forgotten, now)
	at := events.Time(id.Time())
	switch {
	case at > now+milliseconds(idAhead):
		return events.Errorf(events.InvalidArgument, "the command id's time %s is more than a minute ahead of the ledger's clock", at)
	case at <= forgotten || at < now-milliseconds(receiptHorizon):
		return events.Errorf(events.CommandExpired, "the command id's time %s is further back than receipts reach; look whether it was done, then use a new id", at).
			With("horizon_ms", int64(horizon))
	case horizon < milliseconds(receiptFloor):
		return events.Errorf(events.Unavailable, "more commands with ids came than the ledger can remember: those of account %s reach back less than the 5 minutes that a retry may need; nothing was done: send fewer at a time and try again with the same id", account).
			With("horizon_ms", int64(horizon))
	}
	return nil
}

// horizon is how far back an unknown id is still taken, in milliseconds, of the account
// where that is least.
func (r *receipts) horizon(now events.Time) events.Time { return horizonAt(r.short.newest, now) }

// horizonAt is the horizon of an account with a mark: 24 hours, or what came after the
// newest id that was forgotten.
func horizonAt(forgotten, now events.Time) events.Time {
	return max(min(milliseconds(receiptHorizon), now-forgotten-1), 0)
}

func milliseconds(d time.Duration) events.Time { return events.Time(d.Milliseconds()) }
