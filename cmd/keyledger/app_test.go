package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
)

// invoke runs one command line in this process.
func invoke(args ...string) (code int, out, errOut string) {
	var stdout, stderr bytes.Buffer
	code = run(args, strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// walk calls f for every command of our own.
func walk(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		if sub.Name() != "completion" && sub.Name() != "help" {
			walk(sub, f)
		}
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	commands := 0
	walk(newRoot(new(app)), func(c *cobra.Command) {
		commands++
		path := strings.Fields(c.CommandPath())[1:]
		code, out, errOut := invoke(append(path, "--help")...)
		if code != 0 || errOut != "" {
			t.Errorf("%s --help: exit code %d, %s", c.CommandPath(), code, errOut)
		}
		for _, want := range []string{"Usage:", "Examples:\n  keyledger ", "ENVIRONMENT", "KEYLEDGER_SERVER", "nats://127.0.0.1:4222"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s --help lacks %q:\n%s", c.CommandPath(), want, out)
			}
		}
		for line := range strings.Lines(c.Example) {
			if name := strings.TrimSpace(line); !strings.HasPrefix(name, "keyledger "+strings.Join(path, " ")) {
				t.Errorf("%s: its example is of another command: %s", c.CommandPath(), name)
			}
		}
	})
	if commands < 35 {
		t.Errorf("only %d commands", commands)
	}
}

// TestExamplesParse: every example is a command line that is understood.
func TestExamplesParse(t *testing.T) {
	walk(newRoot(new(app)), func(c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " < ")
			root := newRoot(new(app))
			sub, args, err := root.Find(words(line)[1:])
			if err == nil {
				err = sub.ParseFlags(args)
			}
			if err == nil {
				err = sub.ValidateArgs(sub.Flags().Args())
			}
			if err == nil {
				err = errors.Join(sub.ValidateRequiredFlags(), sub.ValidateFlagGroups())
			}
			if err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	})
}

// words splits a command line at its spaces, but for those in quotes.
func words(line string) []string {
	var quote rune
	list := strings.FieldsFunc(line, func(r rune) bool {
		switch {
		case quote == 0 && (r == '\'' || r == '"'):
			quote = r
		case r == quote:
			quote = 0
		}
		return quote == 0 && r == ' '
	})
	for i, word := range list {
		list[i] = strings.Trim(word, `'"`)
	}
	return list
}

func TestEnvironment(t *testing.T) {
	server := func(args ...string) string {
		var a app
		root := newRoot(&a)
		sub, rest, err := root.Find(append([]string{"account", "list"}, args...))
		if err != nil {
			t.Fatal(err)
		}
		if err := sub.ParseFlags(rest); err != nil {
			t.Fatal(err)
		}
		if err := applyEnvironment(sub.Flags()); err != nil {
			t.Fatal(err)
		}
		return a.server
	}
	if got := server(); got != defaultServer {
		t.Errorf("default: %s", got)
	}
	t.Setenv("KEYLEDGER_SERVER", "nats://from-environment")
	if got := server(); got != "nats://from-environment" {
		t.Errorf("from the environment: %s", got)
	}
	if got := server("--server", "nats://from-flag"); got != "nats://from-flag" {
		t.Errorf("from the flag: %s", got)
	}
}

func TestServeEnvironment(t *testing.T) {
	t.Setenv("KEYLEDGER_ALLOW_ENDPOINT_NET", "10.1.0.0/16, fd00::/8")
	t.Setenv("KEYLEDGER_INSECURE", "true")
	c := serveCommand(new(app))
	if err := applyEnvironment(c.Flags()); err != nil {
		t.Fatal(err)
	}
	if got := c.Flags().Lookup("allow-endpoint-net").Value.String(); got != "10.1.0.0/16,fd00::/8" {
		t.Errorf("ranges: %s", got)
	}
	if got := c.Flags().Lookup("insecure").Value.String(); got != "true" {
		t.Errorf("insecure: %s", got)
	}
	for text, want := range map[string]string{"none": "none", "90m, 168h": "1h30m,168h", "90s": "1m30s", "10m": "10m", "100ms": "100ms"} {
		t.Setenv("KEYLEDGER_KEY_EXPIRING", text)
		c := serveCommand(new(app))
		if err := applyEnvironment(c.Flags()); err != nil || c.Flags().Lookup("key-expiring").Value.String() != want {
			t.Errorf("notices %s: %s, %v", text, c.Flags().Lookup("key-expiring").Value, err)
		}
	}
	t.Setenv("KEYLEDGER_ALLOW_ENDPOINT_NET", "10.1")
	var usage *usageError
	if err := applyEnvironment(serveCommand(new(app)).Flags()); !errors.As(err, &usage) || !strings.Contains(err.Error(), "KEYLEDGER_ALLOW_ENDPOINT_NET") {
		t.Errorf("a bad range: %v", err)
	}
}

