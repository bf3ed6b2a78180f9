package ledger

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

func nameOf(n uint64) (name signatureName) {
	binary.BigEndian.PutUint64(name[:], n)
	return name
}

// What is remembered is what a plain list would hold that forgets nothing: every signature
// whose time the ledger still takes. And it stays small.
func TestSpentAgainstAPlainList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s spent
		all := map[signature]bool{}
		now := events.Time(1_800_000_000_000)
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += events.Time(rapid.SampledFrom([]int64{0, 1, 9_999, 10_000, 299_999, 300_000, 700_000}).Draw(t, "wait"))
			sig := signature{name: nameOf(uint64(i)), at: now + events.Time(rapid.Int64Range(-300_000, 300_000).Draw(t, "age"))}
			if s.has(&sig) {
				t.Fatalf("a signature that never paid is known")
			}
			s.add(sig.name, sig.at, now)
			all[sig] = true
			count := 0
			for old := range all {
				live := old.at >= now-SignatureWindow
				if live && !s.has(&old) {
					t.Fatalf("a signature of %d is forgotten at %d", old.at, now)
				}
				if s.has(&old) {
					count++
				}
				if !live && s.has(&old) && old.at+SignatureWindow+spentSlot < now {
					t.Fatalf("a signature of %d is still there at %d", old.at, now)
				}
			}
			if s.count != count || len(s.slots) > int(2*SignatureWindow/spentSlot)+2 {
				t.Fatalf("count %d in %d slots, want %d", s.count, len(s.slots), count)
			}
		}
	})
}

// The limit counts what is within the window, at the edge.
func TestSpentIsLimited(t *testing.T) {
	now := events.Time(1_800_000_000_000)
	var s spent
	for i := range uint64(maxSpent) {
		if s.full(now) {
			t.Fatalf("full after %d", i)
		}
		s.add(nameOf(i), now, now)
	}
	last := now + SignatureWindow + spentSlot // of the slot
	for at, want := range map[events.Time]bool{now: true, last - 1: true, last: false} {
		if s.full(at) != want {
			t.Errorf("full at %+d ms: %v", at-now, !want)
		}
	}
	s.add(nameOf(maxSpent), last, last)
	if s.count != 1 {
		t.Errorf("%d are remembered, want the last one", s.count)
	}
}

// A key that has spent so many pays no more, and is told; what is free goes on.
func TestSpentRefuses(t *testing.T) {
	st := NewState()
	list := append(opened(),
		step{"key.create", "acme", `{"environment":"test","name":"s","public_key":"` + publicOf("acme") + `"}`, 3},
		step{"credit.grant", "acme", `{"environment":"test","asset":"credits","amount":1000}`, 4})
	for _, s := range list {
		s.do(t, st)
	}
	ask := step{"authorize", "acme", "", 5}
	k := st.keys[idOf(3)]
	k.spent = &spent{}
	for i := range uint64(maxSpent) {
		k.spent.add(nameOf(i), ask.time(), ask.time())
	}
	for cost, want := range map[int]events.Code{1: events.RateLimited, 0: events.OK} {
		a := new(Authorize)
		body := fmt.Sprintf(`{%s,"cost":%d}`, signed("acme", 3, ask.time()), cost)
		if err := events.DecodeStrict([]byte(body), a); err != nil {
			t.Fatal(err)
		}
		if err := a.Validate(); err != nil {
			t.Fatal(err)
		}
		a.Verify(k.PublicKey())
		answer, got := a.Decide(st, a.Find(st, ask.time()), idOf(5), ask.time())
		if answer.Code != want || len(got) > 0 || (answer.Message == "") != (want == events.OK) {
			t.Errorf("cost %d: %+v and %d events, want %s", cost, answer, len(got), want)
		}
	}
}

// identities is a state with imported and signing keys, the same each time.
func identities(t fataler) *State {
	st := NewState()
	for _, s := range append(opened(),
		step{"key.create", "acme", `{"environment":"test","name":"s","public_key":"` + publicOf("acme") + `"}`, 3},
		step{"credit.grant", "acme", `{"environment":"test","asset":"credits","amount":1000}`, 4},
		step{"key.import", "acme", `{"environment":"test","name":"i","sha256":"` + hashOf(5) + `","prefix":"sk_"}`, 5},
		step{"authorize", "acme", `{` + signed("acme", 3, 1_800_000_000_005) + `}`, 6},
		step{"authorize", "acme", `{` + signed("acme", 3, 1_800_000_000_007) + `}`, 7},
		step{"authorize", "acme", `{` + signed("acme", 3, 1_800_000_200_000) + `}`, 8},
	) {
		if list, text := s.decide(t, st); len(list) == 0 {
			t.Fatalf("%s %s: %s", s.verb, s.body, text)
		}
		s.do(t, st)
	}
	return st
}

