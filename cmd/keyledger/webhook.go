package main

import (
	"context"
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/client"
)

func webhookCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:     "webhook",
		Short:   "Register webhook endpoints, change and test them, and see what was delivered",
		Example: "  keyledger webhook register acme https://example.com/hooks --events 'credit.*'\n  keyledger webhook deliveries acme",
	},
		webhookRegister(a), webhookUpdate(a), webhookRotate(a), webhookTest(a), webhookReplay(a),
		webhookReason(a, "pause", "Stop deliveries; what an endpoint is owed stays owed", "endpoint.pause"),
		webhookReason(a, "resume", "Go on with deliveries to a paused or disabled endpoint", "endpoint.resume"),
		webhookReason(a, "remove", "Remove an endpoint: nothing more is owed to it", "endpoint.remove"),
		webhookGet(a), webhookList(a), webhookDeliveries(a), webhookShow(a), webhookRetry(a), webhookPull(a),
		webhookDoctor(a), webhookListen(a),
	)
}

func webhookReason(a *app, use, short, verb string) *cobra.Command {
	var reason string
	c := a.verb(&cobra.Command{
		Use:     use + " ACCOUNT ENDPOINT",
		Short:   short,
		Example: "  keyledger webhook " + use + " acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB",
		Args:    arguments("ACCOUNT", "ENDPOINT"),
	}, func(cmd *cobra.Command, args []string) error {
		return a.command(cmd, args[0], verb, map[string]string{"endpoint": args[1], "reason": reason}, a.showEndpoint)
	})
	c.Flags().StringVar(&reason, "reason", "", "`WHY`, for the record")
	return withID(c)
}

func webhookGet(a *app) *cobra.Command {
	return a.verb(&cobra.Command{
		Use:     "get ACCOUNT ENDPOINT",
		Short:   "Show an endpoint, and how deliveries to it stand",
		Example: "  keyledger webhook get acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB",
		Args:    arguments("ACCOUNT", "ENDPOINT"),
	}, func(cmd *cobra.Command, args []string) error {
		body := map[string]string{"endpoint": args[1]}
		return a.with(cmd, func(ctx context.Context, c *client.Client) error {
			endpoint, err := c.Query(ctx, args[0], "endpoint.get", body, client.Strict())
			if err != nil {
				return err
			}
			status, err := c.Query(ctx, args[0], "endpoint.status", body, client.Strict())
			if isCode(err, events.Unavailable) { // webhooks still read the log
				a.note("how deliveries stand is not known: %v", err)
				return a.showEndpoint(endpoint)
			}
			if err != nil {
				return err
			}
			return a.showStatus(endpoint, status)
		})
	})
}

func webhookList(a *app) *cobra.Command {
	var page pageFlags
	c := a.verb(&cobra.Command{
		Use:     "list ACCOUNT",
		Short:   "List an account's endpoints",
		Example: "  keyledger webhook list acme",
		Args:    arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		return a.query(cmd, args[0], "endpoint.list", page.body(nil), func(reply *client.Reply) error {
			var out struct {
				Endpoints  []events.Endpoint `json:"endpoints"`
				NextCursor *string           `json:"next_cursor"`
			}
			return a.show(reply, &out, func(t *table) {
				t.row("ENDPOINT", "ENVIRONMENT", "STATUS", "EVENTS", "URL", "TERMS")
				for i := range out.Endpoints {
					e := &out.Endpoints[i]
					t.row(e.ID, e.Environment, e.Status, list(e.Events, "none"), e.URL, list(terms(e), "-"))
				}
				t.more(out.NextCursor)
			})
		})
	})
	page.add(c)
	return c
}
