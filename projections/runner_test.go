package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// fold is a projection that a test makes up.
type fold struct {
	name  string
	apply func(*store.Commit) error
}

// made registers one projection, which is never made again.
func made(p Projection) Registration { return Registration{New: func() Projection { return p }} }

func (f *fold) Name() string                                        { return f.name }
func (f *fold) Version() uint64                                     { return 1 }
func (f *fold) Apply(c *store.Commit, _ int, _ *events.Event) error { return f.apply(c) }
func (f *fold) Save(_ string, b []byte) []byte                      { return b }
func (f *fold) Load(string, []byte) error                           { return nil }

func TestRunnerGivesEachCommitOnceInOrder(t *testing.T) {
	h := newHistory(t)
	h.commit(h.account("acme"))
	var got []uint64
	r := NewRunner(h.tail, 0, quiet(), made(&fold{"list", func(c *store.Commit) error {
		got = append(got, c.Sequence)
		return nil
	}}))
	stop := run(t, r.Run)
	for range 50 {
		h.commit(h.account("acme"))
	}
	if err := r.Wait(patience(t), h.chain.Sequence); err != nil {
		t.Fatal(err)
	}
	stop()
	run(t, r.Run) // goes on, does not start again
	h.commit(h.account("acme"))
	if err := r.Wait(patience(t), h.chain.Sequence); err != nil {
		t.Fatal(err)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(got) != 52 {
		t.Fatalf("%d events were applied, not 52: %v", len(got), got)
	}
	for i, sequence := range got {
		if sequence != uint64(i+2) { // the first is an "epoch started", without events
			t.Fatalf("the event of commit %d was applied as number %d", sequence, i)
		}
	}
	if r.applied != h.chain {
		t.Errorf("applied is %+v, the log's end %+v", r.applied, h.chain)
	}
}

func TestWait(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	if err := v.Wait(patience(t), 1); err != nil {
		t.Errorf("wait for what is applied: %v", err)
	}
	short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	err := v.Wait(short, 2)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for what does not come: %v, want the deadline", err)
	}
	var group sync.WaitGroup
	for sequence := uint64(2); sequence <= 10; sequence++ {
		group.Go(func() {
			if err := v.Wait(patience(t), sequence); err != nil {
				t.Error(err)
			}
			if got := v.Applied().Sequence; got < sequence {
				t.Errorf("waited for %d, applied is %d", sequence, got)
			}
		})
	}
	for range 9 {
		h.commit(h.account("acme"))
	}
	group.Wait()
}

func TestFailingProjectionStopsAlone(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("cannot take it") },
		"panic": func() error { panic("cannot take it") },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t)
			var good, bad int
			var log bytes.Buffer
			r := NewRunner(h.tail, 0, slog.New(slog.NewJSONHandler(&log, nil)),
				made(&fold{"bad", func(c *store.Commit) error {
					bad++
					if c.Sequence == 3 {
						return fail()
					}
					return nil
				}}),
				made(&fold{"good", func(*store.Commit) error { good++; return nil }}))
			run(t, r.Run)
			for range 4 {
				h.commit(h.account("acme"))
			}
			if err := r.Wait(patience(t), 5); err != nil {
				t.Fatal(err)
			}
			status := r.Status()
			r.mu.Lock()
			defer r.mu.Unlock()
			if good != 4 || bad != 2 {
				t.Errorf("the good one took %d events of 4, the bad one was given %d of 2", good, bad)
			}
			if !strings.Contains(log.String(), `"position":"0:3"`) || !strings.Contains(log.String(), `"projection":"bad"`) {
				t.Errorf("the log does not say where what failed: %s", &log)
			}
			if s := status[0]; s.Name != "bad" || s.Position != "0:2" || s.LagCommits != 3 || s.LagEvents != 3 ||
				!strings.Contains(s.Failure, "stopped at 0:3") || !strings.Contains(s.Failure, "cannot take it") {
				t.Errorf("status of the bad one: %+v", s)
			}
			if want := (Status{Name: "good", Version: 1, Position: "0:5"}); status[1] != want {
				t.Errorf("status of the good one: %+v", status[1])
			}
		})
	}
}

func TestQueriesOfAFailedViewAreUnavailable(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	h.commit(h.account("acme"), h.granted("acme", "grant_1", 100, 0, 100))
	h.commit(h.debited("acme", "key_unknown", 60, events.Draw{Grant: "grant_1", Amount: 40}))
	h.commit(h.granted("acme", "grant_2", 1, 0, 61))
	wait(t, v, 4)
	for _, verb := range []string{"key.get", "key.list"} {
		body := "{}"
		if verb == "key.get" {
			body = `{"key":"` + h.id(keyIDPrefix) + `"}`
		}
		_, err := ask(t, v, verb, "acme", body)
		if err == nil || err.Code != events.Unavailable || err.Details["position"] != "0:3" {
			t.Errorf("%s of the failed view: %v %v", verb, err, err.Details)
		}
	}
	got := into[struct{ Balance Balance }](t, v, "balance.get", "acme", `{"environment":"test"}`).Balance
	if got.Posted != 61 {
		t.Errorf("the other views did not go on: posted %d", got.Posted)
	}
}

