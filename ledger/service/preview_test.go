package service_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// askable is a receiver that consents at once, or at /hang once it is let go.
type askable struct {
	url   string
	asked atomic.Int64
	hung  chan struct{} // told of each question that hangs
	goOn  chan struct{}
}

func newAskable(t *testing.T) *askable {
	a := &askable{hung: make(chan struct{}, 16), goOn: make(chan struct{})}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodOptions {
			return
		}
		a.asked.Add(1)
		if r.URL.Path == "/hang" {
			a.hung <- struct{}{}
			<-a.goOn
		}
		w.Header().Set("WebHook-Allowed-Origin", "*")
	}))
	t.Cleanup(s.Close)
	a.url = s.URL
	return a
}

func (a *askable) register(path, more string) string {
	return fmt.Sprintf(`{"url":"%s%s","environment":"test","events":["*"]%s}`, a.url, path, more)
}

// What is refused anyway, or was done already, sends no request to anybody.
func TestWhatIsNotDoneAsksNobody(t *testing.T) {
	policy, a := "off", newAskable(t)
	l := ledgertest.Start(t, func(c *server.Config) { c.WebhookConsent = policy })
	for _, account := range []string{"acme", "full", "over"} {
		if _, err := l.OpenAccount(t.Context(), account, ledger.OpenAccount{}); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		raw(t, l, "keyledger.cmd.full.endpoint.register", a.register("/", ""))
	}
	raw(t, l, "keyledger.cmd.over.account.close", `{}`)
	l.Stop()
	policy = "require"
	l.Start()
	defer l.Stop()
	done := ulid.Make().String()
	first := raw(t, l, "keyledger.cmd.acme.endpoint.register", a.register("/", ""), store.HeaderCommandID, done)
	if code := codeOf(t, first); code != events.OK || a.asked.Load() != 1 {
		t.Fatalf("%s, %d questions: %s", code, a.asked.Load(), first.Data)
	}
	nowhere := `{"endpoint":"endpoint_` + ulid.Make().String() + `","url":"` + a.url + `"}`
	foreign := `,"keys":["key_` + ulid.Make().String() + `"]`
	for _, c := range []struct {
		name, subject, body, id string
		want                    events.Code
	}{
		{"unknown account", "nobody.endpoint.register", a.register("/", ""), "", events.NotFound},
		{"unknown endpoint", "acme.endpoint.update", nowhere, "", events.NotFound},
		{"another command's id", "acme.endpoint.register", a.register("/other", ""), done, events.IDReused},
		{"a done command's id", "acme.endpoint.register", a.register("/", ""), done, events.OK},
		{"an id too old", "acme.endpoint.register", a.register("/", ""), ulid.MustNew(1, ulid.DefaultEntropy()).String(), events.CommandExpired},
		{"closed account", "over.endpoint.register", a.register("/", ""), "", events.FailedPrecondition},
		{"50 endpoints", "full.endpoint.register", a.register("/", ""), "", events.LimitExceeded},
		{"foreign key", "acme.endpoint.register", a.register("/", foreign), "", events.NotFound},
	} {
		var headers []string
		if c.id != "" {
			headers = []string{store.HeaderCommandID, c.id}
		}
		reply := raw(t, l, "keyledger.cmd."+c.subject, c.body, headers...)
		if code := codeOf(t, reply); code != c.want || a.asked.Load() != 1 {
			t.Errorf("%s: %s, want %s, and %d questions more: %s", c.name, code, c.want, a.asked.Load()-1, reply.Data)
		}
	}
}

// A retry of what was done is answered whatever receivers do.
func TestDoneIsAnsweredWhileReceiversHang(t *testing.T) {
	a := newAskable(t)
	l := ledgertest.Start(t, func(c *server.Config) { c.WebhookConsent = "require" })
	defer close(a.goOn)
	if _, err := l.OpenAccount(t.Context(), "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	done := ulid.Make().String()
	first := raw(t, l, "keyledger.cmd.acme.endpoint.register", a.register("/", ""), store.HeaderCommandID, done)
	if code := codeOf(t, first); code != events.OK {
		t.Fatalf("%s: %s", code, first.Data)
	}
	answers, err := l.Conn().SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := l.Conn().PublishRequest("keyledger.cmd.acme.endpoint.register", answers.Subject, []byte(a.register("/hang", ""))); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		<-a.hung
	}
	again := raw(t, l, "keyledger.cmd.acme.endpoint.register", a.register("/", ""), store.HeaderCommandID, done)
	if code := codeOf(t, again); code != events.OK || again.Header.Get(store.HeaderReplayed) != "true" || a.asked.Load() != 5 {
		t.Errorf("%s, %v, %d asked: %s", code, again.Header, a.asked.Load(), again.Data)
	}
	if n, _, _ := answers.Pending(); n != 0 {
		t.Errorf("%d commands were answered whose receivers hang", n)
	}
}
