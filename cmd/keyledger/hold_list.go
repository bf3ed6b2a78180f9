package main

import (
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/client"
)

// holdList is a verb of the group hold.
func holdList(a *app) *cobra.Command {
	var page pageFlags
	var environment, status, key string
	c := a.verb(&cobra.Command{
		Use:   "list ACCOUNT",
		Short: "List an account's holds",
		Long: `List an account's holds, oldest first: all that are open, and of those that are over the
last 100 that ended. "keyledger audit replay --type 'hold.*'" has all that ever were.`,
		Example: `  keyledger hold list acme --status open
  keyledger hold list acme --key key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB`,
		Args: arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		body := page.body(map[string]string{"environment": environment, "status": status, "key": key})
		return a.query(cmd, args[0], "hold.list", body, func(reply *client.Reply) error {
			var out listedHolds
			return a.show(reply, &out, out.rows)
		})
	})
	c.Flags().StringVar(&environment, "environment", "", "only those of test or of live")
	c.Flags().StringVar(&status, "status", "", "only those open, captured, released or expired")
	c.Flags().StringVar(&key, "key", "", "only those of this `KEY`")
	page.add(c)
	return c
}

// listedHolds is the reply of hold.list.
type listedHolds struct {
	Holds      []events.Hold `json:"holds"`
	NextCursor *string       `json:"next_cursor"`
}

func (out *listedHolds) rows(t *table) {
	t.row("HOLD", "ENVIRONMENT", "ASSET", "STATUS", "AMOUNT", "CAPTURED", "HELD", "EXPIRES", "KEY")
	for _, h := range out.Holds {
		key := h.Key
		if key == "" {
			key = "-"
		}
		t.row(h.ID, h.Environment, h.Asset, h.Status, h.Amount, h.Captured, h.Held, h.ExpiresAt, key)
	}
	t.more(out.NextCursor)
}
