package writer

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// rememberer is the second model of the receipts: it remembers every id that was ever added,
// in plain maps and lists, and knows nothing of slots, rings and sweeps.
type rememberer struct {
	added map[accountID]receipt
	lists map[string][]accountID // of each account, oldest first
}

type accountID struct {
	account string
	id      ulid.ULID
}

// isKnown tells which of the ids that were ever added the store still knows, and checks
// what it says of each against the invariant: known with the place it was added with, or
// refused.
func (m *rememberer) isKnown(t *rapid.T, r *receipts, now events.Time) map[accountID]bool {
	known := map[accountID]bool{}
	for key, want := range m.added {
		got, ok := r.find(key.account, key.id)
		if !ok {
			if r.check(key.account, key.id, now) == nil {
				t.Fatalf("%v was added, is unknown and could be taken again", key)
			}
			continue
		}
		if known[key] = true; got != want {
			t.Fatalf("%v: got %+v, want %+v", key, got, want)
		}
	}
	if len(known) != int(r.held) {
		t.Fatalf("%d ids are known, %d receipts held", len(known), r.held)
	}
	return known
}

// forgotten checks that an account forgot its oldest only, and returns how many it holds.
func (m *rememberer) forgotten(t *rapid.T, known map[accountID]bool) map[string]int {
	counts := map[string]int{}
	for account, list := range m.lists {
		for i, key := range list {
			if known[key] {
				counts[account]++
			} else if i > 0 && known[list[i-1]] {
				t.Fatalf("%v was forgotten, and %v, older, was not", key, list[i-1])
			}
		}
	}
	return counts
}

// Whatever is added, when, and however little the budget is: an id that was ever added is
// known with its place, or refused. Only the account with the most loses receipts before
// their time. Now and then the store goes through its stored form, which changes nothing,
// or takes receipts in without an index.
func TestReceiptsAgainstANaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 40).Draw(t, "limit")
		r, m := newReceipts(limit), &rememberer{added: map[accountID]receipt{}, lists: map[string][]accountID{}}
		now, serial := events.At(start), uint64(0)
		before := map[string]int{}
		account := rapid.SampledFrom([]string{"a", "b", "c", "flood"})
		steps := []func(){
			func() { // a new id of any time is taken, if it may be
				name := account.Draw(t, "account")
				serial++
				id := idAt(now+events.Time(rapid.Int64Range(-25*3600_000, 61_000).Draw(t, "age")), serial)
				if r.check(name, id, now) != nil {
					return
				}
				key := accountID{name, id}
				var e store.Entry
				e.Account, e.CommandID = name, id
				binary.LittleEndian.PutUint64(e.InputHash[:], serial)
				m.added[key] = receipt{input: serial, sequence: serial / 3, entry: int32(serial % 3)}
				m.lists[name] = append(m.lists[name], key)
				r.add(&e, now, serial/3, int(serial%3))
				counts := m.forgotten(t, m.isKnown(t, r, now))
				if counts[name] == 0 {
					t.Fatalf("%v was forgotten at once", key)
				}
				counts[name]-- // the new one
				for other, had := range before {
					if counts[other] < had && 9*had < 8*highest(before) {
						t.Fatalf("%s had %d receipts and has %d, another had %d", other, had, counts[other], highest(before))
					}
				}
			},
			func() { now += events.Time(rapid.Int64Range(0, 120_000).Draw(t, "a little")) },
			func() { now += events.Time(rapid.Int64Range(0, 26*3600_000).Draw(t, "much")) },
			func() { r.forgetOld(now) },
			func() { r.forgetOld(now + 26*3600_000) }, // by a clock that is then set back
			func() { r = restored(t, r, limit) },
			func() { // a replay, which makes the index at its end
				r.dropIndex()
				for range rapid.IntRange(0, 60).Draw(t, "replayed") {
					serial++
					name, id := account.Draw(t, "account"), idAt(now, serial)
					var e store.Entry
					e.Account, e.CommandID = name, id
					binary.LittleEndian.PutUint64(e.InputHash[:], serial)
					key := accountID{name, id}
					m.added[key] = receipt{input: serial, sequence: serial / 3, entry: int32(serial % 3)}
					m.lists[name] = append(m.lists[name], key)
					r.add(&e, now, serial/3, int(serial%3))
				}
				r.forgetOld(now)
				r.makeIndex()
			},
		}
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			steps[max(rapid.IntRange(-8, len(steps)-1).Draw(t, "step"), 0)]()
			before = m.forgotten(t, m.isKnown(t, r, now))
			if int(r.held) > limit {
				t.Fatalf("%d receipts held, at most %d", r.held, limit)
			}
		}
	})
}

func highest(counts map[string]int) int {
	most := 0
	for _, n := range counts {
		most = max(most, n)
	}
	return most
}

// The account with the most is found, to within an eighth, whatever the accounts have and
// however they came to it.
func TestMostIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, counts := newHolders(), map[string]int{}
		account := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
		count := rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(0, 1<<30))
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			name := account.Draw(t, "account")
			counts[name] = count.Draw(t, "count")
			h.resize(h.enter(name), uint32(counts[name]))
			if most := highest(counts); most > 0 {
				if got := counts[h.at(h.most()).account]; 9*got < 8*most || most < 16 && got < most {
					t.Fatalf("found an account with %d receipts, another has %d", got, most)
				}
			}
		}
	})
}

// idAt makes a command id of a time that no other serial number has.
func idAt(at events.Time, serial uint64) ulid.ULID {
	var id ulid.ULID
	if err := id.SetTime(uint64(at)); err != nil {
		panic(fmt.Sprintf("time %d: %v", at, err))
	}
	binary.BigEndian.PutUint64(id[8:], serial)
	return id
}

// restored returns a store with what r has, by way of the stored form.
func restored(t rapidOrTest, r *receipts, limit int) *receipts {
	t.Helper()
	other := newReceipts(limit)
	for account := range r.accounts() {
		if err := other.restoreAccount(account, r.appendAccount(nil, account)); err != nil {
			t.Fatalf("%v", err)
		}
	}
	return other
}
