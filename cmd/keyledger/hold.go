package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

func holdCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "hold",
		Short: "Set credits aside, and take or give them back later",
		Example: `  keyledger hold place acme 500 --expires-in 15m
  keyledger hold capture acme hold_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --amount 320
  keyledger hold release acme hold_01J8Z5T0XKQ4R7N2M3V6W9Y1AB`,
	}, holdPlace(a), holdCapture(a), holdRelease(a), holdList(a))
}

func holdPlace(a *app) *cobra.Command {
	var body ledger.PlaceHold
	var expiresIn time.Duration
	c := a.verb(&cobra.Command{
		Use:   "place ACCOUNT AMOUNT",
		Short: "Set credits aside",
		Long: `Set credits aside: they are not available until the hold is captured or released, or its
time is over.`,
		Example: `  keyledger hold place acme 500
  keyledger hold place acme 2000 --asset usd --expires-in 168h --reference "order 7"`,
		Args: arguments("ACCOUNT", "AMOUNT"),
	}, func(cmd *cobra.Command, args []string) (err error) {
		if body.Amount, err = parseAmount(args[1]); err != nil {
			return err
		}
		body.ExpiresIn = expiresIn.String()
		return a.command(cmd, args[0], "hold.place", body, a.showHold)
	})
	environmentFlag(c, &body.Environment)
	assetFlag(c, &body.Asset)
	c.Flags().DurationVar(&expiresIn, "expires-in", time.Hour, "`DURATION` after which it is given back")
	c.Flags().StringVar(&body.Key, "key", "", "`KEY` it is for")
	c.Flags().StringVar(&body.Reference, "reference", "", "`TEXT` of your own, such as an order's number")
	return withID(c)
}

func holdCapture(a *app) *cobra.Command {
	var amount int64
	c := a.verb(&cobra.Command{
		Use:   "capture ACCOUNT HOLD",
		Short: "Take what is held, or a part of it",
		Long:  "Take what is held, or a part of it. What is left stays held, to be captured again or released.",
		Example: `  keyledger hold capture acme hold_01J8Z5T0XKQ4R7N2M3V6W9Y1AB
  keyledger hold capture acme hold_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --amount 320`,
		Args: arguments("ACCOUNT", "HOLD"),
	}, func(cmd *cobra.Command, args []string) error {
		body := ledger.CaptureHold{Hold: args[1]}
		if cmd.Flags().Changed("amount") {
			body.Amount = &amount
		}
		return a.command(cmd, args[0], "hold.capture", body, a.showHold)
	})
	c.Flags().Int64Var(&amount, "amount", 0, "`AMOUNT` to take, in the asset's smallest unit")
	withDefault(c.Flags(), "amount", "all that is held")
	return withID(c)
}

func holdRelease(a *app) *cobra.Command {
	return withID(a.verb(&cobra.Command{
		Use:     "release ACCOUNT HOLD",
		Short:   "Give back what is still held",
		Example: "  keyledger hold release acme hold_01J8Z5T0XKQ4R7N2M3V6W9Y1AB",
		Args:    arguments("ACCOUNT", "HOLD"),
	}, func(cmd *cobra.Command, args []string) error {
		return a.command(cmd, args[0], "hold.release", ledger.ReleaseHold{Hold: args[1]}, a.showHold)
	}))
}

func (a *app) showHold(reply *client.Reply) error {
	var out client.Held
	return a.show(reply, &out, func(t *table) {
		holdRows(t, &out.Hold)
		if p := out.Capture; p != nil {
			t.row("debit", p.Debit)
			drawRows(t, "drawn from", p.Drawn)
		}
		drawRows(t, "returned to", out.Returned)
		drawRows(t, "gone with", out.Lapsed)
		balanceRows(t, out.Balance)
	})
}

func holdRows(t *table, h *events.Hold) {
	t.row("hold", h.ID)
	t.row("status", h.Status)
	t.row("amount", h.Amount)
	t.row("captured", h.Captured)
	t.row("still held", h.Held)
	t.row("expires", h.ExpiresAt)
}