func TestInconsistentMoneyStopsBalances(t *testing.T) {
	for name, bad := range map[string]func(h *history) events.Event{
		"wrong sum": func(h *history) events.Event { return h.granted("acme", "grant_2", 1, 0, 500) },
		"unknown grant": func(h *history) events.Event {
			return h.debited("acme", "", 99, events.Draw{Grant: "grant_9", Amount: 1})
		},
		"too much": func(h *history) events.Event {
			return h.debited("acme", "", -1, events.Draw{Grant: "grant_1", Amount: 101})
		},
		"owed while there is enough": func(h *history) events.Event {
			return h.debited("acme", "", 90, events.Draw{Grant: events.OverdraftGrant, Amount: 10})
		},
		"an allowance that is not there": func(h *history) events.Event {
			return h.debited("acme", "", 90, events.Draw{Grant: events.AllowanceGrant, Amount: 10})
		},
		"given back though nothing was spent": func(h *history) events.Event {
			return events.Event{Type: "credit.refunded", Account: "acme", Environment: events.Test, Data: &events.Refunded{
				Refund: events.Refund{Amount: 10, Returned: []events.Draw{{Grant: events.AllowanceGrant, Amount: 10}}}, Balance: smallBalance(110)}}
		},
		"more held than it says": func(h *history) events.Event {
			return h.held("acme", "placed", h.placed("hold_1", ""), 100, 9)
		},
		"another rest of the allowance": func(h *history) events.Event {
			return events.Event{Type: "credit.replenished", Account: "acme", Environment: events.Test, Data: &events.Replenished{
				Replenishment: events.Replenishment{Amount: 10, Remaining: 10, Before: 10}, Balance: smallBalance(100)}}
		},
		"no balance": func(h *history) events.Event {
			return h.debited("beta", "", -1, events.Draw{Grant: "grant_1", Amount: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t)
			v := follow(t, h.tail)
			h.commit(h.account("acme"), h.account("beta"), h.granted("acme", "grant_1", 100, 0, 100))
			h.commit(bad(h))
			wait(t, v, 3)
			if _, err := ask(t, v, "balance.get", "acme", `{"environment":"test"}`); err == nil || err.Code != events.Unavailable {
				t.Errorf("balance.get: %v", err)
			}
		})
	}
}

func TestRunStopsAtDamage(t *testing.T) {
	h := newHistory(t)
	for range 5 {
		h.commit(h.account("acme"))
	}
	h.log.Damage(4, nil)
	v := NewViews(h.again(), 0, quiet())
	err := v.Run(patience(t))
	var damage *store.DamageError
	if !errors.As(err, &damage) || damage.Sequence != 4 {
		t.Fatalf("Run over a log without message 4: %v", err)
	}
	if got := v.Applied().Sequence; got != 3 {
		t.Errorf("applied %d commits before the damage, not 3", got)
	}
}

// TestAnswersAreTrueAtTheirPosition: what a query says is what the log says at the
// position the answer bears, never a mix of before and after.
func TestAnswersAreTrueAtTheirPosition(t *testing.T) {
	h := newHistory(t)
	v := NewViews(h.tail, 0, quiet())
	run(t, v.Run)
	key, created := h.key("acme", events.Test)
	first := h.commit(h.account("acme"), created, h.granted("acme", "grant_1", 1_000_000, 0, 1_000_000)).Sequence
	wait(t, v, first)
	const commits, perCommit = 300, 7
	getBalance, getKey := v.Queries()["balance.get"], v.Queries()["key.get"]
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for at := first; at < first+commits; {
				answer, err := getBalance(context.Background(), &Query{Account: "acme", Body: []byte(`{"environment":"test"}`)})
				if err != nil {
					t.Error(err)
					return
				}
				at = answer.Position.Sequence
				b := answer.Result.(balanceResult).Balance
				if want := 1_000_000 - int64(at-first)*perCommit; b.Posted != want || b.Grants[0].Remaining != want {
					t.Errorf("at %s posted is %d, remaining %d, want %d", answer.Position, b.Posted, b.Grants[0].Remaining, want)
					return
				}
				if _, err := getKey(context.Background(), &Query{Account: "acme", Body: fmt.Appendf(nil, `{"key":%q}`, key)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	posted := int64(1_000_000)
	for range commits {
		var list []events.Event
		for range perCommit {
			posted--
			list = append(list, h.debited("acme", key, posted, events.Draw{Grant: "grant_1", Amount: 1}))
		}
		h.commit(list...)
	}
	group.Wait()
}

// TestReadersStopAtWhatIsNewer: at an event that a newer keyledger wrote, views and feed
// stop with words that say so; nothing is passed over.
func TestReadersStopAtWhatIsNewer(t *testing.T) {
	f := newFeedTest(t)
	f.commit(f.account("acme"))
	c := &store.Commit{Epoch: 1, Time: f.now, PrevSequence: f.chain.Sequence, PrevHash: f.chain.Hash, Ordinal: f.chain.Ordinal, Entries: make([]store.Entry, 1)}
	entry := f.entry(f.account("beta"))
	newer := bytes.Replace(store.AppendEntry(nil, &entry), []byte("account.opened"), []byte("account.merged"), 1)
	if _, err := f.log.Append(t.Context(), c.Encode(newer), f.chain.Sequence); err != nil {
		t.Fatal(err)
	}
	end := f.chain
	end.Sequence, end.Hash, end.Ordinal = end.Sequence+1, c.Hash, end.Ordinal+1
	tail := store.NewTail(f.log, 0)
	tail.Reset(end)
	v := NewViews(tail, 0, quiet())
	for name, run := range map[string]func(context.Context) error{"views": v.Run, "feed": f.feed(tail).Run} {
		err := run(patience(t))
		var damage *store.DamageError
		if !errors.As(err, &damage) || !damage.Newer || damage.Sequence != 3 ||
			!strings.Contains(err.Error(), `event type "account.merged" version 1 is not known to this keyledger: use a newer one`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := v.Applied().Sequence; got != 2 {
		t.Errorf("applied %d commits before it, not 2", got)
	}
}
