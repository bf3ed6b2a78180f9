package writer

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// refund is of a part of a debit, of all that is left for 0.
func refund(debit string, amount int64) *ledger.RefundCredit {
	c := &ledger.RefundCredit{Debit: debit}
	if amount > 0 {
		c.Amount = &amount
	}
	return c
}

// debited takes 100 credits and returns the debit's id.
func (f *fixture) debited(id ulid.ULID) string {
	f.t.Helper()
	r := f.do("acme", "credit.debit", debit(100), id)
	if r.Err != nil {
		f.t.Fatalf("debit: %v", r.Err)
	}
	return r.Data.(*events.Debited).ID
}

// refunded is the balance after a refund and what was refunded of its debit in all.
func refunded(r *Reply) string {
	if r.Err != nil {
		return string(r.Err.Code)
	}
	d := r.Data.(*events.Refunded)
	return fmt.Sprintf("%d, %d in all, posted %d", d.Amount, d.Refund.Refunded, d.Balance.Posted)
}

func (f *fixture) wantRefund(what string, cmd ledger.Command, want string) {
	f.t.Helper()
	if got := refunded(f.do("acme", "credit.refund", cmd, ulid.ULID{})); got != want {
		f.t.Fatalf("refund of %s: %s, want %s", what, got, want)
	}
}

