package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

// machine is what figures were measured on, and with what.
type machine struct {
	Go          string  `json:"go"`
	System      string  `json:"system"`
	Cores       int     `json:"cores"`
	NATSServer  string  `json:"nats_server"`
	NATSClient  string  `json:"nats_client"`
	Fsync       string  `json:"fsync"`
	FsyncMicros float64 `json:"fsync_us_median"`
	Replicas    int     `json:"replicas"`
}

func thisMachine() machine {
	return machine{
		Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(),
		NATSServer: natsserver.VERSION, NATSClient: nats.Version,
		Fsync: "always: every commit before it is acknowledged (JetStream SyncAlways)", Replicas: 1,
	}
}

func (m *machine) print(w io.Writer) {
	fmt.Fprintf(w, "%s %s, %d cores, nats-server %s, nats.go %s\n", m.Go, m.System, m.Cores, m.NATSServer, m.NATSClient)
	fmt.Fprintf(w, "fsync %s; 4 KiB and fsync take %.0f µs here (median); %d replica\n", m.Fsync, m.FsyncMicros, m.Replicas)
}

// report is what was measured and how.
type report struct {
	What string `json:"what"`
	machine
	Debit       size     `json:"debit_bytes"`
	Authorize   size     `json:"authorize_bytes"`
	Accounts    int      `json:"accounts"`
	Connections int      `json:"connections"`
	Rounds      int      `json:"rounds"`
	RunSeconds  float64  `json:"run_seconds"`
	Levels      []*level `json:"levels"`
}

// size is that of a command and its answer, bodies alone, in bytes.
type size struct {
	Request int `json:"request"`
	Reply   int `json:"reply"`
}

// level is one number in flight.
type level struct {
	InFlight   int         `json:"in_flight"`
	Echo       load.Series `json:"echo"`
	Rows       []row       `json:"workloads"`
	Agree      int64       `json:"commands_acknowledged"`
	Reconciled bool        `json:"reconciled"`

	DebitToNoLog float64 `json:"debit_to_noloop,omitempty"`    // what the log and all behind it leave
	BatchToDebit float64 `json:"batch_to_debit,omitempty"`     // commands in arrays to single ones
	Spread       float64 `json:"slowest_to_fastest,omitempty"` // of debits spread uniform, zipf and hot
	TailToEcho   float64 `json:"debit_p99_to_echo_p50,omitzero"`
}

// row is one workload at one level.
type row struct {
	Workload string `json:"workload"`
	Messages int    `json:"messages_in_flight"`
	Items    int    `json:"commands_a_message"`
	load.Series
	ToEcho float64 `json:"to_echo"` // of the medians
}

func newReport(cfg *config) *report {
	r := &report{
		What:    "commands a second beside a bare echo; load from a process of its own over TCP on loopback; runs interleaved; medians",
		machine: thisMachine(), Accounts: cfg.accounts, Connections: cfg.conns, Rounds: cfg.rounds, RunSeconds: cfg.measure.Seconds(),
	}
	if cfg.fsyncDelay > 0 {
		r.Fsync += fmt.Sprintf(", and %s added to each of keyledger's fsyncs by strace", cfg.fsyncDelay)
	}
	return r
}

// level begins a level.
func (r *report) level(inFlight int, cfg *config) *level {
	l := &level{InFlight: inFlight}
	for _, name := range cfg.workloads {
		l.Rows = append(l.Rows, row{Workload: name, Messages: inFlight, Items: 1})
	}
	r.Levels = append(r.Levels, l)
	return l
}

// rate is a workload's rate at the level, 0 if it was not measured.
func (l *level) rate(workload string) float64 {
	for i := range l.Rows {
		if l.Rows[i].Workload == workload {
			return l.Rows[i].Rate
		}
	}
	return 0
}

// compare works the ratios out.
func (l *level) compare() {
	for i := range l.Rows {
		r := &l.Rows[i]
		r.ToEcho = ratio(r.Rate, l.Echo.Rate)
		if r.Workload == "debit" {
			l.TailToEcho = ratio(r.P99Micros, l.Echo.P50Micros)
		}
	}
	debit := l.rate("debit")
	l.DebitToNoLog = ratio(debit, l.rate("noloop"))
	l.BatchToDebit = ratio(l.rate("batch"), debit)
	spreads := []float64{debit, l.rate("zipf"), l.rate("hot")}
	l.Spread = ratio(slices.Min(spreads), slices.Max(spreads))
}

