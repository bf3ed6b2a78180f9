package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

const (
	// retryMax is how many events one webhook retry takes: so many replays an endpoint may
	// have under way.
	retryMax = 10
	// retryConfirmation is the word that confirms a retry of all that is dead.
	retryConfirmation = "RETRY"
	// deliveryPageMax is the largest page of delivery.list.
	deliveryPageMax = 500
)

// retryFlags are those of webhook retry.
type retryFlags struct {
	allDead bool
	since   string
	yes     bool
}

// webhookRetry is a verb of the group webhook.
func webhookRetry(a *app) *cobra.Command {
	var f retryFlags
	c := a.verb(&cobra.Command{
		Use:   "retry ACCOUNT ENDPOINT [EVENT...]",
		Short: "Send events to an endpoint again: those given, or all that are dead",
		Long: `Send events to an endpoint again, with the same webhook-id, sequence and bytes: each is a
replay of that one position, at most ten of them. One that still waits for its next try is
tried now instead.

With --all-dead it is one replay from the oldest dead delivery to the newest, of all that
the endpoint was owed in between: what was delivered is sent again too, and the receiver
knows it by its webhook-id. How much that is, is said first, and the word RETRY is asked for
on standard input, or --yes. Dead is what the records of the last 30 days call so and no
replay has delivered since; what died before can still be sent again: keyledger webhook
replay, or the event's id here.`,
		Example: `  keyledger webhook retry acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB 01J8Z5T0XKQ4R7N2M3V6W9Y1AB
  keyledger webhook retry acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --all-dead --since -24h
  keyledger webhook retry acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --all-dead --yes --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			return arguments("ACCOUNT", "ENDPOINT")(cmd, args[:min(len(args), 2)])
		},
	}, func(cmd *cobra.Command, args []string) error {
		named := args[2:]
		switch {
		case f.allDead != (len(named) == 0):
			return usagef("give the ids of events, or --all-dead")
		case len(named) > retryMax:
			return usagef("%d events: at most %d at once; keyledger webhook replay sends a range", len(named), retryMax)
		case len(named) > 1 && cmd.Flags().Changed("id"):
			return usagef("--id is of one command: give one event")
		case f.allDead:
			return a.retryAllDead(cmd, &f, args[0], args[1])
		}
		return a.retryEvents(cmd, args[0], args[1], named)
	})
	c.Flags().BoolVar(&f.allDead, "all-dead", false, "all dead deliveries of the endpoint, by one replay")
	c.Flags().StringVar(&f.since, "since", "", "only those whose last attempt was not before `WHEN`: "+whenText)
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	before(c, func(flags *pflag.FlagSet) error {
		if flags.Changed("since") && !f.allDead {
			return usagef("--since needs --all-dead")
		}
		return nil
	})
	return withID(c)
}

// retried is one event that is sent again.
type retried struct {
	Event    string        `json:"event"`
	Status   string        `json:"status"` // as it was
	Position string        `json:"position"`
	Replay   events.Replay `json:"replay"`
}

// retryEvents sends the events given again, each by a replay of its position.
func (a *app) retryEvents(cmd *cobra.Command, account, endpoint string, named []string) error {
	done := []retried{}
	err := a.with(cmd, func(ctx context.Context, c *client.Client) error {
		for _, event := range named {
			reply, err := c.Query(ctx, account, "delivery.get", map[string]string{"endpoint": endpoint, "event": event}, client.Strict())
			if err != nil {
				return err
			}
			var found struct {
				Delivery deliveryRow `json:"delivery"`
			}
			if err := reply.Decode(&found); err != nil {
				return err
			}
			one := retried{Event: event, Status: found.Delivery.Status, Position: found.Delivery.Position}
			id, err := commandID(cmd)
			if err != nil {
				return err
			}
			replay, err := c.ReplayEndpoint(ctx, account, ledger.ReplayEndpoint{Endpoint: endpoint, From: one.Position, To: one.Position}, client.WithID(id))
			if err != nil {
				return fmt.Errorf("retry event %s: %w", event, unsettled(err, id))
			}
			one.Replay = *replay
			done = append(done, one)
		}
		return nil
	})
	if len(done) == 0 {
		return err
	}
	return cmp.Or(err, a.showRetried(done))
}

func (a *app) showRetried(done []retried) error {
	if a.json {
		return printJSON(a.out, map[string]any{"retried": done})
	}
	t := newTable(a.out)
	t.row("EVENT", "STATUS BEFORE", "POSITION", "REPLAY")
	for _, r := range done {
		t.row(r.Event, r.Status, r.Position, r.Replay.ID)
	}
	return t.w.Flush()
}

// deadSpan is where an endpoint's dead deliveries stand.
type deadSpan struct {
	count    int
	from, to deliveryRow // the oldest and the newest event
}

// retryAllDead sends all dead deliveries of an endpoint again, and what is between them.
func (a *app) retryAllDead(cmd *cobra.Command, f *retryFlags, account, endpoint string) error {
	since, err := parseAnyTime("since", f.since, time.Now())
	if err != nil {
		return err
	}
	var span deadSpan
	err = a.with(cmd, func(ctx context.Context, c *client.Client) error {
		span, err = findDead(ctx, c, account, endpoint, since)
		return err
	})
	if err != nil {
		return err
	}
	if span.count == 0 {
		a.note("no delivery to endpoint %s is dead", endpoint)
		return nil
	}
	a.note("%s", &span)
	if !f.yes {
		if err := a.confirmWith(retryConfirmation, "These are sent again."); err != nil {
			return err
		}
	}
	body := ledger.ReplayEndpoint{Endpoint: endpoint, From: span.from.Position, To: span.to.Position}
	return a.command(cmd, account, "endpoint.replay", body, a.showReplay)
}

// findDead goes through the dead deliveries of an endpoint, and leaves out those that a replay
// has delivered since.
func findDead(ctx context.Context, c *client.Client, account, endpoint string, since events.Time) (span deadSpan, err error) {
	known := map[string]bool{}
	body := map[string]any{"endpoint": endpoint, "status": "delivered", "replay": "*", "limit": deliveryPageMax}
	if since != 0 {
		body["from_time"] = since
	}
	err = eachDelivery(ctx, c, account, body, func(row deliveryRow) error { known[row.Event] = true; return nil })
	if err != nil {
		return span, err
	}
	body["status"] = "dead"
	delete(body, "replay")
	err = eachDelivery(ctx, c, account, body, func(row deliveryRow) error {
		if known[row.Event] {
			return nil
		}
		known[row.Event] = true
		span.count++
		return span.take(row)
	})
	return span, err
}

// eachDelivery calls f for all that a list query has, page by page.
func eachDelivery(ctx context.Context, c *client.Client, account string, filters map[string]any, f func(deliveryRow) error) error {
	body := maps.Clone(filters)
	for {
		reply, err := c.Query(ctx, account, "delivery.list", body, client.Strict())
		if err != nil {
			return err
		}
		var out deliveries
		if err := reply.Decode(&out); err != nil {
			return err
		}
		for _, row := range out.Deliveries {
			if err := f(row); err != nil {
				return err
			}
		}
		if out.NextCursor == nil {
			return nil
		}
		body["cursor"] = *out.NextCursor
	}
}

// take widens the span to a delivery.
func (s *deadSpan) take(row deliveryRow) error {
	for _, end := range []struct {
		row  *deliveryRow
		sign int
	}{{&s.from, 1}, {&s.to, -1}} {
		if end.row.Event == "" {
			*end.row = row
			continue
		}
		order, err := comparePositions(end.row.Position, row.Position)
		if err != nil {
			return err
		}
		if order*end.sign > 0 {
			*end.row = row
		}
	}
	return nil
}

// String says what a replay of the span sends. Sequences have no gaps, so their difference
// says how many deliveries it is.
func (s *deadSpan) String() string {
	text := fmt.Sprintf("%s dead deliveries, from %s to %s", grouped(int64(s.count)), s.from.Position, s.to.Position)
	first, err := strconv.ParseInt(s.from.Sequence, 10, 64)
	last, lastErr := strconv.ParseInt(s.to.Sequence, 10, 64)
	if err != nil || lastErr != nil || last < first {
		return text + ": all that the endpoint was owed in between is sent again"
	}
	return text + fmt.Sprintf(": %s deliveries are sent again", grouped(last-first+1))
}

// comparePositions says which of two positions comes first.
func comparePositions(a, b string) (int, error) {
	p, err := events.ParsePosition(a)
	if err != nil {
		return 0, err
	}
	q, err := events.ParsePosition(b)
	return cmp.Or(cmp.Compare(p.Sequence, q.Sequence), cmp.Compare(p.Index, q.Index)), err
}
