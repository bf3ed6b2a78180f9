package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/receiver"
)

// demoFlags are the flags of demo.
type demoFlags struct {
	accessLog string
	keep      bool
	patience  time.Duration
}

func demoCommand(a *app) *cobra.Command {
	var f demoFlags
	c := a.verb(&cobra.Command{
		Use:   "demo",
		Short: "Show the whole: a server, keys, credits, webhooks, and a reconciliation of all of it",
		Long: `Show the whole. It starts a server in a temporary directory and a webhook receiver, and
reads an access log as the traffic of an API: each client address becomes an account with
2,000 credits, an endpoint for all its events and a key that works from that address only;
each line becomes an authorize at 100 credits, in the log's order, for the product that
the first segment of its path names.

Then it reconciles: the ledger's answers, balances and log, and the events that the
receiver verified, with a count of its own, made from the lines alone. On any difference
it says which, keeps the directory and ends with exit code 1.

Without --access-log it makes a little traffic of its own.`,
		Example: "  keyledger demo\n  keyledger demo --access-log access.log\n  keyledger demo --access-log access.log --json",
		Args:    arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		return a.demo(cmd.Context(), &f)
	})
	flags := c.Flags()
	flags.StringVar(&f.accessLog, "access-log", "", "`FILE` in the common or combined log format")
	withDefault(flags, "access-log", "its own traffic")
	flags.BoolVar(&f.keep, "keep", false, "keep the data directory")
	flags.DurationVar(&f.patience, "patience", 30*time.Second, "`DURATION` without a webhook after which it gives up")
	return c
}

// demo runs the demo and prints its totals.
func (a *app) demo(ctx context.Context, f *demoFlags) error {
	visits, bad, err := f.traffic()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "keyledger-demo-")
	if err != nil {
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	d := newDemo(visits, a.newProgress(), f.patience)
	begun := time.Now()
	err = d.inside(ctx, dir)
	totals := d.totals(bad, time.Since(begun))
	keep := f.keep || err == nil && len(totals.Differences) > 0
	if keep {
		totals.Directory = dir
	} else {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		return err
	}
	return a.showTotals(totals)
}

// traffic reads the access log, or makes the demo's own.
func (f *demoFlags) traffic() ([]visit, []badLine, error) {
	var log io.Reader = bytes.NewReader(ownTraffic())
	if f.accessLog != "" {
		file, err := os.Open(f.accessLog)
		if err != nil {
			return nil, nil, fmt.Errorf("open the access log: %w", err)
		}
		defer file.Close()
		log = file
	}
	visits, bad, err := readAccessLog(log)
	if err != nil {
		return nil, nil, fmt.Errorf("read the access log: %w", err)
	}
	if len(visits) == 0 {
		return nil, nil, fmt.Errorf("the access log holds no request (%d lines that cannot be read)", len(bad))
	}
	return visits, bad, nil
}

// demo is one run of the demo.
type demo struct {
	visits   []visit
	accounts []*demoAccount // in the order of their first visit
	byAddr   map[netip.Addr]*demoAccount
	progress *progress
	patience time.Duration

	hooks  *receiver.Server
	client *client.Client
	log    store.Log

	refused     map[string]int // by code, as answered
	events      int            // in the log
	differences []string
}

// demoAccount is an account, as the ledger's answers tell.
type demoAccount struct {
	id      string
	addr    netip.Addr
	secret  string
	visits  int
	allowed int
	taken   int64               // credits
	debits  map[string]struct{} // their ids
	balance int64               // available, at the end
}

func newDemo(visits []visit, p *progress, patience time.Duration) *demo {
	d := &demo{visits: visits, byAddr: map[netip.Addr]*demoAccount{}, progress: p, patience: patience, refused: map[string]int{}}
	for _, v := range visits {
		x := d.byAddr[v.addr]
		if x == nil {
			x = &demoAccount{id: accountOf(v.addr), addr: v.addr, debits: map[string]struct{}{}}
			d.byAddr[v.addr] = x
			d.accounts = append(d.accounts, x)
		}
		x.visits++
	}
	return d
}

// inside starts a server in dir and a receiver, runs all steps and stops both.
func (d *demo) inside(ctx context.Context, dir string) (err error) {
	d.progress.begin("starting")
	if d.hooks, err = receiver.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.hooks.Close()) }()
	s, err := server.Open(server.Config{
		DataDir: dir, Listen: "127.0.0.1:0", HTTP: "off",
		AllowHTTPEndpoints: true, AllowEndpointNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ctx, cancel := context.WithCancelCause(ctx)
	stopped := make(chan error, 1)
	go func() {
		err := s.Run(ctx)
		cancel(errors.New("the demo's server stopped"))
		stopped <- err
	}()
	defer func() { err = errors.Join(err, <-stopped) }()
	defer cancel(nil)
	select {
	case <-s.Ready():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := d.connect(ctx, s); err != nil {
		return err
	}
	defer d.client.Conn().Close()
	return d.steps(ctx)
}

// connect connects as the operator.
func (d *demo) connect(ctx context.Context, s *server.Server) error {
	identity, err := nats.NkeyOptionFromSeed(s.OperatorKeyPath())
	if err != nil {
		return fmt.Errorf("read the operator's credential: %w", err)
	}
	conn, err := nats.Connect(s.URL(), identity, nats.Name("keyledger demo"))
	if err != nil {
		return fmt.Errorf("connect to the demo's server: %w", err)
	}
	d.client = client.New(conn)
	if d.log, err = openLogOn(ctx, conn); err != nil {
		conn.Close()
		return err
	}
	d.progress.end("started a server at %s and a webhook receiver at %s", s.URL(), d.hooks.URL)
	return nil
}
