package service_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// TestRaceForTheLastCredits: 200 clients at once want the same of what one account has,
// half by debit and half by authorize. Exactly as many get it as it is enough for.
func TestRaceForTheLastCredits(t *testing.T) {
	const clients, price = 200, 7
	l := ledgertest.Start(t)
	var conns []*client.Client // 20, so that commands come on connections of their own too
	for range 20 {
		conns = append(conns, client.New(l.Connect()))
	}
	for i, c := range []struct {
		name, plan string
		usd, usdc  int64 // granted
		winners    int64
		left       map[string]int64 // available
	}{
		{"a grant", `{}`, 700 + 6, 0, 100, map[string]int64{"usd": 6}},
		{"an allowance", `{"allowance":{"asset":"usd","amount":356}}`, 0, 0, 50, map[string]int64{"usd": 6}},
		{"an allowance and a grant", `{"allowance":{"asset":"usd","amount":100}}`, 253, 0, 50, map[string]int64{"usd": 3}},
		{"an overdraft", `{"overdraft":{"usd":355}}`, 350, 0, 100, map[string]int64{"usd": -350}},
		{"par", `{"par":[["usd","usdc"]]}`, 350, 356, 100, map[string]int64{"usd": 0, "usdc": 6}},
		{"par at another scale, and an overdraft", `{"par":[["usd","usdc"]],"assets":{"usd":{"scale":2},"usdc":{"scale":3}},"overdraft":{"usd":70}}`, 70, 705, 30, map[string]int64{"usd": -70, "usdc": 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			account := "race-" + string(rune('a'+i))
			secret := racing(t, l.Client, account, c.plan, map[string]int64{"usd": c.usd, "usdc": c.usdc})
			var won, lost atomic.Int64
			var all sync.WaitGroup
			begin := make(chan struct{})
			for i := range clients {
				all.Go(func() {
					<-begin
					got, err := grab(ctx, conns[i%len(conns)], i, account, secret, price)
					switch {
					case err != nil:
						t.Error(err)
					case got:
						won.Add(1)
					default:
						lost.Add(1)
					}
				})
			}
			close(begin)
			all.Wait()
			if won.Load() != c.winners || lost.Load() != clients-c.winners {
				t.Errorf("%d won and %d lost, %d can win", won.Load(), lost.Load(), c.winners)
			}
			for asset, want := range c.left {
				if got := availableIn(l, account, asset); got != want {
					t.Errorf("%d %s are left, want %d", got, asset, want)
				}
			}
		})
	}
}

// availableIn is what the log says last of an account's balance.
func availableIn(l *ledgertest.Ledger, account, asset string) (available int64) {
	look := func(e *events.Event, b *events.Balance) {
		if e.Account == account && b.Asset == asset && b.Environment == events.Test {
			available = b.Available
		}
	}
	for _, c := range l.Commits() {
		for _, entry := range c.Entries {
			for _, e := range entry.Events {
				switch d := e.Data.(type) {
				case *events.Granted:
					look(&e, &d.Balance)
				case *events.Replenished:
					look(&e, &d.Balance)
				case *events.Debited:
					look(&e, &d.Balance)
				case *events.Exchanged:
					look(&e, &d.From.Balance)
					look(&e, &d.To.Balance)
				}
			}
		}
	}
	return available
}

// racing opens an account with a plan, credits and a key, and returns the key's secret.
func racing(t *testing.T, c *client.Client, account, terms string, credits map[string]int64) string {
	t.Helper()
	ctx := t.Context()
	plan := &events.Plan{}
	if err := events.DecodeStrict([]byte(terms), plan); err != nil {
		t.Fatal(err)
	}
	price := int64(7)
	plan.Name, plan.Price = "race", events.Price{Asset: "usd", Default: &price}
	if _, err := c.OpenAccount(ctx, account, ledger.OpenAccount{Plan: plan}); err != nil {
		t.Fatal(err)
	}
	for asset, amount := range credits {
		if amount == 0 {
			continue
		}
		if _, err := c.Grant(ctx, account, ledger.GrantCredit{Environment: events.Test, Asset: asset, Amount: amount}); err != nil {
			t.Fatal(err)
		}
	}
	key, err := c.CreateKey(ctx, account, ledger.CreateKey{Environment: events.Test, Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	return key.Secret
}

// grab takes the price once, by debit or by authorize, and says whether it got it.
func grab(ctx context.Context, c *client.Client, i int, account, secret string, price int64) (bool, error) {
	if i%2 == 0 {
		answer, err := c.Authorize(ctx, &ledger.Authorize{Secret: secret})
		if err == nil && !answer.Allowed && answer.Code != events.InsufficientCredits {
			err = errors.New(string(answer.Code))
		}
		return err == nil && answer.Allowed, err
	}
	_, err := c.Debit(ctx, account, ledger.DebitCredit{Environment: events.Test, Asset: "usd", Amount: price})
	var refused *events.Error
	if errors.As(err, &refused) && refused.Code == events.InsufficientCredits {
		return false, nil
	}
	return err == nil, err
}
