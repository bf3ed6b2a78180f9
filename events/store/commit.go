// Package store is the log: commits, how they are appended behind a fence, read back and
// checked. Every other package reaches the log through it.
package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// Limits of one commit.
const (
	MaxCommitBytes   = 256 << 10
	MaxCommitEntries = 1000
)

// FormatVersion is the version of the commit format this program writes.
const FormatVersion = 1

// magic begins every commit, followed by the format version.
const magic = "KLC"

// Hash is a SHA-256.
type Hash [32]byte

// String returns h in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err == nil && len(b) != len(h) {
		err = fmt.Errorf("%d bytes", len(b))
	}
	if err != nil {
		return fmt.Errorf("read a hash: %w", err)
	}
	*h = Hash(b)
	return nil
}

// Nonce is unique to one append.
type Nonce [16]byte

// MarshalText implements encoding.TextMarshaler.
func (n Nonce) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(n[:])), nil }

// Commit is one message in the log. A commit without entries is an "epoch started": the
// first append of a writer that took over.
type Commit struct {
	Partition    uint32      `json:"partition"`
	Sequence     uint64      `json:"sequence"` // where it stands; PrevSequence + 1
	Epoch        uint64      `json:"epoch"`
	Writer       ulid.ULID   `json:"writer"`
	Nonce        Nonce       `json:"nonce"`
	PrevSequence uint64      `json:"previous_sequence"`
	PrevHash     Hash        `json:"previous_hash"`
	Ordinal      uint64      `json:"ordinal"` // events of the partition before this commit
	Time         events.Time `json:"time"`
	Entries      []Entry     `json:"entries"`
	Hash         Hash        `json:"hash"` // SHA-256 of all that stands before it
}

// Entry is the outcome of one command.
type Entry struct {
	CommandID ulid.ULID      `json:"command_id"`
	Receipt   bool           `json:"receipt"`    // the id came from the caller: a retry gets the same answer
	Command   string         `json:"command"`    // "credit.debit", "authorize"
	InputHash Hash           `json:"input_hash"` // SHA-256(subject, NUL, body); zero without a receipt
	Account   string         `json:"account"`
	Actor     string         `json:"actor"`
	Outcome   events.Code    `json:"outcome"`
	Trace     events.Trace   `json:"traceparent,omitzero"` // that the command came with
	Events    []events.Event `json:"-"`
}

// EventCount returns how many events the commit holds.
func (c *Commit) EventCount() int {
	n := 0
	for i := range c.Entries {
		n += len(c.Entries[i].Events)
	}
	return n
}

// CountInWords is EventCount for messages: "1 event", "2 events", "no events".
func (c *Commit) CountInWords() string {
	switch n := c.EventCount(); n {
	case 0:
		return "no events"
	case 1:
		return "1 event"
	default:
		return fmt.Sprintf("%d events", n)
	}
}

// Event returns the event at an index over all entries, nil where there is none.
func (c *Commit) Event(index int) *events.Event {
	for i := range c.Entries {
		list := c.Entries[i].Events
		if index < len(list) {
			return &list[index]
		}
		index -= len(list)
	}
	return nil
}

// End returns the ordinal of the commit after c.
func (c *Commit) End() uint64 { return c.Ordinal + uint64(c.EventCount()) }

// Each calls f for every event of the commit as the outside sees it, in order.
func (c *Commit) Each(f func(*events.CloudEvent) error) error {
	index := 0
	for i := range c.Entries {
		for j := range c.Entries[i].Events {
			e := &events.CloudEvent{
				Event:     c.Entries[i].Events[j],
				ID:        events.EventID(c.Time, c.Nonce, index),
				Time:      c.Time,
				Position:  events.Position{Partition: c.Partition, Sequence: c.Sequence, Index: index},
				CommandID: c.Entries[i].CommandID,
				Trace:     c.Entries[i].Trace,
			}
			if err := f(e); err != nil {
				return err
			}
			index++
		}
	}
	return nil
}

// code codes an entry. Its events, when read, are taken of a list that the commit shares.
func (e *Entry) code(c *events.Coder, room *[]events.Event) {
	c.Fixed(e.CommandID[:])
	e.codeOptions(c)
	c.Word(&e.Command)
	c.String(&e.Account)
	c.Word(&e.Actor)
	c.Word((*string)(&e.Outcome))
	n := c.Len(len(e.Events))
	if c.Reading() {
		e.Events = takeEvents(room, n)
	}
	for i := range e.Events {
		e.Events[i].Code(c)
	}
}

// What an entry may have, as bits of one number.
const (
	entryReceipt = 1 << iota
	entryTrace
)

