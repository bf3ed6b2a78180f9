package ledger

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// restored returns a state made of st's sections, in the order of opening or backwards.
func restored(t fataler, st *State, backwards bool) *State {
	out := NewState()
	for i := range st.Accounts() {
		if backwards {
			i = st.Accounts() - 1 - i
		}
		id, err := out.RestoreAccount(st.AppendAccount(nil, i))
		if err != nil || id != st.AccountAt(i) {
			t.Fatalf("restore account %s: %s, %v", st.AccountAt(i), id, err)
		}
	}
	return out
}

// A state out of sections is the state they were made of, to the last decision.
func TestSectionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := append(opened(), steps(t, 3, uint64(rapid.IntRange(0, 60).Draw(t, "before")), opened())...)
		live, folded := NewState(), NewState()
		for _, s := range first {
			list := s.due(live)
			decided, _ := s.decide(t, live)
			for i := range decided {
				live.Evolve(&decided[i])
			}
			checkBalances(t, live)
			list = append(list, decided...)
			list = decoded(t, list)
			for i := range list {
				folded.Evolve(&list[i])
			}
		}
		again := restored(t, live, rapid.Bool().Draw(t, "backwards"))
		if live.Digest() != folded.Digest() || live.Digest() != again.Digest() {
			t.Fatalf("digests differ: live %x, folded %x, restored %x", live.Digest(), folded.Digest(), again.Digest())
		}
		if live.Keys() != again.Keys() || live.Accounts() != again.Accounts() {
			t.Fatalf("%d keys and %d accounts, want %d and %d", again.Keys(), again.Accounts(), live.Keys(), live.Accounts())
		}
		for _, s := range steps(t, uint64(len(first))+1, uint64(rapid.IntRange(1, 30).Draw(t, "after")), first) {
			want := s.do(t, live)
			if got := s.do(t, again); got != want {
				t.Fatalf("%s %s\nrestored: %q\nlive:     %q", s.verb, s.body, got, want)
			}
		}
		if live.Digest() != again.Digest() {
			t.Fatalf("digests differ after the same commands")
		}
	})
}

// sample returns a state with something of everything, the same each time.
func sample(t fataler) *State {
	st := NewState()
	key := "key_" + idOf(3).String()
	for _, s := range append(opened(),
		step{"key.create", "acme", `{"environment":"test","name":"k","kind":"restricted","permissions":["cards:*"],"ip_allowlist":["10.0.0.0/8"]}`, 3},
		step{"key.create", "acme", `{"environment":"test","name":"old"}`, 4},
		step{"key.revoke", "acme", `{"key":"key_` + idOf(4).String() + `"}`, 5},
		step{"account.set_plan", "acme", `{"plan":{"name":"p","price":{"per":{"cards:write":3}},"rate":{"per_second":5}}}`, 6},
		step{"credit.grant", "acme", `{"environment":"test","asset":"credits","amount":50}`, 7},
		step{"credit.debit", "acme", `{"environment":"test","asset":"credits","amount":50,"key":"` + key + `"}`, 8},
		step{"credit.grant", "acme", `{"environment":"test","asset":"credits","amount":100,"priority":3}`, 9},
		step{"credit.grant", "acme", `{"environment":"test","asset":"credits","amount":10,"priority":-2}`, 10},
		step{"credit.grant", "acme", `{"environment":"live","asset":"gold","amount":10}`, 11},
		step{"endpoint.register", "acme", `{"environment":"test","url":"https://example.com/","events":["*"]}`, 12},
	) {
		if list, text := s.decide(t, st); len(list) == 0 {
			t.Fatalf("%s %s: %s", s.verb, s.body, text)
		}
		s.do(t, st)
	}
	return st
}

// Version 2 of the section stays what it is: snapshots of it are stored. A change that
// makes this red needs a new version, unless it only adds a member to what stands behind its
// length: an older section is read without it.
func TestSectionStaysTheSame(t *testing.T) {
	const want = "256b7282a00224c38f6130440a0ee12b066c21b2dcd236455e952a6efb16e382"
	if got := fmt.Sprintf("%x", sample(t).Digest()); got != want {
		t.Errorf("digest of the sample is %s, want %s", got, want)
	}
}

