package events_test

import (
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// TestTraceparent: W3C Trace Context level 1, §3.2.2 and §3.2.2.3 (its examples), and
// §4.3 on versions to come.
func TestTraceparent(t *testing.T) {
	const whole = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for text, want := range map[string]string{
		whole: whole,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00":        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":        whole,
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-future": whole,
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01future":  "",
		whole + "-more": "",
		whole + ".":     "",
		"":              "",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01": "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": "",
		"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "",
		"0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g": "",
	} {
		if got := events.ParseTraceparent(text).String(); got != want {
			t.Errorf("%q is read as %q, want %q", text, got, want)
		}
	}
	for i := range whole {
		if got := events.ParseTraceparent(whole[:i]); got != (events.Trace{}) {
			t.Errorf("%q is read as %s", whole[:i], got)
		}
	}
}

// TestTraceIsAnExtension: CloudEvents distributed tracing. Without a trace nothing stands
// there, so what was sent before stays the same.
func TestTraceIsAnExtension(t *testing.T) {
	e := sampleCloudEvent(t, events.Lookup("key.created"))
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, want := range []bool{false, true} {
		if want {
			e.Trace = events.ParseTraceparent(traceparent)
		}
		text, err := e.Structured()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), `"traceparent":"`+traceparent+`"`) != want || strings.Contains(string(text), "traceparent") != want {
			t.Errorf("with a trace (%v): %s", want, text)
		}
		if headers := string(e.AppendHeaders(nil)); strings.Contains(headers, "ce-traceparent: "+traceparent+"\r\n") != want {
			t.Errorf("with a trace (%v): %s", want, headers)
		}
	}
}

// TestTraceSpan: a span keeps the trace and its flags, and has the same id each time.
func TestTraceSpan(t *testing.T) {
	whole := events.ParseTraceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff")
	first, again, second := whole.Span("attempt 1"), whole.Span("attempt 1"), whole.Span("attempt 2")
	if first.ID != whole.ID || first.Flags != 1 || first.TraceID() != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("a span of %s is %s", whole, first)
	}
	if first != again || first.Parent == second.Parent || first.Parent == whole.Parent {
		t.Errorf("spans of %s are %s, again %s, another %s", whole, first, again, second)
	}
	if none := (events.Trace{}); none.Span("x") != none || none.TraceID() != "" {
		t.Error("the zero trace has a span")
	}
}

// FuzzParseTraceparent: what is read is written in a form that is read as the same.
func FuzzParseTraceparent(f *testing.F) {
	const whole = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, text := range []string{"", whole, "cc" + whole[2:] + "-x", strings.ToUpper(whole)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := events.ParseTraceparent(text)
		if got == (events.Trace{}) {
			return
		}
		if again := events.ParseTraceparent(got.String()); again != got || len(got.String()) != len(whole) {
			t.Fatalf("%q is written %s", text, got)
		}
	})
}
