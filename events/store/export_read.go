package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// ExportReader reads an export and checks all of it: every block against its hash, every
// commit as a log is checked, and that it is there to its end. What it hands out before
// Each returned nil may be the beginning of a file that is not whole.
type ExportReader struct {
	Header ExportHeader

	r     io.Reader
	sum   hash.Hash
	bytes int64
	chain Chain
	unzip *zstd.Decoder
}

// OpenExport reads the header.
func OpenExport(r io.Reader) (*ExportReader, error) {
	unzip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(exportBlockBytesMax))
	if err != nil {
		return nil, err
	}
	e := &ExportReader{r: r, sum: sha256.New(), unzip: unzip}
	start := make([]byte, len(exportMagic)+1)
	if err := e.read(start); err != nil {
		return nil, err
	}
	if string(start[:len(exportMagic)]) != exportMagic {
		return nil, errNotExport
	}
	if v := start[len(exportMagic)]; v != ExportVersion {
		return nil, &ExportError{Sequence: 1, Newer: true,
			Reason: fmt.Sprintf("export format version %d is not known to this keyledger (it knows %d): use a newer one", v, ExportVersion)}
	}
	kind, content, err := e.readBlock()
	if err != nil {
		return nil, err
	}
	if kind != blockHeader {
		return nil, e.damaged("its header is missing")
	}
	if err := events.DecodeStrict(content, &e.Header); err != nil {
		return nil, e.damaged("header: %v", err)
	}
	if _, err := ulid.ParseStrict(e.Header.Ledger); err != nil {
		return nil, e.damaged("header: %q is no ledger id", e.Header.Ledger)
	}
	e.chain.Partition = e.Header.Partition
	return e, nil
}

// End is the last commit that was read.
func (e *ExportReader) End() Chain { return e.chain }

// Sum is how many bytes were read, and their SHA-256.
func (e *ExportReader) Sum() (bytes int64, sum Hash) { return e.bytes, Hash(e.sum.Sum(nil)) }

// Each reads on to the end of the file. It calls beside once, with what stands beside the
// log, and then commit for every commit, with its bytes as they are stored; they are the
// callee's to keep. It returns an *ExportError at the first bad position, or what a
// callback returned.
func (e *ExportReader) Each(beside func(ExportBeside) error, commit func(*Commit, []byte) error) error {
	defer e.unzip.Close()
	kind, content, err := e.beside(beside)
	for err == nil {
		switch kind {
		case blockCommits, blockZstd:
			err = e.commits(kind, content, commit)
		case blockFooter:
			return e.footer(content)
		default:
			err = e.damaged("a block of kind %q, which does not belong there", kind)
		}
		if err == nil {
			kind, content, err = e.readBlock()
		}
	}
	return err
}

// beside reads what stands beside the log, and the first block behind it.
func (e *ExportReader) beside(f func(ExportBeside) error) (kind byte, content []byte, err error) {
	var found ExportBeside
	kind, content, err = e.readBlock()
	if err == nil && kind == blockLanes {
		found.Lanes = content
		kind, content, err = e.readBlock()
	}
	if err == nil && kind == blockSigned {
		found.Signed = content
		kind, content, err = e.readBlock()
	}
	if err == nil {
		err = f(found)
	}
	return kind, content, err
}

// commits checks the commits of a block and hands them out.
func (e *ExportReader) commits(kind byte, content []byte, f func(*Commit, []byte) error) error {
	records, err := e.unpack(kind, content)
	if err != nil {
		return err
	}
	for len(records) > 0 {
		length, n := binary.Uvarint(records)
		if n <= 0 || length > uint64(len(records)-n) {
			return e.damaged("a commit is not whole")
		}
		data := records[n : n+int(length)]
		records = records[n+int(length):]
		c, err := e.chain.Check(e.chain.Sequence+1, data)
		if err != nil {
			return exportError(err)
		}
		if err := f(c, data); err != nil {
			return err
		}
	}
	return nil
}

// unpack returns the records of a block, in memory of their own.
func (e *ExportReader) unpack(kind byte, content []byte) ([]byte, error) {
	if kind == blockCommits {
		return content, nil
	}
	records, err := e.unzip.DecodeAll(content, nil)
	if err != nil {
		return nil, e.damaged("unpack: %v", err)
	}
	return records, nil
}

// exportError says of an export what was found as if of a log.
func exportError(err error) error {
	var d *DamageError
	if !errors.As(err, &d) {
		return err
	}
	return &ExportError{Partition: d.Partition, Sequence: d.Sequence, Reason: d.Reason, Newer: d.Newer}
}

// footer checks that all is there and nothing more.
func (e *ExportReader) footer(content []byte) error {
	var footer ExportFooter
	if err := events.DecodeStrict(content, &footer); err != nil {
		return e.damaged("footer: %v", err)
	}
	if footer != footerAt(&e.chain) || e.chain.Sequence != e.Header.End {
		return e.damaged("the export ends there, and it was made to go on to %d", e.Header.End)
	}
	switch n, err := io.ReadFull(e.r, make([]byte, 1)); {
	case n > 0:
		return e.damaged("more bytes stand behind the export's end")
	case err != io.EOF:
		return fmt.Errorf("read export: %w", err)
	}
	return nil
}

// readBlock reads one block and compares its hash.
func (e *ExportReader) readBlock() (kind byte, content []byte, err error) {
	start := make([]byte, 1+4)
	if err := e.read(start); err != nil {
		return 0, nil, err
	}
	kind = start[0]
	length := binary.LittleEndian.Uint32(start[1:])
	if length > exportBlockBytesMax {
		return 0, nil, e.damaged("a block of %d bytes, %d are the most", length, exportBlockBytesMax)
	}
	content = make([]byte, length)
	before := e.bytes
	if err := e.read(content); err != nil {
		return 0, nil, e.firstBad(kind, content[:e.bytes-before], err)
	}
	want, got := Hash(e.sum.Sum(nil)), Hash{}
	if err = e.read(got[:]); err == nil && got != want {
		err = e.damaged("hash does not match the content")
	}
	if err != nil {
		return 0, nil, e.firstBad(kind, content, err)
	}
	return kind, content, nil
}

// firstBad goes over the good commits at the beginning of a block that is not what was
// written, so that err names the first bad one.
func (e *ExportReader) firstBad(kind byte, content []byte, err error) error {
	var bad *ExportError
	if !errors.As(err, &bad) || kind != blockCommits && kind != blockZstd {
		return err
	}
	_ = e.commits(kind, content, func(*Commit, []byte) error { return nil }) // err says what is wrong
	return e.damaged("%s", bad.Reason)
}

func (e *ExportReader) read(b []byte) error {
	n, err := io.ReadFull(e.r, b)
	e.sum.Write(b[:n])
	e.bytes += int64(n)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return e.damaged("the file is cut off there")
	}
	return fmt.Errorf("read export: %w", err)
}

// damaged names the commit after the last good one.
func (e *ExportReader) damaged(format string, args ...any) error {
	return &ExportError{Partition: e.chain.Partition, Sequence: e.chain.Sequence + 1, Reason: fmt.Sprintf(format, args...)}
}
