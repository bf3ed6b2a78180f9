package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/service"
	"github.com/keyledger/keyledger/ledger/writer"
)

// serveTuning is the environment that makes a process of this program run as keyledger
// serve tunes itself: cmd/keyledger/tune.go.
func serveTuning() []string {
	return []string{fmt.Sprintf("GOMAXPROCS=%d", 2*runtime.NumCPU()), "GOGC=400"}
}

// serveNoLog runs keyledger's own loop without the log until ctx ends: "bench noloop". It
// is the real service and the real writer, with receipts, on a log that stores nothing
// and acknowledges at once. Nothing follows that log: no views, feed, buckets, webhooks.
// What keyledger reaches of what this reaches is what durability and all that is derived
// from the log leave of the loop.
func serveNoLog(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench noloop", flag.ContinueOnError)
	dir := flags.String("dir", "", "`DIR` for its files")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return fmt.Errorf("-dir must be given")
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	log := &store.Memory{Fault: func(_ []byte, expected uint64) store.Fault {
		return store.Fault{Lose: true, Ack: expected + 1}
	}}
	w := writer.New(writer.Config{Log: log, Tail: store.NewTail(log, 0), Logger: logger})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.Run(ctx) })
	e, err := startServer(*dir, func(conn *nats.Conn) error {
		select {
		case <-w.Ready():
			return serveCommands(conn, w, logger)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if err == nil {
		defer e.close()
		fmt.Printf("noloop ready %s\n", e.server.ClientURL())
		<-ctx.Done()
	}
	cancel()
	if failed := group.Wait(); failed != nil {
		return failed
	}
	return err
}

// serveCommands puts the service on a writer. There is nothing to query.
func serveCommands(conn *nats.Conn, w *writer.Writer, logger *slog.Logger) error {
	var key [32]byte
	rand.Read(key[:])
	sealer, err := events.NewSealer(key[:])
	if err != nil {
		return err
	}
	_, err = service.Start(service.Config{
		Conn: conn, Writer: w, Version: "0.0.0", Logger: logger, Sealer: sealer,
		Queries:        map[string]service.QueryFunc{},
		Actor:          func(string, string) string { return "operator" },
		WaitFor:        func(context.Context, uint64) error { return nil },
		EndpointSecret: func([32]byte) string { return "" },
		EndpointKey:    func([32]byte) string { return "" },
		CheckEndpoint:  func(string, map[string]string) error { return fmt.Errorf("no webhooks here") },
	})
	if err != nil {
		return err
	}
	return conn.Flush()
}
