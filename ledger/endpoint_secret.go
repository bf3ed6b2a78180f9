package ledger

import (
	"cmp"
	"slices"
	"time"

	"github.com/keyledger/keyledger/events"
)

// RotateEndpointSecret is endpoint.rotate_secret: the endpoint signs with a new secret, and
// with the ones before too until their time is over, so that its receiver can change over.
type RotateEndpointSecret struct {
	Endpoint string `json:"endpoint"`
	Grace    string `json:"grace,omitzero"`   // a duration such as 24h, the default; 0 ends all former secrets at once
	Signing  string `json:"signing,omitzero"` // v1 or v1a; absent: as before

	// Made at the edge from the same random bytes, since only the endpoint tells what it signs
	// with.
	Sealed    []byte `json:"-"` // field "secret"
	PublicKey string `json:"-"` // of these bytes as a seed, for v1a

	grace time.Duration
}

// Validate implements Command.
func (c *RotateEndpointSecret) Validate() *events.Error {
	var check checks
	check.endpoint(c.Endpoint)
	c.grace = check.grace(c.Grace, maxSecretGrace)
	if c.Signing != "" {
		check.signing(c.Signing)
	}
	return check.err
}

// Decide implements Command.
func (c *RotateEndpointSecret) Decide(in *Input) (Decision, *events.Error) {
	e, err := in.endpoint(c.Endpoint)
	if err != nil {
		return Decision{}, err
	}
	next := after(e, in.Time)
	former := events.FormerSecret{
		Until: in.Time + events.Time(c.grace.Milliseconds()), Signing: e.Signing, PublicKey: e.PublicKey, Sealed: e.SealedSecret,
	}
	if former.Until == in.Time {
		next.Former = nil
	} else {
		next.Former = slices.Insert(next.Former, 0, former)
	}
	if n := 1 + len(next.Former); n > maxSigningSecrets {
		first := slices.MinFunc(next.Former[1:], func(a, b events.FormerSecret) int { return cmp.Compare(a.Until, b.Until) })
		return Decision{}, events.Errorf(events.LimitExceeded, "endpoint %s signs with %d secrets, the most it may; wait until %s, or end all former ones with a grace of 0",
			e.ID, maxSigningSecrets, first.Until).With("limit", maxSigningSecrets)
	}
	next.Signing = cmp.Or(c.Signing, e.Signing)
	next.SealedSecret, next.PublicKey = c.Sealed, ""
	if next.Signing == events.SigningV1a {
		next.PublicKey = c.PublicKey
	}
	return happens(in, "endpoint.secret_rotated", next)
}
