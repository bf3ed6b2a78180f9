package service

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/writer"
	"github.com/keyledger/keyledger/webhooks"
)

// asking is a service without NATS whose receivers answer with a function.
func asking(t *testing.T, answer func(context.Context, Receiver) (string, int64)) *Service {
	t.Helper()
	sealer, err := events.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return newService(Config{
		Logger: slog.New(slog.DiscardHandler), Sealer: sealer, Actor: func(string, string) string { return operator }, Writer: writer.New(writer.Config{}),
		EndpointSecret: webhooks.NewSecret, EndpointKey: func([32]byte) string { return "whpk_" },
		CheckEndpoint: func(string, map[string]string) error { return nil },
		Consent:       answer, RequireConsent: true,
	})
}

// commandTo is a request with a minute's time.
func (s *Service) commandTo(account, verb, body string) *request {
	return &request{
		s: s, subject: store.SubjectCommand + account + "." + verb, body: []byte(body), header: micro.Headers{},
		deadline: time.Now().Add(time.Minute),
	}
}

const (
	registerBody = `{"url":"https://example.com/h?token=1","environment":"test","events":["*"],"headers":{"X-A":"b"},"rate_per_minute":60}`
	moveBody     = `{"endpoint":"` + fuzzedEndpoint + `","url":"https://example.com/b?token=1"}`
)

// What a receiver says is in the command: it is asked at the whole URL, and only where
// there is one.
func TestConsentIsPutIntoTheCommand(t *testing.T) {
	var asked []string
	s := asking(t, func(_ context.Context, who Receiver) (string, int64) {
		asked = append(asked, fmt.Sprint(who))
		return events.ConsentConfirmed, 120
	})
	for _, c := range []struct {
		verb, body, asked string
	}{
		{"endpoint.register", registerBody, "{acme https://example.com/h?token=1 map[X-A:b] 60}"},
		{"endpoint.update", moveBody, "{acme https://example.com/b?token=1 map[] 0}"},
		{"endpoint.update", `{"endpoint":"` + fuzzedEndpoint + `","headers":{"X-A":"b"}}`, ""},
		{"endpoint.test", `{"endpoint":"` + fuzzedEndpoint + `"}`, ""},
		{"account.open", `{}`, ""},
	} {
		asked = nil
		req, _, refused := s.decodeCommand(s.commandTo("acme", c.verb, c.body))
		if refused != nil {
			t.Fatal(refused)
		}
		if s.asks(req.Command) != (c.asked != "") {
			t.Errorf("%s %s: asks is %t", c.verb, c.body, s.asks(req.Command))
		}
		if c.asked == "" {
			continue
		}
		if err := s.consent(t.Context(), "acme", req.Command, nil); err != nil || len(asked) != 1 || asked[0] != c.asked {
			t.Errorf("%s: asked %q, %v, want %q", c.verb, asked, err, c.asked)
		}
		var e *events.Endpoint
		var required bool
		switch cmd := req.Command.(type) {
		case *ledger.RegisterEndpoint:
			e, required = cmd.Endpoint, cmd.RequireConsent
		case *ledger.UpdateEndpoint:
			e, required = cmd.Made, cmd.RequireConsent
		}
		if e.Consent != events.ConsentConfirmed || e.AllowedRate != 120 || !required {
			t.Errorf("%s: %s, %d a minute, required %t", c.verb, e.Consent, e.AllowedRate, required)
		}
	}
	s.cfg.Consent = nil
	if s.asks(&ledger.RegisterEndpoint{}) {
		t.Error("nobody is there to ask, and it asks")
	}
}

// A receiver that hangs holds up its own command, and that only for a part of its time: the
// command goes on without an answer. Of an account no more are asked at once than its share.
func TestAskingHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Int64
		s := asking(t, func(ctx context.Context, _ Receiver) (string, int64) {
			now.Add(1)
			defer now.Add(-1)
			<-ctx.Done()
			return events.ConsentUnconfirmed, 0
		})
		began := time.Now()
		askFor := func(account, verb, body string) {
			r := s.commandTo(account, verb, body)
			req, _, refused := s.decodeCommand(r)
			if refused != nil {
				t.Fatal(refused)
			}
			go s.ask(r, req, nil)
		}
		for range askLimits.share + 1 {
			askFor("acme", "endpoint.register", registerBody)
		}
		askFor("beta", "endpoint.update", moveBody)
		if synctest.Wait(); now.Load() != int64(askLimits.share)+1 {
			t.Errorf("%d are asked at once, want %d of one account and 1 of another", now.Load(), askLimits.share)
		}
		<-time.After(time.Duration(float64(time.Minute)*askShare) - time.Since(began) - 1)
		if synctest.Wait(); s.cfg.Writer.Stats().Waiting != 0 {
			t.Error("a command went on before its receiver's time was over")
		}
		<-time.After(1)
		if synctest.Wait(); s.cfg.Writer.Stats().Waiting < int64(askLimits.share)+1 || now.Load() != 0 {
			t.Errorf("%d commands went on once their receivers' time was over, %d are still asked", s.cfg.Writer.Stats().Waiting, now.Load())
		}
	})
}

