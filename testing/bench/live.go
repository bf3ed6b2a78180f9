package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

// liveConfig is the command line of "bench live".
type liveConfig struct {
	config
	endpoints int // accounts of which a webhook endpoint gets all
	half      time.Duration
}

// liveReport is what "bench live" measured.
type liveReport struct {
	What string `json:"what"`
	machine
	Accounts  int `json:"accounts"`
	Endpoints int `json:"webhook_endpoints"`
	InFlight  int `json:"in_flight"`

	Echo     load.Series `json:"echo"`
	Debits   load.Series `json:"debits"`
	ToEcho   float64     `json:"debits_to_echo"`
	Full     visible     `json:"visible_at_full_rate"` // of the last round
	Half     load.Series `json:"debits_at_half_the_rate"`
	HalfSeen visible     `json:"visible_at_half_the_rate"`
	Webhooks int64       `json:"webhooks_received"`
	Agree    int64       `json:"commands_acknowledged"`
}

// benchLive measures debits with everything on, one webhook endpoint on a hundredth of
// the accounts too, and how soon they are visible: at the full rate and at half of it.
func benchLive(ctx context.Context, args []string) error {
	c := liveConfig{}
	flags := flag.NewFlagSet("bench live", flag.ContinueOnError)
	flags.StringVar(&c.program, "keyledger", "", "`FILE` of the keyledger to measure; built when left out")
	flags.StringVar(&c.dir, "dir", "bin", "`DIR` on the volume to measure; data directories are made in it and removed")
	flags.IntVar(&c.rounds, "rounds", 5, "runs at the full rate, of which the median counts")
	flags.DurationVar(&c.measure, "duration", 5*time.Second, "how long each run is measured")
	flags.DurationVar(&c.half, "half-duration", 20*time.Second, "how long half the rate is measured")
	flags.DurationVar(&c.warmUp, "warm-up", 500*time.Millisecond, "how long each run goes on before it is measured")
	flags.IntVar(&c.accounts, "accounts", 1000, "accounts that are debited")
	flags.IntVar(&c.endpoints, "endpoints", 10, "of them that have a webhook endpoint, which gets all of their events")
	flags.IntVar(&c.conns, "connections", 4, "TCP connections of the load")
	flags.BoolVar(&c.json, "json", false, "print JSON")
	inFlight := flags.Int("in-flight", 64, "debits in flight")
	if err := flags.Parse(args); err != nil {
		return err
	}
	c.inFlight = []int{*inFlight}
	if err := c.check(flags); err != nil {
		return err
	}
	if *inFlight < c.conns || *inFlight > maxInFlight || c.endpoints < 0 || c.endpoints > c.accounts || c.half <= 0 || c.half > maxRun {
		return fmt.Errorf("-in-flight must be from -connections to %d, -endpoints from 0 to -accounts, -half-duration positive, at most %s", maxInFlight, maxRun)
	}
	return inDirectory(ctx, c.dir, &c.program, func(dir string) error {
		r := &liveReport{What: "durable debits with everything on, and how soon they are visible; medians", machine: thisMachine(),
			Accounts: c.accounts, Endpoints: c.endpoints, InFlight: *inFlight}
		var err error
		if r.FsyncMicros, err = measureFsync(dir); err != nil {
			return err
		}
		if err := c.run(ctx, dir, r); err != nil {
			return err
		}
		return r.print(os.Stdout, c.json)
	})
}

// live is the processes of one run.
type live struct {
	running       []*process
	sink          *process
	ledger, echos []*nats.Conn
	books         *load.Books
	job           load.Job
}

// run measures.
func (c *liveConfig) run(ctx context.Context, dir string, r *liveReport) (err error) {
	l := &live{}
	defer func() { err = errors.Join(err, l.stop()) }()
	if err := l.start(ctx, c, dir); err != nil {
		return err
	}
	for range c.rounds {
		if err := r.Echo.Run(ctx, l.echos, &l.job, nil); err != nil {
			return fmt.Errorf("echo: %w", err)
		}
		seen, err := l.watched(ctx, &r.Debits)
		if err != nil {
			return err
		}
		r.Full = *seen
	}
	r.ToEcho = ratio(r.Debits.Rate, r.Echo.Rate)
	l.job.Rate, l.job.Measure = r.Debits.Rate/2, c.half
	seen, err := l.watched(ctx, &r.Half)
	if err != nil {
		return err
	}
	r.HalfSeen = *seen
	if r.Webhooks, err = sinkTook(ctx, l.sink.url); err != nil {
		return err
	}
	r.Agree, err = l.books.Reconcile(ctx, l.ledger[0], load.BalanceQuery)
	return err
}

