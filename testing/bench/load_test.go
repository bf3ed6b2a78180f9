package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

// TestMain lets the tests start this program as one of its servers.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] != "" && verbs[os.Args[1]] != nil {
		main()
		return
	}
	os.Exit(m.Run())
}

func testJob(targets []load.Target) *load.Job {
	return &load.Job{Targets: targets, InFlight: 8, Measure: 100 * time.Millisecond, Drain: load.DrainTime}
}

// TestProcess starts the echo as a process of its own, as the bench does.
func TestProcess(t *testing.T) {
	dir := t.TempDir()
	p, err := startSelf(t.Context(), "echo", dir+"/echo", nil, "-reply-bytes", "50")
	if err != nil {
		t.Fatal(err)
	}
	conns, err := p.connect(1)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(conns)
	b := &load.Books{Names: load.AccountNames("bench", 7)}
	if o, err := load.Run(t.Context(), conns, testJob(b.Debits())); err != nil || o.Replies == 0 || o.Lost != 0 || len(o.Refused) > 0 {
		t.Errorf("%+v, %v", o, err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, err = start(t.Context(), "echo", dir+"/other", nil, self, "echo")
	if err == nil || !strings.Contains(err.Error(), "-dir must be given") {
		t.Errorf("a server that cannot start: %v", err)
	}
}

// TestNoLog: the loop without a log decides as the whole does, and its balances are told
// by its debits.
func TestNoLog(t *testing.T) {
	p, err := startSelf(t.Context(), "noloop", t.TempDir()+"/noloop", serveTuning())
	if err != nil {
		t.Fatal(err)
	}
	conns, err := p.connect(2)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(conns)
	b, err := load.OpenBooks(t.Context(), conns[0], load.AccountNames("bench", 7), load.Plain)
	if err != nil {
		t.Fatal(err)
	}
	var s load.Series
	if err := s.Run(t.Context(), conns, testJob(b.Debits()), b); err != nil {
		t.Fatal(err)
	}
	if done, err := b.Reconcile(t.Context(), conns[0], load.BalanceDebit); err != nil || done < 8 {
		t.Errorf("%d commands agree, %v", done, err)
	}
	if _, err := b.Reconcile(t.Context(), conns[0], load.BalanceDebit); err == nil {
		t.Error("the debits that asked for the balances were not missed")
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
}

// TestWorkloads: each is what its name says.
func TestWorkloads(t *testing.T) {
	b := &load.Books{Names: load.AccountNames("bench", 3)}
	s := &servers{cfg: &config{conns: 4}, debits: b.Debits(), keys: b.Debits()[:2], ruledKeys: b.Debits()[1:], ledger: []*nats.Conn{nil}, noLog: []*nats.Conn{nil, nil}}
	for name, want := range map[string]struct {
		targets, array, inFlight, conns int
		spread                          load.Spread
	}{
		"debit": {3, 0, 256, 1, ""}, "noloop": {3, 0, 256, 2, ""}, "authorize": {2, 0, 256, 1, ""}, "rules": {2, 0, 256, 1, ""}, "batch": {2, 100, 8, 1, ""},
		"zipf": {3, 0, 256, 1, load.Zipf}, "hot": {3, 0, 256, 1, load.Hot},
	} {
		c := s.contender(256, &row{Workload: name})
		j := &c.job
		if len(j.Targets) != want.targets || j.Array != want.array || j.InFlight != want.inFlight || len(c.conns) != want.conns || j.Spread != want.spread ||
			slices.Equal(j.Confirm, load.Allowed) != (want.targets == 2) {
			t.Errorf("%s: %d targets, arrays of %d, %d in flight on %d connections, %s, %q", name, len(j.Targets), j.Array, j.InFlight, len(c.conns), j.Spread, j.Confirm)
		}
	}
}

// TestFsyncDelay: under the shim an fsync takes longer by what was asked for.
func TestFsyncDelay(t *testing.T) {
	const delay = 5 * time.Millisecond
	shim, err := fsyncShim(delay)
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	slow, err := fsyncUnder(t.Context(), shim, dir)
	if err != nil || slow < float64(delay.Microseconds()) {
		t.Errorf("an fsync took %v µs under the shim, at least %s was asked for: %v", slow, delay, err)
	}
	if none, err := fsyncShim(0); none != nil || err != nil {
		t.Errorf("no delay: %v, %v", none, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v behind, %v", left, err)
	}
}
