package writer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/keyledger/keyledger/events"
)

// idAndInput is the fixed part of a stored receipt.
const idAndInput = 16 + 8

// appendSome appends a piece of what is remembered of an account in its stored form,
// nothing if that is nothing: its mark, the number of receipts in the piece and those
// receipts, oldest first, at most so many. A receipt is: sequence and time of its commit,
// each less that of the receipt before it, index of the entry, id (16 bytes), start of the
// input hash (8 bytes); about 28 bytes. It says whether more of the account are left; the
// next call goes on there. A receipt that comes meanwhile is
// in a later piece; of those that are forgotten meanwhile some are in and the mark of the
// last piece knows them.
func (r *receipts) appendSome(b []byte, account string, most uint32) (piece []byte, more bool) {
	a := r.holders.at(r.number(account))
	if a.count == 0 && a.forgotten == 0 {
		return b, false
	}
	first := r.reading
	if first == 0 {
		first = a.oldest
	}
	count, next := uint32(0), first
	for a.count > 0 && next != 0 && count < most {
		count++
		next = r.slots.at(next).younger
	}
	r.reading = next
	var c events.Coder
	c.Reset(b)
	c.Time(&a.forgotten)
	c.Len(int(count))
	var last lastCoded
	for n := first; count > 0; count-- {
		s := r.slots.at(n)
		last.code(&c, s) // writing, it has no error
		n = s.younger
	}
	return c.Bytes(), next != 0
}

// restoreMore takes back the pieces of appendSome, one after the other. After an error
// the store must not be used. The budget holds here too: what is too much for it is
// forgotten.
func (r *receipts) restoreMore(account string, b []byte) error {
	if err := r.restore(account, b); err != nil {
		return fmt.Errorf("restore receipts of %s: %w", account, err)
	}
	return nil
}

func (r *receipts) restore(account string, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	c := events.NewReader(b)
	var forgotten events.Time
	c.Time(&forgotten)
	if c.Err() == nil && len(c.Bytes()) == 0 {
		return events.ErrShort
	}
	count := c.Len(0)
	if c.Err() != nil {
		return c.Err()
	}
	if forgotten < 0 {
		return errors.New("its mark is out of range")
	}
	r.mark(r.holders.at(r.enter(account)), forgotten)
	var last lastCoded
	for range count {
		var s slot
		if err := last.code(c, &s); err != nil {
			return err
		}
		r.put(account, &s)
	}
	if len(c.Bytes()) > 0 {
		return fmt.Errorf("%d bytes too many", len(c.Bytes()))
	}
	return nil
}

// lastCoded is the place and time of the last receipt that was coded.
type lastCoded struct {
	sequence uint64
	at       events.Time
}

// code reads or writes one receipt.
func (l *lastCoded) code(c *events.Coder, s *slot) error {
	sequence, at, entry := s.place>>16-l.sequence, s.at()-l.at, s.place&math.MaxUint16
	c.Uint(&sequence)
	c.Time(&at)
	c.Uint(&entry)
	if c.Reading() && len(c.Bytes()) < idAndInput {
		return events.ErrShort
	}
	var input [8]byte
	binary.LittleEndian.PutUint64(input[:], s.input)
	c.Fixed(s.id[:])
	c.Fixed(input[:])
	if c.Err() != nil || !c.Reading() {
		l.sequence, l.at = l.sequence+sequence, l.at+at
		return c.Err()
	}
	s.input = binary.LittleEndian.Uint64(input[:])
	if sequence > maxSequence-l.sequence || entry > math.MaxUint16 {
		return errors.New("its place is out of range")
	}
	l.sequence, l.at = l.sequence+sequence, l.at+at
	s.place = l.sequence<<16 | entry
	s.setAt(l.at)
	return nil
}
