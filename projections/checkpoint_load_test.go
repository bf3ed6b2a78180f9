package projections

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// TestAccountsAreLoadedWhenAskedFor, each alone, and all for a question about all.
func TestAccountsAreLoadedWhenAskedFor(t *testing.T) {
	h, dir, live, _ := small(t)
	id, created := h.key("acme", events.Test)
	h.commit(created)
	live.catchUp(h.chain.Sequence)
	live.save()
	o := open(t, h.tail, dir)
	loaded := func() (list []string) {
		for i, at := range o.unread.at {
			if at == 0 {
				list = append(list, o.known[i])
			}
		}
		return list
	}
	if len(loaded()) > 0 {
		t.Errorf("loaded at once: %v", loaded())
	}
	if _, err := ask(t, o.Views, "account.get", "nobody", `{}`); err == nil || err.Code != events.NotFound {
		t.Errorf("an account that is not there: %v", err)
	}
	o.Used([]Use{{"acme", id, h.now + 5, "192.0.2.1", "search"}})
	if got := into[struct{ Key events.Key }](t, o.Views, "key.get", "acme", fmt.Sprintf(`{"key":%q}`, id)).Key; got.LastUsedAt != h.now+5 {
		t.Errorf("a use of a key that was not loaded is lost: %+v", got)
	}
	if got := loaded(); !slices.Equal(got, []string{"acme"}) {
		t.Errorf("loaded %v", got)
	}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.Queries()["account.list"](short, &Query{Account: ledgerItself}); err == nil || err.Code != events.Unavailable {
		t.Errorf("a list of all while some are not loaded: %v", err)
	}
	c := h.commit(h.account("gamma")) // is listed after those that are not loaded
	o.catchUp(c.Sequence)
	live.catchUp(c.Sequence)
	run(t, o.Run)
	type list struct{ Accounts []events.Account }
	if a, b := into[list](t, live.Views, "account.list", ledgerItself, ""), into[list](t, o.Views, "account.list", ledgerItself, ""); len(b.Accounts) != 3 || fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("accounts %+v, want %+v", b, a)
	}
	if o.unread != nil {
		t.Error("the file's bytes are kept")
	}
}

// TestViewsAreWholeOnlyBehindTheEnd: between a checkpoint's base and its end accounts are
// of different moments, so nothing is answered.
func TestViewsAreWholeOnlyBehindTheEnd(t *testing.T) {
	h, dir, live, _ := small(t)
	live.saving.step = func(step string) {
		if step == "turn" {
			live.catchUp(h.commit(h.granted("beta", "grant_2", 5, 0, 5)).Sequence)
			live.saving.step = func(string) {}
		}
	}
	live.save()
	o := open(t, h.again(), dir)
	if _, err := ask(t, o.Views, "balance.get", "beta", `{"environment":"test"}`); err == nil || err.Code != events.Unavailable {
		t.Errorf("beta's balance is of the end, the position of the base: %v", err)
	}
	o.catchUp(h.chain.Sequence)
	if got := into[struct{ Balance Balance }](t, o.Views, "balance.get", "beta", `{"environment":"test"}`).Balance; got.Posted != 5 {
		t.Errorf("got %+v", got)
	}
}

// TestCheckpointsBesideTheWork: with commits, questions, the loader and checkpoints all at
// once the views stay those of the log.
func TestCheckpointsBesideTheWork(t *testing.T) {
	h, dir := newHistory(t), t.TempDir()
	m := newModel(h, newRandom(t))
	for range 3 {
		o := open(t, h.tail, dir)
		stop := run(t, o.Run)
		asking, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() {
				for i := 0; asking.Err() == nil; i++ {
					for _, verb := range []string{"account.get", "key.list", "hold.list"} {
						if _, err := ask(t, o.Views, verb, fmt.Sprintf("account-%d", i%10), `{}`); err != nil && err.Code == events.Unavailable && o.Applied() == h.tail.End() {
							t.Errorf("%s: %v", verb, err)
						}
					}
				}
			})
		}
		for range 100 {
			m.commit(5)
		}
		wait(t, o.Views, h.chain.Sequence)
		cancel()
		group.Wait()
		if made := o.Checkpoint(); made == nil {
			c := m.commit(1)
			wait(t, o.Views, c.Sequence)
		}
		for deadline := time.Now().Add(30 * time.Second); o.Checkpoint() == nil && time.Now().Before(deadline); {
			wait(t, o.Views, m.commit(1).Sequence)
		}
		stop()
		sameSaved(t, follow(t, h.again()), o.Views)
		if o.Checkpoint() == nil || strings.Contains(o.log.String(), "cannot") {
			t.Errorf("checkpoint %+v, logged %s", o.Checkpoint(), &o.log)
		}
	}
}

// TestCheckpointIsDue after so much of the log, and no less than there are accounts; and
// not on a long way to the log's end.
func TestCheckpointIsDue(t *testing.T) {
	h := newHistory(t)
	tail := h.again()
	o := NewViews(tail, 0, quiet())
	o.Checkpoints(CheckpointConfig{Dir: t.TempDir(), Every: 6})
	step := func(list ...events.Event) bool {
		o.apply(h.commit(list...))
		return o.due()
	}
	if step(h.account("acme"), h.account("beta")) || !step(h.account("gamma")) { // a commit that it was not given, and two
		t.Error("it is not due after 3 commits and 3 events")
	}
	for h.chain.Sequence < 10 {
		h.commit(h.granted("acme", h.id("grant_"), 10, 0, 10))
	}
	o.saving.Every = 4 * caughtUpPart
	for _, end := range []struct {
		sequence uint64
		near     bool
	}{{5, true}, {6, false}} { // 4 and 6 commits and events
		c, err := commitAt(t.Context(), h.tail, 0, end.sequence)
		if err != nil {
			t.Fatal(err)
		}
		tail.Reset(store.ChainAt(c))
		if o.caughtUp() != end.near {
			t.Errorf("caught up with %d: %t", end.sequence, o.caughtUp())
		}
	}
	o.saving.Every = 6
	for len(o.known) < 7 {
		o.known = append(o.known, "another")
	}
	if o.due() {
		t.Error("it is due after fewer commits and events than there are accounts")
	}
}

// A bucket that was written before is compared with views of which nothing is loaded.
func TestKVFromACheckpoint(t *testing.T) {
	k := newKVTest(t)
	k.create()
	m := newModel(k.history, newRandom(t))
	for range 30 {
		m.commit(10)
	}
	dir := t.TempDir()
	live := open(t, k.again(), dir)
	live.catchUp(k.chain.Sequence)
	live.save()
	run := func(v *Views) []*nats.Msg {
		kv := k.kv(v, k.tail)
		stop := run(t, kv.Run)
		awaitDone(t, kv, k.chain.Sequence)
		stop()
		return k.written()
	}
	run(live.Views)
	k.put(store.BucketBalances, m.accounts[0]+".test.nothing", "{}")
	o := open(t, k.again(), dir)
	if got := run(o.Views); len(got) != 1 || got[0].Header.Get("KV-Operation") != "DEL" {
		t.Errorf("wrote %d values: %v", len(got), got)
	}
	o.loadAll()
	k.check(o.Views)
}
