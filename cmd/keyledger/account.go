package main

import (
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

func accountCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:     "account",
		Short:   "Open accounts and set what they may do",
		Example: "  keyledger account open acme --name \"Acme Inc.\"\n  keyledger account list",
	},
		accountOpen(a), accountUpdate(a),
		accountReason(a, "suspend", "Refuse an account's requests until it is resumed", "account.suspend"),
		accountReason(a, "resume", "Let a suspended account work again", "account.resume"),
		accountClose(a), accountSetProducts(a),
		accountEnvironment(a, "enable-environment", "Let an account use an environment: test or live", "account.enable_environment"),
		accountEnvironment(a, "disable-environment", "Refuse all requests in an environment: test or live", "account.disable_environment"),
		accountSetPlan(a), accountGet(a), accountList(a),
	)
}

func accountOpen(a *app) *cobra.Command {
	var name, metadata string
	c := a.verb(&cobra.Command{
		Use:     "open ACCOUNT",
		Short:   "Open an account",
		Long:    "Open an account. Its environment test works at once; live does not until it is enabled and has products.",
		Example: "  keyledger account open acme --name \"Acme Inc.\" --metadata '{\"crm\":\"4711\"}'",
		Args:    arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		object, err := parseObject("metadata", metadata)
		if err != nil {
			return err
		}
		return a.command(cmd, args[0], "account.open", ledger.OpenAccount{Name: name, Metadata: object}, a.showAccount)
	})
	c.Flags().StringVar(&name, "name", "", "`NAME` for people")
	c.Flags().StringVar(&metadata, "metadata", "", "`JSON` object of your own")
	return withID(c)
}

func accountReason(a *app, use, short, verb string) *cobra.Command {
	var reason string
	c := a.verb(&cobra.Command{
		Use:     use + " ACCOUNT",
		Short:   short,
		Example: "  keyledger account " + use + " acme --reason \"invoice 2026-07\"",
		Args:    arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		return a.command(cmd, args[0], verb, map[string]string{"reason": reason}, a.showAccount)
	})
	c.Flags().StringVar(&reason, "reason", "", "`WHY`, for the record")
	return withID(c)
}

func accountSetProducts(a *app) *cobra.Command {
	var environment string
	c := a.verb(&cobra.Command{
		Use:     "set-products ACCOUNT [PRODUCT...]",
		Short:   "Set the products an account may use in an environment",
		Long:    "Set the products an account may use in an environment, all of them at once. Without a product it may use none.",
		Example: "  keyledger account set-products acme payments search --environment live",
		Args: func(cmd *cobra.Command, args []string) error {
			return arguments("ACCOUNT")(cmd, args[:min(len(args), 1)])
		},
	}, func(cmd *cobra.Command, args []string) error {
		products := args[1:]
		return a.command(cmd, args[0], "account.set_products",
			ledger.SetProducts{Environment: environment, Products: &products}, a.showAccount)
	})
	environmentFlag(c, &environment)
	return withID(c)
}

func accountEnvironment(a *app, use, short, verb string) *cobra.Command {
	return withID(a.verb(&cobra.Command{
		Use:     use + " ACCOUNT ENVIRONMENT",
		Short:   short,
		Example: "  keyledger account " + use + " acme live",
		Args:    arguments("ACCOUNT", "ENVIRONMENT"),
	}, func(cmd *cobra.Command, args []string) error {
		return a.command(cmd, args[0], verb, map[string]string{"environment": args[1]}, a.showAccount)
	}))
}

func accountGet(a *app) *cobra.Command {
	return a.verb(&cobra.Command{
		Use:     "get ACCOUNT",
		Short:   "Show an account",
		Example: "  keyledger account get acme",
		Args:    arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		return a.query(cmd, args[0], "account.get", nil, a.showAccount)
	})
}

func accountList(a *app) *cobra.Command {
	var page pageFlags
	var status string
	c := a.verb(&cobra.Command{
		Use:     "list",
		Short:   "List accounts",
		Example: "  keyledger account list --status closed --limit 500",
		Args:    arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		return a.query(cmd, "_", "account.list", page.body(map[string]string{"status": status}), func(reply *client.Reply) error {
			var out struct {
				Accounts   []events.Account `json:"accounts"`
				NextCursor *string          `json:"next_cursor"`
			}
			return a.show(reply, &out, func(t *table) {
				t.row("ACCOUNT", "STATUS", "TEST", "LIVE", "PLAN", "NAME")
				for _, x := range out.Accounts {
					t.row(x.ID, x.Status, onOff(x.Environments.Test), onOff(x.Environments.Live), planName(x.Plan), x.Name)
				}
				t.more(out.NextCursor)
			})
		})
	})
	c.Flags().StringVar(&status, "status", "", "only those active, suspended or closed")
	page.add(c)
	return c
}

func (a *app) showAccount(reply *client.Reply) error {
	var out struct {
		Account events.Account `json:"account"`
	}
	return a.show(reply, &out, func(t *table) {
		x := out.Account
		t.row("account", x.ID)
		t.row("name", x.Name)
		t.row("status", withReason(x.Status, x.Reason))
		t.row("test", environmentLine(x.Environments.Test, "any"))
		t.row("live", environmentLine(x.Environments.Live, "none"))
		t.row("plan", planLine(x.Plan))
		if len(x.Thresholds) > 0 {
			texts := make([]string, len(x.Thresholds))
			for i := range texts {
				texts[i] = thresholdText(x.Thresholds[i])
			}
			t.row("told below", list(texts, "-"))
		}
		t.row("opened", x.CreatedAt)
	})
}

func withReason(status, reason string) string {
	if reason == "" {
		return status
	}
	return status + ": " + reason
}

func onOff(e events.Environment) string {
	if e.Enabled {
		return "on"
	}
	return "off"
}

func environmentLine(e events.Environment, neverSet string) string {
	if e.Products != nil {
		neverSet = "none"
	}
	return onOff(e) + ", products: " + list(e.Products, neverSet)
}

func planName(p *events.Plan) string {
	if p == nil {
		return "-"
	}
	return p.Name
}
