package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

// scaleConfig is the command line of "bench scale".
type scaleConfig struct {
	program, dir    string
	accounts, tail  int
	rounds          int
	measure, warmUp time.Duration
	inFlight        int
	snapshots       string
	json            bool
}

// Limits of it.
const (
	maxScaleAccounts = 10_000_000
	maxTail          = 10_000_000
	// snapshotEvery is after how many commits and events keyledger saves state and views.
	snapshotEvery = 200_000
	// feedTime is how long the feed may take to follow a filled log.
	feedTime = 30 * time.Minute
)

// scaleReport is what "bench scale" measured.
type scaleReport struct {
	What string `json:"what"`
	machine
	Accounts int      `json:"accounts"`
	Tail     int      `json:"tail_events"`
	Rounds   int      `json:"rounds"`
	Replay   replayed `json:"replay"`

	FillSeconds     float64    `json:"fill_seconds"`
	HeapPerAccount  float64    `json:"writer_heap_bytes_per_account"` // and its key
	NamesPerAccount float64    `json:"of_which_names_bytes"`          // ids and names as given
	EventsPerSecond float64    `json:"replay_events_per_second_a_core"`
	FirstStart      float64    `json:"first_start_seconds"` // nothing but the log is there
	FirstRSS        int64      `json:"first_start_rss_bytes"`
	Start           float64    `json:"start_with_tail_seconds"`
	StartWriter     float64    `json:"of_which_until_the_writer_serves"` // views follow it; 0: the log does not tell
	Open            float64    `json:"jetstream_open_seconds"`
	StartToOpen     float64    `json:"start_to_open"`
	StartRSS        int64      `json:"start_with_tail_rss_bytes"`
	Saved           savedViews `json:"saved_views"`

	InFlight   int         `json:"in_flight"`
	Quiet      load.Series `json:"debits"`
	Snapshots  string      `json:"snapshot_flags,omitempty"`
	Meanwhile  load.Series `json:"debits_while_snapshots_are_made"`
	TailRatio  float64     `json:"p99_ratio,omitempty"`
	Agree      int64       `json:"commands_acknowledged"`
	Reconciled bool        `json:"reconciled"`
}

func parseScale(args []string) (*scaleConfig, error) {
	c := new(scaleConfig)
	flags := flag.NewFlagSet("bench scale", flag.ContinueOnError)
	flags.StringVar(&c.program, "keyledger", "", "`FILE` of the keyledger to measure; built when left out")
	flags.StringVar(&c.dir, "dir", "bin", "`DIR` on the volume to measure; about 3 KB an account are needed while it runs")
	flags.IntVar(&c.accounts, "accounts", 1_000_000, "accounts, with a key each")
	flags.IntVar(&c.tail, "tail", 100_000, "events behind the last snapshot that a start has to read")
	flags.IntVar(&c.rounds, "rounds", 5, "starts and runs of each kind, of which the median counts")
	flags.DurationVar(&c.measure, "duration", 5*time.Second, "how long each run of debits is measured")
	flags.DurationVar(&c.warmUp, "warm-up", 500*time.Millisecond, "how long each run goes on before it is measured")
	flags.IntVar(&c.inFlight, "in-flight", 256, "debits in flight")
	flags.StringVar(&c.snapshots, "snapshot-flags", "", "`FLAGS` of keyledger serve that have it make snapshots all the time; without them that is not measured")
	flags.BoolVar(&c.json, "json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case c.accounts < 1 || c.accounts > maxScaleAccounts || c.tail < 1 || c.tail > maxTail:
		return nil, fmt.Errorf("-accounts must be from 1 to %d, -tail to %d", maxScaleAccounts, maxTail)
	case c.rounds < 1 || c.rounds > maxRounds || c.measure <= 0 || c.measure > maxRun || c.warmUp < 0 || c.warmUp > maxRun:
		return nil, fmt.Errorf("-rounds must be from 1 to %d, -duration and -warm-up positive, at most %s", maxRounds, maxRun)
	case c.inFlight < peerConns || c.inFlight > maxInFlight:
		return nil, fmt.Errorf("-in-flight must be from %d to %d", peerConns, maxInFlight)
	}
	return c, nil
}

