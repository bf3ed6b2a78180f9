package projections

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// A checkpoint of the views is a file (numbers are varints, as in events.Coder):
//
//	"KLV", format version (1 byte)
//	header    length; partition, base: sequence, hash (32 bytes), ordinal, epoch, time;
//	          number of projections, name and version of each; number of accounts
//	sections  of each account: length; stamp, account, what each projection saved
//	footer    partition (4 bytes), end: sequence (8), hash (32); length of all before the
//	          footer (8) and its SHA-256 (32); SHA-256 of these members (32)
//
// The base is the commit at which the walk over the accounts began. Each account is as it
// was after the commit that its stamp names, at or after the base; the end is the highest
// stamp. A commit of the log after the base is folded into an account only if it comes
// after the account's stamp; an account that is not in the file was opened after the base.
const (
	checkpointMagic   = "KLV"
	checkpointVersion = 1

	checkpointFooter = 4 + 8 + sha256.Size + 8 + sha256.Size + sha256.Size // bytes
	temporary        = ".tmp"

	// maxCheckpointHeader bounds what is read before anything was checked, in bytes: a few
	// names.
	maxCheckpointHeader = 64 << 10
	// maxCheckpointAccounts is how many accounts the table of a file can number.
	maxCheckpointAccounts = math.MaxUint32
)

// checkpointEnd is the highest stamp and the hash of that commit.
type checkpointEnd struct {
	sequence uint64
	hash     store.Hash
}

// savedProjection is a projection that a file has sections of.
type savedProjection struct {
	name    string
	version uint64
}

// checkpointHeader is what a file says before its sections.
type checkpointHeader struct {
	base        store.Chain
	projections []savedProjection
	accounts    uint64
}

func (h *checkpointHeader) code(c *events.Coder) {
	partition := uint64(h.base.Partition)
	c.Uint(&partition)
	h.base.Partition = uint32(partition)
	c.Uint(&h.base.Sequence)
	c.Fixed(h.base.Hash[:])
	c.Uint(&h.base.Ordinal)
	c.Uint(&h.base.Epoch)
	c.Time(&h.base.Time)
	n := c.Len(len(h.projections))
	if c.Reading() {
		h.projections = make([]savedProjection, n)
	}
	for i := range h.projections {
		c.String(&h.projections[i].name)
		c.Uint(&h.projections[i].version)
	}
	c.Uint(&h.accounts)
}

// appendTo appends the beginning of a file.
func (h *checkpointHeader) appendTo(b []byte) []byte {
	w := events.NewWriter(nil)
	h.code(w)
	return appendPiece(append(append(b, checkpointMagic...), checkpointVersion), w.Bytes())
}

// appendFooter appends the end of a file of which length bytes with a sum stand before it.
func appendFooter(b []byte, partition uint32, end checkpointEnd, length uint64, sum []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, partition)
	b = binary.BigEndian.AppendUint64(b, end.sequence)
	b = append(b, end.hash[:]...)
	b = binary.BigEndian.AppendUint64(b, length)
	b = append(b, sum...)
	own := sha256.Sum256(b[start:])
	return append(b, own[:]...)
}

// readFooter reads the last bytes of a file of a size.
func readFooter(b []byte, partition uint32, size int64) (end checkpointEnd, sum []byte, err error) {
	own := sha256.Sum256(b[:checkpointFooter-sha256.Size])
	switch {
	case !bytes.Equal(own[:], b[checkpointFooter-sha256.Size:]):
		return end, nil, errors.New("its footer is damaged, or it is cut short")
	case binary.BigEndian.Uint32(b) != partition:
		return end, nil, fmt.Errorf("it is of partition %d", binary.BigEndian.Uint32(b))
	case binary.BigEndian.Uint64(b[4+8+sha256.Size:]) != uint64(size-checkpointFooter):
		return end, nil, errors.New("it has not the length that was written")
	}
	end = checkpointEnd{binary.BigEndian.Uint64(b[4:]), store.Hash(b[12 : 12+sha256.Size])}
	return end, b[20+sha256.Size : 20+2*sha256.Size], nil
}

// appendPiece appends bytes behind their length.
func appendPiece(b, piece []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(piece))), piece...)
}

// cutPiece reads what appendPiece wrote.
func cutPiece(b []byte) (piece, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n)], b[w+int(n):], true
}

// checkpointName is what the checkpoint with a base is called.
func checkpointName(base *store.Chain) string {
	return fmt.Sprintf("%d-%020d%s", base.Partition, base.Sequence, store.SuffixCheckpoint)
}

// checkpointNames lists the checkpoints of a partition in a folder, which may not be there:
// the one with the highest base first. Then come those that were begun and not finished.
func checkpointNames(dir string, partition uint32) (finished, begun []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list the checkpoints of the views: %w", err)
	}
	for i := range entries {
		name := entries[len(entries)-1-i].Name() // sorted by name
		switch {
		case !strings.HasPrefix(name, strconv.FormatUint(uint64(partition), 10)+"-"):
		case strings.HasSuffix(name, store.SuffixCheckpoint):
			finished = append(finished, name)
		case strings.HasSuffix(name, store.SuffixCheckpoint+temporary):
			begun = append(begun, name)
		}
	}
	return finished, begun, nil
}