func TestDescribe(t *testing.T) {
	refused := events.Errorf(events.NotFound, "no such account").With("account", "acme")
	for name, c := range map[string]struct {
		err   error
		usage bool
		want  string
	}{
		"refusal":         {refused, false, `{"code":"not_found","message":"no such account","details":{"account":"acme"}}`},
		"wrapped refusal": {fmt.Errorf("set up: %w", refused), false, `{"code":"not_found","message":"set up: not_found: no such account","details":{"account":"acme"}}`},
		"usage":           {usagef("what?"), true, `{"code":"invalid_argument","message":"what?"}`},
		"timeout":         {fmt.Errorf("no answer: %w", nats.ErrTimeout), false, `{"code":"unavailable","message":"no answer: nats: timeout"}`},
		"interrupted":     {errInterrupted, false, `{"code":"interrupted","message":"interrupted"}`},
		"else":            {errors.New("disk on fire"), false, `{"code":"failed","message":"disk on fire"}`},
	} {
		body, err := events.Encode(describe(c.err, c.usage))
		if err != nil || string(body) != c.want {
			t.Errorf("%s:\n got %s %v\nwant %s", name, body, err, c.want)
		}
	}
}

// TestInterrupted: who interrupts a command is told no more than that, but where something
// goes on without it.
func TestInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	failed := errors.New("no answer")
	if err := goesOn(ctx, failed); err != failed {
		t.Errorf("not interrupted: %v", err)
	}
	interrupt()
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("ask: %w", ctx.Err()), "keyledger: interrupted\n"},
		{goesOn(ctx, failed), "keyledger: interrupted; the server goes on: \"keyledger projections list\" shows how far it is\n"},
	} {
		var text bytes.Buffer
		a := &app{errOut: &text, started: true}
		if code := a.exit(&cobra.Command{}, nil, c.err); code != exitFailed || text.String() != c.want {
			t.Errorf("%v: exit code %d, %q", c.err, code, text.String())
		}
		if got := describe(c.err, false); strings.Contains(c.want, "goes on") && got.Code != codeInterrupted {
			t.Errorf("%v: %+v", c.err, got)
		}
	}
}

func TestUnsettled(t *testing.T) {
	id := ulid.MustParse("01J8Z5T0XKQ4R7N2M3V6W9Y1AB")
	for name, c := range map[string]struct {
		err  error
		open bool
	}{
		"unknown":     {events.Errorf(events.OutcomeUnknown, "timed out"), true},
		"timeout":     {fmt.Errorf("no answer: %w", nats.ErrTimeout), true},
		"deadline":    {context.DeadlineExceeded, true},
		"unavailable": {events.Errorf(events.Unavailable, "busy"), false},
		"refused":     {events.Errorf(events.NotFound, "no"), false},
		"nobody":      {nats.ErrNoResponders, false},
	} {
		err := unsettled(c.err, id)
		if got := strings.Contains(err.Error(), "--id "+id.String()); got != c.open || !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	table := newTable(&out)
	table.row("NAME", "N")
	table.row("evil\x1b[2J\n\tname\u009b", 7)
	if err := table.w.Flush(); err != nil {
		t.Fatal(err)
	}
	if want := "NAME             N\nevil?[2J??name?  7\n"; out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", -1000: "-1,000", -999: "-999", 720900: "720,900", 1<<53 - 1: "9,007,199,254,740,991",
	} {
		if got := grouped(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out}
	p.begin("working")
	p.at(1, 2)
	p.clear()
	if out.Len() != 0 {
		t.Errorf("not on a terminal, but: %q", out.String())
	}
	p.live = true
	p.begin("working")
	p.at(1000, 2000)
	p.at(1001, 2000) // too soon
	if want := "\r\x1b[Kworking: 1,000 of 2,000"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	out.Reset()
	p.end("worked")
	if got := out.String(); !strings.HasPrefix(got, "\r\x1b[Kworked (") || !strings.HasSuffix(got, ")\n") {
		t.Errorf("got %q", got)
	}
}

func TestMemberRows(t *testing.T) {
	var out bytes.Buffer
	table := newTable(&out)
	memberRows(table, "", []byte(`{"version":"1","writer":{"serving":true,"n":12345678901234567},"list":[{"name":"keys","lag":0,"at":"0:1"},{"lag":1},null,[]]}`))
	if err := table.w.Flush(); err != nil {
		t.Fatal(err)
	}
	want := `version         1
writer.serving  true
writer.n        12345678901234567
list.keys.lag   0
list.keys.at    0:1
list.1.lag      1
list.2          null
`
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
}

// TestTimes: every flag with a time takes a time, a date or a duration from now, and none
// before times begin.
func TestTimes(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-01-31T12:00:00Z":      "2026-01-31T12:00:00Z",
		"2026-01-31T12:00:00+02:00": "2026-01-31T10:00:00Z",
		"2026-01-31":                "2026-01-31T00:00:00Z",
		"-24h":                      "2026-03-03T12:00:00Z",
		"90m":                       "2026-03-04T13:30:00Z",
		"0s":                        "2026-03-04T12:00:00Z",
		"1970-01-01T00:00:00.001Z":  "1970-01-01T00:00:00.001Z",
		"1970-01-01":                "",
		"0001-01-01":                "",
		"-2000000h":                 "",
		"":                          "",
		"soon":                      "",
		"2026-01":                   "",
	} {
		got, err := parseTime("at", text, now)
		var wrong *usageError
		if got.String() != want || (want == "") != errors.As(err, &wrong) {
			t.Errorf("%q is %s and not %q, %v", text, got, want, err)
		}
	}
	if at, err := parseAnyTime("at", "", now); at != 0 || err != nil {
		t.Errorf("nothing is %d, %v", at, err)
	}
}
