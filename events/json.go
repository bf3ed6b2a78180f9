package events

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Object is a JSON object kept as it came, such as an account's metadata. An empty
// Object means {}.
type Object []byte

// MarshalJSON implements json.Marshaler.
func (o Object) MarshalJSON() ([]byte, error) {
	if len(o) == 0 {
		return []byte("{}"), nil
	}
	return o, nil
}

// UnmarshalJSON implements json.Unmarshaler; it takes an object or null.
func (o *Object) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*o = nil
		return nil
	}
	v := jsontext.Value(append([]byte(nil), b...))
	if v.Kind() != '{' {
		return errors.New("expected an object")
	}
	if err := v.Compact(); err != nil {
		return err
	}
	*o = Object(v)
	return nil
}

// JSON is any value, kept as it came.
type JSON = jsontext.Value

// DecodeStrict decodes one JSON value into v. Unknown and repeated members, members
// that differ in case, wrong types, invalid UTF-8 (RFC 8259, RFC 7493) and anything
// after the value are refused with InvalidArgument, and so is null. An empty body counts
// as {}.
func DecodeStrict(body []byte, v any) *Error {
	if flat, ok := v.(Flat); ok && decodeFlat(body, flat) {
		return nil
	}
	if len(body) == 0 {
		body = []byte("{}")
	}
	if string(bytes.TrimSpace(body)) == "null" {
		return Errorf(InvalidArgument, "the body must not be null")
	}
	err := json.Unmarshal(body, v, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	return &Error{Code: InvalidArgument, Message: jsonMessage(err)}
}

// jsonMessage says in the sender's terms what is wrong with a body: the member by its
// name, never a Go type and never the value, which may be a secret.
func jsonMessage(err error) string {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		name := strings.TrimPrefix(string(semantic.JSONPointer), "/")
		if errors.Is(err, json.ErrUnknownName) {
			return fmt.Sprintf("unknown field %q", name)
		}
		if name == "" {
			return fmt.Sprintf("the body must be %s", expected(semantic))
		}
		return fmt.Sprintf("field %q must be %s", name, expected(semantic))
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return fmt.Sprintf("field %q stands twice", strings.TrimPrefix(string(syntactic.JSONPointer), "/"))
		}
		if syntactic.ByteOffset == 0 { // not even its beginning is
			return `the body must be an object in JSON, such as {"limit":10}`
		}
		return fmt.Sprintf("malformed JSON at byte %d", syntactic.ByteOffset)
	}
	return "malformed JSON"
}

// expected names what a member should have held.
func expected(e *json.SemanticError) string {
	if e.GoType == nil {
		return "of the right type"
	}
	t := e.GoType
	for t.Kind().String() == "ptr" {
		t = t.Elem()
	}
	if t.Name() == "Time" {
		return `an RFC 3339 time such as "2026-01-31T12:00:00Z"`
	}
	if t.Name() == "Object" {
		return "an object"
	}
	switch t.Kind().String() {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "int", "int64", "uint64", "uint32", "int32":
		return "a whole number"
	case "slice", "array":
		return "an array"
	case "struct", "map":
		return "an object"
	}
	return "of the right type"
}

// Optional is a member that may be absent, which is not the same as null.
type Optional[T any] struct {
	Set   bool
	Value T
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom: what is strict around the member is
// strict in it.
func (o *Optional[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	o.Set = true
	return json.UnmarshalDecode(d, &o.Value)
}

// MarshalJSON implements json.Marshaler. An absent one is left out by omitzero.
func (o Optional[T]) MarshalJSON() ([]byte, error) { return json.Marshal(o.Value) }

// Some returns a member that is there.
func Some[T any](v T) Optional[T] { return Optional[T]{Set: true, Value: v} }

// appender is implemented by what the hot path encodes: the same JSON that its struct
// tags say, without reflection.
type appender interface{ AppendJSON(b []byte) []byte }

// Encode returns v as JSON, the same bytes for the same value.
func Encode(v any) ([]byte, error) { return AppendJSON(nil, v) }

// AppendJSON appends v as JSON, the same bytes for the same value.
func AppendJSON(b []byte, v any) ([]byte, error) {
	if a, ok := v.(appender); ok {
		return a.AppendJSON(b), nil
	}
	encoded, err := json.Marshal(v, json.Deterministic(true))
	return append(b, encoded...), err
}

// AppendString appends s as a JSON string. What is not UTF-8, which cannot come out of
// decoded JSON, is replaced.
func AppendString(b []byte, s string) []byte {
	if plain(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	b, _ = jsontext.AppendQuote(b, s) // the error says that something was replaced
	return b
}

// plain says whether s stands in JSON as it is: ids, names and times do.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// appendMember appends a member and its comma; one that is empty is left out.
func appendMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, `"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return append(AppendString(b, value), ',')
}
