package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/ledger/client"
)

func clockCommand(a *app) *cobra.Command {
	accept := a.verb(&cobra.Command{
		Use:   "accept",
		Short: "Take the server's clock as right after it jumped",
		Long: `While the server's wall clock is more than 5 s off what the time since its last look
says, or before the last commit at a start, every command is refused as unavailable:
one wrong clock would expire keys and reset allowances for good. "keyledger status"
shows how far it is off. Set the clock right and the ledger goes on by itself; where
the clock is right as it is (the machine was suspended, or the clock was wrong
before), accept it. Time in the ledger never goes back: after accepting a clock that is
behind, it stands still until the clock has passed the last commit.`,
		Example: "  keyledger clock accept",
		Args:    arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		return a.with(cmd, func(ctx context.Context, c *client.Client) error {
			reply, err := c.Command(ctx, "_", "ledger.accept_clock", nil)
			if err != nil {
				return err
			}
			var out struct {
				Clock struct {
					OffMS int64 `json:"accepted_off_ms"`
				} `json:"clock"`
			}
			return a.show(reply, &out, func(t *table) { t.row("accepted off (ms)", out.Clock.OffMS) })
		})
	})
	return group(&cobra.Command{
		Use: "clock", Short: "Accept the server's clock after it jumped", Example: "  keyledger clock accept",
	}, accept)
}
