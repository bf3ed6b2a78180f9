package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"
	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/receiver"
)

const (
	killClients  = 64
	killAccounts = 8
	killCredits  = 20_000 // an account, at 10 a request
	betweenKills = 1_500  // answers
)

// rounds is how often a fault happens: few in every test run, many in make faults.
func rounds(t *testing.T, few int) int {
	t.Helper()
	text := os.Getenv(roundsEnv)
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// load is many clients that ask for credits and retry, with the same id, until they
// have an answer.
type load struct {
	t        *testing.T
	keys     []*client.NewKey
	pace     *rate.Limiter // of retries
	within   time.Duration // a try waits so long for its answer
	every    int64
	answered atomic.Int64
	progress chan struct{} // one token each time so many more are answered

	mu      sync.Mutex // guards answers
	answers map[ulid.ULID]*ledger.Answer
}

// newLoad prepares the accounts; a webhook is registered for each unless hooks is nil.
func newLoad(t *testing.T, c *client.Client, hooks *receiver.Server) *load {
	t.Helper()
	l := &load{t: t, within: 2 * time.Second, every: betweenKills, pace: rate.NewLimiter(2000, 64), progress: make(chan struct{}, 1), answers: map[ulid.ULID]*ledger.Answer{}}
	for i := range killAccounts {
		l.keys = append(l.keys, prepare(t, c, hooks, fmt.Sprintf("account-%d", i)))
	}
	return l
}

// start lets all clients ask until stop is called, which waits until each has its answer.
func (l *load) start(c *client.Client) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for n := range killClients {
		clients.Go(func() { l.run(ctx, c, n) })
	}
	return func() {
		cancel()
		clients.Wait()
	}
}

// run asks until ctx ends; whoever has asked goes on until answered.
func (l *load) run(ctx context.Context, c *client.Client, n int) {
	key := l.keys[n%len(l.keys)]
	cost := int64(10)
	for ctx.Err() == nil {
		id := ulid.Make()
		item := &ledger.Authorize{Secret: key.Secret, ID: id.String(), Product: "payments", Cost: &cost}
		answer := l.ask(c, item)
		l.note(id, answer)
		if l.answered.Add(1)%l.every == 0 {
			select {
			case l.progress <- struct{}{}:
			default:
			}
		}
	}
}

func (l *load) note(id ulid.ULID, answer *ledger.Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[id] = answer
}

func (l *load) ask(c *client.Client, item *ledger.Authorize) *ledger.Answer {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), l.within)
		answer, err := c.Authorize(ctx, item)
		cancel()
		if err == nil {
			return answer
		}
		if err := l.pace.Wait(context.Background()); err != nil {
			l.t.Error(err)
			return &ledger.Answer{}
		}
	}
}

// kill -9 under load, again and again: nothing acknowledged is missing, nothing is
// doubled, the feed has each event once at its place, and every event that is owed to a
// webhook arrives.
func TestKillNineUnderLoad(t *testing.T) {
	kills := rounds(t, 3)
	hooks, err := receiver.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer hooks.Close()
	ledgerd := newChild(t)
	ledgerd.start()
	conn := connect(t, ledgerd)
	c := client.New(conn)
	l := newLoad(t, c, hooks)
	stop := l.start(c)
	for range kills {
		<-l.progress
		beginRebuild(t, c)
		ledgerd.kill()
		ledgerd.start()
	}
	<-l.progress
	stop()
	t.Logf("%d answers, %d kills", l.answered.Load(), kills)
	checkSnapshots(t, c)
	if _, err := os.Stat(filepath.Join(ledgerd.dir, store.DirWebhooks, store.FileDirectory(0))); err != nil {
		t.Errorf("no directory of webhooks was saved: %v", err)
	}
	commits := readLog(t, conn)
	l.checkAnswers(commits)
	checkBalances(t, c, commits)
	checkFeed(t, conn, commits)
	checkHooks(t, hooks, commits)
	checkViews(t, c)
}

