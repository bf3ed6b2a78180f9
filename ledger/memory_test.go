package ledger

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// maxAccountBytes is what an account with a key, a grant and a balance may take of
// memory beyond its names and lists.
const maxAccountBytes = 800

// fill opens the i-th account of a large ledger: a key, a grant, a balance. It returns
// the length of its names.
func fill(t fataler, st *State, i int, way func(fataler, []events.Event) []events.Event) (names int) {
	account, now := fmt.Sprintf("account-%07d", i), events.Time(1_800_000_000_000+i)
	create := &CreateKey{Environment: strings.Clone("test"), Name: fmt.Sprintf("key %d", i), KeyID: idOf(uint64(3 * i))}
	copy(create.Hash[:], create.KeyID[:])
	create.Prefix = "kl_test_" + create.KeyID.String() + "…wxyz"
	for j, cmd := range []Command{
		&OpenAccount{Metadata: fmt.Appendf(nil, `{"n":%d}`, i)}, create,
		&GrantCredit{Environment: strings.Clone("test"), Asset: strings.Clone("credits"), Amount: 1000},
	} {
		if err := cmd.Validate(); err != nil {
			t.Fatalf("%v", err)
		}
		in := Input{AccountID: account, CommandID: idOf(uint64(3*i + j)), Time: now}
		d, err := Decide(st, &Spec{Opens: true}, cmd, &in)
		if err != nil {
			t.Fatalf("%v", err)
		}
		for _, e := range way(t, d.Events) {
			st.Evolve(&e)
		}
	}
	a := st.accounts[account]
	k := a.keys[0]
	return len(a.ID) + len(a.Metadata) + len(k.id) + len(k.name) + len(k.prefix)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// An account is small, whichever way it came into the state.
func TestMemory(t *testing.T) {
	const accounts = 100_000
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // for speed: heap collects by itself
	live := func(_ fataler, list []events.Event) []events.Event { return list }
	source, names := NewState(), 0
	before := heap()
	measure := func(way string, st *State) {
		bytes := (float64(heap()-before) - float64(names)) / accounts
		t.Logf("%s: %.0f bytes an account-with-key beyond %d of names", way, bytes, names/accounts)
		if bytes > maxAccountBytes {
			t.Errorf("%s: %.0f bytes an account-with-key, want at most %d", way, bytes, maxAccountBytes)
		}
		runtime.KeepAlive(st)
	}
	for i := range accounts {
		names += fill(t, source, i, live)
	}
	measure("decided live", source)

	before = heap()
	folded := NewState()
	for i := range accounts {
		fill(t, folded, i, decoded)
	}
	measure("decoded from the log", folded)
	folded = nil

	before = heap()
	again, section := NewState(), []byte(nil)
	for i := range accounts {
		section = source.AppendAccount(section[:0], i)
		if _, err := again.RestoreAccount(section); err != nil {
			t.Fatal(err)
		}
	}
	measure("restored from sections", again)
	if source.Digest() != again.Digest() {
		t.Error("the states differ")
	}
}

func BenchmarkSection(b *testing.B) {
	st := NewState()
	for i := range 1000 {
		fill(b, st, i, decoded)
	}
	var section []byte
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			section = st.AppendAccount(section[:0], i%1000)
		}
		b.ReportMetric(float64(len(section)), "B/section")
	})
	b.Run("restore", func(b *testing.B) {
		b.ReportAllocs()
		to := NewState()
		for i := range b.N {
			if i%1000 == 0 {
				to = NewState()
			}
			b.StopTimer()
			section = st.AppendAccount(section[:0], i%1000)
			b.StartTimer()
			if _, err := to.RestoreAccount(section); err != nil {
				b.Fatal(err)
			}
		}
	})
}
