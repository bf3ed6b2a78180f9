package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/webhooks"
)

const (
	// deadEndpoints are the dead ones that a backlog is owed to, one an account.
	deadEndpoints = 100
	// quietMost is how long is waited for a dispatcher to make no attempts.
	quietMost = 2 * time.Minute
	// endpointBytesAim is what one endpoint may cost.
	endpointBytesAim = 2048
)

// idled is what "bench dispatcher" prints: a dispatcher that has nothing to do any more.
type idled struct {
	Owed        int     `json:"owed,omitempty"`
	Events      uint64  `json:"events"` // in the log
	Lanes       int     `json:"endpoints"`
	Pending     uint64  `json:"pending"`
	OpenRetries int     `json:"open_retries"`
	Behind      int     `json:"behind"`
	StartSecond float64 `json:"start_seconds"` // until attempts are made
	HeapBytes   int64   `json:"heap_bytes"`    // that it added
	RSSBytes    int64   `json:"rss_bytes"`     // of the process, JetStream included
	CPUPercent  float64 `json:"idle_cpu_percent"`
	Consumers   int     `json:"consumers"`
	Attempts    uint64  `json:"attempts"`
	Meanwhile   uint64  `json:"attempts_while_idle"`
}

// runDispatcher runs the real dispatcher alone on a log that "bench fill" made, from the
// beginning, until it makes no attempts any more, and prints what it then takes: "bench
// dispatcher".
func runDispatcher(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench dispatcher", flag.ContinueOnError)
	dir := flags.String("dir", "", "data `DIR`")
	idle := flags.Duration("idle", time.Second, "how long idle processor time is measured")
	quiet := flags.Duration("quiet", time.Second, "how long no attempt is made before that")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s, err := openStore(ctx, *dir)
	if err != nil {
		return err
	}
	defer s.close()
	end, err := endOf(ctx, s.log)
	if err != nil {
		return err
	}
	if err := s.forgetDeliveries(ctx, *dir); err != nil {
		return err
	}
	tail := store.NewTail(s.log, 0)
	tail.Reset(*end)
	d, err := newDispatcher(s, tail, *dir)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	out := &idled{Events: end.Ordinal}
	before, begin := heapBytes(), time.Now()
	go func() {
		err := d.Run(ctx)
		stop() // what waits for it waits no more
		stopped <- err
	}()
	err = d.Wait(ctx, end.Sequence)
	out.StartSecond = time.Since(begin).Seconds()
	if err == nil {
		err = out.measure(ctx, s, d, *quiet, *idle, before)
	}
	stop()
	return errors.Join(<-stopped, err, json.NewEncoder(os.Stdout).Encode(out))
}

