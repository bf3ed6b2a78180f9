package events

import (
	"fmt"
	"strings"
	"time"
)

// Time is a moment in Unix milliseconds, UTC: the resolution of the ledger's clock.
// Zero means "none" and is null in JSON; otherwise JSON has RFC 3339 in UTC.
type Time int64

// At returns t to the millisecond; what is finer is cut off.
func At(t time.Time) Time { return Time(t.UnixMilli()) }

// Std returns t as a time.Time in UTC.
func (t Time) Std() time.Time { return time.UnixMilli(int64(t)).UTC() }

// String returns RFC 3339 in UTC with the milliseconds that are not zero, or "".
func (t Time) String() string {
	if t == 0 {
		return ""
	}
	return t.Std().Format(time.RFC3339Nano)
}

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	if t == 0 {
		return []byte("null"), nil
	}
	return t.AppendJSON(make([]byte, 0, 32)), nil
}

// AppendJSON appends t as MarshalJSON would.
func (t Time) AppendJSON(b []byte) []byte {
	if t == 0 {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = t.Std().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// UnmarshalJSON implements json.Unmarshaler: null or an RFC 3339 time in any zone, in
// the years 1970 to 9999.
func (t *Time) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*t = 0
		return nil
	}
	if len(b) < 2 || b[0] != '"' {
		return fmt.Errorf("expected an RFC 3339 time such as \"2026-01-31T12:00:00Z\"")
	}
	text := string(b[1 : len(b)-1])
	std, err := time.Parse(time.RFC3339Nano, text)
	// time.Parse also takes an hour of one digit and a comma before the fraction.
	if err != nil || text[13] != ':' || strings.Contains(text, ",") || std.Year() > 9999 || std.UnixMilli() <= 0 {
		return fmt.Errorf("expected an RFC 3339 time such as \"2026-01-31T12:00:00Z\"")
	}
	*t = At(std)
	return nil
}
