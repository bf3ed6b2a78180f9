package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

func keyCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:     "key",
		Short:   "Create, restrict, rotate and revoke API keys",
		Example: "  keyledger key create acme --name backend --environment test\n  keyledger key list acme",
	},
		keyCreate(a), keyImport(a), keyUpdate(a), keyRotate(a),
		keyReason(a, "disable", "Refuse a key's requests until it is enabled", "key.disable"),
		keyReason(a, "enable", "Let a disabled key work again", "key.enable"),
		keyRevoke(a), keyGet(a), keyList(a),
	)
}

// keyFlags are what key create and key update share.
type keyFlags struct {
	name, expires, metadata string
	ips, permissions        []string
}

func (f *keyFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.name, "name", "", "`NAME` for people")
	flags.StringSliceVar(&f.ips, "ip", nil, "`CIDR`: where it may be used from; repeatable; none for anywhere")
	flags.StringSliceVar(&f.permissions, "permission", nil, "`PRODUCT:ACCESS` that a restricted key may use, read, write or *; repeatable")
	flags.StringVar(&f.expires, "expires", "", "`WHEN`: it stops working then: a date, a time, or a duration from now such as 720h")
	flags.StringVar(&f.metadata, "metadata", "", "`JSON` object of your own")
}

// addNew adds what a new key has besides.
func (f *keyFlags) addNew(c *cobra.Command, body *ledger.CreateKey) {
	f.add(c)
	environmentFlag(c, &body.Environment)
	c.Flags().StringVar(&body.Kind, "kind", events.Standard, "`KIND`: standard or restricted")
	c.Flags().BoolVar(&body.ReadOnly, "read-only", false, "refuse access write")
	c.Flags().StringVar(&body.AssetClass, "asset-class", "any", "`CLASS` of assets it may move: any, fiat or crypto")
	require(c, "name")
}

// fill completes the body of a new key.
func (f *keyFlags) fill(body *ledger.CreateKey) (err error) {
	body.Name, body.IPAllowlist, body.Permissions = f.name, f.ips, f.permissions
	if f.expires != "" {
		if body.ExpiresAt, err = parseTime("expires", f.expires, time.Now()); err != nil {
			return err
		}
	}
	body.Metadata, err = parseObject("metadata", f.metadata)
	return err
}

func keyCreate(a *app) *cobra.Command {
	var f keyFlags
	var s signingFlags
	body := ledger.CreateKey{}
	c := a.verb(&cobra.Command{
		Use:   "create ACCOUNT",
		Short: "Create a key and show its secret, once",
		Long: `Create a key and show its secret, once. A key with --signing or --public-key has no secret:
its requests are signed with an ed25519 key, and the ledger knows the public half only.
The private half is shown once, in PEM (PKCS #8); with --json it is the member private_key.`,
		Example: `  keyledger key create acme --name backend --environment test
  keyledger key create acme --name reports --kind restricted --permission payments:read --ip 203.0.113.0/24 --expires 720h
  keyledger key create acme --name robot --signing --out robot.pem`,
		Args: arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		if err := f.fill(&body); err != nil {
			return err
		}
		pair, err := s.pair(&body)
		if err != nil {
			return err
		}
		err = a.command(cmd, args[0], "key.create", body, func(reply *client.Reply) error { return a.showCreated(reply, pair) })
		pair.settle(err)
		return err
	})
	f.addNew(c, &body)
	s.add(c, &body)
	return withID(c)
}

func keyUpdate(a *app) *cobra.Command {
	var f keyFlags
	c := a.verb(&cobra.Command{
		Use:   "update ACCOUNT KEY",
		Short: "Change a key's name, restrictions, expiry or metadata",
		Long:  "Change a key. Only what is given changes, and works at once. An empty --ip or --permission takes all away; --expires never takes the expiry away.",
		Example: `  keyledger key update acme key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --ip 203.0.113.0/24 --ip 2001:db8::/32
  keyledger key update acme key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --expires never`,
		Args: arguments("ACCOUNT", "KEY"),
	}, func(cmd *cobra.Command, args []string) error {
		body, err := f.update(cmd, args[1])
		if err != nil {
			return err
		}
		return a.command(cmd, args[0], "key.update", body, a.showKey)
	})
	f.add(c)
	requireOne(c, "name", "ip", "permission", "expires", "metadata")
	return withID(c)
}

