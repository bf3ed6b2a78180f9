package events

// Kinds of keys and the access a request asks for.
const (
	Standard   = "standard"
	Restricted = "restricted"
	Read       = "read"
	Write      = "write"
)

// Key is the data of every key event: the key after it. Its secret is nowhere; the
// SHA-256 of the secret is in the stored form alone.
type Key struct {
	ID          string   `json:"id"`
	Account     string   `json:"account"`
	Environment string   `json:"environment"`
	Name        string   `json:"name"`
	Kind        string   `json:"kind"`
	Status      string   `json:"status"` // Active, Disabled or Revoked
	Reason      string   `json:"reason,omitempty"`
	Permissions []string `json:"permissions"`
	ReadOnly    bool     `json:"read_only"`
	IPAllowlist []string `json:"ip_allowlist"` // CIDR, normalised; empty: any address
	ExpiresAt   Time     `json:"expires_at"`
	AssetClass  string   `json:"asset_class"`
	Prefix      string   `json:"prefix"` // how the secret is shown again
	CreatedAt   Time     `json:"created_at"`
	LastUsedAt  Time     `json:"last_used_at"` // this and the next two are known to views, never stored

	LastUsedIP      string `json:"last_used_ip,omitempty"`      // of that use, when known
	LastUsedProduct string `json:"last_used_product,omitempty"` // likewise

	Metadata Object `json:"metadata"`

	Hash [32]byte `json:"-"` // SHA-256 of the secret; zero for a signing key

	PublicKey      []byte `json:"public_key,omitempty"` // ed25519, of a signing key, in base64
	Imported       bool   `json:"imported,omitzero"`    // its first secret was another system's
	RotatedAt      Time   `json:"rotated_at,omitzero"`
	OldSecretUntil Time   `json:"old_secret_until,omitzero"` // up to then the secret before works too

	OldHash [32]byte `json:"-"` // SHA-256 of the secret before, zero where there is none
	// ExpirySetAt is when ExpiresAt was set: a notice whose time had passed by then is not
	// given. Notice is how long before the expiry the last key.expiring came, in
	// milliseconds, 0 for none.
	ExpirySetAt Time  `json:"-"`
	Notice      int64 `json:"-"`
}

// Code implements Data.
func (k *Key) Code(c *Coder) {
	c.String(&k.ID)
	c.String(&k.Account)
	c.Word(&k.Environment)
	c.String(&k.Name)
	c.Word(&k.Kind)
	c.Word(&k.Status)
	c.String(&k.Reason)
	c.Strings(&k.Permissions)
	c.Bool(&k.ReadOnly)
	c.Strings(&k.IPAllowlist)
	c.Time(&k.ExpiresAt)
	c.Word(&k.AssetClass)
	c.String(&k.Prefix)
	c.Time(&k.CreatedAt)
	c.Blob((*[]byte)(&k.Metadata))
	c.Fixed(k.Hash[:])
	c.Blob(&k.PublicKey)
	c.Bool(&k.Imported)
	c.Time(&k.RotatedAt)
	c.Time(&k.OldSecretUntil)
	c.Fixed(k.OldHash[:])
	c.Time(&k.ExpirySetAt)
	c.Int(&k.Notice)
}
