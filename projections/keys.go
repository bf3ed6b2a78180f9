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

// usedTurn is how many uses are taken in under one lock: an account may have to be loaded
// for each.
const usedTurn = 64

// keys is the view of keys, in one list for each account.
type keys struct {
	table[keyState]
}

// keyState is a key and its last uses.
type keyState struct {
	*events.Key      // the newest event's data: never written to
	paid        use  // the last that a debit or a capture tells of
	free        *use // the last that stands in no commit, nil for none
}

// use is when, from where and for what a key was used.
type use struct {
	at          events.Time
	ip, product string // "" when not known
}

// Use is a use of a key that stands in no commit: a request that cost nothing.
type Use struct {
	Account string
	Key     string
	At      events.Time
	IP      string
	Product string
}

// Used takes uses in; the newest of each key counts, be it one of these or a debit. They
// stand outside of what the log says and of every digest of it: views that are made again
// must be told again. Keys that are not known are passed over.
func (v *Views) Used(list []Use) {
	for some := range slices.Chunk(list, usedTurn) {
		v.use(some)
	}
}

func (v *Views) use(list []Use) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range list {
		v.takeIn(list[i].Account)
		if r := v.keys.byID[list[i].Key]; r != nil && list[i].At > r.value.lastUse().at {
			r.value.free = &use{list[i].At, list[i].IP, list[i].Product}
		}
	}
}

// inherit hands the uses that stand in no commit on from a view of keys that another took
// the place of.
func (v *Views) inherit(old Projection) {
	list := make([]Use, 0, usedTurn)
	for id, r := range old.(*keys).byID {
		if free := r.value.free; free != nil {
			list = append(list, Use{r.value.Account, id, free.at, free.ip, free.product})
		}
		if len(list) == usedTurn {
			v.Used(list)
			list = list[:0]
		}
	}
	v.Used(list)
}

type keyRecord = record[keyState]

// lastUse is the newer of the uses; a debit's, where both are of one moment.
func (k *keyState) lastUse() use {
	if k.free != nil && k.free.at > k.paid.at {
		return *k.free
	}
	return k.paid
}

// object returns the key as readers see it.
func (k *keyState) object() *events.Key {
	key, last := *k.Key, k.lastUse()
	key.LastUsedAt, key.LastUsedIP, key.LastUsedProduct = last.at, last.ip, last.product
	return &key
}

func newKeys() *keys { return &keys{newTable[keyState]()} }

// Name implements Projection.
func (v *keys) Name() string { return ViewKeys }

// Version implements Projection.
func (v *keys) Version() uint64 { return 1 }

// Apply implements Projection.
func (v *keys) Apply(c *store.Commit, _ int, e *events.Event) error {
	switch d := e.Data.(type) {
	case *events.Key:
		v.place(d.Account, d.ID, d.CreatedAt).value.Key = d
	case *events.Debited:
		return v.pay(d.ID, d.Key, use{c.Time, d.IP, d.Product})
	case *events.Held:
		if d.Capture != nil {
			return v.pay(d.Capture.Debit, d.Key, use{at: c.Time})
		}
	}
	return nil
}

// pay notes that a key, which may be none, paid for something.
func (v *keys) pay(debit, key string, u use) error {
	if key == "" {
		return nil
	}
	r := v.byID[key]
	if r == nil {
		return fmt.Errorf("debit %s was made with key %s, which was never created", debit, key)
	}
	r.value.paid = u
	return nil
}

// Save implements Projection. Uses that stand in no commit are not saved.
func (v *keys) Save(account string, b []byte) []byte {
	w := events.NewWriter(b)
	for _, r := range v.lists[account] {
		w.Nested(r.value.Key)
		r.value.paid.code(w)
	}
	return w.Bytes()
}

// Load implements Projection.
func (v *keys) Load(_ string, data []byte) error {
	return saved(data, func(r *events.Coder) error {
		k := keyState{Key: &events.Key{}}
		r.Nested(k.Key)
		k.paid.code(r)
		v.place(k.Account, k.ID, k.CreatedAt).value = k
		return nil
	})
}

func (u *use) code(c *events.Coder) {
	c.Time(&u.at)
	if u.at != 0 {
		c.String(&u.ip)
		c.String(&u.product)
	}
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
	moment
	Key string `json:"key"`
}

// keyListBody is the body of key.list.
type keyListBody struct {
	page
	Environment    string      `json:"environment"`
	Status         string      `json:"status"`
	ExpiringBefore events.Time `json:"expiring_before"` // those without an expiry are left out
	NamePrefix     string      `json:"name_prefix"`
	Permission     string      `json:"permission"`   // that it names, or <product>:*
	UsedSince      events.Time `json:"used_since"`   // last used then or later
	UnusedSince    events.Time `json:"unused_since"` // last used before, or never
}

// wants says whether a key passes the filters.
func (b *keyListBody) wants(k *keyState) bool {
	used := k.lastUse().at
	return (b.UsedSince == 0 || used >= b.UsedSince) &&
		(b.UnusedSince == 0 || used < b.UnusedSince) &&
		(b.Environment == "" || k.Environment == b.Environment) &&
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
	list, next, err := v.keys.list(account, &body.page, func(k keyState) bool { return body.wants(&k) })
	if err != nil {
		return nil, err
	}
	out := keysResult{Keys: make([]*events.Key, len(list)), NextCursor: next}
	for i := range list {
		out.Keys[i] = list[i].object()
	}
	return out, nil
}
