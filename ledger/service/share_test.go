package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// TestWaitingHoldsUpNobody: an account's queries wait for views that are behind. One more is
// refused at once; other queries of the account, and what others wait for, go on. A position
// behind the log's end is waited for by nobody.
func TestWaitingHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(Config{
			End:     func() store.Chain { return store.Chain{Sequence: 9} },
			WaitFor: func(ctx context.Context, _ uint64) error { <-ctx.Done(); return ctx.Err() },
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan *events.Error, waitLimits.atOnce)
		ask := func(account, position string) {
			q := &turn{s: s, account: account}
			go func() {
				err := s.await(ctx, &request{s: s, header: micro.Headers{store.HeaderMinPosition: {position}}}, q)
				q.end()
				ended <- err
			}()
		}
		for range waitLimits.atOnce / 2 {
			ask("acme", "0:9")
		}
		synctest.Wait()
		for _, row := range []struct{ account, position, want string }{
			{"acme", "0:9", "too many of this account's queries wait for a position"},
			{"beta", "0:10", "beyond the log's end 0:9"},
			{"beta", "0:999999999.0", "beyond the log's end 0:9"},
		} {
			ask(row.account, row.position)
			synctest.Wait()
			if len(ended) != 1 {
				t.Fatalf("%+v: %d ended", row, len(ended))
			}
			if err := <-ended; err == nil || err.Code != events.Unavailable || !strings.Contains(err.Message, row.want) {
				t.Errorf("%+v: %v", row, err)
			}
		}
		ask("beta", "0:9") // there is room for it
		if err := (&turn{s: s, account: "acme"}).enter(ctx, s.quick); err != nil {
			t.Errorf("a query that waits for nothing: %v", err)
		}
		synctest.Wait()
		if len(ended) != 0 || s.waiting.running != waitLimits.atOnce/2+1 {
			t.Errorf("%d ended, %d wait", len(ended), s.waiting.running)
		}
		cancel(errors.New("enough"))
		for range waitLimits.atOnce/2 + 1 {
			<-ended
		}
	})
}

// No flood of queries, from however many accounts, holds up a command of the ledger itself:
// it has a pool of its own.
func TestCommandsOfTheLedgerGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan bool, 1)
		s := newService(Config{Commands: map[string]QueryFunc{"creds.revoke": func(context.Context, string, []byte) (any, events.Position, *events.Error) {
			done <- true
			return nil, events.Position{}, nil
		}}})
		ctx, cancel := context.WithCancel(t.Context())
		for i := range quickLimits.atOnce + quickLimits.queue {
			account := "_"
			if i%2 == 0 {
				account = fmt.Sprint("account", i%8)
			}
			go s.quick.enter(ctx, account)
		}
		synctest.Wait()
		r := &request{s: s, subject: store.SubjectCommand + "_.creds.revoke", deadline: time.Now().Add(DefaultTimeout)}
		s.command(r)
		synctest.Wait()
		if len(done) != 1 {
			t.Error("the command waits")
		}
		cancel()
	})
}
