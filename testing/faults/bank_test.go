package faults

import (
	"context"
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

// bank is clients that move credits between accounts, as Jepsen's bank test does. Whoever
// retries a transfer until it has an answer completes it once, whatever happens in between.
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
		_, err := b.c.Transfer(ctx, from, ledger.TransferCredit{To: to, Environment: events.Test, Asset: "credits", Amount: amount}, client.WithID(id))
		return err
	})
	if code == events.InsufficientCredits {
		b.refused.Add(1)
		return
	}
	if code != events.OK {
		b.t.Errorf("transfer %s: %s", id, code)
		return
	}
	if b.completed.Add(1)%betweenBank == 0 {
		select {
		case b.progress <- struct{}{}:
		default:
		}
	}
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

// check: the total is what was put in, now and at every position of the log, and each
// completed transfer stands in it once, both legs in one entry.
func (b *bank) check(commits []*store.Commit) {
	b.t.Helper()
	var total int64
	for n := range bankAccounts {
		total += b.read(accountName(n))
	}
	if total != bankAccounts*bankEach {
		b.t.Errorf("the total is %d, %d were put in", total, bankAccounts*bankEach)
	}
	posted, given, transfers := map[string]int64{}, int64(0), map[ulid.ULID]bool{}
	for _, c := range commits {
		for i := range c.Entries {
			e := &c.Entries[i]
			for _, ev := range e.Events {
				switch d := ev.Data.(type) {
				case *events.Granted:
					given += d.Amount
					posted[ev.Account] = d.Balance.Posted
				case *events.Transferred:
					posted[ev.Account] = d.Balance.Posted
				}
			}
			if sum := sumOf(posted); sum != given {
				b.t.Fatalf("commit %d, entry %d: the total is %d, %d were put in", c.Sequence, i, sum, given)
			}
			if e.Command != "credit.transfer" {
				continue
			}
			b.legs(e)
			if transfers[e.CommandID] {
				b.t.Errorf("transfer %s stands in the log twice", e.CommandID)
			}
			transfers[e.CommandID] = true
		}
	}
	if int64(len(transfers)) != b.completed.Load() {
		b.t.Errorf("%d transfers in the log, %d were completed", len(transfers), b.completed.Load())
	}
}

// legs checks the two legs of an entry.
func (b *bank) legs(e *store.Entry) {
	if len(e.Events) < 2 {
		b.t.Errorf("transfer %s has one leg", e.CommandID)
		return
	}
	paid, _ := e.Events[0].Data.(*events.Transferred)
	got, _ := e.Events[1].Data.(*events.Transferred)
	if paid == nil || got == nil || paid.ID != got.ID || paid.Amount != got.Amount ||
		e.Events[0].Account != e.Account || paid.From != e.Account || e.Events[1].Account != paid.To {
		b.t.Errorf("transfer %s is not two legs of one: %+v, %+v", e.CommandID, paid, got)
	}
}

func sumOf(m map[string]int64) (sum int64) {
	for _, n := range m {
		sum += n
	}
	return sum
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
