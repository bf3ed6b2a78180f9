package writer

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

func TestCommitsFollowEachOther(t *testing.T) {
	c := newClock()
	f := run(t, new(store.Memory), c)
	f.funded("acme", 1000)
	r := f.do("acme", "credit.debit", debit(100), c.id())
	if r.Err != nil || posted(r) != 900 {
		t.Fatalf("debit: %+v", r)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	commits := stored(t, f.log)
	if len(commits) != 4 || len(commits[0].Entries) != 0 || commits[0].Epoch != 1 {
		t.Fatalf("want epoch started and three commits, got %d", len(commits))
	}
	if got, want := r.Position.String(), "0:4.0"; got != want {
		t.Errorf("position %s, want %s", got, want)
	}
	if commits[3].Ordinal != 2 {
		t.Errorf("ordinal %d, want 2", commits[3].Ordinal)
	}
}

func TestGroupsWhatArrivesWhileAnAppendIsInFlight(t *testing.T) {
	log, c := new(store.Memory), newClock()
	gate, appending := make(chan struct{}), make(chan struct{}, 100)
	log.Fault = func([]byte, uint64) store.Fault {
		return store.Fault{Before: func() { appending <- struct{}{}; <-gate }}
	}
	f := run(t, log, c)
	step := func() { <-appending; gate <- struct{}{} }
	step() // epoch started
	opened := f.submit("acme", "account.open", &ledger.OpenAccount{}, ulid.ULID{})
	step()
	<-opened
	first := f.submit("acme", "credit.grant", &ledger.GrantCredit{Environment: "test", Asset: "credits", Amount: 50}, ulid.ULID{})
	<-appending // the grant is in flight
	var replies []chan *Reply
	for range 20 {
		replies = append(replies, f.submit("acme", "credit.debit", debit(5), ulid.ULID{}))
	}
	// Refusals rest on the debits before them, and those on the grant in flight.
	barrier := f.send(&Request{})
	gate <- struct{}{}
	<-first
	for i, ch := range append(replies, barrier) {
		select {
		case r := <-ch:
			t.Fatalf("request %d was answered before its append: %+v", i, r)
		default:
		}
	}
	step()
	allowed := 0
	for _, ch := range replies {
		if r := <-ch; r.Err == nil {
			allowed++
		} else if r.Err.Code != events.InsufficientCredits {
			t.Fatal(r.Err)
		}
	}
	if allowed != 10 {
		t.Errorf("%d debits allowed, 10 were affordable", allowed)
	}
	if r := <-barrier; r.Position.String() != "0:4" {
		t.Errorf("barrier at %s, want 0:4", r.Position)
	}
	close(gate)
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	if got := len(stored(t, log)[3].Entries); got != 10 {
		t.Errorf("%d entries in the group's commit, want 10", got)
	}
}

// faultOnce returns a hook that gives one fault to the append number n, from 1.
func faultOnce(n int, fault store.Fault) func([]byte, uint64) store.Fault {
	var count atomic.Int64
	return func([]byte, uint64) store.Fault {
		if count.Add(1) == int64(n) {
			return fault
		}
		return store.Fault{}
	}
}

var errTimeout = errors.New("no acknowledgement")

func TestUnknownOutcome(t *testing.T) {
	for name, fault := range map[string]store.Fault{
		"stored but reported failed": {Err: errTimeout},
		"not stored":                 {Lose: true, Err: errTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			log, c := new(store.Memory), newClock()
			log.Fault = faultOnce(4, fault) // epoch, open, grant, then the debit
			f := run(t, log, c)
			f.funded("acme", 1000)
			r := f.do("acme", "credit.debit", debit(100), c.id())
			if r.Err != nil || posted(r) != 900 || r.Replayed {
				t.Fatalf("debit: %+v", r)
			}
			if r := f.do("acme", "credit.debit", debit(100), c.id()); posted(r) != 800 {
				t.Fatalf("next debit: %+v", r)
			}
			if err := f.end(); err != nil {
				t.Fatal(err)
			}
			commits := stored(t, log)
			if times, total := debitsIn(commits); len(times) != 2 || total != 200 {
				t.Errorf("the log holds %v, total %d", times, total)
			}
			if last := commits[len(commits)-1]; last.Epoch != 2 {
				t.Errorf("epoch %d, want 2: an unknown outcome is a takeover", last.Epoch)
			}
		})
	}
}

