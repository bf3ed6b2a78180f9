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

// BenchmarkReplay is what a start does with each event of the log: decode it, check the
// chain, fold it into state and receipts. 200,000 debits with ids, 500 a commit.
func BenchmarkReplay(b *testing.B) {
	const debits, each = 200_000, 500
	log, chain := new(store.Memory), store.Chain{}
	st, id := ledger.NewState(), ulid.ULID{}
	if err := id.SetTime(uint64(start.UnixMilli())); err != nil {
		b.Fatal(err)
	}
	in := ledger.Input{Time: events.At(start)}
	append1 := func(c *store.Commit, entries []byte, account, verb string, cmd ledger.Command) []byte {
		id[15], id[14], id[13], id[12] = id[15]+1, id[14]+(id[15]+1)>>7, byte(len(c.Entries)), byte(c.PrevSequence)
		in.AccountID, in.CommandID = account, id
		decision, err := ledger.Decide(st, specOf(verb), cmd, &in)
		if err != nil {
			b.Fatal(err)
		}
		st.Evolve(&decision.Events[0])
		c.Entries = append(c.Entries, store.Entry{CommandID: id, Receipt: true, Command: verb, Account: account, Actor: "operator", Outcome: events.OK, Events: decision.Events})
		return store.AppendEntry(entries, &c.Entries[len(c.Entries)-1])
	}
	flush := func(c *store.Commit, entries []byte) {
		c.PrevSequence, c.PrevHash, c.Ordinal = chain.Sequence, chain.Hash, chain.Ordinal
		c.Epoch, c.Time = 1, events.At(start)
		if _, err := log.Append(b.Context(), c.Encode(entries), chain.Sequence); err != nil {
			b.Fatal(err)
		}
		chain = store.ChainAt(c)
	}
	var c store.Commit
	var entries []byte
	for i := range 100 {
		name := fmt.Sprint("acme-", i)
		entries = append1(&c, entries, name, "account.open", &ledger.OpenAccount{})
		entries = append1(&c, entries, name, "credit.grant", &ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 1 << 50})
	}
	flush(&c, entries)
	for n := 0; n < debits; n += each {
		c, entries = store.Commit{PrevSequence: chain.Sequence}, entries[:0]
		for i := range each {
			entries = append1(&c, entries, fmt.Sprint("acme-", (n+i)%100), "credit.debit", debit(1))
		}
		flush(&c, entries)
	}
	b.ReportAllocs()
	for b.Loop() {
		w := New(Config{Log: log, Tail: store.NewTail(log, 0)})
		w.state, w.receipts = ledger.NewState(), newReceipts(1<<20)
		at := store.Chain{}
		if err := store.ReadChecked(b.Context(), log, &at, chain.Sequence, func(c *store.Commit) error {
			w.fold(c)
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(debits)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
