package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

// pastConfig is the command line of "bench past".
type pastConfig struct {
	program, dir        string
	events, accounts    int
	hot, hotEvents      int
	questions, hotAsked int
	json                bool
}

// Limits of it.
const (
	maxPastQuestions = 1_000_000
	pastTimeout      = time.Minute // of one question
)

// pastReport is what "bench past" measured.
type pastReport struct {
	What string `json:"what"`
	machine
	Events    int      `json:"events"`
	Accounts  int      `json:"accounts"`
	HotEvents int      `json:"events_of_a_busy_account"`
	Archived  float64  `json:"archived_after_seconds"` // of a start on the log alone
	Rows      []*asked `json:"queries"`
}

// asked is one kind of question, one at a time over one connection.
type asked struct {
	Query     string  `json:"query"`
	Count     int     `json:"count"`
	P50Micros float64 `json:"p50_us"`
	P99Micros float64 `json:"p99_us"`
	MaxMicros float64 `json:"max_us"`
}

func parsePast(args []string) (*pastConfig, error) {
	c := new(pastConfig)
	flags := flag.NewFlagSet("bench past", flag.ContinueOnError)
	flags.StringVar(&c.program, "keyledger", "", "`FILE` of the keyledger to measure; built when left out")
	flags.StringVar(&c.dir, "dir", "bin", "`DIR` on the volume to measure; about 2 KB an event are needed while it runs")
	flags.IntVar(&c.events, "events", 1_000_000, "events in the log")
	flags.IntVar(&c.accounts, "accounts", 5_000, "accounts that they are spread over")
	flags.IntVar(&c.hot, "busy", 5, "of them that have more")
	flags.IntVar(&c.hotEvents, "busy-events", 10_000, "events more that each of those has")
	flags.IntVar(&c.questions, "questions", 500, "of each kind")
	flags.IntVar(&c.hotAsked, "busy-questions", 10, "about the past of busy accounts")
	flags.BoolVar(&c.json, "json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case c.accounts < 2 || c.accounts > maxScaleAccounts || c.hot < 1 || c.hot >= c.accounts || c.hotEvents < 1:
		return nil, fmt.Errorf("-accounts must be from 2 to %d, -busy from 1 to fewer, -busy-events positive", maxScaleAccounts)
	case c.events < 4*c.accounts+c.hot*c.hotEvents || c.events > maxRebuildEvents:
		return nil, fmt.Errorf("-events must be from four an account and those of the busy ones, here %d, to %d", 4*c.accounts+c.hot*c.hotEvents, maxRebuildEvents)
	case c.questions < 1 || c.questions > maxPastQuestions || c.hotAsked < 1 || c.hotAsked > maxPastQuestions:
		return nil, fmt.Errorf("-questions and -busy-questions must be from 1 to %d", maxPastQuestions)
	}
	return c, nil
}

// benchPast measures questions about now and about the past of a long log.
func benchPast(ctx context.Context, args []string) error {
	c, err := parsePast(args)
	if err != nil {
		return err
	}
	return inDirectory(ctx, c.dir, &c.program, func(dir string) error {
		r := &pastReport{What: "questions, one at a time over one connection, in a long log", machine: thisMachine(), Accounts: c.accounts, HotEvents: c.hotEvents}
		if r.FsyncMicros, err = measureFsync(dir); err != nil {
			return err
		}
		if err := c.run(ctx, dir+"/ledger", r); err != nil {
			return err
		}
		return r.print(os.Stdout, c.json)
	})
}