func TestLostEpochStartedIsReadLikeAnyCommit(t *testing.T) {
	log, c := new(store.Memory), newClock()
	log.Fault = faultOnce(1, store.Fault{Err: errTimeout})
	f := run(t, log, c)
	f.funded("acme", 10)
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	if commits := stored(t, log); commits[0].Epoch != 1 || commits[1].Epoch != 2 || len(commits[1].Entries) != 0 {
		t.Errorf("want two epochs started, got %+v, %+v", commits[0], commits[1])
	}
}

// A lost append that arrives after the takeover must not be stored: that is what
// "epoch started" is for.
func TestLateAppendIsFenced(t *testing.T) {
	log, c := new(store.Memory), newClock()
	var late []byte
	var expected uint64
	count := 0
	log.Fault = func(data []byte, at uint64) store.Fault {
		if count++; count == 4 {
			late, expected = append([]byte(nil), data...), at
			return store.Fault{Lose: true, Err: errTimeout}
		}
		return store.Fault{}
	}
	f := run(t, log, c)
	f.funded("acme", 1000)
	if r := f.do("acme", "credit.debit", debit(100), c.id()); r.Err != nil {
		t.Fatal(r.Err)
	}
	if _, err := log.Append(context.Background(), late, expected); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the late append got %v, want a conflict", err)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	if _, total := debitsIn(stored(t, log)); total != 100 {
		t.Errorf("%d taken, want 100", total)
	}
}

// Two writers on one log: whoever is fenced takes over again, and both see one history.
func TestRivalWriters(t *testing.T) {
	log, c := new(store.Memory), newClock()
	a := run(t, log, c)
	a.funded("acme", 1000)
	b := run(t, log, c)
	var wg sync.WaitGroup
	for _, f := range []*fixture{a, b} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				if r := f.do("acme", "credit.debit", debit(1), c.id()); r.Err != nil {
					t.Errorf("debit: %v", r.Err)
				}
			}
		}()
	}
	wg.Wait()
	if err := errors.Join(a.end(), b.end()); err != nil {
		t.Fatal(err)
	}
	times, total := debitsIn(stored(t, log))
	if total != 100 || len(times) != 100 {
		t.Errorf("%d debits of %d in all, want 100 of 100", len(times), total)
	}
}

func TestImpossibleAcknowledgementStops(t *testing.T) {
	log, c := new(store.Memory), newClock()
	log.Fault = faultOnce(3, store.Fault{Ack: 99})
	f := run(t, log, c)
	f.must("acme", "account.open", &ledger.OpenAccount{})
	r := f.do("acme", "credit.grant", &ledger.GrantCredit{Environment: "test", Asset: "credits", Amount: 1}, c.id())
	if r.Err == nil || r.Err.Code != events.OutcomeUnknown {
		t.Errorf("reply %+v, want outcome_unknown", r)
	}
	if err := f.end(); !errors.Is(err, ErrImpossible) {
		t.Errorf("Run returned %v, want ErrImpossible", err)
	}
	if r := f.do("acme", "account.suspend", &ledger.SuspendAccount{}, ulid.ULID{}); r.Err == nil || r.Err.Code != events.Unavailable {
		t.Errorf("after the stop: %+v, want unavailable", r)
	}
}

