package events

import (
	"crypto/sha256"
	"encoding/hex"
)

// Trace is a W3C trace context: which trace a command belongs to. The zero Trace is none.
type Trace struct {
	ID     [16]byte // of the trace; never zero
	Parent [8]byte  // of the span that sent it; never zero
	Flags  byte     // traceSampled or 0
}

// traceSampled is the one flag that level 1 knows; others must not be passed on (§3.2.2.5).
const traceSampled = 1

// traceparentLen is the length of version 00: 00-<32 hex>-<16 hex>-<2 hex>.
const traceparentLen = 2 + 1 + 32 + 1 + 16 + 1 + 2

// ParseTraceparent reads a traceparent header (W3C Trace Context level 1, §3.2). What is
// not one as the specification has it is the zero Trace: a trace that cannot be followed
// is no reason to refuse a command. Of a version to come the known part is taken.
func ParseTraceparent(s string) (t Trace) {
	if len(s) < traceparentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Trace{}
	}
	var version [1]byte
	var flags [1]byte
	ok := lowerHex(version[:], s[:2]) && lowerHex(t.ID[:], s[3:35]) && lowerHex(t.Parent[:], s[36:52]) && lowerHex(flags[:], s[53:55])
	switch longer := len(s) > traceparentLen; {
	case !ok, version[0] == 0xff, longer && (version[0] == 0 || s[traceparentLen] != '-'):
		return Trace{}
	case t.ID == [16]byte{}, t.Parent == [8]byte{}:
		return Trace{}
	}
	t.Flags = flags[0] & traceSampled
	return t
}

// lowerHex decodes hexadecimal digits in lower case alone.
func lowerHex(to []byte, s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	_, err := hex.Decode(to, []byte(s))
	return err == nil
}

// String returns the traceparent header, "" of the zero Trace.
func (t Trace) String() string {
	if t == (Trace{}) {
		return ""
	}
	b := append(make([]byte, 0, traceparentLen), "00-"...)
	b = append(hex.AppendEncode(b, t.ID[:]), '-')
	b = append(hex.AppendEncode(b, t.Parent[:]), '-')
	return string(hex.AppendEncode(b, []byte{t.Flags}))
}

// TraceID returns the trace's id in hexadecimal, "" of the zero Trace.
func (t Trace) TraceID() string {
	if t == (Trace{}) {
		return ""
	}
	return hex.EncodeToString(t.ID[:])
}

// Span returns the trace as it goes on from a span of our own: its id is the start of
// SHA-256(trace id, what), so the same span has the same id whenever it is spoken of. Of
// the zero Trace there is none.
func (t Trace) Span(what string) Trace {
	if t == (Trace{}) {
		return Trace{}
	}
	sum := sha256.Sum256(append(t.ID[:], what...))
	if copy(t.Parent[:], sum[:]); t.Parent == [8]byte{} { // which would be none
		t.Parent[0] = 1
	}
	return t
}

// MarshalText implements encoding.TextMarshaler.
func (t Trace) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Code codes the trace.
func (t *Trace) Code(c *Coder) {
	c.Fixed(t.ID[:])
	c.Fixed(t.Parent[:])
	flags := uint64(t.Flags)
	c.Uint(&flags)
	if c.reading {
		t.Flags = byte(flags)
	}
}
