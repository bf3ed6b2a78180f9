package events

import "github.com/go-json-experiment/json/jsontext"

// How an endpoint's deliveries are ordered, signed, and whether its receiver agreed to them.
const (
	OrderingNone = "none" // each event on its own
	OrderingKey  = "key"  // the events of one key (in general: of one subject) one after the other

	SigningV1  = "v1"  // HMAC-SHA256 with a shared secret (Standard Webhooks)
	SigningV1a = "v1a" // ed25519: the receiver has the public key only

	ConsentConfirmed   = "confirmed"   // the receiver allowed it (CloudEvents HTTP 1.1 Web Hooks, §4)
	ConsentUnconfirmed = "unconfirmed" // it was asked, and did not
	ConsentOff         = "off"         // it was not asked
)

// Endpoint is the data of every endpoint event but endpoint.replayed: the endpoint after
// it. Signing secrets, the values of custom headers and the query part of the URL are
// sealed in the stored form (see Sealer) and absent from the public one.
type Endpoint struct {
	ID          string   `json:"id"`
	Account     string   `json:"account"`
	Environment string   `json:"environment"`
	URL         string   `json:"url"` // without its query
	Events      []string `json:"events"`
	Description string   `json:"description"`
	Headers     []string `json:"headers"` // names of custom headers, sorted
	Status      string   `json:"status"`  // Active, Paused, Disabled or Removed
	Reason      string   `json:"reason,omitempty"`
	Signing     string   `json:"signing"` // SigningV1 or SigningV1a
	CreatedAt   Time     `json:"created_at"`

	// What follows is zero in events of before it was added, and then not in the public form
	// either: a body is the same for ever.

	// Keys restricts to the events of these keys; empty: of all, and of none.
	Keys []string `json:"keys,omitempty"`
	// Filters restricts by the CloudEvent's attributes: a JSON array of filters in the
	// dialects of CloudEvents Subscriptions, all of which must hold; empty: none.
	Filters jsontext.Value `json:"filters,omitempty"`
	// Ordering is OrderingNone or OrderingKey; "" counts as OrderingNone.
	Ordering string `json:"ordering,omitempty"`
	// RatePerMinute is how many attempts are made in a minute; 0: as many as it takes.
	RatePerMinute int64 `json:"rate_per_minute,omitzero"`
	// AllowedRate is the receiver's own limit, likewise: its WebHook-Allowed-Rate.
	AllowedRate int64 `json:"allowed_rate,omitzero"`
	// Timeout is the time an attempt has for everything, as a Go duration such as "5s";
	// "": the operator's.
	Timeout string `json:"timeout,omitempty"`
	// Consent says whether the receiver agreed: Consent…; "" counts as ConsentOff.
	Consent string `json:"consent,omitempty"`
	// PublicKey verifies v1a signatures: "whpk_" and the base64 of an ed25519 public key;
	// "" with SigningV1.
	PublicKey string `json:"public_key,omitempty"`
	// Former are the secrets before, newest first, that sign too until their time.
	Former []FormerSecret `json:"former_secrets,omitempty"`
	// SkipTo is set in the one event that jumps: what the endpoint was owed up to this
	// position is not delivered any more. "now": up to this event.
	SkipTo string `json:"skip_to,omitempty"`
	// FailingSince and FailingPercent are set in endpoint.failing: since when every attempt
	// failed, and how much of the time is over after which the endpoint is disabled. They
	// stand until another event of the endpoint.
	FailingSince   Time  `json:"failing_since,omitzero"`
	FailingPercent int64 `json:"failing_percent,omitzero"`

	SealedSecret  []byte   `json:"-"` // field "secret": the HMAC key, or the ed25519 seed
	SealedQuery   []byte   `json:"-"` // field "query", nil where the URL has none
	SealedHeaders [][]byte `json:"-"` // field "header/<name>", as Headers are ordered
}

// FormerSecret is a signing secret before the current one.
type FormerSecret struct {
	Until     Time   `json:"until"`                // up to when it signs too, exclusive
	Signing   string `json:"signing"`              // SigningV1 or SigningV1a
	PublicKey string `json:"public_key,omitempty"` // as Endpoint.PublicKey
	Sealed    []byte `json:"-"`                    // field "secret"
}

// Code implements Data.
func (e *Endpoint) Code(c *Coder) {
	c.String(&e.ID)
	c.String(&e.Account)
	c.String(&e.Environment)
	c.String(&e.URL)
	c.Strings(&e.Events)
	c.String(&e.Description)
	c.Strings(&e.Headers)
	c.String(&e.Status)
	c.String(&e.Reason)
	c.String(&e.Signing)
	c.Time(&e.CreatedAt)
	c.Blob(&e.SealedSecret)
	c.Blob(&e.SealedQuery)
	n := c.Len(len(e.SealedHeaders))
	if c.reading && n > 0 {
		e.SealedHeaders = make([][]byte, n)
	}
	for i := range e.SealedHeaders {
		c.more()
		c.Blob(&e.SealedHeaders[i])
	}
	c.Strings(&e.Keys)
	c.Blob((*[]byte)(&e.Filters))
	c.Word(&e.Ordering)
	c.Int(&e.RatePerMinute)
	c.Int(&e.AllowedRate)
	c.String(&e.Timeout)
	c.Word(&e.Consent)
	c.String(&e.PublicKey)
	n = c.Len(len(e.Former))
	if c.reading && n > 0 {
		e.Former = make([]FormerSecret, n)
	}
	for i := range e.Former {
		e.Former[i].code(c)
	}
	c.String(&e.SkipTo)
	c.Time(&e.FailingSince)
	c.Int(&e.FailingPercent)
}

func (f *FormerSecret) code(c *Coder) {
	c.more()
	c.Time(&f.Until)
	c.more()
	c.Word(&f.Signing)
	c.more()
	c.String(&f.PublicKey)
	c.more()
	c.Blob(&f.Sealed)
}

// Replay is the data of endpoint.replayed: events of the past are sent to an endpoint again.
// A replay ends before its own event, whatever To and ToTime say.
type Replay struct {
	ID          string   `json:"id"` // "replay_" and a ULID
	Endpoint    string   `json:"endpoint"`
	Account     string   `json:"account"`
	Environment string   `json:"environment"`
	From        string   `json:"from_position,omitempty"` // the first event that may be sent, itself included
	To          string   `json:"to_position,omitempty"`   // the last, itself included; "": no end but the replay's own event
	FromTime    Time     `json:"from_time,omitzero"`      // no commit before this time
	ToTime      Time     `json:"to_time,omitzero"`        // no commit after this time
	Events      []string `json:"events"`                  // filters as an endpoint's; empty: the endpoint's own terms now
	CreatedAt   Time     `json:"created_at"`
}

// Code implements Data.
func (r *Replay) Code(c *Coder) {
	c.String(&r.ID)
	c.String(&r.Endpoint)
	c.String(&r.Account)
	c.Word(&r.Environment)
	c.String(&r.From)
	c.String(&r.To)
	c.Time(&r.FromTime)
	c.Time(&r.ToTime)
	c.Strings(&r.Events)
	c.Time(&r.CreatedAt)
}
