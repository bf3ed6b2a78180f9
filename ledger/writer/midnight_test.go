package writer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// midnight is how far the first midnight is from the tests' start.
const midnight = 12 * time.Hour

// spenders opens accounts with 100 credits a day, of which every one but each tenth has
// spent some, and returns their names and how many those are.
func spenders(f *fixture, n int) (list []string, spent int) {
	f.t.Helper()
	var replies []chan *Reply
	for i := range n {
		name := fmt.Sprintf("acme-%d", i)
		list = append(list, name)
		open := &ledger.OpenAccount{Plan: &events.Plan{Name: "p", Allowance: &events.Allowance{Amount: 100}}}
		replies = append(replies, f.submit(name, "account.open", open, ulid.ULID{}))
		if i%10 != 9 {
			replies = append(replies, f.submit(name, "credit.debit", debit(7), ulid.ULID{}))
			spent++
		}
		if len(replies) < 1000 && i < n-1 {
			continue
		}
		for _, reply := range replies {
			if r := <-reply; r.Err != nil {
				f.t.Fatalf("%v", r.Err)
			}
		}
		replies = replies[:0]
	}
	return list, spent
}

// awaitReplenished follows the log until n accounts have their allowance anew, and returns
// how often each had.
func awaitReplenished(f *fixture, n int, look func(*store.Commit)) map[string]int {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	times := map[string]int{}
	err := f.w.cfg.Tail.Follow(ctx, store.Chain{}, func(c *store.Commit) error {
		look(c)
		for _, e := range c.Entries {
			for _, ev := range e.Events {
				if d, ok := ev.Data.(*events.Replenished); ok && d.By == events.ByPeriod {
					times[ev.Account]++
				}
			}
		}
		if len(times) >= n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		f.t.Fatalf("%d of %d accounts had their allowance anew: %v", len(times), n, err)
	}
	return times
}

// TestMidnight: every account that spent has its allowance anew, once; the sweep comes in
// portions, and commands are decided beside it, on the new allowance.
func TestMidnight(t *testing.T) {
	log, c := new(store.Memory), newClock()
	f := run(t, log, c)
	names, spent := spenders(f, 5*maxDue)
	f.pass(midnight - time.Millisecond)
	if r := f.do(names[0], "credit.debit", debit(94), ulid.ULID{}); r.Err == nil || r.Err.Code != events.InsufficientCredits {
		t.Errorf("the last moment of the day: %+v", r)
	}
	f.pass(time.Millisecond)
	last := names[len(names)-2]
	if r := f.do(last, "credit.debit", debit(100), ulid.ULID{}); r.Err != nil || posted(r) != 0 {
		t.Errorf("the first moment of the next: %+v", r)
	}
	whole := events.At(start.Add(midnight))
	times := awaitReplenished(f, spent, func(c *store.Commit) {
		timers := 0
		for _, e := range c.Entries {
			if e.Command == commandTimer {
				timers++
			}
		}
		if timers > maxDue+1 || timers > 0 && c.Time < whole {
			t.Errorf("commit %d of %s has %d entries of the timer", c.Sequence, c.Time, timers)
		}
	})
	for name, n := range times {
		if n != 1 {
			t.Errorf("%s had its allowance anew %d times", name, n)
		}
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	// Days later: only who spent since.
	c.advance(5 * 24 * time.Hour)
	f = run(t, log, c)
	again := awaitReplenished(f, spent, func(*store.Commit) {})
	f.must(last, "account.suspend", &ledger.SuspendAccount{})
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	for _, c := range commits(t, log) {
		for _, e := range c.Entries {
			if d, ok := e.Events[0].Data.(*events.Replenished); ok && d.CreatedAt > whole {
				again[e.Account]++
			}
		}
	}
	if again[last] != 2 || again[names[0]] != 1 {
		t.Errorf("after days of downtime: %d for who spent, %d for who did not", again[last], again[names[0]])
	}
}

// BenchmarkMidnight is what callers feel while 100,000 accounts have their allowance anew:
// 64 of them debit one after the other, on a log in memory.
func BenchmarkMidnight(b *testing.B) {
	const accounts, callers = 100_000, 64
	for range b.N {
		log, c := new(store.Memory), newClock()
		f := run(b, log, c)
		names, spent := spenders(f, accounts)
		b.Logf("before: %s", latencies(f, names, callers, 20_000))
		begin := time.Now()
		f.pass(midnight)
		done := make(chan time.Duration, 1)
		go func() {
			defer close(done)
			awaitReplenished(f, spent, func(*store.Commit) {})
			done <- time.Since(begin)
		}()
		b.Logf("during: %s", latencies(f, names, callers, 20_000))
		b.Logf("%d allowances anew after %s", spent, <-done)
		if err := f.end(); err != nil {
			b.Fatal(err)
		}
	}
}

// latencies debits n times and tells how long that took.
func latencies(f *fixture, names []string, callers, n int) string {
	var all []time.Duration
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			for j := range n / callers {
				begin := time.Now()
				<-f.submit(names[(i*7919+j*104_729)%len(names)], "credit.debit", debit(1), ulid.ULID{})
				mu.Lock()
				all = append(all, time.Since(begin))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	slices.Sort(all)
	return fmt.Sprintf("p50 %s, p99 %s, max %s", all[len(all)/2], all[len(all)*99/100], all[len(all)-1])
}
