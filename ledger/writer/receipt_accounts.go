package writer

import (
	"math/bits"
	"strings"

	"github.com/keyledger/keyledger/events"
)

// holder is an account that has receipts, or that had one whose id could still be taken
// for a new one by its time alone.
type holder struct {
	account   string      // a copy of our own; empty in a free record
	forgotten events.Time // time of the newest id that was forgotten; the account's mark
	due       events.Time // no receipt was committed before; spares the sweep a look at most slots
	oldest    uint32      // slots, in the order of their commits
	youngest  uint32
	count     uint32 // receipts
	before    uint32 // neighbours in the ring of its size; of a free record: after is the next free
	after     uint32
}

// holders numbers the accounts that have receipts and keeps them in rings by how many
// they have, so that the one with the most is found at once. Number 0 is no account.
type holders struct {
	pages[holder]
	numbers map[string]uint32
	last    uint32 // the one asked for last: a command is looked up, then added
	used    uint32 // highest number ever taken
	free    uint32 // first free number below that
	rings   [sizes]uint32
	top     int // no ring above it has a member
}

// sizes is how many sizes there are, see sizeOf.
const sizes = 8 * 30

// sizeOf puts counts into sizes: exact up to 15, from there on to within an eighth, so
// that an account changes its ring only at every so many additions.
func sizeOf(count uint32) int {
	shift := max(bits.Len32(count)-4, 0)
	return 8*shift + int(count>>shift)
}

func newHolders() holders {
	h := holders{numbers: map[string]uint32{}}
	h.reach(0)
	return h
}

// number returns an account's number, 0 if it has none.
func (h *holders) number(account string) uint32 {
	if h.at(h.last).account != account {
		h.last = h.numbers[account]
	}
	return h.last
}

// enter returns an account's number and gives it one if it has none.
func (h *holders) enter(account string) uint32 {
	if n := h.number(account); n != 0 {
		return n
	}
	n := h.free
	if n != 0 {
		h.free = h.at(n).after
	} else {
		h.used++
		h.reach(h.used)
		n = h.used
	}
	// The name may be cut from a whole request: keep a copy, not the request.
	name := strings.Clone(account)
	*h.at(n) = holder{account: name}
	h.numbers[name], h.last = n, n
	return n
}

// leave drops an account that has no receipts.
func (h *holders) leave(n uint32) {
	delete(h.numbers, h.at(n).account)
	*h.at(n) = holder{after: h.free}
	h.free, h.last = n, 0
}

// resize notes how many receipts an account has.
func (h *holders) resize(n, count uint32) {
	a := h.at(n)
	from, to := sizeOf(a.count), sizeOf(count)
	if from != to && a.count > 0 {
		h.unlink(n, from)
	}
	if from != to && count > 0 {
		h.link(n, to)
	}
	a.count = count
}

// link makes an account the last in the ring of its size.
func (h *holders) link(n uint32, size int) {
	h.top = max(h.top, size)
	a, first := h.at(n), h.rings[size]
	if first == 0 {
		h.rings[size], a.before, a.after = n, n, n
		return
	}
	last := h.at(first).before
	a.before, a.after = last, first
	h.at(first).before, h.at(last).after = n, n
}

func (h *holders) unlink(n uint32, size int) {
	a := h.at(n)
	if a.after == n {
		h.rings[size] = 0
		return
	}
	h.at(a.before).after, h.at(a.after).before = a.after, a.before
	if h.rings[size] == n {
		h.rings[size] = a.after
	}
}

// most returns the account with the most receipts, to within an eighth; those of the same
// size in turn. There must be one.
func (h *holders) most() uint32 {
	for h.rings[h.top] == 0 {
		h.top--
	}
	n := h.rings[h.top]
	h.rings[h.top] = h.at(n).after
	return n
}
