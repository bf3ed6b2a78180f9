package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

func creditsCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:     "credits",
		Short:   "Grant, take, refund and move credits, and show balances",
		Example: "  keyledger credits grant acme 2000\n  keyledger credits balance acme",
	}, creditsGrant(a), creditsDebit(a), creditsAdjust(a), creditsTransfer(a), creditsRefund(a), creditsBalance(a), creditsStatement(a))
}

func creditsGrant(a *app) *cobra.Command {
	var body ledger.GrantCredit
	var expires string
	c := a.verb(&cobra.Command{
		Use:   "grant ACCOUNT AMOUNT",
		Short: "Add credits to a balance",
		Example: `  keyledger credits grant acme 2000
  keyledger credits grant acme 500 --environment live --category promotional --priority -10 --expires 720h --reference WELCOME`,
		Args: arguments("ACCOUNT", "AMOUNT"),
	}, func(cmd *cobra.Command, args []string) (err error) {
		if body.Amount, err = parseAmount(args[1]); err != nil {
			return err
		}
		if expires != "" {
			if body.ExpiresAt, err = parseTime("expires", expires, time.Now()); err != nil {
				return err
			}
		}
		return a.command(cmd, args[0], "credit.grant", body, func(reply *client.Reply) error {
			var out client.Granted
			return a.show(reply, &out, func(t *table) {
				t.row("grant", out.Grant.ID)
				t.row("amount", out.Grant.Amount)
				balanceRows(t, out.Balance)
			})
		})
	})
	flags := c.Flags()
	environmentFlag(c, &body.Environment)
	assetFlag(c, &body.Asset)
	flags.StringVar(&body.Grant, "grant", "", "`GRANT`: an id of your own, grant_ and a ULID, so that an invoice grants once")
	withDefault(flags, "grant", "a new one")
	flags.StringVar(&expires, "expires", "", "`WHEN`: what is left of it is gone then: a date, a time, or a duration from now such as 720h")
	flags.Int64Var(&body.Priority, "priority", 0, "low is drawn first")
	flags.StringVar(&body.Category, "category", events.Paid, "`CATEGORY`: paid or promotional")
	flags.StringVar(&body.Reference, "reference", "", "`TEXT` of your own, such as an invoice number")
	return withID(c)
}

func creditsDebit(a *app) *cobra.Command {
	var body ledger.DebitCredit
	c := a.verb(&cobra.Command{
		Use:     "debit ACCOUNT AMOUNT",
		Short:   "Take credits from a balance",
		Example: "  keyledger credits debit acme 250 --reference \"report 7\"",
		Args:    arguments("ACCOUNT", "AMOUNT"),
	}, func(cmd *cobra.Command, args []string) (err error) {
		if body.Amount, err = parseAmount(args[1]); err != nil {
			return err
		}
		return a.command(cmd, args[0], "credit.debit", body, func(reply *client.Reply) error {
			var out client.Debited
			return a.show(reply, &out, func(t *table) {
				t.row("debit", out.Debit.ID)
				t.row("amount", out.Debit.Amount)
				drawRows(t, "drawn from", out.Debit.Drawn)
				balanceRows(t, out.Balance)
			})
		})
	})
	environmentFlag(c, &body.Environment)
	assetFlag(c, &body.Asset)
	c.Flags().StringVar(&body.Key, "key", "", "`KEY` it was used with")
	c.Flags().StringVar(&body.Product, "product", "", "`PRODUCT` it paid")
	c.Flags().StringVar(&body.Reference, "reference", "", "`TEXT` of your own")
	return withID(c)
}

func creditsAdjust(a *app) *cobra.Command {
	var body ledger.AdjustCredit
	c := a.verb(&cobra.Command{
		Use:   "adjust ACCOUNT AMOUNT",
		Short: "Correct a balance",
		Long: `Correct a balance by a signed AMOUNT, for a reason that stays on record. It works for
suspended accounts and where the environment is off, and takes no balance below what it
may owe. A negative AMOUNT comes after "--".`,
		Example: `  keyledger credits adjust acme 250 --reason "outage of 3 May"
  keyledger credits adjust acme --reason "granted twice" -- -250`,
		Args: arguments("ACCOUNT", "AMOUNT"),
	}, func(cmd *cobra.Command, args []string) (err error) {
		if body.Amount, err = parseAmount(args[1]); err != nil {
			return err
		}
		return a.command(cmd, args[0], "credit.adjust", body, func(reply *client.Reply) error {
			var out client.Adjusted
			return a.show(reply, &out, func(t *table) {
				t.row("adjustment", out.Adjustment.ID)
				t.row("amount", out.Adjustment.Amount)
				t.row("reason", out.Adjustment.Reason)
				drawRows(t, "drawn from", out.Adjustment.Drawn)
				drawRows(t, "added to", out.Adjustment.Added)
				balanceRows(t, out.Balance)
			})
		})
	})
	environmentFlag(c, &body.Environment)
	assetFlag(c, &body.Asset)
	c.Flags().StringVar(&body.Reason, "reason", "", "`WHY`, for the record")
	require(c, "reason")
	return withID(c)
}

