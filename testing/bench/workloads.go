package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

// config is the command line.
type config struct {
	program    string // keyledger's binary; "" builds it
	dir        string // where data directories are made and removed again
	inFlight   []int
	workloads  []string
	rounds     int
	measure    time.Duration // of each run
	warmUp     time.Duration // before each run, not counted
	fsyncDelay time.Duration // added to each fsync of keyledger's
	accounts   int
	conns      int
	json       bool
}

// Limits of the command line: the whole must end.
const (
	maxInFlight = 100_000
	maxRounds   = 100
	maxRun      = 10 * time.Minute
	maxDelay    = time.Second
	maxAccounts = 100_000
	maxConns    = 256
)

// workload is one kind of load, beside the echo.
type workload struct {
	name   string
	spread load.Spread
	keys   bool // authorize, else debit
	array  int  // commands a message, 0 for one
	noLog  bool // on the keyledger without a log
	rules  bool // of accounts with every rule there is
}

// workloads are all there are. The first is what the others are compared with.
var workloads = []workload{
	{name: "debit"},
	{name: "noloop", noLog: true},
	{name: "authorize", keys: true},
	{name: "rules", keys: true, rules: true},
	{name: "batch", keys: true, array: batchItems},
	{name: "zipf", spread: load.Zipf},
	{name: "hot", spread: load.Hot},
}

const (
	// batchItems is how many commands an array has.
	batchItems = 100
	// batchShare is the part of a level's number in flight that is in flight as arrays:
	// 8 at 256, 800 commands.
	batchShare = 32
)

func parseFlags(args []string) (config, error) {
	var c config
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&c.program, "keyledger", "", "`FILE` of the keyledger to measure; built when left out")
	flags.StringVar(&c.dir, "dir", "bin", "`DIR` on the volume to measure; data directories are made in it and removed")
	flags.IntVar(&c.rounds, "rounds", 5, "runs of each, of which the median counts")
	flags.DurationVar(&c.measure, "duration", 5*time.Second, "how long each run is measured")
	flags.DurationVar(&c.warmUp, "warm-up", 500*time.Millisecond, "how long each run goes on before it is measured")
	flags.DurationVar(&c.fsyncDelay, "fsync-delay", 0, "`DURATION` to add to each fsync of keyledger's, by strace")
	flags.IntVar(&c.accounts, "accounts", 1000, "accounts that are debited")
	flags.IntVar(&c.conns, "connections", 4, "TCP connections of the load")
	flags.BoolVar(&c.json, "json", false, "print JSON")
	inFlight := flags.String("in-flight", "64,256,1024", "commands in flight, a `LIST`")
	names := flags.String("workloads", workloadNames(), "what is measured beside the echo, a `LIST`")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	for text := range strings.SplitSeq(*inFlight, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < c.conns || n > maxInFlight {
			return c, fmt.Errorf("-in-flight: %q is not a number from %d, the connections, to %d", text, c.conns, maxInFlight)
		}
		c.inFlight = append(c.inFlight, n)
	}
	for name := range strings.SplitSeq(*names, ",") {
		name = strings.TrimSpace(name)
		if !slices.ContainsFunc(workloads, func(w workload) bool { return w.name == name }) {
			return c, fmt.Errorf("-workloads: %q is none of %s", name, workloadNames())
		}
		c.workloads = append(c.workloads, name)
	}
	return c, c.check(flags)
}

func (c *config) check(flags *flag.FlagSet) error {
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case c.rounds < 1 || c.rounds > maxRounds:
		return fmt.Errorf("-rounds must be from 1 to %d", maxRounds)
	case c.measure <= 0 || c.measure > maxRun || c.warmUp < 0 || c.warmUp > maxRun:
		return fmt.Errorf("-duration and -warm-up must be positive, at most %s", maxRun)
	case c.fsyncDelay < 0 || c.fsyncDelay > maxDelay:
		return fmt.Errorf("-fsync-delay must be from 0 to %s", maxDelay)
	case c.accounts < 1 || c.accounts > maxAccounts || c.conns < 1 || c.conns > maxConns:
		return fmt.Errorf("-accounts must be from 1 to %d, -connections from 1 to %d", maxAccounts, maxConns)
	}
	return nil
}

