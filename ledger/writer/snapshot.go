package writer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// A snapshot is, in the terms of events.Coder (numbers are varints):
//
//	"KLS", format version (1 byte), then frames, each behind its length:
//	header    'h', partition, and the base: sequence, hash (32 bytes), ordinal, epoch, time
//	receipts  'r', account, older receipts of it; only of an account that has many
//	account   'a', stamp, section of the account, the rest of its receipts
//	footer    'f', number of accounts, end: sequence, hash (32 bytes)
//	SHA-256 of all that (32 bytes)
//
// The base is the acknowledged commit at which the walk over the accounts began. Each
// account is as it was after the commit that its stamp names, at or after the base; the
// end is the highest stamp. A commit of the log after the base is folded into an account
// only if it comes after the account's stamp; an account that is not in the snapshot was
// opened after the base.
const (
	snapshotMagic   = "KLS"
	snapshotVersion = 1

	frameHeader   = 'h'
	frameReceipts = 'r'
	frameAccount  = 'a'
	frameFooter   = 'f'
)

// snapshotEnd is what the footer says.
type snapshotEnd struct {
	accounts uint64
	sequence uint64
	hash     store.Hash
}

// frames writes frames.
type frames struct {
	body events.Coder
	b    []byte // memory for the next body
}

// begin begins a frame of a kind.
func (f *frames) begin(kind byte) *events.Coder {
	f.body.Reset(append(f.b[:0], kind))
	return &f.body
}

// end appends the frame.
func (f *frames) end(b []byte) []byte {
	f.b = f.body.Bytes()
	b = binary.AppendUvarint(b, uint64(len(f.b)))
	return append(b, f.b...)
}

// appendHeader begins a snapshot.
func (f *frames) appendHeader(b []byte, base store.Chain) []byte {
	codeBase(f.begin(frameHeader), &base)
	return f.end(append(append(b, snapshotMagic...), snapshotVersion))
}

// appendFooter ends a snapshot but for the SHA-256.
func (f *frames) appendFooter(b []byte, end snapshotEnd) []byte {
	end.code(f.begin(frameFooter))
	return f.end(b)
}

func codeBase(c *events.Coder, base *store.Chain) {
	partition := uint64(base.Partition)
	c.Uint(&partition)
	base.Partition = uint32(partition)
	c.Uint(&base.Sequence)
	c.Fixed(base.Hash[:])
	c.Uint(&base.Ordinal)
	c.Uint(&base.Epoch)
	c.Time(&base.Time)
}

func (e *snapshotEnd) code(c *events.Coder) {
	c.Uint(&e.accounts)
	c.Uint(&e.sequence)
	c.Fixed(e.hash[:])
}

// loaded is what a snapshot held. It may be used once finish has returned no error.
type loaded struct {
	state    *ledger.State
	receipts *receipts
	base     store.Chain
	end      snapshotEnd
	// stamps are those of the accounts that have one behind the base.
	stamps map[string]uint64
}

// snapshotReader reads a snapshot as its bytes come.
type snapshotReader struct {
	loaded
	// accept looks at the base before anything else is read.
	accept func(base store.Chain) error

	rest   []byte    // not yet read
	sum    hash.Hash // over what was read
	began  bool
	footer bool
	half   string // account of which only older receipts were read yet
	stamp  uint64 // of the last account
	count  uint64 // accounts
}

// newSnapshotReader reads into a state, which is empty, and into receipts without an index.
func newSnapshotReader(st *ledger.State, maxReceipts int, accept func(store.Chain) error) *snapshotReader {
	r := &snapshotReader{
		loaded: loaded{state: st, receipts: newReceipts(maxReceipts), stamps: map[string]uint64{}},
		accept: accept, sum: sha256.New(),
	}
	r.receipts.dropIndex()
	return r
}

