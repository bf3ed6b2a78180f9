package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/client"
)

// deliveryFlags are the filters of webhook deliveries as they were given.
type deliveryFlags struct {
	page                                               pageFlags
	endpoint, status, eventType, key, replay, from, to string
}

func webhookDeliveries(a *app) *cobra.Command {
	var f deliveryFlags
	c := a.verb(&cobra.Command{
		Use:   "deliveries ACCOUNT",
		Short: "List deliveries: which events were owed to an endpoint and what became of them",
		Long: `List deliveries: what is pending first, newest event first, then what was delivered or is
dead, newest attempt first. Of what is pending the next of each endpoint are listed.
Attempts are recorded for 30 days; what died longer ago is not listed any more, and can
still be sent again (webhook retry, webhook replay).

The time that --from and --to speak of is that of the last attempt. A page looks at so many
deliveries and may be empty although more follow: go on with its cursor.`,
		Example: `  keyledger webhook deliveries acme --status pending
  keyledger webhook deliveries acme --endpoint endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --status dead --from -24h
  keyledger webhook deliveries acme --type 'credit.*' --key key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB
  keyledger webhook deliveries acme --replay replay_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --json`,
		Args: arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		body, err := f.body(time.Now())
		if err != nil {
			return err
		}
		return a.query(cmd, args[0], "delivery.list", body, func(reply *client.Reply) error {
			var out deliveries
			return a.show(reply, &out, out.rows)
		})
	})
	flags := c.Flags()
	flags.StringVar(&f.endpoint, "endpoint", "", "only those to this `ENDPOINT`")
	flags.StringVar(&f.status, "status", "", "only those delivered, pending or dead")
	flags.StringVar(&f.eventType, "type", "", "only of this `TYPE` of event, such as credit.debited, or a filter such as 'credit.*'")
	flags.StringVar(&f.key, "key", "", "only of events about this `KEY`")
	flags.StringVar(&f.replay, "replay", "", "only those of this `REPLAY`")
	flags.StringVar(&f.from, "from", "", "`WHEN` the last attempt was, not before: "+whenText)
	flags.StringVar(&f.to, "to", "", endLeftOut)
	completeWith(c, "status", []string{"delivered", "pending", "dead"})
	completeWith(c, "type", eventTypes())
	f.page.add(c)
	return c
}

// body is the query's body.
func (f *deliveryFlags) body(now time.Time) (map[string]any, error) {
	body := f.page.body(map[string]string{
		"endpoint": f.endpoint, "status": f.status, "type": f.eventType, "key": f.key, "replay": f.replay,
	})
	for _, end := range []struct{ flag, name, text string }{{"from", "from_time", f.from}, {"to", "to_time", f.to}} {
		at, err := parseAnyTime(end.flag, end.text, now)
		if err != nil {
			return nil, err
		}
		if at != 0 {
			body[end.name] = at
		}
	}
	return body, nil
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
	Position      string      `json:"position"`
	Sequence      string      `json:"sequence"`
	Key           string      `json:"key"`
	Replay        *string     `json:"replay"`
	LastAttemptAt events.Time `json:"last_attempt_at"`
	NextAttemptAt events.Time `json:"next_attempt_at"`
	StatusCode    *int        `json:"status_code"`
	Error         *string     `json:"error"`
}

// answer is how the last attempt ended.
func (d *deliveryRow) answer() string {
	switch {
	case d.Error != nil:
		return *d.Error
	case d.StatusCode != nil:
		return strconv.Itoa(*d.StatusCode)
	}
	return "-"
}

func (out *deliveries) rows(t *table) {
	t.row("EVENT", "TYPE", "STATUS", "ATTEMPTS", "LAST ANSWER", "LAST TRY", "NEXT TRY", "ENDPOINT", "REPLAY")
	for i := range out.Deliveries {
		d := &out.Deliveries[i]
		replay := "-"
		if d.Replay != nil {
			replay = *d.Replay
		}
		t.row(d.Event, d.Type, d.Status, d.Attempts, d.answer(), when(d.LastAttemptAt, "-"), when(d.NextAttemptAt, "-"), d.Endpoint, replay)
	}
	if out.Pending > 0 {
		t.notes = append(t.notes, grouped(int64(out.Pending))+" deliveries are pending in all")
	}
	t.more(out.NextCursor)
}