// benchScale measures a ledger with many accounts: memory, replay, start, and debits
// while snapshots are made.
func benchScale(ctx context.Context, args []string) error {
	cfg, err := parseScale(args)
	if err != nil {
		return err
	}
	return inDirectory(ctx, cfg.dir, &cfg.program, func(dir string) error {
		r := &scaleReport{
			What:    "a ledger with many accounts, a key each; medians",
			machine: thisMachine(), Accounts: cfg.accounts, Tail: cfg.tail, Rounds: cfg.rounds, InFlight: cfg.inFlight, Snapshots: cfg.snapshots,
		}
		if r.FsyncMicros, err = measureFsync(dir); err != nil {
			return err
		}
		s := &scale{cfg: cfg, dir: dir + "/ledger", report: r, books: load.KnownBooks(load.AccountNames("bench", cfg.accounts), scaleCredits)}
		for _, step := range []struct {
			what string
			do   func(context.Context) error
		}{
			{"fill the log", s.fill}, {"replay it", s.replay}, {"start on the log alone", s.firstStart},
			{"debit while snapshots are made", s.meanwhile}, {"start with a tail", s.starts}, {"compare balances", s.reconcile},
		} {
			begin := time.Now()
			if err := step.do(ctx); err != nil {
				return fmt.Errorf("%s: %w", step.what, err)
			}
			fmt.Fprintf(os.Stderr, "%s: %s\n", step.what, seconds(time.Since(begin)))
		}
		return r.print(os.Stdout, cfg.json)
	})
}

// scale is one run of it, on one data directory from beginning to end.
type scale struct {
	cfg    *scaleConfig
	dir    string
	report *scaleReport
	books  *load.Books
	tails  int64 // debits that fill made
}

// fill lets keyledger make its directory and then fills its log.
func (s *scale) fill(ctx context.Context) error {
	begin := time.Now()
	err := makeLog(ctx, s.cfg.program, s.dir, s.cfg.accounts)
	s.report.FillSeconds = time.Since(begin).Seconds()
	return err
}

// self runs this program on the directory and returns what it prints.
func (s *scale) self(ctx context.Context, verb string, args ...string) ([]byte, error) {
	return runSelf(ctx, s.dir, verb, args...)
}