// ratio of what was not measured is 0.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// print writes the report as JSON or as text with a table that Markdown understands. A
// level without a whole round is left out, a report without a level too.
func (r *report) print(w io.Writer, asJSON bool) error {
	r.Levels = slices.DeleteFunc(r.Levels, func(l *level) bool {
		return len(l.Rows) == 0 || len(l.Rows[len(l.Rows)-1].Rates) == 0
	})
	if len(r.Levels) == 0 {
		return nil
	}
	for _, l := range r.Levels {
		l.compare()
	}
	if asJSON {
		return printJSON(w, r)
	}
	fmt.Fprintf(w, "%s\n", r.What)
	r.machine.print(w)
	fmt.Fprintf(w, "a debit has %d bytes and a command id, its answer %d and a position; an authorisation %d and %d; %d accounts, %d connections\n",
		r.Debit.Request, r.Debit.Reply, r.Authorize.Request, r.Authorize.Reply, r.Accounts, r.Connections)
	fmt.Fprintf(w, "%d rounds of %.3g s each\n\n", r.Rounds, r.RunSeconds)
	table := newTable(w, "workload", "in flight", "commands/s", "slowest to fastest", "to echo", "p50", "p99")
	for _, l := range r.Levels {
		table.row("echo", l.InFlight, perSecond(l.Echo.Rate), l.Echo.Span(), "1", milliseconds(l.Echo.P50Micros), milliseconds(l.Echo.P99Micros))
		for i := range l.Rows {
			o := &l.Rows[i]
			inFlight := fmt.Sprint(o.Messages)
			if o.Items > 1 {
				inFlight += fmt.Sprintf("×%d", o.Items)
			}
			table.row(o.Workload, inFlight, perSecond(o.Rate), o.Span(), twoDigits(o.ToEcho), milliseconds(o.P50Micros), milliseconds(o.P99Micros))
		}
	}
	if err := table.flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, l := range r.Levels {
		fmt.Fprintf(w, "%d in flight: %s\n", l.InFlight, l.summary())
	}
	return nil
}

// summary is the ratios that need more than one row, for people.
func (l *level) summary() string {
	var text []string
	for _, r := range []struct {
		format string
		value  float64
	}{
		{"debits are %.2f of the loop without the log", l.DebitToNoLog},
		{"commands in arrays are %.2f times single debits", l.BatchToDebit},
		{"debits' p99 is %.1f times the echo's p50", l.TailToEcho},
	} {
		if r.value > 0 {
			text = append(text, fmt.Sprintf(r.format, r.value))
		}
	}
	if l.Spread > 0 {
		text = append(text, fmt.Sprintf("uniform, zipf and hot are within %.2f of each other", 1/l.Spread))
	}
	return strings.Join(append(text, agreement(l.Reconciled, l.Agree)), "; ")
}

func agreement(reconciled bool, commands int64) string {
	if reconciled {
		return fmt.Sprintf("%d commands agree with the balances", commands)
	}
	return "balances not compared, or wrong"
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// table is one that Markdown understands.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, columns ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 1, ' ', tabwriter.AlignRight|tabwriter.Debug)}
	fmt.Fprintf(t.w, "\t%s\t\n\t---%s\t\n", strings.Join(columns, "\t"), strings.Repeat("\t---:", len(columns)-1))
	return t
}

func (t *table) row(cells ...any) {
	for _, cell := range cells {
		fmt.Fprintf(t.w, "\t%v", cell)
	}
	fmt.Fprint(t.w, "\t\n")
}

func (t *table) flush() error { return t.w.Flush() }

func perSecond(rate float64) string      { return fmt.Sprintf("%.0f", rate) }
func twoDigits(ratio float64) string     { return fmt.Sprintf("%.2f", ratio) }
func milliseconds(micros float64) string { return fmt.Sprintf("%.2f ms", micros/1000) }
func seconds(d time.Duration) string     { return fmt.Sprintf("%.3g s", d.Seconds()) }
