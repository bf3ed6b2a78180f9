package archive

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Names of files in the directory.
const (
	suffixSegment    = ".segment"
	suffixTemp       = ".tmp"        // not whole: removed at a start
	suffixUnreadable = ".unreadable" // could not be removed: nothing reads it any more
)

// syncEvery is after how many bytes a file is synced while it is written: an fsync of the log
// must not wait behind a large file.
const syncEvery = 8 << 20

// segmentName is the name of a segment's file.
func segmentName(level uint32, number uint64) string {
	return fmt.Sprintf("%d-%08d%s", level, number, suffixSegment)
}

// Steps of the making of a file, for tests that stop there.
const (
	stepPart    = "part" // syncEvery bytes more are written
	stepWritten = "written"
	stepSynced  = "synced"
	stepRenamed = "renamed"
	stepStored  = "stored" // the directory is synced
	stepMerged  = "merged" // what was merged is removed
)

// creation is a segment that is being written: content to a temporary file, the index to
// another one until the content is all there.
type creation struct {
	footer
	path    string // the file when it is whole
	file    *os.File
	out     *bufio.Writer
	sum     hash.Hash
	offset  uint64
	unsaved int // bytes since the last sync
	index   *os.File
	pages   *bufio.Writer
	page    []byte // of the index, not full yet

	// Of the account whose turn it is: its chunks' part of the head and their number.
	heads  [len(kinds)][]byte
	counts [len(kinds)]int
	head   []byte

	step func(string) error
}

// create begins a segment. It ends with store, or with discard.
func create(dir string, f footer, step func(string) error) (c *creation, err error) {
	f.Magic = [4]byte{'K', 'L', 'A', formatVersion}
	c = &creation{footer: f, path: filepath.Join(dir, segmentName(f.Level, f.Number)), sum: sha256.New(), step: step}
	if err := os.MkdirAll(dir, 0o700); err != nil { // somebody may have removed it meanwhile
		return nil, err
	}
	if c.file, err = createFile(c.path + suffixTemp); err != nil {
		return nil, err
	}
	if c.index, err = createFile(c.path + ".index" + suffixTemp); err != nil {
		c.discard()
		return nil, err
	}
	c.out = bufio.NewWriterSize(io.MultiWriter(c.file, c.sum), 64<<10)
	c.pages = bufio.NewWriterSize(c.index, 64<<10)
	return c, nil
}

// createFile makes a file, or an empty one of what is left there.
func createFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

// discard closes and removes what is not stored: a volume that is full must not stay so.
// What cannot be removed goes at the next start, or is written over.
func (c *creation) discard() {
	for _, file := range []*os.File{c.file, c.index} {
		if file != nil {
			file.Close()
			os.Remove(file.Name())
		}
	}
}

// write appends to the content.
func (c *creation) write(b []byte) error {
	n, err := c.out.Write(b)
	c.offset += uint64(n)
	if c.unsaved += n; err == nil && c.unsaved > syncEvery {
		c.unsaved = 0
		if err = c.file.Sync(); err == nil {
			err = c.step(stepPart)
		}
	}
	return err
}

// place is where a chunk begins: its events are behind sequence, and not before time.
type place struct {
	sequence uint64
	time     events.Time
}

// chunk writes a chunk of the account whose turn it is: part by part, oldest first.
func (c *creation) chunk(part int, at place, data []byte) error {
	b := c.heads[part]
	b = binary.AppendUvarint(b, at.sequence-c.Start.Sequence)
	b = binary.AppendUvarint(b, uint64(at.time-c.Start.Time))
	b = binary.AppendUvarint(b, uint64(len(data)))
	c.heads[part] = binary.BigEndian.AppendUint32(b, crc32.Checksum(data, castagnoli))
	c.counts[part]++
	return c.write(data)
}

