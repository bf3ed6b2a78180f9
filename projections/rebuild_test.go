package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// workEnd waits for the end of the work that runs and returns it.
func workEnd(t *testing.T, r *Runner) *Work {
	t.Helper()
	r.works.mu.Lock()
	ended := r.works.ended
	r.works.mu.Unlock()
	select {
	case <-ended:
	case <-patience(t).Done():
		t.Fatalf("the work does not end: %+v", r.Work())
	}
	return r.Work()
}

// rebuild makes projections again and wants that to succeed.
func rebuild(t *testing.T, r *Runner, names ...string) {
	t.Helper()
	if _, err := r.Rebuild(names...); err != nil {
		t.Fatal(err)
	}
	if w := workEnd(t, r); w.State != workDone || w.Failure != "" {
		t.Fatalf("rebuild: %+v", w)
	}
}

// verify compares and returns what differs, by name.
func verify(t *testing.T, v *Views, checks ...Check) map[string]Finding {
	t.Helper()
	if _, err := v.Verify(checks...); err != nil {
		t.Fatal(err)
	}
	w := workEnd(t, v.Runner)
	if w.State != workDone || len(w.Findings) != len(v.slots)+len(checks) {
		t.Fatalf("verify: %+v", w)
	}
	differ := map[string]Finding{}
	for _, f := range w.Findings {
		if !f.Equal {
			differ[f.Name] = f
		}
	}
	return differ
}

// TestRebuildAndVerifyWhileCommandsRun: at any moment of a random history every view is
// made again, in any combination, and is what the model says; and verifications find
// nothing.
func TestRebuildAndVerifyWhileCommandsRun(t *testing.T) {
	random := newRandom(t)
	h := newHistory(t)
	m := newModel(h, random)
	for range 200 {
		m.commit(random.IntN(20))
	}
	h.tail = h.again() // so far the log has to be read
	v := follow(t, h.tail)
	var group sync.WaitGroup
	turns := make(chan struct{})
	group.Go(func() {
		for range turns {
			for range 40 {
				m.commit(random.IntN(20))
			}
		}
	})
	for n := range 24 {
		turns <- struct{}{} // commands that are committed meanwhile
		if n%3 == 2 {
			if differ := verify(t, v); len(differ) > 0 {
				t.Errorf("verify: %+v", differ)
			}
		} else {
			rebuild(t, v.Runner, v.names()[n%len(v.names()):]...)
		}
	}
	close(turns)
	group.Wait()
	wait(t, v, h.chain.Sequence)
	m.check(t, v)
	sameViews(t, "rebuilt", follow(t, h.again()), v)
	if differ := verify(t, v); len(differ) > 0 {
		t.Errorf("verify at rest: %+v", differ)
	}
}

