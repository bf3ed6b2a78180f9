package writer

import (
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	// receiptHorizon is how long a command id is remembered.
	receiptHorizon = 24 * time.Hour
	// idAhead is how far a command id's time may be ahead of the ledger's clock.
	idAhead = time.Minute
)

// receipt remembers one command id: where its entry stands, and a hash of its input, of
// which 128 bits are enough: whoever finds a collision fools only itself.
type receipt struct {
	input    [16]byte
	sequence uint64
	entry    int32
}

type receiptKey struct {
	account string
	id      ulid.ULID
}

// receipts are the command ids of the horizon. An id whose receipt was forgotten is told
// by its time: every unknown id up to the newest forgotten one is refused as expired and
// can never become a second debit.
type receipts struct {
	limit     int
	known     map[receiptKey]receipt
	order     []agedKey   // oldest first
	forgotten events.Time // time of the newest id that was forgotten
}

type agedKey struct {
	receiptKey
	at events.Time
}

func newReceipts(limit int) *receipts {
	return &receipts{limit: limit, known: map[receiptKey]receipt{}}
}

// find returns the receipt of an id.
func (r *receipts) find(account string, id ulid.ULID) (receipt, bool) {
	found, ok := r.known[receiptKey{account, id}]
	return found, ok
}

// add remembers an entry.
func (r *receipts) add(e *store.Entry, at events.Time, sequence uint64, entry int) {
	key := receiptKey{e.Account, e.CommandID}
	r.known[key] = receipt{input: [16]byte(e.InputHash[:16]), sequence: sequence, entry: int32(entry)}
	r.order = append(r.order, agedKey{key, at})
	for len(r.known) > r.limit {
		r.forgetOldest()
	}
}

// forgetOld drops what is older than the horizon. A minute more than the horizon is
// kept, because an id may be ahead of its commit by that much.
func (r *receipts) forgetOld(now events.Time) {
	limit := now - events.Time((receiptHorizon + idAhead).Milliseconds())
	for len(r.order) > 0 && r.order[0].at < limit {
		r.forgetOldest()
	}
}

func (r *receipts) forgetOldest() {
	oldest := r.order[0]
	r.order[0] = agedKey{}
	r.order = r.order[1:]
	delete(r.known, oldest.receiptKey)
	r.forgotten = max(r.forgotten, events.Time(oldest.id.Time()))
}

// check says whether an unknown id may still be taken.
func (r *receipts) check(id ulid.ULID, now events.Time) *events.Error {
	at := events.Time(id.Time())
	if at > now+events.Time(idAhead.Milliseconds()) {
		return events.Errorf(events.InvalidArgument, "the command id's time %s is more than a minute ahead of the ledger's clock", at)
	}
	if at < now-r.horizon(now) {
		return events.Errorf(events.CommandExpired, "the command id's time %s is further back than receipts reach; look whether it was done, then use a new id", at).
			With("horizon_ms", int64(r.horizon(now)))
	}
	return nil
}

// horizon is how far back an unknown id is still taken, in milliseconds.
func (r *receipts) horizon(now events.Time) events.Time {
	h := events.Time(receiptHorizon.Milliseconds())
	if r.forgotten > 0 {
		h = min(h, now-r.forgotten-1)
	}
	return max(h, 0)
}
