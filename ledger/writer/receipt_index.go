package writer

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// pageLen is how many items a page holds: few enough that making one takes microseconds.
const pageLen = 1 << 12

// pages is a list that grows a page at a time and never moves what it holds, so that no
// caller waits for a copy of all of it.
type pages[T any] []*[pageLen]T

func (p pages[T]) at(n uint32) *T { return &p[n/pageLen][n%pageLen] }

// reach makes sure that there is an item n.
func (p *pages[T]) reach(n uint32) {
	for uint32(len(*p)) <= n/pageLen {
		*p = append(*p, new([pageLen]T))
	}
}

// slot is one receipt. It has no pointer, so the garbage collector never looks at the
// millions of them. Number 0 is no slot.
type slot struct {
	id      ulid.ULID
	input   uint64 // see receipt
	place   uint64 // sequence of the commit, at most maxSequence, << 16 | index of the entry
	account uint32 // number of the account
	younger uint32 // next of the account; of a free slot: next free
	chain   uint32 // next in the bucket of the index
	age     int32  // time of the commit minus that of the id, in milliseconds
}

const maxSequence = 1<<48 - 1

// at is when the receipt was committed. An id that is checked is at most 24 hours older
// and a minute younger than its commit; what is further off than 24 days, which no
// checked id is, counts as 24 days.
func (s *slot) at() events.Time { return events.Time(s.id.Time()) + events.Time(s.age) }

func (s *slot) setAt(at events.Time) {
	s.age = int32(min(max(at-events.Time(s.id.Time()), math.MinInt32), math.MaxInt32))
}

func (s *slot) receipt() receipt {
	return receipt{input: s.input, sequence: s.place >> 16, entry: int32(s.place & math.MaxUint16)}
}

// slab holds the slots.
type slab struct {
	pages[slot]
	used uint32 // highest number ever taken
	free uint32 // first free slot below that
}

// take returns a slot to fill.
func (s *slab) take() uint32 {
	if n := s.free; n != 0 {
		s.free = s.at(n).younger
		return n
	}
	s.used++
	s.reach(s.used)
	return s.used
}

func (s *slab) give(n uint32) {
	*s.at(n) = slot{younger: s.free}
	s.free = n
}

// bucketsPerSlot is how many buckets the index has for each receipt: one would take 52
// bytes a receipt instead of 60, but a look at a random slot costs more than that is worth.
const bucketsPerSlot = 3

// index finds slots by account and id: linear hashing with chains through the slots. It
// has three buckets a receipt and grows by splitting one bucket at a time (Litwin, 1980), so
// no addition pays for a rehash of all. It never shrinks: the budget bounds it.
type index struct {
	seed  maphash.Seed // unknown to callers, so nobody can make long chains
	heads pages[uint32]
	count uint32 // buckets
	base  uint32 // largest power of two that is not above count
}

// off says that there is no index.
func (x *index) off() bool { return x.count == 0 }

// indexOf makes the index of all slots that are taken, which are held.
func indexOf(s *slab, held uint32) index {
	x := index{seed: maphash.MakeSeed(), count: max(bucketsPerSlot*held, 1)}
	x.base = 1 << (bits.Len32(x.count) - 1)
	x.heads.reach(x.count - 1)
	for n := uint32(1); n <= s.used; n++ {
		if s.at(n).account != 0 {
			x.put(s, n)
		}
	}
	return x
}

func newIndex() index {
	x := index{seed: maphash.MakeSeed(), count: 1, base: 1}
	x.heads.reach(0)
	return x
}

func (x *index) hash(account uint32, id ulid.ULID) uint32 {
	var key [4 + len(id)]byte
	binary.LittleEndian.PutUint32(key[:], account)
	copy(key[4:], id[:])
	return uint32(maphash.Bytes(x.seed, key[:]))
}

// bucket is where the chain of a hash begins.
func (x *index) bucket(hash uint32) *uint32 {
	n := hash & (2*x.base - 1)
	if n >= x.count {
		n = hash & (x.base - 1)
	}
	return x.heads.at(n)
}

func (x *index) find(s *slab, account uint32, id ulid.ULID) *slot {
	for n := *x.bucket(x.hash(account, id)); n != 0; {
		found := s.at(n)
		if found.id == id && found.account == account {
			return found
		}
		n = found.chain
	}
	return nil
}

// add puts slot n in, as one of held.
func (x *index) add(s *slab, n, held uint32) {
	for x.count < bucketsPerSlot*held {
		x.split(s)
	}
	x.put(s, n)
}

// put makes slot n the first of its bucket.
func (x *index) put(s *slab, n uint32) {
	added := s.at(n)
	head := x.bucket(x.hash(added.account, added.id))
	added.chain, *head = *head, n
}

func (x *index) remove(s *slab, n uint32) {
	gone := s.at(n)
	link := x.bucket(x.hash(gone.account, gone.id))
	for *link != n {
		link = &s.at(*link).chain
	}
	*link = gone.chain
}

// split makes one more bucket and moves what belongs into it out of the one that had it.
func (x *index) split(s *slab) {
	x.heads.reach(x.count)
	from, to := x.heads.at(x.count-x.base), x.heads.at(x.count)
	for *from != 0 {
		n := *from
		moved := s.at(n)
		if x.hash(moved.account, moved.id)&(2*x.base-1) != x.count {
			from = &moved.chain
			continue
		}
		*from = moved.chain
		moved.chain, *to = *to, n
	}
	if x.count++; x.count == 2*x.base {
		x.base = x.count
	}
}
