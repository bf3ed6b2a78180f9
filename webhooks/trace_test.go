package webhooks

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// A trace goes from a command to the attempts to deliver its event: the body says where it
// came from and is the same at each attempt, the header names the attempt itself.
func TestTraceOfADelivery(t *testing.T) {
	r := newRig(t)
	var headers, bodies []string
	to := newReceiver(t, func(w http.ResponseWriter, _ *received, tries int) int {
		if w.Header().Set("Content-Type", "text/plain"); tries == 1 {
			w.Header().Set("Retry-After", "1")
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	to.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		q.Body = io.NopCloser(bytes.NewReader(body))
		headers, bodies = append(headers, strings.Join(q.Header.Values("traceparent"), "|")), append(bodies, string(body))
		to.ServeHTTP(w, q)
	})
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	d := r.start(r.onClock(), func(c *Config) { c.FirstSlots = 1 })
	entry := command(debits(1)...)
	entry.Trace = events.ParseTraceparent(traceparent)
	c := r.append(entry)
	d.wait(c.Sequence)
	d.waiting("endpoint_1", 1)
	r.clock.advance(DefaultDelays()[1])
	d.idle()
	r.commit(debits(1)...)
	d.waiting("endpoint_1", 1)
	r.clock.advance(DefaultDelays()[1])
	d.idle()
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	if len(headers) != 4 || bodies[0] != bodies[1] || !strings.Contains(bodies[0], `"traceparent":"`+traceparent+`"`) {
		t.Fatalf("headers %q of bodies\n%s", headers, strings.Join(bodies, "\n"))
	}
	for _, header := range headers[:2] {
		if span := events.ParseTraceparent(header); span.TraceID() != traceparent[3:35] || span.Flags != 1 || strings.Contains(header, traceparent[36:52]) {
			t.Errorf("an attempt has the traceparent %q", header)
		}
	}
	if headers[0] == headers[1] || headers[2] != "" || headers[3] != "" || strings.Contains(bodies[2], "traceparent") {
		t.Errorf("headers %q, and a body without a trace %s", headers, bodies[2])
	}
	for i, a := range r.records() {
		want := [4]string{traceparent[3:35], traceparent[3:35]}[i]
		if a.TraceID != want || a.ContentType != "text/plain" || (a.RetryAfter == "1") != (i%2 == 0) || a.Bytes != len(bodies[i]) {
			t.Errorf("record %d: %+v", i, a)
		}
	}
}

// TestAttemptLine: the line of an attempt has these members, always all of them: dashboards
// and alerts rest on them.
func TestAttemptLine(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, func(_ http.ResponseWriter, _ *received, tries int) int {
		return []int{http.StatusInternalServerError, http.StatusOK}[min(tries-1, 1)]
	})
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	d := r.start(r.onClock())
	r.commit(debits(1)...)
	d.waiting("endpoint_1", 1)
	r.clock.advance(DefaultDelays()[1])
	d.idle()
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"time", "level", "msg", "account", "endpoint", "event", "type", "position", "sequence", "replay", "attempt", "outcome",
		"status", "phase", "error", "bytes", "dns_ms", "connect_ms", "tls_ms", "first_byte_ms", "duration_ms", "next_attempt_at", "trace_id",
	}
	attempts := 0
	for line := range strings.Lines(r.lines.String()) {
		if !strings.Contains(line, `"msg":"webhook attempt"`) {
			continue
		}
		attempts++
		if got := memberNames(t, line); !slices.Equal(got, want) {
			t.Errorf("a line has %q, want %q", got, want)
		}
	}
	if attempts != 2 {
		t.Errorf("%d lines of attempts:\n%s", attempts, r.lines)
	}
}

// memberNames lists the members of a JSON object in their order.
func memberNames(t *testing.T, text string) (names []string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
	}
	return names
}
