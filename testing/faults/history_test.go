package faults

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/oklog/ulid/v2"
	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/events"
)

// checkWithin bounds the search for an order; an honest history needs a moment.
const checkWithin = 2 * time.Minute

// doer sends one request, once, and returns what it was told before timeout, or
// outcome_unknown.
type doer func(a ask, id ulid.ULID, timeout time.Duration) told

// recorder is many clients of few accounts, and what they saw.
type recorder struct {
	t        *testing.T
	do       doer
	seed     uint64
	accounts int
	start    time.Time
	pace     *rate.Limiter // of retries

	mu      sync.Mutex // guards history
	history []porcupine.Operation
}

// run lets clients do so many operations each, then checks what they saw.
func (r *recorder) run(clients, each int) {
	r.t.Helper()
	r.start, r.pace = time.Now(), rate.NewLimiter(4000, 16)
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() { r.client(n, each) })
	}
	wg.Wait()
	r.check()
}

func (r *recorder) client(n, each int) {
	random := rand.New(rand.NewPCG(r.seed, uint64(100+n)))
	account := n % r.accounts
	for range each {
		a := ask{account: account, amount: 1 + random.Int64N(20)}
		switch p := random.IntN(100); {
		case p < 25:
			a.verb = grantCredits
		case p < 50:
			a.verb = debitCredits
		case p < 75:
			a.verb = authorizeKey
		case p < 83:
			a.verb, a.amount = authorizeKey, 0
		case p < 88:
			a.verb, a.amount = disableKey, 0
		case p < 93:
			a.verb, a.amount = enableKey, 0
		default:
			a.verb, a.amount = readBalance, 0
		}
		r.operation(n, random, a)
	}
}

// operation does one operation and notes it: with its answer; open to the end of time
// when nobody ever said what became of it; not at all when it was certainly not done.
func (r *recorder) operation(n int, random *rand.Rand, a ask) {
	id := ulid.Make()
	call := time.Since(r.start)
	unknown := false
	var o told
	for {
		o = r.do(a, id, time.Duration(1+random.IntN(20))*time.Millisecond)
		unknown = unknown || o.code == events.OutcomeUnknown
		if o.settled() || random.IntN(10) == 0 {
			break
		}
		if err := r.pace.Wait(context.Background()); err != nil {
			r.t.Error(err)
		}
	}
	done := time.Since(r.start)
	if !o.settled() {
		if !unknown {
			return
		}
		o.code, done = events.OutcomeUnknown, math.MaxInt64
	}
	r.mu.Lock()
	r.history = append(r.history, porcupine.Operation{ClientId: n, Input: a, Call: int64(call), Output: o, Return: int64(done)})
	r.mu.Unlock()
	if random.IntN(4) == 0 && o.code == events.OK && strings.Contains(o.position, ".") {
		r.again(a, id, o)
	}
}

// again sends a command that made events a second time: the first answer comes again.
func (r *recorder) again(a ask, id ulid.ULID, first told) {
	first.replayed = true
	if o := r.do(a, id, 5*time.Second); o.settled() && o != first {
		r.t.Errorf("%s: first %+v, then %+v", id, first, o)
	}
}

// check searches an order in which a single thread could have given all the answers.
func (r *recorder) check() {
	r.t.Helper()
	open := 0
	for _, o := range r.history {
		if o.Return == math.MaxInt64 {
			open++
		}
	}
	r.t.Logf("%d operations, %d of them open", len(r.history), open)
	result, info := porcupine.CheckOperationsVerbose(booksModel, r.history, checkWithin)
	if result == porcupine.Ok {
		return
	}
	path := filepath.Join(r.t.ArtifactDir(), "history.html")
	if err := porcupine.VisualizePath(booksModel, info, path); err != nil {
		r.t.Error(err)
	}
	r.t.Fatalf("the history is not linearizable: %s; see %s (kept with -artifacts)", result, path)
}
