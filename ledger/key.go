package ledger

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// keyIDPrefix is what every key id begins with; a ULID follows.
const keyIDPrefix = "key_"

// CreateKey is key.create.
type CreateKey struct {
	Environment string        `json:"environment"`
	Name        string        `json:"name"`
	Kind        string        `json:"kind"`
	Permissions []string      `json:"permissions"`
	ReadOnly    bool          `json:"read_only"`
	IPAllowlist []string      `json:"ip_allowlist"`
	ExpiresAt   events.Time   `json:"expires_at"`
	AssetClass  string        `json:"asset_class"`
	PublicKey   string        `json:"public_key,omitzero"` // base64 of a signing key's public half
	Metadata    events.Object `json:"metadata"`

	KeyID  ulid.ULID `json:"-"` // made at the edge
	Hash   [32]byte  `json:"-"` // SHA-256 of the secret; zero for a signing key, which has none
	Prefix string    `json:"-"` // SecretPrefix of it
}

// Validate implements Command. It fills in defaults and normalises addresses.
func (c *CreateKey) Validate() *events.Error {
	var check checks
	check.environment(c.Environment)
	check.text("name", c.Name, 1, maxNameChars)
	if c.Kind == "" {
		c.Kind = events.Standard
	}
	check.that(c.Kind == events.Standard || c.Kind == events.Restricted, "kind must be standard or restricted")
	check.permissions(c.Permissions)
	check.that(c.Kind == events.Restricted || len(c.Permissions) == 0, "permissions are for keys of kind restricted")
	c.IPAllowlist = check.allowlist(c.IPAllowlist)
	if c.AssetClass == "" {
		c.AssetClass = events.Any
	}
	check.that(slices.Contains([]string{events.Any, events.Fiat, events.Crypto}, c.AssetClass), "asset_class must be any, fiat or crypto")
	check.publicKey(c.PublicKey)
	check.metadata(c.Metadata)
	return check.err
}

// Decide implements Command.
func (c *CreateKey) Decide(in *Input) (Decision, *events.Error) {
	k, err := c.newKey(in)
	if err != nil {
		return Decision{}, err
	}
	if other := in.Account.signer(k.PublicKey); other != nil {
		return Decision{}, events.Errorf(events.AlreadyExists, "the public key belongs to key %s already, and a pair is one key's for ever: a signature must not pay with two; make a new pair", other.id)
	}
	return one(in, "key.created", k.Environment, k.ID, k)
}

// signer returns the account's key that has a public key, a revoked one too.
func (a *Account) signer(public []byte) *Key {
	for _, k := range a.keys {
		if len(public) > 0 && k.more != nil && bytes.Equal(k.more.publicKey, public) {
			return k
		}
	}
	return nil
}

// newKey is the key that is to be made, unless its expiry or the number of the account's
// keys is against it.
func (c *CreateKey) newKey(in *Input) (*events.Key, *events.Error) {
	if c.ExpiresAt != 0 && c.ExpiresAt <= in.Time {
		return nil, errExpiryPast(c.ExpiresAt)
	}
	limit := maxKeys
	if p := in.Account.Plan; p != nil && p.MaxKeys > 0 {
		limit = int(p.MaxKeys)
	}
	if in.Account.live >= limit {
		return nil, events.Errorf(events.LimitExceeded, "account %s has %d keys, the most it may have; revoke one first", in.AccountID, limit).
			With("limit", limit)
	}
	public, _ := decodePublicKey(c.PublicKey) // by Validate
	return &events.Key{
		ID: keyIDPrefix + c.KeyID.String(), Account: in.AccountID, Environment: c.Environment, Name: c.Name, Kind: c.Kind, Status: events.Active,
		Permissions: sortedUnique(c.Permissions), ReadOnly: c.ReadOnly, IPAllowlist: c.IPAllowlist, ExpiresAt: c.ExpiresAt,
		AssetClass: c.AssetClass, Prefix: c.Prefix, CreatedAt: in.Time, Metadata: c.Metadata, Hash: c.Hash,
		ExpirySetAt: setAt(c.ExpiresAt, in.Time), PublicKey: public,
	}, nil
}

