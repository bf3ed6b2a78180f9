package ledger

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// due is one thing that time alone brings about.
type due struct {
	at  events.Time
	key ulid.ULID // that expires then
}

// dues is a heap, the earliest on top. An entry that is no longer true (the expiry was
// moved, the key revoked) stays until its time and is passed over.
type dues []due

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].at < d[j].at }
func (d dues) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }

// Push and Pop implement heap.Interface.
func (d *dues) Push(x any) { *d = append(*d, x.(due)) }

func (d *dues) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	*d = (*d)[:last]
	return x
}

// Due takes the next event that time alone brings about at now, false where there is
// none. Whether a key has expired is decided by its expiry, exactly, and not by this: the
// event tells the others. The caller must commit and Evolve what it took before it asks
// again, or throw the state away; a state that was folded again gives it again.
func (st *State) Due(now events.Time) (events.Event, bool) {
	for len(st.dues) > 0 && st.dues[0].at <= now {
		d := heap.Pop(&st.dues).(due)
		k := st.keys[d.key]
		if k == nil || k.expiresAt != d.at {
			continue
		}
		if w := k.words.Value(); !w.expired && w.status != events.Revoked {
			return events.Event{Type: "key.expired", Account: k.account.ID, Environment: w.environment, Subject: k.id, Data: k.data()}, true
		}
	}
	return events.Event{}, false
}

// Undue gives back an event that Due gave and that could not be committed.
func (st *State) Undue(e *events.Event) {
	if id, err := ulid.ParseStrict(strings.TrimPrefix(e.Subject, keyIDPrefix)); err == nil && st.keys[id] != nil {
		st.setDue(id, st.keys[id])
	}
}

// setDue notes when a key expires. Entries that are no longer true are thrown out once
// they are more than the keys there are, so that expiries which are moved again and again
// take no memory.
func (st *State) setDue(id ulid.ULID, k *Key) {
	if w := k.words.Value(); k.expiresAt != 0 && !w.expired && w.status != events.Revoked {
		heap.Push(&st.dues, due{at: k.expiresAt, key: id})
	}
	if len(st.dues) > 2*len(st.keys)+64 {
		st.dues = slices.DeleteFunc(st.dues, func(d due) bool { return st.keys[d.key] == nil || st.keys[d.key].expiresAt != d.at })
		slices.SortFunc(st.dues, func(a, b due) int { return cmp.Or(cmp.Compare(a.at, b.at), a.key.Compare(b.key)) })
		st.dues = slices.Compact(st.dues) // sorted, it is a heap
	}
}
