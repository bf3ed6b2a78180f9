package events

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"
)

// Position is one event's place in the log: "<partition>:<sequence>.<index>", or
// "<partition>:<sequence>" for the state after a whole commit. Index counts the events
// of the whole commit from 0; NoIndex means there is none.
type Position struct {
	Partition uint32
	Sequence  uint64
	Index     int
}

// NoIndex marks a Position that names a commit and no event in it.
const NoIndex = -1

// String returns the position as it is written everywhere.
func (p Position) String() string {
	var room [48]byte
	return string(p.append(room[:0]))
}

func (p Position) append(b []byte) []byte {
	b = strconv.AppendUint(b, uint64(p.Partition), 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, p.Sequence, 10)
	if p.Index != NoIndex {
		b = append(b, '.')
		b = strconv.AppendInt(b, int64(p.Index), 10)
	}
	return b
}

// ParsePosition reads what String writes.
func ParsePosition(s string) (Position, error) {
	bad := fmt.Errorf("%q is not a position such as 0:42.0 or 0:42", s)
	partition, rest, ok := strings.Cut(s, ":")
	if !ok {
		return Position{}, bad
	}
	sequence, index, has := strings.Cut(rest, ".")
	p := Position{Index: NoIndex}
	n, err := strconv.ParseUint(partition, 10, 32)
	if err != nil {
		return Position{}, bad
	}
	p.Partition = uint32(n)
	if p.Sequence, err = strconv.ParseUint(sequence, 10, 64); err != nil {
		return Position{}, bad
	}
	if has {
		i, err := strconv.ParseUint(index, 10, 31)
		if err != nil {
			return Position{}, bad
		}
		p.Index = int(i)
	}
	return p, nil
}

// CloudEvent is an event as the world outside sees it: CloudEvents 1.0.2 with
// keyledger's extensions. It is a pure function of the commit it stands in, so the same
// event has the same bytes for ever.
type CloudEvent struct {
	Event
	ID        ulid.ULID // see EventID
	Time      Time      // of the commit
	Position  Position
	CommandID ulid.ULID // of the command that caused it
	Trace     Trace     // likewise; zero where it came without one

	// Extra extensions of one delivery, set by webhooks.
	Sequence string // per endpoint, 20 digits
	Replay   string // id of the replay that sends an event which the endpoint was never owed
}

// EventID derives an event's id: the commit's time, and as entropy the start of
// SHA-256(nonce, index as 8 bytes big-endian).
func EventID(at Time, nonce [16]byte, index int) ulid.ULID {
	var in [24]byte
	copy(in[:], nonce[:])
	binary.BigEndian.PutUint64(in[16:], uint64(index))
	sum := sha256.Sum256(in[:])
	var id ulid.ULID
	_ = id.SetTime(uint64(at)) // cannot fail before the year 10889
	copy(id[6:], sum[:10])
	return id
}

// PartitionKey says which events must stay in order among themselves: those of one key
// where the event has one, else those of the account (CloudEvents partitioning
// extension).
func (e *Event) PartitionKey() string {
	if strings.HasPrefix(e.Subject, "key_") {
		return e.Subject
	}
	return e.Account
}

// attribute is a context attribute, in the order in which all of them are written.
type attribute int

const (
	attrSpecVersion attribute = iota
	attrID
	attrSource
	attrType
	attrSubject
	attrTime
	attrPosition
	attrCommandID
	attrEnvironment
	attrPartitionKey
	attrSequence
	attrReplay
	attrTraceparent
	attrCount
)

// attributeNames are the names in JSON, headerStarts what is before a value in NATS headers.
var (
	attributeNames = [attrCount]string{"specversion", "id", "source", "type", "subject", "time", "position",
		"commandid", "environment", "partitionkey", "sequence", "replay", "traceparent"}
	headerStarts = func() (starts [attrCount]string) {
		for i, name := range attributeNames {
			starts[i] = "ce-" + name + ": "
		}
		return starts
	}()
)

