package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

// endpointFlags are what webhook register and webhook update share.
type endpointFlags struct {
	events, headers, keys                  []string
	description, filter, ordering, timeout string
	rate                                   int64
}

func (f *endpointFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringSliceVar(&f.events, "events", []string{"*"}, "`FILTER` of events: a type such as credit.debited, credit.* or *; repeatable")
	flags.StringSliceVar(&f.keys, "key", nil, "only events of this `KEY`; repeatable; none for all")
	flags.StringVar(&f.filter, "filter", "", "only events whose attributes pass: `JSON`, an array of CloudEvents Subscriptions filters, or @FILE with it")
	flags.StringVar(&f.ordering, "ordering", events.OrderingNone, "`ORDER`: none, or key for one event of a key after the other")
	flags.Int64Var(&f.rate, "rate", 0, "at most so many attempts a minute, 60,000 at the most; 0 for as many as it takes")
	flags.StringVar(&f.timeout, "attempt-timeout", "", "`DURATION` that an attempt may take in all, 1s to 30s")
	withDefault(flags, "attempt-timeout", "the server's")
	flags.StringVar(&f.description, "description", "", "`TEXT` for people")
	flags.StringArrayVar(&f.headers, "header", nil, "`HEADER` to send along, as \"Name: value\"; repeatable")
	completeWith(c, "events", eventTypes())
	completeWith(c, "ordering", []string{events.OrderingNone, events.OrderingKey})
}

// header reads --header, of which an empty one is none.
func (f *endpointFlags) header() (map[string]string, error) {
	headers := map[string]string{}
	for _, header := range f.headers {
		if header == "" {
			continue
		}
		name, value, ok := strings.Cut(header, ":")
		if !ok {
			return nil, usagef("--header must be \"Name: value\"")
		}
		headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return headers, nil
}

// filters reads --filter: JSON, or a file with it after "@". Nil is none.
func (f *endpointFlags) filters() (events.JSON, error) {
	if f.filter == "" {
		return nil, nil
	}
	text := []byte(f.filter)
	if path, ok := strings.CutPrefix(f.filter, "@"); ok {
		var err error
		if text, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("read --filter: %w", err)
		}
	}
	filters := events.JSON(text)
	if !filters.IsValid() || filters.Kind() != '[' {
		return nil, usagef(`--filter must be an array in JSON such as [{"prefix":{"type":"dev.keyledger.credit."}}], or @FILE with it`)
	}
	return filters, nil
}

func webhookRegister(a *app) *cobra.Command {
	var f endpointFlags
	var body ledger.RegisterEndpoint
	c := a.verb(&cobra.Command{
		Use:   "register ACCOUNT URL",
		Short: "Register an endpoint and show its signing secret, once",
		Long: `Register an endpoint and show its signing secret, once. It is owed the account's events
from now on that match a filter, its environment, and its keys and content filters where it
has some; events of the whole account go to every endpoint. Deliveries follow Standard
Webhooks; the body is a CloudEvent. With --signing v1a they are signed with an ed25519 key,
and there is no secret: the receiver verifies with the public key.`,
		Example: `  keyledger webhook register acme https://example.com/hooks --events 'credit.*' --events key.revoked
  keyledger webhook register acme https://example.com/hooks --environment live --header 'Authorization: Bearer …'
  keyledger webhook register acme https://example.com/hooks --key key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --ordering key --rate 600
  keyledger webhook register acme https://example.com/hooks --filter '[{"prefix":{"type":"dev.keyledger.credit."}}]' --signing v1a`,
		Args: arguments("ACCOUNT", "URL"),
	}, func(cmd *cobra.Command, args []string) (err error) {
		body.URL, body.Events, body.Description, body.Keys = args[1], f.events, f.description, f.keys
		body.Ordering, body.RatePerMinute, body.Timeout = f.ordering, f.rate, f.timeout
		if body.Headers, err = f.header(); err != nil {
			return err
		}
		if body.Filters, err = f.filters(); err != nil {
			return err
		}
		return a.command(cmd, args[0], "endpoint.register", body, a.showNewEndpoint)
	})
	environmentFlag(c, &body.Environment)
	completeWith(c, "environment", []string{events.Test, events.Live})
	f.add(c)
	signingFlag(c, &body.Signing, events.SigningV1)
	return withID(c)
}

// signingFlag adds --signing.
func signingFlag(c *cobra.Command, p *string, value string) {
	c.Flags().StringVar(p, "signing", value, "`HOW` deliveries are signed: v1 (HMAC-SHA256, a secret) or v1a (ed25519, a public key)")
	completeWith(c, "signing", []string{events.SigningV1, events.SigningV1a})
}

