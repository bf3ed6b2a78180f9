package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/client"
)

func accessCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:     "access",
		Short:   "See requests that were refused or cost nothing",
		Example: "  keyledger access list acme\n  keyledger access list",
	}, accessList(a))
}

func accessList(a *app) *cobra.Command {
	var page pageFlags
	var key, code, from, to string
	c := a.verb(&cobra.Command{
		Use:   "list [ACCOUNT]",
		Short: "List refused and free requests, counted per key, code and minute, newest first",
		Long: `List refused and free requests, counted per key, code and minute, newest first. They take
no credits and are in no event; they are kept for 7 days. Without an
account, those with unknown secrets are listed, which have none.`,
		Example: `  keyledger access list acme --code ip_not_allowed
  keyledger access list acme --key key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --from -1h
  keyledger access list`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return arguments("ACCOUNT")(cmd, args)
		},
	}, func(cmd *cobra.Command, args []string) error {
		account := "_"
		if len(args) > 0 {
			account = args[0]
		}
		body := page.body(map[string]string{"key": key, "code": code})
		for _, limit := range []struct{ flag, name, text string }{{"from", "from_time", from}, {"to", "to_time", to}} {
			if limit.text == "" {
				continue
			}
			at, err := parseTime(limit.flag, limit.text, time.Now())
			if err != nil {
				return err
			}
			body[limit.name] = at
		}
		return a.query(cmd, account, "access.list", body, func(reply *client.Reply) error {
			var out accessRecords
			return a.show(reply, &out, out.rows)
		})
	})
	flags := c.Flags()
	flags.StringVar(&key, "key", "", "only those of this `KEY`")
	flags.StringVar(&code, "code", "", "only those answered with this `CODE`, such as ok or ip_not_allowed")
	flags.StringVar(&from, "from", "", "`WHEN` to begin: "+whenText)
	flags.StringVar(&to, "to", "", endLeftOut)
	page.add(c)
	return c
}

// accessRecords is the reply of access.list.
type accessRecords struct {
	Records []struct {
		Key     string      `json:"key"`
		Code    string      `json:"code"`
		Minute  events.Time `json:"minute"`
		Count   int64       `json:"count"`
		IP      string      `json:"ip"`
		Product string      `json:"product"`
		Access  string      `json:"access"`
	} `json:"records"`
	NextCursor *string `json:"next_cursor"`
}

func (out *accessRecords) rows(t *table) {
	t.row("MINUTE", "COUNT", "CODE", "LAST ADDRESS", "LAST PRODUCT", "KEY")
	for _, r := range out.Records {
		product := orDash(r.Product)
		if r.Access != "" {
			product += ":" + r.Access
		}
		t.row(r.Minute, grouped(r.Count), r.Code, orDash(r.IP), product, orDash(r.Key))
	}
	t.more(out.NextCursor)
}

// orDash writes a dash for what is not known.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
