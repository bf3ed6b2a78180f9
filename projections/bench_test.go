package projections

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// million fills views with n keys of n/100 accounts, each with a balance.
func million(b *testing.B, n int) (v *Views, accounts, keys []string) {
	h := newHistory(b)
	v = NewViews(h.tail, 0, quiet())
	run(b, v.Run)
	for i := 0; i < n; i += 100 {
		account := fmt.Sprintf("account-%06d", i/100)
		list := []events.Event{h.account(account), h.granted(account, h.id("grant_"), 1_000_000_000, 0, 1_000_000_000)}
		for range 100 {
			id, e := h.key(account, events.Test)
			keys, list = append(keys, id), append(list, e)
		}
		accounts = append(accounts, account)
		h.commit(list...)
	}
	wait(b, v, h.chain.Sequence)
	return v, accounts, keys
}

// BenchmarkQuery is one query of views with 1,000,000 keys of 10,000 accounts, from the
// decoded request to the result before it is encoded, in memory.
func BenchmarkQuery(b *testing.B) {
	v, accounts, keys := million(b, 1_000_000)
	table := v.Queries()
	for verb, body := range map[string]func(i int) string{
		"key.get":     func(i int) string { return `{"key":"` + keys[i] + `"}` },
		"balance.get": func(int) string { return `{"environment":"test"}` },
		"account.get": func(int) string { return `{}` },
		"key.list":    func(int) string { return `{}` },
	} {
		b.Run(verb, func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for b.Loop() {
				i := random.IntN(len(keys))
				if _, err := table[verb](context.Background(), &Query{Account: accounts[i/100], Body: []byte(body(i))}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMemory is what an account takes in all views with so many keys and balances,
// folded from a log of such accounts; names are ids and names as they were given.
func BenchmarkMemory(b *testing.B) {
	for _, shape := range []struct{ keys, balances int }{{1, 1}, {11, 1}, {1, 11}} {
		b.Run(fmt.Sprintf("keys=%d/balances=%d", shape.keys, shape.balances), func(b *testing.B) {
			benchmarkMemory(b, shape.keys, shape.balances)
		})
	}
}

func benchmarkMemory(b *testing.B, keys, balances int) {
	const n = 20_000
	h := newHistory(b)
	names := 0
	for i := range n {
		account := fmt.Sprintf("account-%06d", i)
		list := []events.Event{h.account(account)}
		names += len(account) + len("the "+account)
		for range keys {
			id, key := h.key(account, events.Test)
			list = append(list, key)
			names += len(id) + len("backend") + len("kl_test_wxyz")
		}
		for j := range balances {
			granted := h.granted(account, h.id("grant_"), 1000, 0, 1000)
			d := granted.Data.(*events.Granted)
			d.Asset = fmt.Sprintf("asset-%d", j)
			d.Balance.Asset = d.Asset
			list = append(list, granted)
			names += len(d.ID) + len(d.Asset)
		}
		h.commit(list...)
	}
	tail := h.again()
	for b.Loop() {
		before := heap()
		v := follow(b, tail)
		b.ReportMetric(float64(heap()-before)/n, "B/account")
		b.ReportMetric(float64(names)/n, "of-names-B/account")
		runtime.KeepAlive(v)
	}
}

// BenchmarkApply is folding debits into all views, 500 a commit, over 1,000,000 keys,
// from commits in memory.
func BenchmarkApply(b *testing.B) {
	v, accounts, keys := million(b, 1_000_000)
	at := v.Applied()
	posted := map[int]int64{}
	random := rand.New(rand.NewPCG(1, 1))
	const perCommit = 500
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		c := &store.Commit{PrevSequence: at.Sequence, Sequence: at.Sequence + 1, Ordinal: at.Ordinal, Time: at.Time + 1}
		c.Entries = make([]store.Entry, 1)
		for range perCommit {
			i := random.IntN(len(keys))
			posted[i/100]--
			grant := v.balances.byID[balanceID{accounts[i/100], events.Test, "credits"}].Grants[0].ID
			c.Entries[0].Events = append(c.Entries[0].Events, events.Event{Account: accounts[i/100], Data: &events.Debited{
				Debit: events.Debit{ID: "debit_1", Environment: events.Test, Asset: "credits", Amount: 1, Key: keys[i],
					Drawn: []events.Draw{{Grant: grant, Amount: 1}}},
				Balance: smallBalance(1_000_000_000 + posted[i/100]),
			}})
		}
		at = store.ChainAt(c)
		b.StartTimer()
		v.apply(c)
	}
	if status := v.Status(); status[2].Failure != "" || status[1].Failure != "" {
		b.Fatal(status)
	}
	b.ReportMetric(float64(b.N)*perCommit/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkReplay is making all views again from a log in memory: 10,000 accounts with
// credits and a key each and 300,000 debits, 500 events a commit. No reader has it decoded.
func BenchmarkReplay(b *testing.B) {
	const accounts, rounds = 10_000, 30
	h := newHistory(b)
	type owner struct{ name, key, grant string }
	var owners []owner
	var list []events.Event
	add := func(more ...events.Event) {
		if list = append(list, more...); len(list) >= 500 {
			h.commit(list...)
			list = nil
		}
	}
	for i := range accounts {
		o := owner{name: fmt.Sprintf("account-%06d", i), grant: h.id("grant_")}
		key, created := h.key(o.name, events.Test)
		o.key = key
		owners = append(owners, o)
		add(h.account(o.name), h.granted(o.name, o.grant, rounds+1, 0, rounds+1), created)
	}
	for round := range int64(rounds) {
		for _, o := range owners {
			add(h.debited(o.name, o.key, rounds-round, events.Draw{Grant: o.grant, Amount: 1}))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		v := NewViews(h.again(), 0, quiet())
		stop := run(b, v.Run)
		wait(b, v, h.chain.Sequence)
		stop()
		for _, status := range v.Status() {
			if status.Failure != "" {
				b.Fatal(status)
			}
		}
	}
	b.ReportMetric(float64(b.N)*float64(h.chain.Ordinal)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkFeed is relaying 90,000 debits of so many keys to the feed, in commits of each
// size, that are in the tail's memory, on a nats-server in this process, connected in
// memory. The stream has PersistMode async: no fsync. cpu-µs/event is the processor time
// of all of it, the server's with it.
func BenchmarkFeed(b *testing.B) {
	for _, perCommit := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(perCommit), func(b *testing.B) { benchmarkFeed(b, perCommit, 1) })
	}
	for _, keys := range []int{1000, 30_000} {
		b.Run(fmt.Sprintf("100/keys=%d", keys), func(b *testing.B) { benchmarkFeed(b, 100, keys) })
	}
}

func benchmarkFeed(b *testing.B, perCommit, count int) {
	const total = 90_000
	h := newHistory(b)
	keys := make([]string, count)
	for i := range keys {
		keys[i], _ = h.key("acme", events.Test)
	}
	for posted := int64(total); posted > 0; {
		var list []events.Event
		for range perCommit {
			posted--
			list = append(list, h.debited("acme", keys[int(posted)%count], posted, events.Draw{Grant: "grant_1", Amount: 1}))
		}
		h.commit(list...)
	}
	h.commit(h.account("last"))
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		server, nc, _ := startNATS(b)
		last, err := nc.SubscribeSync(store.SubjectFeed(0) + "last.>")
		if err != nil {
			b.Fatal(err)
		}
		wire := NewWire(server)
		feed, err := NewFeed(FeedConfig{
			Conn: connect(b, wire), Wire: wire, Tail: h.tail, Stream: streams(b, store.StreamFeed(0))[0], Logger: quiet(),
		})
		if err != nil {
			b.Fatal(err)
		}
		before := processorTime(b)
		b.StartTimer()
		stop := run(b, feed.Run)
		if _, err := last.NextMsgWithContext(patience(b)); err != nil {
			b.Fatal(err)
		}
		used += processorTime(b) - before
		stop()
	}
	b.ReportMetric(float64(b.N)*total/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(used.Microseconds())/float64(b.N)/total, "cpu-µs/event")
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkCheckpoint is saving and reading views of accounts with a key and a balance each,
// an account: how long that takes, without a pace, and what it takes of the heap. Folding
// the log that they are of stands beside it.
func BenchmarkCheckpoint(b *testing.B) {
	const n, every = 200_000, 100
	h := newHistory(b)
	for i := 0; i < n; i += every {
		var list []events.Event
		for j := range every {
			account := fmt.Sprintf("account-%07d", i+j)
			_, key := h.key(account, events.Test)
			list = append(list, h.account(account), key, h.granted(account, h.id("grant_"), 1_000_000_000, 0, 1_000_000_000))
		}
		h.commit(list...)
	}
	dir := b.TempDir()
	each := func(b *testing.B, took time.Duration) {
		b.ReportMetric(float64(took.Nanoseconds())/float64(b.N)/n, "ns/account")
	}
	b.Run("fold", func(b *testing.B) {
		for b.Loop() {
			open(b, h.again(), b.TempDir()).catchUp(h.chain.Sequence)
		}
		each(b, b.Elapsed())
	})
	live := open(b, h.again(), dir)
	live.catchUp(h.chain.Sequence)
	b.Run("walk", func(b *testing.B) {
		turns, longest := 0, time.Duration(0)
		live.saving.turn = checkpointTurnBytes
		for b.Loop() {
			k, memory := live.beginWalk()
			for k.next < k.accounts {
				begun := time.Now()
				var err error
				if memory, err = live.walkOn(k, memory[:0]); err != nil {
					b.Fatal(err)
				}
				turns, longest = turns+1, max(longest, time.Since(begun))
			}
		}
		each(b, b.Elapsed())
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(turns), "µs/turn")
		b.ReportMetric(float64(longest.Microseconds()), "µs/longest")
	})
	live.save()
	b.Run("restore", func(b *testing.B) {
		before := heap()
		var o *opened
		for b.Loop() {
			o = open(b, h.again(), dir)
		}
		each(b, b.Elapsed())
		b.ReportMetric(float64(heap()-before)/n, "B/account")
		b.ReportMetric(float64(o.Checkpoint().Bytes)/n, "B/account-of-file")
	})
	b.Run("load", func(b *testing.B) {
		var took time.Duration
		for b.Loop() {
			o := open(b, h.again(), dir)
			begun := time.Now()
			o.loadAll()
			took += time.Since(begun)
		}
		each(b, took)
	})
}

// heap is how many bytes are reachable.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
