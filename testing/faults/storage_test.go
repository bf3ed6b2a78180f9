package faults

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

// exitStorage is how a keyledger ends whose storage failed.
const exitStorage = 74

// within bounds each wait of these tests.
const within = time.Minute

// ending tells when the process ends, and with which code.
func (c *child) ending() <-chan int {
	cmd, code := c.cmd, make(chan int, 1)
	go func() {
		_ = cmd.Wait() // the code says it
		code <- cmd.ProcessState.ExitCode()
	}()
	return code
}

// failed waits until the process has ended because its storage failed.
func (c *child) failed(code <-chan int) {
	c.t.Helper()
	select {
	case got := <-code:
		c.cmd = nil
		if got != exitStorage {
			c.t.Fatalf("exit code %d, want %d", got, exitStorage)
		}
	case <-time.After(within):
		c.t.Fatal("the process goes on although its storage failed")
	}
}

// again starts a process that ending watches again, as a service manager does after the
// exit codes 1 and, once somebody freed space, 74. exit is 0 while it still runs.
func (c *child) again(ended <-chan int, exit int) {
	c.t.Helper()
	switch exit {
	case 0:
		_ = c.cmd.Process.Kill() // it may just have ended
		<-ended
	case 1, exitStorage:
	default:
		c.t.Fatalf("it ended with %d", exit)
	}
	c.start()
}

// storageLoad is a load with a key of its own for probes.
type storageLoad struct {
	*load
	probes *client.NewKey
	open   []ulid.ULID // probes without an answer
	stop   func()
}

// moves waits for answers to the load.
func (l *storageLoad) moves() {
	l.t.Helper()
	select { // one token may be from before
	case <-l.progress:
	default:
	}
	select {
	case <-l.progress:
	case <-time.After(within):
		l.t.Fatal("the load gets no answers")
	}
}

// probe asks for one credit, each time with a new id, until the answer is code, or until
// the process ended with the code returned.
func (l *storageLoad) probe(c *client.Client, want events.Code, ended <-chan int) (exit int) {
	l.t.Helper()
	cost := int64(1)
	var err error
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		id := ulid.Make()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		var answer *ledger.Answer
		answer, err = c.Authorize(ctx, &ledger.Authorize{Secret: l.probes.Secret, ID: id.String(), Product: "payments", Cost: &cost})
		cancel()
		got := codeOf(err)
		if err == nil {
			got = answer.Code
			l.note(id, answer)
		} else if got == events.OutcomeUnknown {
			l.open = append(l.open, id)
		}
		if got == want {
			return 0
		}
		select {
		case exit := <-ended:
			return exit
		default:
		}
		if err := l.pace.Wait(context.Background()); err != nil {
			l.t.Fatal(err)
		}
	}
	l.t.Fatalf("no answer was %s; the last error: %v", want, err)
	return 0
}

// readsGoOn checks what must work while commands are refused: queries, refusals and free
// decisions.
func (l *storageLoad) readsGoOn(c *client.Client) {
	l.t.Helper()
	account := l.keys[0].Key.Account
	if _, err := c.Balance(l.t.Context(), account, events.Test, "credits", client.Strict()); err != nil {
		l.t.Errorf("a strict query: %v", err)
	}
	for cost, want := range map[int64]events.Code{0: events.OK, killCredits * 100: events.InsufficientCredits} {
		answer, err := c.Authorize(l.t.Context(), &ledger.Authorize{Secret: l.keys[0].Secret, Product: "payments", Cost: &cost})
		if err != nil || answer.Code != want {
			l.t.Errorf("cost %d: %+v, %v; want %s", cost, answer, err, want)
		}
	}
}

// queriesGoOn checks what must work when the log cannot even be taken over.
func (l *storageLoad) queriesGoOn(c *client.Client) {
	l.t.Helper()
	if _, err := c.Balance(l.t.Context(), l.keys[0].Key.Account, events.Test, "credits"); err != nil {
		l.t.Errorf("a query: %v", err)
	}
	if _, err := c.Balance(l.t.Context(), l.keys[0].Key.Account, events.Test, "credits", client.Strict()); codeOf(err) != events.StorageFull {
		l.t.Errorf("a strict query, which only a writer can answer: %v", err)
	}
}

// check ends the load, finds out what became of probes without an answer, restarts, and
// compares answers, log, balances and feed, and that no refused id is in the log:
// that would be one that nobody was told of.
func (l *storageLoad) check(c *client.Client, process *child) {
	l.t.Helper()
	stopped := make(chan struct{})
	go func() {
		l.stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(within):
		l.t.Fatal("clients still have no answer")
	}
	for _, id := range l.open {
		cost := int64(1)
		l.note(id, l.ask(c, &ledger.Authorize{Secret: l.probes.Secret, ID: id.String(), Product: "payments", Cost: &cost}))
	}
	process.kill()
	process.start() // what is served now comes from the log alone
	conn := connect(l.t, process)
	commits := readLog(l.t, conn)
	l.t.Logf("%d answers, %d commits", l.answered.Load(), len(commits))
	l.checkAnswers(commits)
	checkBalances(l.t, c, commits)
	checkFeed(l.t, conn, commits)
}

