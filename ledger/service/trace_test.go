package service_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events/store"
)

// TestTraceHeader: a command's trace is kept with its entry, in either spelling of the
// header. One that is malformed, and two, are as none.
func TestTraceHeader(t *testing.T) {
	const whole, other = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01"
	l, _, secret := prepared(t)
	js, err := jetstream.New(l.Conn())
	if err != nil {
		t.Fatal(err)
	}
	log, err := store.OpenJetStream(t.Context(), js, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"keyledger.cmd.acme.credit.grant", store.SubjectAuthorize} {
		body := `{"environment":"test","asset":"credits","amount":1}`
		if subject == store.SubjectAuthorize {
			body = `{"secret":"` + secret + `","product":"payments","access":"read"}`
		}
		for name, test := range map[string]struct {
			headers nats.Header
			want    string
		}{
			"none":          {nats.Header{}, ""},
			"one":           {nats.Header{"traceparent": {whole}}, whole},
			"as HTTP has":   {nats.Header{"Traceparent": {whole}}, whole},
			"malformed":     {nats.Header{"traceparent": {strings.ToUpper(whole)}}, ""},
			"empty":         {nats.Header{"traceparent": {""}}, ""},
			"two":           {nats.Header{"traceparent": {whole, other}}, ""},
			"two spellings": {nats.Header{"traceparent": {whole}, "Traceparent": {other}}, ""},
		} {
			test.headers.Set(store.HeaderCommandID, ulid.Make().String())
			reply, err := l.Conn().RequestMsg(&nats.Msg{Subject: subject, Header: test.headers, Data: []byte(body)}, 10*time.Second)
			if err != nil || reply.Header.Get(store.HeaderErrorCode) != "" {
				t.Fatalf("%s: %v, %v", name, err, reply)
			}
			last, err := log.Last(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			data, err := log.Get(t.Context(), last)
			if err != nil {
				t.Fatal(err)
			}
			c, err := store.Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			if e := c.Entries[len(c.Entries)-1]; e.CommandID.String() != test.headers.Get(store.HeaderCommandID) || e.Trace.String() != test.want {
				t.Errorf("%s, %s: kept with the trace %q, want %q", subject, name, e.Trace, test.want)
			}
		}
	}
}
