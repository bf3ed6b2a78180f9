package ledger

import (
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
	Metadata    events.Object `json:"metadata"`

	KeyID  ulid.ULID `json:"-"` // made at the edge
	Hash   [32]byte  `json:"-"` // SHA-256 of the secret
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
		c.AssetClass = "any"
	}
	check.that(slices.Contains([]string{"any", "fiat", "crypto"}, c.AssetClass), "asset_class must be any, fiat or crypto")
	check.metadata(c.Metadata)
	return check.err
}

// Decide implements Command.
func (c *CreateKey) Decide(in *Input) (Decision, *events.Error) {
	if c.ExpiresAt != 0 && c.ExpiresAt <= in.Time {
		return Decision{}, errExpiryPast(c.ExpiresAt)
	}
	limit := maxKeys
	if p := in.Account.Plan; p != nil && p.MaxKeys > 0 {
		limit = int(p.MaxKeys)
	}
	if in.Account.live >= limit {
		return Decision{}, events.Errorf(events.LimitExceeded, "account %s has %d keys, the most it may have; revoke one first", in.AccountID, limit).
			With("limit", limit)
	}
	id := keyIDPrefix + c.KeyID.String()
	return one(in, "key.created", c.Environment, id, &events.Key{
		ID: id, Account: in.AccountID, Environment: c.Environment, Name: c.Name, Kind: c.Kind, Status: events.Active,
		Permissions: sortedUnique(c.Permissions), ReadOnly: c.ReadOnly, IPAllowlist: c.IPAllowlist, ExpiresAt: c.ExpiresAt,
		AssetClass: c.AssetClass, Prefix: c.Prefix, CreatedAt: in.Time, Metadata: c.Metadata, Hash: c.Hash,
	})
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
		next.ExpiresAt = c.ExpiresAt.Value
	}
	if c.Metadata.Set {
		next.Metadata = c.Metadata.Value
	}
	if sameKey(old, &next) {
		return unchanged(old)
	}
	return one(in, "key.updated", old.Environment, old.ID, &next)
}

func sameKey(a, b *events.Key) bool {
	x, y := events.NewWriter(nil), events.NewWriter(nil)
	a.Code(x)
	b.Code(y)
	return string(x.Bytes()) == string(y.Bytes())
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
	_, err := ulid.ParseStrict(strings.TrimPrefix(id, keyIDPrefix))
	c.that(strings.HasPrefix(id, keyIDPrefix) && err == nil, "key must be a key id such as key_01J…")
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

func (st *State) evolveKey(d *events.Key) {
	id, err := ulid.ParseStrict(strings.TrimPrefix(d.ID, keyIDPrefix))
	a := st.accounts[d.Account]
	if err != nil || a == nil {
		return
	}
	k := st.keys[id]
	if k == nil {
		k = &Key{id: d.ID, account: a}
		st.addKey(id, k)
		a.live++
	} else if k.words.Value().status != events.Revoked && d.Status == events.Revoked {
		a.live--
	}
	k.set(d)
}
