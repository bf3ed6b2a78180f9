package writer

import (
	"crypto/sha256"
	"encoding/binary"
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
// chain, fold it into state and receipts. Commits of 500 commands with ids each: 200,000
// debits; and 50,000 accounts, each with a key and a grant.
func BenchmarkReplay(b *testing.B) {
	b.Run("debits", func(b *testing.B) {
		l := replayLog{b: b, st: ledger.NewState()}
		for i := range 100 {
			l.open(fmt.Sprint("acme-", i))
		}
		for i := range 200_000 {
			l.add(fmt.Sprint("acme-", i%100), "credit.debit", debit(1))
		}
		l.replay()
	})
	b.Run("accounts", func(b *testing.B) {
		l := replayLog{b: b, st: ledger.NewState()}
		for i := range 50_000 {
			name := fmt.Sprint("acme-", i)
			l.open(name)
			id, secret := l.id(), fmt.Sprint("secret ", i)
			l.add(name, "key.create", &ledger.CreateKey{
				Environment: events.Test, Name: "backend", KeyID: id, Hash: sha256.Sum256([]byte(secret)), Prefix: "kl_test_" + id.String()[:3] + "…wxyz",
			})
		}
		l.replay()
	})
}

// replayLog fills a log with what commands come to, without a writer.
type replayLog struct {
	b       *testing.B
	st      *ledger.State
	log     store.Memory
	chain   store.Chain
	made    uint64
	commit  store.Commit
	entries []byte
}

func (l *replayLog) id() (id ulid.ULID) {
	l.made++
	_ = id.SetTime(uint64(start.UnixMilli()))
	binary.BigEndian.PutUint64(id[8:], l.made)
	return id
}

func (l *replayLog) open(account string) {
	l.add(account, "account.open", &ledger.OpenAccount{})
	l.add(account, "credit.grant", &ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 1 << 50})
}

func (l *replayLog) add(account, verb string, cmd ledger.Command) {
	in := ledger.Input{AccountID: account, CommandID: l.id(), Time: events.At(start)}
	decision, err := ledger.Decide(l.st, specOf(verb), cmd, &in)
	if err != nil {
		l.b.Fatal(err)
	}
	l.st.Evolve(&decision.Events[0])
	e := store.Entry{CommandID: in.CommandID, Receipt: true, Command: verb, Account: account, Actor: "operator", Outcome: events.OK, Events: decision.Events}
	l.commit.Entries = append(l.commit.Entries, e)
	if l.entries = store.AppendEntry(l.entries, &e); len(l.commit.Entries) == 500 {
		l.flush()
	}
}

func (l *replayLog) flush() {
	c := &l.commit
	c.PrevSequence, c.PrevHash, c.Ordinal = l.chain.Sequence, l.chain.Hash, l.chain.Ordinal
	c.Epoch, c.Time = 1, events.At(start)
	if _, err := l.log.Append(l.b.Context(), c.Encode(l.entries), l.chain.Sequence); err != nil {
		l.b.Fatal(err)
	}
	l.chain, l.commit, l.entries = store.ChainAt(c), store.Commit{}, l.entries[:0]
}

func (l *replayLog) replay() {
	l.flush()
	l.st = nil // all memory is the replay's
	l.b.ReportAllocs()
	for l.b.Loop() {
		w := New(Config{Log: &l.log, Tail: store.NewTail(&l.log, 0)})
		w.state, w.receipts = ledger.NewState(), newReceipts(1<<20)
		w.receipts.dropIndex()
		at := store.Chain{}
		if err := store.ReadChecked(l.b.Context(), &l.log, &at, l.chain.Sequence, func(c *store.Commit) error {
			w.fold(c)
			return nil
		}); err != nil {
			l.b.Fatal(err)
		}
		w.receipts.makeIndex()
	}
	l.b.ReportMetric(float64(l.chain.Ordinal)*float64(l.b.N)/l.b.Elapsed().Seconds(), "events/s")
}
