package service_test

import (
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

// The order of what is checked before the rules: of two things that are wrong, the first
// gives the answer.
func TestOrderOfForms(t *testing.T) {
	l, key, _ := prepared(t)
	if _, err := l.Command(t.Context(), "acme", "account.suspend", ledger.SuspendAccount{}); err != nil {
		t.Fatal(err)
	}
	used := ulid.Make().String()
	if got := codeOf(t, raw(t, l, "keyledger.cmd.acme.account.update", `{"name":"n"}`, "Nats-Msg-Id", used)); got != events.OK {
		t.Fatal(got)
	}
	stale := idAt(-25 * time.Hour)
	for _, row := range []struct {
		name, subject, body, id string
		want                    events.Code
		says                    string
	}{
		{"size, JSON", "acme.key.create", "{" + long(64<<10), "", bad, "bytes"},
		{"JSON, id form", "acme.key.create", `{"colour":1}`, "42", bad, "colour"},
		{"fields, id form", "acme.key.create", `{"environment":"staging","name":"k"}`, "42", bad, "environment"},
		{"id form, account", "nobody.key.create", `{"environment":"test","name":"k"}`, "42", bad, "ULID"},
		{"JSON, receipt", "acme.account.update", `{"name":1}`, used, bad, "name"},
		{"receipt, state", "acme.key.create", `{"environment":"test","name":"k"}`, used, events.IDReused, ""},
		{"expired, account", "nobody.key.create", `{"environment":"test","name":"k"}`, stale, events.CommandExpired, ""},
		{"expired, state", "acme.key.rotate", `{"key":"` + key + `"}`, stale, events.CommandExpired, ""},
		{"account, target", "nobody.key.rotate", `{"key":"` + key + `"}`, "", events.NotFound, "account.open"},
		{"state, target", "acme.key.rotate", `{"key":"key_01ARZ3NDEKTSV4RRFFQ69G5FAV"}`, "", events.AccountSuspended, ""},
		{"an answer that was given, state", "acme.account.update", `{"name":"n"}`, used, events.OK, `"status":"suspended"`},
	} {
		var headers []string
		if row.id != "" {
			headers = []string{"Nats-Msg-Id", row.id}
		}
		reply := raw(t, l, "keyledger.cmd."+row.subject, row.body, headers...)
		if got := codeOf(t, reply); got != row.want || !strings.Contains(string(reply.Data), row.says) {
			t.Errorf("%s: %s (%s), want %s with %q", row.name, got, reply.Data, row.want, row.says)
		}
	}
}