// logBytes is what the log holds.
func logBytes(t *testing.T, process *child) int64 {
	t.Helper()
	js, err := jetstream.New(connect(t, process))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), store.StreamLog(0))
	if err != nil {
		t.Fatal(err)
	}
	return int64(stream.CachedInfo().State.Bytes)
}

// loaded starts a keyledger, as set says, and lets clients ask.
func loaded(t *testing.T, set func(*child)) (*child, *client.Client, *storageLoad) {
	t.Helper()
	process := newChild(t)
	set(process)
	process.start()
	c := client.New(connect(t, process))
	l := &storageLoad{load: newLoad(t, c, nil), probes: prepare(t, c, nil, "probe")}
	l.stop = l.start(c)
	return process, c, l
}

// eachRound runs a test as often as asked for.
func eachRound(t *testing.T, test func(t *testing.T)) {
	for n := range rounds(t, 1) {
		t.Run(strconv.Itoa(n), test)
	}
}

// A small volume (a tmpfs) is filled up by somebody else, under load. Nearly full, paying
// commands are refused and all else goes on, also over a restart, until there is space
// again. Full to the last byte at once, the process may have to end, with the code that
// says so, and starts read-only while it lasts. A derived stream may fail then: that ends
// the process once there is space, to be started again.
func TestDiskFull(t *testing.T) {
	eachRound(t, func(t *testing.T) {
		v := newVolume(t, 128<<20)
		process, c, l := loaded(t, func(p *child) { p.dir = filepath.Join(v.path, "data") })
		l.moves()
		v.fill(11 << 20) // a tenth, less what could come before the next look
		l.probe(c, events.StorageFull, nil)
		l.readsGoOn(c)
		process.kill()
		process.start() // the reserve takes "epoch started"
		l.probe(c, events.StorageFull, nil)
		l.readsGoOn(c)
		v.free()
		l.probe(c, events.OK, nil)

		ended := process.ending()
		v.fill(0)
		exit := l.probe(c, events.StorageFull, ended)
		t.Logf("on the full volume it ended with %d", exit)
		process.again(ended, exit)
		ended = process.ending()
		l.probe(c, events.StorageFull, nil)
		l.queriesGoOn(c)
		v.free()
		process.again(ended, l.probe(c, events.OK, ended)) // the feed may have failed: that needs it
		l.probe(c, events.OK, nil)
		l.check(c, process)
	})
}

// The log reaches its limit under load: paying commands are refused and all else goes on,
// also over a restart, until one with a higher limit. With a limit that has no room even
// for a takeover it is read-only.
func TestLogAtItsLimit(t *testing.T) {
	eachRound(t, func(t *testing.T) {
		const limit = 2 << 20
		process, c, l := loaded(t, func(p *child) { p.logMax = limit })
		for range 2 {
			l.probe(c, events.StorageFull, nil)
			l.readsGoOn(c)
			process.kill()
			process.start()
		}
		l.probe(c, events.StorageFull, nil)
		held := logBytes(t, process)
		if held > limit*9/10+2000 || held < limit*8/10 {
			t.Errorf("full at %d of %d bytes, of which a tenth is reserved", held, limit)
		}
		process.kill()
		process.logMax = held
		process.start()
		l.probe(c, events.StorageFull, nil)
		l.queriesGoOn(c)
		process.kill()
		process.logMax = 2 * limit
		process.start()
		l.probe(c, events.OK, nil)
		l.check(c, process)
	})
}

// Writes fail under load: the process's limit on the size of a file is lowered to less
// than its files have (RLIMIT_FSIZE; a write then fails with EFBIG, and to JetStream it
// is an I/O error like any other). It must end with the code that says so and, started
// again without the limit, know all it acknowledged.
func TestFailingWrites(t *testing.T) {
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skipf("failing writes are made with prlimit: %v", err)
	}
	eachRound(t, func(t *testing.T) {
		process, c, l := loaded(t, func(*child) {})
		l.moves()
		ended := process.ending()
		pid := strconv.Itoa(process.cmd.Process.Pid)
		if out, err := exec.Command("prlimit", "--pid", pid, "--fsize=4096:").CombinedOutput(); err != nil {
			t.Fatalf("prlimit: %v %s", err, out)
		}
		process.failed(ended)
		process.start()
		l.probe(c, events.OK, nil)
		l.check(c, process)
	})
}
