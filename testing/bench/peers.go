package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

const (
	// peerClients is how many clients load each server, with one command in flight each.
	peerClients = 64
	// peerConns are the connections that keyledger's clients share in its other row.
	peerConns = 4
	// peerStart is the credit of each account in the peers.
	peerStart = int64(1) << 48
)

// peersConfig is the command line of "bench peers".
type peersConfig struct {
	program, dir    string
	rounds          int
	measure, warmUp time.Duration
	accounts        int
	json            bool
}

// peersReport is what "bench peers" measured.
type peersReport struct {
	What string `json:"what"`
	machine
	Postgres   string             `json:"postgres"`
	Redis      string             `json:"redis"`
	Accounts   int                `json:"accounts"`
	Rounds     int                `json:"rounds"`
	RunSeconds float64            `json:"run_seconds"`
	Rows       []*peerRow         `json:"rows"`
	Ratios     map[string]float64 `json:"ratios"` // keyledger's row to the peer's
	Agree      int64              `json:"commands_acknowledged"`
	Reconciled bool               `json:"reconciled"`
}

// peerRow is one server under one load.
type peerRow struct {
	Name string `json:"name"`
	load.Series

	run func(ctx context.Context) error
}

// benchPeers measures the same idempotent debit in PostgreSQL, Redis and keyledger, in
// turn. Where the two cannot be had it says what to install, which is no failure.
func benchPeers(ctx context.Context, args []string) error {
	cfg := peersConfig{}
	flags := flag.NewFlagSet("bench peers", flag.ContinueOnError)
	flags.StringVar(&cfg.program, "keyledger", "", "`FILE` of the keyledger to measure; built when left out")
	flags.StringVar(&cfg.dir, "dir", "bin", "`DIR` on the volume to measure; data directories are made in it and removed")
	flags.IntVar(&cfg.rounds, "rounds", 5, "runs of each, of which the median counts")
	flags.DurationVar(&cfg.measure, "duration", 5*time.Second, "how long each run is measured, in whole seconds")
	flags.DurationVar(&cfg.warmUp, "warm-up", 500*time.Millisecond, "how long each run goes on before it is measured; pgbench has none")
	flags.IntVar(&cfg.accounts, "accounts", 1000, "accounts that are debited")
	flags.BoolVar(&cfg.json, "json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if cfg.measure < time.Second || cfg.measure > maxRun || cfg.measure%time.Second != 0 || cfg.warmUp < 0 || cfg.warmUp > maxRun ||
		cfg.rounds < 1 || cfg.rounds > maxRounds || cfg.accounts < 1 || cfg.accounts > maxAccounts || flags.NArg() > 0 {
		return errors.New("see bench peers -help: -duration takes whole seconds")
	}
	programs, err := peerPrograms(ctx)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench peers: skipped: %v\n", err)
		return nil
	}
	return inDirectory(ctx, cfg.dir, &cfg.program, func(dir string) error {
		r := &peersReport{
			What:    "idempotent debits a second, each under an id of its own and durable before its answer; runs interleaved; medians",
			machine: thisMachine(), Accounts: cfg.accounts, Rounds: cfg.rounds, RunSeconds: cfg.measure.Seconds(),
		}
		if r.FsyncMicros, err = measureFsync(dir); err != nil {
			return err
		}
		err := measurePeers(ctx, &cfg, programs, dir, r)
		return errors.Join(err, r.print(os.Stdout, cfg.json))
	})
}

// measurePeers starts the three, runs them in turn, compares the balances and stops them.
func measurePeers(ctx context.Context, cfg *peersConfig, programs *peerProgram, dir string, r *peersReport) (err error) {
	pg, err := startPostgres(ctx, cfg, programs, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pg.stop()) }()
	rd, err := startRedis(ctx, cfg, programs, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rd.stop()) }()
	kl, err := startKeyledger(ctx, nil, cfg.program, dir+"/ledger")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kl.stop()) }()
	few, err := kl.connect(peerConns)
	if err != nil {
		return err
	}
	defer closeAll(few)
	many, err := kl.connect(peerClients)
	if err != nil {
		return err
	}
	defer closeAll(many)
	books, err := load.OpenBooks(ctx, few[0], load.AccountNames("bench", cfg.accounts), load.Plain)
	if err != nil {
		return err
	}
	job := load.Job{Targets: books.Debits(), InFlight: peerClients, WarmUp: cfg.warmUp, Measure: cfg.measure, Drain: load.DrainTime}
	shared, single := &peerRow{Name: "keyledger, 64 in flight over 4 connections"}, &peerRow{Name: "keyledger, 64 connections of one in flight"}
	shared.run = func(ctx context.Context) error { return shared.Run(ctx, few, &job, books) }
	single.run = func(ctx context.Context) error { return single.Run(ctx, many, &job, books) }
	r.Postgres, r.Redis, r.Rows = pg.version, rd.version, []*peerRow{pg.row, rd.row, shared, single}
	for range cfg.rounds {
		for _, row := range r.Rows {
			if err := row.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", row.Name, err)
			}
		}
	}
	for _, reconcile := range []func() (int64, error){
		func() (int64, error) { return pg.reconcile(ctx) },
		func() (int64, error) { return rd.reconcile() },
		func() (int64, error) { return books.Reconcile(ctx, few[0], load.BalanceQuery) },
	} {
		n, err := reconcile()
		if err != nil {
			return err
		}
		r.Agree += n
	}
	r.Reconciled = true
	return nil
}