// forgetDeliveries has the next dispatcher begin at the log's beginning: its streams are
// made again, and there is no saved directory.
func (s *openedStore) forgetDeliveries(ctx context.Context, dir string) error {
	for _, config := range store.Streams(0, maxFeedBudget) {
		if config.Name != store.StreamLanes(0) && config.Name != store.StreamAttempts {
			continue
		}
		if err := s.js.DeleteStream(ctx, config.Name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
		if err := store.CreateStreams(ctx, s.js, []jetstream.StreamConfig{config}); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(dir, "webhooks"))
}

// newDispatcher makes one as keyledger does, for endpoints on loopback.
func newDispatcher(s *openedStore, tail *store.Tail, dir string) (*webhooks.Dispatcher, error) {
	guard, err := webhooks.NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	if err != nil {
		return nil, err
	}
	client, err := webhooks.NewClient(webhooks.ClientConfig{Guard: guard, Version: "0.0.0", AllowHTTP: true})
	if err != nil {
		return nil, err
	}
	sealer, err := events.NewSealer(fillSealKey[:])
	if err != nil {
		return nil, err
	}
	return webhooks.New(webhooks.Config{
		JS: s.js, Tail: tail, Sealer: sealer, Client: client, Logger: slog.New(slog.DiscardHandler), Dir: filepath.Join(dir, "webhooks"),
		Disable: func(context.Context, string, string, string) error { return errors.New("nothing is disabled here") },
	}), nil
}

// measure waits until a dispatcher is idle and measures it.
func (o *idled) measure(ctx context.Context, s *openedStore, d *webhooks.Dispatcher, quiet, idle time.Duration, before int64) error {
	if err := awaitQuiet(ctx, d, quiet); err != nil {
		return err
	}
	o.Attempts = attemptsOf(d)
	from, begin := processorTime(), time.Now()
	timer := time.NewTimer(idle)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	o.CPUPercent = 100 * (processorTime() - from).Seconds() / time.Since(begin).Seconds()
	o.Meanwhile = attemptsOf(d) - o.Attempts
	o.HeapBytes = heapBytes() - before
	debug.FreeOSMemory() // so that what only its start took is not resident
	var err error
	if o.RSSBytes, err = residentOf("self"); err != nil {
		return err
	}
	stats := d.Stats()
	o.Lanes, o.Pending, o.OpenRetries, o.Behind = stats.Lanes, stats.Pending, stats.OpenRetries, stats.Behind
	for info := range s.js.ListStreams(ctx).Info() {
		if info.Config.Name != store.StreamLog(0) { // whoever reads the log has one for a moment
			o.Consumers += info.State.Consumers
		}
	}
	return nil
}

// attemptsOf is how many attempts a dispatcher has made.
func attemptsOf(d *webhooks.Dispatcher) uint64 {
	stats := d.Stats()
	return stats.Delivered + stats.Failed
}

// awaitQuiet returns once a dispatcher has made no attempt for a while, or after
// quietMost: how many it then makes is told.
func awaitQuiet(ctx context.Context, d *webhooks.Dispatcher, quiet time.Duration) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	for since, attempts := begin, uint64(0); ; {
		select {
		case now := <-tick.C:
			if made := attemptsOf(d); made != attempts || d.Stats().InFlight > 0 {
				since, attempts = now, made
			}
			if now.Sub(since) >= quiet || now.Sub(begin) >= quietMost {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// backlog is what "bench hooks -only backlog" measured: medians.
type backlog struct {
	Endpoints int      `json:"dead_endpoints"`
	Levels    []*idled `json:"levels"`
	Heap      float64  `json:"heap_most_to_least"`
	RSS       float64  `json:"rss_most_to_least"`
	CPU       float64  `json:"idle_cpu_most_less_least"` // in percent of a core: of a ratio noise would decide
}

// owedBacklog measures a dispatcher with more and more owed to endpoints that are dead. All
// logs are equally long: what dead endpoints are not owed, other accounts have.
func (c *hooksConfig) owedBacklog(ctx context.Context, dir string, r *hooksReport) error {
	o := &backlog{Endpoints: deadEndpoints}
	dead, err := deadURL()
	if err != nil {
		return err
	}
	all := slices.Max(c.backlog)
	runs := make([][]*idled, len(c.backlog))
	for i, n := range c.backlog {
		log := fmt.Sprintf("%s/backlog-%d", dir, i)
		defer os.RemoveAll(log)
		if err := makeBacklog(ctx, c.program, log, dead, n, all-n); err != nil {
			return err
		}
	}
	for range c.rounds {
		for i := range c.backlog {
			once, err := c.idleOnce(ctx, fmt.Sprintf("%s/backlog-%d", dir, i))
			if err != nil {
				return err
			}
			runs[i] = append(runs[i], once)
		}
	}
	for i := range runs {
		o.Levels = append(o.Levels, medianIdle(runs[i]))
		o.Levels[i].Owed = c.backlog[i]
	}
	o.Heap = mostToLeast(o.Levels, func(l *idled) float64 { return float64(l.HeapBytes) })
	o.RSS = mostToLeast(o.Levels, func(l *idled) float64 { return float64(l.RSSBytes) })
	least := slices.MinFunc(o.Levels, func(a, b *idled) int { return cmp.Compare(a.CPUPercent, b.CPUPercent) })
	most := slices.MaxFunc(o.Levels, func(a, b *idled) int { return cmp.Compare(a.CPUPercent, b.CPUPercent) })
	o.CPU = most.CPUPercent - least.CPUPercent
	r.Backlog = o
	return nil
}

// makeBacklog makes a log with dead endpoints, an account each, what they are owed, and
// other events of as many other accounts, and its feed.
func makeBacklog(ctx context.Context, program, dir, url string, owed, others int) error {
	if err := makeAccounts(ctx, program, dir, deadEndpoints, "-endpoints", "1", "-url", url); err != nil {
		return err
	}
	if _, err := runSelf(ctx, dir, "fill", "-prefix", "other", "-accounts", strconv.Itoa(deadEndpoints)); err != nil {
		return err
	}
	if err := makeDebits(ctx, dir, debits{accounts: deadEndpoints, count: owed}); err != nil {
		return err
	}
	if others > 0 {
		if _, err := runSelf(ctx, dir, "fill", "-prefix", "other", "-accounts", strconv.Itoa(deadEndpoints), "-debits", strconv.Itoa(others)); err != nil {
			return err
		}
	}
	_, err := runSelf(ctx, dir, "feed")
	return err
}

// deadURL is where nobody listens any more: connections are refused.
func deadURL() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return "http://" + listener.Addr().String() + "/", listener.Close()
}

// idleOnce runs the dispatcher alone.
func (c *hooksConfig) idleOnce(ctx context.Context, dir string) (*idled, error) {
	out, err := runSelf(ctx, dir, "dispatcher", "-idle", c.idle.String(), "-quiet", c.quiet.String())
	if err != nil {
		return nil, err
	}
	once := new(idled)
	return once, json.Unmarshal(out, once)
}

// medianIdle is the medians of runs that are otherwise alike.
func medianIdle(runs []*idled) *idled {
	median := func(of func(*idled) float64) float64 {
		var values []float64
		for _, one := range runs {
			values = append(values, of(one))
		}
		return load.Median(values)
	}
	m := *runs[0]
	m.HeapBytes = int64(median(func(o *idled) float64 { return float64(o.HeapBytes) }))
	m.RSSBytes = int64(median(func(o *idled) float64 { return float64(o.RSSBytes) }))
	m.CPUPercent = median(func(o *idled) float64 { return o.CPUPercent })
	m.StartSecond = median(func(o *idled) float64 { return o.StartSecond })
	return &m
}

func mostToLeast(levels []*idled, of func(*idled) float64) float64 {
	var values []float64
	for _, l := range levels {
		values = append(values, of(l))
	}
	return ratio(slices.Max(values), slices.Min(values))
}

// barWidth is that of the longest bar of a curve, in characters.
const barWidth = 30

func (o *backlog) print(w io.Writer) error {
	table := newTable(w, "owed", "pending", "heap of the dispatcher", "resident, with JetStream", "idle processor", "start", "attempts, then idle", "heap")
	most := int64(1)
	for _, l := range o.Levels {
		most = max(most, l.HeapBytes)
	}
	for _, l := range o.Levels {
		bar := strings.Repeat("▇", int(max(l.HeapBytes, 0)*barWidth/most))
		table.row(l.Owed, l.Pending, megabytes(l.HeapBytes), megabytes(l.RSSBytes), fmt.Sprintf("%.2f %%", l.CPUPercent),
			fmt.Sprintf("%.2f s", l.StartSecond), fmt.Sprintf("%d, %d", l.Attempts, l.Meanwhile), bar)
	}
	return errors.Join(table.flush(), note(w,
		fmt.Sprintf("most to least: heap %.2f, resident %.2f (aim ≤ %.1f); idle processor differs by %.2f %% of a core; %d dead endpoints, logs of about %d events alike",
			o.Heap, o.RSS, hookFactor, o.CPU, o.Endpoints, o.Levels[0].Events)))
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }

// endpoints is what "bench hooks -only endpoints" measured: medians.
type endpoints struct {
	idled
	BytesEach float64 `json:"bytes_each"`
}

// endpoints measures a dispatcher with endpoints that are owed nothing.
func (c *hooksConfig) endpoints(ctx context.Context, dir string, r *hooksReport) error {
	log := dir + "/endpoints"
	defer os.RemoveAll(log)
	accounts := (c.registered + maxFan - 1) / maxFan
	each := (c.registered + accounts - 1) / accounts
	err := makeAccounts(ctx, c.program, log, accounts, "-endpoints", strconv.Itoa(each), "-url", "https://hooks.example.com/keyledger")
	if err != nil {
		return err
	}
	var runs []*idled
	for range c.rounds {
		once, err := c.idleOnce(ctx, log)
		if err != nil {
			return err
		}
		runs = append(runs, once)
	}
	m := medianIdle(runs)
	r.Endpoints = &endpoints{*m, ratio(float64(m.HeapBytes), float64(m.Lanes))}
	return nil
}

func (o *endpoints) print(w io.Writer) error {
	table := newTable(w, "what", "figure", "aim")
	table.row("endpoints", o.Lanes, "")
	table.row("heap of the dispatcher, each", fmt.Sprintf("%.0f bytes", o.BytesEach), fmt.Sprintf("≤ %d", endpointBytesAim))
	table.row("consumers, beside the log's reader", o.Consumers, "0")
	table.row("start, on the log alone", fmt.Sprintf("%.2f s", o.StartSecond), "")
	table.row("idle processor", fmt.Sprintf("%.2f %%", o.CPUPercent), "")
	return table.flush()
}
