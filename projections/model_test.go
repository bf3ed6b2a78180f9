package projections

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

var seed = flag.Uint64("seed", 0, "seed of random histories; 0 takes one from the clock")

// model is a second, naive account of what the views should say: nothing is kept but
// what happened, and everything is worked out when it is asked for.
type model struct {
	h        *history
	random   *rand.Rand
	accounts []string
	created  map[string]events.Time
	types    map[string]int            // how many events of each there were
	keys     map[string][]events.Event // of each account: the newest event of each key
	spent    map[string]events.Time    // of each key
	purses   map[purseID]*purse
	debits   []*modelDebit
	holds    []*modelHold
}

func newModel(h *history, random *rand.Rand) *model {
	return &model{h: h, random: random, created: map[string]events.Time{}, types: map[string]int{}, keys: map[string][]events.Event{},
		spent: map[string]events.Time{}, purses: map[purseID]*purse{}}
}

func newRandom(t testing.TB) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d; again with -seed %d", s, s)
	return rand.New(rand.NewPCG(s, s))
}

// step is one thing that happens: one event, or two for a plan and for a transfer.
func (m *model) step() []events.Event {
	if len(m.accounts) == 0 || m.random.IntN(50) == 0 {
		account := fmt.Sprintf("account-%d", len(m.accounts))
		m.accounts = append(m.accounts, account)
		opened := m.h.account(account)
		m.created[account] = opened.Data.(*events.Account).CreatedAt
		return []events.Event{opened}
	}
	account := m.account()
	keys := m.keys[account]
	switch n := m.random.IntN(20); {
	case n == 0 || len(keys) == 0:
		_, e := m.h.key(account, []string{events.Test, events.Live}[m.random.IntN(2)])
		m.keys[account] = append(keys, e)
		return []events.Event{e}
	case n == 1:
		i := m.random.IntN(len(keys))
		keys[i] = changed(keys[i], "key.updated", func(k *events.Key) { k.Name = fmt.Sprint(m.random.IntN(1000)) })
		return []events.Event{keys[i]}
	}
	return m.money(account)
}

func (m *model) account() string { return m.accounts[m.random.IntN(len(m.accounts))] }

// anyKey is a key of an account, or none.
func (m *model) anyKey(account string) string {
	if m.random.IntN(2) == 0 {
		return ""
	}
	return m.keys[account][m.random.IntN(len(m.keys[account]))].Subject
}

// use notes that a key paid for something.
func (m *model) use(key string) {
	if key != "" {
		m.spent[key] = m.h.now + 1
	}
}

// commit appends a commit of n random steps, a millisecond or some hours after the last.
func (m *model) commit(n int) *store.Commit {
	if m.random.IntN(10) == 0 {
		m.h.now += events.Time(m.random.Int64N(60 * 3_600_000))
	}
	var list []events.Event
	for range n {
		list = append(list, m.step()...)
	}
	for _, e := range list {
		m.types[e.Type]++
		if d, ok := e.Data.(*events.Held); ok && d.Lapsed != nil {
			m.types["a lapsed hold"]++
		}
	}
	return m.h.commit(list...)
}

// check compares every answer with the model.
func (m *model) check(t *testing.T, v *Views) {
	t.Helper()
	for _, account := range m.accounts {
		for _, asset := range assets {
			got := into[struct{ Balance Balance }](t, v, "balance.get", account, fmt.Sprintf(`{"environment":"test","asset":%q}`, asset)).Balance
			if diff := gocmp.Diff(m.purse(account, asset).balance(m.h.now), got, gocmpopts); diff != "" {
				t.Errorf("%s: %s (-model +view):\n%s", account, asset, diff)
			}
		}
		m.checkKeys(t, v, account)
		m.checkHolds(t, v, account)
	}
}

// gocmpopts compare what stands in an answer: a balance has more in the view.
var gocmpopts = gocmp.FilterPath(func(p gocmp.Path) bool {
	field, ok := p.Last().(gocmp.StructField)
	return ok && (field.Name() == "spent" || field.Name() == "left")
}, gocmp.Ignore())

func (m *model) checkKeys(t *testing.T, v *Views, account string) {
	t.Helper()
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
	for _, name := range []string{"credit.granted", "credit.debited", "credit.refunded", "credit.adjusted", "credit.transferred",
		"credit.expired", "credit.replenished", "credit.exchanged", "hold.placed", "hold.captured", "hold.released", "hold.expired", "a lapsed hold"} {
		if m.types[name] == 0 {
			t.Errorf("%s never happened", name)
		}
	}
	m.check(t, live)
	rebuilt := follow(t, h.again())
	m.check(t, rebuilt)
	if live.Applied() != rebuilt.Applied() {
		t.Errorf("applied: live %+v, rebuilt %+v", live.Applied(), rebuilt.Applied())
	}
	sameViews(t, "rebuilt", live, rebuilt)
}

// sameViews compares all that two Views hold.
func sameViews(t *testing.T, name string, live, other *Views) {
	t.Helper()
	for view, pair := range map[string][2]any{
		"accounts":  {live.accounts, other.accounts},
		"keys":      {live.keys, other.keys},
		"balances":  {live.balances, other.balances},
		"holds":     {live.holds, other.holds},
		"endpoints": {live.endpoints, other.endpoints},
	} {
		if diff := gocmp.Diff(pair[0], pair[1], gocmpopts, cmpopts.EquateEmpty(), gocmp.AllowUnexported(accounts{}, keys{}, balances{}, holds{}, endpoints{}, balanceID{}, Balance{}, keyState{}, use{},
			table[*events.Account]{}, table[keyState]{}, table[*events.Hold]{}, table[*events.Endpoint]{},
			record[*events.Account]{}, record[keyState]{}, record[*events.Hold]{}, record[*events.Endpoint]{})); diff != "" {
			t.Errorf("%s (-live +%s):\n%s", view, name, diff)
		}
	}
}

// TestSavedViewsGoOn: views that are loaded account by account from what others saved, be
// it in any order, hold the same, save the same and go on the same.
func TestSavedViewsGoOn(t *testing.T) {
	random := newRandom(t)
	h := newHistory(t)
	m := newModel(h, random)
	for range 150 {
		m.commit(random.IntN(20))
	}
	live := follow(t, h.again())
	loaded := NewViews(h.again(), 0, quiet())
	for _, i := range random.Perm(len(m.accounts)) {
		account := m.accounts[i]
		for s := range live.slots {
			data := live.slots[s].Save(account, nil)
			if err := loaded.slots[s].Load(account, data); err != nil {
				t.Fatalf("load %s of %s: %v", live.slots[s].Name(), account, err)
			}
			if again := loaded.slots[s].Save(account, nil); !bytes.Equal(data, again) {
				t.Errorf("%s of %s saves otherwise after it was loaded:\n%x\n%x", live.slots[s].Name(), account, data, again)
			}
		}
	}
	sameViews(t, "loaded", live, loaded)
	for range 150 {
		c := m.commit(random.IntN(20))
		live.apply(c)
		loaded.apply(c)
	}
	sameViews(t, "loaded", live, loaded)
	m.check(t, loaded)
}
