package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

// Limits of bench: it must end, and leave a ledger usable.
const (
	benchMaxInFlight = 10_000
	benchMaxConns    = 256
	benchMaxAccounts = 10_000
	benchMaxTime     = time.Hour // of all runs together
	benchArray       = 100       // commands in an array
	// benchArrayShare is the part of a number in flight that is in flight as arrays.
	benchArrayShare = 32
	// benchTidy bounds what is done after the last run, an interrupt or not.
	benchTidy = 30 * time.Second
)

// benchFlags are the flags of bench.
type benchFlags struct {
	workloads       []string
	inFlight        []int
	conns, accounts int
	prefix          string
	rounds          int
	measure, warmUp time.Duration
}

var benchWorkloads = []string{"debit", "authorize", "batch"}

func benchCommand(a *app) *cobra.Command {
	var f benchFlags
	c := a.verb(&cobra.Command{
		Use:   "bench",
		Short: "Measure what a running keyledger does a second",
		Long: `Measure what a running keyledger does a second, from here: durable commands, each under an
id of its own, with a fixed number in flight. Runs of the workloads follow each other in
turn, several rounds of each; medians count. In the end the balances must be what they
were less what was acknowledged, or it ends with exit code 1.

  debit      credit.debit of 1 credit
  authorize  a whole decision: a key's secret, product, address, price and rate
  batch      the same in arrays of ` + strconv.Itoa(benchArray) + `; the rate is that of items

It works in accounts of its own, PREFIX-00000 and so on, each with credits, a plan and,
while it runs, a key in the environment test. They stay, and a later run uses them again;
what it did stays in the log. It refuses to touch an account of such a name that holds
anything else. The load takes processor time too: measure from another machine to know
what the server alone can do.`,
		Example: `  keyledger bench
  keyledger bench --workload debit --in-flight 256 --duration 10s
  keyledger bench --connections 64 --in-flight 64 --json`,
		Args: arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		return a.bench(cmd, &f)
	})
	flags := c.Flags()
	flags.StringSliceVar(&f.workloads, "workload", benchWorkloads, "`LIST` of debit, authorize and batch")
	flags.IntSliceVar(&f.inFlight, "in-flight", []int{64, 256, 1024}, "`LIST` of how many commands are in flight")
	flags.IntVar(&f.conns, "connections", 4, "how many connections the load has")
	flags.IntVar(&f.accounts, "accounts", 1000, "how many accounts it works in")
	flags.StringVar(&f.prefix, "prefix", "bench", "`PREFIX` of their ids")
	flags.IntVar(&f.rounds, "rounds", 3, "runs of each, of which the median counts")
	flags.DurationVar(&f.measure, "duration", 5*time.Second, "`DURATION` of each run")
	flags.DurationVar(&f.warmUp, "warm-up", 500*time.Millisecond, "`DURATION` of each run before it is measured")
	withDefault(flags, "workload", "all")
	withDefault(flags, "in-flight", "64,256,1024")
	return c
}

// check says what is wrong with the flags.
func (f *benchFlags) check() error {
	for _, name := range f.workloads {
		if !slices.Contains(benchWorkloads, name) {
			return usagef("--workload %q is none of %s", name, strings.Join(benchWorkloads, ", "))
		}
	}
	for _, n := range f.inFlight {
		if n < f.conns || n > benchMaxInFlight {
			return usagef("--in-flight %d must be from %d, the connections, to %d", n, f.conns, benchMaxInFlight)
		}
	}
	runs := len(f.workloads) * len(f.inFlight) * f.rounds
	switch {
	case runs < 1:
		return usagef("--workload, --in-flight and --rounds must name at least one run")
	case f.conns < 1 || f.conns > benchMaxConns:
		return usagef("--connections must be from 1 to %d", benchMaxConns)
	case f.accounts < 1 || f.accounts > benchMaxAccounts:
		return usagef("--accounts must be from 1 to %d", benchMaxAccounts)
	case !ledger.ValidAccount(f.prefix + "-00000"):
		return usagef("--prefix %q makes no account id: 1 to 58 of A-Z a-z 0-9 _ -", f.prefix)
	case f.measure <= 0 || f.warmUp < 0:
		return usagef("--duration must be positive, --warm-up not negative")
	case f.measure+f.warmUp > benchMaxTime/time.Duration(runs):
		return usagef("%d runs of %s take longer than %s together", runs, f.measure+f.warmUp, benchMaxTime)
	}
	return nil
}

