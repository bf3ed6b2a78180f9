package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// hooksConfig is the command line of "bench hooks".
type hooksConfig struct {
	program, dir    string
	only            []string
	rounds          int
	measure, warmUp time.Duration
	fan             int     // endpoints of an account, where one debit is for all of them
	rate            float64 // debits a second, where they are paced
	many            int     // endpoints of which some hang
	hang            []int   // in percent of those
	backlog         []int   // events owed to dead endpoints
	quiet, idle     time.Duration
	registered      int // endpoints that only are there
	owed, others    int // events of the endpoint that recovers, and of others
	profile         string
	json            bool
}

// Limits of it.
const (
	healthyEndpoints = 100
	maxFan           = 50 // endpoints an account may have
	maxHookRate      = 100_000
	maxRegistered    = 1_000_000
	maxBacklog       = 10_000_000
	maxOthers        = 100_000_000
)

// hookParts are the parts, in their order.
var hookParts = []struct {
	name string
	run  func(*hooksConfig, context.Context, string, *hooksReport) error
}{
	{"throughput", (*hooksConfig).throughput},
	{"latency", (*hooksConfig).latency},
	{"isolation", (*hooksConfig).isolation},
	{"backlog", (*hooksConfig).owedBacklog},
	{"endpoints", (*hooksConfig).endpoints},
	{"catchup", (*hooksConfig).catchUp},
}

func hookPartNames() string {
	var names []string
	for _, p := range hookParts {
		names = append(names, p.name)
	}
	return strings.Join(names, ",")
}

func parseHooks(args []string) (*hooksConfig, error) {
	c := new(hooksConfig)
	flags := flag.NewFlagSet("bench hooks", flag.ContinueOnError)
	flags.StringVar(&c.program, "keyledger", "", "`FILE` of the keyledger to measure; built when left out")
	flags.StringVar(&c.dir, "dir", "bin", "`DIR` on the volume to measure; about 2 KB an event are needed while it runs")
	flags.IntVar(&c.rounds, "rounds", 5, "interleaved runs of each kind, of which the median counts")
	flags.DurationVar(&c.measure, "duration", 5*time.Second, "how long each run is measured")
	flags.DurationVar(&c.warmUp, "warm-up", 2*time.Second, "how long each run goes on before it is measured")
	flags.IntVar(&c.fan, "fan-out", 10, "throughput: endpoints an account has, all of which get its debits")
	flags.Float64Var(&c.rate, "rate", 1000, "latency, isolation, catchup: debits a second, each for one endpoint")
	flags.IntVar(&c.many, "many", 1000, "isolation: endpoints")
	hang := flags.String("hang", "0,1,10,50", "isolation: percent of them that hang, a `LIST` that begins with 0")
	backlog := flags.String("backlog", "10000,100000,1000000", "backlog: events owed to dead endpoints, a `LIST`")
	flags.DurationVar(&c.quiet, "quiet", 7*time.Second, "backlog: how long no attempt is made before idle time is measured; more than the 5 s before the second attempt")
	flags.DurationVar(&c.idle, "idle", 10*time.Second, "backlog: how long idle processor time is measured")
	flags.IntVar(&c.registered, "registered", 100_000, "endpoints: how many")
	flags.IntVar(&c.owed, "owed", 100_000, "catchup: events owed to the endpoint that recovers")
	flags.IntVar(&c.others, "others", 10_000_000, "catchup: events of other accounts among them")
	flags.StringVar(&c.profile, "profile", "", "throughput, catchup: `FILE` for a processor profile of the last round, of a keyledger built with net/http/pprof, whatever -keyledger says")
	flags.BoolVar(&c.json, "json", false, "print JSON")
	only := flags.String("only", hookPartNames(), "what is measured, a `LIST`")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if c.hang, err = numbers("-hang", *hang, 0, 99); err != nil {
		return nil, err
	}
	if c.backlog, err = numbers("-backlog", *backlog, deadEndpoints, maxBacklog); err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(*only, ",") {
		if name = strings.TrimSpace(name); !slices.Contains(strings.Split(hookPartNames(), ","), name) {
			return nil, fmt.Errorf("-only: %q is none of %s", name, hookPartNames())
		}
		c.only = append(c.only, name)
	}
	return c, c.check(flags)
}

// numbers reads a list of whole numbers.
func numbers(name, text string, least, most int) (list []int, err error) {
	for one := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(one))
		if err != nil || n < least || n > most {
			return nil, fmt.Errorf("%s: %q is not a number from %d to %d", name, one, least, most)
		}
		list = append(list, n)
	}
	return list, nil
}

