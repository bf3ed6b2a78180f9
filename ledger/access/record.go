// Package access is the access log: what authorize decided and no event tells, that is
// refused and free requests. They are counted per key, code and minute, so that a flood
// of them takes no more room than a trickle. It is a capped log for people: no credits
// depend on it, and a crash loses up to a minute of it.
package access

import (
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// recordVersion is the version of Record.
const recordVersion = 1

// Record is one message of the stream store.StreamAccess, as JSON, on
// store.SubjectAccess + <account>.<code>: how often a key got one answer in one minute,
// and the newest such request. A cell has more than one record where answers came after
// the first was written: their counts add up.
type Record struct {
	Version int       `json:"version"` // 1
	ID      ulid.ULID `json:"id"`      // of the record, also its Nats-Msg-Id

	// Account is "_" where no key has the secret (key_not_found), and where there was no
	// room for more.
	Account     string `json:"account"`
	Environment string `json:"environment,omitempty"`
	// Key is left out with an unknown secret, and of requests that were folded: past
	// cellsMax cells they are counted per account, past accountCellsMax in "_".
	Key     string      `json:"key,omitempty"`
	Code    events.Code `json:"code"`    // of the answer
	Outcome Outcome     `json:"outcome"` // free or refused
	Minute  events.Time `json:"minute"`  // when it began
	Count   int64       `json:"count"`   // of requests that were answered

	// Of the newest of them. IP, Product and Access are what the caller said.
	LastAt  events.Time `json:"last_at"`
	IP      string      `json:"ip,omitempty"`
	Product string      `json:"product,omitempty"`
	Access  string      `json:"access,omitempty"`
}

// Outcome says why a request left no event.
type Outcome string

// The outcomes.
const (
	Free    Outcome = "free"    // allowed at cost 0, code ok
	Refused Outcome = "refused" // nothing was taken
)

// nobody is the account of unknown secrets and of what was folded last.
const nobody = "_"

// Request is one authorisation that was answered and left no event.
type Request struct {
	Account     string // "" where no key has the secret
	Environment string
	Key         string
	Code        events.Code
	Time        events.Time // of the decision
	IP          string
	Product     string
	Access      string
}

// Use is the newest free use of a key.
type Use struct {
	Key     string
	At      events.Time
	IP      string
	Product string
}

// subject is where a record is stored.
func (r *Record) subject() string { return store.SubjectAccess + r.Account + "." + string(r.Code) }

// use is what a record of code ok says of its key.
func (r *Record) use() Use { return Use{Key: r.Key, At: r.LastAt, IP: r.IP, Product: r.Product} }
