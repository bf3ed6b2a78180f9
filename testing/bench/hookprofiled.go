package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"time"

	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/server"
)

// serveProfiled runs a keyledger as keyledger serve does, with webhookFlags, until ctx
// ends, and lets it be profiled at the URL that is in the file <dir>.pprof: "bench
// profiled".
func serveProfiled(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench profiled", flag.ContinueOnError)
	dir := flags.String("dir", "", "data `DIR`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	defer web.Close()
	go func() { _ = web.Serve(listener) }()
	if err := os.WriteFile(*dir+".pprof", []byte("http://"+listener.Addr().String()), 0o600); err != nil {
		return err
	}
	s, err := server.Open(server.Config{
		DataDir: *dir, Listen: "127.0.0.1:0", HTTP: "off", KeyExpiring: ledger.DefaultNotices,
		AllowHTTPEndpoints: true, AllowEndpointNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Run(ctx) }()
	select {
	case <-s.Ready():
		fmt.Printf("profiled ready %s\n", s.URL())
		err = <-stopped
	case err = <-stopped:
	}
	return errors.Join(err, s.Close())
}
