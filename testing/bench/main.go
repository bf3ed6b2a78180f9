// Command bench measures what keyledger does a second beside a bare echo.
//
// Processes of their own: keyledger serve; a nats-server with a micro endpoint that
// answers at once with as many bytes as a debit's answer has, and does nothing else;
// keyledger's service and writer on a log that stores nothing; and this one, which loads
// them in turn over TCP with a fixed number of commands in flight. What the echo reaches
// is what transport allows on the same machine in the same minute.
//
// At the end every account's balance must be what was granted less what was
// acknowledged, or the exit code is 1.
//
// "bench peers" measures the same debit in PostgreSQL and Redis, "bench scale" a ledger
// with many accounts, "bench live" debits with everything on and how soon they are visible,
// "bench rebuild" how fast what is derived is made again from the log, "bench past" queries
// about the past, "bench hooks" webhooks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// verbs are what this program does; without one it compares workloads. The indented
// ones it starts itself, as processes of their own.
var verbs = map[string]func(context.Context, []string) error{
	"":        benchWorkloads,
	"peers":   benchPeers,
	"scale":   benchScale,
	"live":    benchLive,
	"rebuild": benchRebuild,
	"past":    benchPast,
	"hooks":   benchHooks,

	"echo":       serveEcho,
	"sink":       serveSink,
	"noloop":     serveNoLog,
	"receivers":  serveReceivers,
	"poster":     runPoster,
	"dispatcher": runDispatcher,
	"fsync":      runFsync,
	"fill":       runFill,
	"open":       runOpen,
	"replay":     runReplay,
	"views":      runViews,
	"feed":       runFeed,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	verb, args := "", os.Args[1:]
	if len(args) > 0 && verbs[args[0]] != nil {
		verb, args = args[0], args[1:]
	}
	err := verbs[verb](ctx, args)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}
