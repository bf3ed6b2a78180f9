package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/synadia-io/orbit.go/natscontext"
	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	// replayRateMax is the most events a second that a replay publishes, whatever its speed.
	replayRateMax = 100_000
	// replayFactorMax is the most times as fast as they came.
	replayFactorMax = 1_000_000
	// replaySpeedMin is the slowest of both.
	replaySpeedMin = 0.001
	// replayFlushEvery is after how many events the server is asked whether it took them.
	replayFlushEvery = 1000
)

// replayTo says where audit replay publishes, and how fast.
type replayTo struct {
	subject, speed, server, context string
	pace                            pace
}

func (to *replayTo) flags(flags *pflag.FlagSet) {
	flags.StringVar(&to.subject, "to-subject", "", "publish on this `SUBJECT` instead of printing")
	flags.StringVar(&to.speed, "speed", "1000", "how fast to publish, `N` events a second or such as 2x, of the times they came")
	flags.StringVar(&to.server, "to-server", "", "publish on the NATS server at this `URL`")
	flags.StringVar(&to.context, "to-context", "", "publish where and as the NATS CLI context of this `NAME` says")
}

// validate checks the flags.
func (to *replayTo) validate(cmd *cobra.Command, raw bool) (err error) {
	if to.subject == "" {
		for _, name := range []string{"speed", "to-server", "to-context"} {
			if cmd.Flags().Changed(name) {
				return usagef("--%s needs --to-subject", name)
			}
		}
		return nil
	}
	switch {
	case raw:
		return usagef("--to-subject publishes events: leave out --raw")
	case to.server != "" && to.context != "":
		return usagef("--to-server and --to-context: give one of them")
	}
	if err := checkReplaySubject(to.subject, to.server == "" && to.context == ""); err != nil {
		return err
	}
	to.pace, err = parsePace(to.speed)
	return err
}

// checkReplaySubject refuses subjects that are none, and those of keyledger and of NATS
// itself, on which events would be taken for what they are not.
func checkReplaySubject(subject string, own bool) error {
	literal := strings.TrimSuffix(subject, ".>")
	tokens := strings.Split(literal, ".")
	for _, token := range tokens {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n") || !isASCII(token) {
			return usagef("--to-subject %q is no subject to publish on, such as replay.acme or replay.acme.>", subject)
		}
	}
	switch first := tokens[0]; {
	case first == "keyledger", strings.HasPrefix(first, "$"), strings.HasPrefix(first, "_"):
		return usagef("--to-subject %q is keyledger's or NATS' own: take another, such as replay.acme", subject)
	case own && !(strings.HasPrefix(literal, store.SubjectReplay) || subject == store.SubjectReplay+">"):
		return usagef("--to-subject %q: on the ledger's NATS server it must begin with %s; give another server with --to-server or --to-context", subject, store.SubjectReplay)
	}
	return nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// pace is how fast events are published: so many a second, and not before their time where
// factor is set.
type pace struct {
	limit  rate.Limit
	factor float64     // 0: their times do not matter
	first  events.Time // of the first event
	begun  time.Time   // when that was published
}

func parsePace(text string) (pace, error) {
	times, relative := strings.CutSuffix(text, "x")
	n, err := strconv.ParseFloat(times, 64)
	switch {
	case err != nil, !(n >= replaySpeedMin), relative && n > replayFactorMax, !relative && n > replayRateMax:
		return pace{}, usagef("--speed %q must be events a second, from %g to %d, or times as fast as they came, such as 2x, from %gx to %dx",
			text, replaySpeedMin, replayRateMax, replaySpeedMin, replayFactorMax)
	case relative:
		return pace{limit: replayRateMax, factor: n}, nil
	}
	return pace{limit: rate.Limit(n)}, nil
}

