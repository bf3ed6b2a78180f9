package ledger

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"strconv"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// Authorize is one item of keyledger.authorize: may this key do this, and take the
// credits.
type Authorize struct {
	Secret    string `json:"secret,omitzero"`
	Key       string `json:"key,omitzero"`       // a signing key's request, instead of a secret
	Message   string `json:"message,omitzero"`   // what was signed with signed_at
	Signature string `json:"signature,omitzero"` // ed25519, in base64: see SignedBytes
	SignedAt  string `json:"signed_at,omitzero"` // RFC 3339, as it was signed
	ID        string `json:"id,omitzero"`
	Product   string `json:"product,omitzero"`
	Access    string `json:"access,omitzero"`
	IP        string `json:"ip,omitzero"`
	Cost      *int64 `json:"cost,omitzero"`
	Units     *int64 `json:"units,omitzero"`
	Reference string `json:"reference,omitzero"`

	secret    Secret
	known     bool       // the secret is well-formed and its checksum good
	placed    bool       // whose it is was told by Place
	signature *signature // nil for a secret
	ip        netip.Addr
	old       bool // the secret is the one before the newest
}

// Answer is the answer to one Authorize. A refusal is an answer. Position, Replayed and
// Message are set where the answer is given out.
type Answer struct {
	Allowed     bool        `json:"allowed"`
	Code        events.Code `json:"code"`
	Message     string      `json:"message,omitzero"` // where the code does not say it all
	Account     string      `json:"account,omitzero"`
	Environment string      `json:"environment,omitzero"`
	Key         string      `json:"key,omitzero"`
	Cost        int64       `json:"cost"`
	Balance     *int64      `json:"balance,omitzero"` // available after it
	Rate        *RateState  `json:"rate,omitzero"`
	Debit       string      `json:"debit,omitzero"`
	SecretAge   string      `json:"secret_age,omitzero"`
	Position    string      `json:"position,omitzero"`
	Replayed    bool        `json:"replayed,omitzero"`
}

// Member implements events.Flat.
func (a *Authorize) Member(name []byte, v events.Scalar) bool {
	switch string(name) {
	case "secret":
		return v.String(&a.Secret)
	case "key":
		return v.String(&a.Key)
	case "message":
		return v.String(&a.Message)
	case "signature":
		return v.String(&a.Signature)
	case "signed_at":
		return v.String(&a.SignedAt)
	case "id":
		return v.String(&a.ID)
	case "product":
		return v.String(&a.Product)
	case "access":
		return v.String(&a.Access)
	case "ip":
		return v.String(&a.IP)
	case "cost":
		return v.OptionalInt(&a.Cost)
	case "units":
		return v.OptionalInt(&a.Units)
	case "reference":
		return v.String(&a.Reference)
	}
	return false
}

// Reset implements events.Flat.
func (a *Authorize) Reset() { *a = Authorize{} }

// Validate checks the item's form, parses its secret and fills in defaults. A malformed
// secret is no mistake of form: it gets the same answer as an unknown one.
func (a *Authorize) Validate() *events.Error {
	var check checks
	a.identify(&check)
	check.that(a.Product == "" || events.ValidName(a.Product), "product must be 1 to 64 of a-z 0-9 _ -")
	if a.Access == "" {
		a.Access = events.Write
	}
	check.that(a.Access == events.Read || a.Access == events.Write, "access must be read or write")
	if a.IP != "" {
		ip, err := netip.ParseAddr(a.IP)
		check.that(err == nil && ip.Zone() == "", "ip must be an IPv4 or IPv6 address")
		a.ip = ip.Unmap()
	}
	check.that(a.Cost == nil || *a.Cost >= 0 && *a.Cost <= MaxAmount, "cost must be a whole number from 0 to %d", int64(MaxAmount))
	check.that(a.Units == nil || *a.Units >= 1 && *a.Units <= MaxAmount, "units must be a whole number from 1 to %d", int64(MaxAmount))
	check.text("reference", a.Reference, 0, maxReferenceChars)
	return check.err
}

// identify reads who asks. A secret is hashed here, once.
func (a *Authorize) identify(check *checks) {
	if a.Key != "" || a.Message != "" || a.Signature != "" || a.SignedAt != "" {
		a.signing(check)
		return
	}
	check.that(a.Secret != "", "secret is required, or of a signing key: key, message, signature and signed_at")
	if a.secret, a.known = ParseSecret(a.Secret); a.known {
		return
	}
	check.that(len(a.Secret) <= maxSecretBytes, "secret has more than %d bytes, the most there may be", maxSecretBytes)
	if check.err == nil {
		a.secret.Hash = sha256.Sum256([]byte(a.Secret))
	}
}

