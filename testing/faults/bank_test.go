package faults

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

const (
	bankAccounts = 6
	bankClients  = 24
	bankEach     = 200 // credits that each account gets at the beginning
	betweenBank  = 400 // transfers between two faults
)

// bank is clients that move credits between accounts, as Jepsen's bank test does. A
// transfer is a debit and a grant whose ids are derived from the debit's: whoever retries
// both until they have an answer completes it once, whatever happens in between.
type bank struct {
	t    *testing.T
	c    *client.Client
	seed uint64
	pace *rate.Limiter // of retries

	completed, refused, reads atomic.Int64
	progress                  chan struct{} // one token each betweenBank transfers
}

func openBank(t *testing.T, c *client.Client, seed uint64) *bank {
	b := &bank{t: t, c: c, seed: seed, pace: rate.NewLimiter(2000, 32), progress: make(chan struct{}, 1)}
	for n := range bankAccounts {
		if _, err := c.OpenAccount(t.Context(), accountName(n), ledger.OpenAccount{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Grant(t.Context(), accountName(n), ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: bankEach}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// settle retries until f has a definite answer.
func (b *bank) settle(f func(context.Context) error) events.Code {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		err := f(ctx)
		cancel()
		if err == nil {
			return events.OK
		}
		if code := codeOf(err); (told{code: code}).settled() {
			return code
		}
		if err := b.pace.Wait(context.Background()); err != nil {
			b.t.Error(err)
		}
	}
}

// transfer moves an amount, or is refused.
func (b *bank) transfer(from, to string, amount int64) {
	id := ulid.Make()
	code := b.settle(func(ctx context.Context) error {
		_, err := b.c.Debit(ctx, from, ledger.DebitCredit{Environment: events.Test, Asset: "credits", Amount: amount, Reference: to}, client.WithID(id))
		return err
	})
	if code == events.InsufficientCredits {
		b.refused.Add(1)
		return
	}
	if code != events.OK {
		b.t.Errorf("debit %s: %s", id, code)
		return
	}
	grant, command := grantOf(id)
	code = b.settle(func(ctx context.Context) error {
		_, err := b.c.Grant(ctx, to, ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: amount, Grant: grant}, client.WithID(command))
		return err
	})
	if code != events.OK {
		b.t.Errorf("grant %s: %s", grant, code)
	}
	if b.completed.Add(1)%betweenBank == 0 {
		select {
		case b.progress <- struct{}{}:
		default:
		}
	}
}

// grantOf derives the second half of a transfer from the first: the grant's id and its
// command's.
func grantOf(debit ulid.ULID) (grant string, command ulid.ULID) {
	sum := sha256.Sum256(debit[:])
	command = debit // of the same time
	copy(command[6:], sum[:])
	return "grant_" + command.String(), command
}

// client transfers and reads until ctx ends; what was started is completed.
func (b *bank) client(ctx context.Context, n int) {
	random := rand.New(rand.NewPCG(b.seed, uint64(n)))
	for ctx.Err() == nil {
		from, to := random.IntN(bankAccounts), random.IntN(bankAccounts)
		if from == to {
			b.read(accountName(from))
			continue
		}
		b.transfer(accountName(from), accountName(to), 1+random.Int64N(60))
	}
}

// read looks at one balance.
func (b *bank) read(account string) int64 {
	var posted int64
	code := b.settle(func(ctx context.Context) error {
		balance, err := b.c.Balance(ctx, account, events.Test, "credits", client.Strict())
		if err == nil {
			posted = balance.Posted
		}
		return err
	})
	if code != events.OK || posted < 0 || posted > bankAccounts*bankEach {
		b.t.Errorf("%s has %d (%s)", account, posted, code)
	}
	b.reads.Add(1)
	return posted
}

// run transfers while faults happen: fault is called so often, each time some transfers
// later.
func (b *bank) run(times int, fault func()) {
	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for n := range bankClients {
		clients.Go(func() { b.client(ctx, n) })
	}
	for range times {
		<-b.progress
		fault()
	}
	<-b.progress
	stop()
	clients.Wait()
	b.t.Logf("%d transfers, %d refused, %d reads", b.completed.Load(), b.refused.Load(), b.reads.Load())
}

// check: the total is what was put in, and each transfer's two halves stand in the log
// once.
func (b *bank) check(commits []*store.Commit) {
	b.t.Helper()
	var total int64
	for n := range bankAccounts {
		total += b.read(accountName(n))
	}
	if total != bankAccounts*bankEach {
		b.t.Errorf("the total is %d, %d were put in", total, bankAccounts*bankEach)
	}
	half := map[string]string{} // grant id: what is still missing
	debits := 0
	for _, c := range commits {
		for _, e := range c.Entries {
			switch d := e.Events[0].Data.(type) {
			case *events.Debited:
				grant, _ := grantOf(e.CommandID)
				half[grant] = fmt.Sprintf("%d for %s", d.Amount, d.Reference)
				debits++
			case *events.Granted:
				if want, ok := half[d.ID]; ok && want != fmt.Sprintf("%d for %s", d.Amount, e.Account) {
					b.t.Errorf("%s grants %s %d, the debit was of %s", d.ID, e.Account, d.Amount, want)
				}
				delete(half, d.ID)
			}
		}
	}
	if int64(debits) != b.completed.Load() {
		b.t.Errorf("%d debits in the log, %d transfers were completed", debits, b.completed.Load())
	}
	for grant, want := range half {
		b.t.Errorf("%s: %s never arrived", grant, want)
	}
}

// Transfers while the server is killed again and again.
func TestBankUnderKillNine(t *testing.T) {
	ledgerd := newChild(t)
	ledgerd.start()
	conn := connect(t, ledgerd)
	b := openBank(t, client.New(conn), seedOf(t))
	b.run(rounds(t, 3), func() {
		ledgerd.kill()
		ledgerd.start()
	})
	b.check(readLog(t, conn))
}

// Transfers while the line between writer and log is bad.
func TestBankOnABadLine(t *testing.T) {
	seed := seedOf(t)
	var line *lossy
	l := ledgertest.Start(t, func(cfg *server.Config) {
		cfg.WrapLog = func(log store.Log) store.Log {
			line = newLossy(log, seed, 6, harmless...)
			return line
		}
	})
	b := openBank(t, l.Client, seed)
	line.arm(true)
	b.run(rounds(t, 2), func() {})
	line.arm(false)
	t.Log(line)
	b.check(l.Commits())
}
