package events

import (
	"encoding/binary"
	"errors"
	"sort"
)

// ErrShort means that stored bytes ended before the value they should hold.
var ErrShort = errors.New("stored value is cut short")

// Coder reads or writes the stored form: one method of a struct serves both ways, so
// the two cannot drift apart. Numbers are varints, strings and bytes carry their
// length. Fields are only ever added at a struct's end: a reader that finds the end of
// the bytes at a field leaves it and those behind it zero, so old records stay
// readable. A Coder that met an error does nothing more; Err tells it.
type Coder struct {
	buf     []byte // written so far, or all there is to read
	at, end int    // what is left to read of buf; numbers, since a slice is dear to move
	reading bool
	only    string // see Only
	err     error

	// The strings read last, a ring: most are read again at once, such as an
	// account's id for the entry, its event and the data. Then they share memory.
	last   [4]string
	oldest int
}

// NewWriter returns a Coder that appends to b.
func NewWriter(b []byte) *Coder { return &Coder{buf: b} }

// NewReader returns a Coder that reads b. It keeps no part of b.
func NewReader(b []byte) *Coder { return &Coder{buf: b, end: len(b), reading: true} }

// Bytes returns what was written, or what is left to read.
func (c *Coder) Bytes() []byte {
	if c.reading {
		return c.buf[c.at:c.end]
	}
	return c.buf
}

// Only makes a reader pass over the subject and data of the events of other accounts than
// this one: their Data is nil.
func (c *Coder) Only(account string) { c.only = account }

// Reset makes c a writer that appends to b.
func (c *Coder) Reset(b []byte) { *c = Coder{buf: b} }

// Reading says whether c reads.
func (c *Coder) Reading() bool { return c.reading }

// Err returns the first error.
func (c *Coder) Err() error { return c.err }

// Uint codes an unsigned number.
func (c *Coder) Uint(p *uint64) {
	if !c.reading {
		c.buf = binary.AppendUvarint(c.buf, *p)
		return
	}
	if v, ok := c.varint(); ok {
		*p = v
	}
}

// varint reads a number, false where there is none.
func (c *Coder) varint() (uint64, bool) {
	if c.err != nil || c.at == c.end {
		return 0, false
	}
	if first := c.buf[c.at]; first < 0x80 { // most numbers are small
		c.at++
		return uint64(first), true
	}
	v, n := binary.Uvarint(c.buf[c.at:c.end])
	if n <= 0 {
		c.err = ErrShort
		return 0, false
	}
	c.at += n
	return v, true
}

// Int codes a signed number.
func (c *Coder) Int(p *int64) {
	if !c.reading {
		c.buf = binary.AppendVarint(c.buf, *p)
		return
	}
	if v, ok := c.varint(); ok {
		*p = int64(v>>1) ^ -int64(v&1) // zigzag, as binary.AppendVarint has it
	}
}

// more refuses the end of the bytes where no later version could have added a field: in
// the middle of a list, between a flag and what it announces.
func (c *Coder) more() {
	if c.reading && c.err == nil && c.at == c.end {
		c.err = ErrShort
	}
}

// optional codes a number that may be absent.
func (c *Coder) optional(p **int64) {
	has := *p != nil
	c.Bool(&has)
	if !has {
		return
	}
	c.more()
	if c.reading {
		*p = new(int64)
	}
	c.Int(*p)
}

// Time codes a time.
func (c *Coder) Time(p *Time) { c.Int((*int64)(p)) }

// Bool codes a truth value.
func (c *Coder) Bool(p *bool) {
	var v uint64
	if *p {
		v = 1
	}
	c.Uint(&v)
	if c.reading { // who writes may share what it writes with others that read it
		*p = v == 1
	}
}

// take returns the next length-prefixed piece when reading.
func (c *Coder) take() []byte {
	n, ok := c.varint()
	if !ok {
		return nil
	}
	if n > uint64(c.end-c.at) {
		c.err = ErrShort
		return nil
	}
	piece := c.buf[c.at : c.at+int(n)]
	c.at += int(n)
	return piece
}

// String codes a string.
func (c *Coder) String(p *string) {
	if !c.reading {
		c.buf = binary.AppendUvarint(c.buf, uint64(len(*p)))
		c.buf = append(c.buf, *p...)
		return
	}
	*p = c.shared(c.take())
}

// shared returns b as a string, one of those read last if it is among them.
func (c *Coder) shared(b []byte) string {
	for i := range c.last {
		if string(b) == c.last[i] {
			return c.last[i]
		}
	}
	s := string(b)
	if len(b) > 0 {
		c.last[c.oldest] = s
		c.oldest = (c.oldest + 1) % len(c.last)
	}
	return s
}

// Word codes a string that mostly is one of few: reading it then needs no memory. It is
// stored as by String.
func (c *Coder) Word(p *string) {
	if !c.reading {
		c.String(p)
		return
	}
	b := c.take()
	if w := findWord(b); w.text != "" || len(b) == 0 {
		*p = w.text
	} else {
		*p = c.shared(b)
	}
}

// Blob codes bytes; none and empty are the same.
func (c *Coder) Blob(p *[]byte) {
	if !c.reading {
		c.buf = binary.AppendUvarint(c.buf, uint64(len(*p)))
		c.buf = append(c.buf, *p...)
		return
	}
	if b := c.take(); len(b) > 0 {
		*p = append([]byte(nil), b...)
	} else {
		*p = nil
	}
}

// Fixed codes exactly len(p) bytes without a length.
func (c *Coder) Fixed(p []byte) {
	if !c.reading {
		c.buf = append(c.buf, p...)
		return
	}
	if c.err != nil || c.at == c.end {
		return
	}
	if c.end-c.at < len(p) {
		c.err = ErrShort
		return
	}
	copy(p, c.buf[c.at:])
	c.at += len(p)
}

// Len codes a count of things and refuses one that the bytes left cannot hold.
func (c *Coder) Len(n int) int {
	v := uint64(n)
	c.Uint(&v)
	if c.reading && v > uint64(c.end-c.at) {
		if c.err == nil {
			c.err = ErrShort
		}
		return 0
	}
	return int(v)
}

// Strings codes a list that is never null in JSON.
func (c *Coder) Strings(p *[]string) {
	n := c.Len(len(*p))
	if c.reading {
		*p = make([]string, n)
	}
	for i := range *p {
		c.more()
		c.String(&(*p)[i])
	}
}

// list codes a list by the coder of its elements. Read, an empty one is nil.
func list[T any](c *Coder, p *[]T, element func(*T, *Coder)) {
	n := c.Len(len(*p))
	if c.reading {
		*p = nil
		if n > 0 {
			*p = make([]T, n)
		}
	}
	for i := range *p {
		c.more()
		element(&(*p)[i], c)
	}
}

// numbers is Map for a map that is nil when it is empty.
func (c *Coder) numbers(p *map[string]int64) {
	c.Map(p)
	if len(*p) == 0 && *p != nil {
		*p = nil
	}
}

// Map codes a map from names to numbers in the order of the names.
func (c *Coder) Map(p *map[string]int64) {
	n := c.Len(len(*p))
	if !c.reading {
		names := make([]string, 0, n)
		for name := range *p {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			v := (*p)[name]
			c.String(&name)
			c.Int(&v)
		}
		return
	}
	*p = make(map[string]int64, n)
	for range n {
		var name string
		var v int64
		c.more()
		c.String(&name)
		c.more()
		c.Int(&v)
		(*p)[name] = v
	}
}
