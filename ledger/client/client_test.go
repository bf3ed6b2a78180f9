package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/client"
)

// answering runs a NATS server on which each request is answered with the next code of a
// list, the last one for ever, and returns a client of it.
func answering(t *testing.T, codes ...events.Code) *client.Client {
	t.Helper()
	server, err := natsserver.NewServer(&natsserver.Options{DontListen: true, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	conn, err := nats.Connect("", nats.InProcessServer(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	n := 0
	_, err = conn.Subscribe(store.SubjectCommand+">", func(m *nats.Msg) {
		code := codes[min(n, len(codes)-1)]
		n++
		answer := nats.NewMsg(m.Reply)
		answer.Data = []byte(`{}`)
		if code != events.OK {
			answer.Header.Set(store.HeaderErrorCode, "503")
			answer.Data = []byte(`{"error":{"code":"` + string(code) + `","message":"m"}}`)
		}
		if err := m.RespondMsg(answer); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return client.New(conn)
}

// A call that tries again must not say "certainly not done" of a command whose first try
// may have been done: who believes it gives the command a second time.
func TestOutcomeStaysUnknown(t *testing.T) {
	const unknown, not, no, yes = events.OutcomeUnknown, events.Unavailable, events.InsufficientCredits, events.OK
	for _, c := range []struct {
		name    string
		answers []events.Code
		want    events.Code
	}{
		{"done", []events.Code{yes}, yes},
		{"certainly not done", []events.Code{not, yes}, not},
		{"unknown for good", []events.Code{unknown}, unknown},
		{"unknown, then done", []events.Code{unknown, unknown, yes}, yes},
		{"unknown, then refused", []events.Code{unknown, no}, no},
		{"unknown, then certainly not done that time", []events.Code{unknown, not}, unknown},
		{"unknown, then not done, then done", []events.Code{unknown, not, not, yes}, yes},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := answering(t, c.answers...).Command(ctx, "acme", "credit.debit", nil)
			got := events.OK
			var refused *events.Error
			switch {
			case errors.As(err, &refused):
				got = refused.Code
			case err != nil:
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("%v: %s, want %s", c.answers, got, c.want)
			}
		})
	}
}
