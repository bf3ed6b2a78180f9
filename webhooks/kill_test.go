package webhooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// environment variables of the process that TestKill9 starts, in which only a
// dispatcher runs.
const (
	childURL = "KEYLEDGER_TEST_CHILD"
	childEnd = "KEYLEDGER_TEST_CHILD_END"
	childDir = "KEYLEDGER_TEST_CHILD_DIR"
)

func TestMain(m *testing.M) {
	anchorStride = 16 // there are not many events in these tests
	if url := os.Getenv(childURL); url != "" {
		if err := child(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child delivers until it is killed.
func child(url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	log, err := store.OpenJetStream(context.Background(), js, 0)
	if err != nil {
		return err
	}
	end, err := strconv.ParseUint(os.Getenv(childEnd), 10, 64)
	if err != nil {
		return err
	}
	chain := store.Chain{}
	if err := store.ReadChecked(context.Background(), log, &chain, end, func(*store.Commit) error { return nil }); err != nil {
		return err
	}
	tail := store.NewTail(log, 0)
	tail.Reset(chain)
	guard, err := NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	if err != nil {
		return err
	}
	client, err := NewClient(ClientConfig{Guard: guard, Version: "1", AllowHTTP: true})
	if err != nil {
		return err
	}
	schedule, err := NewSchedule(killDelays, 0, func() float64 { return 0 })
	if err != nil {
		return err
	}
	sealer, err := events.NewSealer(sealKey(1))
	if err != nil {
		return err
	}
	return New(Config{
		JS: js, Tail: tail, Sealer: sealer, Client: client, Schedule: schedule,
		Logger: slog.New(slog.DiscardHandler), CheckpointEvery: 20 * time.Millisecond,
		Dir: os.Getenv(childDir), DirectoryEvery: 1, DirectoryPause: 15 * time.Millisecond,
	}).Run(context.Background())
}

// killDelays give a delivery three tries in quick succession.
var killDelays = []time.Duration{0, 10 * time.Millisecond, 10 * time.Millisecond}

// Killed in the middle, again and again, nothing that the log owes goes missing: at
// every moment it is delivered, or pending, or dead.
func TestKill9(t *testing.T) {
	r := newRig(t)
	path, saved := filepath.Join(r.dir, store.FileDirectory(0)), false
	rng := random(t)
	fails := map[string]int{} // by sequence: how many tries fail; 3 are all
	for i := 1; i <= 600; i++ {
		fails[numberText(uint64(i))] = max(rng.IntN(12)-8, 0)
	}
	to := newReceiver(t, func(_ http.ResponseWriter, got *received, tries int) int {
		if f := fails[got.sequence]; f >= 3 || tries <= f {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	r.commit(opened("acme"))
	for i := range 4 {
		r.add(fmt.Sprintf("endpoint_%d", i), to)
	}
	for range 20 {
		r.commit(debits(30)...)
	}
	for range 3 {
		process := exec.Command(os.Args[0])
		process.Env = append(os.Environ(), childURL+"="+r.url, childEnd+"="+strconv.FormatUint(r.chain.Sequence, 10), childDir+"="+r.dir)
		process.Stderr = os.Stderr
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		to.requests(len(to.list()) + 200 + rng.IntN(400))
		if err := process.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = process.Wait()
		_, err := readDirectory(path)
		if saved = err == nil; err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	d := r.launch(func(c *Config) { c.Schedule = schedule(t, killDelays...) })
	d.wait(r.chain.Sequence)
	for i := range 4 {
		id := fmt.Sprintf("endpoint_%d", i)
		d.checkAccounted(r, to, id)
		d.idle()
		d.checkAccounted(r, to, id)
	}
	if saved != strings.Contains(r.lines.String(), goesOn) {
		t.Errorf("a directory was saved: %t; %s", saved, r.lines)
	}
	t.Logf("%d requests for %d deliveries; the last start went on from a saved directory: %t", len(to.list()), 4*600, saved)
}

// checkAccounted checks that each event that the log owes an endpoint is pending in its
// lane, or was delivered, or was tried for the last time.
func (u *run) checkAccounted(r *rig, to *receiver, endpoint string) {
	u.t.Helper()
	u.mu.Lock()
	l := u.lanes[endpoint]
	pending := map[string]bool{}
	started := l.started(u.read.Ordinal).number
	for _, o := range l.open {
		pending[numberText(o.number)] = true
	}
	u.mu.Unlock()
	delivered, tries := map[string]bool{}, map[string]int{}
	for _, got := range to.list() {
		if got.endpoint == endpoint {
			tries[got.sequence]++
			delivered[got.sequence] = delivered[got.sequence] || got.status == http.StatusOK
		}
	}
	owed := r.owed(endpoint)
	if len(owed) != 600 {
		u.t.Errorf("%s is owed %d, want 600", endpoint, len(owed))
	}
	for i := range owed {
		n := numberText(uint64(i + 1))
		if !delivered[n] && !pending[n] && uint64(i+1) < started && tries[n] < len(killDelays) {
			u.t.Errorf("%s: number %s is not delivered, not pending, and was tried %d times", endpoint, n, tries[n])
		}
	}
}
