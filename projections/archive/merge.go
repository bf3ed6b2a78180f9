package archive

import (
	"cmp"
	"context"
	"io"
)

// merge writes the segment that stands for successive whole ones, and stops when ctx ends.
// Chunks of an account that are small together become one. Memory is what the largest chunks
// and heads of one account take, however large the files are.
func merge(ctx context.Context, dir string, sources []*segment, step func(string) error) error {
	first, last := sources[0], sources[len(sources)-1]
	c, err := create(dir, footer{
		Fan: first.Fan, Span: first.Span, Level: first.Level + 1, Number: first.Number / uint64(first.Fan),
		Start: first.Start, End: last.End,
	}, step)
	if err != nil {
		return err
	}
	cursors := make([]*cursor, len(sources))
	for i, s := range sources {
		cursors[i] = &cursor{segment: s, content: &window{from: s.file}, index: &window{from: s.file}}
		if err := cursors[i].next(); err != nil {
			c.discard()
			return err
		}
	}
	for {
		least := least(cursors)
		if least == nil {
			return c.store()
		}
		if err := mergeAccount(ctx, c, cursors, least.key, least.head.account); err != nil {
			c.discard()
			return err
		}
	}
}

// cursor goes through a segment's accounts in their order.
type cursor struct {
	*segment
	content, index *window
	at             int // of the next entry
	loaded         int // the page that is loaded, and one
	buffer         [pageBytes]byte

	key  uint64 // of the account it stands at
	head *head  // of it, nil behind the last one
}

// next goes to the next account.
func (c *cursor) next() (err error) {
	if c.at == int(c.Accounts) {
		c.head = nil
		return nil
	}
	if page := c.at / pageEntries; c.loaded != page+1 {
		if err := c.page(c.index, page, &c.buffer); err != nil {
			return err
		}
		c.loaded = page + 1
	}
	e := entryAt(&c.buffer, c.at%pageEntries)
	c.at++
	c.key = e.key
	c.head, err = c.segment.head(c.content, e)
	return err
}

// least returns the cursor whose account is the first of all, nil behind the last one.
func least(cursors []*cursor) (found *cursor) {
	for _, c := range cursors {
		if c.head != nil && (found == nil || cmp.Or(cmp.Compare(c.key, found.key), cmp.Compare(c.head.account, found.head.account)) < 0) {
			found = c
		}
	}
	return found
}

// mergeAccount writes what all sources have of an account and moves those that have it.
func mergeAccount(ctx context.Context, out *creation, cursors []*cursor, key uint64, account string) error {
	for part := range kinds {
		j := joiner{out: out, part: part}
		for _, c := range cursors {
			if c.head == nil || c.key != key || c.head.account != account {
				continue
			}
			for i := range c.head.parts[part] {
				k := &c.head.parts[part][i]
				if ctx.Err() != nil {
					return ctx.Err()
				}
				data, err := c.chunk(c.content, k)
				if err == nil {
					err = j.add(k.place, data)
				}
				if err != nil {
					return err
				}
			}
		}
		if err := j.flush(); err != nil {
			return err
		}
	}
	for _, c := range cursors {
		if c.head != nil && c.key == key && c.head.account == account {
			if err := c.next(); err != nil {
				return err
			}
		}
	}
	return out.end(account)
}

// joiner gathers chunks of one part of an account that are small together.
type joiner struct {
	out   *creation
	part  int
	at    place // of the first
	list  [][]byte
	bytes int
}

// add takes the next chunk.
func (j *joiner) add(at place, data []byte) error {
	if len(j.list) > 0 && j.bytes+len(data) > joinBytesMax {
		if err := j.flush(); err != nil {
			return err
		}
	}
	if len(j.list) == 0 {
		j.at = at
	}
	j.list, j.bytes = append(j.list, data), j.bytes+len(data)
	return nil
}

// flush writes what was gathered.
func (j *joiner) flush() (err error) {
	if len(j.list) == 0 {
		return nil
	}
	data := j.list[0]
	if len(j.list) > 1 {
		if data, err = kinds[j.part].join(nil, j.list); err != nil {
			return err
		}
	}
	j.list, j.bytes = j.list[:0], 0
	return j.out.chunk(j.part, j.at, data)
}

// windowBytes is how much of a file a window reads at once.
const windowBytes = 256 << 10

// window reads a file that is read from its beginning to its end, with few reads. An
// account's head is read before its chunks, which stand before it: what is between the last
// read and the next one is kept.
type window struct {
	from   io.ReaderAt
	last   int64 // end of the last read
	offset int64 // of data
	data   []byte
}

// ReadAt implements io.ReaderAt.
func (w *window) ReadAt(b []byte, offset int64) (int, error) {
	end := offset + int64(len(b))
	defer func() { w.last = end }()
	if len(b) > windowBytes/2 {
		return w.from.ReadAt(b, offset)
	}
	if offset < w.offset || end > w.offset+int64(len(w.data)) {
		w.offset = offset
		if between := offset - w.last; between > 0 && between <= windowBytes/2 {
			w.offset = w.last
		}
		if w.data == nil {
			w.data = make([]byte, windowBytes)
		}
		n, err := w.from.ReadAt(w.data[:windowBytes], w.offset)
		w.data = w.data[:n]
		if end > w.offset+int64(n) {
			return 0, err
		}
	}
	return copy(b, w.data[offset-w.offset:]), nil
}

// mergeable returns the first of successive segments of one level that are to be merged:
// fan of them, which begin where one of the next level does. It returns -1 where there are
// none.
func mergeable(list []*segment, fan int) int {
	for i := 0; i+fan <= len(list); i++ {
		first, last := list[i], list[i+fan-1]
		if first.Number%uint64(fan) == 0 && last.Level == first.Level && last.Number == first.Number+uint64(fan)-1 {
			return i
		}
	}
	return -1
}
