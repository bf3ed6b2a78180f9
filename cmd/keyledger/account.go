package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

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
		accountOpen(a),
		accountReason(a, "suspend", "Refuse an account's requests until it is resumed", "account.suspend"),
		accountReason(a, "resume", "Let a suspended account work again", "account.resume"),
		accountSetProducts(a), accountEnable(a), accountSetPlan(a), accountGet(a), accountList(a),
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

func accountEnable(a *app) *cobra.Command {
	return withID(a.verb(&cobra.Command{
		Use:     "enable-environment ACCOUNT ENVIRONMENT",
		Short:   "Let an account use an environment: test or live",
		Example: "  keyledger account enable-environment acme live",
		Args:    arguments("ACCOUNT", "ENVIRONMENT"),
	}, func(cmd *cobra.Command, args []string) error {
		return a.command(cmd, args[0], "account.enable_environment", ledger.EnableEnvironment{Environment: args[1]}, a.showAccount)
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
	c := a.verb(&cobra.Command{
		Use:     "list",
		Short:   "List accounts",
		Example: "  keyledger account list --limit 500",
		Args:    arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		return a.query(cmd, "_", "account.list", page.body(nil), func(reply *client.Reply) error {
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

func planLine(p *events.Plan) string {
	if p == nil {
		return "-"
	}
	line := p.Name
	if p.Price.Default != nil {
		line += fmt.Sprintf(", %d %s a request", *p.Price.Default, p.Price.Asset)
	}
	if len(p.Price.Per) > 0 {
		line += fmt.Sprintf(" (%d prices of their own)", len(p.Price.Per))
	}
	if p.Rate != nil {
		line += fmt.Sprintf(", %d a second with bursts of %d", p.Rate.PerSecond, p.Rate.Burst)
	}
	return line
}

// planFlags are the terms of account set-plan.
type planFlags struct {
	file, name, asset string
	price             int64
	per               []string
	rate, burst, keys int64
}

func accountSetPlan(a *app) *cobra.Command {
	var f planFlags
	c := a.verb(&cobra.Command{
		Use:   "set-plan ACCOUNT",
		Short: "Set the terms an account buys under",
		Long: `Set the terms an account buys under: the full terms, of which none are kept from an
earlier plan. Give them as flags, or as JSON with --file.`,
		Example: `  keyledger account set-plan acme --name starter --price 100 --price-of payments:read=50 --rate 10 --burst 20
  keyledger account set-plan acme --file plan.json`,
		Args: arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		plan, err := f.plan(a.in)
		if err != nil {
			return err
		}
		return a.command(cmd, args[0], "account.set_plan", ledger.SetPlan{Plan: plan}, a.showAccount)
	})
	flags := c.Flags()
	flags.StringVar(&f.file, "file", "", "the plan as JSON, from a `FILE` or - for standard input")
	flags.StringVar(&f.name, "name", "", "the plan's `NAME`")
	flags.StringVar(&f.asset, "asset", "credits", "`ASSET` that requests are paid in")
	flags.Int64Var(&f.price, "price", 100, "what a request costs")
	flags.StringSliceVar(&f.per, "price-of", nil, "what requests of one kind cost, `PRODUCT:ACCESS=PRICE`; repeatable")
	flags.Int64Var(&f.rate, "rate", 0, "requests a second that one key may make; 0 for no limit")
	flags.Int64Var(&f.burst, "burst", 0, "requests that one key may make at once; 0 for as many as --rate")
	flags.Int64Var(&f.keys, "max-keys", 0, "keys the account may have; 0 for the ledger's own limit")
	c.MarkFlagsOneRequired("file", "name")
	c.MarkFlagsMutuallyExclusive("file", "name")
	return withID(c)
}

// plan puts the terms together.
func (f *planFlags) plan(in io.Reader) (*events.Plan, error) {
	if f.file != "" {
		return readPlan(f.file, in)
	}
	plan := &events.Plan{
		Name: f.name, MaxKeys: f.keys,
		Price: events.Price{Asset: f.asset, Default: &f.price, Per: map[string]int64{}},
	}
	for _, pair := range f.per {
		what, text, ok := strings.Cut(pair, "=")
		price, err := strconv.ParseInt(text, 10, 64)
		if !ok || err != nil {
			return nil, usagef("--price-of %q must be PRODUCT:ACCESS=PRICE, such as payments:read=50", pair)
		}
		plan.Price.Per[what] = price
	}
	if f.rate != 0 {
		plan.Rate = &events.Rate{PerSecond: f.rate, Burst: f.burst}
	} else if f.burst != 0 {
		return nil, usagef("--burst needs --rate")
	}
	return plan, nil
}

func readPlan(file string, in io.Reader) (*events.Plan, error) {
	const most = 64 << 10 // bytes, a command's limit
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the plan: %w", err)
		}
		defer f.Close()
		in = f
	}
	body, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	if len(body) > most {
		return nil, fmt.Errorf("read the plan %s: more than %d bytes", file, most)
	}
	plan := new(events.Plan)
	if err := events.DecodeStrict(body, plan); err != nil {
		return nil, fmt.Errorf("read the plan %s: %w", file, err)
	}
	return plan, nil
}