// run fills a log, starts keyledger on it and asks.
func (c *pastConfig) run(ctx context.Context, dir string, r *pastReport) (err error) {
	busy := c.hot * c.hotEvents
	err = makeLog(ctx, c.program, dir, c.accounts, debits{c.accounts, c.events - 3*c.accounts - busy}, debits{c.hot, busy})
	if err != nil {
		return err
	}
	r.Events = c.events
	begin := time.Now()
	p, err := startKeyledger(ctx, nil, c.program, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	conns, err := p.connect(1)
	if err != nil {
		return err
	}
	defer closeAll(conns)
	if err := p.within(ctx, feedTime, func() error { return behind(conns[0], "archive") }); err != nil {
		return err
	}
	r.Archived = time.Since(begin).Seconds()
	if err := p.within(ctx, feedTime, func() error { return behind(conns[0], "feed") }); err != nil { // it is not what is measured
		return err
	}
	return c.ask(conns[0], r)
}

// ask asks every kind of question.
func (c *pastConfig) ask(conn *nats.Conn, r *pastReport) error {
	now, err := askStatus(conn)
	if err != nil {
		return err
	}
	var end uint64
	if _, err := fmt.Sscanf(now.Position, "0:%d", &end); err != nil {
		return fmt.Errorf("the log's end is %q: %w", now.Position, err)
	}
	names := load.AccountNames("bench", c.accounts)
	some := func() string { return names[c.hot+rand.IntN(c.accounts-c.hot)] }
	busy := func() string { return names[rand.IntN(c.hot)] }
	place := func() string { return fmt.Sprintf(`"at_position":"0:%d"`, end/10+rand.Uint64N(end-end/10)+1) }
	for _, q := range []struct {
		what, verb string
		count      int
		account    func() string
		body       func() string
	}{
		{"balance now", "balance.get", c.questions, some, func() string { return `{"environment":"test"}` }},
		{"keys, a page", "key.list", c.questions, some, func() string { return `{"status":"active","name_prefix":"keyledger"}` }},
		{"statement, a page of 50", "statement.list", c.questions, some, func() string { return `{"environment":"test"}` }},
		{"statement of a busy account, since a position", "statement.list", c.questions, busy, func() string {
			return fmt.Sprintf(`{"environment":"test","from_position":"0:%d"}`, rand.Uint64N(end)+1)
		}},
		{"usage by day", "usage.get", c.questions, some, func() string { return `{"environment":"test"}` }},
		{"balance at a position", "balance.get", c.questions, some, func() string { return `{"environment":"test",` + place() + `}` }},
		{"balance of a busy account at the end", "balance.get", c.hotAsked, busy, func() string {
			return fmt.Sprintf(`{"environment":"test","at_position":"0:%d"}`, end)
		}},
	} {
		h := hdrhistogram.New(1, int64(pastTimeout), 3)
		for range q.count {
			took, err := question(conn, q.account(), q.verb, q.body())
			if err != nil {
				return fmt.Errorf("%s: %w", q.what, err)
			}
			_ = h.RecordValue(min(int64(took), int64(pastTimeout))) // within range
		}
		p50, p99 := quantiles(h)
		r.Rows = append(r.Rows, &asked{Query: q.what, Count: q.count, P50Micros: p50, P99Micros: p99, MaxMicros: float64(h.Max()) / 1000})
	}
	return nil
}

// question asks one and returns how long its answer took. That there was no such account
// yet is an answer about the past.
func question(conn *nats.Conn, account, verb, body string) (time.Duration, error) {
	msg := nats.NewMsg("keyledger.query." + account + "." + verb)
	msg.Data = []byte(body)
	msg.Header.Set("Keyledger-Timeout", pastTimeout.String())
	begin := time.Now()
	reply, err := conn.RequestMsg(msg, pastTimeout)
	if err != nil {
		return 0, err
	}
	if code := reply.Header.Get("Nats-Service-Error-Code"); code != "" && code != "404" {
		return 0, fmt.Errorf("%s %s: %s", account, body, reply.Data)
	}
	return time.Since(begin), nil
}

func (r *pastReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	fmt.Fprintf(w, "%s\n", r.What)
	r.machine.print(w)
	fmt.Fprintf(w, "%d events of %d accounts, busy ones with %d more; archived %.1f s after a start on the log alone\n\n", r.Events, r.Accounts, r.HotEvents, r.Archived)
	table := newTable(w, "query", "asked", "p50", "p99", "longest")
	for _, row := range r.Rows {
		table.row(row.Query, row.Count, milliseconds(row.P50Micros), milliseconds(row.P99Micros), milliseconds(row.MaxMicros))
	}
	return table.flush()
}