func workloadNames() string {
	var names []string
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return strings.Join(names, ",")
}

// benchWorkloads runs everything and prints the report, of what was measured up to an
// error too. Where fsyncs cannot be delayed it says why, which is no failure.
func benchWorkloads(ctx context.Context, args []string) error {
	cfg, err := parseFlags(args)
	if err != nil {
		return err
	}
	shim, err := fsyncShim(cfg.fsyncDelay)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: skipped: %v\n", err)
		return nil
	}
	return inDirectory(ctx, cfg.dir, &cfg.program, func(dir string) error {
		r := newReport(&cfg)
		if r.FsyncMicros, err = fsyncUnder(ctx, shim, dir); err != nil {
			return err
		}
		var failed []error
		for _, n := range cfg.inFlight {
			if err := measureLevel(ctx, &cfg, shim, dir, n, r); err != nil {
				failed = append(failed, fmt.Errorf("%d in flight: %w", n, err))
				break
			}
		}
		return errors.Join(append(failed, r.print(os.Stdout, cfg.json))...)
	})
}

// inDirectory makes a directory below base, builds the program that is measured into it
// unless there is one, calls f and removes the directory.
func inDirectory(ctx context.Context, base string, program *string, f func(dir string) error) error {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(base, "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if *program == "" {
		if *program, err = buildKeyledger(ctx, dir); err != nil {
			return err
		}
	}
	return f(dir)
}

// contender is one row of a level while it is measured.
type contender struct {
	conns  []*nats.Conn
	job    load.Job
	books  *load.Books // nil for the echo
	series *load.Series
}

// run makes one run.
func (c *contender) run(ctx context.Context) error {
	return c.series.Run(ctx, c.conns, &c.job, c.books)
}

