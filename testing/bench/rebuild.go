package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/projections"
)

// rebuildConfig is the command line of "bench rebuild".
type rebuildConfig struct {
	program, dir             string
	events, accounts, rounds int
	cores                    int
	json                     bool
}

// maxRebuildEvents bounds what a run can take of the volume: about 100 GB.
const maxRebuildEvents = 100_000_000

// rebuildReport is what "bench rebuild" measured.
type rebuildReport struct {
	What string `json:"what"`
	machine
	Events   uint64     `json:"events"`
	Accounts int        `json:"accounts"`
	Commits  uint64     `json:"commits"`
	LogBytes int64      `json:"log_bytes"`
	Rounds   int        `json:"rounds"`
	Rows     []*rebuilt `json:"rebuilt"`
}

// rebuilt is one thing that was made again from the log; medians.
type rebuilt struct {
	Of              string  `json:"of"`
	Cores           int     `json:"cores"`
	EventsPerSecond float64 `json:"events_per_second"`
	HeapBytes       int64   `json:"heap_bytes"` // of what it holds after it
	StreamBytes     uint64  `json:"stream_bytes,omitzero"`
}

func parseRebuild(args []string) (*rebuildConfig, error) {
	c := new(rebuildConfig)
	flags := flag.NewFlagSet("bench rebuild", flag.ContinueOnError)
	flags.StringVar(&c.program, "keyledger", "", "`FILE` of the keyledger to measure; built when left out")
	flags.StringVar(&c.dir, "dir", "bin", "`DIR` on the volume to measure; about 1 KB an event is needed while it runs")
	flags.IntVar(&c.events, "events", 300_000, "events in the log")
	flags.IntVar(&c.accounts, "accounts", 10_000, "accounts that they are of; each is opened, has a grant and a key, and the rest are debits")
	flags.IntVar(&c.rounds, "rounds", 3, "how often each is made again, of which the median counts")
	flags.IntVar(&c.cores, "cores", 2, "cores that views and feed may use, those of JetStream included")
	flags.BoolVar(&c.json, "json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case c.accounts < 1 || c.accounts > maxScaleAccounts || c.events < 3*c.accounts || c.events > maxRebuildEvents:
		return nil, fmt.Errorf("-accounts must be from 1 to %d, -events from three times as many to %d", maxScaleAccounts, maxRebuildEvents)
	case c.rounds < 1 || c.rounds > maxRounds || c.cores < 1 || c.cores > runtime.NumCPU():
		return nil, fmt.Errorf("-rounds must be from 1 to %d, -cores to %d, which this machine has", maxRounds, runtime.NumCPU())
	}
	return c, nil
}

// benchRebuild measures how fast what is derived is made again from a log: the writer's
// state, all views, and the feed.
func benchRebuild(ctx context.Context, args []string) error {
	cfg, err := parseRebuild(args)
	if err != nil {
		return err
	}
	return inDirectory(ctx, cfg.dir, &cfg.program, func(dir string) error {
		r := &rebuildReport{What: "what is derived, made again from the log; medians", machine: thisMachine(), Accounts: cfg.accounts, Rounds: cfg.rounds}
		if r.FsyncMicros, err = measureFsync(dir); err != nil {
			return err
		}
		if err := cfg.run(ctx, dir+"/ledger", r); err != nil {
			return err
		}
		return r.print(os.Stdout, cfg.json)
	})
}

// run fills a log and makes everything again, each in a process of its own.
func (cfg *rebuildConfig) run(ctx context.Context, dir string, r *rebuildReport) error {
	if err := makeLog(ctx, cfg.program, dir, cfg.accounts, debits{cfg.accounts, cfg.events - 3*cfg.accounts}); err != nil {
		return err
	}
	for _, of := range []string{"replay", "views", "feed"} {
		if err := cfg.measure(ctx, dir, of, r); err != nil {
			return fmt.Errorf("%s: %w", of, err)
		}
	}
	return nil
}

// measure makes one thing again, several times.
func (cfg *rebuildConfig) measure(ctx context.Context, dir, of string, r *rebuildReport) error {
	cores := cfg.cores
	if of == "replay" {
		cores = 1
	}
	row := &rebuilt{Of: of, Cores: cores}
	var rates []float64
	for range cfg.rounds {
		args := []string{"-cores", strconv.Itoa(cores)}
		if of == "replay" {
			args = nil
		}
		out, err := runSelf(ctx, dir, of, args...)
		if err != nil {
			return err
		}
		var once replayed
		if err := json.Unmarshal(out, &once); err != nil {
			return err
		}
		if once.Events != uint64(cfg.events) {
			return fmt.Errorf("it has %d events, and %d were committed", once.Events, cfg.events)
		}
		rates = append(rates, ratio(float64(once.Events), once.Seconds))
		row.HeapBytes, row.StreamBytes = once.HeapBytes, once.StreamBytes
		r.Events, r.Commits, r.LogBytes = once.Events, once.Commits, max(r.LogBytes, once.LogBytes)
	}
	row.EventsPerSecond = load.Median(rates)
	r.Rows = append(r.Rows, row)
	return nil
}