func TestDeadlines(t *testing.T) {
	log, c := new(store.Memory), newClock()
	gate := make(chan struct{})
	appending := make(chan struct{}, 1)
	var count atomic.Int64
	log.Fault = func([]byte, uint64) store.Fault {
		if count.Add(1) < 4 {
			return store.Fault{}
		}
		return store.Fault{Before: func() { appending <- struct{}{}; <-gate }}
	}
	f := run(t, log, c)
	f.funded("acme", 1000)
	request := func(cmd ledger.Command, deadline time.Time) chan *Reply {
		return f.send(&Request{
			Account: "acme", Verb: "credit.debit", Spec: specOf("credit.debit"), Command: cmd,
			ID: c.id(), Deadline: deadline,
		})
	}
	if r := <-request(debit(1), start.Add(-time.Second)); r.Err == nil || r.Err.Code != events.Unavailable {
		t.Errorf("a command that came too late: %+v, want unavailable", r)
	}
	inAppend := request(debit(100), start.Add(time.Second))
	<-appending
	behind := request(debit(100_000), start.Add(time.Second)) // refused, and waits for the append
	c.advance(2 * time.Second)
	if r := <-inAppend; r.Err == nil || r.Err.Code != events.OutcomeUnknown {
		t.Errorf("a command in an append: %+v, want outcome_unknown", r)
	}
	if r := <-behind; r.Err == nil || r.Err.Code != events.Unavailable {
		t.Errorf("a refusal behind it: %+v, want unavailable", r)
	}
	close(gate)
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-inAppend:
		t.Errorf("a second answer: %+v", r)
	default:
	}
}

