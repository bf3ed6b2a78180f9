package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sort"
	"sync/atomic"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// A segment's file, all numbers big-endian where nothing else is said:
//
//	of each account, by key and name: its chunks, part by part, the oldest first, then
//	  its head: length of the name and the name, and for each part the number of its
//	  chunks and of each by how much the sequence and the time before it are more than
//	  those before the segment, its length (all varints) and its CRC-32C (4 bytes)
//	the index: pages of 4,096 bytes, each with 170 entries of an account's key, where its
//	  head is, the head's length and CRC-32C, and at its end the CRC-32C of the rest
//	the footer
//
// The key of an account is the first eight bytes of its name's SHA-256: entries of a fixed
// size are found by halves, and names that are alike lie apart.
const (
	formatVersion = 2
	pageBytes     = 4096
	entryBytes    = 8 + 8 + 4 + 4
	pageEntries   = (pageBytes - 4) / entryBytes
)

// footer is the end of a file: what it holds, and sums of it.
type footer struct {
	Magic    [4]byte // "KLA", formatVersion
	Fan      uint32  // segments that are merged into one
	Span     uint64  // events of a segment of level 0
	Level    uint32
	Number   uint64      // among the segments of its level
	Start    store.Chain // before its first commit
	End      store.Chain // its last commit
	Accounts uint64
	Index    uint64     // where the index is
	Content  store.Hash // SHA-256 of all before the footer
	Sum      store.Hash // SHA-256 of the footer before it
}

// sum is what Sum should be.
func (f *footer) sum() store.Hash {
	b, err := binary.Append(nil, binary.BigEndian, f)
	if err != nil {
		panic(fmt.Sprintf("encode a segment's footer: %v", err)) // all its members are of a fixed size
	}
	return sha256.Sum256(b[:len(b)-len(f.Sum)])
}

// pages is how many pages the index has.
func (f *footer) pages() int { return (int(f.Accounts) + pageEntries - 1) / pageEntries }

// damage means that a segment's file is not what was written.
type damage struct {
	segment *segment
	what    string
}

// Error implements error.
func (d *damage) Error() string { return fmt.Sprintf("%s is damaged: %s", d.segment.path, d.what) }

// damaged makes the error.
func (s *segment) damaged(format string, args ...any) error {
	return &damage{s, fmt.Sprintf(format, args...)}
}

// castagnoli is the polynomial of every CRC-32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// accountKey is where an account stands among others.
func accountKey(account string) uint64 {
	sum := sha256.Sum256([]byte(account))
	return binary.BigEndian.Uint64(sum[:])
}

// segment is an immutable file. In memory it has its footer only.
type segment struct {
	footer
	path string
	file *os.File
	refs atomic.Int32 // readers and the archive itself; the file is closed by the last
}

// openSegment opens a file and checks its footer and its length: what else there is has
// sums of its own and is checked when it is read.
func openSegment(path string) (*segment, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s := &segment{path: path, file: file}
	s.refs.Store(1)
	if err := s.open(); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// open reads and checks the footer.
func (s *segment) open() error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	tail := make([]byte, binary.Size(s.footer))
	if info.Size() < int64(len(tail)) {
		return s.damaged("it is cut short")
	}
	if err := s.read(s.file, tail, uint64(info.Size()-int64(len(tail)))); err != nil {
		return err
	}
	if _, err := binary.Decode(tail, binary.BigEndian, &s.footer); err != nil {
		return err
	}
	size := s.size()
	switch {
	case s.Sum != s.sum():
		return s.damaged("its footer's sum is another")
	case s.Magic != [4]byte{'K', 'L', 'A', formatVersion}:
		return s.damaged("it has another format")
	case size != info.Size():
		return s.damaged("it has %d bytes and not %d", info.Size(), size)
	}
	return nil
}

// size is how many bytes the file has.
func (s *segment) size() int64 {
	return int64(s.Index) + int64(s.pages()*pageBytes+binary.Size(s.footer))
}

// first and behind are the spans of level 0 that it covers.
func (s *segment) first() uint64  { return s.Number * s.covers() }
func (s *segment) behind() uint64 { return s.first() + s.covers() }

func (s *segment) covers() uint64 {
	n := uint64(1)
	for range s.Level {
		n *= uint64(s.Fan)
	}
	return n
}

// acquire keeps the file open until release. It is called while the archive holds it.
func (s *segment) acquire() { s.refs.Add(1) }

// release undoes acquire.
func (s *segment) release() {
	if s.refs.Add(-1) == 0 {
		s.file.Close() // only read: nothing can be lost
	}
}