// earlier returns the earlier of two times, of which 0 is never.
func earlier(a, b events.Time) events.Time {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// setAt is when an expiry was set, 0 where there is none.
func setAt(expiresAt, now events.Time) events.Time {
	if expiresAt == 0 {
		return 0
	}
	return now
}

func errExpiryPast(at events.Time) *events.Error {
	return events.Errorf(events.InvalidArgument, "expires_at %s is not in the future", at)
}

// UpdateKey is key.update: only the members given change.
type UpdateKey struct {
	Key         string                         `json:"key"`
	Name        *string                        `json:"name,omitzero"`
	IPAllowlist *[]string                      `json:"ip_allowlist,omitzero"`
	Permissions *[]string                      `json:"permissions,omitzero"`
	ExpiresAt   events.Optional[events.Time]   `json:"expires_at,omitzero"` // null: never
	Metadata    events.Optional[events.Object] `json:"metadata,omitzero"`
}

// Validate implements Command.
func (c *UpdateKey) Validate() *events.Error {
	var check checks
	check.key(c.Key)
	if c.Name != nil {
		check.text("name", *c.Name, 1, maxNameChars)
	}
	if c.IPAllowlist != nil {
		*c.IPAllowlist = check.allowlist(*c.IPAllowlist)
	}
	if c.Permissions != nil {
		check.permissions(*c.Permissions)
	}
	check.metadata(c.Metadata.Value)
	return check.err
}

// Decide implements Command.
func (c *UpdateKey) Decide(in *Input) (Decision, *events.Error) {
	k, err := in.key(c.Key)
	if err != nil {
		return Decision{}, err
	}
	old := k.data()
	if old.Status == events.Revoked {
		return Decision{}, errRevoked(old)
	}
	next := *old
	if c.Name != nil {
		next.Name = *c.Name
	}
	if c.IPAllowlist != nil {
		next.IPAllowlist = *c.IPAllowlist
	}
	if c.Permissions != nil {
		if next.Kind != events.Restricted && len(*c.Permissions) > 0 {
			return Decision{}, events.Errorf(events.FailedPrecondition, "key %s is of kind standard: permissions are for restricted keys", old.ID)
		}
		next.Permissions = sortedUnique(*c.Permissions)
	}
	if c.ExpiresAt.Set {
		if at := c.ExpiresAt.Value; at != 0 && at != next.ExpiresAt && at <= in.Time {
			return Decision{}, errExpiryPast(at)
		}
		if at := c.ExpiresAt.Value; at != next.ExpiresAt {
			next.ExpiresAt, next.ExpirySetAt, next.Notice = at, setAt(at, in.Time), 0
			if next.OldSecretUntil != 0 {
				next.OldSecretUntil = earlier(next.OldSecretUntil, at)
			}
		}
	}
	if c.Metadata.Set {
		next.Metadata = c.Metadata.Value
	}
	if same(old, &next) {
		return unchanged(old)
	}
	return one(in, "key.updated", old.Environment, old.ID, &next)
}

// keyAndReason is the body of the verbs that change a key's status.
type keyAndReason struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// Validate implements Command.
func (c *keyAndReason) Validate() *events.Error {
	var check checks
	check.key(c.Key)
	check.text("reason", c.Reason, 0, maxReferenceChars)
	return check.err
}

// setStatus moves the key to a status; from revoked there is no way back.
func (c *keyAndReason) setStatus(in *Input, status, eventType string) (Decision, *events.Error) {
	k, err := in.key(c.Key)
	if err != nil {
		return Decision{}, err
	}
	next := k.data()
	switch next.Status {
	case status:
		return unchanged(next)
	case events.Revoked:
		return Decision{}, errRevoked(next)
	}
	next.Status, next.Reason = status, c.Reason
	return one(in, eventType, next.Environment, next.ID, next)
}

func errRevoked(k *events.Key) *events.Error {
	return events.Errorf(events.FailedPrecondition, "key %s is revoked, which is final; create a new one", k.ID)
}

// DisableKey is key.disable.
type DisableKey struct{ keyAndReason }

// Decide implements Command.
func (c *DisableKey) Decide(in *Input) (Decision, *events.Error) {
	return c.setStatus(in, events.Disabled, "key.disabled")
}

// EnableKey is key.enable.
type EnableKey struct{ keyAndReason }

// Decide implements Command.
func (c *EnableKey) Decide(in *Input) (Decision, *events.Error) {
	return c.setStatus(in, events.Active, "key.enabled")
}

// RevokeKey is key.revoke.
type RevokeKey struct{ keyAndReason }

// Decide implements Command.
func (c *RevokeKey) Decide(in *Input) (Decision, *events.Error) {
	return c.setStatus(in, events.Revoked, "key.revoked")
}

// key finds a key of the account by its id.
func (in *Input) key(id string) (*Key, *events.Error) {
	var parsed ulid.ULID
	if err := parsed.UnmarshalText([]byte(strings.TrimPrefix(id, keyIDPrefix))); err == nil {
		if k := in.State.keys[parsed]; k != nil && k.account == in.Account {
			return k, nil
		}
	}
	return nil, events.Errorf(events.NotFound, "account %s has no key %.40s", in.AccountID, id)
}

// key checks a key id's form.
func (c *checks) key(id string) {
	_, err := ParseKeyID(id)
	c.that(err == nil, "key must be a key id such as key_01J…")
}

var errNotKeyID = errors.New("not a key id")

// ParseKeyID reads a key id: key_ and a ULID.
func ParseKeyID(id string) (ulid.ULID, error) {
	text, ok := strings.CutPrefix(id, keyIDPrefix)
	if !ok {
		return ulid.ULID{}, errNotKeyID
	}
	return ulid.ParseStrict(text)
}

// allowlist normalises CIDRs and single addresses: masked, IPv4-mapped IPv6 as IPv4,
// sorted, without repetitions.
func (c *checks) allowlist(list []string) []string {
	c.that(len(list) <= maxAllowlist, "ip_allowlist has %d entries, at most %d are allowed", len(list), maxAllowlist)
	out := make([]string, 0, len(list))
	for _, s := range list {
		prefix, err := parsePrefix(s)
		c.that(err == nil, "ip_allowlist entry %.60q is not a CIDR such as 203.0.113.0/24 or an address", s)
		out = append(out, prefix.String())
	}
	return sortedUnique(out)
}

var errNotCIDR = errors.New("not a CIDR")

func parsePrefix(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, errNotCIDR
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, errNotCIDR
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), nil
}

