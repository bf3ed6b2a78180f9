package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/keyledger/keyledger/events"
)

// An export is a file with a whole log, from its first commit to an end that was
// acknowledged when the export began. Format, version 1:
//
//	"KLX" 1                       magic and version
//	block "H"                     header: ExportHeader in JSON
//	block "L"                     optional: the newest checkpoint of webhook lanes, as it is stored
//	block "S"                     optional: the newest signed checkpoint, as it is stored
//	blocks "C" or "Z"             commits as they are stored, each behind its length (uvarint);
//	                              Z: all of the block compressed with zstd (RFC 8878)
//	block "F"                     footer: ExportFooter in JSON; nothing stands behind it
//
// A block is its letter, the length of its content (4 bytes, little endian), the content,
// and the SHA-256 of all that stands in the file before that hash. So what a reader has
// been given is what was written, and the last hash is that of the whole file.
const exportMagic = "KLX"

// ExportVersion is the version of the export format this program writes.
const ExportVersion = 1

// The letters of blocks.
const (
	blockHeader  = 'H'
	blockLanes   = 'L'
	blockSigned  = 'S'
	blockCommits = 'C'
	blockZstd    = 'Z'
	blockFooter  = 'F'
)

const (
	// exportBlockBytes is how many bytes of commits end a block, with the last of them.
	exportBlockBytes = 1 << 20
	// exportBlockBytesMax bounds a block's content, packed or not.
	exportBlockBytesMax = exportBlockBytes + MaxCommitBytes + 1024
)

// ExportHeader says what an export holds.
type ExportHeader struct {
	Ledger     string      `json:"ledger"` // its id, a ULID
	Partition  uint32      `json:"partition"`
	Partitions int         `json:"partitions"`
	SealKey    string      `json:"seal_key"` // id of the key that sealed what is sealed in it
	Time       events.Time `json:"time"`     // when the export began
	End        uint64      `json:"end"`      // sequence of the last commit
	Program    string      `json:"program"`  // that wrote it
}

// Identity is whose log it is.
func (h *ExportHeader) Identity() Identity {
	return Identity{Ledger: h.Ledger, Partitions: h.Partitions, SealKey: h.SealKey}
}

// ExportBeside is what stands in an export beside the log. Nil: there is none.
type ExportBeside struct {
	Lanes  []byte // the newest checkpoint of webhook lanes
	Signed []byte // the newest signed checkpoint; package proof reads it
}

// ExportFooter says what was written.
type ExportFooter struct {
	Commits uint64 `json:"commits"`
	Events  uint64 `json:"events"`
	Hash    Hash   `json:"hash"` // of the last commit
}

// ExportError says that a file is not the export that was written. Nothing of it from
// Sequence on can be trusted.
type ExportError struct {
	Partition uint32
	Sequence  uint64
	Reason    string
	Newer     bool // not damaged: a newer keyledger wrote it
}

// Error implements error.
func (e *ExportError) Error() string {
	if e.Newer {
		return fmt.Sprintf("export cannot be read from %d:%d on: %s", e.Partition, e.Sequence, e.Reason)
	}
	return fmt.Sprintf("export damaged at %d:%d: %s; take another copy of it, or export again", e.Partition, e.Sequence, e.Reason)
}

// ExportWriter writes an export. Add the commits in order, then Close.
type ExportWriter struct {
	w      io.Writer
	sum    hash.Hash
	bytes  int64
	head   ExportHeader
	chain  Chain
	block  []byte        // commits that are not written yet
	zip    *zstd.Encoder // nil: not compressed
	zipped []byte
}

// NewExportWriter begins an export with its header and what stands beside the log.
func NewExportWriter(w io.Writer, head ExportHeader, beside ExportBeside, compress bool) (*ExportWriter, error) {
	e := &ExportWriter{w: w, sum: sha256.New(), head: head, chain: Chain{Partition: head.Partition}}
	if compress {
		var err error
		if e.zip, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)); err != nil {
			return nil, err
		}
	}
	content, err := events.Encode(head)
	if err != nil {
		return nil, err
	}
	if err := e.write(append([]byte(exportMagic), ExportVersion)); err != nil {
		return nil, err
	}
	if err := e.writeBlock(blockHeader, content); err != nil {
		return nil, err
	}
	if beside.Lanes != nil {
		if err := e.writeBlock(blockLanes, beside.Lanes); err != nil {
			return nil, err
		}
	}
	if beside.Signed != nil {
		if err := e.writeBlock(blockSigned, beside.Signed); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Add takes the log's next message. One that does not follow is a *DamageError.
func (e *ExportWriter) Add(sequence uint64, data []byte) (*Commit, error) {
	commit, err := e.chain.Check(sequence, data)
	if err != nil {
		return nil, err
	}
	e.block = append(binary.AppendUvarint(e.block, uint64(len(data))), data...)
	if len(e.block) < exportBlockBytes {
		return commit, nil
	}
	return commit, e.flush()
}

// End is the last commit that was added.
func (e *ExportWriter) End() Chain { return e.chain }

// Close writes what is left and the footer. It returns the number of bytes written and
// the SHA-256 of them all.
func (e *ExportWriter) Close() (bytes int64, sum Hash, err error) {
	if e.chain.Sequence != e.head.End {
		return 0, sum, e.chain.damaged(e.chain.Sequence+1, "message missing: the log goes on to %d", e.head.End)
	}
	if err := e.flush(); err != nil {
		return 0, sum, err
	}
	content, err := events.Encode(footerAt(&e.chain))
	if err != nil {
		return 0, sum, err
	}
	err = e.writeBlock(blockFooter, content)
	return e.bytes, Hash(e.sum.Sum(nil)), err
}

func footerAt(c *Chain) ExportFooter {
	return ExportFooter{Commits: c.Sequence, Events: c.Ordinal, Hash: c.Hash}
}

// flush writes a block of the commits that wait.
func (e *ExportWriter) flush() error {
	if len(e.block) == 0 {
		return nil
	}
	kind, content := byte(blockCommits), e.block
	if e.zip != nil {
		e.zipped = e.zip.EncodeAll(e.block, e.zipped[:0])
		if len(e.zipped) < len(e.block) {
			kind, content = blockZstd, e.zipped
		}
	}
	e.block = e.block[:0]
	return e.writeBlock(kind, content)
}

func (e *ExportWriter) writeBlock(kind byte, content []byte) error {
	if len(content) > exportBlockBytesMax {
		return fmt.Errorf("write export: a block of %d bytes, %d are the most", len(content), exportBlockBytesMax)
	}
	if err := e.write(binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(content)))); err != nil {
		return err
	}
	if err := e.write(content); err != nil {
		return err
	}
	return e.write(e.sum.Sum(nil))
}

func (e *ExportWriter) write(b []byte) error {
	e.sum.Write(b)
	e.bytes += int64(len(b))
	if _, err := e.w.Write(b); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	return nil
}

// errNotExport: the first bytes are not those of an export.
var errNotExport = errors.New("not an export of a ledger: it does not begin with " + exportMagic)
