package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	hooks "github.com/keyledger/keyledger/webhooks/verify"
)

// listenFlags are those of webhook listen.
type listenFlags struct {
	listen, print, forward, account, environment string
	secrets, events                              []string
	status, once                                 int
}

const (
	listenBodyBytes   = hooks.DefaultMaxBodyBytes // of a request, and of what a forwarded one is answered
	listenTimeout     = 15 * time.Second          // for a request, and for the program it is forwarded to
	listenHeaderBytes = 64 << 10
	listenGrace       = 2 * time.Second // for requests under way, when it ends
)

func webhookListen(a *app) *cobra.Command {
	var f listenFlags
	c := a.verb(&cobra.Command{
		Use:   "listen",
		Short: "Be a receiver on this machine: verify deliveries and print them",
		Long: `Be a receiver on this machine: verify what is delivered, print a line for each, and answer it.
A line says when, what, the number that the endpoint's sequence gives it, and what is wrong: a
signature that is not of --secret, a gap in the numbers, an event that comes again.

With --account an endpoint is registered for as long as this runs, and removed at its end; the
server must be able to reach --listen, and its operator must allow that: a server started with
--allow-http-endpoints --allow-endpoint-net 127.0.0.0/8 can be asked from the same machine.
With --secret it takes what an endpoint is sent that exists, by a tunnel of your own.`,
		Example: `  keyledger webhook listen --account acme
  keyledger webhook listen --secret whsec_… --listen 127.0.0.1:8080 --forward http://127.0.0.1:3000/hooks
  keyledger webhook listen --account acme --events 'credit.*' --print body --once 3`,
		Args: arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		return a.listenHooks(cmd, &f)
	})
	flags := c.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:0", "`HOST:PORT` to listen on; port 0 takes a free one")
	flags.StringSliceVar(&f.secrets, "secret", nil, "`SECRET` (whsec_…) or public key (whpk_…) to verify with; repeatable, for a change of secrets")
	annotate(flags, "secret", noteEnvironment, "KEYLEDGER_WEBHOOK_SECRET")
	flags.StringVar(&f.account, "account", "", "register an endpoint of this `ACCOUNT` for as long as this runs")
	environmentFlag(c, &f.environment)
	flags.StringSliceVar(&f.events, "events", []string{"*"}, "with --account: `FILTER` of events; repeatable")
	flags.StringVar(&f.print, "print", "", "also print the `PART` body or headers of each")
	flags.IntVar(&f.status, "status", 0, "answer this HTTP `STATUS` to what verifies, to see what keyledger does then")
	withDefault(flags, "status", "204")
	flags.StringVar(&f.forward, "forward", "", "hand what verifies on to this `URL`, and answer what it answers")
	flags.IntVar(&f.once, "once", 0, "end after so many deliveries that verify")
	withDefault(flags, "once", "when it is interrupted")
	completeWith(c, "print", []string{"body", "headers"})
	completeWith(c, "events", eventTypes())
	exclusive(c, "secret", "account")
	exclusive(c, "status", "forward")
	return c
}

func (f *listenFlags) check(cmd *cobra.Command) error {
	switch {
	case len(f.secrets) == 0 && f.account == "":
		return usagef("give --secret, to verify with, or --account, to register an endpoint")
	case f.account != "" && !ledger.ValidAccount(f.account):
		return usagef("--account %q is no account id: 1 to 64 of A-Z a-z 0-9 _ -", f.account)
	case f.print != "" && f.print != "body" && f.print != "headers":
		return usagef("--print must be body or headers")
	case f.status != 0 && (f.status < 200 || f.status > 599):
		return usagef("--status must be from 200 to 599")
	case f.once < 0 || f.once == 0 && cmd.Flags().Changed("once"):
		return usagef("--once must be from 1")
	case f.forward != "" && !isHTTP(f.forward):
		return usagef("--forward %q is no http:// or https:// URL with a host", f.forward)
	}
	for _, flag := range []string{"events", "environment"} {
		if f.account == "" && cmd.Flags().Changed(flag) {
			return usagef("--%s is for the endpoint that --account registers; give --account", flag)
		}
	}
	return nil
}

func isHTTP(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != ""
}

// verifierOf makes a verifier; without keys one that verifies nothing, for it answers only
// whether deliveries are welcome.
func verifierOf(keys ...string) (*hooks.Verifier, error) {
	if len(keys) == 0 {
		var random [32]byte
		rand.Read(random[:])
		keys = []string{"whsec_" + base64.StdEncoding.EncodeToString(random[:])}
	}
	return hooks.New(hooks.Config{Keys: keys, MaxBodyBytes: listenBodyBytes})
}

// listenHooks receives until it is interrupted, or has what --once says.
func (a *app) listenHooks(cmd *cobra.Command, f *listenFlags) error {
	verifier, err := verifierOf(f.secrets...)
	if err != nil {
		return usagef("--secret: %v", err)
	}
	socket, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	address := "http://" + socket.Addr().String() + "/"
	l := newListener(a, f, verifier)
	server := &http.Server{
		Handler: l, ReadHeaderTimeout: listenTimeout, ReadTimeout: listenTimeout, MaxHeaderBytes: listenHeaderBytes,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(socket) }()
	if f.account != "" {
		remove, err := a.registerListener(cmd, f, address, l)
		if err != nil {
			server.Close()
			return err
		}
		defer remove()
	}
	l.announce(address)
	select {
	case err = <-failed:
	case <-l.enough:
	case <-cmd.Context().Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), listenGrace)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		server.Close()
	}
	l.summary()
	return err
}

// registerListener registers an endpoint for the listener and tells it the secret. The
// function that it returns removes the endpoint.
func (a *app) registerListener(cmd *cobra.Command, f *listenFlags, url string, l *listener) (remove func(), err error) {
	var made *client.NewEndpoint
	err = a.with(cmd, func(ctx context.Context, c *client.Client) error {
		made, err = c.RegisterEndpoint(ctx, f.account, ledger.RegisterEndpoint{
			URL: url, Environment: f.environment, Events: f.events, Description: "keyledger webhook listen",
		})
		return err
	})
	if isCode(err, events.InvalidArgument) {
		return nil, fmt.Errorf("register %s: %w; is the server allowed to deliver to this machine (keyledger serve --allow-http-endpoints --allow-endpoint-net 127.0.0.0/8)?", url, err)
	}
	if err != nil {
		return nil, fmt.Errorf("register %s: %w", url, err)
	}
	verifier, err := verifierOf(cmp.Or(made.Secret, made.Endpoint.PublicKey))
	if err != nil {
		return nil, err
	}
	l.verifier.Store(verifier)
	return func() {
		cmd.SetContext(context.WithoutCancel(cmd.Context())) // an interrupt ended it
		err := a.with(cmd, func(ctx context.Context, c *client.Client) error {
			_, err := c.Command(ctx, f.account, "endpoint.remove", map[string]string{"endpoint": made.Endpoint.ID})
			return err
		})
		if err != nil {
			a.note("endpoint %s is still there (%v): keyledger webhook remove %s %s", made.Endpoint.ID, err, f.account, made.Endpoint.ID)
		}
	}, nil
}

// forwardTo hands a request on as it came, and tells what it was answered. It follows no
// redirect, as keyledger does not.
func forwardTo(ctx context.Context, url string, header http.Header, body []byte) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header = header.Clone()
	request.Header.Del("Connection")
	hop := http.Client{Timeout: listenTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := hop.Do(request)
	if err != nil {
		return 0, errors.New("forwarding failed: " + plain(err.Error()))
	}
	response.Body.Close()
	return response.StatusCode, nil
}