// measureLevel measures one number in flight, on a keyledger and a log of its own: echo,
// debits, …, echo, debits, … Afterwards it compares the balances.
func measureLevel(ctx context.Context, cfg *config, shim []string, dir string, inFlight int, r *report) (err error) {
	if dir, err = os.MkdirTemp(dir, "level-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &servers{cfg: cfg}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, shim, dir, r); err != nil {
		return err
	}
	l := r.level(inFlight, cfg)
	contenders := []*contender{{conns: s.echoes, job: s.job(inFlight, workload{}), series: &l.Echo}}
	for i := range l.Rows {
		contenders = append(contenders, s.contender(inFlight, &l.Rows[i]))
	}
	for range cfg.rounds {
		for i, c := range contenders {
			if err := c.run(ctx); err != nil {
				name := "echo"
				if i > 0 {
					name = l.Rows[i-1].Workload
				}
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	l.Agree, err = s.reconcile(ctx)
	l.Reconciled = err == nil
	return err
}

// servers is what one level is measured on.
type servers struct {
	cfg                   *config
	running               []*process
	echoes, ledger, noLog []*nats.Conn
	books, noLogBooks     *load.Books
	debits, keys          []load.Target
	ruled                 *load.Books // accounts with every rule
	ruledKeys             []load.Target
}

// start starts keyledger, the echo and, where it is asked for, the keyledger without a
// log, and makes the accounts.
func (s *servers) start(ctx context.Context, shim []string, dir string, r *report) (err error) {
	names := load.AccountNames("bench", s.cfg.accounts)
	if s.ledger, err = s.open(startKeyledger(ctx, shim, s.cfg.program, dir+"/ledger")); err != nil {
		return err
	}
	if s.books, err = load.OpenBooks(ctx, s.ledger[0], names, load.Plain); err != nil {
		return err
	}
	s.debits = s.books.Debits()
	if s.keys, err = s.books.Keys(ctx, s.ledger[0]); err != nil {
		return err
	}
	if slices.Contains(s.cfg.workloads, "rules") {
		if s.ruled, err = load.OpenBooks(ctx, s.ledger[0], load.AccountNames("rules", s.cfg.accounts), load.EveryRule); err != nil {
			return err
		}
		if s.ruledKeys, err = s.ruled.Keys(ctx, s.ledger[0]); err != nil {
			return err
		}
	}
	if r.Debit, err = s.sample(ctx, &s.debits[0]); err != nil {
		return err
	}
	if r.Authorize, err = s.sample(ctx, &s.keys[0]); err != nil {
		return err
	}
	if s.echoes, err = s.open(startSelf(ctx, "echo", dir+"/echo", nil, "-reply-bytes", fmt.Sprint(r.Debit.Reply))); err != nil {
		return err
	}
	if !slices.Contains(s.cfg.workloads, "noloop") {
		return nil
	}
	if s.noLog, err = s.open(startSelf(ctx, "noloop", dir+"/noloop", serveTuning())); err != nil {
		return err
	}
	s.noLogBooks, err = load.OpenBooks(ctx, s.noLog[0], names, load.Plain)
	return err
}

// open connects to a server that was started.
func (s *servers) open(p *process, err error) ([]*nats.Conn, error) {
	if err != nil {
		return nil, err
	}
	s.running = append(s.running, p)
	return p.connect(s.cfg.conns)
}

// sample measures one command.
func (s *servers) sample(ctx context.Context, t *load.Target) (size, error) {
	reply, err := s.books.Sample(ctx, s.ledger[0], t)
	if err != nil {
		return size{}, err
	}
	return size{len(t.Body), len(reply.Data)}, nil
}

// job is a workload's, on targets that all servers have.
func (s *servers) job(inFlight int, w workload) load.Job {
	j := load.Job{
		Targets: s.debits, Spread: w.spread, Array: w.array, InFlight: inFlight,
		WarmUp: s.cfg.warmUp, Measure: s.cfg.measure, Drain: load.DrainTime,
	}
	if w.keys {
		j.Targets, j.Confirm = s.keys, load.Allowed
	}
	if w.rules {
		j.Targets = s.ruledKeys
	}
	if w.array > 0 {
		j.InFlight = max(inFlight/batchShare, s.cfg.conns)
	}
	return j
}

func (s *servers) contender(inFlight int, r *row) *contender {
	w := workloads[slices.IndexFunc(workloads, func(w workload) bool { return w.name == r.Workload })]
	c := &contender{conns: s.ledger, job: s.job(inFlight, w), books: s.books, series: &r.Series}
	if w.noLog {
		c.conns, c.books = s.noLog, s.noLogBooks
	}
	if w.rules {
		c.books = s.ruled
	}
	r.Messages, r.Items = c.job.InFlight, max(w.array, 1)
	return c
}

// reconcile compares all balances. The keyledger without a log has no views to ask.
func (s *servers) reconcile(ctx context.Context) (int64, error) {
	agree, err := s.books.Reconcile(ctx, s.ledger[0], load.BalanceQuery)
	if s.ruled != nil && err == nil {
		var more int64
		more, err = s.ruled.Reconcile(ctx, s.ledger[0], load.BalanceQuery)
		agree += more
	}
	if s.noLogBooks == nil || err != nil {
		return agree, err
	}
	more, err := s.noLogBooks.Reconcile(ctx, s.noLog[0], load.BalanceDebit)
	return agree + more, err
}

// stop closes the connections and stops the servers.
func (s *servers) stop() error {
	closeAll(slices.Concat(s.echoes, s.ledger, s.noLog))
	var failed []error
	for _, p := range slices.Backward(s.running) {
		failed = append(failed, p.stop())
	}
	return errors.Join(failed...)
}
