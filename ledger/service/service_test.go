package service_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// raw sends bytes as any NATS client would and returns the reply.
func raw(t *testing.T, l *ledgertest.Ledger, subject, body string, headers ...string) *nats.Msg {
	t.Helper()
	msg := nats.NewMsg(subject)
	msg.Data = []byte(body)
	for i := 0; i < len(headers); i += 2 {
		msg.Header.Set(headers[i], headers[i+1])
	}
	reply, err := l.Conn().RequestMsg(msg, 10*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return reply
}

// codeOf reads the code of an error reply and checks that its headers agree.
func codeOf(t *testing.T, m *nats.Msg) events.Code {
	t.Helper()
	status := m.Header.Get("Nats-Service-Error-Code")
	var body struct {
		Error *events.Error `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &body); status == "" || err != nil || body.Error == nil {
		if status != "" {
			t.Errorf("error headers without an error body: %s", m.Data)
		}
		return events.OK
	}
	if status != fmt.Sprint(body.Error.Code.Status()) || m.Header.Get("Nats-Service-Error") != body.Error.Message {
		t.Errorf("headers %v do not fit the body %s", m.Header, m.Data)
	}
	return body.Error.Code
}

// prepared is a ledger with an account, credits and a key.
func prepared(t *testing.T) (*ledgertest.Ledger, string, string) {
	t.Helper()
	l := ledgertest.Start(t)
	ctx := t.Context()
	if _, err := l.OpenAccount(ctx, "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Grant(ctx, "acme", ledger.GrantCredit{Environment: "test", Asset: "credits", Amount: 1000}); err != nil {
		t.Fatal(err)
	}
	key, err := l.CreateKey(ctx, "acme", ledger.CreateKey{Environment: "test", Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	return l, key.Key.ID, key.Secret
}

// At each limit itself all is well.
func TestLimitsHold(t *testing.T) {
	l, _, secret := prepared(t)
	for _, row := range []struct{ name, subject, body string }{
		{"account of 64 characters", "cmd." + long(64) + ".account.open", `{}`},
		{"metadata of 16 KiB", "cmd.new.account.open", `{"metadata":{"a":"` + long(16<<10-8) + `"}}`},
		{"reference of 256 characters", "cmd.acme.credit.grant", `{"environment":"test","asset":"credits","amount":1,"reference":"` + long(256) + `"}`},
		{"largest amount", "cmd.acme.credit.grant", `{"environment":"test","asset":"other","amount":9007199254740991}`},
		{"1,000 items", "authorize", "[" + strings.TrimSuffix(strings.Repeat(`{"secret":"x"},`, 1000), ",") + "]"},
		{"free", "authorize", `{"secret":"` + secret + `","cost":0}`},
	} {
		if got := codeOf(t, raw(t, l, "keyledger."+row.subject, row.body)); got != events.OK {
			t.Errorf("%s: %s", row.name, got)
		}
	}
}

func TestCommandReplies(t *testing.T) {
	l, _, _ := prepared(t)
	id := ulid.Make().String()
	first := raw(t, l, "keyledger.cmd.acme.key.create", `{"environment":"test","name":"a"}`, "Nats-Msg-Id", id)
	if first.Header.Get("Keyledger-Position") == "" || first.Header.Get("Keyledger-Replayed") != "" || !strings.Contains(string(first.Data), `"secret":"kl_test_`) {
		t.Errorf("first: %v %s", first.Header, first.Data)
	}
	again := raw(t, l, "keyledger.cmd.acme.key.create", `{"environment":"test","name":"a"}`, "Nats-Msg-Id", id)
	if again.Header.Get("Keyledger-Position") != first.Header.Get("Keyledger-Position") || again.Header.Get("Keyledger-Replayed") != "true" {
		t.Errorf("again: %v", again.Header)
	}
	if s := string(again.Data); strings.Contains(s, "kl_test_0") && strings.Contains(s, `"secret":"`) || !strings.Contains(s, `"secret_omitted":true`) {
		t.Errorf("a repeated answer must not show the secret: %s", s)
	}
	if got := codeOf(t, raw(t, l, "keyledger.cmd.acme.key.create", `{"environment":"test","name":"b"}`, "Nats-Msg-Id", id)); got != events.IDReused {
		t.Errorf("same id, other input: %s", got)
	}
}

// A command without a reply subject is executed; an authorize is not.
func TestWithoutReply(t *testing.T) {
	l, _, secret := prepared(t)
	for subject, body := range map[string]string{
		"keyledger.cmd.acme.credit.debit": `{"environment":"test","asset":"credits","amount":1}`,
		"keyledger.authorize":             `{"secret":"` + secret + `"}`,
	} {
		if err := l.Conn().Publish(subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	// Behind both on the same connection.
	reply := raw(t, l, "keyledger.cmd.acme.credit.debit", `{"environment":"test","asset":"credits","amount":1}`)
	if !strings.Contains(string(reply.Data), `"posted":998`) {
		t.Errorf("want 998 left: %s", reply.Data)
	}
}

func TestAuthorizeArray(t *testing.T) {
	l, keyID, secret := prepared(t)
	id := ulid.Make().String()
	body := fmt.Sprintf(`[{"secret":%q,"cost":600,"id":%q},{"secret":%q,"cost":600},{"secret":%q,"colour":1},{"secret":%q,"cost":601,"id":%q},{"secret":%q,"cost":0},{"secret":%q,"cost":600,"id":%q}]`,
		secret, id, secret, secret, secret, id, secret, secret, id)
	reply := raw(t, l, "keyledger.authorize", body)
	var answers []ledger.Answer
	if err := json.Unmarshal(reply.Data, &answers); err != nil {
		t.Fatalf("%s: %v", reply.Data, err)
	}
	want := []events.Code{events.OK, events.InsufficientCredits, events.InvalidArgument, events.IDReused, events.OK, events.OK}
	for i, a := range answers {
		if a.Code != want[i] {
			t.Errorf("item %d: %+v, want %s", i, a, want[i])
		}
	}
	if answers[0].Key != keyID || answers[0].Position == "" || answers[4].Replayed || !answers[5].Replayed {
		t.Errorf("answers %+v", answers)
	}
	// The same item again, alone: the same bytes, so the same answer.
	item := fmt.Sprintf(`{"secret":%q,"cost":600,"id":%q}`, secret, id)
	again := raw(t, l, "keyledger.authorize", item)
	var answer ledger.Answer
	if err := json.Unmarshal(again.Data, &answer); err != nil || !answer.Replayed || answer.Debit != answers[0].Debit || *answer.Balance != 400 {
		t.Errorf("again: %s", again.Data)
	}
	if again.Header.Get("Keyledger-Replayed") != "true" {
		t.Errorf("headers %v", again.Header)
	}
}

func TestMicroService(t *testing.T) {
	l, _, _ := prepared(t)
	reply, err := l.Conn().Request("$SRV.INFO.keyledger", nil, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(reply.Data, &info); err != nil {
		t.Fatal(err)
	}
	if info.Name != "keyledger" || len(info.Endpoints) != 3 {
		t.Errorf("info %+v", info)
	}
	for _, verb := range []string{"PING", "STATS"} {
		if _, err := l.Conn().Request("$SRV."+verb+".keyledger", nil, 5*time.Second); err != nil {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// The answer never goes where only keyledger may publish.
func TestReplySubjectOfKeyledgersOwn(t *testing.T) {
	l, _, _ := prepared(t)
	before := len(l.Commits())
	for _, reply := range []string{"keyledger.log.0", "keyledger.cmd.acme.account.suspend", "$SRV.PING", "_KEYLEDGER.x"} {
		if err := l.Conn().PublishRequest("keyledger.cmd.acme.credit.grant", reply, []byte(`{"environment":"test","asset":"credits","amount":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	raw(t, l, "keyledger.cmd.acme.account.resume", `{}`)
	if after := len(l.Commits()); after != before {
		t.Errorf("%d commits more", after-before)
	}
}

// While the server's clock is wrong every decision is refused, and nothing but an
// operator's word, or the right time, ends that. Queries answer all the while.
func TestWrongClock(t *testing.T) {
	var off atomic.Int64
	l := ledgertest.Start(t, func(cfg *server.Config) {
		cfg.Clock = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
	})
	if _, err := l.OpenAccount(t.Context(), "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	key, err := l.CreateKey(t.Context(), "acme", ledger.CreateKey{Environment: "test", Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	grant := `{"environment":"test","asset":"credits","amount":1}`
	ask := `{"secret":"` + key.Secret + `","cost":0}`
	off.Store(int64(24 * time.Hour))
	for subject, body := range map[string]string{"cmd.acme.credit.grant": grant, "authorize": ask} {
		if got := codeOf(t, raw(t, l, "keyledger."+subject, body)); got != events.Unavailable {
			t.Errorf("%s with a clock a day ahead: %s, want unavailable", subject, got)
		}
	}
	if got := codeOf(t, raw(t, l, "keyledger.query.acme.key.list", `{}`, "Keyledger-Consistency", "strict")); got != events.OK {
		t.Errorf("a strict query: %s", got)
	}
	off.Store(0)
	if got := codeOf(t, raw(t, l, "keyledger.cmd.acme.credit.grant", grant)); got != events.OK {
		t.Errorf("the clock is right again: %s", got)
	}
	off.Store(int64(24 * time.Hour))
	if got := codeOf(t, raw(t, l, "keyledger.cmd.acme.credit.grant", grant)); got != events.Unavailable {
		t.Errorf("the clock jumped again: %s", got)
	}
	reply := raw(t, l, "keyledger.cmd._.ledger.accept_clock", `{}`)
	var accepted struct {
		Clock struct {
			OffMS int64 `json:"accepted_off_ms"`
		} `json:"clock"`
	}
	if err := json.Unmarshal(reply.Data, &accepted); err != nil || accepted.Clock.OffMS < 86_000_000 {
		t.Errorf("accept_clock: %s, %v", reply.Data, err)
	}
	if got := codeOf(t, raw(t, l, "keyledger.cmd.acme.credit.grant", grant)); got != events.OK {
		t.Errorf("the clock was accepted: %s", got)
	}
}
