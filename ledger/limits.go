package ledger

import (
	"strings"
	"time"

	"github.com/keyledger/keyledger/events"
)

// Limits of single members. One past each is InvalidArgument; a count that is full is
// LimitExceeded.
const (
	MaxAmount           = 1<<53 - 1 // in an asset's smallest unit: what JSON numbers hold exactly
	maxNameChars        = 128
	maxMetadataBytes    = 16 << 10
	maxProducts         = 200 // an account and environment, and prices of a plan
	maxPermissions      = 200
	maxAllowlist        = 200
	maxKeys             = 1000 // of an account, revoked ones not counted; a plan may say otherwise
	maxPrefixChars      = 32   // of an imported key, shown in place of its secret
	maxSecretBytes      = 1024 // of a secret that is asked with: another system's may look like anything
	maxMessageBytes     = 16 << 10
	maxEndpoints        = 50 // of an account, removed ones not counted
	maxURLBytes         = 2048
	maxFilters          = 50
	maxHeaders          = 20
	maxEndpointKeys     = 50     // that an endpoint is restricted to
	maxEndpointRate     = 60_000 // attempts a minute
	minEndpointTimeout  = time.Second
	maxEndpointTimeout  = 30 * time.Second
	maxSigningSecrets   = 3 // that sign at a time, the current one included
	maxSecretGrace      = 7 * 24 * time.Hour
	maxReplays          = 10  // of an endpoint, finished ones not counted
	maxReferenceChars   = 256 // reference and reason
	maxDescriptionChars = 256
	maxGrants           = 1000   // with something left, of one balance
	maxBalances         = 1000   // of an account, over both environments; each asset that ever moved has one
	maxThresholds       = 10     // of an account
	maxHolds            = 10_000 // open ones of an account
	maxReserved         = 2000   // grants that one hold draws from: its events fit in an entry
	maxHoldTime         = 8760 * time.Hour
	maxRatePerSecond    = 1_000_000
	maxBurst            = 1_000_000
	maxPlanKeys         = 1_000_000
	maxPlanAssets       = 64
	maxPar              = 64
	maxScale            = 12 // of an asset: digits behind the point
)

// The limits that other packages look at too.
const (
	MaxURLBytes = maxURLBytes
	MaxHeaders  = maxHeaders
)

// ValidAccount says whether id can be an account: 1 to 64 of A–Z a–z 0–9 _ and -, and
// not "_", which is the ledger itself.
func ValidAccount(id string) bool {
	if len(id) == 0 || len(id) > 64 || id == "_" {
		return false
	}
	for i := 0; i < len(id); i++ {
		if c := id[i]; !alnum(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func alnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// checks collects the first thing that is wrong with a body, so that a Validate method
// reads as a list.
type checks struct{ err *events.Error }

func (c *checks) that(ok bool, format string, args ...any) {
	if !ok && c.err == nil {
		c.err = events.Errorf(events.InvalidArgument, format, args...)
	}
}

// text checks the length of a text in characters; control characters are refused.
func (c *checks) text(member, s string, least, most int) {
	n, printable := 0, true
	for _, r := range s {
		n++
		printable = printable && r >= ' ' && r != 0x7f
	}
	switch { // not by that: its arguments would be made for every text that is right
	case c.err != nil:
	case !printable:
		c.that(false, "%s must not hold control characters", member)
	case n < least:
		c.that(false, "%s is required", member)
	case n > most:
		c.that(false, "%s has %d characters, at most %d are allowed", member, n, most)
	}
}

func (c *checks) metadata(m events.Object) {
	c.that(len(m) <= maxMetadataBytes, "metadata has %d bytes, at most %d are allowed", len(m), maxMetadataBytes)
}

func (c *checks) environment(name string) {
	c.that(name == events.Test || name == events.Live, "environment must be test or live")
}

func (c *checks) asset(name string) {
	c.that(events.ValidName(name), "asset must be 1 to 64 of a-z 0-9 _ -")
}

func (c *checks) amount(n int64) {
	c.that(n >= 1 && n <= MaxAmount, "amount must be a whole number from 1 to %d", int64(MaxAmount))
}

func (c *checks) products(names []string) {
	c.that(len(names) <= maxProducts, "%d products, at most %d are allowed", len(names), maxProducts)
	for _, name := range names {
		c.that(events.ValidName(name), "product %.70q must be 1 to 64 of a-z 0-9 _ -", name)
	}
}

func (c *checks) permissions(list []string) {
	c.that(len(list) <= maxPermissions, "%d permissions, at most %d are allowed", len(list), maxPermissions)
	for _, p := range list {
		c.that(validPermission(p, true), "permission %.80q must be <product>:read, <product>:write or <product>:*", p)
	}
}

// validPermission says whether p is <product>:read or :write, or :* where a star is
// allowed.
func validPermission(p string, star bool) bool {
	product, access, ok := strings.Cut(p, ":")
	return ok && events.ValidName(product) &&
		(access == events.Read || access == events.Write || star && access == "*")
}