// print writes the report.
func (r *peersReport) print(w io.Writer, asJSON bool) error {
	if len(r.Rows) < 4 || len(r.Rows[3].Rates) == 0 {
		return nil
	}
	pg, rd, shared, single := r.Rows[0].Rate, r.Rows[1].Rate, r.Rows[2].Rate, r.Rows[3].Rate
	r.Ratios = map[string]float64{
		"shared_to_postgres": ratio(shared, pg), "single_to_postgres": ratio(single, pg),
		"shared_to_redis": ratio(shared, rd), "single_to_redis": ratio(single, rd),
	}
	if asJSON {
		return printJSON(w, r)
	}
	fmt.Fprintf(w, "%s\n", r.What)
	r.machine.print(w)
	fmt.Fprintf(w, "%s; %s; %d accounts; %d rounds of %.3g s each\n\n", r.Postgres, r.Redis, r.Accounts, r.Rounds, r.RunSeconds)
	table := newTable(w, "64 clients", "debits/s", "slowest to fastest", "of PostgreSQL", "of Redis", "p50", "p99")
	for _, row := range r.Rows {
		table.row(row.Name, perSecond(row.Rate), row.Span(), twoDigits(ratio(row.Rate, pg)), twoDigits(ratio(row.Rate, rd)),
			milliseconds(row.P50Micros), milliseconds(row.P99Micros))
	}
	if err := table.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s in all three\n", agreement(r.Reconciled, r.Agree))
	return err
}

// peerProgram says where the peers' programs are.
type peerProgram struct {
	postgres string // directory with initdb, postgres, psql and pgbench
	redis    string // redis-server
}

// debianPostgres is where its package puts them, outside of the search path.
const debianPostgres = "/usr/lib/postgresql/15/bin"

// peerPackages are the Debian packages that hold them.
var peerPackages = []string{"postgresql-15", "redis-server"}

// peerPrograms finds the programs, and installs them where that can be done.
func peerPrograms(ctx context.Context) (*peerProgram, error) {
	p, missing := findPeers()
	if missing == "" {
		return p, nil
	}
	advice := fmt.Sprintf("%s is missing: apt-get install %s", missing, strings.Join(peerPackages, " "))
	apt, err := exec.LookPath("apt-get")
	if os.Geteuid() != 0 || err != nil {
		return nil, errors.New(advice)
	}
	for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-q", "-y", "--no-install-recommends", "--no-upgrade"}, peerPackages...)} {
		cmd := exec.CommandContext(ctx, apt, args...)
		// In runlevel 1 the packages start no servers of their own.
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("%s (which failed: %w)", advice, err)
		}
	}
	if p, missing = findPeers(); missing != "" {
		return nil, errors.New(advice)
	}
	return p, nil
}

// findPeers returns the name of a program that is missing, "" if all are there.
func findPeers() (*peerProgram, string) {
	p := &peerProgram{postgres: debianPostgres}
	if _, err := os.Stat(p.postgres); err != nil {
		if path, err := exec.LookPath("initdb"); err == nil {
			p.postgres = filepath.Dir(path)
		}
	}
	for _, name := range []string{"initdb", "postgres", "psql", "pgbench"} {
		if _, err := exec.LookPath(filepath.Join(p.postgres, name)); err != nil {
			return nil, name
		}
	}
	var err error
	if p.redis, err = exec.LookPath("redis-server"); err != nil {
		return nil, "redis-server"
	}
	return p, ""
}

// freePort is one on loopback that nobody has now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// firstLine is a program's answer to --version.
func firstLine(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return line, err
}
