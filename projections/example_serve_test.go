package projections_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
)

// serve runs a keyledger in a directory of its own for as long as f takes, and prints what
// goes wrong.
func serve(cfg server.Config, f func(context.Context, *client.Client) error) {
	if err := tryServe(cfg, f); err != nil {
		fmt.Println(err)
	}
}

func tryServe(cfg server.Config, f func(context.Context, *client.Client) error) (err error) {
	if cfg.DataDir, err = os.MkdirTemp("", "keyledger"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cfg.DataDir)) }()
	cfg.Listen, cfg.HTTP = "127.0.0.1:0", "off"
	s, err := server.Open(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		return err
	}
	operator, err := nats.NkeyOptionFromSeed(s.OperatorKeyPath())
	if err != nil {
		return err
	}
	conn, err := nats.Connect(s.URL(), operator)
	if err != nil {
		return err
	}
	err = f(ctx, client.New(conn))
	conn.Close()
	stop()
	return errors.Join(err, <-done)
}

// debit opens an account and takes credits from it for products.
func debit(ctx context.Context, c *client.Client, account string, products ...string) error {
	if _, err := c.OpenAccount(ctx, account, ledger.OpenAccount{}); err != nil {
		return err
	}
	if _, err := c.Grant(ctx, account, ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 100}); err != nil {
		return err
	}
	for _, product := range products {
		if _, err := c.Debit(ctx, account, ledger.DebitCredit{Environment: events.Test, Asset: "credits", Amount: 10, Product: product}); err != nil {
			return err
		}
	}
	return nil
}