// A debit is found with a receipt and without one, in the group of the refund, after
// others of other accounts, and after a start with or without a snapshot.
func TestRefundFindsTheDebit(t *testing.T) {
	for _, with := range []string{"log", "snapshot"} {
		t.Run(with, func(t *testing.T) {
			log, c := new(store.Memory), newClock()
			var snaps *store.MemorySnapshots
			begin := func() *fixture {
				if with == "log" {
					return run(t, log, c)
				}
				if snaps == nil {
					snaps = new(store.MemorySnapshots)
				}
				return snapping(t, log, c, snaps)
			}
			f := begin()
			f.funded("acme", 1000)
			f.funded("other", 1000)
			known, unknown := f.debited(c.id()), f.debited(ulid.ULID{})
			f.wantRefund("a debit with a receipt", refund(known, 10), "10, 10 in all, posted 810")
			f.wantRefund("a debit without one", refund(unknown, 20), "20, 20 in all, posted 830")
			if got := refunded(f.do("other", "credit.refund", refund(known, 10), c.id())); got != string(events.NotFound) {
				t.Errorf("another account's debit: %s", got)
			}
			f.wantRefund("what is no debit", refund("debit_"+c.id().String(), 0), string(events.NotFound))

			id := c.id()
			taken, given := f.submit("acme", "credit.debit", debit(30), id), f.submit("acme", "credit.refund", refund("debit_"+id.String(), 0), c.id())
			if a, b := <-taken, <-given; a.Err != nil || refunded(b) != "30, 30 in all, posted 830" {
				t.Errorf("at once after its debit: %+v, %s", a, refunded(b))
			}
			if with == "snapshot" {
				end := f.w.cfg.Tail.End().Sequence
				f.until("a snapshot", func() bool { s := f.w.snapshots.newest.Load(); return s != nil && s.Sequence >= end })
			}
			if err := f.end(); err != nil {
				t.Fatal(err)
			}
			c.advance(time.Hour)
			f = begin()
			<-f.w.Ready()
			f.wantRefund("an old debit with a receipt", refund(known, 0), "90, 100 in all, posted 920")
			f.wantRefund("an old debit without one", refund(unknown, 0), "80, 100 in all, posted 1000")
			f.wantRefund("all of it again", refund(unknown, 0), string(events.FailedPrecondition))
			if err := f.end(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A takeover in the middle: the debit's append had an unknown outcome, or the refund's.
func TestRefundAcrossATakeover(t *testing.T) {
	for _, lost := range []bool{true, false} {
		log, c := new(store.Memory), newClock()
		fails := map[string]bool{"credit.debit": true, "credit.refund": true}
		log.Fault = func(data []byte, _ uint64) store.Fault {
			commit, err := store.Decode(data)
			if err != nil || len(commit.Entries) == 0 || !fails[commit.Entries[0].Command] {
				return store.Fault{}
			}
			delete(fails, commit.Entries[0].Command)
			return store.Fault{Lose: lost, Err: errTimeout}
		}
		f := run(t, log, c)
		f.funded("acme", 1000)
		id, again := c.id(), c.id()
		first, second := f.submit("acme", "credit.debit", debit(100), id), f.submit("acme", "credit.refund", refund("debit_"+id.String(), 60), again)
		if a, b := <-first, <-second; a.Err != nil || refunded(b) != "60, 60 in all, posted 960" {
			t.Errorf("lost %t: %+v and %s", lost, a, refunded(b))
		}
		if r := f.do("acme", "credit.refund", refund("debit_"+id.String(), 60), again); !r.Replayed || refunded(r) != "60, 60 in all, posted 960" {
			t.Errorf("lost %t: again %+v", lost, r)
		}
		f.wantRefund("the rest", refund("debit_"+id.String(), 0), "40, 100 in all, posted 1000")
		if err := f.end(); err != nil || len(fails) > 0 {
			t.Fatalf("%v, left %v", err, fails)
		}
	}
}

// A retry is answered from its receipt, whether the debit can be read or not; what is no
// retry is refused before the debit is looked for.
func TestRefundLooksAtReceiptsFirst(t *testing.T) {
	log, c := new(store.Memory), newClock()
	var broken atomic.Uint64
	log.ReadFault = func(sequence uint64) error {
		if sequence == broken.Load() {
			return errors.New("the disk is on fire")
		}
		return nil
	}
	f := run(t, log, c)
	f.funded("acme", 1000)
	for _, own := range []ulid.ULID{c.id(), {}} {
		name, id := f.debited(own), c.id()
		at := f.w.cfg.Tail.End().Sequence
		first := f.do("acme", "credit.refund", refund(name, 10), id)
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		f = run(t, log, c)
		<-f.w.Ready()
		broken.Store(at)
		if r := f.do("acme", "credit.refund", refund(name, 10), id); !r.Replayed || r.Position != first.Position || refunded(r) != refunded(first) {
			t.Errorf("a retry: %+v, first %+v", r, first)
		}
		if r := f.do("acme", "credit.refund", refund(name, 11), id); codeOf(r) != events.IDReused {
			t.Errorf("same id, other amount: %+v", r)
		}
		if r := f.do("nobody", "credit.refund", refund(name, 10), c.id()); codeOf(r) != events.NotFound {
			t.Errorf("no such account: %+v", r)
		}
		f.wantRefund("what cannot be read", refund(name, 10), string(events.Unavailable))
		broken.Store(0)
		f.wantRefund("what can be read again", refund(name, 90), "90, 100 in all, posted 1000")
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// timed is a log whose commits are of given times, with an entry of acme's each.
func timed(t *testing.T, entries ...store.Commit) (*store.Memory, *store.Tail) {
	t.Helper()
	log, chain := new(store.Memory), store.Chain{}
	for _, c := range entries {
		c.PrevSequence, c.PrevHash, c.Ordinal = chain.Sequence, chain.Hash, chain.Ordinal
		var body []byte
		for i := range c.Entries {
			body = store.AppendEntry(body, &c.Entries[i])
		}
		if _, err := log.Append(t.Context(), c.Encode(body), chain.Sequence); err != nil {
			t.Fatal(err)
		}
		chain = store.ChainAt(&c)
	}
	tail := store.NewTail(log, 0)
	tail.Reset(chain)
	return log, tail
}

func entryAt(at time.Time, account string, id ulid.ULID) store.Commit {
	return store.Commit{Time: events.At(at), Entries: []store.Entry{{
		CommandID: id, Account: account, Command: "credit.debit", Outcome: events.OK,
		Events: []events.Event{{Type: "credit.debited", Account: account, Environment: events.Test, Data: &events.Debited{Debit: events.Debit{ID: "debit_" + id.String()}}}},
	}}}
}

func ulidAt(at time.Time) ulid.ULID {
	return ulid.MustNew(uint64(at.UnixMilli()), ulid.DefaultEntropy())
}

// An entry is found wherever an id of its time can have been committed, to the
// millisecond, and not elsewhere.
func TestSearchByTime(t *testing.T) {
	const ms = time.Millisecond
	for _, row := range []struct {
		later time.Duration // the commit, than its id
		found bool
	}{
		{-time.Minute - ms, false}, {-time.Minute, true}, {-time.Second, true}, {-ms, true}, {0, true}, {ms, true},
		{soonCommitted - ms, true}, {soonCommitted, true}, {soonCommitted + ms, true}, {time.Hour, true},
		{24 * time.Hour, true}, {24*time.Hour + ms, false},
	} {
		for _, neighbours := range []int{0, 1, 40} { // more of the same time, before and behind
			id := ulidAt(start)
			var list []store.Commit
			add := func(from, every time.Duration) {
				for i := range neighbours {
					at := start.Add(from + time.Duration(i)*every)
					list = append(list, entryAt(at, "acme", ulidAt(at)), entryAt(at, "other", id))
				}
			}
			if row.later > 0 {
				add(-2*time.Hour, time.Minute)
				add(0, row.later/100)
			} else {
				add(row.later, 0)
			}
			at := uint64(len(list)) + 1
			list = append(list, entryAt(start.Add(row.later), "acme", id))
			add(max(row.later, 0), time.Hour)
			_, tail := timed(t, list...)
			s := search{tail: tail, account: "acme", id: id}
			if err := s.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := ""
			if row.found {
				want = "debit_" + id.String()
			}
			if got := nameOf(s.found); got != want {
				t.Errorf("committed %s after its id at %d of %d: found %q, want %q", row.later, at, len(list), got, want)
			}
		}
	}
	_, tail := timed(t)
	s := search{tail: tail, account: "acme", id: ulidAt(start)}
	if err := s.run(t.Context()); err != nil || s.found != nil {
		t.Errorf("in an empty log: %v, %v", s.found, err)
	}
}

func nameOf(list []events.Event) string {
	if len(list) == 0 {
		return ""
	}
	return list[0].Data.(*events.Debited).ID
}

// What was not acknowledged yet is not there; what was damaged is no answer.
func TestSearchEndsWhereTheLogDoes(t *testing.T) {
	id := ulidAt(start)
	log, tail := timed(t, entryAt(start, "acme", ulidAt(start)), entryAt(start, "acme", ulidAt(start)), entryAt(start, "acme", id))
	c, err := tail.Commit(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	short := store.NewTail(log, 0)
	short.Reset(store.ChainAt(c))
	s := search{tail: short, account: "acme", id: id}
	if err := s.run(t.Context()); err != nil || s.found != nil {
		t.Errorf("behind the acknowledged end: %v, %v", s.found, err)
	}
	log.Damage(2, nil)
	s = search{tail: tail, account: "acme", id: id}
	if err := s.run(t.Context()); err == nil {
		t.Errorf("across a missing commit: %v", s.found)
	}
}

// A search that takes longer than the caller waits ends with that, and so it does when
// the writer stops; nothing was done then.
func TestSearchesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(store.Memory)
		var slow atomic.Bool
		log.ReadFault = func(uint64) error {
			if slow.Load() {
				<-time.After(time.Second)
			}
			return nil
		}
		begin := func() *fixture {
			return runWriter(t, log, nil, New(Config{Log: log, Tail: store.NewTail(log, 0)}))
		}
		f := begin()
		f.funded("acme", 1000)
		name := f.debited(ulid.ULID{})
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		f = begin()
		<-f.w.Ready()
		slow.Store(true)
		ask := func(timeout time.Duration) chan *Reply {
			return f.send(&Request{
				Account: "acme", Verb: "credit.refund", Spec: specOf("credit.refund"), Command: refund(name, 0),
				ID: ulid.Make(), Receipt: true, Deadline: time.Now().Add(timeout),
			})
		}
		began := time.Now()
		if r := <-ask(2 * time.Second); codeOf(r) != events.Unavailable || time.Since(began) > 4*time.Second {
			t.Errorf("after %s: %+v", time.Since(began), r)
		}
		if r := <-ask(time.Minute); codeOf(r) != events.OK {
			t.Errorf("with enough time: %+v", r.Err)
		}
		stopped := ask(time.Minute)
		synctest.Wait()
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		if r := <-stopped; codeOf(r) != events.Unavailable {
			t.Errorf("stopped: %+v", r)
		}
	})
}

// Only so many search at once; who has a receipt does not wait for them.
func TestTooManySearches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, c := new(store.Memory), newClock()
		gate := make(chan struct{})
		var blocked atomic.Uint64
		log.ReadFault = func(sequence uint64) error {
			if sequence == blocked.Load() {
				<-gate
			}
			return nil
		}
		f := run(t, log, c)
		f.funded("acme", 1000)
		unknown := f.debited(ulid.ULID{})
		at := f.w.cfg.Tail.End().Sequence
		known := f.debited(c.id())
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		f = run(t, log, c)
		<-f.w.Ready()
		blocked.Store(at)
		var replies []chan *Reply
		for range maxSearches + 1 {
			replies = append(replies, f.submit("acme", "credit.refund", refund(unknown, 1), c.id()))
		}
		if r := f.do("acme", "credit.refund", refund(known, 1), c.id()); codeOf(r) != events.OK {
			t.Errorf("with a receipt: %+v", r.Err)
		}
		synctest.Wait()
		for i, reply := range replies {
			if refused := len(reply) > 0; refused != (i == maxSearches) {
				t.Errorf("search %d of %d: answered %t", i+1, maxSearches, refused)
			}
		}
		close(gate)
		for i, reply := range replies {
			if r := <-reply; (codeOf(r) == events.Unavailable) != (i == maxSearches) {
				t.Errorf("search %d: %+v", i+1, r.Err)
			}
		}
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
	})
}

// Ids that are made here are of a time by which they are found, whatever their maker's
// clock said.
func TestOwnIDsCanBeFound(t *testing.T) {
	log, c := new(store.Memory), newClock()
	f := run(t, log, c)
	f.funded("acme", 1000)
	const ms = time.Millisecond
	for _, row := range []struct {
		off  time.Duration
		kept bool
	}{{0, true}, {-24 * time.Hour, true}, {-24*time.Hour - ms, false}, {time.Minute, true}, {time.Minute + ms, false}, {-1000 * time.Hour, false}} {
		id := ulidAt(start.Add(row.off))
		r := <-f.send(&Request{Account: "acme", Verb: "credit.debit", Spec: specOf("credit.debit"), Command: debit(100), ID: id})
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		name := r.Data.(*events.Debited).ID
		if kept := name == "debit_"+id.String(); kept != row.kept {
			t.Errorf("an id %s off: %s of %s", row.off, name, id)
		}
		if err := f.end(); err != nil { // so that nothing is in memory
			t.Fatal(err)
		}
		f = run(t, log, c)
		f.wantRefund("it", refund(name, 0), "100, 100 in all, posted 1000")
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}
