package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
)

// newCredential is the body of creds.create.
type newCredential struct {
	Name      string      `json:"name"`
	Role      string      `json:"role"`
	Account   string      `json:"account,omitempty"`
	PublicKey string      `json:"public_key"`
	Inbox     string      `json:"inbox"`
	ExpiresAt events.Time `json:"expires_at"`

	seed []byte
	out  string // the file it is in, "" for none
}

func credsCreate(a *app) *cobra.Command {
	var body newCredential
	var expires string
	c := a.verb(&cobra.Command{
		Use:   "create NAME",
		Short: "Make a credential and show its seed, once",
		Long: `Make a credential and show its seed, once. Whoever has the seed connects with it: here with
--creds FILE, elsewhere with any NATS client that takes an nkey seed and an inbox prefix.
The seed is made here; keyledger gets the public key and the inbox.

The credential works at once. It is kept in the server's data directory, not in the log,
and is in no export.`,
		Example: `  keyledger creds create books --role reader --account acme --out books.nk
  keyledger creds create dashboard --role reader --expires 720h
  keyledger creds create gateway-1 --role gateway --out gateway-1.nk
  keyledger creds create acme-portal --role customer --account acme --out portal.nk`,
		Args: arguments("NAME"),
	}, func(cmd *cobra.Command, args []string) error {
		body.Name = args[0]
		if expires != "" {
			at, err := parseTime("expires", expires, time.Now())
			if err != nil {
				return err
			}
			body.ExpiresAt = at
		}
		err := a.with(cmd, func(ctx context.Context, c *client.Client) error { return a.createCredential(ctx, c, &body) })
		return body.settle(err)
	})
	c.Flags().StringVar(&body.Role, "role", "", "`ROLE`: reader, gateway or customer")
	c.Flags().StringVar(&body.Account, "account", "", "`ACCOUNT` it is for; a reader without one reads all")
	c.Flags().StringVar(&expires, "expires", "", "`WHEN`: it stops working then: a date, a time, or a duration from now such as 720h")
	c.Flags().StringVar(&body.out, "out", "", "`FILE` for the seed, which must not be there yet (mode 0600)")
	withDefault(c.Flags(), "out", "it is shown, once")
	require(c, "role")
	roles := []string{server.RoleReader, server.RoleGateway, server.RoleCustomer}
	if err := c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(roles, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // no such flag
	}
	c.ValidArgsFunction = cobra.NoFileCompletions
	return c
}

// createCredential makes a seed and has the server take its public half. The seed is in the
// file before the server hears of it: whatever happens to the answer, it is not lost.
func (a *app) createCredential(ctx context.Context, c *client.Client, body *newCredential) error {
	if err := body.makeSeed(); err != nil {
		return err
	}
	reply, err := c.Command(ctx, "_", "creds.create", body)
	if err != nil {
		return err
	}
	if reply.Body, err = body.complete(reply.Body); err != nil {
		return err
	}
	var out struct {
		Credential credential `json:"credential"`
	}
	return a.show(reply, &out, func(t *table) {
		out.Credential.rows(t)
		t.row("inbox prefix", store.InboxRoot+body.Inbox)
		if body.out != "" {
			t.row("seed in", body.out)
			return
		}
		t.row("seed", string(body.seed))
		t.notes = append(t.notes, "keep the seed now: it is shown only this once, and keyledger does not have it")
	})
}

func (n *newCredential) makeSeed() error {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return fmt.Errorf("make a seed: %w", err)
	}
	if n.PublicKey, err = pair.PublicKey(); err != nil {
		return fmt.Errorf("make a seed: %w", err)
	}
	if n.seed, err = pair.Seed(); err != nil {
		return fmt.Errorf("make a seed: %w", err)
	}
	if n.Inbox, err = store.InboxToken(pair.Sign); err != nil {
		return err
	}
	if n.out == "" {
		return nil
	}
	if err := writeNewFile(n.out, append(bytes.Clone(n.seed), '\n')); err != nil {
		n.out = "" // it is not ours
		return err
	}
	return nil
}

// complete adds to the server's answer what it does not know or tell: the inbox prefix, and
// the seed if it is in no file.
func (n *newCredential) complete(body []byte) ([]byte, error) {
	members := map[string]string{"inbox_prefix": store.InboxRoot + n.Inbox}
	if n.out == "" {
		members["seed"] = string(n.seed)
	}
	more, err := events.Encode(members)
	if err != nil {
		return nil, err
	}
	with := append(bytes.Clone(bytes.TrimSuffix(body, []byte("}"))), ',')
	return append(with, bytes.TrimPrefix(more, []byte("{"))...), nil
}

// settle removes the seed's file if there is certainly no credential of it.
func (n *newCredential) settle(err error) error {
	if err == nil || n.out == "" || len(n.seed) == 0 {
		return err
	}
	var refused *events.Error
	if errors.As(err, &refused) && refused.Code != events.OutcomeUnknown ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrPermissionViolation) {
		_ = os.Remove(n.out) // the refusal is what matters
		return err
	}
	return fmt.Errorf("%w; \"keyledger creds list\" tells whether there is a credential %s now: its seed is in %s", err, n.Name, n.out)
}
