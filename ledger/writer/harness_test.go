package writer

import (
	"context"
	"crypto/sha256"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// start is when the tests' clock begins.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is a wall clock that a test moves.
type clock struct{ ms, jumped atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ms.Store(start.UnixMilli())
	return c
}

func (c *clock) now() time.Time           { return time.UnixMilli(c.ms.Load() + c.jumped.Load()) }
func (c *clock) monotonic() time.Duration { return time.Duration(c.ms.Load()) * time.Millisecond }
func (c *clock) advance(d time.Duration)  { c.ms.Add(d.Milliseconds()) }

// pass lets time go by. The writer reads two clocks one after the other, and may have read
// only one of them before: it looks again at the barrier.
func (f *fixture) pass(d time.Duration) {
	f.t.Helper()
	f.clock.advance(d)
	<-f.send(&Request{})
}

// jump sets the wall clock, and not the monotonic one, so far off.
func (c *clock) jump(d time.Duration) { c.jumped.Store(d.Milliseconds()) }

// fixture is a writer that runs on a log in memory.
type fixture struct {
	t     rapidOrTest
	log   *store.Memory
	clock *clock
	w     *Writer
	stop  context.CancelFunc
	done  chan error
}

type rapidOrTest interface {
	Helper()
	Fatalf(string, ...any)
}

// run starts a writer; change may alter its configuration. The fixture is stopped by
// the test or with end.
func run(t rapidOrTest, log *store.Memory, c *clock, change ...func(*Config)) *fixture {
	cfg := Config{Log: log, Tail: store.NewTail(log, 0), Clock: c.now, Monotonic: c.monotonic}
	for _, f := range change {
		f(&cfg)
	}
	return runWriter(t, log, c, New(cfg))
}

func runWriter(t rapidOrTest, log *store.Memory, c *clock, w *Writer) *fixture {
	ctx, stop := context.WithCancel(context.Background())
	f := &fixture{t: t, log: log, clock: c, w: w, stop: stop, done: make(chan error, 1)}
	go func() { f.done <- f.w.Run(ctx) }()
	return f
}

// end stops the writer and returns what Run returned.
func (f *fixture) end() error {
	f.stop()
	return <-f.done
}

// submit hands a command in and returns where its reply comes.
func (f *fixture) submit(account, verb string, cmd ledger.Command, id ulid.ULID) chan *Reply {
	f.t.Helper()
	if err := cmd.Validate(); err != nil {
		f.t.Fatalf("%s: %v", verb, err)
	}
	body, err := events.Encode(cmd)
	if err != nil {
		f.t.Fatalf("%s: %v", verb, err)
	}
	req := &Request{
		Account: account, Verb: verb, Spec: specOf(verb), Command: cmd,
		ID: id, Receipt: !id.IsZero(), Actor: "test", InputHash: sha256.Sum256(append([]byte(account+verb), body...)),
	}
	if !req.Receipt {
		req.ID = ulid.Make()
	}
	return f.send(req)
}

func (f *fixture) send(req *Request) chan *Reply {
	replies := make(chan *Reply, 2) // a second reply would be a bug that must not block
	req.Done = func(r *Reply) { replies <- r }
	f.w.Submit(req)
	return replies
}

// do submits and waits.
func (f *fixture) do(account, verb string, cmd ledger.Command, id ulid.ULID) *Reply {
	f.t.Helper()
	return <-f.submit(account, verb, cmd, id)
}

// must is do for a command that has to succeed.
func (f *fixture) must(account, verb string, cmd ledger.Command) *Reply {
	f.t.Helper()
	r := f.do(account, verb, cmd, ulid.ULID{})
	if r.Err != nil {
		f.t.Fatalf("%s: %v", verb, r.Err)
	}
	return r
}

// funded opens an account with credits.
func (f *fixture) funded(account string, amount int64) {
	f.t.Helper()
	f.must(account, "account.open", &ledger.OpenAccount{})
	f.must(account, "credit.grant", &ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: amount})
}

func debit(amount int64) *ledger.DebitCredit {
	return &ledger.DebitCredit{Environment: events.Test, Asset: "credits", Amount: amount}
}

func transfer(to string, amount int64) *ledger.TransferCredit {
	return &ledger.TransferCredit{To: to, Environment: events.Test, Asset: "credits", Amount: amount}
}

// id makes a command id at the clock's time.
func (c *clock) id() ulid.ULID {
	return ulid.MustNew(uint64(c.ms.Load()), ulid.DefaultEntropy())
}

func specOf(verb string) *ledger.Spec {
	for i := range ledger.Commands {
		if ledger.Commands[i].Verb == verb {
			return &ledger.Commands[i].Spec
		}
	}
	return nil
}

// posted returns the balance a debit or grant left.
func posted(r *Reply) int64 {
	switch d := r.Data.(type) {
	case *events.Debited:
		return d.Balance.Posted
	case *events.Granted:
		return d.Balance.Posted
	}
	return -1
}

// stored reads the whole log, checked.
func stored(t rapidOrTest, log store.Log) []*store.Commit {
	t.Helper()
	var list []*store.Commit
	chain := store.Chain{}
	last, _ := log.Last(context.Background())
	err := store.ReadChecked(context.Background(), log, &chain, last, func(c *store.Commit) error {
		list = append(list, c)
		return nil
	})
	if err != nil {
		t.Fatalf("read the log: %v", err)
	}
	return list
}

// debitsIn counts how often each command id debited, and the total.
func debitsIn(commits []*store.Commit) (times map[ulid.ULID]int, total int64) {
	times = map[ulid.ULID]int{}
	for _, c := range commits {
		for _, e := range c.Entries {
			for _, ev := range e.Events {
				if d, ok := ev.Data.(*events.Debited); ok {
					times[e.CommandID]++
					total += d.Amount
				}
			}
		}
	}
	return times, total
}

// seed returns the seed of a random test: from the environment, or new and printed.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("KEYLEDGER_TEST_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s = n
	}
	t.Logf("KEYLEDGER_TEST_SEED=%d", s)
	return s
}

var _ rapidOrTest = (*rapid.T)(nil)
