package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

const (
	// completeTimeout is how long a completion waits for the server: somebody has pressed a key.
	completeTimeout = time.Second
	// completeMax is how many names are offered at the most.
	completeMax = 500
)

// completer offers what may stand for what was typed so far.
type completer = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// complete lets the server name the accounts, keys and endpoints that arguments and flags
// ask for, in all commands below c. Where there is no server, nothing is offered.
func (a *app) complete(c *cobra.Command) {
	for _, sub := range c.Commands() {
		a.complete(sub)
	}
	words := strings.Fields(c.Use)[1:]
	if c.ValidArgsFunction == nil && slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, "ACCOUNT") }) {
		c.ValidArgsFunction = a.argumentsOf(words)
	}
	if f := c.LocalFlags().Lookup("account"); f != nil {
		a.completeFlag(c, "account", a.accountNames)
	}
	if f := c.LocalFlags().Lookup("key"); f != nil && !strings.Contains(f.Usage, "public") {
		a.completeFlag(c, "key", func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if account, err := cmd.Flags().GetString("account"); err == nil {
				return a.keyNames(cmd, account, typed)
			}
			return a.keyNames(cmd, strings.Join(args[:min(len(args), 1)], ""), typed)
		})
	}
	if f := c.LocalFlags().Lookup("endpoint"); f != nil {
		a.completeFlag(c, "endpoint", func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			return a.endpointNames(cmd, strings.Join(args[:min(len(args), 1)], ""), typed)
		})
	}
}

func (a *app) completeFlag(c *cobra.Command, flag string, f completer) {
	if err := c.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // no such flag, or it has one
	}
}

// argumentsOf completes the arguments that a command's usage names.
func (a *app) argumentsOf(words []string) completer {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) < len(words) {
			switch strings.Trim(words[len(args)], "[]") {
			case "ACCOUNT", "TO":
				return a.accountNames(cmd, args, typed)
			case "KEY":
				return a.keyNames(cmd, args[0], typed)
			case "ENDPOINT":
				return a.endpointNames(cmd, args[0], typed)
			}
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// accountNames are accounts whose id begins with what was typed.
func (a *app) accountNames(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.names(cmd, ledgerItself, "account.list", typed, func(reply *client.Reply) (ids []string, cursor *string, err error) {
		var out struct {
			Accounts   []events.Account `json:"accounts"`
			NextCursor *string          `json:"next_cursor"`
		}
		err = reply.Decode(&out)
		for i := range out.Accounts {
			ids = append(ids, out.Accounts[i].ID+"\t"+plain(out.Accounts[i].Name))
		}
		return ids, out.NextCursor, err
	})
}

// keyNames are keys of an account whose id begins with what was typed, with their names.
func (a *app) keyNames(cmd *cobra.Command, account, typed string) ([]string, cobra.ShellCompDirective) {
	if !ledger.ValidAccount(account) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.names(cmd, account, "key.list", typed, func(reply *client.Reply) (ids []string, cursor *string, err error) {
		var out struct {
			Keys       []events.Key `json:"keys"`
			NextCursor *string      `json:"next_cursor"`
		}
		err = reply.Decode(&out)
		for i := range out.Keys {
			ids = append(ids, out.Keys[i].ID+"\t"+plain(out.Keys[i].Name))
		}
		return ids, out.NextCursor, err
	})
}

// endpointNames are endpoints of an account whose id begins with what was typed, with their
// URLs.
func (a *app) endpointNames(cmd *cobra.Command, account, typed string) ([]string, cobra.ShellCompDirective) {
	if !ledger.ValidAccount(account) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.names(cmd, account, "endpoint.list", typed, func(reply *client.Reply) (ids []string, cursor *string, err error) {
		var out struct {
			Endpoints  []events.Endpoint `json:"endpoints"`
			NextCursor *string           `json:"next_cursor"`
		}
		err = reply.Decode(&out)
		for i := range out.Endpoints {
			ids = append(ids, out.Endpoints[i].ID+"\t"+plain(out.Endpoints[i].URL))
		}
		return ids, out.NextCursor, err
	})
}

// names pages through a list, for a second at the most, and keeps what begins as typed.
func (a *app) names(cmd *cobra.Command, account, verb, typed string, read func(*client.Reply) ([]string, *string, error)) (found []string, _ cobra.ShellCompDirective) {
	if applyEnvironment(cmd.Flags()) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	a.timeout = min(a.timeout, completeTimeout)
	body := pageBody("")
	_ = a.with(cmd, func(ctx context.Context, c *client.Client) error { // what was found before an error is right
		for len(found) < completeMax {
			reply, err := c.Query(ctx, account, verb, body)
			if err != nil {
				return err
			}
			names, cursor, err := read(reply)
			if err != nil {
				return err
			}
			for _, name := range names {
				if strings.HasPrefix(name, typed) {
					found = append(found, name)
				}
			}
			if cursor == nil || *cursor == "" {
				return nil
			}
			body = pageBody(*cursor)
		}
		return nil
	})
	return found[:min(len(found), completeMax)], cobra.ShellCompDirectiveNoFileComp
}
