package faults

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/writer"
	"github.com/keyledger/keyledger/projections"
)

// slowAppend is the append timeout of an engine: the length of a fault that is waited for.
const slowAppend = 150 * time.Millisecond

// engine is a writer with its views on a log, without NATS in front of it. A writer that
// stops because of an impossible acknowledgement is followed by the next one.
type engine struct {
	t       *testing.T
	log     store.Log
	tail    *store.Tail
	views   *projections.Views
	current atomic.Pointer[running]
	stops   int          // of writers, by impossible acknowledgements
	second  atomic.Int64 // answers to requests that had one
	keys    []*ledger.CreateKey
	secrets []string
}

// running is a writer and when it stops.
type running struct {
	*writer.Writer
	stopped chan struct{}
}

// startEngine runs an engine until the function it returns is called.
func startEngine(t *testing.T, log store.Log) (e *engine, stop func()) {
	e = &engine{t: t, log: log, tail: store.NewTail(log, 0)}
	e.views = projections.NewViews(e.tail, 0, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	following, stopFollowing := context.WithCancel(context.Background())
	e.renew()
	done, followed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(done)
		for {
			w := e.current.Load()
			err := w.Run(ctx)
			close(w.stopped)
			if !errors.Is(err, writer.ErrImpossible) {
				if err != nil {
					t.Errorf("the writer stopped with: %v", err)
				}
				return
			}
			e.stops++
			e.renew()
		}
	}()
	<-e.current.Load().Ready()
	go func() { followed <- e.views.Run(following) }()
	return e, func() {
		cancel()
		<-done
		stopFollowing()
		if n := e.second.Load(); n > 0 {
			t.Errorf("%d requests were answered twice", n)
		}
		if err := <-followed; err != nil {
			t.Error(err)
		}
	}
}

func (e *engine) renew() {
	w := writer.New(writer.Config{Log: e.log, Tail: e.tail, AppendTimeout: slowAppend})
	e.current.Store(&running{w, make(chan struct{})})
}

// send submits a request to the writer of the moment and waits for its answer.
func (e *engine) send(req *writer.Request, timeout time.Duration) *writer.Reply {
	w := e.current.Load()
	select {
	case <-w.Ready():
	case <-w.stopped:
	}
	req.Deadline = time.Now().Add(timeout)
	replies := make(chan *writer.Reply, 1)
	req.Done = func(r *writer.Reply) {
		select {
		case replies <- r:
		default:
			e.second.Add(1)
		}
	}
	w.Submit(req)
	return <-replies
}

// open opens accounts, each with a key.
func (e *engine) open(accounts int) {
	e.t.Helper()
	for n := range accounts {
		id := ulid.Make()
		secret := ledger.NewSecret(events.Test, accountName(n), id, sha256.Sum256(id[:]))
		key := &ledger.CreateKey{Environment: events.Test, Name: "load", KeyID: id, Hash: sha256.Sum256([]byte(secret)), Prefix: ledger.SecretPrefix(secret)}
		e.must(n, "account.open", new(ledger.OpenAccount))
		e.must(n, "key.create", key)
		e.keys, e.secrets = append(e.keys, key), append(e.secrets, secret)
	}
}

func accountName(n int) string { return fmt.Sprintf("account-%d", n) }

// must executes a command that has to succeed.
func (e *engine) must(account int, verb string, cmd ledger.Command) {
	e.t.Helper()
	if o := e.command(account, verb, cmd, ulid.Make(), time.Minute); o.code != events.OK {
		e.t.Fatalf("%s: %s", verb, o.code)
	}
}

// do is a doer.
func (e *engine) do(a ask, id ulid.ULID, timeout time.Duration) told {
	switch a.verb {
	case grantCredits:
		return e.command(a.account, "credit.grant", &ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: a.amount}, id, timeout)
	case debitCredits:
		return e.command(a.account, "credit.debit", &ledger.DebitCredit{Environment: events.Test, Asset: "credits", Amount: a.amount}, id, timeout)
	case authorizeKey:
		return e.authorize(a, id, timeout)
	case readBalance:
		return e.balance(a, timeout)
	}
	key := "key_" + e.keys[a.account].KeyID.String()
	if a.verb == disableKey {
		cmd := new(ledger.DisableKey)
		cmd.Key = key
		return e.command(a.account, "key.disable", cmd, id, timeout)
	}
	cmd := new(ledger.EnableKey)
	cmd.Key = key
	return e.command(a.account, "key.enable", cmd, id, timeout)
}

func (e *engine) command(account int, verb string, cmd ledger.Command, id ulid.ULID, timeout time.Duration) told {
	if err := cmd.Validate(); err != nil {
		return told{code: err.Code}
	}
	r := e.send(&writer.Request{
		Account: accountName(account), Verb: verb, Spec: specOf(verb), Command: cmd,
		ID: id, Receipt: true, InputHash: sha256.Sum256([]byte(verb)), Actor: "test",
	}, timeout)
	if r.Err != nil {
		return told{code: r.Err.Code}
	}
	o := told{code: events.OK, position: r.Position.String(), replayed: r.Replayed}
	switch d := r.Data.(type) {
	case *events.Granted:
		o.balance = d.Balance.Available
	case *events.Debited:
		o.balance = d.Balance.Available
	case *events.Key:
		o.status = d.Status
	}
	return o
}

func (e *engine) authorize(a ask, id ulid.ULID, timeout time.Duration) told {
	item := &ledger.Authorize{Secret: e.secrets[a.account], Product: "payments", Cost: &a.amount}
	if err := item.Validate(); err != nil {
		return told{code: err.Code}
	}
	r := e.send(&writer.Request{Authorize: item, ID: id, Receipt: true, Actor: "test"}, timeout)
	if r.Err != nil {
		return told{code: r.Err.Code}
	}
	return answered(&r.Answer, r.Position.String(), r.Replayed)
}

// answered is what an answer to authorize tells.
func answered(a *ledger.Answer, position string, replayed bool) told {
	o := told{code: a.Code, position: position, replayed: replayed}
	if a.Balance != nil {
		o.balance = *a.Balance
	}
	return o
}

// balance reads as a strict query does: a barrier through the writer, then the view.
func (e *engine) balance(a ask, timeout time.Duration) told {
	barrier := e.send(&writer.Request{}, timeout)
	if barrier.Err != nil {
		return told{code: barrier.Err.Code}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.views.Wait(ctx, barrier.Position.Sequence); err != nil {
		e.t.Errorf("the views do not follow: %v", err)
		return told{code: events.Unavailable}
	}
	body := []byte(`{"environment":"test","asset":"credits"}`)
	answer, refused := e.views.Queries()["balance.get"](ctx, &projections.Query{Account: accountName(a.account), Body: body})
	if refused != nil {
		return told{code: refused.Code}
	}
	result, err := events.Encode(answer.Result)
	if err != nil {
		e.t.Error(err)
	}
	var out struct {
		Balance struct {
			Available int64 `json:"available"`
		} `json:"balance"`
	}
	if err := json.Unmarshal(result, &out); err != nil {
		e.t.Error(err)
	}
	return told{code: events.OK, balance: out.Balance.Available, position: answer.Position.String()}
}

func specOf(verb string) *ledger.Spec {
	for i := range ledger.Commands {
		if ledger.Commands[i].Verb == verb {
			return &ledger.Commands[i].Spec
		}
	}
	panic("no command " + verb)
}
