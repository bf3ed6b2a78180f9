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
	// cellsMax cells they are counted per account and environment, past accountCellsMax
	// in "_".
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

	// Products is how many requests named which product, productsMax at most, in the order
	// they came; the others of Count are counted without. It is left out where all named
	// the one that Product is.
	Products []ProductCount `json:"products,omitempty"`
}

// ProductCount is how many requests named a product, "" for none.
type ProductCount struct {
	Product string `json:"product"`
	Count   int64  `json:"count"`
}

// productsMax is how many products one record tells apart. Callers choose the names: who
// makes them up must not make records grow.
const productsMax = 16

// product counts the product of one more request, before Count and Product know of it.
func (r *Record) product(name string) {
	if len(r.Products) == 0 {
		if name == r.Product {
			return
		}
		r.Products = []ProductCount{{r.Product, r.Count}}
	}
	for i := range r.Products {
		if r.Products[i].Product == name {
			r.Products[i].Count++
			return
		}
	}
	if len(r.Products) < productsMax {
		r.Products = append(r.Products, ProductCount{name, 1})
	}
}

// EachProduct calls f for each product of the record's requests, "" for none, and last for
// those that it does not tell apart.
func (r *Record) EachProduct(f func(product string, count int64)) {
	if len(r.Products) == 0 {
		f(r.Product, r.Count)
		return
	}
	rest := r.Count
	for _, p := range r.Products {
		f(p.Product, p.Count)
		rest -= p.Count
	}
	if rest > 0 {
		f(OtherProducts, rest)
	}
}

// OtherProducts stands for the products that a record does not tell apart. It is no
// product's name.
const OtherProducts = "*"

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
	Account string
	Key     string
	At      events.Time
	IP      string
	Product string
}

// subject is where a record is stored.
func (r *Record) subject() string { return store.SubjectAccess + r.Account + "." + string(r.Code) }

// use is what a record of code ok says of its key.
func (r *Record) use() Use {
	return Use{Account: r.Account, Key: r.Key, At: r.LastAt, IP: r.IP, Product: r.Product}
}