// update is the body of key.update: what was given, and nothing else.
func (f *keyFlags) update(cmd *cobra.Command, key string) (*ledger.UpdateKey, error) {
	body := &ledger.UpdateKey{Key: key}
	given := cmd.Flags().Changed
	if given("name") {
		body.Name = &f.name
	}
	if given("ip") {
		body.IPAllowlist = &f.ips
	}
	if given("permission") {
		body.Permissions = &f.permissions
	}
	if given("expires") {
		var at events.Time
		if f.expires != "never" {
			var err error
			if at, err = parseTime("expires", f.expires, time.Now()); err != nil {
				return nil, err
			}
		}
		body.ExpiresAt = events.Some(at)
	}
	if given("metadata") {
		object, err := parseObject("metadata", f.metadata)
		if err != nil {
			return nil, err
		}
		body.Metadata = events.Some(object)
	}
	return body, nil
}

func keyRotate(a *app) *cobra.Command {
	body := ledger.RotateKey{}
	c := a.verb(&cobra.Command{
		Use:   "rotate ACCOUNT KEY",
		Short: "Give a key a new secret and show it, once",
		Long: `Give a key a new secret. It stays the same key, with its restrictions and balance. The old
secret works on until the grace ends, or the key's expiry comes; of two old ones only the
newer works. After a leak take --grace 0: the old secret is refused at once.`,
		Example: `  keyledger key rotate acme key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB
  keyledger key rotate acme key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --grace 0`,
		Args: arguments("ACCOUNT", "KEY"),
	}, func(cmd *cobra.Command, args []string) error {
		body.Key = args[1]
		return a.command(cmd, args[0], "key.rotate", body, a.showNewKey)
	})
	c.Flags().StringVar(&body.Grace, "grace", "24h", "`DURATION` that the old secret works on, at most 720h")
	return withID(c)
}

func keyReason(a *app, use, short, verb string) *cobra.Command {
	var reason string
	c := a.verb(&cobra.Command{
		Use:     use + " ACCOUNT KEY",
		Short:   short,
		Example: "  keyledger key " + use + " acme key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --reason maintenance",
		Args:    arguments("ACCOUNT", "KEY"),
	}, func(cmd *cobra.Command, args []string) error {
		return a.command(cmd, args[0], verb, map[string]string{"key": args[1], "reason": reason}, a.showKey)
	})
	c.Flags().StringVar(&reason, "reason", "", "`WHY`, for the record")
	return withID(c)
}

func keyRevoke(a *app) *cobra.Command {
	var reason string
	var yes bool
	c := a.verb(&cobra.Command{
		Use:   "revoke ACCOUNT KEY",
		Short: "Revoke a key, for ever",
		Long:  "Revoke a key. This is final: a revoked key never works again. It asks for the word DELETE on standard input, or for --yes.",
		Example: `  keyledger key revoke acme key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --reason leaked
  keyledger key revoke acme key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --reason leaked --yes`,
		Args: arguments("ACCOUNT", "KEY"),
	}, func(cmd *cobra.Command, args []string) error {
		if !yes {
			if err := a.confirm(fmt.Sprintf("Key %s of account %s will never work again.", args[1], args[0])); err != nil {
				return err
			}
		}
		return a.command(cmd, args[0], "key.revoke", map[string]string{"key": args[1], "reason": reason}, a.showKey)
	})
	c.Flags().StringVar(&reason, "reason", "", "`WHY`, for the record")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return withID(c)
}

// confirmation is the word that confirms what cannot be undone.
const confirmation = "DELETE"

// confirm reads the confirmation from standard input.
func (a *app) confirm(what string) error { return a.confirmWith(confirmation, what) }

// confirmWith is confirm with another word.
func (a *app) confirmWith(word, what string) error {
	if isTerminal(a.in) {
		fmt.Fprintf(a.errOut, "%s\nType %s to go on: ", what, word)
	}
	said, _ := bufio.NewReader(a.in).ReadString('\n')
	if strings.TrimSpace(said) != word {
		return fmt.Errorf("not confirmed, nothing was done: it takes the word %s on standard input, or --yes", word)
	}
	return nil
}

func keyGet(a *app) *cobra.Command {
	var past momentFlags
	c := a.verb(&cobra.Command{
		Use:   "get ACCOUNT KEY",
		Short: "Show a key, now or in the past",
		Example: `  keyledger key get acme key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB
  keyledger key get acme key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --at-position 0:42.0`,
		Args: arguments("ACCOUNT", "KEY"),
	}, func(cmd *cobra.Command, args []string) error {
		body := map[string]any{"key": args[1]}
		if err := past.fill(body); err != nil {
			return err
		}
		return a.query(cmd, args[0], "key.get", body, a.showKey)
	})
	past.add(c)
	return c
}