// spendingKey returns the class of assets that a command which names a key may spend, any
// for none. The key must be of the environment and of a class that may touch the asset.
func (in *Input) spendingKey(id, environment, asset string) (string, *events.Error) {
	if id == "" {
		return events.Any, nil
	}
	k, err := in.key(id)
	if err != nil {
		return "", err
	}
	w := k.words.Value()
	if w.environment != environment {
		return "", events.Errorf(events.FailedPrecondition, "key %s belongs to %s", k.id, w.environment)
	}
	if class := in.Account.Plan.Class(asset); !mayTouch(w.assetClass, class) {
		return "", events.Errorf(events.PermissionDenied, "key %s is for %s assets, %s is %s", k.id, w.assetClass, asset, class)
	}
	return w.assetClass, nil
}

func (st *State) evolveKey(d *events.Key, eventType string) {
	id, err := ParseKeyID(d.ID)
	a := st.account(d.Account)
	if err != nil || a == nil {
		return
	}
	k := st.keys[id]
	expired := eventType == "key.expired"
	var before events.Time
	if k == nil {
		k = &Key{id: d.ID, account: a, words: st.newWords}
		st.addKey(id, k)
		a.live++
	} else {
		w := k.words.Value()
		expired = expired || w.expired && d.ExpiresAt == k.expiresAt
		if w.status != events.Revoked && d.Status == events.Revoked {
			a.live--
		}
		before = k.next(st.notices())
	}
	k.set(d, expired)
	st.newWords = k.words
	st.addForeign(k)
	if d.Status == events.Revoked {
		k.spent = nil // nothing pays with it any more
	}
	if at := k.next(st.notices()); at != 0 && at != before {
		st.setDue(a, due{at: at, kind: dueKey, id: id})
	}
}