func creditsTransfer(a *app) *cobra.Command {
	var body ledger.TransferCredit
	c := a.verb(&cobra.Command{
		Use:     "transfer ACCOUNT TO AMOUNT",
		Short:   "Move credits to another account",
		Example: "  keyledger credits transfer acme globex 250 --reference \"contract 12\"",
		Args:    arguments("ACCOUNT", "TO", "AMOUNT"),
	}, func(cmd *cobra.Command, args []string) (err error) {
		body.To = args[1]
		if body.Amount, err = parseAmount(args[2]); err != nil {
			return err
		}
		return a.command(cmd, args[0], "credit.transfer", body, func(reply *client.Reply) error {
			var out client.Transferred
			return a.show(reply, &out, func(t *table) {
				t.row("transfer", out.Transfer.ID)
				t.row("to", out.Transfer.To)
				t.row("amount", out.Transfer.Amount)
				drawRows(t, "drawn from", out.Transfer.Drawn)
				balanceRows(t, out.Balance)
			})
		})
	})
	environmentFlag(c, &body.Environment)
	assetFlag(c, &body.Asset)
	c.Flags().StringVar(&body.Reference, "reference", "", "`TEXT` of your own, which both accounts see")
	return withID(c)
}

// drawRows says which grants an amount came from or went to.
func drawRows(t *table, what string, list []events.Draw) {
	for _, draw := range list {
		t.row(what, draw.Grant+": "+strconv.FormatInt(draw.Amount, 10))
	}
}

func creditsRefund(a *app) *cobra.Command {
	var body ledger.RefundCredit
	var amount int64
	c := a.verb(&cobra.Command{
		Use:   "refund ACCOUNT DEBIT",
		Short: "Give a debit back, or a part of it",
		Long: `Give a debit back, or a part of it: to the grants it was taken from, the last taken first, as far as
they have not expired, else to a new grant that does not expire. Together, the refunds of a debit
never come to more than it took.`,
		Example: `  keyledger credits refund acme debit_01J8Z5T0XKQ4R7N2M3V6W9Y1AB
  keyledger credits refund acme debit_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --amount 40 --reference "ticket 7"`,
		Args: arguments("ACCOUNT", "DEBIT"),
	}, func(cmd *cobra.Command, args []string) error {
		if body.Debit = args[1]; cmd.Flags().Changed("amount") {
			body.Amount = &amount
		}
		return a.command(cmd, args[0], "credit.refund", body, func(reply *client.Reply) error {
			var out client.Refunded
			return a.show(reply, &out, func(t *table) {
				t.row("refund", out.Refund.ID)
				t.row("amount", out.Refund.Amount)
				t.row("of debit", out.Refund.Debit)
				t.row("refunded of it", out.Refund.Refunded)
				drawRows(t, "returned to", out.Refund.Returned)
				balanceRows(t, out.Balance)
			})
		})
	})
	c.Flags().Int64Var(&amount, "amount", 0, "`N` credits, in the asset's smallest unit")
	withDefault(c.Flags(), "amount", "all that is left to refund")
	c.Flags().StringVar(&body.Reference, "reference", "", "`TEXT` of your own")
	return withID(c)
}

func creditsBalance(a *app) *cobra.Command {
	var environment, asset string
	var past momentFlags
	c := a.verb(&cobra.Command{
		Use:   "balance ACCOUNT",
		Short: "Show a balance, now or in the past",
		Example: `  keyledger credits balance acme --environment live
  keyledger credits balance acme --at-time 2026-01-31T23:59:59Z`,
		Args: arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		body := map[string]any{"environment": environment, "asset": asset}
		if err := past.fill(body); err != nil {
			return err
		}
		return a.query(cmd, args[0], "balance.get", body, func(reply *client.Reply) error {
			var out struct {
				Balance struct {
					events.Balance
					Grants []struct {
						ID        string      `json:"id"`
						Remaining int64       `json:"remaining"`
						ExpiresAt events.Time `json:"expires_at"`
					} `json:"grants"`
					Allowance struct {
						Amount    int64       `json:"amount"`
						Remaining int64       `json:"remaining"`
						ResetsAt  events.Time `json:"resets_at"`
					} `json:"allowance"`
				} `json:"balance"`
			}
			return a.show(reply, &out, func(t *table) {
				balanceRows(t, out.Balance.Balance)
				if p := out.Balance.Allowance; p.Amount > 0 {
					t.row("allowance", fmt.Sprintf("%d of %d, again at %s", p.Remaining, p.Amount, p.ResetsAt))
				}
				for _, g := range out.Balance.Grants {
					left := g.ID + ": " + strconv.FormatInt(g.Remaining, 10)
					if g.ExpiresAt != 0 {
						left += ", until " + g.ExpiresAt.String()
					}
					t.row("left of", left)
				}
			})
		})
	})
	environmentFlag(c, &environment)
	assetFlag(c, &asset)
	past.add(c)
	return c
}

func balanceRows(t *table, b events.Balance) {
	t.row("balance", b.Environment+" "+b.Asset)
	t.row("posted", b.Posted)
	t.row("held", b.Held)
	t.row("available", b.Available)
}

// parseAmount reads an amount. What amounts there may be, the ledger says.
func parseAmount(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, usagef("AMOUNT %q must be a whole number, in the asset's smallest unit", text)
	}
	return n, nil
}
