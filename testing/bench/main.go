// Command bench measures durable debits a second beside a bare echo.
//
// Three processes: keyledger serve; a nats-server with a micro endpoint that answers at
// once with as many bytes as a debit's answer has, and does nothing else; and this one,
// which loads the two in turn over TCP with a fixed number of commands in flight. What
// the echo reaches is what transport allows on the same machine in the same minute.
//
// At the end every account's balance must be what was granted less what was
// acknowledged, or the exit code is 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// config is the command line.
type config struct {
	program  string // keyledger's binary; "" builds it
	dir      string // where data directories are made and removed again
	inFlight []int
	rounds   int
	measure  time.Duration // of each run
	warmUp   time.Duration // before each run, not counted
	accounts int
	conns    int
	json     bool
}

// Limits of the command line: the whole must end.
const (
	maxInFlight = 100_000
	maxRounds   = 100
	maxRun      = 10 * time.Minute
	maxAccounts = 100_000
	maxConns    = 256
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	var err error
	if len(os.Args) > 1 && os.Args[1] == "echo" {
		err = serveEcho(ctx, os.Args[2:])
	} else {
		err = bench(ctx, os.Args[1:])
	}
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func parseFlags(args []string) (config, error) {
	var c config
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&c.program, "keyledger", "", "`FILE` of the keyledger to measure; built when left out")
	flags.StringVar(&c.dir, "dir", "bin", "`DIR` on the volume to measure; data directories are made in it and removed")
	flags.IntVar(&c.rounds, "rounds", 5, "runs of each, of which the median counts")
	flags.DurationVar(&c.measure, "duration", 5*time.Second, "how long each run is measured")
	flags.DurationVar(&c.warmUp, "warm-up", 500*time.Millisecond, "how long each run goes on before it is measured")
	flags.IntVar(&c.accounts, "accounts", 1000, "accounts that are debited in turn")
	flags.IntVar(&c.conns, "connections", 4, "TCP connections of the load")
	flags.BoolVar(&c.json, "json", false, "print JSON")
	inFlight := flags.String("in-flight", "64,256,1024", "commands in flight, a `LIST`")
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
	switch {
	case flags.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case c.rounds < 1 || c.rounds > maxRounds:
		return c, fmt.Errorf("-rounds must be from 1 to %d", maxRounds)
	case c.measure < 10*time.Millisecond || c.measure > maxRun || c.warmUp < 0 || c.warmUp > maxRun:
		return c, fmt.Errorf("-duration must be from 10ms to %s, -warm-up at most that", maxRun)
	case c.accounts < 1 || c.accounts > maxAccounts || c.conns < 1 || c.conns > maxConns:
		return c, fmt.Errorf("-accounts must be from 1 to %d, -connections from 1 to %d", maxAccounts, maxConns)
	}
	return c, nil
}

// bench runs everything and prints the report, of what was measured up to an error too.
func bench(ctx context.Context, args []string) error {
	cfg, err := parseFlags(args)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.dir, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(cfg.dir, "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if cfg.program == "" {
		if cfg.program, err = buildKeyledger(ctx, dir); err != nil {
			return err
		}
	}
	r := newReport(&cfg)
	if r.FsyncMicros, err = measureFsync(dir); err != nil {
		return err
	}
	var failed []error
	for _, n := range cfg.inFlight {
		if err := measureLevel(ctx, &cfg, dir, n, r); err != nil {
			failed = append(failed, fmt.Errorf("%d in flight: %w", n, err))
			break
		}
	}
	return errors.Join(append(failed, r.print(os.Stdout, cfg.json))...)
}

// measureLevel measures one number in flight, on a keyledger and a log of its own: echo,
// debits, echo, debits … Afterwards it compares the balances.
func measureLevel(ctx context.Context, cfg *config, dir string, inFlight int, r *report) (err error) {
	if dir, err = os.MkdirTemp(dir, "level-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ledger, err := startKeyledger(ctx, cfg.program, dir+"/ledger")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.stop()) }()
	debits, err := ledger.connect(cfg.conns)
	if err != nil {
		return err
	}
	defer closeAll(debits)
	b, err := openBooks(ctx, debits[0], cfg.accounts)
	if err != nil {
		return err
	}
	sample, err := b.sampleDebit(ctx, debits[0])
	if err != nil {
		return err
	}
	r.ReplyBytes = len(sample.Data)
	echo, err := startEcho(ctx, dir+"/echo", len(sample.Data))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, echo.stop()) }()
	echoes, err := echo.connect(cfg.conns)
	if err != nil {
		return err
	}
	defer closeAll(echoes)

	l := r.level(inFlight)
	j := job{inFlight: inFlight, warmUp: cfg.warmUp, measure: cfg.measure, drain: drainTime, accounts: b.names}
	for range cfg.rounds {
		if err := l.Echo.run(ctx, echoes, j, nil); err != nil {
			return fmt.Errorf("echo: %w", err)
		}
		if err := l.Debit.run(ctx, debits, j, b); err != nil {
			return fmt.Errorf("debits: %w", err)
		}
	}
	l.Debits, err = b.reconcile(ctx, debits[0])
	l.Reconciled = err == nil
	return err
}
