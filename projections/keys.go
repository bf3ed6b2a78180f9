package projections

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// keyIDPrefix is what every key id begins with; a ULID follows.
const keyIDPrefix = "key_"

// keys is the view of keys, in one list for each account.
type keys struct {
	table[keyState]
}

// keyState is a key and its last use.
type keyState struct {
	*events.Key // the newest event's data: never written to
	lastUse     use
}

// use is when, from where and for what a key was used.
type use struct {
	at          events.Time
	ip, product string // "" when not known
}

// Use is a use of a key that stands in no commit: a request that cost nothing.
type Use struct {
	Key     string
	At      events.Time
	IP      string
	Product string
}

// Used takes uses in; the newest of each key counts, be it one of these or a debit. They
// stand outside of what the log says and of every digest of it: views that are made again
// must be told again. Keys that are not known are passed over.
func (v *Views) Used(list []Use) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range list {
		if r := v.keys.byID[list[i].Key]; r != nil && list[i].At > r.value.lastUse.at {
			r.value.lastUse = use{list[i].At, list[i].IP, list[i].Product}
		}
	}
}

type keyRecord = record[keyState]

// object returns the key as readers see it.
func (k keyState) object() *events.Key {
	key := *k.Key
	key.LastUsedAt, key.LastUsedIP, key.LastUsedProduct = k.lastUse.at, k.lastUse.ip, k.lastUse.product
	return &key
}

func newKeys() *keys { return &keys{newTable[keyState]()} }

// Name implements Projection.
func (v *keys) Name() string { return "keys" }

// Apply implements Projection.
func (v *keys) Apply(c *store.Commit) error {
	for e := range eventsOf(c) {
		switch d := e.Data.(type) {
		case *events.Key:
			v.place(d.Account, d.ID, d.CreatedAt).value.Key = d
		case *events.Debited:
			if err := v.paid(d.ID, d.Key, use{c.Time, d.IP, d.Product}); err != nil {
				return err
			}
		case *events.Held:
			if d.Capture == nil {
				continue
			}
			if err := v.paid(d.Capture.Debit, d.Key, use{at: c.Time}); err != nil {
				return err
			}
		}
	}
	return nil
}

// paid notes that a key, which may be none, paid for something.
func (v *keys) paid(debit, key string, u use) error {
	if key == "" {
		return nil
	}
	r := v.byID[key]
	if r == nil {
		return fmt.Errorf("debit %s was made with key %s, which was never created", debit, key)
	}
	if u.at >= r.value.lastUse.at { // a free use may have been told first
		r.value.lastUse = u
	}
	return nil
}

// keyResult answers key.get.
type keyResult struct {
	Key *events.Key `json:"key"`
}

// keysResult answers key.list.
type keysResult struct {
	Keys       []*events.Key `json:"keys"`
	NextCursor *string       `json:"next_cursor"`
}

// keyBody is the body of key.get.
type keyBody struct {
	Key string `json:"key"`
}

// keyListBody is the body of key.list.
type keyListBody struct {
	page
	Environment    string      `json:"environment"`
	Status         string      `json:"status"`
	ExpiringBefore events.Time `json:"expiring_before"` // those without an expiry are left out
	NamePrefix     string      `json:"name_prefix"`
	Permission     string      `json:"permission"` // that it names, or <product>:*
}

// wants says whether a key passes the filters.
func (b *keyListBody) wants(k *events.Key) bool {
	return (b.Environment == "" || k.Environment == b.Environment) &&
		(b.Status == "" || k.Status == b.Status) &&
		(b.ExpiringBefore == 0 || k.ExpiresAt != 0 && k.ExpiresAt < b.ExpiringBefore) &&
		strings.HasPrefix(k.Name, b.NamePrefix) &&
		(b.Permission == "" || slices.ContainsFunc(k.Permissions, func(p string) bool {
			product, all := strings.CutSuffix(p, "*")
			return p == b.Permission || all && strings.HasPrefix(b.Permission, product)
		}))
}

func (v *Views) getKey(account string, body *keyBody) (any, *events.Error) {
	if err := wantID("key", keyIDPrefix, body.Key); err != nil {
		return nil, err
	}
	if _, err := v.accounts.get(account); err != nil {
		return nil, err
	}
	r := v.keys.byID[body.Key]
	if r == nil || r.value.Account != account {
		return nil, events.Errorf(events.NotFound, "account %s has no key %s", account, body.Key)
	}
	return keyResult{r.value.object()}, nil
}

func (v *Views) listKeys(account string, body *keyListBody) (any, *events.Error) {
	if err := oneOf("environment", body.Environment, events.Test, events.Live); err != nil {
		return nil, err
	}
	if err := oneOf("status", body.Status, events.Active, events.Disabled, events.Revoked); err != nil {
		return nil, err
	}
	if product, access, _ := strings.Cut(body.Permission, ":"); body.Permission != "" &&
		(!events.ValidName(product) || access != events.Read && access != events.Write && access != "*") {
		return nil, events.Errorf(events.InvalidArgument, "permission must be <product>:read, <product>:write or <product>:*")
	}
	if _, err := v.accounts.get(account); err != nil {
		return nil, err
	}
	list, next, err := v.keys.list(account, &body.page, func(k keyState) bool { return body.wants(k.Key) })
	if err != nil {
		return nil, err
	}
	out := keysResult{Keys: make([]*events.Key, len(list)), NextCursor: next}
	for i := range list {
		out.Keys[i] = list[i].object()
	}
	return out, nil
}