func TestRestartContinuesFromTheLog(t *testing.T) {
	log, c := new(store.Memory), newClock()
	dir := t.TempDir()
	withDir := func(cfg *Config) { cfg.Dir = dir }
	f := run(t, log, c, withDir)
	f.funded("acme", 1000)
	id := c.id()
	first := f.do("acme", "credit.debit", debit(100), id)
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	f = run(t, log, c, withDir)
	again := f.do("acme", "credit.debit", debit(100), id)
	if again.Err != nil || !again.Replayed || again.Position != first.Position || posted(again) != 900 {
		t.Errorf("retry after a restart: %+v, first %+v", again, first)
	}
	if r := f.do("acme", "credit.debit", debit(100), c.id()); posted(r) != 800 {
		t.Errorf("next debit: %+v", r)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

func TestWitnesses(t *testing.T) {
	prepare := func(t *testing.T) (*store.Memory, string) {
		log, dir := new(store.Memory), t.TempDir()
		f := run(t, log, newClock(), func(cfg *Config) { cfg.Dir = dir })
		f.funded("acme", 1000)
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		return log, dir
	}
	cut := func(log *store.Memory, n uint64) *store.Memory {
		short := new(store.Memory)
		for s := uint64(1); s <= n; s++ {
			data, _ := log.Get(context.Background(), s)
			if _, err := short.Append(context.Background(), data, s-1); err != nil {
				t.Fatal(err)
			}
		}
		return short
	}
	t.Run("a tail cut back is found by the head", func(t *testing.T) {
		log, dir := prepare(t)
		err := run(t, cut(log, 2), newClock(), func(cfg *Config) { cfg.Dir = dir }).wait()
		if !errors.Is(err, errLoss) || !strings.Contains(err.Error(), "head file saw commit 0:3, the log ends at 2") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another history of the same length is found by the head", func(t *testing.T) {
		_, dir := prepare(t)
		other, _ := prepare(t)
		err := run(t, other, newClock(), func(cfg *Config) { cfg.Dir = dir }).wait()
		if !errors.Is(err, errLoss) || !strings.Contains(err.Error(), "saw commit 0:3 with hash") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a witness that counts events", func(t *testing.T) {
		log, _ := prepare(t)
		err := run(t, log, newClock(), func(cfg *Config) {
			cfg.Witnesses = func(context.Context) ([]Witness, error) {
				return []Witness{{Name: "feed", Ordinal: 3}}, nil
			}
		}).wait()
		if !errors.Is(err, errLoss) || !strings.Contains(err.Error(), "feed saw 3 events, the log ends after 2") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a torn head is no witness", func(t *testing.T) {
		log, dir := prepare(t)
		if err := os.WriteFile(filepath.Join(dir, "head"), []byte("000000000"), 0o600); err != nil {
			t.Fatal(err)
		}
		f := run(t, log, newClock(), func(cfg *Config) { cfg.Dir = dir })
		f.must("acme", "account.suspend", &ledger.SuspendAccount{})
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
	})
}

// wait returns what Run returns by itself, nil when the writer serves instead.
func (f *fixture) wait() error {
	select {
	case err := <-f.done:
		return err
	case <-f.w.Ready():
		return f.end()
	}
}

func TestDamagedLogIsRefused(t *testing.T) {
	log, c := new(store.Memory), newClock()
	f := run(t, log, c)
	f.funded("acme", 1000)
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	data, _ := log.Get(context.Background(), 2)
	data[len(data)/2] ^= 1
	log.Damage(2, data)
	var damage *store.DamageError
	if err := run(t, log, c).wait(); !errors.As(err, &damage) || damage.Sequence != 2 {
		t.Errorf("flipped bit: %v", err)
	}
	log.Damage(2, nil)
	if err := run(t, log, c).wait(); !errors.As(err, &damage) || damage.Sequence != 2 {
		t.Errorf("missing message: %v", err)
	}
}

func TestFullIntakeAnswersAtOnce(t *testing.T) {
	log, c := new(store.Memory), newClock()
	gate, appending := make(chan struct{}), make(chan struct{}, 1)
	log.Fault = func([]byte, uint64) store.Fault {
		return store.Fault{Before: func() { appending <- struct{}{}; <-gate }}
	}
	f := run(t, log, c, func(cfg *Config) { cfg.MaxWaiting = 6 })
	<-appending // epoch started hangs: nothing is taken from the queue
	var waiting []chan *Reply
	for range 3 {
		waiting = append(waiting, f.send(&Request{}))
	}
	if r := <-f.send(&Request{}); r.Err == nil || r.Err.Code != events.Unavailable {
		t.Errorf("one account's fourth of six: %+v, want unavailable", r)
	}
	close(gate)
	for _, ch := range waiting {
		if r := <-ch; r.Err != nil {
			t.Error(r.Err)
		}
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// Under random faults, with clients that retry until they know, every answer equals the
// log and no id debits twice.
func TestRandomFaultsNeverLoseOrDouble(t *testing.T) {
	s := seed(t)
	random := rand.New(rand.NewPCG(s, 1))
	var mu sync.Mutex
	log, c := new(store.Memory), newClock()
	log.Fault = func([]byte, uint64) store.Fault {
		mu.Lock()
		defer mu.Unlock()
		switch random.IntN(12) {
		case 0:
			return store.Fault{Err: errTimeout}
		case 1:
			return store.Fault{Lose: true, Err: errTimeout}
		}
		return store.Fault{}
	}
	f := run(t, log, c)
	f.funded("acme", 300)
	const clients, each = 8, 50
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for n := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			mine := rand.New(rand.NewPCG(s, uint64(n+10)))
			for range each {
				id := c.id()
				first := f.do("acme", "credit.debit", debit(1), id)
				if mine.IntN(3) > 0 {
					countAllowed(&allowed, first)
					continue
				}
				again := f.do("acme", "credit.debit", debit(1), id)
				if first.Err == nil && (again.Err != nil || !again.Replayed || again.Position != first.Position || posted(again) != posted(first)) {
					t.Errorf("first %+v, then %+v", first, again)
				}
				if first.Err != nil {
					first = again
				}
				countAllowed(&allowed, first)
			}
		}()
	}
	wg.Wait()
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	times, total := debitsIn(stored(t, log))
	if total != 300 || allowed.Load() != 300 {
		t.Errorf("%d taken, %d allowed, want 300 of 300", total, allowed.Load())
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("%s debited %d times", id, n)
		}
	}
}

// countAllowed counts an allowed debit.
func countAllowed(allowed *atomic.Int64, r *Reply) {
	if r.Err == nil {
		allowed.Add(1)
	}
}
