package writer

import (
	"fmt"
	"sync"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// BenchmarkDebit is a debit's way through the writer, on a log in memory: 256 in flight,
// 1,000 accounts, an id each. What the edge does and what NATS does is not in it.
func BenchmarkDebit(b *testing.B) {
	const accounts, inFlight = 1000, 256
	f := run(b, &store.Memory{}, newClock())
	names := make([]string, accounts)
	for i := range names {
		names[i] = fmt.Sprintf("acme-%d", i)
		f.funded(names[i], 1<<50)
	}
	cmd := debit(1)
	if err := cmd.Validate(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	free := make(chan struct{}, inFlight)
	done := func(r *Reply) {
		if r.Err != nil {
			b.Error(r.Err)
		}
		<-free
		all.Done()
	}
	spec := specOf("credit.debit")
	id := ulid.ULID{}
	if err := id.SetTime(uint64(start.UnixMilli())); err != nil {
		b.Fatal(err)
	}
	for i := range b.N {
		free <- struct{}{}
		all.Add(1)
		id[15], id[14], id[13], id[12] = byte(i), byte(i>>8), byte(i>>16), byte(i>>24)
		f.w.Submit(&Request{Account: names[i%accounts], Verb: "credit.debit", Spec: spec, Command: cmd, ID: id, Receipt: true, Done: done})
	}
	all.Wait()
	b.StopTimer()
	if err := f.end(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCommit is one debit's entry, from the decision to its stored form.
func BenchmarkCommit(b *testing.B) {
	st := ledger.NewState()
	spec, in := specOf("account.open"), ledger.Input{AccountID: "acme", CommandID: ulid.Make(), Time: events.At(start)}
	evolve := func(cmd ledger.Command) []events.Event {
		decision, err := ledger.Decide(st, spec, cmd, &in)
		if err != nil {
			b.Fatal(err)
		}
		for i := range decision.Events {
			st.Evolve(&decision.Events[i])
		}
		return decision.Events
	}
	evolve(&ledger.OpenAccount{})
	spec = specOf("credit.grant")
	evolve(&ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 1 << 50})
	spec = specOf("credit.debit")
	cmd, buf := debit(1), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		entry := store.Entry{CommandID: in.CommandID, Receipt: true, Command: "credit.debit", Account: "acme", Actor: "operator", Outcome: events.OK, Events: evolve(cmd)}
		buf = store.AppendEntry(buf[:0], &entry)
	}
}
