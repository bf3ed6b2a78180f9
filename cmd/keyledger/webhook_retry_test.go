package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
	"github.com/keyledger/keyledger/testing/receiver"
)

// deadHouse is a ledger whose deliveries die with their first failure, with an endpoint, and
// a receiver that refused the first and the third of its three deliveries.
type deadHouse struct {
	*ledgertest.Ledger
	t        *testing.T
	hooks    *receiver.Server
	endpoint string
}

func newDeadHouse(t *testing.T) *deadHouse {
	h := &deadHouse{t: t, Ledger: ledgertest.Start(t, func(c *server.Config) { c.RetrySchedule = []time.Duration{0} })}
	hooks, err := receiver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hooks.Close() })
	h.hooks = hooks
	if _, err := h.OpenAccount(t.Context(), "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	made, err := h.RegisterEndpoint(t.Context(), "acme", ledger.RegisterEndpoint{URL: hooks.URL + "/acme", Environment: events.Test, Events: []string{"credit.*"}})
	if err == nil {
		err = hooks.Register("/acme", made.Secret)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.endpoint = made.Endpoint.ID
	for i, answers := range [][]receiver.Answer{{{Status: http.StatusTeapot}}, nil, {{Status: http.StatusTeapot}}} {
		hooks.Script("/acme", answers...)
		trace := client.WithTraceparent(fmt.Sprintf("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333%d-01", i))
		if _, err := h.Grant(t.Context(), "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 5}, trace); err != nil {
			t.Fatal(err)
		}
		h.attempts(i + 1)
	}
	return h
}

// attempts waits until so many are recorded.
func (h *deadHouse) attempts(n int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), receiverPatience)
	defer cancel()
	if err := awaitAttempts(ctx, h.Connect(), n); err != nil {
		h.t.Fatal(err)
	}
}

