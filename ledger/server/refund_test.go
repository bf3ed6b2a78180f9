package server

import (
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	ledgerclient "github.com/keyledger/keyledger/ledger/client"
)

// anonymous sends a debit without a command id, so that it leaves no receipt.
func anonymous(t *testing.T, c *ledgerclient.Client) string {
	t.Helper()
	reply, err := c.Conn().Request(store.SubjectCommand+"acme.credit.debit", []byte(`{"environment":"test","asset":"credits","amount":100}`), patience)
	if err != nil {
		t.Fatal(err)
	}
	var out ledgerclient.Debited
	if err := (&ledgerclient.Reply{Body: reply.Data}).Decode(&out); err != nil || out.Debit.ID == "" {
		t.Fatalf("%s: %v", reply.Data, err)
	}
	return out.Debit.ID
}

// Debits of before a snapshot are refunded after the start from it, those with a receipt
// and those without; many who refund the same one never get more than it took.
func TestRefundAfterARestart(t *testing.T) {
	dir, ctx, lines := t.TempDir(), t.Context(), new(logLines)
	s, c, stop := snapper(t, dir, lines)
	if _, err := c.OpenAccount(ctx, "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Grant(ctx, "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 1000}); err != nil {
		t.Fatal(err)
	}
	known, err := c.Debit(ctx, "acme", ledger.DebitCredit{Environment: events.Test, Asset: "credits", Amount: 100})
	if err != nil {
		t.Fatal(err)
	}
	debits := []string{known.Debit.ID, anonymous(t, c)}
	one := int64(1)
	for i, debit := range debits {
		out, err := c.Refund(ctx, "acme", ledger.RefundCredit{Debit: debit, Amount: &one})
		if err != nil || out.Refund.Refunded != 1 || out.Balance.Available != int64(801+i) {
			t.Fatalf("refund of %s: %+v, %v", debit, out, err)
		}
	}
	snapshotFrom(t, s, c, s.tail.End().Sequence)
	stop()
	_, c, stop = snapper(t, dir, lines)
	defer stop()
	for _, debit := range debits {
		var done atomic.Int64
		var clients errgroup.Group
		for range 12 {
			clients.Go(func() error {
				part := int64(11)
				_, err := c.Refund(ctx, "acme", ledger.RefundCredit{Debit: debit, Amount: &part})
				var refused *events.Error
				switch {
				case err == nil:
					done.Add(1)
				case errors.As(err, &refused) && (refused.Code == events.FailedPrecondition || refused.Code == events.Unavailable):
				default:
					return err
				}
				return nil
			})
		}
		if err := clients.Wait(); err != nil {
			t.Fatal(err)
		}
		out, err := c.Refund(ctx, "acme", ledger.RefundCredit{Debit: debit})
		if done.Load() > 9 || err == nil && out.Refund.Amount != 99-11*done.Load() || err != nil && done.Load() != 9 {
			t.Errorf("%d refunds of 11 out of 99, and then %+v, %v", done.Load(), out, err)
		}
	}
}
