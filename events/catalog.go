package events

import (
	"errors"
	"fmt"
	"strings"
)

// Data is an event's payload: a struct of a noun file. Code must read exactly what it
// writes.
type Data interface{ Code(*Coder) }

// Event is one fact. Type is "<noun>.<verb>" as in the catalog. Environment is empty
// for events of the whole account. Subject is the key or endpoint it is about: for a
// debit made with a key, that key; empty where there is none.
type Event struct {
	Type        string
	Account     string
	Environment string
	Subject     string
	Data        Data
}

// Kind is one line of the catalog.
type Kind struct {
	Name    string      // "<noun>.<verb>", stored: for ever
	Version uint64      // of the payload; a reader refuses versions it does not know
	Added   uint64      // how often members were added at the payload's end, which changes no version
	New     func() Data // an empty payload
	Meaning string

	cloudEventType string
}

// Catalog is every type of event, in one table. A new type is one line here and where
// it is decided and evolved; feed, webhooks, replay and docs read it from here.
var Catalog = []Kind{
	{Name: "account.opened", Version: 1, Added: 1, New: newAccount, Meaning: "An account was opened: test works, live does not until it is enabled."},
	{Name: "account.updated", Version: 1, New: newAccount, Meaning: "An account's name, metadata or thresholds changed."},
	{Name: "account.suspended", Version: 1, Added: 1, New: newAccount, Meaning: "An account was suspended: its keys are refused and it cannot spend."},
	{Name: "account.resumed", Version: 1, Added: 1, New: newAccount, Meaning: "A suspended account works again."},
	{Name: "account.closed", Version: 1, New: newAccount, Meaning: "An account was closed, for ever: its keys are refused and nothing moves."},
	{Name: "account.environment_enabled", Version: 1, Added: 1, New: newAccount, Meaning: "An environment of an account was enabled."},
	{Name: "account.environment_disabled", Version: 1, New: newAccount, Meaning: "An environment of an account was disabled: its keys are refused."},
	{Name: "account.products_set", Version: 1, Added: 1, New: newAccount, Meaning: "The products an account may use in an environment were set."},
	{Name: "account.plan_set", Version: 1, Added: 1, New: newAccount, Meaning: "The terms an account buys under were set."},
	{Name: "key.created", Version: 1, Added: 1, New: newKey, Meaning: "A key was created; its secret was shown once."},
	{Name: "key.imported", Version: 1, New: newKey, Meaning: "A key of another system was taken over; its secret works on."},
	{Name: "key.updated", Version: 1, Added: 1, New: newKey, Meaning: "A key's name, restrictions, expiry or metadata changed."},
	{Name: "key.disabled", Version: 1, Added: 1, New: newKey, Meaning: "A key was disabled; it can be enabled again."},
	{Name: "key.enabled", Version: 1, Added: 1, New: newKey, Meaning: "A disabled key works again."},
	{Name: "key.rotated", Version: 1, New: newKey, Meaning: "A key got a new secret, shown once; the old one works until the grace ends."},
	{Name: "key.secret_retired", Version: 1, New: newKey, Meaning: "A rotated key's old secret stopped working."},
	{Name: "key.revoked", Version: 1, Added: 1, New: newKey, Meaning: "A key was revoked, for ever."},
	{Name: "key.expiring", Version: 1, New: newKey, Meaning: "A key will expire soon."},
	{Name: "key.expired", Version: 1, Added: 1, New: newKey, Meaning: "A key's expiry came; it is refused from that moment on, to the millisecond."},
	{Name: "credit.granted", Version: 1, Added: 1, New: func() Data { return new(Granted) }, Meaning: "Credits were added to a balance."},
	{Name: "credit.debited", Version: 1, Added: 1, New: func() Data { return new(Debited) }, Meaning: "Credits were taken from a balance."},
	{Name: "credit.refunded", Version: 1, New: func() Data { return new(Refunded) }, Meaning: "A debit, or a part of it, was given back."},
	{Name: "credit.adjusted", Version: 1, New: func() Data { return new(Adjusted) }, Meaning: "A balance was corrected by hand."},
	{Name: "credit.transferred", Version: 1, New: func() Data { return new(Transferred) }, Meaning: "Credits went from one account to another: an event for each, in one entry."},
	{Name: "credit.expired", Version: 1, New: func() Data { return new(Expired) }, Meaning: "A grant's time was over; what was left of it is gone."},
	{Name: "credit.replenished", Version: 1, New: func() Data { return new(Replenished) }, Meaning: "An allowance was set anew: a period began, or the plan changed."},
	{Name: "credit.exchanged", Version: 1, New: func() Data { return new(Exchanged) }, Meaning: "One asset of a par pair stood in for the other, which ran short."},
	{Name: "hold.placed", Version: 1, New: newHold, Meaning: "Credits were set aside."},
	{Name: "hold.captured", Version: 1, New: newHold, Meaning: "A hold, or a part of it, was taken."},
	{Name: "hold.released", Version: 1, New: newHold, Meaning: "What was still held was given back."},
	{Name: "hold.expired", Version: 1, New: newHold, Meaning: "A hold's time was over; what was still held was given back."},
	{Name: "balance.low", Version: 1, New: newAlert, Meaning: "What is available fell below a threshold."},
	{Name: "balance.exhausted", Version: 1, New: newAlert, Meaning: "Nothing is available any more."},
	{Name: "endpoint.registered", Version: 1, Added: 1, New: newEndpoint, Meaning: "A webhook endpoint was registered; its signing secret was shown once."},
	{Name: "endpoint.updated", Version: 1, New: newEndpoint, Meaning: "What an endpoint subscribes to, or how it gets it, changed."},
	{Name: "endpoint.paused", Version: 1, Added: 1, New: newEndpoint, Meaning: "Deliveries to an endpoint stopped; what it is owed stays owed."},
	{Name: "endpoint.resumed", Version: 1, Added: 1, New: newEndpoint, Meaning: "Deliveries to an endpoint go on from where they stopped."},
	{Name: "endpoint.secret_rotated", Version: 1, New: newEndpoint, Meaning: "An endpoint got a new signing secret, shown once; the old one signs too until its time."},
	{Name: "endpoint.failing", Version: 1, New: newEndpoint, Meaning: "An endpoint's attempts have all failed for a part of the time after which it is disabled."},
	{Name: "endpoint.disabled", Version: 1, Added: 1, New: newEndpoint, Meaning: "An endpoint was disabled: its receiver answered 410 Gone, or failed everything for days."},
	{Name: "endpoint.removed", Version: 1, Added: 1, New: newEndpoint, Meaning: "An endpoint was removed; nothing more is owed to it."},
	{Name: "endpoint.tested", Version: 1, New: newEndpoint, Meaning: "A test: the endpoint is owed this event whatever it subscribes to."},
	{Name: "endpoint.replayed", Version: 1, New: func() Data { return new(Replay) }, Meaning: "Events of the past are sent to an endpoint again."},
}