// wait returns when an event of that time is due.
func (p *pace) wait(ctx context.Context, limiter *rate.Limiter, of events.Time) error {
	if p.factor > 0 {
		if p.begun.IsZero() {
			p.first, p.begun = of, time.Now()
		}
		after := time.Duration(float64(of-p.first) / p.factor * float64(time.Millisecond))
		if left := time.Until(p.begun.Add(after)); left > 0 {
			timer := time.NewTimer(left)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return limiter.Wait(ctx)
}

// connectTo opens the connection to publish on: of its own, so that what is read does not
// wait behind what is written.
func (a *app) connectTo(cmd *cobra.Command, to *replayTo) (conn *nats.Conn, err error) {
	opts := []nats.Option{nats.Name("keyledger replay"), nats.Timeout(a.timeout), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}
	switch {
	case to.context != "":
		conn, _, err = natscontext.Connect(to.context, opts...)
	case to.server != "":
		conn, err = nats.Connect(to.server, opts...)
	default:
		return a.connect(cmd)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to publish: %w", err)
	}
	return conn, nil
}

// publisher publishes events on a subject.
type publisher struct {
	conn    *nats.Conn
	to      *replayTo
	limiter *rate.Limiter
	count   int64
	last    events.Position
}

// commit publishes the events of a commit that pass.
func (p *publisher) commit(ctx context.Context, c *store.Commit, f *replayFilter) error {
	return c.Each(func(e *events.CloudEvent) error {
		if !f.passes(e) {
			return nil
		}
		if err := p.to.pace.wait(ctx, p.limiter, e.Time); err != nil {
			return err
		}
		msg, err := feedMessage(p.to.subject, e)
		if err != nil {
			return err
		}
		if err := p.conn.PublishMsg(msg); err != nil {
			return fmt.Errorf("publish event %s: %w", e.Position, err)
		}
		p.count, p.last = p.count+1, e.Position
		if p.count%replayFlushEvery == 0 {
			return p.flush(ctx)
		}
		return nil
	})
}

// flush waits until the server has seen all that was published, and asks what it refused.
func (p *publisher) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := p.conn.FlushWithContext(ctx)
	if err == nil {
		err = p.conn.LastError()
	}
	if err != nil {
		return fmt.Errorf("publish on %s up to event %s: %w", p.to.subject, p.last, err)
	}
	return nil
}

// feedMessage is an event as the feed has it, on another subject.
func feedMessage(subject string, e *events.CloudEvent) (*nats.Msg, error) {
	if root, ok := strings.CutSuffix(subject, ">"); ok {
		subject = string(e.AppendSubject([]byte(root)))
	}
	msg := nats.NewMsg(subject)
	for line := range strings.SplitSeq(strings.TrimSuffix(string(e.AppendHeaders(nil)), "\r\n"), "\r\n") {
		name, value, _ := strings.Cut(line, ": ")
		msg.Header[name] = []string{value}
	}
	var err error
	if msg.Data, err = events.Encode(e.Data); err != nil {
		return nil, fmt.Errorf("encode data of %s: %w", e.Position, err)
	}
	return msg, nil
}

// replayedTo is what audit replay --to-subject prints.
type replayedTo struct {
	Subject  string `json:"subject"`
	Events   int64  `json:"events"`
	Position string `json:"position,omitzero"` // of the last event
}

// replayToSubject publishes what the filter lets pass.
func (a *app) replayToSubject(cmd *cobra.Command, log store.Log, last uint64, filter *replayFilter, to *replayTo) error {
	conn, err := a.connectTo(cmd, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx := cmd.Context()
	p := &publisher{conn: conn, to: to, limiter: rate.NewLimiter(to.pace.limit, max(1, int(to.pace.limit/100)))}
	err = a.eachCommit(ctx, log, last, filter, false, func(c *store.Commit) error { return p.commit(ctx, c, filter) })
	if err == nil {
		err = p.flush(ctx)
	}
	if err != nil {
		return err
	}
	out := replayedTo{Subject: to.subject, Events: p.count}
	if p.count > 0 {
		out.Position = p.last.String()
	}
	if a.json {
		return printJSON(a.out, out)
	}
	t := newTable(a.out)
	t.row("subject", out.Subject)
	t.row("events", grouped(out.Events))
	t.row("last", orDash(out.Position))
	return t.w.Flush()
}