// feed reads more bytes.
func (r *snapshotReader) feed(chunk []byte) error {
	r.rest = append(r.rest, chunk...)
	b := r.rest
	if !r.began {
		n := len(snapshotMagic) + 1
		if len(b) < n {
			return nil
		}
		if string(b[:len(snapshotMagic)]) != snapshotMagic {
			return errors.New("it is not a snapshot")
		}
		if v := b[len(snapshotMagic)]; v != snapshotVersion {
			return fmt.Errorf("its format version %d is not known to this keyledger (it knows %d)", v, snapshotVersion)
		}
		r.sum.Write(b[:n])
		b, r.began = b[n:], true
	}
	for !r.footer {
		size, n := binary.Uvarint(b)
		if n < 0 {
			return errors.New("a frame's length is damaged")
		}
		if n == 0 || size > uint64(len(b)-n) {
			break // the rest of it comes with the next chunk
		}
		n += int(size)
		if err := r.frame(b[n-int(size) : n]); err != nil {
			return err
		}
		r.sum.Write(b[:n])
		b = b[n:]
	}
	r.rest = append(r.rest[:0], b...)
	return nil
}

// finish says whether the snapshot was whole.
func (r *snapshotReader) finish() error {
	if !r.footer {
		return errors.New("it is cut short")
	}
	if !bytes.Equal(r.rest, r.sum.Sum(nil)) {
		return errors.New("its hash does not match its content")
	}
	return nil
}

func (r *snapshotReader) frame(b []byte) error {
	if len(b) == 0 {
		return errors.New("a frame is empty")
	}
	kind, c := b[0], events.NewReader(b[1:])
	if (kind == frameHeader) != (r.base.Sequence == 0) {
		return errors.New("its header is not where it belongs")
	}
	var err error
	switch kind {
	case frameHeader:
		err = r.header(c)
	case frameReceipts:
		err = r.olderReceipts(c)
	case frameAccount:
		err = r.account(c)
	case frameFooter:
		err = r.end(c)
	default:
		err = fmt.Errorf("a frame is of the unknown kind %d", kind)
	}
	if err == nil && (c.Err() != nil || len(c.Bytes()) > 0) {
		err = fmt.Errorf("a frame of kind %q has the wrong length", kind)
	}
	return err
}

func (r *snapshotReader) header(c *events.Coder) error {
	codeBase(c, &r.base)
	if c.Err() != nil || r.base.Sequence == 0 {
		return errors.New("its header is damaged")
	}
	r.stamp = r.base.Sequence
	return r.accept(r.base)
}

func (r *snapshotReader) olderReceipts(c *events.Coder) error {
	var account string
	var receipts []byte
	c.String(&account)
	c.Blob(&receipts)
	if r.half != "" && r.half != account {
		return fmt.Errorf("account %s is not whole", r.half)
	}
	if r.half = account; account == "" {
		return errors.New("receipts of no account")
	}
	return r.receipts.restoreMore(account, receipts)
}

func (r *snapshotReader) account(c *events.Coder) error {
	var stamp uint64
	var section, receipts []byte
	c.Uint(&stamp)
	c.Blob(&section)
	c.Blob(&receipts)
	if stamp < r.stamp {
		return fmt.Errorf("stamp %d comes after %d", stamp, r.stamp)
	}
	r.stamp = stamp
	account, err := r.state.RestoreAccount(section)
	if err != nil {
		return err
	}
	if r.half != "" && r.half != account {
		return fmt.Errorf("account %s is not whole", r.half)
	}
	r.half = ""
	if stamp > r.base.Sequence {
		r.stamps[account] = stamp
	}
	r.count++
	return r.receipts.restoreMore(account, receipts)
}

// end takes the footer.
func (r *snapshotReader) end(c *events.Coder) error {
	end := &r.loaded.end
	end.code(c)
	r.footer = true
	switch {
	case r.half != "":
		return fmt.Errorf("account %s is not whole", r.half)
	case end.accounts != r.count:
		return fmt.Errorf("it has %d accounts where %d were written", r.count, end.accounts)
	case end.sequence != r.stamp || (r.stamp == r.base.Sequence && end.hash != r.base.Hash):
		return fmt.Errorf("its end %d is not that of its accounts, %d", end.sequence, r.stamp)
	}
	return nil
}