// At an update the receiver is asked as deliveries will come to it, and nobody but the one
// that knows the kept headers is told them.
func TestUpdateAsksWithWhatIsKept(t *testing.T) {
	var asked string
	s := asking(t, func(_ context.Context, who Receiver) (string, int64) {
		asked = fmt.Sprint(who)
		return events.ConsentConfirmed, 0
	})
	was := s.sealEndpoint("acme", fuzzedEndpoint, "https://example.com/a?token=0", []string{"X-A"}, map[string]string{"X-A": "kept"})
	was.RatePerMinute = 60
	for _, c := range []struct{ members, asked string }{
		{`"url":"https://example.com/b"`, "https://example.com/b map[X-A:kept] 60"},
		{`"url":"https://EXAMPLE.com:443/b"`, "https://EXAMPLE.com:443/b map[X-A:kept] 60"},
		{`"url":"https://example.com/b","headers":{"X-B":"new"},"rate_per_minute":0`, "https://example.com/b map[X-B:new] 0"},
		{`"url":"https://example.com/b","headers":{}`, "https://example.com/b map[] 60"},
		{`"url":"https://example.com:444/a"`, "https://example.com:444/a map[] 60"},
		{`"url":"http://example.com/a"`, "http://example.com/a map[] 60"},
		{`"url":"http://example.com:443/a"`, "http://example.com:443/a map[] 60"},
		{`"url":"https://example.com.evil.test/a"`, "https://example.com.evil.test/a map[] 60"},
		{`"url":"https://evil.test/a","headers":{"X-B":"new"}`, "https://evil.test/a map[X-B:new] 60"},
	} {
		req, _, refused := s.decodeCommand(s.commandTo("acme", "endpoint.update", `{"endpoint":"`+fuzzedEndpoint+`",`+c.members+`}`))
		if refused != nil {
			t.Fatal(refused)
		}
		if err := s.consent(t.Context(), "acme", req.Command, was); err != nil || asked != "{acme "+c.asked+"}" {
			t.Errorf("%s: asked %s, %v, want %s", c.members, asked, err, c.asked)
		}
	}
}

// An account that has asked its fill is refused where a consent is required, and unconfirmed
// where it is not; nobody is asked for it, and another account is not held up.
func TestQuestionsHaveALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n int
		s := asking(t, func(context.Context, Receiver) (string, int64) { n++; return events.ConsentConfirmed, 0 })
		register := func(account string) (string, *events.Error) {
			c := &ledger.RegisterEndpoint{Endpoint: &events.Endpoint{}}
			err := s.consent(t.Context(), account, c, nil)
			return c.Endpoint.Consent, err
		}
		for range maxQuestions {
			if consent, err := register("acme"); err != nil || consent != events.ConsentConfirmed {
				t.Fatal(consent, err)
			}
		}
		if _, err := register("acme"); err == nil || err.Code != events.LimitExceeded {
			t.Errorf("one more: %v", err)
		}
		s.cfg.RequireConsent = false
		if consent, err := register("acme"); err != nil || consent != events.ConsentUnconfirmed || n != maxQuestions {
			t.Errorf("one more, where none is required: %s, %v, %d asked", consent, err, n)
		}
		if consent, err := register("beta"); err != nil || consent != events.ConsentConfirmed {
			t.Errorf("another account: %s, %v", consent, err)
		}
		<-time.After(questionEvery)
		if consent, err := register("acme"); err != nil || consent != events.ConsentConfirmed {
			t.Errorf("after %s: %s, %v", questionEvery, consent, err)
		}
		<-time.After(2 * time.Minute)
		if register("beta"); len(s.questions.of) != 1 {
			t.Errorf("%d accounts are remembered, want 1", len(s.questions.of))
		}
		for i := range maxAskers {
			s.questions.take(fmt.Sprint(i), time.Now())
		}
		if wait := s.questions.take("new", time.Now()); wait != questionEvery || len(s.questions.of) != maxAskers {
			t.Errorf("with %d accounts: wait %s", len(s.questions.of), wait)
		}
		<-time.After(questionEvery)
		if wait := s.questions.take("new", time.Now()); wait != 0 || len(s.questions.of) != 1 {
			t.Errorf("once they are forgotten: wait %s, %d accounts", wait, len(s.questions.of))
		}
	})
}
