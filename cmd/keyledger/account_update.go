package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

func accountUpdate(a *app) *cobra.Command {
	var f accountFlags
	c := a.verb(&cobra.Command{
		Use:   "update ACCOUNT",
		Short: "Change an account's name, metadata or thresholds",
		Long: `Change an account. Only what is given changes. The event balance.low tells when a balance
falls below a threshold: an amount, or a percentage of the plan's allowance. The thresholds
given replace those there are; an empty --threshold takes all away.`,
		Example: `  keyledger account update acme --name "Acme Ltd."
  keyledger account update acme --threshold credits=1000 --threshold live/usd=20%`,
		Args: arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		body, err := f.update(cmd)
		if err != nil {
			return err
		}
		return a.command(cmd, args[0], "account.update", body, a.showAccount)
	})
	flags := c.Flags()
	flags.StringVar(&f.name, "name", "", "`NAME` for people")
	flags.StringVar(&f.metadata, "metadata", "", "`JSON` object of your own")
	flags.StringSliceVar(&f.thresholds, "threshold", nil, "`[ENVIRONMENT/]ASSET=MARK`: an amount, or a percentage such as 20%; repeatable")
	requireOne(c, "name", "metadata", "threshold")
	return withID(c)
}

// accountFlags are those of account update.
type accountFlags struct {
	name, metadata string
	thresholds     []string
}

// update is the body of account.update: what was given, and nothing else.
func (f *accountFlags) update(cmd *cobra.Command) (*ledger.UpdateAccount, error) {
	body := new(ledger.UpdateAccount)
	given := cmd.Flags().Changed
	if given("name") {
		body.Name = &f.name
	}
	if given("metadata") {
		object, err := parseObject("metadata", f.metadata)
		if err != nil {
			return nil, err
		}
		body.Metadata = events.Some(object)
	}
	if given("threshold") {
		list := make([]events.Threshold, len(f.thresholds))
		for i, text := range f.thresholds {
			var err error
			if list[i], err = parseThreshold(text); err != nil {
				return nil, err
			}
		}
		body.Thresholds = events.Some(list)
	}
	return body, nil
}

// parseThreshold reads [ENVIRONMENT/]ASSET=MARK.
func parseThreshold(text string) (t events.Threshold, err error) {
	name, mark, ok := strings.Cut(text, "=")
	if environment, asset, both := strings.Cut(name, "/"); both {
		t.Environment, name = environment, asset
		ok = ok && environment != ""
	}
	t.Asset = name
	to := &t.Amount
	if percent, is := strings.CutSuffix(mark, "%"); is {
		mark, to = percent, &t.Percent
	}
	*to, err = strconv.ParseInt(mark, 10, 64)
	if !ok || err != nil {
		return t, usagef("--threshold %q must be [ENVIRONMENT/]ASSET=MARK, such as credits=1000 or live/usd=20%%", text)
	}
	return t, nil
}

// thresholdText writes a threshold as --threshold takes it.
func thresholdText(t events.Threshold) string {
	mark := strconv.FormatInt(t.Amount, 10)
	if t.Percent > 0 {
		mark = fmt.Sprintf("%d%%", t.Percent)
	}
	if t.Environment != "" {
		return t.Environment + "/" + t.Asset + "=" + mark
	}
	return t.Asset + "=" + mark
}

func accountClose(a *app) *cobra.Command {
	var reason string
	var yes bool
	c := a.verb(&cobra.Command{
		Use:   "close ACCOUNT",
		Short: "Close an account, for ever",
		Long:  "Close an account. This is final: its keys never work again and its balances stay as they are. It asks for the word DELETE on standard input, or for --yes.",
		Example: `  keyledger account close acme --reason "contract ended"
  keyledger account close acme --reason "contract ended" --yes`,
		Args: arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		if !yes {
			if err := a.confirm(fmt.Sprintf("Account %s will never work again.", args[0])); err != nil {
				return err
			}
		}
		return a.command(cmd, args[0], "account.close", ledger.CloseAccount{Reason: reason}, a.showAccount)
	})
	c.Flags().StringVar(&reason, "reason", "", "`WHY`, for the record")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return withID(c)
}
