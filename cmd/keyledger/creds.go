package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
)

func credsCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "creds",
		Short: "Let others connect, with less than the operator's rights",
		Long: `Let others connect, with less than the operator's rights. What a credential may do besides
hearing its own answers and signed checkpoints is its role's:

  reader    ask queries, of one account or of all: an accounting tool, a dashboard
  gateway   authorize requests
  customer  of one account: its keys and webhook endpoints, queries, and its feed

A credential is an nkey seed. keyledger has the public key only; whoever has the seed is it.`,
		Example: "  keyledger creds create books --role reader --account acme --out books.nk\n  keyledger creds list",
	}, credsCreate(a), credsList(a), credsRevoke(a))
}

// credential is what is shown of one.
type credential struct {
	Name      string      `json:"name"`
	Role      string      `json:"role"`
	Account   *string     `json:"account"`
	Status    string      `json:"status"`
	PublicKey string      `json:"public_key"`
	CreatedAt events.Time `json:"created_at"`
	ExpiresAt events.Time `json:"expires_at"`
	Consumer  string      `json:"consumer"`
	Closed    int         `json:"connections_closed"`
}

// of is the account for people.
func (c *credential) of() string {
	if c.Account == nil {
		return "all"
	}
	return *c.Account
}

func (c *credential) rows(t *table) {
	t.row("credential", c.Name)
	t.row("role", c.Role)
	t.row("account", c.of())
	t.row("status", c.Status)
	t.row("expires", when(c.ExpiresAt, "never"))
	t.row("created", c.CreatedAt)
	t.row("public key", c.PublicKey)
	if c.Consumer != "" {
		t.row("consumer", c.Consumer)
	}
}

func credsList(a *app) *cobra.Command {
	var page pageFlags
	c := a.verb(&cobra.Command{
		Use:     "list",
		Short:   "List credentials; the operator's own is not among them",
		Example: "  keyledger creds list",
		Args:    arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		return a.with(cmd, func(ctx context.Context, c *client.Client) error {
			reply, err := c.Query(ctx, "_", "creds.list", page.body(nil))
			if err != nil {
				return err
			}
			var out struct {
				Credentials []credential `json:"credentials"`
				NextCursor  *string      `json:"next_cursor"`
			}
			return a.show(reply, &out, func(t *table) {
				t.row("NAME", "ROLE", "ACCOUNT", "STATUS", "EXPIRES", "PUBLIC KEY")
				for _, c := range out.Credentials {
					t.row(c.Name, c.Role, c.of(), c.Status, when(c.ExpiresAt, "never"), c.PublicKey)
				}
				t.more(out.NextCursor)
			})
		})
	})
	page.add(c)
	return c
}

func credsRevoke(a *app) *cobra.Command {
	var yes bool
	c := a.verb(&cobra.Command{
		Use:   "revoke NAME",
		Short: "Shut a credential out, and close its connections at once",
		Long: `Shut a credential out, and close its connections at once. Its consumer of the feed is deleted.
What it sent before is carried out. It asks for the word DELETE on standard input, or for --yes.`,
		Example: "  keyledger creds revoke books\n  keyledger creds revoke books --yes",
		Args:    arguments("NAME"),
	}, func(cmd *cobra.Command, args []string) error {
		if !yes {
			if err := a.confirm(fmt.Sprintf("Nobody will connect with credential %s any more.", args[0])); err != nil {
				return err
			}
		}
		return a.with(cmd, func(ctx context.Context, c *client.Client) error {
			reply, err := c.Command(ctx, "_", "creds.revoke", map[string]string{"name": args[0]})
			if err != nil {
				return err
			}
			var out struct {
				Credential credential `json:"credential"`
			}
			return a.show(reply, &out, func(t *table) {
				t.row("credential", out.Credential.Name)
				t.row("status", "revoked")
				t.row("connections closed", out.Credential.Closed)
			})
		})
	})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.ValidArgsFunction = a.completeCredentials
	return c
}

// completeCredentials knows the names of credentials, if the server answers.
func (a *app) completeCredentials(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) > 0 || applyEnvironment(cmd.Flags()) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	err := a.with(cmd, func(ctx context.Context, c *client.Client) error {
		reply, err := c.Query(ctx, "_", "creds.list", map[string]int{"limit": server.CredentialsPageMax})
		if err != nil {
			return err
		}
		var out struct {
			Credentials []credential `json:"credentials"`
		}
		if err := reply.Decode(&out); err != nil {
			return err
		}
		for _, c := range out.Credentials {
			names = append(names, cobra.CompletionWithDesc(c.Name, c.Role+" of "+c.of()))
		}
		return nil
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