// The section holds what makes a secret and a signature known, and every bit of it counts.
func TestSectionHoldsIdentities(t *testing.T) {
	const want = "d6a14ea51f1133eb562eeb282501a1a085d98e2a52fc70e17b60205b4b5053dd"
	st := identities(t)
	if got := fmt.Sprintf("%x", st.Digest()); got != want {
		t.Errorf("digest is %s, want %s", got, want)
	}
	again := restored(t, st, true)
	for _, s := range []step{
		{"authorize", "acme", `{"secret":"` + foreignOf(5) + `"}`, 10},
		{"authorize", "acme", `{` + signed("acme", 3, 1_800_000_000_007) + `}`, 11},
		{"authorize", "acme", `{` + signed("acme", 3, 1_800_000_000_011) + `}`, 12},
	} {
		if want, got := s.do(t, st), s.do(t, again); got != want {
			t.Errorf("%s\nrestored: %q\nlive:     %q", s.body, got, want)
		}
	}
	section := st.AppendAccount(nil, 0)
	for n := range section {
		if _, err := NewState().RestoreAccount(section[:n]); err == nil {
			t.Errorf("restored a section cut at %d", n)
		}
	}
	for name, change := range map[string]func(k, imported *Key){
		"a signature":     func(k, _ *Key) { k.spent.add(nameOf(1), 1_800_000_000_000, 1_800_000_000_000) },
		"its time":        func(k, _ *Key) { k.spent.slots[0].at-- },
		"public key":      func(k, _ *Key) { k.more.publicKey[0]++ },
		"imported secret": func(_, k *Key) { k.more.foreign[0]++ },
	} {
		other := identities(t)
		change(other.keys[idOf(3)], other.keys[idOf(5)])
		if other.Digest() == identities(t).Digest() {
			t.Errorf("the digest does not tell %s", name)
		}
	}
	twice := NewState()
	twice.foreign[*st.keys[idOf(5)].more.foreign] = &Key{}
	if _, err := twice.RestoreAccount(section); err == nil {
		t.Error("restored an imported secret that is there already")
	}
}

// A secret stays one key's when the key gets a new one, and over a restart.
func TestImportedSecretIsNeverFree(t *testing.T) {
	st := identities(t)
	k := st.keys[idOf(5)].data()
	k.Hash[0]++
	st.Evolve(&events.Event{Type: "key.rotated", Account: "acme", Data: k})
	for _, st := range []*State{st, restored(t, st, false)} {
		s := step{"key.import", "bolt", `{"environment":"test","name":"i","sha256":"` + hashOf(5) + `"}`, 20}
		if list, text := s.decide(t, st); len(list) > 0 || text[:len(events.AlreadyExists)] != string(events.AlreadyExists) {
			t.Errorf("imported again: %s", text)
		}
		a := &Authorize{Secret: foreignOf(5)}
		if err := a.Validate(); err != nil {
			t.Fatal(err)
		}
		if a.Find(st, 1_800_000_000_020) != nil {
			t.Error("the old secret works on")
		}
	}
}

// FuzzSignature: whatever stands in a signed request, it is refused for its form or does
// not verify.
func FuzzSignature(f *testing.F) {
	a := Authorize{Message: vectorMessage}
	a.Sign(signerOf("acme"), 1_800_000_000_000)
	f.Add(a.Message, a.Signature[:85]+"A==", a.SignedAt)
	f.Add(a.Message+"\n", a.Signature, a.SignedAt)
	f.Add("", "", "2026-03-01T12:00:00Z")
	public := signerOf("bolt").Public()
	f.Fuzz(func(t *testing.T, message, sig, at string) {
		a := Authorize{Key: keyIDPrefix + idOf(1).String(), Message: message, Signature: sig, SignedAt: at}
		if err := a.Validate(); err != nil {
			return
		}
		a.Verify(public.(ed25519.PublicKey))
		if a.signature.verified {
			t.Fatalf("%q %q %q verifies", message, sig, at)
		}
	})
}

// BenchmarkVerify is what a signature costs before it is the request's turn.
func BenchmarkVerify(b *testing.B) {
	a := &Authorize{Key: keyIDPrefix + idOf(1).String(), Message: vectorMessage}
	a.Sign(signerOf("acme"), 1_800_000_000_000)
	public, _ := decodePublicKey(publicOf("acme"))
	b.ReportAllocs()
	for b.Loop() {
		if err := a.Validate(); err != nil {
			b.Fatal(err)
		}
		if a.Verify(public); !a.signature.verified {
			b.Fatal("not verified")
		}
	}
}

// BenchmarkSpent remembers a signature, of 100,000 that are within the window.
func BenchmarkSpent(b *testing.B) {
	var s spent
	b.ReportAllocs()
	for i := range b.N {
		now := events.Time(1_800_000_000_000 + int64(i)*int64(SignatureWindow)/maxSpent)
		s.add(nameOf(uint64(i)), now, now)
	}
}