// benchTotals is what bench measured, and how.
type benchTotals struct {
	Version     string      `json:"version"` // of the server
	Client      string      `json:"client"`
	Server      string      `json:"server"`
	Sync        string      `json:"sync"` // "always": a command is on the disk before its answer
	Go          string      `json:"go"`
	System      string      `json:"system"`
	Cores       int         `json:"cores"` // of this machine
	NATSServer  string      `json:"nats_server"`
	NATSClient  string      `json:"nats_client"`
	Connections int         `json:"connections"`
	Accounts    int         `json:"accounts"`
	First       string      `json:"first_account"`
	Last        string      `json:"last_account"`
	Rounds      int         `json:"rounds"`
	RunMS       int64       `json:"run_ms"`
	Workloads   []*benchRow `json:"workloads"`
	Agree       int64       `json:"commands_acknowledged"`
	Reconciled  bool        `json:"reconciled"`
}

// benchRow is one workload at one number in flight.
type benchRow struct {
	Workload string `json:"workload"`
	Messages int    `json:"messages_in_flight"`
	Items    int    `json:"commands_a_message"`
	Request  int    `json:"request_bytes"` // of one command, its id not counted
	Reply    int    `json:"reply_bytes"`
	load.Series

	job load.Job
}

// bench measures and prints, of what was measured up to an error too.
func (a *app) bench(cmd *cobra.Command, f *benchFlags) (err error) {
	conns := make([]*nats.Conn, 0, f.conns)
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	for range f.conns {
		conn, err := a.connect(cmd)
		if err != nil {
			return err
		}
		conns = append(conns, conn)
	}
	totals, err := a.benchTotals(cmd, f, conns[0])
	if err != nil {
		return err
	}
	err = a.runBench(cmd.Context(), f, conns, totals)
	totals.Workloads = slices.DeleteFunc(totals.Workloads, func(r *benchRow) bool { return len(r.Rates) == 0 })
	if len(totals.Workloads) == 0 {
		return err
	}
	return errors.Join(err, a.showBench(totals))
}

// benchTotals asks the server what it is.
func (a *app) benchTotals(cmd *cobra.Command, f *benchFlags, conn *nats.Conn) (*benchTotals, error) {
	names := load.AccountNames(f.prefix, f.accounts)
	t := &benchTotals{
		Client: cmd.Root().Version, Server: conn.ConnectedUrlRedacted(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Cores: runtime.NumCPU(), NATSServer: conn.ConnectedServerVersion(), NATSClient: nats.Version, Connections: f.conns, Accounts: f.accounts,
		First: names[0], Last: names[len(names)-1], Rounds: f.rounds, RunMS: f.measure.Milliseconds(),
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	reply, err := client.New(conn).Query(ctx, "_", "ledger.status", nil)
	if err != nil {
		return nil, err
	}
	return t, reply.Decode(&struct {
		Version *string `json:"version"`
		Sync    *string `json:"sync"`
	}{&t.Version, &t.Sync})
}

// runBench makes the accounts, all runs and the reconciliation.
func (a *app) runBench(ctx context.Context, f *benchFlags, conns []*nats.Conn, totals *benchTotals) (err error) {
	p := a.newProgress()
	p.begin("making accounts")
	books, err := load.OpenBooks(ctx, conns[0], load.AccountNames(f.prefix, f.accounts), load.Plain)
	if err != nil {
		return fmt.Errorf("make the accounts %s to %s: %w", totals.First, totals.Last, err)
	}
	// After an interrupt too: keys that nobody uses must not stay.
	defer func() {
		tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), benchTidy)
		defer cancel()
		err = errors.Join(err, books.RevokeKeys(tidy, conns[0]))
	}()
	if err := f.plan(ctx, conns[0], books, totals); err != nil {
		return err
	}
	p.end("made accounts %s to %s ready", totals.First, totals.Last)
	for level := range slices.Chunk(totals.Workloads, len(f.workloads)) {
		for round := range f.rounds {
			for _, row := range level {
				p.begin(fmt.Sprintf("%s, %d in flight, round", row.Workload, row.Messages))
				p.at(round+1, f.rounds)
				if err := row.Run(ctx, conns, &row.job, books); err != nil {
					return fmt.Errorf("%s, %d in flight: %w", row.Workload, row.Messages, err)
				}
			}
		}
	}
	p.begin("comparing balances")
	if totals.Agree, err = books.Reconcile(ctx, conns[0], load.BalanceQuery); err != nil {
		return err
	}
	totals.Reconciled = true
	p.end("compared the balances of %s accounts", grouped(int64(f.accounts)))
	return nil
}

