package faults

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/writer"
)

// pausedLog is a log whose user can be paused in the middle of an append, as SIGSTOP
// would: before the message goes out, or before its acknowledgement is seen. Time passes
// meanwhile for everybody else; what is sent afterwards is sent all the same.
type pausedLog struct {
	store.Log
	mu   sync.Mutex // guards all below
	next *pause     // for the next append; nil: none
}

// pause is one pause.
type pause struct {
	after  bool // it is stored already
	begun  chan *store.Commit
	resume chan struct{}
	ended  chan error // of the append
}

// arm makes the next append pause.
func (l *pausedLog) arm(after bool) *pause {
	p := &pause{after: after, begun: make(chan *store.Commit, 1), resume: make(chan struct{}), ended: make(chan error, 1)}
	l.mu.Lock()
	l.next = p
	l.mu.Unlock()
	return p
}

// Append implements store.Log.
func (l *pausedLog) Append(ctx context.Context, data []byte, expected uint64) (uint64, error) {
	l.mu.Lock()
	p := l.next
	l.next = nil
	l.mu.Unlock()
	if p == nil {
		return l.Log.Append(ctx, data, expected)
	}
	commit, err := store.Decode(data)
	if err != nil {
		return 0, err
	}
	if !p.after {
		p.begun <- commit
		<-p.resume
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	sequence, err := l.Log.Append(late, data, expected)
	if p.after {
		p.begun <- commit
		<-p.resume
	}
	p.ended <- err
	return sequence, err
}

// rivals are two writers on one log.
type rivals struct {
	t       *testing.T
	logs    [2]*pausedLog
	writers [2]*writer.Writer
	stop    [2]context.CancelFunc
	done    [2]chan error
	never   map[store.Nonce]int // appends that must not be in the log, by round

	mu      sync.Mutex          // guards all below
	debits  map[ulid.ULID]int64 // acknowledged: the balance that was told
	refused map[ulid.ULID]bool
}

// logServer is a NATS server with a log's stream, and nothing else.
func logServer(t *testing.T) *natsserver.Server {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("NATS does not start")
	}
	return s
}

func newRivals(t *testing.T) *rivals {
	t.Helper()
	server := logServer(t)
	ctx := t.Context()
	r := &rivals{t: t, never: map[store.Nonce]int{}, debits: map[ulid.ULID]int64{}, refused: map[ulid.ULID]bool{}}
	for i := range r.logs {
		conn, err := nats.Connect(server.ClientURL(), nats.ReconnectBufSize(-1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		js, err := jetstream.New(conn)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.CreateStreams(ctx, js, store.Streams(0, 1<<30)[:1]); err != nil {
			t.Fatal(err)
		}
		log, err := store.OpenJetStream(ctx, js, 0)
		if err != nil {
			t.Fatal(err)
		}
		r.logs[i] = &pausedLog{Log: log}
	}
	return r
}

// start starts a writer, which takes the log over, and returns when it has.
func (r *rivals) start(i int) {
	r.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w := writer.New(writer.Config{Log: r.logs[i], Tail: store.NewTail(r.logs[i], 0)})
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	r.writers[i], r.stop[i], r.done[i] = w, stop, done
	select {
	case <-w.Ready():
	case err := <-done:
		r.t.Fatalf("writer %d cannot take the log over: %v", i, err)
	case <-time.After(patience):
		r.t.Fatalf("writer %d does not take the log over within %s", i, patience)
	}
}

func (r *rivals) end(i int) {
	r.t.Helper()
	r.stop[i]()
	if err := <-r.done[i]; err != nil {
		r.t.Errorf("writer %d stopped with %v", i, err)
	}
}

// send gives a command to one of the two; its reply comes on the channel.
func (r *rivals) send(i int, verb string, command ledger.Command, id ulid.ULID) chan *writer.Reply {
	r.t.Helper()
	replies := make(chan *writer.Reply, 1)
	for n := range ledger.Commands {
		if ledger.Commands[n].Verb == verb {
			r.writers[i].Submit(&writer.Request{
				Account: "acme", Verb: verb, Spec: &ledger.Commands[n].Spec, Command: command,
				ID: id, Receipt: true, Actor: "test", InputHash: sha256.Sum256([]byte(verb)),
				Done: func(reply *writer.Reply) { replies <- reply },
			})
			return replies
		}
	}
	r.t.Fatalf("no command %s", verb)
	return nil
}

func (r *rivals) must(i int, verb string, command ledger.Command) {
	r.t.Helper()
	if reply := <-r.send(i, verb, command, ulid.Make()); reply.Err != nil {
		r.t.Fatalf("%s: %v", verb, reply.Err)
	}
}

// debit asks one writer and then, where that does not know, the next, with the same id,
// until it has an answer.
func (r *rivals) debit(i int, id ulid.ULID) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); i = 1 - i {
		reply := <-r.send(i, "credit.debit", &ledger.DebitCredit{Environment: events.Test, Asset: "credits", Amount: 1}, id)
		switch {
		case reply.Err == nil:
			r.mu.Lock()
			r.debits[id] = reply.Data.(*events.Debited).Balance.Posted
			r.mu.Unlock()
			return
		case reply.Err.Code == events.OutcomeUnknown, reply.Err.Code == events.Unavailable:
		default:
			r.mu.Lock()
			r.refused[id] = true
			r.mu.Unlock()
			return
		}
	}
	r.t.Errorf("%s has no answer within %s", id, patience)
}