// start starts all of them and makes accounts and endpoints.
func (l *live) start(ctx context.Context, c *liveConfig, dir string) (err error) {
	if l.sink, err = startSelf(ctx, "sink", dir+"/sink", nil); err != nil {
		return err
	}
	l.running = append(l.running, l.sink)
	p, err := startKeyledger(ctx, nil, c.program, dir+"/ledger", webhookFlags...)
	if err != nil {
		return err
	}
	l.running = append(l.running, p)
	if l.ledger, err = p.connect(c.conns + 1); err != nil { // one for the probe
		return err
	}
	if l.books, err = load.OpenBooks(ctx, l.ledger[0], load.AccountNames("bench", c.accounts), load.Plain); err != nil {
		return err
	}
	if _, err := load.OpenBooks(ctx, l.ledger[0], []string{probeAccount}, load.Plain); err != nil {
		return err
	}
	for _, account := range l.books.Names[:c.endpoints] {
		body := fmt.Appendf(nil, `{"url":"%s/","environment":"test","events":["*"]}`, l.sink.url)
		if err := command(ctx, l.ledger[0], account, "endpoint.register", body); err != nil {
			return err
		}
	}
	l.job = load.Job{Targets: l.books.Debits(), InFlight: c.inFlight[0], WarmUp: c.warmUp, Measure: c.measure, Drain: load.DrainTime}
	reply, err := l.books.Sample(ctx, l.ledger[0], &l.job.Targets[0])
	if err != nil {
		return err
	}
	echo, err := startSelf(ctx, "echo", dir+"/echo", nil, "-reply-bytes", fmt.Sprint(len(reply.Data)))
	if err != nil {
		return err
	}
	l.running = append(l.running, echo)
	l.echos, err = echo.connect(c.conns)
	return err
}

// command sends a command that must be done.
func command(ctx context.Context, conn *nats.Conn, account, verb string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, load.DrainTime)
	defer cancel()
	reply, err := conn.RequestWithContext(ctx, "keyledger.cmd."+account+"."+verb, body)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", verb, account, err)
	}
	if reply.Header.Get("Nats-Service-Error") != "" {
		return fmt.Errorf("%s of %s: %s", verb, account, reply.Data)
	}
	return nil
}

// watched makes a run of debits and probes meanwhile; afterwards it waits until all that
// follows the log has caught up.
func (l *live) watched(ctx context.Context, s *load.Series) (*visible, error) {
	last := len(l.ledger) - 1
	watching, stop := context.WithCancel(ctx)
	defer stop()
	type result struct {
		seen *visible
		err  error
	}
	results := make(chan result, 1)
	go func() {
		seen, err := watch(watching, l.ledger[last])
		results <- result{seen, err}
	}()
	if err := s.Run(ctx, l.ledger[:last], &l.job, l.books); err != nil {
		return nil, fmt.Errorf("debit: %w", err)
	}
	stop()
	got := <-results
	if got.err != nil {
		return nil, fmt.Errorf("probe: %w", got.err)
	}
	end := time.Now()
	err := l.running[1].within(ctx, feedTime, func() error {
		name, lag, err := furthestBehind(l.ledger[last])
		if err == nil && lag > 0 {
			err = fmt.Errorf("%s is %d events behind", name, lag)
		}
		return err
	})
	got.seen.CaughtUp = time.Since(end).Seconds()
	return got.seen, err
}

func (l *live) stop() error {
	closeAll(append(l.ledger, l.echos...))
	var failed []error
	for i := len(l.running) - 1; i >= 0; i-- {
		failed = append(failed, l.running[i].stop())
	}
	return errors.Join(failed...)
}

func (r *liveReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	fmt.Fprintf(w, "%s\n", r.What)
	r.machine.print(w)
	fmt.Fprintf(w, "%d accounts, %d webhook endpoints, %d in flight\n\n", r.Accounts, r.Endpoints, r.InFlight)
	table := newTable(w, "what", "figure")
	table.row("echo", debitsText(&r.Echo))
	table.row("debits, everything on", debitsText(&r.Debits))
	table.row("to the echo", twoDigits(r.ToEcho))
	r.Full.rows(table, "full rate")
	table.row("debits at half the rate", debitsText(&r.Half))
	r.HalfSeen.rows(table, "half rate")
	table.row("webhooks received", r.Webhooks)
	table.row("balances", agreement(true, r.Agree))
	return table.flush()
}

func (v *visible) rows(t *table, rate string) {
	t.row(rate+": visible in a view after", fmt.Sprintf("p50 %s, p99 %s of %d probes", milliseconds(v.ViewP50), milliseconds(v.ViewP99), v.Probes))
	t.row(rate+": visible in the feed after", fmt.Sprintf("p50 %s, p99 %s", milliseconds(v.FeedP50), milliseconds(v.FeedP99)))
	t.row(rate+": most behind", fmt.Sprintf("%s with %d events; all caught up after %.2f s", v.LagOf, v.LagEvents, v.CaughtUp))
}
