package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
	"github.com/keyledger/keyledger/webhooks"
)

// throughputAim is what is aimed at, of a bare client.
const throughputAim = 0.30

// posterConns are the connections to one receiver that the bare client keeps, and
// posterSlots its requests under way: both as the dispatcher has them.
const (
	posterConns = 8
	posterSlots = webhooks.DefaultFirstSlots
)

// throughput is what "bench hooks -only throughput" measured.
type throughput struct {
	Endpoints  int       `json:"endpoints"`
	FanOut     int       `json:"fan_out"`
	BodyBytes  int64     `json:"body_bytes"`
	Bare       float64   `json:"bare_client_per_second"`
	Deliveries float64   `json:"deliveries_per_second"`
	ToBare     float64   `json:"to_bare"`
	Bares      []float64 `json:"bare_client_rates"`
	Rates      []float64 `json:"delivery_rates"`
	Recorded   uint64    `json:"attempts_recorded"`
	Lost       uint64    `json:"records_lost"`
	Failed     uint64    `json:"failed_attempts"`
	Behind     int       `json:"most_endpoints_behind"`
}

// throughput measures deliveries, and a bare client that posts the same, in turn.
func (c *hooksConfig) throughput(ctx context.Context, dir string, r *hooksReport) error {
	t := &throughput{Endpoints: healthyEndpoints, FanOut: c.fan}
	for range c.rounds {
		err := c.with(ctx, dir, healthyEndpoints, c.fan, func(h *hooked) error { return c.throughputOnce(ctx, h, t) })
		if err != nil {
			return err
		}
	}
	t.Bare, t.Deliveries = load.Median(t.Bares), load.Median(t.Rates)
	t.ToBare = ratio(t.Deliveries, t.Bare)
	r.Throughput = t
	return nil
}

// throughputOnce makes one run of each.
func (c *hooksConfig) throughputOnce(ctx context.Context, h *hooked, t *throughput) error {
	w, err := h.sink.watch(ctx, c.warmUp, c.measure, watched{})
	if err != nil {
		return err
	}
	profiled := make(chan error, 1)
	go func() { profiled <- c.saveProfile(ctx, h.ledger, c.warmUp+c.measure) }()
	if err := errors.Join(h.saturate(ctx, w.To), <-profiled); err != nil {
		return err
	}
	took, err := h.sink.took(ctx)
	if err != nil {
		return err
	}
	now, err := askStatus(h.asking())
	if err != nil {
		return err
	}
	t.Behind = max(t.Behind, now.Webhooks.Behind)
	if err := h.settled(ctx, load.DrainTime); err != nil {
		return err
	}
	if now, err = askStatus(h.asking()); err != nil {
		return err
	}
	t.Rates = append(t.Rates, float64(took.Watched)/c.measure.Seconds())
	t.Lost, t.Failed, t.BodyBytes = t.Lost+now.Webhooks.RecordsLost, t.Failed+now.Webhooks.Failed, took.Bytes
	t.Recorded += now.Webhooks.Delivered + now.Webhooks.Failed - now.Webhooks.RecordsLost
	if err := h.ledger.stop(); err != nil { // the bare client has the machine to itself
		return err
	}
	h.ledger = nil
	if _, err := h.sink.watch(ctx, c.warmUp, c.measure, watched{}); err != nil {
		return err
	}
	if _, err := runSelf(ctx, "", "poster", "-receivers", h.sink.url, "-duration", (c.warmUp + c.measure).String()); err != nil {
		return err
	}
	if took, err = h.sink.took(ctx); err != nil {
		return err
	}
	t.Bares = append(t.Bares, float64(took.Watched)/c.measure.Seconds())
	return nil
}

