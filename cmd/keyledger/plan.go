package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

// planFlags are the terms of account set-plan.
type planFlags struct {
	file, name, asset     string
	price                 int64
	per                   []string
	rate, burst, keys     int64
	allowance, zone       string
	overdraft, par, terms []string
}

func accountSetPlan(a *app) *cobra.Command {
	var f planFlags
	c := a.verb(&cobra.Command{
		Use:   "set-plan ACCOUNT",
		Short: "Set the terms an account buys under",
		Long: `Set the terms an account buys under: the full terms, of which none are kept from an
earlier plan. Give them as flags, or as JSON with --file.

An allowance is there again at every period's start, at midnight in its time zone; of a
plan set in the middle of a period, what was spent in it is taken off.`,
		Example: `  keyledger account set-plan acme --name starter --price 100 --price-of payments:read=50 --rate 10 --burst 20
  keyledger account set-plan acme --name free --allowance 100000/day --time-zone Europe/Berlin
  keyledger account set-plan acme --name bank --asset usdc --asset-terms usd=fiat:2 --asset-terms usdc=crypto:6 --par usd=usdc --overdraft usdc=5000000
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
	flags.StringVar(&f.asset, "asset", "credits", "`ASSET` that requests are paid in, and the allowance is of")
	flags.Int64Var(&f.price, "price", 100, "what a request costs")
	flags.StringSliceVar(&f.per, "price-of", nil, "what requests of one kind cost, `PRODUCT:ACCESS=PRICE`; repeatable")
	flags.Int64Var(&f.rate, "rate", 0, "requests a second that one key may make; 0 for no limit")
	flags.Int64Var(&f.burst, "burst", 0, "requests that one key may make at once; 0 for as many as --rate")
	flags.Int64Var(&f.keys, "max-keys", 0, "keys the account may have; 0 for the ledger's own limit")
	flags.StringVar(&f.allowance, "allowance", "", "what is there again each day or month, `AMOUNT/PERIOD`")
	flags.StringVar(&f.zone, "time-zone", "UTC", "`ZONE` in whose midnight the allowance's period begins")
	flags.StringSliceVar(&f.overdraft, "overdraft", nil, "how far below zero an asset may go, `ASSET=LIMIT`; repeatable")
	flags.StringSliceVar(&f.par, "par", nil, "two assets that stand in for each other, `ASSET=ASSET`; repeatable")
	flags.StringSliceVar(&f.terms, "asset-terms", nil, "an asset's class (credits, fiat, crypto) and digits behind the point, `ASSET=CLASS:SCALE`; repeatable")
	requireOne(c, "file", "name")
	exclusive(c, "file", "name")
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
	if f.rate != 0 {
		plan.Rate = &events.Rate{PerSecond: f.rate, Burst: f.burst}
	} else if f.burst != 0 {
		return nil, usagef("--burst needs --rate")
	}
	if err := numbers("price-of", f.per, "payments:read=50", plan.Price.Per); err != nil {
		return nil, err
	}
	if f.allowance != "" {
		text, every, _ := strings.Cut(f.allowance, "/")
		amount, err := strconv.ParseInt(text, 10, 64)
		if err != nil || every != events.Day && every != events.Month {
			return nil, usagef("--allowance %q must be AMOUNT/day or AMOUNT/month, such as 100000/day", f.allowance)
		}
		plan.Allowance = &events.Allowance{Asset: f.asset, Amount: amount, Every: every, TimeZone: f.zone}
	}
	return plan, f.assets(plan)
}

// assets puts in what the flags say of assets.
func (f *planFlags) assets(plan *events.Plan) error {
	if len(f.overdraft) > 0 {
		plan.Overdraft = map[string]int64{}
	}
	if err := numbers("overdraft", f.overdraft, "credits=5000", plan.Overdraft); err != nil {
		return err
	}
	for _, text := range f.par {
		one, other, ok := strings.Cut(text, "=")
		if !ok {
			return usagef("--par %q must be ASSET=ASSET, such as usd=usdc", text)
		}
		plan.Par = append(plan.Par, []string{one, other})
	}
	for _, text := range f.terms {
		asset, terms, _ := strings.Cut(text, "=")
		class, scale, _ := strings.Cut(terms, ":")
		digits, err := strconv.ParseInt(scale, 10, 64)
		if err != nil {
			return usagef("--asset-terms %q must be ASSET=CLASS:SCALE, such as usd=fiat:2", text)
		}
		if plan.Assets == nil {
			plan.Assets = map[string]events.Asset{}
		}
		plan.Assets[asset] = events.Asset{Class: class, Scale: digits}
	}
	return nil
}

// numbers reads a flag's list of NAME=NUMBER into a map.
func numbers(flag string, list []string, example string, into map[string]int64) error {
	for _, pair := range list {
		what, text, ok := strings.Cut(pair, "=")
		n, err := strconv.ParseInt(text, 10, 64)
		if !ok || err != nil {
			return usagef("--%s %q must be NAME=NUMBER, such as %s", flag, pair, example)
		}
		into[what] = n
	}
	return nil
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
	if a := p.Allowance; a != nil {
		line += fmt.Sprintf(", %d %s every %s (%s)", a.Amount, a.Asset, a.Every, a.TimeZone)
	}
	for _, asset := range slices.Sorted(maps.Keys(p.Overdraft)) {
		line += fmt.Sprintf(", %d %s of overdraft", p.Overdraft[asset], asset)
	}
	for _, pair := range p.Par {
		line += ", " + strings.Join(pair, " for ")
	}
	return line
}
