package ledger

import (
	"crypto/sha256"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// How long the old secret of a rotated key works on.
const (
	defaultGrace = 24 * time.Hour
	maxGrace     = 30 * 24 * time.Hour
)

// RotateKey is key.rotate: the key gets a new secret, and the one before works on until
// the grace ends. It stays the same key, with its id, restrictions and balance.
type RotateKey struct {
	Key   string `json:"key"`
	Grace string `json:"grace,omitzero"` // a duration such as 24h, the default; 0 ends the old secret at once

	Random [32]byte `json:"-"` // made at the edge; see Secret

	grace time.Duration
}

// Validate implements Command.
func (c *RotateKey) Validate() *events.Error {
	var check checks
	check.key(c.Key)
	c.grace = check.grace(c.Grace, maxGrace)
	return check.err
}

// grace reads how long a former secret works on, up to a limit; "" is defaultGrace.
func (c *checks) grace(s string, most time.Duration) time.Duration {
	if s == "" {
		return defaultGrace
	}
	d, err := time.ParseDuration(s)
	c.that(err == nil && d >= 0 && d <= most, "grace must be a duration such as 24h, from 0 to %dh", int(most.Hours()))
	return d
}

// Secret returns the new secret. Only the key, and so the decision, tells of which
// environment it is.
func (c *RotateKey) Secret(environment, account string) string {
	id, _ := ulid.ParseStrict(strings.TrimPrefix(c.Key, keyIDPrefix)) // by Validate
	return NewSecret(environment, account, id, c.Random)
}

// Decide implements Command. Two secrets work at most: one that was still in its grace
// stops.
func (c *RotateKey) Decide(in *Input) (Decision, *events.Error) {
	k, err := in.key(c.Key)
	if err != nil {
		return Decision{}, err
	}
	next := k.data()
	switch {
	case next.Status == events.Revoked:
		return Decision{}, errRevoked(next)
	case len(next.PublicKey) > 0:
		return Decision{}, events.Errorf(events.FailedPrecondition, "key %s is a signing key and has no secret; create a new one", next.ID)
	case next.ExpiresAt != 0 && next.ExpiresAt <= in.Time:
		return Decision{}, events.Errorf(events.FailedPrecondition, "key %s expired at %s; extend it first with key.update", next.ID, next.ExpiresAt)
	}
	until := in.Time + events.Time(c.grace.Milliseconds())
	atOnce := until == in.Time
	retires := atOnce || next.OldHash != [32]byte{}
	next.OldHash, next.OldSecretUntil = next.Hash, earlier(until, next.ExpiresAt)
	if atOnce {
		next.OldHash, next.OldSecretUntil = [32]byte{}, 0
	}
	secret := c.Secret(next.Environment, in.AccountID)
	next.Hash, next.Prefix, next.RotatedAt = sha256.Sum256([]byte(secret)), SecretPrefix(secret), in.Time
	d, _ := one(in, "key.rotated", next.Environment, next.ID, next)
	if retires {
		retired := d.Events[0]
		retired.Type = "key.secret_retired"
		d.Events = append(d.Events, retired)
	}
	return d, nil
}

// retires is when the secret before the newest stops working by itself, 0 for never: with
// the key's expiry the whole key ends, which key.expired tells.
func (k *Key) retires() events.Time {
	if m := k.more; m != nil && m.hasOldHash && m.oldUntil != k.expiresAt {
		return m.oldUntil
	}
	return 0
}

// knowsOldSecret says whether the secret before the newest is known at now: while it
// works, and for ever where the key ended before it did.
func (k *Key) knowsOldSecret(now events.Time) bool {
	at := k.retires()
	return k.more != nil && k.more.hasOldHash && (at == 0 || now < at || k.words.Value().status == events.Revoked)
}
