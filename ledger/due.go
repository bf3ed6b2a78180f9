package ledger

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// due is one thing of an account that time alone brings about.
type due struct {
	at    events.Time
	kind  dueKind
	id    ulid.ULID                // of the key, grant or hold
	place unique.Handle[balanceID] // of the grant or allowance
}

type dueKind uint8

const (
	dueKey       dueKind = iota // a notice, an expiry or the end of a rotation's grace
	dueGrant                    // its expiry
	dueHold                     // its expiry
	dueAllowance                // the end of the period it was spent in
)

// dues is a heap, the earliest on top; what falls due at one time has an order of its own,
// so that a state out of a snapshot does the same as the one it was made of. An entry that
// is no longer true (the expiry was moved, the hold released) stays until its time and is
// passed over.
type dues []due

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return compareDues(d[i], d[j]) < 0 }
func (d dues) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }

// Push and Pop implement heap.Interface.
func (d *dues) Push(x any) { *d = append(*d, x.(due)) }

func (d *dues) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	*d = (*d)[:last]
	return x
}

// turn is when an account has something due. One that is not the account's earliest any
// more is passed over.
type turn struct {
	at      events.Time
	account *Account
}

type turns []turn

func (t turns) Len() int      { return len(t) }
func (t turns) Swap(i, j int) { t[i], t[j] = t[j], t[i] }

// Less implements heap.Interface.
func (t turns) Less(i, j int) bool {
	return t[i].at < t[j].at || t[i].at == t[j].at && t[i].account.ID < t[j].account.ID
}

// Push and Pop implement heap.Interface.
func (t *turns) Push(x any) { *t = append(*t, x.(turn)) }

func (t *turns) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	(*t)[last] = turn{}
	*t = (*t)[:last]
	return x
}

// Due returns the next events that time alone brings about at now, of whichever account,
// none where nothing is due. They stay due until they are folded: the caller commits and
// evolves them before it asks again.
func (st *State) Due(now events.Time) []events.Event {
	for len(st.turns) > 0 && st.turns[0].at <= now {
		t := st.turns[0]
		if t.account.due == t.at {
			if list := st.dueOf(t.account, now); list != nil {
				return list
			}
		}
		if t.account.due != t.at {
			heap.Pop(&st.turns)
		}
	}
	return nil
}

// DueOf is Due for one account. What is due of an account comes before each of its
// commands: a grant that expires at now pays for nothing at now.
func (st *State) DueOf(account string, now events.Time) []events.Event {
	a := st.accounts[account]
	if a == nil || a.due == 0 || a.due > now {
		return nil
	}
	return st.dueOf(a, now)
}

// dueOf throws out what is no longer true, up to the first that is.
func (st *State) dueOf(a *Account, now events.Time) []events.Event {
	list := &a.extra().dues
	for len(*list) > 0 && (*list)[0].at <= now {
		if d := (*list)[0]; st.isDue(a, &d) {
			return st.happens(a, &d, now)
		}
		heap.Pop(list)
	}
	a.due = 0
	if len(*list) > 0 {
		a.due = (*list)[0].at
		heap.Push(&st.turns, turn{a.due, a})
	}
	return nil
}

// setDue notes that something of an account falls due.
func (st *State) setDue(a *Account, d due) {
	list := &a.extra().dues
	heap.Push(list, d)
	if a.due == 0 || d.at < a.due {
		a.due = d.at
		heap.Push(&st.turns, turn{d.at, a})
	}
	if len(*list) > 2*st.mayBeDue(a)+16 {
		*list = slices.DeleteFunc(*list, func(d due) bool { return !st.isDue(a, &d) && a.forgetDue(&d) })
		slices.SortFunc(*list, compareDues)
		*list = slices.Compact(*list) // sorted, it is a heap
	}
	if len(st.turns) > 2*len(st.accounts)+64 {
		st.turns = slices.DeleteFunc(st.turns, func(t turn) bool { return t.account.due != t.at })
		slices.SortFunc(st.turns, func(a, b turn) int {
			return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.account.ID, b.account.ID))
		})
		st.turns = slices.Compact(st.turns) // sorted, it is a heap
	}
}