// codeOptions codes what an entry may have.
func (e *Entry) codeOptions(c *events.Coder) {
	var has uint64
	if e.Receipt {
		has |= entryReceipt
	}
	if e.Trace != (events.Trace{}) {
		has |= entryTrace
	}
	c.Uint(&has)
	if has >= entryTrace<<1 {
		c.Fail(fmt.Errorf("an entry has options %#x, %w", has, events.ErrNewer))
		return
	}
	if c.Reading() {
		e.Receipt = has&entryReceipt != 0
	}
	if e.Receipt {
		c.Fixed(e.InputHash[:])
	}
	if has&entryTrace != 0 {
		e.Trace.Code(c)
	}
}

// takeEvents takes n events of a list, or of a new one where it has too few.
func takeEvents(room *[]events.Event, n int) []events.Event {
	if n > len(*room) {
		*room = make([]events.Event, max(n, eventsAtOnce))
	}
	taken := (*room)[:n:n]
	*room = (*room)[n:]
	return taken
}

// eventsAtOnce is how many events memory is made for once a commit has more of them than
// entries.
const eventsAtOnce = 16

// AppendEntry appends e in its stored form. It panics on an event that the catalog does
// not have: once in the log, no reader could get past it.
func AppendEntry(b []byte, e *Entry) []byte {
	w := coders.Get().(*events.Coder)
	defer coders.Put(w)
	w.Reset(b)
	e.code(w, nil)
	if w.Err() != nil {
		panic(fmt.Sprintf("encode entry of %s %s: %v", e.Command, e.CommandID, w.Err()))
	}
	b = w.Bytes()
	w.Reset(nil)
	return b
}

// coders are the writers of AppendEntry: one each would be garbage at once.
var coders = sync.Pool{New: func() any { return new(events.Coder) }}

// Encode writes c, whose Entries are already encoded in entries one after the other,
// sets c.Sequence and c.Hash and returns the message. Only the number of c.Entries is
// looked at.
func (c *Commit) Encode(entries []byte) []byte {
	return c.AppendTo(make([]byte, 0, len(entries)+256), entries)
}

// AppendTo is Encode into the memory of b, which is empty.
func (c *Commit) AppendTo(b, entries []byte) []byte {
	b = append(b, magic...)
	w := events.NewWriter(append(b, FormatVersion))
	c.header(w)
	w.Len(len(c.Entries))
	b = append(w.Bytes(), entries...)
	c.Sequence = c.PrevSequence + 1
	c.Hash = sha256.Sum256(b)
	return append(b, c.Hash[:]...)
}

func (c *Commit) header(w *events.Coder) {
	partition := uint64(c.Partition)
	w.Uint(&partition)
	c.Partition = uint32(partition)
	w.Uint(&c.Epoch)
	w.Fixed(c.Writer[:])
	w.Fixed(c.Nonce[:])
	w.Uint(&c.PrevSequence)
	w.Fixed(c.PrevHash[:])
	w.Uint(&c.Ordinal)
	w.Time(&c.Time)
}

// Decode reads a message. It checks the message alone: form, version and hash. Chain
// checks that it stands where it claims. The error wraps events.ErrNewer where the message
// is not damaged but newer than this program: whatever else changes in a format, a commit
// ends with the SHA-256 of all that stands before it, which tells a new version, also of an
// event, from a damaged byte.
func Decode(b []byte) (*Commit, error) { return decode(b, "") }

// DecodeFor is Decode for one account: the commit has all its events, but of other accounts'
// neither subject nor data. Where an account has few of a commit's events it takes a part of
// the time.
func DecodeFor(b []byte, account string) (*Commit, error) { return decode(b, account) }

func decode(b []byte, account string) (*Commit, error) {
	if len(b) < len(magic)+1+len(Hash{}) || string(b[:len(magic)]) != magic {
		return nil, errors.New("not a commit")
	}
	body, sum := b[:len(b)-len(Hash{})], b[len(b)-len(Hash{}):]
	if sha256.Sum256(body) != Hash(sum) {
		return nil, errors.New("hash does not match the content")
	}
	if v := b[len(magic)]; v != FormatVersion {
		return nil, fmt.Errorf("commit format version %d is %w", v, events.ErrNewer)
	}
	c := &Commit{Hash: Hash(sum)}
	r := events.NewReader(body[len(magic)+1:])
	r.Only(account)
	c.header(r)
	c.Sequence = c.PrevSequence + 1
	c.Entries = make([]Entry, r.Len(0))
	room := make([]events.Event, len(c.Entries)) // most entries have one
	for i := range c.Entries {
		c.Entries[i].code(r, &room)
		if r.Err() != nil {
			return nil, fmt.Errorf("entry %d: %w", i, r.Err())
		}
	}
	if r.Err() != nil {
		return nil, r.Err()
	}
	if len(r.Bytes()) != 0 {
		return nil, fmt.Errorf("%d bytes behind the last entry", len(r.Bytes()))
	}
	return c, nil
}
