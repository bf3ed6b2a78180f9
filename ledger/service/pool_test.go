package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/keyledger/keyledger/events"
)

// enters enters n times; all must be let in at once.
func enters(t *testing.T, p *pool, account string, n int) {
	t.Helper()
	gone, cancel := context.WithCancel(t.Context())
	cancel() // who has to wait is refused
	for i := range n {
		if err := p.enter(gone, account); err != nil {
			t.Fatalf("query %d of %s: %v", i+1, account, err)
		}
	}
}

// No account runs more than its share of what may run, and who comes when all is taken waits: so
// many of an account, and so many in all.
func TestPoolLimits(t *testing.T) {
	for _, l := range []limits{quickLimits, readLimits, waitLimits, commandLimits, askLimits} {
		t.Run(fmt.Sprintf("%+v", l), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { poolLimits(t, l) })
		})
	}
}

func poolLimits(t *testing.T, l limits) {
	p := newPool(l, "queries are tested")
	ctx, cancel := context.WithCancel(t.Context())
	enters(t, p, "acme", l.most())
	running := []string{"acme"}
	ended := make(chan *events.Error, l.queue)
	waits := 0
	wait := func(account string, n int) {
		for range n {
			go func() { ended <- p.enter(ctx, account) }()
		}
		waits += n
		synctest.Wait()
	}
	wait("acme", l.each)
	if len(ended) != 0 {
		t.Fatalf("of the queries that may wait one ended: %v", <-ended)
	}
	if err := p.enter(ctx, "acme"); err == nil || err.Code != events.Unavailable || !strings.Contains(err.Message, "this account") {
		t.Errorf("one more of the account: %v", err)
	}
	for account := "beta"; p.running < l.atOnce; account += "a" {
		enters(t, p, account, l.most())
		running = append(running, account)
	}
	for i := 0; waits < l.queue; i++ {
		wait(fmt.Sprint("account", i), min(l.each, l.queue-waits))
	}
	for _, account := range []string{"acme", "beta", "account0", "new"} {
		if err := p.enter(ctx, account); err == nil || err.Code != events.Unavailable {
			t.Errorf("one more of %s when all is taken: %v", account, err)
		}
	}
	if len(p.queued) != l.queue {
		t.Errorf("%d wait, want %d", len(p.queued), l.queue)
	}
	cancel()
	for range l.queue {
		if err := <-ended; err == nil || err.Code != events.Unavailable || !strings.Contains(err.Message, "in time") {
			t.Errorf("who did not come in time: %v", err)
		}
	}
	for _, account := range running {
		for range l.most() {
			p.leave(account)
		}
	}
	if p.running != 0 || len(p.queued) != 0 || len(p.shares) != 0 {
		t.Errorf("left: %d running, %d waiting, %d accounts", p.running, len(p.queued), len(p.shares))
	}
}

// Of those that wait the account with the fewest running is let in first, then who came
// first. So two that ask all the time hold a third up for one query of theirs.
func TestPoolOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(limits{atOnce: 4, queue: 16, each: 8}, "queries are tested")
		order := make(chan string, 16)
		wait := func(account string) {
			go func() {
				if err := p.enter(t.Context(), account); err != nil {
					t.Error(err)
				}
				order <- account
			}()
			synctest.Wait()
		}
		enters(t, p, "acme", 2)
		for _, account := range []string{"acme", "acme", "beta", "beta", "beta", "late", "late"} { // there is room for two of beta
			wait(account)
		}
		for i, step := range []struct{ leaves, then string }{
			{"", "beta"}, {"", "beta"}, {"beta", "late"}, {"acme", "acme"}, {"beta", "beta"}, {"acme", "acme"}, {"acme", "late"},
		} {
			if step.leaves != "" {
				p.leave(step.leaves)
			}
			synctest.Wait()
			select {
			case got := <-order:
				if got != step.then {
					t.Errorf("step %d: %s, want %s", i, got, step.then)
				}
			default:
				t.Fatalf("step %d: nobody is let in", i)
			}
		}
		if len(order) != 0 {
			t.Errorf("%s too", <-order)
		}
	})
}

// A query is in one pool at a time: while it waits for a position it takes nobody's turn.
func TestTurnIsInOnePool(t *testing.T) {
	s := newService(Config{})
	q := &turn{s: s, account: "acme"}
	for _, step := range []func(context.Context) *events.Error{q.Wait, q.Read, q.Read, q.Wait, q.Read} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
		in := 0
		for _, p := range []*pool{s.quick, s.readers, s.waiting} {
			in += p.running
		}
		if in != 1 || q.in.running != 1 {
			t.Errorf("it is in %d pools", in)
		}
	}
	enters(t, s.readers, "acme", 1)
	other := &turn{s: s, account: "acme"}
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	if err := other.Read(gone); err == nil || other.in != nil {
		t.Errorf("it reads beside its account's share: %v", err)
	}
	other.end()
	q.end()
	if s.readers.running != 1 {
		t.Errorf("%d read after the end", s.readers.running)
	}
}
