package faults

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"
	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	verdictCommands = 10_000 // a round
	verdictClients  = 64
	verdictAccounts = 8
)

// verdict is what a client knows of a command in the end.
type verdict struct {
	told
	unknown bool // it was told outcome_unknown at least once, and never more
}

// verdicts is many clients with little patience, and what they were told.
type verdicts struct {
	e    *engine
	pace *rate.Limiter // of retries

	mu   sync.Mutex // guards all below
	list map[ulid.ULID]verdict
	seen map[events.Code]int // first answers
}

// Ten thousand commands on a line that drops, delays and mixes up acknowledgements: every
// verdict equals the log. What was acknowledged is there, once and with that answer; what
// was refused or unavailable is not; of what is unknown a retry with the same id tells.
func TestEveryVerdictEqualsTheLog(t *testing.T) {
	seed := seedOf(t)
	log := startJetStream(t)
	line := newLossy(log, seed, 4, faultLost, faultDropped, faultLate, faultSlow, faultRival, faultOld)
	e, stop := startEngine(t, line)
	e.open(verdictAccounts)
	line.arm(true)
	v := &verdicts{e: e, pace: rate.NewLimiter(4000, 64), list: map[ulid.ULID]verdict{}, seen: map[events.Code]int{}}
	var clients sync.WaitGroup
	for n := range verdictClients {
		clients.Go(func() { v.client(seed, n, verdictCommands*rounds(t, 1)/verdictClients) })
	}
	clients.Wait()
	line.arm(false)
	stop()
	t.Logf("%s; %d writers stopped; first answers: %v", line, e.stops, v.seen)
	v.check(t, log)
}

func (v *verdicts) client(seed uint64, n, commands int) {
	random := rand.New(rand.NewPCG(seed, uint64(1000+n)))
	for range commands {
		a := ask{verb: verb(random.IntN(3)), account: random.IntN(verdictAccounts), amount: random.Int64N(30)}
		if a.verb != authorizeKey {
			a.amount++
		}
		id := ulid.Make()
		o := v.e.do(a, id, time.Duration(2+random.IntN(30))*time.Millisecond)
		first, unknown := o.code, o.code == events.OutcomeUnknown
		for !o.settled() && random.IntN(8) > 0 {
			if err := v.pace.Wait(context.Background()); err != nil {
				v.e.t.Error(err)
			}
			o = v.e.do(a, id, time.Second)
			unknown = unknown || o.code == events.OutcomeUnknown
		}
		v.mu.Lock()
		v.list[id] = verdict{o, unknown && !o.settled()}
		v.seen[first]++
		v.mu.Unlock()
	}
}

// check compares every verdict with the log, and the log with the verdicts.
func (v *verdicts) check(t *testing.T, log store.Log) {
	t.Helper()
	last, err := log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inLog := map[ulid.ULID]told{}
	err = store.ReadChecked(t.Context(), log, &store.Chain{}, last, func(c *store.Commit) error {
		return c.Each(func(e *events.CloudEvent) error {
			o := told{code: events.OK, position: e.Position.String()}
			switch d := e.Data.(type) {
			case *events.Granted:
				o.balance = d.Balance.Available
			case *events.Debited:
				o.balance = d.Balance.Available
			case *events.Alert: // an answer bears its entry's last position
				o.balance = inLog[e.CommandID].balance
				inLog[e.CommandID] = o
				return nil
			default:
				return nil // of the preparation
			}
			if _, twice := inLog[e.CommandID]; twice {
				t.Errorf("%s stands in the log twice", e.CommandID)
			}
			inLog[e.CommandID] = o
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, got := range v.list {
		want, there := inLog[id]
		delete(inLog, id)
		done := got.code == events.OK && strings.Contains(got.position, ".") // else it was free
		want.replayed = got.replayed
		switch {
		case got.unknown:
		case done && got.told != want:
			t.Errorf("%s was told %+v, the log says %+v (there: %t)", id, got.told, want, there)
		case !done && there:
			t.Errorf("%s was told %+v and stands in the log: %+v", id, got.told, want)
		}
	}
	for id := range inLog {
		t.Errorf("%s stands in the log and nobody asked for it", id)
	}
}

// startJetStream runs a nats-server in this process that syncs every write, and opens
// the log of partition 0 in it.
func startJetStream(t *testing.T) *store.JetStream {
	t.Helper()
	server, err := natsserver.NewServer(&natsserver.Options{
		DontListen: true, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(func() {
		server.Shutdown()
		server.WaitForShutdown()
	})
	if !server.ReadyForConnections(time.Minute) {
		t.Fatal("nats-server does not start")
	}
	conn, err := nats.Connect("", nats.InProcessServer(server), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.CreateStreams(t.Context(), js, store.Streams(0, 1<<30)); err != nil {
		t.Fatal(err)
	}
	log, err := store.OpenJetStream(t.Context(), js, 0)
	if err != nil {
		t.Fatal(err)
	}
	return log
}
