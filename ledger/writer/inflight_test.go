package writer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// While an append is on its way, nothing that rests on it is answered, and no other
// append is made.
func TestNothingOvertakesTheAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, c := new(store.Memory), newClock()
		gate := make(chan struct{})
		var armed atomic.Bool
		var under atomic.Int64
		log.Fault = func([]byte, uint64) store.Fault {
			if !armed.Load() {
				return store.Fault{}
			}
			return store.Fault{Before: func() { under.Add(1); <-gate; under.Add(-1) }}
		}
		f := run(t, log, c)
		f.funded("acme", 100)
		armed.Store(true)
		waiting := map[string]chan *Reply{
			"the debit in flight": f.submit("acme", "credit.debit", debit(60), c.id()),
		}
		synctest.Wait()
		waiting["a debit behind it"] = f.submit("acme", "credit.debit", debit(10), c.id())
		synctest.Wait()
		waiting["a refusal"] = f.submit("acme", "credit.debit", debit(60), c.id())
		waiting["a free decision"] = f.submit("acme", "account.resume", new(ledger.ResumeAccount), c.id())
		waiting["a barrier"] = f.send(&Request{})
		synctest.Wait()
		if n := under.Load(); n != 1 {
			t.Errorf("%d appends are under way, want 1", n)
		}
		for what, reply := range waiting {
			select {
			case r := <-reply:
				t.Errorf("%s was answered before the append it rests on: %+v", what, r)
			default:
			}
		}
		close(gate)
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		if times, total := debitsIn(stored(t, log)); len(times) != 2 || total != 70 {
			t.Errorf("%d debits of %d in all, want 2 of 70", len(times), total)
		}
	})
}

// An append that was given up, and whose caller was told that nothing was done, must not
// come to be stored when it arrives after all.
func TestWhatWasNotDoneStaysNotDone(t *testing.T) {
	log, c := new(store.Memory), newClock()
	var late []byte
	var expected uint64
	log.Fault = func(data []byte, at uint64) store.Fault {
		commit, err := store.Decode(data)
		if late != nil || err != nil || len(commit.Entries) == 0 || commit.Entries[0].Command != "credit.debit" {
			return store.Fault{}
		}
		late, expected = append([]byte(nil), data...), at
		c.advance(time.Minute)
		return store.Fault{Lose: true, Err: errTimeout}
	}
	f := run(t, log, c)
	f.funded("acme", 1000)
	r := <-f.send(&Request{
		Account: "acme", Verb: "credit.debit", Spec: specOf("credit.debit"), Command: debit(100),
		ID: c.id(), Receipt: true, Deadline: start.Add(time.Second),
	})
	if codeOf(r) != events.Unavailable {
		t.Fatalf("the debit: %+v, want unavailable", r)
	}
	if _, err := log.Append(context.Background(), late, expected); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the late append got %v, want a conflict", err)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	if _, total := debitsIn(stored(t, log)); total != 0 {
		t.Errorf("%d taken, want nothing", total)
	}
}
