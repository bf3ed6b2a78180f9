package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

func webhookRotate(a *app) *cobra.Command {
	var body ledger.RotateEndpointSecret
	c := a.verb(&cobra.Command{
		Use:   "rotate-secret ACCOUNT ENDPOINT",
		Short: "Give an endpoint a new signing secret and show it, once",
		Long: `Give an endpoint a new signing secret. Deliveries are signed with the new one, and with the
one before too until the grace ends, so that the receiver can change over; three sign at the
most. After a leak take --grace 0: no former one signs any more. With --signing the endpoint
changes to a public key, or back to a secret.`,
		Example: `  keyledger webhook rotate-secret acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB
  keyledger webhook rotate-secret acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --grace 0
  keyledger webhook rotate-secret acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --signing v1a --grace 168h`,
		Args: arguments("ACCOUNT", "ENDPOINT"),
	}, func(cmd *cobra.Command, args []string) error {
		body.Endpoint = args[1]
		return a.command(cmd, args[0], "endpoint.rotate_secret", body, a.showNewEndpoint)
	})
	c.Flags().StringVar(&body.Grace, "grace", "24h", "`DURATION` that the secret before signs too, at most 168h")
	signingFlag(c, &body.Signing, "")
	withDefault(c.Flags(), "signing", "as before")
	return withID(c)
}

func webhookTest(a *app) *cobra.Command {
	c := a.verb(&cobra.Command{
		Use:   "test ACCOUNT ENDPOINT",
		Short: "Send an endpoint a test event, whatever it subscribes to",
		Long: `Send an endpoint a test: an event of type dev.keyledger.endpoint.tested.v1, which it is owed
as any other, whatever it subscribes to. keyledger webhook deliveries shows what became of it.`,
		Example: "  keyledger webhook test acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB",
		Args:    arguments("ACCOUNT", "ENDPOINT"),
	}, func(cmd *cobra.Command, args []string) error {
		return a.command(cmd, args[0], "endpoint.test", ledger.TestEndpoint{Endpoint: args[1]}, func(reply *client.Reply) error {
			var out struct {
				Endpoint events.Endpoint `json:"endpoint"`
			}
			return a.show(reply, &out, func(t *table) {
				t.row("endpoint", out.Endpoint.ID)
				t.row("url", out.Endpoint.URL)
				t.row("position", reply.Position)
				t.notes = append(t.notes, "see what became of it: keyledger webhook deliveries "+args[0]+" --endpoint "+out.Endpoint.ID)
			})
		})
	})
	return withID(c)
}

// replayRange are the flags of webhook replay.
type replayRange struct {
	fromPosition, toPosition, fromTime, toTime string
	events                                     []string
}

func webhookReplay(a *app) *cobra.Command {
	var f replayRange
	c := a.verb(&cobra.Command{
		Use:   "replay ACCOUNT ENDPOINT",
		Short: "Send events of the past to an endpoint again",
		Long: `Send events of the past to an endpoint again, beside those that happen meanwhile. What it was
owed comes as it came first, with the same id and sequence; what it was never owed has the
extension replay instead of a sequence. Without --events it is what the endpoint subscribes
to now. Ten replays an endpoint can be under way.`,
		Example: `  keyledger webhook replay acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --from-time -2h
  keyledger webhook replay acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --from-position 0:40 --to-position 0:42.3 --events 'credit.*'`,
		Args: arguments("ACCOUNT", "ENDPOINT"),
	}, func(cmd *cobra.Command, args []string) error {
		body, err := f.body(args[1], time.Now())
		if err != nil {
			return err
		}
		return a.command(cmd, args[0], "endpoint.replay", body, a.showReplay)
	})
	flags := c.Flags()
	flags.StringVar(&f.fromPosition, "from-position", "", "first `POSITION`, such as 0:42.0 or 0:42")
	flags.StringVar(&f.toPosition, "to-position", "", "last `POSITION`, included")
	flags.StringVar(&f.fromTime, "from-time", "", "`WHEN` to begin: "+whenText)
	flags.StringVar(&f.toTime, "to-time", "", endIncluded)
	withDefault(flags, "to-time", "now")
	flags.StringSliceVar(&f.events, "events", nil, "`FILTER` of events: a type such as credit.debited, credit.* or *; repeatable")
	withDefault(flags, "events", "what it subscribes to")
	completeWith(c, "events", eventTypes())
	requireOne(c, "from-position", "from-time")
	exclusive(c, "from-position", "from-time")
	exclusive(c, "to-position", "to-time")
	return withID(c)
}

// body checks the flags and is the command's body.
func (f *replayRange) body(endpoint string, now time.Time) (*ledger.ReplayEndpoint, error) {
	body := &ledger.ReplayEndpoint{Endpoint: endpoint, From: f.fromPosition, To: f.toPosition, Events: f.events}
	if _, err := position("from-position", f.fromPosition); err != nil {
		return nil, err
	}
	if _, err := position("to-position", f.toPosition); err != nil {
		return nil, err
	}
	var err error
	if body.FromTime, err = parseAnyTime("from-time", f.fromTime, now); err != nil {
		return nil, err
	}
	body.ToTime, err = parseAnyTime("to-time", f.toTime, now)
	return body, err
}

func (a *app) showReplay(reply *client.Reply) error {
	var out struct {
		Replay events.Replay `json:"replay"`
	}
	return a.show(reply, &out, func(t *table) {
		r := &out.Replay
		t.row("replay", r.ID)
		t.row("endpoint", r.Endpoint)
		from, to := r.From, r.To
		if from == "" {
			from = r.FromTime.String()
		}
		if to == "" {
			to = when(r.ToTime, "now")
		}
		t.row("from", from)
		t.row("to", to)
		t.row("events", list(r.Events, "what it subscribes to"))
	})
}
