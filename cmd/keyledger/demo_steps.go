package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/testing/receiver"
)

const (
	demoGrant = 2000 // credits an account gets
	demoCost  = 100  // credits a request costs

	demoAtOnce  = 64               // accounts set up, or balances asked for, at the same time
	demoBatch   = 500              // requests in one authorize
	demoTimeout = 30 * time.Second // for one command
)

// steps does everything, in order.
func (d *demo) steps(ctx context.Context) error {
	for _, step := range []func(context.Context) error{d.setUp, d.sendAll, d.awaitWebhooks, d.askBalances, d.walkLog} {
		if err := step(ctx); err != nil {
			d.progress.clear()
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
	}
	d.reconcile()
	return nil
}

// setUp opens all accounts, several at the same time.
func (d *demo) setUp(ctx context.Context) error {
	d.progress.begin("opening accounts")
	err := d.each(ctx, func(ctx context.Context, x *demoAccount) error {
		if err := d.open(ctx, x); err != nil {
			return fmt.Errorf("set up account %s: %w", x.id, err)
		}
		return nil
	})
	if err == nil {
		d.progress.end("opened %s accounts, each with credits, a webhook endpoint and a key", grouped(int64(len(d.accounts))))
	}
	return err
}

// open opens an account. The endpoint comes before the key, so it is owed the key's
// event too; the receiver knows the endpoint's secret before there is anything to send.
func (d *demo) open(ctx context.Context, x *demoAccount) error {
	if _, err := d.client.OpenAccount(ctx, x.id, ledger.OpenAccount{Name: x.addr.String()}); err != nil {
		return err
	}
	_, err := d.client.Grant(ctx, x.id, ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: demoGrant})
	if err != nil {
		return err
	}
	endpoint, err := d.client.RegisterEndpoint(ctx, x.id, ledger.RegisterEndpoint{
		URL: d.hooks.URL + x.path(), Environment: events.Test, Events: []string{"*"},
	})
	if err != nil {
		return err
	}
	if err := d.hooks.Register(x.path(), endpoint.Secret); err != nil {
		return err
	}
	key, err := d.client.CreateKey(ctx, x.id, ledger.CreateKey{
		Environment: events.Test, Name: "demo", IPAllowlist: []string{x.addr.String()},
	})
	if err != nil {
		return err
	}
	if x.secret = key.Secret; x.secret == "" {
		return errors.New("the key came without its secret")
	}
	return nil
}

// path is where the receiver takes the account's webhooks.
func (x *demoAccount) path() string { return "/" + x.id }

// each calls f for every account, demoAtOnce at the same time, with time for each.
func (d *demo) each(ctx context.Context, f func(context.Context, *demoAccount) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(demoAtOnce)
	var done atomic.Int64
	for _, x := range d.accounts {
		if ctx.Err() != nil {
			break
		}
		d.progress.at(int(done.Load()), len(d.accounts))
		group.Go(func() error {
			defer done.Add(1)
			ctx, cancel := context.WithTimeout(ctx, demoTimeout)
			defer cancel()
			return f(ctx, x)
		})
	}
	return group.Wait()
}

// sendAll sends every visit as an authorize, in the log's order.
func (d *demo) sendAll(ctx context.Context) error {
	d.progress.begin("authorizing requests")
	cost := int64(demoCost)
	for sent := 0; sent < len(d.visits); {
		batch := d.visits[sent:min(sent+demoBatch, len(d.visits))]
		items := make([]ledger.Authorize, len(batch))
		for i, v := range batch {
			items[i] = ledger.Authorize{
				Secret: d.byAddr[v.addr].secret, Product: v.product, Access: v.access, IP: v.addr.String(), Cost: &cost,
			}
		}
		answers, err := d.authorize(ctx, items)
		if err != nil {
			return fmt.Errorf("authorize requests %d to %d: %w", sent+1, sent+len(batch), err)
		}
		for i := range answers {
			d.take(batch[i], &answers[i])
		}
		sent += len(batch)
		d.progress.at(sent, len(d.visits))
	}
	d.progress.end("decided %s requests", grouped(int64(len(d.visits))))
	return nil
}

func (d *demo) authorize(ctx context.Context, items []ledger.Authorize) ([]ledger.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	answers, err := d.client.AuthorizeMany(ctx, items)
	if err == nil && len(answers) != len(items) {
		err = fmt.Errorf("%d answers to %d requests", len(answers), len(items))
	}
	return answers, err
}

// take notes an answer.
func (d *demo) take(v visit, answer *ledger.Answer) {
	x := d.byAddr[v.addr]
	if !answer.Allowed {
		d.refused[string(answer.Code)]++
		return
	}
	if answer.Account != x.id {
		d.differ("a request of account %s was answered for account %s", x.id, answer.Account)
	}
	x.allowed++
	x.taken += answer.Cost
	x.debits[answer.Debit] = struct{}{}
}

// awaitWebhooks waits until the receiver has verified as many events as the independent
// count says are owed, or until none has come for the patience there is.
func (d *demo) awaitWebhooks(ctx context.Context) error {
	d.progress.begin("receiving webhooks")
	owed := 0
	for _, n := range expectedDebits(d.visits) {
		owed += n + keyEvents + exhausted(n)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(d.patience, func() { cancel(errSilence) })
	defer silence.Stop()
	verified := 0
	err := d.hooks.Wait(ctx, func(t receiver.Totals) bool {
		if t.Verified > verified {
			verified = t.Verified
			silence.Reset(d.patience)
		}
		d.progress.at(t.Verified, owed)
		return t.Verified >= owed
	})
	if errors.Is(context.Cause(ctx), errSilence) {
		d.progress.end("gave up on webhooks: nothing new for %s", d.patience)
		return nil // reconcile says what is missing
	}
	if err == nil {
		d.progress.end("received and verified %s webhooks", grouped(int64(verified)))
	}
	return err
}

var errSilence = errors.New("no webhooks")

// askBalances asks the ledger what every account has left.
func (d *demo) askBalances(ctx context.Context) error {
	d.progress.begin("asking for balances")
	err := d.each(ctx, func(ctx context.Context, x *demoAccount) error {
		balance, err := d.client.Balance(ctx, x.id, events.Test, "credits", client.Strict())
		if err != nil {
			return fmt.Errorf("ask for the balance of %s: %w", x.id, err)
		}
		x.balance = balance.Available
		return nil
	})
	if err == nil {
		d.progress.end("asked for %s balances", grouped(int64(len(d.accounts))))
	}
	return err
}

// walkLog checks the hash chain over the whole log and counts its events.
func (d *demo) walkLog(ctx context.Context) error {
	last, err := d.log.Last(ctx)
	if err != nil {
		return err
	}
	d.progress.begin("checking the log")
	chain := store.Chain{Partition: partition}
	err = store.ReadChecked(ctx, d.log, &chain, last, func(c *store.Commit) error {
		d.events += c.EventCount()
		d.progress.at(int(c.Sequence), int(last))
		return nil
	})
	if err == nil {
		d.progress.end("checked the log: %s commits, an unbroken chain of hashes", grouped(int64(last)))
	}
	return err
}