func (c *hooksConfig) check(flags *flag.FlagSet) error {
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case c.rounds < 1 || c.rounds > maxRounds:
		return fmt.Errorf("-rounds must be from 1 to %d", maxRounds)
	case c.measure <= 0 || c.measure > maxRun || c.warmUp < 0 || c.warmUp > maxRun || c.idle <= 0 || c.idle > maxRun || c.quiet <= 0 || c.quiet > maxRun:
		return fmt.Errorf("-duration, -quiet, -idle and -warm-up must be positive, at most %s", maxRun)
	case c.fan < 1 || c.fan > maxFan || c.rate <= 0 || c.rate > maxHookRate:
		return fmt.Errorf("-fan-out must be from 1 to %d, -rate positive, at most %d", maxFan, maxHookRate)
	case c.many < 2 || c.many > maxReceivers || c.hang[0] != 0:
		return fmt.Errorf("-many must be from 2 to %d, and -hang begin with 0", maxReceivers)
	case c.registered < 1 || c.registered > maxRegistered:
		return fmt.Errorf("-registered must be from 1 to %d", maxRegistered)
	case c.owed < 1 || c.others < c.owed || c.others > maxOthers || c.others%c.owed != 0:
		return fmt.Errorf("-owed must be positive, and -others a multiple of it, at most %d", maxOthers)
	}
	return nil
}

// benchHooks measures webhooks.
func benchHooks(ctx context.Context, args []string) error {
	c, err := parseHooks(args)
	if err != nil {
		return err
	}
	return inDirectory(ctx, c.dir, &c.program, func(dir string) error {
		r := &hooksReport{What: "webhooks to receivers on loopback in a process of their own, plain HTTP; runs interleaved; medians",
			machine: thisMachine(), Rounds: c.rounds, RunSeconds: c.measure.Seconds()}
		if r.FsyncMicros, err = measureFsync(dir); err != nil {
			return err
		}
		if c.profile != "" {
			if c.program, err = buildProfiled(ctx, dir); err != nil {
				return err
			}
		}
		var failed []error
		for _, part := range hookParts {
			if !slices.Contains(c.only, part.name) {
				continue
			}
			begin := time.Now()
			if err := part.run(c, ctx, dir, r); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", part.name, err))
				break
			}
			fmt.Fprintf(os.Stderr, "%s: %s\n", part.name, seconds(time.Since(begin)))
		}
		return errors.Join(append(failed, r.print(os.Stdout, c.json))...)
	})
}

// inRound makes a directory for one run, and removes it afterwards.
func inRound(dir string, f func(dir string) error) error {
	dir, err := os.MkdirTemp(dir, "run-")
	if err != nil {
		return err
	}
	return errors.Join(f(dir), os.RemoveAll(dir))
}

// webhookFlags let a keyledger deliver to receivers on loopback, which it does not ask before.
var webhookFlags = []string{"--allow-http-endpoints", "--allow-endpoint-net", "127.0.0.0/8", "--webhook-consent", "off"}

// startHooked starts receivers and a keyledger on a directory, without endpoints.
func (c *hooksConfig) startHooked(ctx context.Context, dir string, count, fan int) (h *hooked, err error) {
	h = &hooked{fan: fan}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.stop())
		}
	}()
	if h.sink, err = startReceivers(ctx, dir, count); err != nil {
		return nil, err
	}
	h.ledger, err = startKeyledger(ctx, c.shim(dir+"/ledger"), c.program, dir+"/ledger", webhookFlags...)
	if err != nil {
		return nil, err
	}
	h.conns, err = h.ledger.connect(2)
	return h, err
}

// with makes one run on a directory of its own, with endpoints, and stops everything.
func (c *hooksConfig) with(ctx context.Context, dir string, count, fan int, f func(*hooked) error) error {
	return inRound(dir, func(dir string) error {
		h, err := c.startHooked(ctx, dir, count, fan)
		if err != nil {
			return err
		}
		err = h.registerAll(ctx, "bench")
		if err == nil {
			err = f(h)
		}
		return errors.Join(err, h.stop())
	})
}

// asking is the connection for what is not load.
func (h *hooked) asking() *nats.Conn { return h.conns[len(h.conns)-1] }

// hooksReport is what "bench hooks" measured; a part that was not is nil.
type hooksReport struct {
	What string `json:"what"`
	machine
	Rounds     int         `json:"rounds"`
	RunSeconds float64     `json:"run_seconds"`
	Throughput *throughput `json:"throughput,omitempty"`
	Latency    *hookDelays `json:"latency,omitempty"`
	Isolation  *isolation  `json:"isolation,omitempty"`
	Backlog    *backlog    `json:"backlog,omitempty"`
	Endpoints  *endpoints  `json:"endpoints,omitempty"`
	CatchUp    *catchUp    `json:"catch_up,omitempty"`
}

func (r *hooksReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	fmt.Fprintf(w, "%s\n", r.What)
	r.machine.print(w)
	fmt.Fprintf(w, "%d rounds of %.3g s each\n", r.Rounds, r.RunSeconds)
	var failed []error
	section := func(there bool, title string, print func(io.Writer) error) {
		if there {
			fmt.Fprintf(w, "\n%s\n\n", title)
			failed = append(failed, print(w))
		}
	}
	section(r.Throughput != nil, "Throughput, to 100 healthy endpoints", r.Throughput.print)
	section(r.Latency != nil, "Latency, to 100 healthy endpoints", r.Latency.print)
	section(r.Isolation != nil, "Isolation, of endpoints beside others that accept and never answer", r.Isolation.print)
	section(r.Backlog != nil, "Backlog, of events owed to dead endpoints", r.Backlog.print)
	section(r.Endpoints != nil, "Endpoints that are only registered", r.Endpoints.print)
	section(r.CatchUp != nil, "Catch-up of an endpoint that recovers", r.CatchUp.print)
	return errors.Join(failed...)
}