func newAccount() Data  { return new(Account) }
func newKey() Data      { return new(Key) }
func newEndpoint() Data { return new(Endpoint) }
func newHold() Data     { return new(Held) }
func newAlert() Data    { return new(Alert) }

var byName = func() map[string]*Kind {
	m := make(map[string]*Kind, len(Catalog))
	for i := range Catalog {
		k := &Catalog[i]
		k.cloudEventType = fmt.Sprintf("dev.keyledger.%s.v%d", k.Name, k.Version)
		m[k.Name] = k
	}
	return m
}()

// Lookup returns the catalog's line for a type, nil where there is none.
func Lookup(name string) *Kind { return byName[name] }

// CloudEventType returns the type's public name: dev.keyledger.<noun>.<verb>.v<n>.
func (k *Kind) CloudEventType() string { return k.cloudEventType }

// ErrNewer means that a newer keyledger wrote what is read. It is not damaged, and nothing
// of it can be passed over.
var ErrNewer = errors.New("not known to this keyledger: use a newer one")

// Code codes the event in its stored form. Reading an unknown type or version sets
// ErrNewer: a record is never skipped silently.
func (e *Event) Code(c *Coder) {
	c.more()
	kind := c.kind(&e.Type)
	if kind == nil && !c.reading {
		c.fail("event type %q is not in the catalog", e.Type)
		return
	}
	var version uint64
	if kind != nil {
		version = kind.Version
	} else {
		c.more() // it cannot be told what else an end here means
	}
	c.Uint(&version)
	if kind == nil || version != kind.Version {
		c.fail("event type %q version %d is %w", e.Type, version, ErrNewer)
		return
	}
	c.String(&e.Account)
	c.Word(&e.Environment)
	if c.only != "" && e.Account != c.only {
		c.take()
		c.more() // the length of its data
		c.take()
		return
	}
	c.String(&e.Subject)
	if c.reading {
		e.Data = kind.New()
	}
	c.Nested(e.Data)
}

// kind codes the name of a type of event and returns its line, nil where there is none.
func (c *Coder) kind(name *string) *Kind {
	if !c.reading {
		c.String(name)
		return byName[*name]
	}
	b := c.take()
	w := findWord(b)
	if *name = w.text; w.kind == nil {
		*name = string(b)
	}
	return w.kind
}

// Nested codes d behind its length, so that what reads it may be older or newer than what
// wrote it. Most payloads are shorter than 128 bytes … 16 KiB: two bytes are kept for the
// length and moved only where that is wrong.
func (c *Coder) Nested(d Data) {
	if c.reading {
		c.more() // the length always stands here
		payload, end := c.take(), c.end
		c.at, c.end = c.at-len(payload), c.at
		d.Code(c) // what it leaves a later version added
		c.at, c.end = c.end, end
		return
	}
	const room = 2
	start := len(c.buf)
	c.buf = append(c.buf, 0, 0)
	d.Code(c)
	n := len(c.buf) - start - room
	if n < 1<<14 {
		// A two-byte varint, padded where one byte would do: readers take both.
		c.buf[start] = byte(n) | 0x80
		c.buf[start+1] = byte(n >> 7)
		return
	}
	payload := append([]byte(nil), c.buf[start+room:]...)
	c.buf = c.buf[:start]
	c.Blob(&payload)
}

// Fail notes an error, if it is the first: of what is coded elsewhere.
func (c *Coder) Fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// fail notes the first error.
func (c *Coder) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// Matches says whether an event type fits a filter: the type itself, "<noun>.*" or "*".
func Matches(filter, eventType string) bool {
	if filter == "*" || filter == eventType {
		return true
	}
	noun, ok := strings.CutSuffix(filter, "*")
	return ok && strings.HasSuffix(noun, ".") && strings.HasPrefix(eventType, noun)
}

// ValidFilter says whether a filter can match any type of the catalog.
func ValidFilter(filter string) bool {
	for i := range Catalog {
		if Matches(filter, Catalog[i].Name) {
			return true
		}
	}
	return false
}