// end writes the head of the account whose chunks were written, and its entry into the
// index. It is behind the last one by key and name.
func (c *creation) end(account string) error {
	h := append(c.head[:0], binary.AppendUvarint(nil, uint64(len(account)))...)
	h = append(h, account...)
	for part := range c.heads {
		h = append(binary.AppendUvarint(h, uint64(c.counts[part])), c.heads[part]...)
		c.heads[part], c.counts[part] = c.heads[part][:0], 0
	}
	c.head = h
	c.page = binary.BigEndian.AppendUint64(c.page, accountKey(account))
	c.page = binary.BigEndian.AppendUint64(c.page, c.offset)
	c.page = binary.BigEndian.AppendUint32(c.page, uint32(len(h)))
	c.page = binary.BigEndian.AppendUint32(c.page, crc32.Checksum(h, castagnoli))
	c.Accounts++
	if err := c.write(h); err != nil {
		return err
	}
	if len(c.page) == pageEntries*entryBytes {
		return c.turn()
	}
	return nil
}

// turn writes a page of the index.
func (c *creation) turn() error {
	b := make([]byte, pageBytes)
	copy(b, c.page)
	binary.BigEndian.PutUint32(b[pageBytes-4:], crc32.Checksum(b[:pageBytes-4], castagnoli))
	c.page = c.page[:0]
	_, err := c.pages.Write(b)
	return err
}

// store ends the file and gives it its name. Wherever it stops before the last step, a
// start finds temporary files, or a whole segment.
func (c *creation) store() error {
	defer c.discard()
	if len(c.page) > 0 {
		if err := c.turn(); err != nil {
			return err
		}
	}
	c.Index = c.offset
	if err := c.finish(); err != nil {
		return err
	}
	// If we crash here, the temporary file goes at the next start.
	if err := c.step(stepWritten); err != nil {
		return err
	}
	if err := c.file.Sync(); err != nil {
		return err
	}
	// Only a file that is on the disk gets the name: after a power cut a name with nothing
	// behind it would be found by its sums, but made again at some cost.
	if err := c.step(stepSynced); err != nil {
		return err
	}
	if err := os.Rename(c.path+suffixTemp, c.path); err != nil {
		return err
	}
	// If we crash here, the segment is there, or after a power cut its span is a gap that is
	// filled from the log.
	if err := c.step(stepRenamed); err != nil {
		return err
	}
	if err := store.SyncDir(filepath.Dir(c.path)); err != nil {
		return err
	}
	return c.step(stepStored)
}

// finish writes the index and the footer.
func (c *creation) finish() error {
	if err := c.pages.Flush(); err != nil {
		return err
	}
	if _, err := c.index.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(c.out, c.index); err != nil {
		return err
	}
	if err := c.out.Flush(); err != nil {
		return err
	}
	c.Content = store.Hash(c.sum.Sum(nil))
	c.Sum = c.footer.sum()
	b, err := binary.Append(nil, binary.BigEndian, &c.footer)
	if err != nil {
		return err
	}
	if _, err := c.file.Write(b); err != nil {
		return err
	}
	return os.Remove(c.index.Name())
}

// writeOpen writes a segment of level 0 from what its parts hold.
func writeOpen(dir string, f footer, parts *[len(kinds)]part, step func(string) error) error {
	type named struct {
		key     uint64
		account string
	}
	seen := map[string]bool{}
	var all []named
	for _, p := range parts {
		for account := range p.accounts() {
			if !seen[account] {
				seen[account] = true
				all = append(all, named{accountKey(account), account})
			}
		}
	}
	slices.SortFunc(all, func(a, b named) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.account, b.account))
	})
	c, err := create(dir, f, step)
	if err != nil {
		return err
	}
	at := place{f.Start.Sequence, f.Start.Time}
	var room []byte
	for i := range all {
		for k, p := range parts {
			if room = p.append(room[:0], all[i].account); len(room) == 0 {
				continue
			}
			if err := c.chunk(k, at, room); err != nil {
				c.discard()
				return err
			}
		}
		if err := c.end(all[i].account); err != nil {
			c.discard()
			return err
		}
	}
	return c.store()
}
