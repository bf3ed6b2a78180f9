package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/webhooks"
)

const (
	pullBatch = 256              // messages asked for at once
	pullWait  = 10 * time.Second // for one of them, until they are asked for again
	// pullIdle is how long a consumer that nobody named lives after its reader.
	pullIdle = 5 * time.Minute
)

// pullFlags are those of webhook pull.
type pullFlags struct {
	durable string
	once    bool
}

// webhookPull is a verb of the group webhook.
func webhookPull(a *app) *cobra.Command {
	var f pullFlags
	c := a.verb(&cobra.Command{
		Use:   "pull ACCOUNT ENDPOINT",
		Short: "Read an endpoint's events from the feed, instead of being sent them",
		Long: `Read the events that an endpoint subscribes to from the feed, by a JetStream consumer, and
print them: one CloudEvent in JSON a line, from the endpoint's registration on, as far back
as the feed goes (90 days). The endpoint may be paused meanwhile. An event is acknowledged
once it is printed; one that was not comes again.

With --durable the place is kept under that name and the next pull goes on from it. A
customer's credential has one consumer, whose name is creds_ and the credential's name.

It is what the endpoint subscribes to now, for all of the time. There is no sequence, no
signature and no test of the endpoint, and its delivery log knows nothing of it.`,
		Example: `  keyledger webhook pull acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --once
  keyledger webhook pull acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --durable books
  keyledger webhook pull acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --durable creds_portal --creds portal.nk`,
		Args: arguments("ACCOUNT", "ENDPOINT"),
	}, func(cmd *cobra.Command, args []string) error { return a.pull(cmd, &f, args[0], args[1]) })
	c.Flags().StringVar(&f.durable, "durable", "", "`NAME` of the consumer that keeps the place")
	c.Flags().BoolVar(&f.once, "once", false, "end when there is nothing more")
	return c
}

// pull makes the consumer and prints what it has.
func (a *app) pull(cmd *cobra.Command, f *pullFlags, account, endpoint string) (err error) {
	conn, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	conn.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if a.noteDenied(err) {
			cancel()
		}
	})
	p := &puller{app: a, once: f.once, w: bufio.NewWriter(a.out)}
	if err := p.open(ctx, conn, f.durable, account, endpoint); err != nil {
		err = a.explainDenied(err)
		if errors.Is(err, nats.ErrPermissionViolation) {
			err = fmt.Errorf("%w; a customer's credential has one consumer: give --durable creds_NAME, with the credential's name", err)
		}
		return err
	}
	err = p.run(ctx)
	rest, stop := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer stop()
	err = errors.Join(err, conn.FlushWithContext(rest)) // the last acknowledgements
	if f.durable == "" {
		err = errors.Join(err, p.js.DeleteConsumer(rest, store.StreamFeed(partition), p.consumer.CachedInfo().Name))
	}
	return a.explainDenied(err)
}

// puller reads one subscription's events.
type puller struct {
	app      *app
	js       jetstream.JetStream
	consumer jetstream.Consumer
	wanted   *webhooks.Subscription
	once     bool
	w        *bufio.Writer
}

// open makes the consumer of an endpoint's subscription, or finds the one of that name.
func (p *puller) open(ctx context.Context, conn *nats.Conn, durable, account, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, p.app.timeout)
	defer cancel()
	reply, err := client.New(conn).Query(ctx, account, "endpoint.get", map[string]string{"endpoint": endpoint}, client.Strict())
	if err != nil {
		return err
	}
	var out struct {
		Endpoint events.Endpoint `json:"endpoint"`
	}
	if err := reply.Decode(&out); err != nil {
		return err
	}
	var refused *events.Error
	if p.wanted, refused = webhooks.SubscriptionOf(&out.Endpoint); refused != nil {
		return refused
	}
	if p.js, err = jetstream.New(conn); err != nil {
		return err
	}
	since := out.Endpoint.CreatedAt.Std()
	config := jetstream.ConsumerConfig{
		Durable: durable, FilterSubject: p.wanted.FilterSubject(partition), AckPolicy: jetstream.AckExplicitPolicy,
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since,
	}
	if durable == "" {
		config.InactiveThreshold = pullIdle
	}
	p.consumer, err = p.js.CreateOrUpdateConsumer(ctx, store.StreamFeed(partition), config)
	if err != nil {
		return fmt.Errorf("make a consumer of %s: %w", store.StreamFeed(partition), err)
	}
	return nil
}

// run prints until there is nothing more, or ctx ends.
func (p *puller) run(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := p.batch(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return err
		case p.once && n == 0:
			return nil
		}
	}
	if p.app.denied.Load() != nil {
		return ctx.Err()
	}
	return nil
}

// batch prints some messages, and says how many came.
func (p *puller) batch(ctx context.Context) (n int, err error) {
	var batch jetstream.MessageBatch
	if p.once {
		batch, err = p.consumer.FetchNoWait(pullBatch)
	} else {
		waiting, cancel := context.WithTimeout(ctx, pullWait)
		defer cancel()
		batch, err = p.consumer.Fetch(pullBatch, jetstream.FetchContext(waiting))
	}
	if err != nil {
		return 0, err
	}
	for m := range batch.Messages() {
		n++
		if err := p.print(m); err != nil {
			return n, err
		}
	}
	err = batch.Error()
	if errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return n, err
}

// print writes an event, if it is wanted, and acknowledges it then.
func (p *puller) print(m jetstream.Msg) error {
	about, err := m.Metadata()
	if err != nil {
		return err
	}
	e, err := p.wanted.Read(&nats.Msg{Subject: m.Subject(), Header: m.Headers(), Data: m.Data()}, about.Sequence.Stream)
	if err != nil {
		return err
	}
	if e != nil {
		body, err := e.Structured()
		if err != nil {
			return err
		}
		p.w.Write(append(body, '\n'))
		if err := p.w.Flush(); err != nil {
			return err
		}
	}
	return m.Ack()
}
