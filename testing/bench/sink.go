package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// serveSink takes webhooks until ctx ends and says how many there were: "bench sink".
func serveSink(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench sink", flag.ContinueOnError)
	_ = flags.String("dir", "", "unused: every server has one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var taken atomic.Int64
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			fmt.Fprint(w, taken.Load())
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			taken.Add(1)
		}
	})}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Printf("sink ready http://%s\n", listener.Addr())
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

// sinkTook asks a sink how many webhooks it took.
func sinkTook(ctx context.Context, url string) (n int64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	return n, json.NewDecoder(response.Body).Decode(&n)
}