// The digest tells each single thing that decisions rest on.
func TestDigestTellsEachThing(t *testing.T) {
	changes := map[string]func(a *Account){
		"name":            func(a *Account) { a.Name += "x" },
		"status":          func(a *Account) { a.Status = events.Suspended },
		"products":        func(a *Account) { a.Environments.Test.Products = events.Products{} },
		"plan":            func(a *Account) { a.Plan.Price.Per["cards:write"]++ },
		"posted":          func(a *Account) { a.balances[1].posted++ },
		"held":            func(a *Account) { a.balances[1].held++ },
		"grant remaining": func(a *Account) { a.balances[1].grants[0].remaining++ },
		"allowance":       func(a *Account) { a.balances[1].allowance = &allowance{amount: 2, until: 1} },
		"what was spent":  func(a *Account) { a.balances[1].allowance = &allowance{amount: 2, spent: 1, until: 1} },
		"its period":      func(a *Account) { a.balances[1].allowance = &allowance{amount: 2, spent: 1, until: 2} },
		"a former one":    func(a *Account) { a.balances[1].allowance = &allowance{spent: 1, until: 2} },
		"threshold":       func(a *Account) { a.Thresholds = []events.Threshold{{Asset: "credits", Amount: 1}} },
		"grant priority":  func(a *Account) { a.balances[1].grants[0].priority++ },
		"burn order":      func(a *Account) { g := a.balances[1].grants; g[0], g[1] = g[1], g[0] },
		"grant id":        func(a *Account) { a.grantIDs = slices.Delete(a.grantIDs, 0, 1) },
		"key gone":        func(a *Account) { a.keys = a.keys[:1] },
		"endpoint":        func(a *Account) { clear(a.endpoints()) },
	}
	keys := map[string]func(d *events.Key){
		"key status":      func(d *events.Key) { d.Status = events.Disabled },
		"key environment": func(d *events.Key) { d.Environment = events.Live },
		"key allowlist":   func(d *events.Key) { d.IPAllowlist = []string{"10.0.0.0/9"} },
		"key permissions": func(d *events.Key) { d.Permissions = nil },
		"key read-only":   func(d *events.Key) { d.ReadOnly = true },
		"key expiry":      func(d *events.Key) { d.ExpiresAt = 1 },
		"key hash":        func(d *events.Key) { d.Hash[31]++ },
	}
	changes["key expired"] = func(a *Account) { a.keys[0].set(a.keys[0].data(), true) }
	for name, change := range keys {
		changes[name] = func(a *Account) {
			d := a.keys[0].data()
			change(d)
			a.keys[0].set(d, false)
		}
	}
	seen := map[[32]byte]string{sample(t).Digest(): "nothing"}
	for name, change := range changes {
		st := sample(t)
		change(st.accounts["acme"])
		if other, ok := seen[st.Digest()]; ok {
			t.Errorf("the digest after a change of %s is that of a change of %s", name, other)
		}
		seen[st.Digest()] = name
	}
	buckets := sample(t)
	buckets.accounts["acme"].keys[0].Take(1)
	if seen[buckets.Digest()] != "nothing" {
		t.Error("the digest tells the rate bucket, which is volatile")
	}
}

// So does it with holds.
func TestDigestTellsOfHolds(t *testing.T) {
	held := func() *State {
		st := sample(t)
		step{"hold.place", "acme", `{"environment":"test","asset":"credits","amount":50,"expires_in":"1h","key":"key_` + idOf(3).String() + `","reference":"r"}`, 13}.do(t, st)
		return st
	}
	seen := map[[32]byte]string{held().Digest(): "nothing"}
	for name, change := range map[string]func(h *hold){
		"amount": func(h *hold) { h.amount++ }, "captured": func(h *hold) { h.captured++ }, "key": func(h *hold) { h.key = "" },
		"reference": func(h *hold) { h.reference = "" }, "expiry": func(h *hold) { h.expiresAt++ }, "creation": func(h *hold) { h.createdAt++ },
		"place": func(h *hold) { h.place.asset = "gold" }, "id": func(h *hold) { h.id[15]++ }, "reserved": func(h *hold) { h.reserved = h.reserved[1:] },
	} {
		st := held()
		change(st.accounts["acme"].more.holds[0])
		if other, ok := seen[st.Digest()]; ok {
			t.Errorf("the digest after a change of %s is that of a change of %s", name, other)
		}
		seen[st.Digest()] = name
	}
	st := held()
	if again := restored(t, st, false); again.Digest() != st.Digest() {
		t.Error("a section with a hold does not come out the same")
	}
}

// Damaged sections are refused and leave no trace.
func TestRestoreRefuses(t *testing.T) {
	st := sample(t)
	section := st.AppendAccount(nil, 0)
	refused := func(what string, into *State, b []byte) {
		t.Helper()
		before, keys := into.Digest(), into.Keys()
		if id, err := into.RestoreAccount(b); err == nil {
			t.Errorf("%s: restored %q", what, id)
		}
		if into.Digest() != before || into.Keys() != keys {
			t.Errorf("%s: the state changed", what)
		}
	}
	refused("an account that is there", st, section)
	for n := range section {
		refused("cut short", NewState(), section[:n])
	}
	refused("a byte too many", NewState(), append(slices.Clone(section), 0))
	refused("another version", NewState(), append([]byte{sectionVersion + 1}, section[1:]...))
	taken := NewState()
	bolt := sample(t)
	for i, k := range st.accounts["acme"].keys {
		k.account = bolt.accounts["bolt"]
		taken.keys[idOf(uint64(3+i))] = k
	}
	refused("a key that another account has", taken, section)
}

func FuzzRestoreAccount(f *testing.F) {
	st := sample(f)
	for i := range st.Accounts() {
		f.Add(st.AppendAccount(nil, i))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		st := NewState()
		empty := st.Digest()
		id, err := st.RestoreAccount(b)
		if err != nil {
			if st.Digest() != empty || st.Accounts()+st.Keys() != 0 {
				t.Fatalf("refused, and the state changed")
			}
			return
		}
		if got := st.AppendAccount(nil, 0); string(got) != string(b) || st.AccountAt(0) != id {
			t.Fatalf("restored %s out of %x, which is stored as %x", id, b, got)
		}
		for _, k := range st.accounts[id].keys {
			a := &Authorize{Product: "cards", Access: events.Write}
			a.Decide(st, k, idOf(1), 1_900_000_000_000)
			k.Take(1_900_000_000_000)
			a.Decide(st, k, idOf(2), 1_900_000_000_000)
		}
	})
}