// runPoster posts what receivers got to them again, as fast as Go's own client does with
// as many connections and requests under way as the dispatcher has: "bench poster".
func runPoster(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench poster", flag.ContinueOnError)
	_ = flags.String("dir", "", "unused: every process has one")
	url := flags.String("receivers", "", "`URL` of their control")
	duration := flags.Duration("duration", time.Second, "how long")
	if err := flags.Parse(args); err != nil {
		return err
	}
	sink := &hookSink{process: &process{url: *url}}
	var samples []*hookSample
	if err := sink.ask(ctx, "/samples", &samples); err != nil {
		return err
	}
	if len(samples) == 0 {
		return errors.New("the receivers have got nothing yet")
	}
	client := &http.Transport{MaxIdleConns: posterConns * len(samples), MaxIdleConnsPerHost: posterConns, MaxConnsPerHost: posterConns, DisableCompression: true}
	defer client.CloseIdleConnections()
	end := time.Now().Add(*duration)
	var next atomic.Int64
	var group errgroup.Group
	for range posterSlots {
		group.Go(func() error {
			for time.Now().Before(end) && ctx.Err() == nil {
				if err := post(ctx, client, samples[int(next.Add(1))%len(samples)]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// post posts a webhook again.
func post(ctx context.Context, client *http.Transport, s *hookSample) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/", bytes.NewReader(s.Body))
	if err != nil {
		return err
	}
	request.Header = s.Header
	response, err := client.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the receiver answered %s", response.Status)
	}
	return err
}

func (t *throughput) print(w io.Writer) error {
	table := newTable(w, "what", "figure", "slowest to fastest", "aim")
	table.row("a bare Go client posts the same", perSecond(t.Bare)+"/s", span(t.Bares), "")
	table.row(fmt.Sprintf("deliveries, %d endpoints of an account", t.FanOut), perSecond(t.Deliveries)+"/s", span(t.Rates), "")
	table.row("to the bare client", twoDigits(t.ToBare), "", fmt.Sprintf("≥ %.2f", throughputAim))
	table.row("signed body", fmt.Sprintf("%d bytes", t.BodyBytes), "", "")
	table.row("attempts recorded, of them lost", fmt.Sprintf("%d, %d", t.Recorded, t.Lost), "", "all, 0")
	table.row("attempts that failed", t.Failed, "", "0")
	table.row("endpoints behind at the end, at most", t.Behind, "", "")
	return table.flush()
}

func span(values []float64) string {
	if len(values) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f–%.0f", slices.Min(values), slices.Max(values))
}

// hookDelays is what "bench hooks -only latency" measured, in microseconds.
type hookDelays struct {
	Rate      float64 `json:"events_per_second"`
	Timed     int64   `json:"deliveries"`
	CommitP50 float64 `json:"from_commit_p50_us"` // commits tell the time in full milliseconds
	CommitP99 float64 `json:"from_commit_p99_us"`
	DueP50    float64 `json:"from_due_p50_us"`
	DueP99    float64 `json:"from_due_p99_us"`
	AnswerP50 float64 `json:"answer_p50_us"` // of the command, from when it was due
	AnswerP99 float64 `json:"answer_p99_us"`
}

// latency measures how soon deliveries begin at a rate.
func (c *hooksConfig) latency(ctx context.Context, dir string, r *hooksReport) error {
	d := &hookDelays{Rate: c.rate}
	var runs [6][]float64
	for range c.rounds {
		err := c.with(ctx, dir, healthyEndpoints, 1, func(h *hooked) error {
			p, err := c.paced(ctx, h, c.rate, 0, 0)
			if err != nil {
				return err
			}
			d.Timed += p.timed
			for i, v := range []float64{p.commitP50, p.commitP99, p.dueP50, p.dueP99, p.answerP50, p.answerP99} {
				runs[i] = append(runs[i], v)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for i, into := range []*float64{&d.CommitP50, &d.CommitP99, &d.DueP50, &d.DueP99, &d.AnswerP50, &d.AnswerP99} {
		*into = load.Median(runs[i])
	}
	r.Latency = d
	return nil
}

// pacedRun is what one run at a rate came to, in microseconds.
type pacedRun struct {
	watched, timed, late                                       int64
	commitP50, commitP99, dueP50, dueP99, answerP50, answerP99 float64
}

// paced makes a run at a rate and measures what the receivers from first on get while the
// first hang do not answer.
func (c *hooksConfig) paced(ctx context.Context, h *hooked, rate float64, first, hang int) (*pacedRun, error) {
	w, err := h.sink.watch(ctx, c.warmUp, c.measure, watched{First: first, Hang: hang, Time: true})
	if err != nil {
		return nil, err
	}
	s, err := h.pace(ctx, rate, w.From, func(due int64) bool { return due < w.To })
	if err != nil {
		return nil, err
	}
	p := &pacedRun{}
	p.answerP50, p.answerP99 = quantiles(s.acked)
	// What was due and has not come yet counts too, with what it took until then or longer.
	want := int64(float64(len(h.ids)-first) / float64(len(h.ids)) * rate * c.measure.Seconds() * 0.999)
	var took *hooksTook
	late := h.sink.within(ctx, load.DrainTime, func() error {
		if took, err = h.sink.took(ctx); err == nil && took.Timed < want {
			err = fmt.Errorf("%d of %d have come", took.Timed, want)
		}
		return err
	})
	if took == nil {
		return nil, late
	}
	p.watched, p.timed, p.late = took.Watched, took.Timed, max(want-took.Timed, 0)
	fromDue, commits := importLatencies(took.FromDue), importLatencies(took.Commits)
	for range p.late {
		record(fromDue, int64(load.DrainTime))
		record(commits, int64(load.DrainTime))
	}
	p.dueP50, p.dueP99 = quantiles(fromDue)
	p.commitP50, p.commitP99 = quantiles(commits)
	return p, nil
}

func (d *hookDelays) print(w io.Writer) error {
	table := newTable(w, "at "+perSecond(d.Rate)+" events/s, from", "p50", "p99", "aim")
	table.row("commit to first byte", milliseconds(d.CommitP50), milliseconds(d.CommitP99), "≤ 3 ms, ≤ 25 ms")
	table.row("when the command was due to first byte", milliseconds(d.DueP50), milliseconds(d.DueP99), "")
	table.row("when the command was due to its answer", milliseconds(d.AnswerP50), milliseconds(d.AnswerP99), "")
	return errors.Join(table.flush(), note(w, fmt.Sprintf("%d deliveries; a commit's time is that of its first command, before the fsync, cut to the millisecond", d.Timed)))
}

// note is a sentence below a table.
func note(w io.Writer, text ...string) error {
	_, err := fmt.Fprintf(w, "\n%s\n", strings.Join(text, "\n"))
	return err
}