// read fills b from offset. A file that cannot be read there is damaged; one that ends before
// was cut short since it was opened.
func (s *segment) read(r io.ReaderAt, b []byte, offset uint64) error {
	_, err := r.ReadAt(b, int64(offset))
	if errors.Is(err, io.EOF) {
		return s.damaged("it ends before %d bytes at %d", len(b), offset)
	}
	if err != nil {
		return s.damaged("read %d bytes at %d: %v", len(b), offset, err)
	}
	return nil
}

// page reads a page of the index.
func (s *segment) page(r io.ReaderAt, n int, b *[pageBytes]byte) error {
	if err := s.read(r, b[:], s.Index+uint64(n)*pageBytes); err != nil {
		return err
	}
	if crc32.Checksum(b[:pageBytes-4], castagnoli) != binary.BigEndian.Uint32(b[pageBytes-4:]) {
		return s.damaged("page %d of its index", n)
	}
	return nil
}

// entry is a line of the index.
type entry struct {
	key    uint64
	head   uint64 // where it is
	length uint32
	sum    uint32
}

// entryAt reads entry i of a page.
func entryAt(b *[pageBytes]byte, i int) entry {
	e := b[i*entryBytes:]
	return entry{
		key: binary.BigEndian.Uint64(e), head: binary.BigEndian.Uint64(e[8:]),
		length: binary.BigEndian.Uint32(e[16:]), sum: binary.BigEndian.Uint32(e[20:]),
	}
}

// in is how many entries a page has.
func (s *segment) in(page int) int { return min(pageEntries, int(s.Accounts)-page*pageEntries) }

// head is what a segment holds of one account.
type head struct {
	account string
	parts   [len(kinds)][]chunk
}

// chunk is where a chunk is.
type chunk struct {
	place
	offset uint64
	length uint64
	sum    uint32
}

// head reads the head of an account.
func (s *segment) head(r io.ReaderAt, e entry) (*head, error) {
	b := make([]byte, e.length)
	if err := s.read(r, b, e.head); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != e.sum {
		return nil, s.damaged("the head of an account at %d", e.head)
	}
	c := chunkReader{left: b}
	h := &head{account: c.text()}
	var bytes uint64
	for part := range h.parts {
		h.parts[part] = make([]chunk, c.count())
		for i := range h.parts[part] {
			k := &h.parts[part][i]
			k.sequence, k.time = s.Start.Sequence+c.number(), s.Start.Time+events.Time(c.number())
			k.offset, k.length = bytes, c.number()
			if len(c.left) < 4 {
				return nil, s.damaged("the head of an account at %d", e.head)
			}
			k.sum, c.left = binary.BigEndian.Uint32(c.left), c.left[4:]
			bytes += k.length
		}
	}
	for part := range h.parts {
		for i := range h.parts[part] {
			h.parts[part][i].offset += e.head - bytes
		}
	}
	return h, nil
}

// chunk reads a chunk.
func (s *segment) chunk(r io.ReaderAt, k *chunk) ([]byte, error) {
	b := make([]byte, k.length)
	if err := s.read(r, b, k.offset); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != k.sum {
		return nil, s.damaged("%d bytes at %d", k.length, k.offset)
	}
	return b, nil
}

// find returns what there is of an account, nil where there is nothing: one page for each
// halving of the index, and a head.
func (s *segment) find(account string) (*head, error) {
	var (
		key  = accountKey(account)
		page [pageBytes]byte
		err  error
	)
	at := sort.Search(s.pages(), func(i int) bool {
		if err == nil {
			err = s.page(s.file, i, &page)
		}
		return err != nil || entryAt(&page, s.in(i)-1).key >= key
	})
	for ; err == nil && at < s.pages(); at++ {
		if err = s.page(s.file, at, &page); err != nil {
			break
		}
		n := s.in(at)
		i := sort.Search(n, func(i int) bool { return entryAt(&page, i).key >= key })
		for ; i < n; i++ {
			e := entryAt(&page, i)
			if e.key != key {
				return nil, nil
			}
			h, err := s.head(s.file, e)
			if err != nil || h.account == account {
				return h, err
			}
		}
	}
	return nil, err
}

// verify reads it all.
func (s *segment) verify() error {
	sum := sha256.New()
	end := int64(s.Index) + int64(s.pages()*pageBytes)
	if _, err := io.Copy(sum, io.NewSectionReader(s.file, 0, end)); err != nil {
		return s.damaged("%v", err)
	}
	if store.Hash(sum.Sum(nil)) != s.Content {
		return s.damaged("its sum is another")
	}
	return nil
}