// Slot is the routing slot of the account that asks, as the secret says or Place told,
// false where that is not known: nobody has such a secret.
func (a *Authorize) Slot() (uint16, bool) { return a.secret.Slot, a.known || a.placed }

// SecretHash is the SHA-256 of the secret; zero where the request is signed.
func (a *Authorize) SecretHash() [32]byte { return a.secret.Hash }

// Place tells the slot of a request whose secret does not say it.
func (a *Authorize) Place(slot uint16) { a.secret.Slot, a.placed = slot, true }

// Decide makes the whole decision for the key that Find found, in the order of the wire
// contract; nothing is taken unless all passes. There are no events where nothing is to be
// taken; of those there are, one is the debit.
func (a *Authorize) Decide(st *State, k *Key, commandID ulid.ULID, now events.Time) (Answer, []events.Event) {
	if k == nil {
		return Answer{Code: events.KeyNotFound}, nil
	}
	account, words := k.account, k.words.Value()
	out := Answer{Account: account.ID, Environment: words.environment, Key: k.id, SecretAge: a.secretAge()}
	if a.Signed() {
		if out.Code, out.Message = a.refuseSignature(k, now); out.Code != events.OK {
			return out, nil
		}
	}
	out.Rate = k.rate(now)
	if out.Code = a.refuse(k, &words, now); out.Code != events.OK {
		return out, nil
	}
	cost, asset, err := a.price(account.Plan)
	if err != nil {
		out.Code, out.Message = err.Code, err.Message
		return out, nil
	}
	if !mayTouch(words.assetClass, account.Plan.Class(asset)) {
		out.Code = events.PermissionDenied
		return out, nil
	}
	place := balanceID{words.environment, asset}
	out.Cost = cost
	var list []events.Event
	switch {
	case out.Rate != nil && out.Rate.Remaining == 0:
		out.Code = events.RateLimited
	case cost > 0 && k.spent.full(now):
		out.Code, out.Message = events.RateLimited, errSpent
	case cost > 0:
		in := Input{State: st, AccountID: account.ID, Account: account, CommandID: commandID, Time: now}
		t, err := in.take(place, cost, words.assetClass)
		if err != nil {
			out.Code = err.Code
			break
		}
		list = t.debit(&in, a.debit(k, out.SecretAge))
		d := list[len(t.exchanges)].Data.(*events.Debited)
		out.Debit, out.Balance = d.ID, &d.Balance.Available
	}
	if out.Balance == nil {
		available := account.balance(place).available()
		out.Balance = &available
	}
	if out.Allowed = out.Code == events.OK; out.Allowed && out.Rate != nil {
		out.Rate.take(account.Plan.Rate)
	}
	return out, list
}

// debit is what the debit's event says of the request.
func (a *Authorize) debit(k *Key, age string) events.Debit {
	d := events.Debit{Key: k.id, Product: a.Product, Access: a.Access, IP: a.IP, SecretAge: age, Reference: a.Reference}
	if a.Units != nil {
		d.Units = *a.Units
	}
	if a.Signed() {
		d.Signature, d.SignedAt = a.signature.name[:], a.signature.at
	}
	return d
}

// secretAge says which secret it is; a signature is made with none.
func (a *Authorize) secretAge() string {
	switch {
	case a.Signed():
		return ""
	case a.old:
		return events.OldSecret
	}
	return events.CurrentSecret
}

// refuse runs the checks that come before rate and credits.
func (a *Authorize) refuse(k *Key, words *keyWords, now events.Time) events.Code {
	environment := k.account.Environments.Get(words.environment)
	switch {
	case k.account.Status != events.Active:
		return events.AccountSuspended
	case words.status == events.Revoked:
		return events.KeyRevoked
	case words.status == events.Disabled:
		return events.KeyDisabled
	case k.expiresAt != 0 && k.expiresAt <= now:
		return events.KeyExpired
	case !environment.Enabled:
		return events.EnvironmentDisabled
	case len(k.allow) > 0 && !allows(k.allow, a.ip):
		return events.IPNotAllowed
	case !a.productEnabled(words.environment, environment.Products):
		return events.ProductNotEnabled
	case !a.permitted(k, words):
		return events.PermissionDenied
	}
	return events.OK
}

