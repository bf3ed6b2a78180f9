package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"
)

const (
	// grantedEach is what each account starts with: more than any run can take.
	grantedEach = int64(1) << 50
	// atOnce is how many set-up and look-up requests are under way.
	atOnce = 32
	// requestTimeout bounds one of them.
	requestTimeout = 10 * time.Second
	// mismatchesShown bounds an error message.
	mismatchesShown = 5
)

// books is what the bench knows of the accounts: each one's balance must be
// grantedEach less what was acknowledged.
type books struct {
	names []string
	acked []int64
}

// openBooks opens the accounts and grants each its credits.
func openBooks(ctx context.Context, conn *nats.Conn, n int) (*books, error) {
	b := &books{names: make([]string, n), acked: make([]int64, n)}
	grant := fmt.Appendf(nil, `{"environment":"test","asset":"credits","amount":%d}`, grantedEach)
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range b.names {
		b.names[i] = fmt.Sprintf("bench-%05d", i)
		group.Go(func() error {
			if _, err := request(ctx, conn, "keyledger.cmd."+b.names[i]+".account.open", []byte(`{"name":"bench"}`)); err != nil {
				return err
			}
			_, err := request(ctx, conn, "keyledger.cmd."+b.names[i]+".credit.grant", grant)
			return err
		})
	}
	return b, group.Wait()
}

// sampleDebit makes one debit, so that the echo knows how large an answer is.
func (b *books) sampleDebit(ctx context.Context, conn *nats.Conn) (*nats.Msg, error) {
	reply, err := request(ctx, conn, debitSubject(b.names[0]), debitBody)
	if err == nil {
		b.acked[0]++
	}
	return reply, err
}

// add counts what a run had acknowledged.
func (b *books) add(o *outcome) {
	for i, n := range o.acked {
		b.acked[i] += n
	}
}

// reconcile asks for every balance and compares. It returns how many debits agree.
func (b *books) reconcile(ctx context.Context, conn *nats.Conn) (int64, error) {
	wrong := make([]error, len(b.names))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, name := range b.names {
		group.Go(func() error {
			posted, err := balance(ctx, conn, name)
			if want := grantedEach - b.acked[i]; err == nil && posted != want {
				wrong[i] = fmt.Errorf("%s has %d, must have %d: %d debits too many were made", name, posted, want, want-posted)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	var total int64
	var shown []error
	for i, err := range wrong {
		total += b.acked[i]
		if err != nil && len(shown) < mismatchesShown {
			shown = append(shown, err)
		}
	}
	if len(shown) > 0 {
		return total, fmt.Errorf("balances do not agree with the acknowledged debits: %w", errors.Join(shown...))
	}
	return total, nil
}

// balance asks for an account's posted credits, of after all that was acknowledged.
func balance(ctx context.Context, conn *nats.Conn, account string) (int64, error) {
	reply, err := request(ctx, conn, "keyledger.query."+account+".balance.get", []byte(`{"environment":"test","asset":"credits"}`))
	if err != nil {
		return 0, err
	}
	var body struct {
		Balance struct {
			Posted *int64 `json:"posted"`
		} `json:"balance"`
	}
	if err := json.Unmarshal(reply.Data, &body); err != nil || body.Balance.Posted == nil {
		return 0, fmt.Errorf("balance of %s: %q is no balance (%v)", account, reply.Data, err)
	}
	return *body.Balance.Posted, nil
}

// request sends one command or strict query and returns its result.
func request(ctx context.Context, conn *nats.Conn, subject string, body []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	header := nats.Header{headerID: {ulid.Make().String()}}
	if strings.HasPrefix(subject, "keyledger.query.") {
		header = nats.Header{"Keyledger-Consistency": {"strict"}}
	}
	reply, err := conn.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Header: header, Data: body})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	if code := errorCode(reply); code != "" {
		return nil, fmt.Errorf("%s: %s: %s", subject, code, reply.Data)
	}
	return reply, nil
}
