package faults

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// All answers, refusals and free decisions among them, are those of one thread that
// took the operations of an account one after the other: the writer alone, on a log in
// memory that loses, delays and gives wrong acknowledgements.
func TestWriterIsLinearizable(t *testing.T) {
	seed := seedOf(t)
	for round := range rounds(t, 3) {
		line := newLossy(new(store.Memory), seed+uint64(round), 4, faultLost, faultDropped, faultLate, faultSlow, faultRival, faultOld)
		e, stop := startEngine(t, line)
		const accounts = 3
		e.open(accounts)
		line.arm(true)
		r := &recorder{t: t, do: e.do, seed: seed + uint64(round), accounts: accounts}
		r.run(6*accounts, 100)
		line.arm(false)
		stop()
		t.Logf("%s; %d writers stopped", line, e.stops)
	}
}

// The same of the whole server, over NATS, with a bad line between its writer and
// JetStream. A history has one length whatever the rounds: the time to check it is far
// from linear.
func TestServerIsLinearizable(t *testing.T) {
	seed := seedOf(t)
	for round := range rounds(t, 1) {
		t.Run(strconv.Itoa(round), func(t *testing.T) { serverIsLinearizable(t, seed+uint64(round)) })
	}
}

func serverIsLinearizable(t *testing.T, seed uint64) {
	var line *lossy
	l := ledgertest.Start(t, func(cfg *server.Config) {
		cfg.WrapLog = func(log store.Log) store.Log {
			line = newLossy(log, seed, 8, harmless...)
			return line
		}
	})
	const accounts = 4
	c := &caller{t: t, client: l.Client}
	c.open(accounts)
	line.arm(true)
	r := &recorder{t: t, do: c.do, seed: seed, accounts: accounts}
	r.run(6*accounts, 40)
	line.arm(false)
	t.Log(line)
}

// caller is the clients of a keyledger, as a doer.
type caller struct {
	t      testing.TB
	client *client.Client
	keys   []*client.NewKey
}

func (c *caller) open(accounts int) {
	c.t.Helper()
	ctx := context.Background()
	for n := range accounts {
		if _, err := c.client.OpenAccount(ctx, accountName(n), ledger.OpenAccount{}); err != nil {
			c.t.Fatal(err)
		}
		key, err := c.client.CreateKey(ctx, accountName(n), ledger.CreateKey{Environment: events.Test, Name: "load"})
		if err != nil {
			c.t.Fatal(err)
		}
		c.keys = append(c.keys, key)
	}
}

// do is a doer.
func (c *caller) do(a ask, id ulid.ULID, timeout time.Duration) told {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	account := accountName(a.account)
	switch a.verb {
	case authorizeKey:
		answer, err := c.client.Authorize(ctx, &ledger.Authorize{
			Secret: c.keys[a.account].Secret, ID: id.String(), Product: "payments", Cost: &a.amount,
		})
		if err != nil {
			return told{code: codeOf(err)}
		}
		return answered(answer, answer.Position, answer.Replayed)
	case readBalance:
		b, err := c.client.Balance(ctx, account, events.Test, "credits", client.Strict())
		if err != nil {
			return told{code: codeOf(err)}
		}
		return told{code: events.OK, balance: b.Available}
	}
	verb := [verbs]string{grantCredits: "credit.grant", debitCredits: "credit.debit", disableKey: "key.disable", enableKey: "key.enable"}[a.verb]
	body := map[string]any{"key": c.keys[a.account].Key.ID}
	if a.verb == grantCredits || a.verb == debitCredits {
		body = map[string]any{"environment": "test", "asset": "credits", "amount": a.amount}
	}
	reply, err := c.client.Command(ctx, account, verb, body, client.WithID(id))
	if err != nil {
		return told{code: codeOf(err)}
	}
	var out struct {
		Key     events.Key     `json:"key"`
		Balance events.Balance `json:"balance"`
	}
	if err := reply.Decode(&out); err != nil {
		c.t.Error(err)
	}
	return told{code: events.OK, balance: out.Balance.Available, status: out.Key.Status, position: reply.Position, replayed: reply.Replayed}
}

// codeOf is what a client's error tells: the server's word, or nothing.
func codeOf(err error) events.Code {
	var refused *events.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	return events.OutcomeUnknown
}