func (r *rebuildReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	fmt.Fprintf(w, "%s\n", r.What)
	r.machine.print(w)
	fmt.Fprintf(w, "%d events of %d accounts in %d commits, %.0f MB of log\n\n", r.Events, r.Accounts, r.Commits, float64(r.LogBytes)/1e6)
	table := newTable(w, "made again", "cores", "events/s", "memory", "stream")
	for _, row := range r.Rows {
		name := map[string]string{
			"replay": "the writer's state, from memory", "views": "all views, from JetStream", "feed": "the feed, from JetStream to JetStream",
		}[row.Of]
		table.row(name, row.Cores, fmt.Sprintf("%.0f", row.EventsPerSecond), fmt.Sprintf("%.0f MB", float64(row.HeapBytes)/1e6), fmt.Sprintf("%.0f MB", float64(row.StreamBytes)/1e6))
	}
	return table.flush()
}

// rebuilding is the log that something is made again from.
type rebuilding struct {
	*openedStore
	tail *store.Tail
	out  replayed
}

// openRebuilding opens a directory and limits this process to some cores.
func openRebuilding(ctx context.Context, verb string, args []string) (*rebuilding, error) {
	flags := flag.NewFlagSet("bench "+verb, flag.ContinueOnError)
	dir := flags.String("dir", "", "data `DIR`")
	cores := flags.Int("cores", 2, "cores to use")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	s, err := openStore(ctx, *dir)
	if err != nil {
		return nil, err
	}
	b := &rebuilding{openedStore: s, tail: store.NewTail(s.log, 0)}
	end, err := endOf(ctx, s.log)
	if err != nil {
		s.close()
		return nil, err
	}
	b.out.OpenSeconds, b.out.Commits, b.out.Events, b.out.LogicalCores = s.took.Seconds(), end.Sequence, end.Ordinal, *cores
	b.tail.Reset(*end)
	runtime.GOMAXPROCS(*cores)
	return b, nil
}

// endOf is the place of a log's last commit, which must be there.
func endOf(ctx context.Context, log store.Log) (*store.Chain, error) {
	last, err := log.Last(ctx)
	if err != nil {
		return nil, err
	}
	data, err := log.Get(ctx, last)
	if err != nil {
		return nil, err
	}
	c, err := store.Decode(data)
	if err != nil {
		return nil, err
	}
	end := store.ChainAt(c)
	return &end, nil
}

// logger is what parts of keyledger that run in this process tell of.
func logger() *slog.Logger { return slog.New(slog.NewTextHandler(os.Stderr, nil)) }

// runViews makes all views from the log: "bench views".
func runViews(ctx context.Context, args []string) error {
	b, err := openRebuilding(ctx, "views", args)
	if err != nil {
		return err
	}
	defer b.close()
	before := heapBytes()
	views := projections.NewViews(b.tail, 0, logger())
	err = b.until(ctx, views.Run, func(ctx context.Context) error { return views.Wait(ctx, b.out.Commits) })
	b.out.HeapBytes = heapBytes() - before
	for _, status := range views.Status() {
		if status.Failure != "" || status.LagEvents != 0 {
			err = errors.Join(err, fmt.Errorf("view %s is at %s: %s", status.Name, status.Position, status.Failure))
		}
	}
	return errors.Join(err, json.NewEncoder(os.Stdout).Encode(&b.out))
}

// runFeed makes the feed from the log, its stream first: "bench feed".
func runFeed(ctx context.Context, args []string) error {
	b, err := openRebuilding(ctx, "feed", args)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.js.DeleteStream(ctx, store.StreamFeed(0)); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	wire := projections.NewWire(b.server)
	conn, err := b.connect(wire, nats.ReconnectBufSize(-1))
	if err != nil {
		return err
	}
	defer conn.Close()
	configs := store.Streams(0, maxFeedBudget)
	at := slices.IndexFunc(configs, func(c jetstream.StreamConfig) bool { return c.Name == store.StreamFeed(0) })
	feed, err := projections.NewFeed(projections.FeedConfig{Conn: conn, Wire: wire, Tail: b.tail, Stream: configs[at], Logger: logger()})
	if err != nil {
		return err
	}
	err = b.until(ctx, feed.Run, func(ctx context.Context) error { return feedDone(ctx, feed) })
	stream, found := b.js.Stream(ctx, store.StreamFeed(0))
	if found == nil {
		b.out.StreamBytes = stream.CachedInfo().State.Bytes
	}
	return errors.Join(err, found, json.NewEncoder(os.Stdout).Encode(&b.out))
}

// maxFeedBudget is a budget of which the feed's share holds any log that can be asked for.
const maxFeedBudget = 1 << 40

// feedDone returns once the feed has all there is.
func feedDone(ctx context.Context, feed *projections.Feed) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		status := feed.Status()
		if status.Failure != "" {
			return errors.New(status.Failure)
		}
		if status.LagEvents == 0 && status.LagCommits == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// until runs something until it is done, and notes how long that took.
func (b *rebuilding) until(ctx context.Context, run, done func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	begin, stopped := time.Now(), make(chan error, 1)
	go func() {
		err := run(ctx)
		stop() // what waits for it waits no more
		stopped <- err
	}()
	err := done(ctx)
	b.out.Seconds = time.Since(begin).Seconds()
	stop()
	return errors.Join(<-stopped, err)
}