// webhookShow is a verb of the group webhook.
func webhookShow(a *app) *cobra.Command {
	var response bool
	c := a.verb(&cobra.Command{
		Use:   "show ACCOUNT ENDPOINT EVENT",
		Short: "Show what became of one event at one endpoint, attempt by attempt",
		Long: `Show what became of one event at one endpoint, attempt by attempt, oldest first. EVENT is
the event's id, which is the webhook-id of the delivery. Times are in milliseconds; on a
connection that was open already there is no dns, connect and tls. Attempts are recorded for
30 days; of what was settled before that only is known that it is.`,
		Example: `  keyledger webhook show acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB 01J8Z5T0XKQ4R7N2M3V6W9Y1AB
  keyledger webhook show acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB 01J8Z5T0XKQ4R7N2M3V6W9Y1AB --response`,
		Args: arguments("ACCOUNT", "ENDPOINT", "EVENT"),
	}, func(cmd *cobra.Command, args []string) error {
		body := map[string]string{"endpoint": args[1], "event": args[2]}
		return a.query(cmd, args[0], "delivery.get", body, func(reply *client.Reply) error {
			var out struct {
				Delivery shownDelivery `json:"delivery"`
			}
			return a.show(reply, &out, func(t *table) { out.Delivery.rows(t, args[0], response) })
		})
	})
	c.Flags().BoolVar(&response, "response", false, "show the beginning of each answer's body too")
	return c
}

// shownDelivery is the reply of delivery.get.
type shownDelivery struct {
	deliveryRow
	Log []struct {
		Attempt    int64       `json:"attempt"`
		Time       events.Time `json:"time"`
		Outcome    string      `json:"outcome"`
		StatusCode *int        `json:"status_code"`
		Phase      string      `json:"phase"`
		Error      string      `json:"error"`
		Response   string      `json:"response"`
		Replay     string      `json:"replay"`
		Duration   struct {
			DNS       float64 `json:"dns"`
			Connect   float64 `json:"connect"`
			TLS       float64 `json:"tls"`
			FirstByte float64 `json:"first_byte"`
			Total     float64 `json:"total"`
		} `json:"duration_ms"`
		NextAttemptAt events.Time `json:"next_attempt_at"`
	} `json:"attempts_log"`
	Complete bool `json:"attempts_log_complete"`
}

func (d *shownDelivery) rows(t *table, account string, response bool) {
	t.row("event", d.Event)
	t.row("type", d.Type)
	t.row("position", d.Position)
	t.row("endpoint", d.Endpoint)
	t.row("sequence", orDash(d.Sequence))
	if d.Key != "" {
		t.row("key", d.Key)
	}
	t.row("status", d.Status)
	t.row("attempts", d.Attempts)
	t.row("last answer", d.answer())
	t.row("next try", when(d.NextAttemptAt, "-"))
	t.row()
	t.row("TIME", "ATTEMPT", "OUTCOME", "STATUS", "PHASE", "ERROR", "DNS", "CONNECT", "TLS", "FIRST BYTE", "TOTAL", "NEXT TRY", "REPLAY")
	for i := range d.Log {
		r := &d.Log[i]
		status := "-"
		if r.StatusCode != nil {
			status = strconv.Itoa(*r.StatusCode)
		}
		ms := r.Duration
		t.row(r.Time, r.Attempt, r.Outcome, status, orDash(r.Phase), orDash(r.Error), ms.DNS, ms.Connect, ms.TLS, ms.FirstByte, ms.Total,
			when(r.NextAttemptAt, "-"), orDash(r.Replay))
	}
	for i := range d.Log {
		if r := &d.Log[i]; response && r.Response != "" {
			t.row()
			t.row("answer to attempt", r.Attempt)
			for line := range strings.Lines(r.Response) {
				t.row(strings.TrimRight(line, "\r\n"))
			}
		}
	}
	if !d.Complete {
		t.notes = append(t.notes, "so many attempts were made to this endpoint since that not all could be looked through; some of this event may be missing")
	}
	switch d.Status {
	case "dead":
		t.notes = append(t.notes, "send it again: keyledger webhook retry "+account+" "+d.Endpoint+" "+d.Event)
	case "settled":
		t.notes = append(t.notes, "there is no record any more of how it ended; send it again: keyledger webhook retry "+account+" "+d.Endpoint+" "+d.Event)
	}
}
