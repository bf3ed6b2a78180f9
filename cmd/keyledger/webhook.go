package main

import (
	"strconv"

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
		webhookGet(a), webhookList(a), webhookDeliveries(a), webhookDoctor(a), webhookListen(a),
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
		Short:   "Show an endpoint",
		Example: "  keyledger webhook get acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB",
		Args:    arguments("ACCOUNT", "ENDPOINT"),
	}, func(cmd *cobra.Command, args []string) error {
		return a.query(cmd, args[0], "endpoint.get", map[string]string{"endpoint": args[1]}, a.showEndpoint)
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

func webhookDeliveries(a *app) *cobra.Command {
	var page pageFlags
	var endpoint, status string
	c := a.verb(&cobra.Command{
		Use:     "deliveries ACCOUNT",
		Short:   "List deliveries: which events were owed to an endpoint and what became of them",
		Example: "  keyledger webhook deliveries acme --status pending",
		Args:    arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		body := page.body(map[string]string{"endpoint": endpoint, "status": status})
		return a.query(cmd, args[0], "delivery.list", body, func(reply *client.Reply) error {
			var out deliveries
			return a.show(reply, &out, out.rows)
		})
	})
	c.Flags().StringVar(&endpoint, "endpoint", "", "only those to this `ENDPOINT`")
	c.Flags().StringVar(&status, "status", "", "only those delivered, pending or dead")
	completeWith(c, "status", []string{"delivered", "pending", "dead"})
	page.add(c)
	return c
}

// deliveries is the reply of delivery.list.
type deliveries struct {
	Deliveries []deliveryRow `json:"deliveries"`
	Pending    uint64        `json:"pending"`
	NextCursor *string       `json:"next_cursor"`
}

type deliveryRow struct {
	Event         string      `json:"event"`
	Type          string      `json:"type"`
	Endpoint      string      `json:"endpoint"`
	Status        string      `json:"status"`
	Attempts      int64       `json:"attempts"`
	LastAttemptAt events.Time `json:"last_attempt_at"`
	NextAttemptAt events.Time `json:"next_attempt_at"`
	StatusCode    *int        `json:"status_code"`
	Error         *string     `json:"error"`
}

func (out *deliveries) rows(t *table) {
	t.row("EVENT", "TYPE", "STATUS", "ATTEMPTS", "LAST ANSWER", "NEXT TRY", "ENDPOINT")
	for _, d := range out.Deliveries {
		answer := "-"
		if d.StatusCode != nil {
			answer = strconv.Itoa(*d.StatusCode)
		}
		if d.Error != nil {
			answer = *d.Error
		}
		t.row(d.Event, d.Type, d.Status, d.Attempts, answer, when(d.NextAttemptAt, "-"), d.Endpoint)
	}
	if out.Pending > 0 {
		t.notes = append(t.notes, grouped(int64(out.Pending))+" deliveries are pending in all")
	}
	t.more(out.NextCursor)
}
