package main

import (
	"context"
	"path/filepath"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/client"
)

// attempts COUNT waits until so many attempts at deliveries are recorded.
func cmdAttempts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: attempts COUNT")
	}
	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	identity, err := client.Credentials(filepath.Join(ts.Getenv(envDataDir), operatorSeed))
	ts.Check(err)
	conn, err := nats.Connect(ts.Getenv("KEYLEDGER_SERVER"), identity...)
	ts.Check(err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), receiverPatience)
	defer cancel()
	ts.Check(awaitAttempts(ctx, conn, count))
}

// awaitAttempts waits until so many attempts are recorded.
func awaitAttempts(ctx context.Context, conn *nats.Conn, count int) error {
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	consumer, err := js.OrderedConsumer(ctx, store.StreamAttempts, jetstream.OrderedConsumerConfig{HeadersOnly: true})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for range count {
		if _, err := messages.Next(jetstream.NextContext(ctx)); err != nil {
			return err
		}
	}
	return nil
}