func webhookUpdate(a *app) *cobra.Command {
	var f endpointFlags
	var url, skipTo string
	c := a.verb(&cobra.Command{
		Use:   "update ACCOUNT ENDPOINT",
		Short: "Change what an endpoint subscribes to, or how it gets it",
		Long: `Change an endpoint. Only what is given changes, for the events from now on; what the
endpoint was owed before stays owed, unless --skip-to jumps over it. The headers given replace
all; an empty --header, --key, --filter or --attempt-timeout takes away what was set. How
deliveries are signed is changed with keyledger webhook rotate-secret.`,
		Example: `  keyledger webhook update acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --url https://example.com/new --rate 60
  keyledger webhook update acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --events 'credit.*' --key ''
  keyledger webhook update acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --skip-to now`,
		Args: arguments("ACCOUNT", "ENDPOINT"),
	}, func(cmd *cobra.Command, args []string) error {
		body := ledger.UpdateEndpoint{Endpoint: args[1], SkipTo: skipTo}
		if cmd.Flags().Changed("url") {
			body.URL = &url
		}
		if err := f.update(cmd, &body); err != nil {
			return err
		}
		return a.command(cmd, args[0], "endpoint.update", body, a.showEndpoint)
	})
	flags := c.Flags()
	flags.StringVar(&url, "url", "", "`URL` to deliver to")
	f.add(c)
	for _, name := range []string{"events", "ordering", "rate", "attempt-timeout"} {
		withDefault(flags, name, "as it is")
	}
	flags.StringVar(&skipTo, "skip-to", "", "`POSITION` such as 0:42.3, or now: what was owed up to there is not delivered any more")
	completeWith(c, "skip-to", []string{ledger.SkipNow})
	requireOne(c, "url", "events", "key", "filter", "ordering", "rate", "attempt-timeout", "description", "header", "skip-to")
	return withID(c)
}

// update puts into the body what was given, and nothing else.
func (f *endpointFlags) update(cmd *cobra.Command, body *ledger.UpdateEndpoint) (err error) {
	given := cmd.Flags().Changed
	if given("events") {
		body.Events = &f.events
	}
	if given("key") {
		body.Keys = &f.keys
	}
	if given("filter") {
		if body.Filters, err = f.filters(); err != nil {
			return err
		}
		if body.Filters == nil {
			body.Filters = events.JSON("[]")
		}
	}
	if given("ordering") {
		body.Ordering = &f.ordering
	}
	if given("rate") {
		body.RatePerMinute = &f.rate
	}
	if given("attempt-timeout") {
		body.Timeout = &f.timeout
	}
	if given("description") {
		body.Description = &f.description
	}
	if given("header") {
		body.Headers, err = f.header()
	}
	return err
}

func (a *app) showEndpoint(reply *client.Reply) error {
	var out struct {
		Endpoint events.Endpoint `json:"endpoint"`
	}
	return a.show(reply, &out, func(t *table) { endpointRows(t, &out.Endpoint) })
}

// showNewEndpoint shows an endpoint with its secret, which is shown once; a public key is
// among its rows.
func (a *app) showNewEndpoint(reply *client.Reply) error {
	var out client.NewEndpoint
	return a.show(reply, &out, func(t *table) {
		endpointRows(t, out.Endpoint)
		if out.Endpoint.Signing == events.SigningV1 {
			t.secret(out.Secret)
		}
	})
}

func endpointRows(t *table, e *events.Endpoint) {
	t.row("endpoint", e.ID)
	t.row("account", e.Account)
	t.row("environment", e.Environment)
	t.row("url", e.URL)
	t.row("events", list(e.Events, "none"))
	if len(e.Keys) > 0 {
		t.row("keys", list(e.Keys, ""))
	}
	if len(e.Filters) > 0 {
		t.row("filters", string(e.Filters))
	}
	t.row("headers", list(e.Headers, "none"))
	if e.Ordering == events.OrderingKey {
		t.row("ordering", "by key")
	}
	if e.RatePerMinute > 0 {
		t.row("rate", grouped(e.RatePerMinute)+" a minute")
	}
	if e.AllowedRate > 0 {
		t.row("its own rate", grouped(e.AllowedRate)+" a minute")
	}
	if e.Timeout != "" {
		t.row("attempt timeout", e.Timeout)
	}
	if e.Consent != "" && e.Consent != events.ConsentOff {
		t.row("consent", e.Consent)
	}
	t.row("status", withReason(e.Status, e.Reason))
	if e.FailingSince != 0 {
		t.row("failing since", fmt.Sprintf("%s, %d%% of the time after which it is disabled", e.FailingSince, e.FailingPercent))
	}
	if e.SkipTo != "" {
		t.row("skipped to", e.SkipTo)
	}
	t.row("signing", e.Signing)
	if e.PublicKey != "" {
		t.row("public key", e.PublicKey)
	}
	for _, f := range e.Former {
		t.row("signs too until", strings.TrimSpace(f.Until.String()+" "+f.Signing+" "+f.PublicKey))
	}
	t.row("description", e.Description)
	t.row("created", e.CreatedAt)
}

// terms are what is set of an endpoint besides its events, in few words.
func terms(e *events.Endpoint) (words []string) {
	if len(e.Keys) > 0 {
		words = append(words, fmt.Sprintf("of %d keys", len(e.Keys)))
	}
	if len(e.Filters) > 0 {
		words = append(words, "filtered")
	}
	if e.Ordering == events.OrderingKey {
		words = append(words, "in order")
	}
	if e.RatePerMinute > 0 {
		words = append(words, grouped(e.RatePerMinute)+"/min")
	}
	if e.Timeout != "" {
		words = append(words, e.Timeout)
	}
	if e.Signing == events.SigningV1a {
		words = append(words, e.Signing)
	}
	if e.Consent == events.ConsentUnconfirmed {
		words = append(words, e.Consent)
	}
	if e.FailingSince != 0 {
		words = append(words, "failing")
	}
	return words
}