// connect connects as the operator, for as long as it takes.
func connect(t *testing.T, c *child) *nats.Conn {
	t.Helper()
	seed, err := nats.NkeyOptionFromSeed(filepath.Join(c.dir, "operator.nk"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(c.url(), seed, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// prepare opens an account with credits, a key and, unless hooks is nil, a webhook for
// all events.
func prepare(t *testing.T, c *client.Client, hooks *receiver.Server, account string) *client.NewKey {
	t.Helper()
	ctx := t.Context()
	if _, err := c.OpenAccount(ctx, account, ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	if hooks != nil {
		registerHook(t, c, hooks, account)
	}
	if _, err := c.Grant(ctx, account, ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: killCredits}); err != nil {
		t.Fatal(err)
	}
	key, err := c.CreateKey(ctx, account, ledger.CreateKey{Environment: events.Test, Name: "load"})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func registerHook(t *testing.T, c *client.Client, hooks *receiver.Server, account string) {
	t.Helper()
	endpoint, err := c.RegisterEndpoint(t.Context(), account, ledger.RegisterEndpoint{URL: hooks.URL + "/" + account, Environment: events.Test, Events: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := hooks.Register("/"+account, endpoint.Secret); err != nil {
		t.Fatal(err)
	}
}

// checkSnapshots makes sure that the kills hit a keyledger that saves state and views.
func checkSnapshots(t *testing.T, c *client.Client) {
	t.Helper()
	r, err := c.Query(t.Context(), "_", "ledger.status", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	var status server.Status
	if err := r.Decode(&status); err != nil || status.Writer.Snapshot == nil {
		t.Errorf("no snapshot was made: %s, %v", r.Body, err)
	}
	if status.Checkpoint == nil {
		t.Errorf("no checkpoint of the views was made: %s", r.Body)
	}
	t.Logf("newest snapshot: %+v, newest checkpoint of the views: %+v", status.Writer.Snapshot, status.Checkpoint)
}

func readLog(t *testing.T, conn *nats.Conn) []*store.Commit {
	t.Helper()
	list, err := readCommits(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func readCommits(ctx context.Context, conn *nats.Conn) ([]*store.Commit, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	log, err := store.OpenJetStream(ctx, js, 0)
	if err != nil {
		return nil, err
	}
	last, err := log.Last(ctx)
	if err != nil {
		return nil, err
	}
	var list []*store.Commit
	chain := store.Chain{}
	return list, store.ReadChecked(ctx, log, &chain, last, func(c *store.Commit) error {
		list = append(list, c)
		return nil
	})
}

// checkAnswers compares every answer with the log: each allowed one is there once, and
// what is there was allowed.
func (l *load) checkAnswers(commits []*store.Commit) {
	l.t.Helper()
	inLog := map[ulid.ULID]*events.Debited{}
	for _, c := range commits {
		for _, e := range c.Entries {
			if e.Command != "authorize" {
				continue
			}
			if inLog[e.CommandID] != nil {
				l.t.Errorf("%s debited twice", e.CommandID)
			}
			inLog[e.CommandID] = e.Events[0].Data.(*events.Debited)
		}
	}
	for id, answer := range l.answers {
		d := inLog[id]
		switch {
		case answer.Allowed && d == nil:
			l.t.Errorf("%s was allowed and is not in the log", id)
		case !answer.Allowed && d != nil:
			l.t.Errorf("%s was refused with %s and is in the log", id, answer.Code)
		case d != nil && (d.ID != answer.Debit || d.Balance.Available != *answer.Balance):
			l.t.Errorf("%s was answered %+v, the log has %+v", id, answer, d)
		}
		delete(inLog, id)
	}
	for id := range inLog {
		l.t.Errorf("%s is in the log and nobody was told", id)
	}
}

// checkBalances compares the balances served with the sum of the log.
func checkBalances(t *testing.T, c *client.Client, commits []*store.Commit) {
	t.Helper()
	want := map[string]int64{}
	for _, commit := range commits {
		for _, e := range commit.Entries {
			for _, ev := range e.Events {
				switch d := ev.Data.(type) {
				case *events.Granted:
					want[ev.Account] += d.Amount
				case *events.Debited:
					want[ev.Account] -= d.Amount
				}
			}
		}
	}
	for account, amount := range want {
		b, err := c.Balance(t.Context(), account, events.Test, "credits", client.Strict())
		if err != nil {
			t.Fatal(err)
		}
		if b.Posted != amount || amount < 0 {
			t.Errorf("%s has %d, the log says %d", account, b.Posted, amount)
		}
	}
}

// checkFeed waits for the feed to hold every event, each at ordinal + index + 1.
func checkFeed(t *testing.T, conn *nats.Conn, commits []*store.Commit) {
	t.Helper()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(t.Context(), store.StreamFeed(0), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for _, c := range commits {
		if err := c.Each(func(e *events.CloudEvent) error {
			m, err := messages.Next(jetstream.NextMaxWait(30 * time.Second))
			if err != nil {
				return fmt.Errorf("feed at %s: %w", e.Position, err)
			}
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			if want := c.Ordinal + uint64(e.Position.Index) + 1; meta.Sequence.Stream != want || m.Headers().Get("ce-id") != e.ID.String() {
				return fmt.Errorf("feed at %d has %s, want %s at %d", meta.Sequence.Stream, m.Headers().Get("ce-id"), e.ID, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// checkHooks waits until every event that is owed arrived, verified.
func checkHooks(t *testing.T, hooks *receiver.Server, commits []*store.Commit) {
	t.Helper()
	owed := map[string]map[string]bool{}
	for _, c := range commits {
		if err := c.Each(func(e *events.CloudEvent) error {
			path := "/" + e.Account
			if e.Type == "endpoint.registered" {
				owed[path] = map[string]bool{}
			} else if owed[path] != nil {
				owed[path][e.ID.String()] = true
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for path, ids := range owed {
		if err := hooks.Wait(ctx, func(receiver.Totals) bool { return len(hooks.Events(path)) >= len(ids) }); err != nil {
			t.Fatalf("%s: %d of %d events arrived: %v", path, len(hooks.Events(path)), len(ids), err)
		}
		for _, e := range hooks.Events(path) {
			if !ids[e.ID] {
				t.Errorf("%s got %s, which nobody owed it", path, e.ID)
			}
		}
	}
	if totals := hooks.Totals(); totals.BadSignatures+totals.Changed+totals.Malformed > 0 {
		t.Errorf("receivers saw %+v", totals)
	}
}