// TestJoin: what is at most 16 commits behind takes its place, with all that was missing.
func TestJoin(t *testing.T) {
	h := newHistory(t)
	m := newModel(h, newRandom(t))
	for range 60 {
		m.commit(5)
	}
	want := follow(t, h.again())
	for behind := range uint64(joinCommits + 2) {
		v := NewViews(h.tail, 0, quiet())
		j := &job{r: v.Runner, work: &Work{}}
		for i := range v.slots {
			j.fresh = append(j.fresh, &fresh{Projection: v.slots[i].how.New(), slot: i})
		}
		for sequence := uint64(1); sequence <= h.chain.Sequence; sequence++ {
			c, err := h.tail.Commit(t.Context(), sequence)
			if err != nil {
				t.Fatal(err)
			}
			v.apply(c)
			if sequence <= h.chain.Sequence-behind {
				if err := j.fold(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
		}
		joined, err := j.join()
		if err != nil || joined != (behind <= joinCommits) {
			t.Fatalf("%d commits behind it joined: %t, %v", behind, joined, err)
		}
		if joined && (v.accounts != j.fresh[0].Projection || j.chain != v.applied) {
			t.Errorf("%d commits behind it did not take its place", behind)
		}
		sameViews(t, "joined", want, v)
	}
}

// TestVerifyFindsAWrongViewAndRebuildCuresIt: one account of one view, whichever it is.
func TestVerifyFindsAWrongViewAndRebuildCuresIt(t *testing.T) {
	random := newRandom(t)
	h := newHistory(t)
	m := newModel(h, random)
	for range 300 {
		m.commit(random.IntN(20))
	}
	v := follow(t, h.again())
	account := m.account()
	for name, spoil := range map[string]func(){
		viewAccounts: func() {
			changed := *v.accounts.byID[account].value
			changed.Name = "another"
			v.accounts.byID[account].value = &changed
		},
		ViewKeys:     func() { v.keys.lists[account] = v.keys.lists[account][1:] },
		viewBalances: func() { v.balances.byID[v.balances.accounts[account][0]].Posted++ },
		viewEndpoints: func() {
			v.endpoints.place(account, "endpoint_1", 1).value = &events.Endpoint{ID: "endpoint_1", Account: account}
		},
	} {
		if name == ViewKeys && len(v.keys.lists[account]) == 0 || name == viewBalances && len(v.balances.accounts[account]) == 0 {
			continue
		}
		v.mu.Lock()
		spoil()
		v.mu.Unlock()
		differ := verify(t, v)
		got := differ[name]
		if len(differ) != 1 || got.Account != account || got.Position != h.chain.Position().String() || *got.Live == *got.Fresh ||
			!strings.Contains(got.Reason, account) {
			t.Errorf("%s of %s is wrong, found: %+v", name, account, differ)
		}
		rebuild(t, v.Runner, name)
		if differ := verify(t, v); len(differ) > 0 {
			t.Errorf("%s was made again: %+v", name, differ)
		}
	}
	sameViews(t, "rebuilt", follow(t, h.again()), v)

	v.mu.Lock()
	v.accounts.place(ledgerItself, "ghost", 1).value = &events.Account{ID: "ghost"}
	v.mu.Unlock()
	if differ := verify(t, v); len(differ) != 1 || differ[viewAccounts].Account != "ghost" {
		t.Errorf("an account that the log does not have: %+v", differ)
	}
}

// TestVerifyDigestsAreOfTheLog: whoever folds the same log gets the same digests.
func TestVerifyDigestsAreOfTheLog(t *testing.T) {
	random := newRandom(t)
	h := newHistory(t)
	m := newModel(h, random)
	for range 100 {
		m.commit(random.IntN(20))
	}
	var first []Finding
	for range 2 {
		v := follow(t, h.again())
		verify(t, v)
		found := v.Work().Findings
		if first == nil {
			first = found
		}
		for i, f := range found {
			if *f.Live != *first[i].Live || *f.Fresh != *first[i].Live || f.Accounts != uint64(len(m.accounts)) {
				t.Errorf("%+v after %+v", f, first[i])
			}
		}
	}
}

// flaky is a projection that fails where it is told to.
type flaky struct {
	fold
	count int
}

func newFlaky(fails func(*store.Commit) error) Registration {
	return Registration{
		New: func() Projection {
			f := &flaky{}
			f.fold = fold{"flaky", func(c *store.Commit) error { f.count++; return fails(c) }}
			return f
		},
		Queries: map[string]AnswerFunc{
			"flaky.count": func(p Projection, _ *Query) (any, *events.Error) { return p.(*flaky).count, nil },
		},
	}
}

// TestFailedProjectionIsRebuilt by the operator; what does not work when it is made again
// changes nothing where something works.
func TestFailedProjectionIsRebuilt(t *testing.T) {
	h := newHistory(t)
	var bad atomic.Int64 // the commit that cannot be taken
	bad.Store(3)
	v := NewViews(h.tail, 0, quiet(), newFlaky(func(c *store.Commit) error {
		if int64(c.Sequence) == bad.Load() {
			return errors.New("cannot take it")
		}
		return nil
	}))
	run(t, v.Run)
	for range 5 {
		h.commit(h.account("acme"))
	}
	wait(t, v, h.chain.Sequence)
	refused(t, v, events.Unavailable, "flaky.count", "acme", "")
	if _, err := v.Rebuild("flaky"); err != nil {
		t.Fatal(err)
	}
	if w := workEnd(t, v.Runner); w.State != workFailed || !strings.Contains(w.Failure, "flaky stopped at 0:3: cannot take it") {
		t.Errorf("it fails again: %+v", w)
	}
	refused(t, v, events.Unavailable, "flaky.count", "acme", "")
	if got := verify(t, v)["flaky"]; !strings.Contains(got.Reason, "it stopped at 0:3") {
		t.Errorf("verify of what failed: %+v", got)
	}
	bad.Store(0)
	rebuild(t, v.Runner, "flaky")
	if got := into[int](t, v, "flaky.count", "acme", ""); got != 5 {
		t.Errorf("made again it has %d events of 5", got)
	}
	if s := v.Status()[len(v.slots)-1]; s.Failure != "" || s.LagCommits != 0 || s.Position != "0:6" {
		t.Errorf("status: %+v", s)
	}
	bad.Store(4)
	if _, err := v.Rebuild("flaky", ViewKeys); err != nil {
		t.Fatal(err)
	}
	if w := workEnd(t, v.Runner); w.State != workFailed {
		t.Errorf("a rebuild that fails: %+v", w)
	}
	h.commit(h.account("beta"))
	wait(t, v, h.chain.Sequence)
	if got := into[int](t, v, "flaky.count", "acme", ""); got != 6 {
		t.Errorf("the one before goes on: %d events of 6", got)
	}
}

// later says that projections are not there.
func later(v *Views, names ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.slots {
		if slices.Contains(names, v.slots[i].name) {
			v.makeLater(&v.slots[i])
		}
	}
}

// TestMadeLater: what is not there at the start is made beside the others, which serve.
func TestMadeLater(t *testing.T) {
	h := newHistory(t)
	for n := range 30 { // more than are folded under the lock
		h.commit(h.account(fmt.Sprint("account-", n)))
	}
	var gated atomic.Bool
	gate, entered := make(chan struct{}), make(chan struct{}, 100)
	v := NewViews(h.tail, 0, quiet(), newFlaky(func(*store.Commit) error {
		if gated.Load() {
			entered <- struct{}{}
			<-gate
		}
		return nil
	}))
	stop := run(t, v.Run)
	wait(t, v, h.chain.Sequence)
	stop()
	gated.Store(true)
	later(v, "flaky", ViewKeys)
	run(t, v.Run)
	<-entered
	wait(t, v, h.chain.Sequence)
	if into[struct{ Accounts []events.Account }](t, v, "account.list", "_", "").Accounts == nil {
		t.Error("the others do not serve")
	}
	for _, verb := range []string{"flaky.count", "key.list"} {
		_, err := ask(t, v, verb, "account-1", "")
		if err == nil || err.Code != events.Unavailable || !strings.Contains(err.Message, "0:0 of 0:31") {
			t.Errorf("%s while it is made: %v", verb, err)
		}
	}
	if s := v.Status()[1]; s.Position != "0:0" || s.LagCommits != 31 || s.Rebuild != "0:0 of 0:31" {
		t.Errorf("status of keys: %+v", s)
	}
	short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := v.Made(short, ViewKeys); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Made: %v", err)
	}
	close(gate)
	if err := v.Made(patience(t), ViewKeys); err != nil {
		t.Fatal(err)
	}
	if got := into[int](t, v, "flaky.count", "account-1", ""); got != 30 {
		t.Errorf("it has %d events of 30", got)
	}
	into[struct{}](t, v, "key.list", "account-1", "")
}

// TestStopDuringARebuild: what is not there is made at the next run, from the beginning.
func TestStopDuringARebuild(t *testing.T) {
	h := newHistory(t)
	for range 3 * workHurry {
		h.commit(h.account("acme"))
	}
	tail := h.again()
	v := NewViews(tail, 0, quiet())
	stop := run(t, v.Run)
	wait(t, v, h.chain.Sequence)
	stop()
	later(v, ViewKeys)
	resting := make(chan struct{}, 1)
	v.works.after = func(time.Duration) <-chan time.Time { signal(resting); return nil }
	stop = run(t, v.Run)
	for reached := false; !reached; { // commands are committed all the time
		select {
		case <-resting:
			reached = true
		default:
			tail.Push(h.commit())
		}
	}
	stop()
	if w := v.Work(); w.State != workFailed || w.Position == "0:0" {
		t.Errorf("after the stop: %+v", w)
	}
	refused(t, v, events.Unavailable, "key.list", "acme", "")
	v.works.after = time.After
	run(t, v.Run)
	if err := v.Made(patience(t), ViewKeys); err != nil {
		t.Fatal(err)
	}
	if w := v.Work(); w.Number != 2 {
		t.Errorf("after the next start: %+v", w)
	}
	sameViews(t, "made later", follow(t, h.again()), v)
}

func TestRebuildRefusals(t *testing.T) {
	h := newHistory(t)
	v := NewViews(h.tail, 0, quiet()) // it does not run: work waits
	for _, names := range [][]string{{}, {"nothing"}, {ViewKeys, "nothing"}} {
		_, err := v.Rebuild(names...)
		if err == nil || err.Code != events.InvalidArgument || !strings.Contains(err.Message, "accounts, keys, balances, holds, endpoints") {
			t.Errorf("rebuild %q: %v", names, err)
		}
	}
	for _, name := range []string{"feed", "kv", "archive"} {
		_, err := v.Rebuild(ViewKeys, name)
		if err == nil || err.Code != events.InvalidArgument || !strings.Contains(err.Message, name+" is not rebuilt by this: ") {
			t.Errorf("rebuild %s: %v", name, err)
		}
	}
	if w := v.Work(); w != nil {
		t.Errorf("work: %+v", w)
	}
	if w, err := v.Rebuild(ViewKeys, ViewKeys); err != nil || len(w.Projections) != 1 {
		t.Errorf("twice the same name: %+v, %v", w, err)
	}
	_, err := v.Rebuild(viewHolds)
	_, again := v.Verify()
	for _, err := range []*events.Error{err, again} {
		if err == nil || err.Code != events.FailedPrecondition || !strings.Contains(err.Message, "rebuild of keys is running, at 0:0 of 0:1") {
			t.Errorf("while one runs: %v", err)
		}
	}
	run(t, v.Run)
	workEnd(t, v.Runner)
	rebuild(t, v.Runner, viewHolds)
}

// TestRebuildOfADamagedLog fails and says where; the live views stay as they are.
func TestRebuildOfADamagedLog(t *testing.T) {
	h := newHistory(t)
	for range 5 {
		h.commit(h.account("acme"))
	}
	tail := h.again()
	v := follow(t, tail)
	h.log.Damage(4, nil)
	if _, err := v.Rebuild(viewAccounts); err != nil {
		t.Fatal(err)
	}
	if w := workEnd(t, v.Runner); w.State != workFailed || !strings.Contains(w.Failure, "log damaged at 0:4") {
		t.Errorf("%+v", w)
	}
	into[struct{}](t, v, "account.get", "acme", "")
}

// TestRests: while commands are committed, work on the log rests as long as it worked,
// until it is close to the end; in a quiet ledger it does not.
func TestRests(t *testing.T) {
	h := newHistory(t)
	for range 3 * workHurry {
		h.commit(h.account("acme"))
	}
	for _, busy := range []bool{false, true} {
		tail := h.again()
		v := follow(t, tail)
		var rests, count int
		v.works.after = func(time.Duration) <-chan time.Time {
			rests++
			now := make(chan time.Time, 1)
			now <- time.Time{}
			return now
		}
		j := &job{r: v.Runner, work: &Work{}, fresh: []*fresh{{Projection: &fold{"any", func(*store.Commit) error {
			if count++; busy && count%1000 == 0 {
				tail.Push(h.commit())
			}
			return nil
		}}}}}
		for sequence := uint64(1); sequence <= 3*workHurry; sequence++ {
			c, err := tail.Commit(t.Context(), sequence)
			if err != nil {
				t.Fatal(err)
			}
			if err := j.fold(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		// Two events a commit count (one is for itself); the first piece only begins, and the
		// last are close to the end.
		if want := map[bool]int{true: 3}[busy]; rests != want {
			t.Errorf("busy %t: %d rests, want %d", busy, rests, want)
		}
	}
}

// TestFreeUsesAreHandedOn: they stand in no event, so the view that is made again is told.
func TestFreeUsesAreHandedOn(t *testing.T) {
	h := newHistory(t)
	h.commit(h.account("acme"))
	var list []Use
	for range usedTurn + 3 {
		id, created := h.key("acme", events.Test)
		h.commit(created)
		list = append(list, Use{"acme", id, h.now + 1000, "192.0.2.1", "search"})
	}
	v := follow(t, h.tail)
	v.Used(list)
	rebuild(t, v.Runner, ViewKeys)
	for _, use := range list {
		got := into[struct{ Key events.Key }](t, v, "key.get", "acme", fmt.Sprintf(`{"key":%q}`, use.Key)).Key
		if got.LastUsedAt != use.At || got.LastUsedIP != use.IP || got.LastUsedProduct != use.Product {
			t.Errorf("last used: %+v, want %+v", got, use)
		}
	}
}