// cli runs a command of the group webhook, with something on its standard input.
func (h *deadHouse) cli(input, verb string, args ...string) (code int, out, errOut string) {
	var stdout, stderr bytes.Buffer
	args = append([]string{"webhook", verb, "acme", h.endpoint, "--server", h.Server.URL(), "--creds", h.Server.OperatorKeyPath()}, args...)
	code = run(args, strings.NewReader(input), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// All that is dead is sent again by one replay, once it was said how much that is; what a
// replay has delivered is not dead any more.
func TestRetryAllDead(t *testing.T) {
	h := newDeadHouse(t)
	said := regexp.MustCompile(`^note: 2 dead deliveries, from 0:\d+\.0 to 0:\d+\.0: 3 deliveries are sent again\n`)
	code, out, errOut := h.cli("yes\n", "retry", "--all-dead")
	if code != exitFailed || out != "" || !said.MatchString(errOut) || !strings.Contains(errOut, "not confirmed, nothing was done: it takes the word RETRY") {
		t.Fatalf("not confirmed: exit code %d, %s, %s", code, out, errOut)
	}
	code, _, errOut = h.cli("", "retry", "--all-dead", "--since", "1h")
	if code != 0 || !strings.Contains(errOut, "no delivery to endpoint "+h.endpoint+" is dead") {
		t.Errorf("since later: exit code %d, %s", code, errOut)
	}
	code, out, errOut = h.cli("RETRY\n", "retry", "--all-dead", "--since", "-1h")
	if code != 0 || !strings.Contains(out, "replay_") || !said.MatchString(errOut) {
		t.Fatalf("confirmed: exit code %d, %s, %s", code, out, errOut)
	}
	h.attempts(6)
	if got := h.hooks.Totals(); got.Verified != 3 || got.Duplicates != 1 || got.Changed != 0 {
		t.Errorf("the receiver got %+v", got)
	}
	if code, _, errOut = h.cli("", "retry", "--all-dead", "--yes"); code != 0 || !strings.Contains(errOut, "is dead") {
		t.Errorf("after that: exit code %d, %s", code, errOut)
	}
}

// Of a dead delivery it is said how to send it again, and that does it.
func TestShowSaysHowToRetry(t *testing.T) {
	h := newDeadHouse(t)
	reply, err := h.Query(t.Context(), "acme", "delivery.list", map[string]string{"status": "dead"})
	if err != nil {
		t.Fatal(err)
	}
	var list deliveries
	if err := reply.Decode(&list); err != nil || len(list.Deliveries) != 2 {
		t.Fatalf("%d dead, %v", len(list.Deliveries), err)
	}
	event := list.Deliveries[1].Event
	code, out, errOut := h.cli("", "show", event)
	command := "keyledger webhook retry acme " + h.endpoint + " " + event
	if code != 0 || !strings.Contains(out, "dead") || errOut != "note: send it again: "+command+"\n" {
		t.Fatalf("exit code %d, %s, %s", code, out, errOut)
	}
	if code, out, errOut = h.cli("", "retry", event); code != 0 || !strings.Contains(out, event+"  dead") {
		t.Fatalf("exit code %d, %s, %s", code, out, errOut)
	}
	h.attempts(4)
	if got := h.hooks.Events("/acme"); len(got) != 2 || got[1].ID != event || got[1].Sequence != "00000000000000000001" {
		t.Errorf("the receiver got %+v", got)
	}
}

// What is pulled are the bytes that are pushed, but for the sequence.
func TestPullIsWhatIsPushed(t *testing.T) {
	h := newDeadHouse(t)
	if code, _, errOut := h.cli("", "retry", "--all-dead", "--yes"); code != 0 {
		t.Fatal(errOut)
	}
	h.attempts(6)
	var pushed []string
	for _, e := range h.hooks.Events("/acme") {
		pushed = append(pushed, regexp.MustCompile(`"sequence":"\d+",`).ReplaceAllString(string(e.Body), ""))
	}
	slices.Sort(pushed)
	code, out, errOut := h.cli("", "pull", "--once")
	pulled := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	slices.Sort(pulled)
	if code != 0 || len(pushed) != 3 || !slices.Equal(pulled, pushed) {
		t.Errorf("exit code %d, %s\npulled %v\npushed %v", code, errOut, pulled, pushed)
	}
}

func TestShownDeliveryRows(t *testing.T) {
	record := map[string]any{
		"attempt": 1, "time": at(1), "outcome": "failed", "status_code": 500, "phase": "", "error": "", "response": "no\x1b[2J\r\nway",
		"duration_ms": map[string]float64{"dns": 1, "connect": 2.5, "total": 9}, "next_attempt_at": at(2),
	}
	body, err := events.Encode(map[string]any{"delivery": map[string]any{
		"event": "01J", "type": "dev.keyledger.credit.debited.v1", "endpoint": "endpoint_1", "status": "settled", "attempts": 1, "position": "0:1.0",
		"sequence": "", "key": "key_1", "status_code": 500, "attempts_log": []any{record}, "attempts_log_complete": false,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for response, want := range map[bool]string{false: "", true: "\nanswer to attempt  1\nno?[2J\nway\n"} {
		var out, notes bytes.Buffer
		a := &app{out: &out, errOut: &notes}
		var shown struct {
			Delivery shownDelivery `json:"delivery"`
		}
		if err := a.show(&client.Reply{Body: body}, &shown, func(t *table) { shown.Delivery.rows(t, "acme", response) }); err != nil {
			t.Fatal(err)
		}
		_, got, _ := strings.Cut(out.String(), "REPLAY\n")
		line := "2026-01-01T00:00:01Z  1        failed   500     -      -      1    2.5      0    0           9      2026-01-01T00:00:02Z  -\n"
		if got != line+want {
			t.Errorf("with the answers %v:\n%s\nwant\n%s", response, got, line+want)
		}
		if !strings.Contains(notes.String(), "not all could be looked through") || !strings.Contains(notes.String(), "webhook retry acme endpoint_1 01J") {
			t.Errorf("notes: %s", &notes)
		}
	}
}

func TestDeadSpan(t *testing.T) {
	rows := func(list ...string) (s deadSpan) {
		for i, position := range list {
			row := deliveryRow{Event: fmt.Sprint(i), Position: position, Sequence: fmt.Sprintf("%020d", json.Number(strings.TrimPrefix(position, "0:"))[0]-'0')}
			if s.count++; s.take(row) != nil {
				t.Fatal(position)
			}
		}
		return s
	}
	for want, s := range map[string]deadSpan{
		"1 dead deliveries, from 0:5.0 to 0:5.0: 1 deliveries are sent again":  rows("0:5.0"),
		"3 dead deliveries, from 0:4.9 to 0:5.10: 2 deliveries are sent again": rows("0:5.0", "0:5.10", "0:4.9"),
	} {
		if got := s.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if err := new(deadSpan).take(deliveryRow{Event: "1"}); err != nil {
		t.Error(err)
	}
}