// plan makes the keys that are needed and the rows of all levels.
func (f *benchFlags) plan(ctx context.Context, conn *nats.Conn, books *load.Books, totals *benchTotals) (err error) {
	debits := books.Debits()
	keys := debits // not used without keys
	if slices.Contains(f.workloads, "authorize") || slices.Contains(f.workloads, "batch") {
		if keys, err = books.Keys(ctx, conn); err != nil {
			return fmt.Errorf("make keys: %w", err)
		}
	}
	samples := map[string][2]int{} // request and reply bytes
	for _, n := range f.inFlight {
		for _, name := range f.workloads {
			r := &benchRow{Workload: name, Items: 1, job: load.Job{
				Targets: debits, InFlight: n, WarmUp: f.warmUp, Measure: f.measure, Drain: load.DrainTime,
			}}
			switch name {
			case "authorize":
				r.job.Targets, r.job.Confirm = keys, load.Allowed
			case "batch":
				r.job.Targets, r.job.Confirm, r.job.Array = keys, load.Allowed, benchArray
				r.job.InFlight, r.Items = max(n/benchArrayShare, f.conns), benchArray
			}
			r.Messages = r.job.InFlight
			if _, ok := samples[name]; !ok {
				target := &r.job.Targets[0]
				reply, err := books.Sample(ctx, conn, target)
				if err != nil {
					return fmt.Errorf("send a first command: %w", err)
				}
				samples[name] = [2]int{len(target.Body), len(reply.Data)}
			}
			r.Request, r.Reply = samples[name][0], samples[name][1]
			totals.Workloads = append(totals.Workloads, r)
		}
	}
	return nil
}

// showBench prints what was measured.
func (a *app) showBench(totals *benchTotals) error {
	if a.json {
		return printJSON(a.out, totals)
	}
	t := newTable(a.out)
	t.row("server", fmt.Sprintf("keyledger %s at %s, nats-server %s", totals.Version, totals.Server, totals.NATSServer))
	t.row("fsync", totals.Sync+map[string]string{"always": ": every command is on the disk before its answer", "lazy": ": a power cut loses acknowledged commands"}[totals.Sync])
	t.row("client", fmt.Sprintf("keyledger %s, %s %s, %d cores, nats.go %s", totals.Client, totals.Go, totals.System, totals.Cores, totals.NATSClient))
	t.row("load", fmt.Sprintf("%d connections, %s accounts, %d rounds of %s each", totals.Connections, grouped(int64(totals.Accounts)), totals.Rounds, time.Duration(totals.RunMS)*time.Millisecond))
	for i, r := range totals.Workloads {
		if slices.IndexFunc(totals.Workloads, func(o *benchRow) bool { return o.Workload == r.Workload }) == i {
			t.row(r.Workload, fmt.Sprintf("%d bytes and a command id, answered with %d", r.Request, r.Reply))
		}
	}
	agree := "not compared, or wrong"
	if totals.Reconciled {
		agree = grouped(totals.Agree) + " commands agree"
	}
	t.row("balances", agree)
	if err := t.w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	t = newTable(a.out)
	t.row("WORKLOAD", "IN FLIGHT", "COMMANDS/S", "SLOWEST–FASTEST", "P50 MS", "P99 MS", "P99.9 MS")
	for _, r := range totals.Workloads {
		inFlight := strconv.Itoa(r.Messages)
		if r.Items > 1 {
			inFlight += "×" + strconv.Itoa(r.Items)
		}
		ms := func(micros float64) string { return strconv.FormatFloat(micros/1000, 'f', 2, 64) }
		t.row(r.Workload, inFlight, grouped(int64(r.Rate)), r.Span(), ms(r.P50Micros), ms(r.P99Micros), ms(r.P999Micros))
	}
	return t.w.Flush()
}
