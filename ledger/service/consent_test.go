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
		if err := s.consent(t.Context(), "acme", req.Command); err != nil || len(asked) != 1 || asked[0] != c.asked {
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
		for range askLimits.share + 1 {
			s.command(s.commandTo("acme", "endpoint.register", registerBody)) // returns at once
		}
		s.command(s.commandTo("beta", "endpoint.update", moveBody))
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