// runSelf runs this program on a directory and returns what it prints.
func runSelf(ctx context.Context, dir, verb string, args ...string) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, self, append([]string{verb, "-dir", dir}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("bench %s: %w: %s", verb, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

func (s *scale) replay(ctx context.Context) error {
	out, err := s.self(ctx, "replay")
	if err != nil {
		return err
	}
	r := s.report
	if err := json.Unmarshal(out, &r.Replay); err != nil {
		return err
	}
	if n := int64(s.cfg.accounts); r.Replay.Accounts != n || r.Replay.Keys != n {
		return fmt.Errorf("the log holds %d accounts and %d keys, must hold %d of each", r.Replay.Accounts, r.Replay.Keys, n)
	}
	const accountName, keyName, keyID, prefix = len("keyledger bench"), len("keyledger bench"), 30, 20
	for _, name := range s.books.Names {
		r.NamesPerAccount += float64(len(name)+accountName+keyName+keyID+prefix) / float64(s.cfg.accounts)
	}
	r.HeapPerAccount = float64(r.Replay.HeapBytes) / float64(s.cfg.accounts)
	r.EventsPerSecond = ratio(float64(r.Replay.Events), r.Replay.Seconds)
	return nil
}

// serve runs f on a keyledger, of which it returns how long it took to start.
func (s *scale) serve(ctx context.Context, flags []string, f func(*process) error) (took float64, err error) {
	begin := time.Now()
	p, err := startKeyledger(ctx, nil, s.cfg.program, s.dir, flags...)
	if err != nil {
		return 0, err
	}
	took = time.Since(begin).Seconds()
	defer func() { err = errors.Join(err, p.stop()) }()
	return took, f(p)
}

// firstStart starts on the log alone, waits for the feed, loads it, and waits until state
// and views are saved, where the log is long enough for that.
func (s *scale) firstStart(ctx context.Context) (err error) {
	s.report.FirstStart, err = s.serve(ctx, nil, func(p *process) error {
		if s.report.FirstRSS, err = p.residentBytes(); err != nil {
			return err
		}
		if err := s.debit(ctx, p, &s.report.Quiet); err != nil || s.report.Replay.Events < snapshotEvery {
			return err
		}
		return p.within(ctx, feedTime, func() error {
			if text, err := os.ReadFile(p.log); err != nil || !bytes.Contains(text, savedLine) || !bytes.Contains(text, snapshotLine) {
				return errors.Join(errors.New("state and views are not saved yet"), err)
			}
			return nil
		})
	})
	return err
}

// meanwhile loads a keyledger that makes snapshots all the time.
func (s *scale) meanwhile(ctx context.Context) error {
	if s.cfg.snapshots == "" {
		return nil
	}
	_, err := s.serve(ctx, strings.Fields(s.cfg.snapshots), func(p *process) error { return s.debit(ctx, p, &s.report.Meanwhile) })
	s.report.TailRatio = ratio(s.report.Meanwhile.P99Micros, s.report.Quiet.P99Micros)
	return err
}

// debit debits accounts at random, once the feed is where the log is. The buckets are
// still being filled then, at their bounded rate.
func (s *scale) debit(ctx context.Context, p *process, series *load.Series) error {
	conns, err := p.connect(peerConns)
	if err != nil {
		return err
	}
	defer closeAll(conns)
	if err := p.within(ctx, feedTime, func() error { return behind(conns[0], "feed") }); err != nil {
		return err
	}
	job := load.Job{Targets: s.books.Debits(), InFlight: s.cfg.inFlight, WarmUp: s.cfg.warmUp, Measure: s.cfg.measure, Drain: load.DrainTime}
	for range s.cfg.rounds {
		if err := series.Run(ctx, conns, &job, s.books); err != nil {
			return err
		}
	}
	return nil
}

// starts commits a tail, lets JetStream open the directory and keyledger start on it, in
// turn.
func (s *scale) starts(ctx context.Context) error {
	var starts, writers, opens []float64
	for range s.cfg.rounds {
		if _, err := s.self(ctx, "fill", "-accounts", strconv.Itoa(s.cfg.accounts), "-debits", strconv.Itoa(s.cfg.tail)); err != nil {
			return err
		}
		s.tails += int64(s.cfg.tail)
		out, err := s.self(ctx, "open")
		if err != nil {
			return err
		}
		open, err := strconv.ParseFloat(string(bytes.TrimSpace(out)), 64)
		if err != nil {
			return err
		}
		begin := time.Now()
		took, err := s.serve(ctx, nil, func(p *process) error {
			writers = append(writers, p.tookOver(begin))
			s.report.Saved, err = p.savedViews()
			if err != nil {
				return err
			}
			s.report.StartRSS, err = p.residentBytes()
			return err
		})
		if err != nil {
			return err
		}
		opens, starts = append(opens, open), append(starts, took)
	}
	s.report.Open, s.report.Start, s.report.StartWriter = load.Median(opens), load.Median(starts), load.Median(writers)
	s.report.StartToOpen = ratio(s.report.Start, s.report.Open)
	return nil
}

// reconcile compares all balances with what the load and the tails took.
func (s *scale) reconcile(ctx context.Context) error {
	tails := load.NewOutcome(s.cfg.accounts)
	tails.Done = s.tails
	for range s.cfg.rounds {
		for i := range s.cfg.tail {
			tails.Taken[i%s.cfg.accounts]++
		}
	}
	s.books.Add(tails)
	_, err := s.serve(ctx, nil, func(p *process) error {
		conns, err := p.connect(1)
		if err != nil {
			return err
		}
		defer closeAll(conns)
		s.report.Agree, err = s.books.Reconcile(ctx, conns[0], load.BalanceQuery)
		s.report.Reconciled = err == nil
		return err
	})
	return err
}

var takeoverLine = regexp.MustCompile(`(?m)^time=(\S+) .*msg="took the partition over"`)

// tookOver is after how many seconds the writer had its state, as keyledger's log tells,
// 0 if it does not.
func (p *process) tookOver(begin time.Time) float64 {
	text, err := os.ReadFile(p.log)
	line := takeoverLine.FindSubmatch(text)
	if err != nil || line == nil {
		return 0
	}
	at, err := time.Parse(time.RFC3339Nano, string(line[1]))
	if err != nil {
		return 0
	}
	return at.Sub(begin).Seconds()
}

var (
	savedLine     = []byte(`msg="saved the views"`)
	snapshotLine  = []byte(`msg="made a snapshot of the state"`)
	readSavedLine = regexp.MustCompile(`(?m)msg="read saved views" .*accounts=(\d+) bytes=(\d+) took_ms=(\d+)`)
)

// savedViews is what a start read of the views, all 0 if nothing.
type savedViews struct {
	Accounts int64 `json:"accounts"`
	Bytes    int64 `json:"bytes"`
	TookMS   int64 `json:"read_ms"` // beside the writer's own reading
}

// savedViews is what keyledger's log tells of it.
func (p *process) savedViews() (saved savedViews, err error) {
	text, err := os.ReadFile(p.log)
	line := readSavedLine.FindSubmatch(text)
	if err != nil || line == nil {
		return saved, err
	}
	for i, into := range []*int64{&saved.Accounts, &saved.Bytes, &saved.TookMS} {
		if *into, err = strconv.ParseInt(string(line[i+1]), 10, 64); err != nil {
			return saved, err
		}
	}
	return saved, nil
}

var residentLine = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB`)

// residentBytes is the process's memory, 0 where the system does not tell.
func (p *process) residentBytes() (int64, error) { return residentOf(strconv.Itoa(p.cmd.Process.Pid)) }

// residentOf is that of any process, by its id or "self".
func residentOf(process string) (int64, error) {
	text, err := os.ReadFile("/proc/" + process + "/status")
	if err != nil {
		return 0, nil
	}
	line := residentLine.FindSubmatch(text)
	if line == nil {
		return 0, nil
	}
	kilobytes, err := strconv.ParseInt(string(line[1]), 10, 64)
	return kilobytes << 10, err
}

func (r *scaleReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	fmt.Fprintf(w, "%s\n", r.What)
	r.machine.print(w)
	fmt.Fprintf(w, "%d accounts, %d events in %d commits, %.0f MB of log\n\n", r.Accounts, r.Replay.Events, r.Replay.Commits, float64(r.Replay.LogBytes)/1e6)
	table := newTable(w, "what", "figure")
	table.row("writer's memory, an account with a key", fmt.Sprintf("%.0f bytes, of which names %.0f", r.HeapPerAccount, r.NamesPerAccount))
	table.row("full replay, one core, from memory", fmt.Sprintf("%.0f events/s", r.EventsPerSecond))
	table.row("start on the log alone", fmt.Sprintf("%.2f s, %.0f MB resident", r.FirstStart, float64(r.FirstRSS)/1e6))
	table.row(fmt.Sprintf("start with %d events to read", r.Tail), fmt.Sprintf("%.2f s, the writer serves after %.2f s; %.0f MB resident", r.Start, r.StartWriter, float64(r.StartRSS)/1e6))
	table.row("views that it read, beside the writer", fmt.Sprintf("%d accounts, %.0f MB, in %.2f s", r.Saved.Accounts, float64(r.Saved.Bytes)/1e6, float64(r.Saved.TookMS)/1e3))
	table.row("JetStream alone opens the same", fmt.Sprintf("%.2f s", r.Open))
	table.row("start to that", twoDigits(r.StartToOpen))
	table.row(fmt.Sprintf("debits, %d in flight", r.InFlight), debitsText(&r.Quiet))
	if r.Snapshots != "" {
		table.row("debits while snapshots are made ("+r.Snapshots+")", debitsText(&r.Meanwhile))
		table.row("p99 to that without", twoDigits(r.TailRatio))
	}
	table.row("balances", agreement(r.Reconciled, r.Agree))
	return table.flush()
}

func debitsText(s *load.Series) string {
	return fmt.Sprintf("%.0f/s, p50 %s, p99 %s", s.Rate, milliseconds(s.P50Micros), milliseconds(s.P99Micros))
}