// attributes returns the context attributes but datacontenttype; those that are empty
// are absent. What has to be written stands in one string that they share.
func (e *CloudEvent) attributes() [attrCount]string {
	var room [192]byte // 26 + 75 + 24 + 42 + 26
	b := append(room[:0], make([]byte, ulid.EncodedSize)...)
	_ = e.ID.MarshalTextTo(b) // cannot fail: it has the size
	source := len(b)
	b = append(append(b, "/keyledger/"...), e.Account...)
	time := len(b)
	b = e.Time.appendText(b)
	position := len(b)
	b = e.Position.append(b)
	command := len(b)
	b = append(b, make([]byte, ulid.EncodedSize)...)
	_ = e.CommandID.MarshalTextTo(b[command:])
	text := string(b)
	return [attrCount]string{
		attrSpecVersion:  "1.0",
		attrID:           text[:source],
		attrSource:       text[source:time],
		attrType:         byName[e.Type].CloudEventType(),
		attrSubject:      e.Subject,
		attrTime:         text[time:position],
		attrPosition:     text[position:command],
		attrCommandID:    text[command:],
		attrEnvironment:  e.Environment,
		attrPartitionKey: e.PartitionKey(),
		attrSequence:     e.Sequence,
		attrReplay:       e.Replay,
		attrTraceparent:  e.Trace.String(), // CloudEvents distributed tracing extension
	}
}

// Structured returns the event in structured JSON mode (CloudEvents JSON format 1.0.2).
func (e *CloudEvent) Structured() ([]byte, error) {
	b := append(make([]byte, 0, 1024), '{')
	for i, value := range e.attributes() {
		b = appendMember(b, attributeNames[i], value)
	}
	b = append(b, `"datacontenttype":"application/json","data":`...)
	b, err := AppendJSON(b, e.Data)
	if err != nil {
		return nil, fmt.Errorf("encode data of %s: %w", e.Position, err)
	}
	return append(b, '}'), nil
}

// AppendSubject appends what the subject of the event's message ends with, in the feed:
// <account>.<environment>.<noun>.<verb>.<subject id>, with - for what there is not.
func (e *CloudEvent) AppendSubject(b []byte) []byte {
	b = append(append(b, e.Account...), '.')
	b = append(append(b, orDash(e.Environment)...), '.')
	b = append(append(b, e.Type...), '.')
	return append(b, orDash(e.Subject)...)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// headersAlways are the headers that are the same in every event. content-type says the
// same as ce-datacontenttype, for programs that know only NATS.
const headersAlways = "content-type: application/json\r\nce-datacontenttype: application/json\r\n"

// AppendHeaders appends the headers of the binary mode of the NATS protocol binding (§3.1
// of its version 1.0.3-wip; 1.0.2 has only the structured mode), each ended by CRLF: for
// each attribute "ce-<name>: " and its value, percent-encoded. The body is the data.
func (e *CloudEvent) AppendHeaders(b []byte) []byte {
	b = append(b, headersAlways...)
	for i, value := range e.attributes() {
		if value == "" {
			continue
		}
		b = append(b, headerStarts[i]...)
		b = appendPercent(b, value)
		b = append(b, "\r\n"...)
	}
	return b
}

// asItIs are the bytes that stand for themselves in a header value: U+0021–U+007E without
// double quote and percent.
var asItIs = func() (table [256]bool) {
	for c := '!'; c <= '~'; c++ {
		table[c] = c != '"' && c != '%'
	}
	return table
}()

// appendPercent encodes a header value as the binding's §3.1.3.2 says: what is not asItIs
// as the bytes of its UTF-8.
func appendPercent(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	plain := 0
	for plain < len(s) && asItIs[s[plain]] {
		plain++
	}
	b = append(b, s[:plain]...)
	for i := plain; i < len(s); i++ {
		if c := s[i]; asItIs[c] {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}