func keyList(a *app) *cobra.Command {
	var page pageFlags
	var environment, status, expiring, used, unused, name, permission string
	c := a.verb(&cobra.Command{
		Use:   "list ACCOUNT",
		Short: "List an account's keys",
		Example: `  keyledger key list acme --environment live --status active
  keyledger key list acme --expiring-before 168h --permission payments:write
  keyledger key list acme --unused-since -2160h`,
		Args: arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		body := page.body(map[string]string{"environment": environment, "status": status, "name_prefix": name, "permission": permission})
		for _, limit := range []struct{ flag, member, text string }{
			{"expiring-before", "expiring_before", expiring}, {"used-since", "used_since", used}, {"unused-since", "unused_since", unused},
		} {
			if limit.text == "" {
				continue
			}
			at, err := parseTime(limit.flag, limit.text, time.Now())
			if err != nil {
				return err
			}
			body[limit.member] = at
		}
		return a.query(cmd, args[0], "key.list", body, func(reply *client.Reply) error {
			var out struct {
				Keys       []events.Key `json:"keys"`
				NextCursor *string      `json:"next_cursor"`
			}
			return a.show(reply, &out, func(t *table) {
				t.row("KEY", "ENVIRONMENT", "STATUS", "KIND", "SECRET", "EXPIRES", "NAME")
				for _, k := range out.Keys {
					t.row(k.ID, k.Environment, k.Status, k.Kind, shownAs(&k), when(k.ExpiresAt, "never"), k.Name)
				}
				t.more(out.NextCursor)
			})
		})
	})
	c.Flags().StringVar(&environment, "environment", "", "only those of test or of live")
	c.Flags().StringVar(&status, "status", "", "only those active, disabled or revoked")
	c.Flags().StringVar(&expiring, "expiring-before", "", "only those with an expiry before `WHEN`: a date, a time, or a duration from now such as 720h")
	c.Flags().StringVar(&used, "used-since", "", "only those last used then or later, `WHEN`: "+whenText)
	c.Flags().StringVar(&unused, "unused-since", "", "only those last used before `WHEN`, likewise, or never")
	c.Flags().StringVar(&name, "name-prefix", "", "only those whose name begins with this `TEXT`")
	c.Flags().StringVar(&permission, "permission", "", "only those that name this `PRODUCT:ACCESS`, or the product with *")
	page.add(c)
	return c
}

func (a *app) showKey(reply *client.Reply) error {
	var out struct {
		Key events.Key `json:"key"`
	}
	return a.show(reply, &out, func(t *table) { keyRows(t, &out.Key) })
}

// showNewKey shows a key with its secret, which is told this once.
func (a *app) showNewKey(reply *client.Reply) error {
	var out client.NewKey
	return a.show(reply, &out, func(t *table) {
		if keyRows(t, out.Key); out.Key.PublicKey == nil {
			t.secret(out.Secret)
		}
	})
}

// shownAs is how people know the key's secret.
func shownAs(k *events.Key) string {
	switch {
	case k.PublicKey != nil:
		return "no secret, it signs"
	case k.Prefix == "":
		return "imported"
	}
	return k.Prefix
}

func keyRows(t *table, k *events.Key) {
	t.row("key", k.ID)
	t.row("account", k.Account)
	t.row("environment", k.Environment)
	t.row("name", k.Name)
	t.row("status", withReason(k.Status, k.Reason))
	kind := k.Kind
	if k.ReadOnly {
		kind += ", read only"
	}
	t.row("kind", kind)
	if k.Kind == events.Restricted {
		t.row("permissions", list(k.Permissions, "none"))
	}
	t.row("used from", list(k.IPAllowlist, "any address"))
	t.row("expires", when(k.ExpiresAt, "never"))
	used := when(k.LastUsedAt, "-")
	if k.LastUsedIP != "" {
		used += " from " + k.LastUsedIP
	}
	if k.LastUsedProduct != "" {
		used += " for " + k.LastUsedProduct
	}
	t.row("last used", used)
	t.row("shown as", shownAs(k))
	if k.PublicKey != nil {
		t.row("public key", base64.StdEncoding.EncodeToString(k.PublicKey))
	}
	t.row("created", k.CreatedAt)
	if k.RotatedAt != 0 {
		t.row("rotated", k.RotatedAt)
		t.row("old secret until", when(k.OldSecretUntil, "-"))
	}
}
