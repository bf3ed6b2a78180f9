package events

import (
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
	New     func() Data // an empty payload
	Meaning string

	cloudEventType string
}

// Catalog is every type of event, in one table. A new type is one line here and where
// it is decided and evolved; feed, webhooks, replay and docs read it from here.
var Catalog = []Kind{
	{Name: "account.opened", Version: 1, New: newAccount, Meaning: "An account was opened: test works, live does not until it is enabled."},
	{Name: "account.suspended", Version: 1, New: newAccount, Meaning: "An account was suspended: its keys are refused and it cannot spend."},
	{Name: "account.resumed", Version: 1, New: newAccount, Meaning: "A suspended account works again."},
	{Name: "account.environment_enabled", Version: 1, New: newAccount, Meaning: "An environment of an account was enabled."},
	{Name: "account.products_set", Version: 1, New: newAccount, Meaning: "The products an account may use in an environment were set."},
	{Name: "account.plan_set", Version: 1, New: newAccount, Meaning: "The terms an account buys under were set."},
	{Name: "key.created", Version: 1, New: newKey, Meaning: "A key was created; its secret was shown once."},
	{Name: "key.updated", Version: 1, New: newKey, Meaning: "A key's name, restrictions, expiry or metadata changed."},
	{Name: "key.disabled", Version: 1, New: newKey, Meaning: "A key was disabled; it can be enabled again."},
	{Name: "key.enabled", Version: 1, New: newKey, Meaning: "A disabled key works again."},
	{Name: "key.revoked", Version: 1, New: newKey, Meaning: "A key was revoked, for ever."},
	{Name: "key.expired", Version: 1, New: newKey, Meaning: "A key's expiry came; it is refused from that moment on, to the millisecond."},
	{Name: "credit.granted", Version: 1, New: func() Data { return new(Granted) }, Meaning: "Credits were added to a balance."},
	{Name: "credit.debited", Version: 1, New: func() Data { return new(Debited) }, Meaning: "Credits were taken from a balance."},
	{Name: "endpoint.registered", Version: 1, New: newEndpoint, Meaning: "A webhook endpoint was registered; its signing secret was shown once."},
	{Name: "endpoint.paused", Version: 1, New: newEndpoint, Meaning: "Deliveries to an endpoint stopped; what it is owed stays owed."},
	{Name: "endpoint.resumed", Version: 1, New: newEndpoint, Meaning: "Deliveries to an endpoint go on from where they stopped."},
	{Name: "endpoint.disabled", Version: 1, New: newEndpoint, Meaning: "An endpoint was disabled because its receiver answered 410 Gone."},
	{Name: "endpoint.removed", Version: 1, New: newEndpoint, Meaning: "An endpoint was removed; nothing more is owed to it."},
}

func newAccount() Data  { return new(Account) }
func newKey() Data      { return new(Key) }
func newEndpoint() Data { return new(Endpoint) }

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

// Code codes the event in its stored form. Reading an unknown type or version sets an
// error: a record is never skipped silently.
func (e *Event) Code(c *Coder) {
	c.Word(&e.Type)
	kind := byName[e.Type]
	if kind == nil {
		c.fail("unknown event type %q", e.Type)
		return
	}
	version := kind.Version
	c.Uint(&version)
	if version != kind.Version {
		c.fail("unknown version %d of event type %q", version, e.Type)
		return
	}
	c.String(&e.Account)
	c.Word(&e.Environment)
	c.String(&e.Subject)
	if c.reading {
		c.more() // the payload's length always stands here
		e.Data = kind.New()
		payload := Coder{buf: c.take(), reading: true, err: c.err}
		e.Data.Code(&payload)
		if c.err == nil {
			c.err = payload.err
		}
		return
	}
	c.nested(e.Data)
}

// nested writes d behind its length. Most payloads are shorter than 128 bytes … 16 KiB:
// two bytes are kept for the length and moved only where that is wrong.
func (c *Coder) nested(d Data) {
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