func allows(list []netip.Prefix, ip netip.Addr) bool {
	if !ip.IsValid() {
		return false
	}
	for _, prefix := range list {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}

// productEnabled: products never set mean any in test and none in live. A request that
// names no product is checked against none, but in live there must be one at all.
func (a *Authorize) productEnabled(environment string, products []string) bool {
	if products == nil && environment == events.Test {
		return true
	}
	if a.Product == "" {
		return environment == events.Test || len(products) > 0
	}
	_, found := slices.BinarySearch(products, a.Product)
	return found
}

func (a *Authorize) permitted(k *Key, words *keyWords) bool {
	if words.kind != events.Restricted && !words.readOnly {
		return true
	}
	if a.Product == "" || words.readOnly && a.Access != events.Read {
		return false
	}
	if words.kind != events.Restricted {
		return true
	}
	for _, p := range k.permissions {
		if n := len(a.Product); len(p) > n && p[:n] == a.Product && p[n] == ':' && (p[n+1:] == a.Access || p[n+1:] == "*") {
			return true
		}
	}
	return false
}

// price is what the request costs and in which asset.
func (a *Authorize) price(plan *events.Plan) (int64, string, *events.Error) {
	if a.Cost != nil {
		_, asset, _ := Price(plan, "", "", 1)
		return *a.Cost, asset, nil
	}
	units := int64(1)
	if a.Units != nil {
		units = *a.Units
	}
	return Price(plan, a.Product, a.Access, units)
}

// Price is what a request costs under a plan, nil for none, that gives no cost of its own:
// an amount and its asset. It refuses units that cost more than an amount can be.
func Price(plan *events.Plan, product, access string, units int64) (cost int64, asset string, err *events.Error) {
	each, asset := int64(defaultPrice), defaultAsset
	if plan != nil {
		each, asset = *plan.Price.Default, plan.Price.Asset
		if product != "" && len(plan.Price.Per) > 0 {
			if p, ok := plan.Price.Per[product+":"+access]; ok {
				each = p
			}
		}
	}
	if each > 0 && units > MaxAmount/each {
		return 0, asset, events.Errorf(events.InvalidArgument, "%d units at %d each cost more than %d", units, each, int64(MaxAmount))
	}
	return each * units, asset, nil
}

// Take takes a token from the key's rate bucket for an allowed answer. It changes
// nothing that the log holds.
func (k *Key) Take(now events.Time) {
	if plan := k.account.Plan; plan != nil && plan.Rate != nil {
		k.bucket = bucket{missing: k.bucket.missingAt(plan.Rate, now) + tokenParts, at: now}
	}
}

// AccountID returns the account that owns the key.
func (k *Key) AccountID() string { return k.account.ID }

// AnswerOf rebuilds the answer from a debit's event, as a receipt gives it: the same as
// the first one but for the rate, which is of its moment.
func AnswerOf(account string, d *events.Debited) Answer {
	return Answer{
		Allowed: true, Code: events.OK, Account: account, Environment: d.Environment, Key: d.Key,
		Cost: d.Amount, Balance: &d.Balance.Available, Debit: d.ID, SecretAge: d.SecretAge,
	}
}

// AppendJSON appends the answer as its struct tags say, without reflection: it is the
// hot path's reply.
func (a *Answer) AppendJSON(b []byte) []byte {
	b = append(b, `{"allowed":`...)
	b = strconv.AppendBool(b, a.Allowed)
	b = appendMember(b, "code", string(a.Code))
	b = appendMember(b, "message", a.Message)
	b = appendMember(b, "account", a.Account)
	b = appendMember(b, "environment", a.Environment)
	b = appendMember(b, "key", a.Key)
	b = append(b, `,"cost":`...)
	b = strconv.AppendInt(b, a.Cost, 10)
	if a.Balance != nil {
		b = append(b, `,"balance":`...)
		b = strconv.AppendInt(b, *a.Balance, 10)
	}
	if a.Rate != nil {
		b = append(b, `,"rate":{"limit":`...)
		b = strconv.AppendInt(b, a.Rate.Limit, 10)
		b = append(b, `,"remaining":`...)
		b = strconv.AppendInt(b, a.Rate.Remaining, 10)
		b = append(b, `,"reset_ms":`...)
		b = strconv.AppendInt(b, a.Rate.ResetMS, 10)
		b = append(b, '}')
	}
	b = appendMember(b, "debit", a.Debit)
	b = appendMember(b, "secret_age", a.SecretAge)
	b = appendMember(b, "position", a.Position)
	if a.Replayed {
		b = append(b, `,"replayed":true`...)
	}
	return append(b, '}')
}

// appendMember appends a comma and a member; one that is empty is left out.
func appendMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return events.AppendString(b, value)
}