// A writer is paused in the middle of an append, a rival takes over, and the first goes
// on: its late append is never stored, and every caller of either is told what the log
// says.
func TestRivalTakesOver(t *testing.T) {
	random := random(t)
	r := newRivals(t)
	r.start(0)
	r.must(0, "account.open", &ledger.OpenAccount{})
	r.must(0, "credit.grant", &ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 1_000_000})
	owner := 0
	for round := range 10 * rounds(t, 4) {
		r.round(random, round, owner)
		owner = 1 - owner
	}
	r.end(owner)
	r.check()
}

// round pauses the writer that has the log, lets a rival start and take over, and
// resumes. Afterwards the first is stopped.
func (r *rivals) round(random *rand.Rand, round, paused int) {
	rival := 1 - paused
	r.debit(paused, ulid.Make()) // the one paused before may have taken the log back
	p := r.logs[paused].arm(random.IntN(3) == 0)
	var callers sync.WaitGroup
	for range 1 + random.IntN(8) {
		callers.Go(func() { r.debit(paused, ulid.Make()) })
	}
	held := <-p.begun
	r.start(rival)
	// Sometimes the rival does nothing but take over, sometimes it works before the first
	// goes on, and sometimes both at once.
	switch random.IntN(3) {
	case 1:
		r.debit(rival, ulid.Make())
	case 2:
		for range 4 {
			callers.Go(func() { r.debit(rival, ulid.Make()) })
		}
	}
	close(p.resume)
	err := <-p.ended
	callers.Wait()
	r.end(paused)
	switch {
	case p.after && err != nil:
		r.t.Errorf("round %d: the append was stored before the pause and failed: %v", round, err)
	case !p.after && !errors.Is(err, store.ErrConflict):
		r.t.Errorf("round %d: an append that came after the rival took over ended with %v", round, err)
	case !p.after:
		r.never[held.Nonce] = round
	}
}

// check compares every answer with the log.
func (r *rivals) check() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	last, err := r.logs[0].Last(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	balance := map[ulid.ULID]int64{}
	chain := store.Chain{}
	if err := store.ReadChecked(ctx, r.logs[0], &chain, last, func(c *store.Commit) error {
		if round, late := r.never[c.Nonce]; late {
			return fmt.Errorf("the late append of round %d is in the log at %d", round, c.Sequence)
		}
		for _, e := range c.Entries {
			if d, ok := e.Events[0].Data.(*events.Debited); ok {
				if _, twice := balance[e.CommandID]; twice {
					return fmt.Errorf("%s was debited twice", e.CommandID)
				}
				balance[e.CommandID] = d.Balance.Posted
			}
		}
		return nil
	}); err != nil {
		r.t.Fatal(err)
	}
	for id, told := range r.debits {
		if stored, ok := balance[id]; !ok || stored != told {
			r.t.Errorf("%s was told the balance %d; the log has %d, %t", id, told, stored, ok)
		}
		delete(balance, id)
	}
	if len(balance) > 0 || len(r.refused) > 0 {
		r.t.Errorf("%d debits are in the log and nobody was told, %d were refused", len(balance), len(r.refused))
	}
	r.t.Logf("%d debits, %d late appends refused, log at %d in epoch %d", len(r.debits), len(r.never), last, chain.Epoch)
}
