package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// report is what was measured and how.
type report struct {
	What         string   `json:"what"`
	Go           string   `json:"go"`
	System       string   `json:"system"`
	Cores        int      `json:"cores"`
	NATSServer   string   `json:"nats_server"`
	NATSClient   string   `json:"nats_client"`
	Fsync        string   `json:"fsync"`
	FsyncMicros  float64  `json:"fsync_us_median"`
	Replicas     int      `json:"replicas"`
	RequestBytes int      `json:"request_bytes"`
	ReplyBytes   int      `json:"reply_bytes"`
	Accounts     int      `json:"accounts"`
	Connections  int      `json:"connections"`
	Rounds       int      `json:"rounds"`
	RunSeconds   float64  `json:"run_seconds"`
	Levels       []*level `json:"levels"`
}

// level is one number in flight.
type level struct {
	InFlight   int     `json:"in_flight"`
	Echo       series  `json:"echo"`
	Debit      series  `json:"debit"`
	Ratio      float64 `json:"debit_to_echo"` // of the medians
	Debits     int64   `json:"debits_acknowledged"`
	Reconciled bool    `json:"reconciled"`
}

// series is the runs of one kind at one level, and their medians.
type series struct {
	Rates     []float64 `json:"rates_per_second"`
	Rate      float64   `json:"rate_per_second"`
	P50Micros float64   `json:"p50_us"`
	P99Micros float64   `json:"p99_us"`

	p50, p99 []float64
}

func newReport(cfg *config) *report {
	return &report{
		What: "durable debits a second beside a bare echo; load from a process of its own over TCP on loopback; runs interleaved; medians",
		Go:   runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(),
		NATSServer: natsserver.VERSION, NATSClient: nats.Version,
		Fsync: "always: every commit before it is acknowledged (JetStream SyncAlways)", Replicas: 1,
		RequestBytes: len(debitBody), Accounts: cfg.accounts, Connections: cfg.conns,
		Rounds: cfg.rounds, RunSeconds: cfg.measure.Seconds(),
	}
}

// level begins a level.
func (r *report) level(inFlight int) *level {
	l := &level{InFlight: inFlight}
	r.Levels = append(r.Levels, l)
	return l
}

// run makes one run and adds it. b, where given, counts what was acknowledged. A run
// with a refused or lost command is a failure: what it measured would not be debits.
func (s *series) run(ctx context.Context, conns []*nats.Conn, j job, b *books) error {
	o, err := runLoad(ctx, conns, j)
	if err != nil {
		return err
	}
	if b != nil {
		b.add(o)
	}
	if len(o.refused) > 0 || o.lost > 0 {
		return fmt.Errorf("%d commands lost, refused: %s", o.lost, counts(o.refused))
	}
	s.add(o, j.measure)
	return nil
}

func (s *series) add(o *outcome, over time.Duration) {
	s.Rates = append(s.Rates, float64(o.replies)/over.Seconds())
	s.p50 = append(s.p50, float64(o.latency.ValueAtQuantile(50))/1000)
	s.p99 = append(s.p99, float64(o.latency.ValueAtQuantile(99))/1000)
	s.Rate, s.P50Micros, s.P99Micros = median(s.Rates), median(s.p50), median(s.p99)
}

// counts lists how often each code came.
func counts(refused map[string]int64) string {
	if len(refused) == 0 {
		return "none"
	}
	var list []string
	for _, code := range slices.Sorted(maps.Keys(refused)) {
		list = append(list, fmt.Sprintf("%d× %s", refused[code], code))
	}
	return strings.Join(list, ", ")
}

// median of none is 0, of an even number the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// print writes the report as JSON or as text with a table that Markdown understands. A
// level without a whole round is left out, a report without a level too.
func (r *report) print(w io.Writer, asJSON bool) error {
	r.Levels = slices.DeleteFunc(r.Levels, func(l *level) bool { return len(l.Debit.Rates) == 0 })
	if len(r.Levels) == 0 {
		return nil
	}
	for _, l := range r.Levels {
		l.Ratio = l.Debit.Rate / l.Echo.Rate
	}
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	fmt.Fprintf(w, "%s\n", r.What)
	fmt.Fprintf(w, "%s %s, %d cores, nats-server %s, nats.go %s\n", r.Go, r.System, r.Cores, r.NATSServer, r.NATSClient)
	fmt.Fprintf(w, "fsync %s; 4 KiB and fsync take %.0f µs here (median); %d replica\n", r.Fsync, r.FsyncMicros, r.Replicas)
	fmt.Fprintf(w, "request %d bytes and a command id, reply %d bytes and a position; %d accounts, %d connections\n", r.RequestBytes, r.ReplyBytes, r.Accounts, r.Connections)
	fmt.Fprintf(w, "%d rounds of %.3g s each way\n\n", r.Rounds, r.RunSeconds)
	table := tabwriter.NewWriter(w, 0, 0, 1, ' ', tabwriter.AlignRight|tabwriter.Debug)
	fmt.Fprintln(table, "\tin flight\techo/s\tdebits/s\tslowest to fastest\tdebits/echo\techo p50\techo p99\tdebit p50\tdebit p99\tbalances\t")
	fmt.Fprintln(table, strings.Repeat("\t---:", 10)+"\t")
	for _, l := range r.Levels {
		fmt.Fprintf(table, "\t%d\t%.0f\t%.0f\t%s\t%.2f\t%.2f ms\t%.2f ms\t%.2f ms\t%.2f ms\t%s\t\n", l.InFlight, l.Echo.Rate, l.Debit.Rate, span(l.Debit.Rates),
			l.Ratio, l.Echo.P50Micros/1000, l.Echo.P99Micros/1000, l.Debit.P50Micros/1000, l.Debit.P99Micros/1000, agreement(l))
	}
	return table.Flush()
}

func span(rates []float64) string {
	if len(rates) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f–%.0f", slices.Min(rates), slices.Max(rates))
}

func agreement(l *level) string {
	if l.Reconciled {
		return fmt.Sprintf("%d debits agree", l.Debits)
	}
	return "not compared, or wrong"
}
