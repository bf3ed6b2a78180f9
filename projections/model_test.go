package projections

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/keyledger/keyledger/events"
)

var seed = flag.Uint64("seed", 0, "seed of random histories; 0 takes one from the clock")

// model is a second, naive account of what the views should say: nothing is kept but
// what happened, and everything is worked out when it is asked for.
type model struct {
	h        *history
	random   *rand.Rand
	accounts []string
	keys     map[string][]events.Event // of each account: the newest event of each key
	grants   map[string][]Grant        // of each account, in the order they were made
	spent    map[string]events.Time    // of each key
}

func newModel(h *history, random *rand.Rand) *model {
	return &model{h: h, random: random, keys: map[string][]events.Event{}, grants: map[string][]Grant{}, spent: map[string]events.Time{}}
}

func newRandom(t testing.TB) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d; again with -seed %d", s, s)
	return rand.New(rand.NewPCG(s, s))
}

// burnOrder returns an account's grants with something left, as they are drawn.
func (m *model) burnOrder(account string) []Grant {
	left := slices.DeleteFunc(slices.Clone(m.grants[account]), func(g Grant) bool { return g.Remaining == 0 })
	slices.SortStableFunc(left, func(a, b Grant) int { return cmp.Compare(a.Priority, b.Priority) })
	return left
}

func (m *model) posted(account string) (sum int64) {
	for _, g := range m.grants[account] {
		sum += g.Remaining
	}
	return sum
}

// step is one random event.
func (m *model) step() events.Event {
	if len(m.accounts) == 0 || m.random.IntN(50) == 0 {
		account := fmt.Sprintf("account-%d", len(m.accounts))
		m.accounts = append(m.accounts, account)
		return m.h.account(account)
	}
	account := m.accounts[m.random.IntN(len(m.accounts))]
	keys := m.keys[account]
	switch n := m.random.IntN(10); {
	case n == 0 || len(keys) == 0:
		_, e := m.h.key(account, []string{events.Test, events.Live}[m.random.IntN(2)])
		m.keys[account] = append(keys, e)
		return e
	case n == 1:
		i := m.random.IntN(len(keys))
		keys[i] = changed(keys[i], "key.updated", func(k *events.Key) { k.Name = fmt.Sprint(m.random.IntN(1000)) })
		return keys[i]
	case n < 5:
		g := Grant{ID: m.h.id("grant_"), Remaining: 1 + m.random.Int64N(100), Priority: m.random.Int64N(3)}
		m.grants[account] = append(m.grants[account], g)
		return m.h.granted(account, g.ID, g.Remaining, g.Priority, m.posted(account))
	}
	return m.debit(account)
}

// debit takes a random part of what an account has, possibly nothing.
func (m *model) debit(account string) events.Event {
	owed := m.random.Int64N(m.posted(account) + 1)
	var drawn []events.Draw
	for _, g := range m.burnOrder(account) {
		if part := min(owed, g.Remaining); part > 0 {
			drawn = append(drawn, events.Draw{Grant: g.ID, Amount: part})
			owed -= part
		}
	}
	if len(drawn) == 0 {
		return m.h.account(account) // nothing to take
	}
	for _, d := range drawn {
		i := slices.IndexFunc(m.grants[account], func(g Grant) bool { return g.ID == d.Grant })
		m.grants[account][i].Remaining -= d.Amount
	}
	key := ""
	if keys := m.keys[account]; m.random.IntN(2) == 0 {
		key = keys[m.random.IntN(len(keys))].Subject
		m.spent[key] = m.h.now + 1
	}
	return m.h.debited(account, key, m.posted(account), drawn...)
}

// commit appends a commit of n random events.
func (m *model) commit(n int) {
	var list []events.Event
	for range n {
		list = append(list, m.step())
	}
	m.h.commit(list...)
}

// check compares every answer with the model.
func (m *model) check(t *testing.T, v *Views) {
	t.Helper()
	for _, account := range m.accounts {
		b := into[struct{ Balance Balance }](t, v, "balance.get", account, `{"environment":"test"}`).Balance
		if b.Posted != m.posted(account) || b.Available != b.Posted {
			t.Errorf("%s: posted %d, available %d, the model has %d", account, b.Posted, b.Available, m.posted(account))
		}
		if diff := gocmp.Diff(m.burnOrder(account), b.Grants, gocmp.Transformer("empty", func(g []Grant) []Grant {
			return append([]Grant{}, g...)
		})); diff != "" {
			t.Errorf("%s: grants (-model +view):\n%s", account, diff)
		}
		var got []events.Key
		for _, k := range into[struct{ Keys []events.Key }](t, v, "key.list", account, `{"limit":500}`).Keys {
			k.Metadata = nil // {} and none are the same
			got = append(got, k)
		}
		var want []events.Key
		for _, e := range m.keys[account] {
			k := *e.Data.(*events.Key)
			k.LastUsedAt = m.spent[k.ID]
			want = append(want, k)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s: keys (-model +view):\n%s", account, diff)
		}
	}
}

// TestViewsAgreeWithTheModel and so does a rebuild from the log: it gives the same views
// as folding what the writer made while it made it.
func TestViewsAgreeWithTheModel(t *testing.T) {
	random := newRandom(t)
	h := newHistory(t)
	m := newModel(h, random)
	live := NewViews(h.tail, 0, quiet())
	run(t, live.Run)
	for range 300 {
		m.commit(random.IntN(20))
	}
	wait(t, live, h.chain.Sequence)
	m.check(t, live)
	rebuilt := follow(t, h.again())
	m.check(t, rebuilt)
	if live.Applied() != rebuilt.Applied() {
		t.Errorf("applied: live %+v, rebuilt %+v", live.Applied(), rebuilt.Applied())
	}
	for name, pair := range map[string][2]any{
		"accounts":  {live.accounts, rebuilt.accounts},
		"keys":      {live.keys, rebuilt.keys},
		"balances":  {live.balances, rebuilt.balances},
		"endpoints": {live.endpoints, rebuilt.endpoints},
	} {
		if diff := gocmp.Diff(pair[0], pair[1], gocmp.AllowUnexported(accounts{}, keys{}, balances{}, endpoints{}, balanceID{}, keyState{}, use{},
			table[*events.Account]{}, table[keyState]{}, table[*events.Endpoint]{},
			record[*events.Account]{}, record[keyState]{}, record[*events.Endpoint]{})); diff != "" {
			t.Errorf("%s (-live +rebuilt):\n%s", name, diff)
		}
	}
}