func compareDues(a, b due) int {
	switch {
	case a.at != b.at:
		return int(max(-1, min(1, a.at-b.at)))
	case a.kind != b.kind:
		return int(a.kind) - int(b.kind)
	case a.id != b.id:
		return a.id.Compare(b.id)
	case a.place == b.place: // a key and a hold have none
		return 0
	}
	return a.place.Value().compare(b.place.Value())
}

// forgetDue makes an entry that is thrown out before its time one that may be noted again:
// the allowance may yet be spent from. It returns true.
func (a *Account) forgetDue(d *due) bool {
	if d.kind != dueAllowance {
		return true
	}
	if al := a.balance(d.place.Value()).allowance; al != nil && al.due == d.at {
		al.due = 0
	}
	return true
}

// mayBeDue is how many things of an account can be due at most: what is more is not true
// any more.
func (st *State) mayBeDue(a *Account) int {
	n := len(a.keys) + len(a.extra().holds)
	for i := range a.balances {
		n += len(a.balances[i].grants) + 1
	}
	return n
}

// isDue says whether an entry is still true.
func (st *State) isDue(a *Account, d *due) bool {
	switch d.kind {
	case dueKey:
		k := st.keys[d.id]
		return k != nil && k.next(st.notices()) == d.at
	case dueHold:
		h := a.hold(d.id)
		return h != nil && h.expiresAt == d.at
	}
	i, found := a.findBalance(d.place.Value())
	if !found {
		return false
	}
	b := &a.balances[i]
	if d.kind == dueAllowance {
		return b.allowance != nil && b.allowance.until == d.at && b.allowance.comesAgain() && a.Status != events.Closed
	}
	return slices.ContainsFunc(b.grants, func(g grant) bool { return g.id == d.id && g.expiresAt == d.at })
}

// happens is what an entry that is true brings about.
func (st *State) happens(a *Account, d *due, now events.Time) []events.Event {
	in := &Input{State: st, AccountID: a.ID, Account: a, Time: now}
	switch d.kind {
	case dueKey:
		return st.keys[d.id].happens(in, st.notices())
	case dueHold:
		return a.hold(d.id).expire(in)
	case dueGrant:
		return in.expireGrant(d)
	}
	return in.replenish(d.place.Value())
}

func (st *State) notices() []time.Duration {
	if st.Notices != nil {
		return st.Notices
	}
	return DefaultNotices
}

// setAllowanceDue notes that an allowance out of which something was spent comes again.
func (st *State) setAllowanceDue(a *Account, b *balance) {
	if al := b.allowance; al != nil && al.comesAgain() && al.due != al.until {
		al.due = al.until
		st.setDue(a, due{at: al.until, kind: dueAllowance, place: b.id})
	}
}

// setAllDue notes what of a restored account falls due.
func (st *State) setAllDue(a *Account) {
	for _, k := range a.keys {
		st.setKeyDue(k)
	}
	for i := range a.balances {
		b := &a.balances[i]
		for _, g := range b.grants {
			if g.expiresAt != 0 {
				st.setDue(a, due{at: g.expiresAt, kind: dueGrant, id: g.id, place: b.id})
			}
		}
		st.setAllowanceDue(a, b)
	}
	if a.more != nil {
		for _, h := range a.more.holds {
			st.setDue(a, due{at: h.expiresAt, kind: dueHold, id: h.id})
		}
	}
}

// setKeyDue notes the next thing that time brings about of a key.
func (st *State) setKeyDue(k *Key) {
	id, err := ulid.ParseStrict(strings.TrimPrefix(k.id, keyIDPrefix))
	if at := k.next(st.notices()); at != 0 && err == nil {
		st.setDue(k.account, due{at: at, kind: dueKey, id: id})
	}
}