// openCheckpoint opens a file and reads its beginning and its end, which have checks of
// their own; what stands between them is not looked at.
func openCheckpoint(path string, partition uint32) (f *checkpointFile, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f = &checkpointFile{file: file}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	f.size = info.Size()
	start := make([]byte, min(f.size, maxCheckpointHeader))
	if _, err := file.ReadAt(start, 0); err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(start, []byte(checkpointMagic))
	if !ok || len(rest) == 0 {
		return nil, errors.New("it is not a checkpoint")
	}
	if rest[0] != checkpointVersion {
		return nil, fmt.Errorf("its format version %d is not known to this keyledger (it knows %d)", rest[0], checkpointVersion)
	}
	if f.size < checkpointFooter {
		return nil, errors.New("it is cut short")
	}
	footer := make([]byte, checkpointFooter)
	if _, err := file.ReadAt(footer, f.size-checkpointFooter); err != nil {
		return nil, err
	}
	if f.end, f.sum, err = readFooter(footer, partition, f.size); err != nil {
		return nil, err
	}
	header, sections, ok := cutPiece(rest[1:])
	c := events.NewReader(header)
	f.code(c)
	if !ok || c.Err() != nil || len(c.Bytes()) > 0 || f.base.Sequence == 0 || f.accounts > maxCheckpointAccounts {
		return nil, errors.New("its header is damaged")
	}
	f.sections = int64(len(start) - len(sections))
	return f, nil
}

// checkpointFile is a file that is read.
type checkpointFile struct {
	checkpointHeader
	file     *os.File
	size     int64
	end      checkpointEnd
	sum      []byte
	sections int64 // where they begin
}

// read reads all of it and checks it against its sum.
func (f *checkpointFile) read() (*unread, []string, error) {
	data := make([]byte, f.size-checkpointFooter)
	if _, err := io.ReadFull(io.NewSectionReader(f.file, 0, int64(len(data))), data); err != nil {
		return nil, nil, err
	}
	if sum := sha256.Sum256(data); !bytes.Equal(sum[:], f.sum) {
		return nil, nil, errors.New("its hash does not match its content")
	}
	return f.index(data)
}

// index notes where each account's section is. The names share one string.
func (f *checkpointFile) index(data []byte) (*unread, []string, error) {
	n := int(min(f.accounts, uint64(len(data))))
	u := &unread{
		data: data, index: make(map[string]uint32, n), at: make([]uint64, 0, n), stamps: make([]uint64, 0, n),
		end: f.end.sequence,
	}
	var text []byte
	ends := make([]int, 0, n)
	stamp := f.base.Sequence
	for rest := data[f.sections:]; len(rest) > 0; {
		at := len(data) - len(rest)
		section, behind, ok := cutPiece(rest)
		this, w := binary.Uvarint(section)
		account, pieces, whole := cutPiece(section[max(w, 0):])
		for range f.projections {
			_, pieces, whole = cutPiece(pieces)
		}
		if !ok || w <= 0 || !whole || len(pieces) > 0 || len(account) == 0 || this < stamp || this > f.end.sequence {
			return nil, nil, fmt.Errorf("its section %d is damaged", len(ends))
		}
		u.at, u.stamps = append(u.at, uint64(at)), append(u.stamps, this)
		text = append(text, account...)
		ends = append(ends, len(text))
		stamp, rest = this, behind
	}
	if len(ends) != n || uint64(n) != f.accounts {
		return nil, nil, fmt.Errorf("it has %d accounts where %d were written", len(ends), f.accounts)
	}
	names, all, start := make([]string, n), string(text), 0
	for i, end := range ends {
		names[i] = all[start:end]
		u.index[names[i]] = uint32(i)
		start = end
	}
	if len(u.index) != n {
		return nil, nil, errors.New("it has an account twice")
	}
	return u, names, nil
}

// A checkpointWriter writes a file.
type checkpointWriter struct {
	file     *os.File
	path     string // without the temporary ending
	sum      hash.Hash
	length   uint64
	unsynced int
	room     func(bytes int64) error // whether the volume has it
}

// createCheckpoint begins a file that is called path once it is whole.
func createCheckpoint(path string, room func(int64) error) (*checkpointWriter, error) {
	if err := room(checkpointSyncBytes); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &checkpointWriter{file: f, path: path, sum: sha256.New(), room: room}, nil
}

// write adds bytes. They are synced a little at a time, so that no fsync of the log waits
// behind a large one.
func (w *checkpointWriter) write(b []byte) error {
	// If we stop here, or anywhere before the file has its name: a temporary file that no
	// start reads and that the next checkpoint removes.
	n, err := w.file.Write(b)
	w.sum.Write(b[:n])
	w.length += uint64(n)
	if w.unsynced += n; err != nil || w.unsynced < checkpointSyncBytes {
		return err
	}
	w.unsynced = 0
	if err := w.file.Sync(); err != nil {
		return err
	}
	return w.room(checkpointSyncBytes)
}

// finish writes the footer and gives the file its name. Until then nobody reads it.
func (w *checkpointWriter) finish(partition uint32, end checkpointEnd, step func(string)) error {
	if _, err := w.file.Write(appendFooter(nil, partition, end, w.length, w.sum.Sum(nil))); err != nil {
		return err
	}
	step("written") // If we stop here: a temporary file, perhaps not whole on the disk.
	if err := w.file.Sync(); err != nil {
		return err
	}
	step("synced") // If we stop here: a whole temporary file; removed all the same.
	if err := w.file.Close(); err != nil {
		return err
	}
	if err := os.Rename(w.path+temporary, w.path); err != nil {
		return err
	}
	// If we stop here: the checkpoint is there, but a power cut may take its name away
	// again. Then the one before it, which is still there, takes its place.
	step("renamed")
	return store.SyncDir(filepath.Dir(w.path))
}

// abandon removes what was written, as far as it can: the next checkpoint does so too.
func (w *checkpointWriter) abandon() {
	_ = w.file.Close()
	_ = os.Remove(w.path + temporary)
}
