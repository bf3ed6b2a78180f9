package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// Event is a CloudEvent 1.0 as keyledger sends it. The other attributes that
// CloudEvents and keyledger have, and those that may come to be, are in
// Extensions.
type Event struct {
	Attempt Message // of the request that brought it; its ID is the event's

	Source  string    // /keyledger/<account>
	Type    string    // dev.keyledger.<noun>.<verb>.v<version>
	Subject string    // what it is about, e.g. the key's id; empty where it has none
	Time    time.Time // when it happened; zero where the event does not say

	// Sequence is the event's number among all that this endpoint is owed, from 1
	// without a gap: a number that never comes is an event that was missed. 0 on a
	// replay of an event that the endpoint was not owed.
	Sequence uint64
	// Position is the event's place in the ledger's log, e.g. 0:42.1.
	Position string
	// Environment is test or live; empty on events of the account as a whole.
	Environment string
	// PartitionKey is equal on events of one key, or else of one account.
	PartitionKey string

	Data       json.RawMessage   // nil where the event has none
	Extensions map[string]string // all else, numbers and truth values as JSON writes them
}

// contentType of a CloudEvent in structured JSON mode.
const contentType = "application/cloudevents+json"

// Read takes a request: it reads the body, verifies it, and gives the event. An
// error is one of Verify's, or wraps ErrMethod, ErrTooLarge, ErrBody or ErrEvent;
// Status says what to answer to it. The request's body is used up in any case.
//
// It does not know whether the event came before: see Guard.
func (v *Verifier) Read(r *http.Request) (*Event, error) {
	if r.Method != http.MethodPost {
		return nil, ErrMethod
	}
	if r.Body == nil {
		return nil, fmt.Errorf("%w: there is none", ErrBody)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, v.config.MaxBodyBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, fmt.Errorf("%w: at most %d bytes", ErrTooLarge, v.config.MaxBodyBytes)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrBody, err)
	}
	message, err := v.Verify(r.Header, body)
	if err != nil {
		return nil, err
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != contentType {
		return nil, fmt.Errorf("%w: its Content-Type is not %s", ErrEvent, contentType)
	}
	event, err := parse(body, message)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	return event, nil
}

// parse reads the JSON event format of CloudEvents 1.0.2. Member names are taken
// as they are written, and each may stand there once.
func parse(body []byte, message Message) (*Event, error) {
	event := &Event{Attempt: message, Extensions: map[string]string{}}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	seen := map[string]bool{}
	for decoder.More() {
		var value json.RawMessage
		name, err := decoder.Token()
		if err == nil {
			err = decoder.Decode(&value)
		}
		if err != nil {
			return nil, errors.New("not a JSON object")
		}
		if err := event.take(name.(string), value, seen); err != nil {
			return nil, err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something comes after the event")
	}
	for _, name := range []string{"specversion", "id", "source", "type"} {
		if !seen[name] {
			return nil, fmt.Errorf("no %s", name)
		}
	}
	return event, nil
}

// take sets one member of the event. One that is null counts as not there.
func (e *Event) take(name string, value json.RawMessage, seen map[string]bool) error {
	if name == "data_base64" {
		return errors.New("its data is not JSON")
	}
	if seen[name] {
		return errors.New("a member stands there twice")
	}
	if string(value) == "null" && name != "data" {
		return nil
	}
	seen[name] = true
	if name == "data" {
		e.Data = value
		return nil
	}
	text, err := attribute(value)
	if err != nil {
		return err
	}
	switch name {
	case "specversion":
		err = want(text == "1.0", "specversion is not 1.0")
	case "id":
		err = want(text == e.Attempt.ID, "id is not the "+headerID)
	case "source":
		e.Source, err = text, want(text != "", "source is empty")
	case "type":
		e.Type, err = text, want(text != "", "type is empty")
	case "subject":
		e.Subject = text
	case "position":
		e.Position = text
	case "environment":
		e.Environment = text
	case "partitionkey":
		e.PartitionKey = text
	case "time":
		if e.Time, err = time.Parse(time.RFC3339, text); err != nil {
			err = errors.New("time is not in the form of RFC 3339")
		}
	case "sequence":
		if e.Sequence, err = strconv.ParseUint(text, 10, 64); err != nil || e.Sequence == 0 {
			err = errors.New("sequence is not a number from 1")
		}
	default:
		e.Extensions[name] = text
	}
	return err
}

func want(holds bool, otherwise string) error {
	if holds {
		return nil
	}
	return errors.New(otherwise)
}

// attribute is the text of a context attribute: a string, a number or a truth
// value (CloudEvents JSON format §2.2).
func attribute(value json.RawMessage) (string, error) {
	switch value[0] {
	case '"':
		var text string
		err := json.Unmarshal(value, &text)
		return text, err
	case '{', '[':
		return "", errors.New("an attribute is neither text, number nor truth value")
	}
	return string(value), nil
}
