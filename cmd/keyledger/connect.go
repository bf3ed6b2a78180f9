package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"
	"github.com/synadia-io/orbit.go/natscontext"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

// operatorSeed is the operator's credential in a server's data directory.
const operatorSeed = "operator.nk"

// connect opens a NATS connection as the global flags say. The caller closes it.
func (a *app) connect(cmd *cobra.Command) (*nats.Conn, error) {
	opts := []nats.Option{
		nats.Name("keyledger " + cmd.Name()),
		nats.Timeout(a.timeout),
		// What goes wrong comes back from the call it belongs to, but for a subject that may
		// not be used: that gets no answer, only a word on the connection.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { a.noteDenied(err) }),
	}
	if a.context != "" {
		if cmd.Flags().Changed("server") || cmd.Flags().Changed("creds") {
			return nil, usagef("--context says where and who already: leave out --server and --creds")
		}
		conn, _, err := natscontext.Connect(a.context, opts...)
		if err != nil {
			return nil, fmt.Errorf("connect by NATS context %s: %w; \"nats context ls\" shows what there is", a.context, connectError(err, ""))
		}
		return conn, nil
	}
	seed, err := a.seedFile()
	if err != nil {
		return nil, err
	}
	if seed != "" {
		identity, err := client.Credentials(seed)
		if err != nil {
			return nil, fmt.Errorf("read credentials %s: %w; it must be a file with an nkey seed, such as %s in the server's data directory", seed, err, operatorSeed)
		}
		opts = append(opts, identity...)
	}
	conn, err := nats.Connect(a.server, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", a.server, connectError(err, seed))
	}
	return conn, nil
}

// seedFile is the credentials file, "" for none.
func (a *app) seedFile() (string, error) {
	if a.creds != "" {
		if _, err := os.Stat(a.creds); err != nil {
			return "", fmt.Errorf("read credentials: %w; give --creds the operator's seed, %s in the server's data directory, or that of a credential (keyledger creds create)", err, operatorSeed)
		}
		return a.creds, nil
	}
	dir := os.Getenv(envDataDir)
	if dir == "" {
		dir = defaultDataDir
	}
	path := filepath.Join(dir, operatorSeed)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return path, nil
}

// connectError says what a person can do.
func connectError(err error, seed string) error {
	switch {
	case errors.Is(err, nats.ErrNoServers):
		return fmt.Errorf("no server is there (%w); is it started (keyledger serve), and is --server right?", err)
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return fmt.Errorf("%w: it has no identities; is keyledger on this NATS server?", err)
	case errors.Is(err, nats.ErrAuthorization) && seed == "":
		return fmt.Errorf("%w: it wants credentials; give --creds FILE (the operator's is %s in the server's data directory)", err, operatorSeed)
	case errors.Is(err, nats.ErrAuthorization):
		return fmt.Errorf("%w: it does not know the identity in %s; is that the %s of this server's data directory, or a credential that was not revoked (keyledger creds list)?", err, seed, operatorSeed)
	}
	return err
}

// noteDenied remembers that NATS refused a subject, if that is what err says.
func (a *app) noteDenied(err error) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	a.denied.CompareAndSwap(nil, &err)
	return true
}

// explainDenied says of an error that came because NATS refused a subject that it did.
func (a *app) explainDenied(err error) error {
	denied := a.denied.Load()
	var refused *events.Error
	if err == nil || denied == nil || errors.As(err, &refused) || errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	return fmt.Errorf("these credentials may not do this: %w", *denied)
}

// with runs f with a client on a connection of its own, for as long as --timeout.
func (a *app) with(cmd *cobra.Command, f func(context.Context, *client.Client) error) error {
	conn, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	conn.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if a.noteDenied(err) {
			cancel()
		}
	})
	err = a.explainDenied(f(ctx, client.New(conn)))
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s (--timeout): %w", a.timeout, err)
	}
	return err
}

// envTraceparent is where a shell keeps the trace that its commands belong to.
const envTraceparent = "TRACEPARENT"

// traced makes a command part of that trace, if there is one.
func traced() client.Option { return client.WithTraceparent(os.Getenv(envTraceparent)) }

// command sends a command of an account. It has an id from the start, so that one whose
// outcome stays unknown can be sent again.
func (a *app) command(cmd *cobra.Command, account, verb string, body any, show func(*client.Reply) error) error {
	id, err := commandID(cmd)
	if err != nil {
		return err
	}
	return a.with(cmd, func(ctx context.Context, c *client.Client) error {
		reply, err := c.Command(ctx, account, verb, body, client.WithID(id), traced())
		if err != nil {
			return unsettled(err, id)
		}
		return show(reply)
	})
}

// query sends a query of an account and sees all that was acknowledged before it.
func (a *app) query(cmd *cobra.Command, account, verb string, body any, show func(*client.Reply) error) error {
	return a.with(cmd, func(ctx context.Context, c *client.Client) error {
		reply, err := c.Query(ctx, account, verb, body, client.Strict())
		if err != nil {
			return err
		}
		return show(reply)
	})
}

// known asks whether there is an account, "" and "_" being all of them. Nil also stands for
// no answer: it is asked about what was looked for and not found, which may be so as well.
func (a *app) known(cmd *cobra.Command, account string) error {
	if account == "" || account == ledgerItself {
		return nil
	}
	err := a.query(cmd, account, "account.get", nil, func(*client.Reply) error { return nil })
	if isCode(err, events.NotFound) {
		return err
	}
	return nil
}

// checkAccount checks a flag --account, which may be empty, or "_" for the whole ledger.
func checkAccount(account string) error {
	if account != "" && account != ledgerItself && !ledger.ValidAccount(account) {
		return usagef("--account %q is no account id: 1 to 64 of A-Z a-z 0-9 _ -", account)
	}
	return nil
}

// withID gives a command the flag --id.
func withID(c *cobra.Command) *cobra.Command {
	c.Flags().String("id", "", "command id, a `ULID`: the same id again gives the first answer again")
	withDefault(c.Flags(), "id", "a new one")
	return c
}

// commandID is --id, or a new one.
func commandID(cmd *cobra.Command) (ulid.ULID, error) {
	text, err := cmd.Flags().GetString("id")
	if err != nil {
		return ulid.ULID{}, err
	}
	if text == "" {
		return ulid.Make(), nil
	}
	id, err := ulid.ParseStrict(text)
	if err != nil || id.String() != text {
		return id, usagef("--id %q is not a ULID: 26 characters of 0-9 A-Z without I L O U", text)
	}
	return id, nil
}

// unsettled adds to an error that leaves the outcome open how to settle it.
func unsettled(err error, id ulid.ULID) error {
	var refused *events.Error
	switch {
	case errors.As(err, &refused) && refused.Code == events.OutcomeUnknown:
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
	default:
		return err
	}
	return fmt.Errorf("%w; whether it happened is not known: give the same command again with --id %s, it cannot happen twice", err, id)
}

// arguments checks that a command has exactly the named arguments. One called ACCOUNT
// must be able to be an account.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return usagef("%q is one argument too many%s", args[len(names)], didYouMean(near(cmd, args[len(names)])))
		}
		for i, name := range names {
			if name == "ACCOUNT" && !ledger.ValidAccount(args[i]) {
				return usagef("%q is no account id: 1 to 64 of A-Z a-z 0-9 _ -", args[i])
			}
		}
		return nil
	}
}
