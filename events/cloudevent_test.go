package events_test

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/binding"
	cloudevent "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

func TestPosition(t *testing.T) {
	for text, want := range map[string]events.Position{
		"0:42.0": {Sequence: 42},
		"0:42":   {Sequence: 42, Index: events.NoIndex},
		"0:0":    {Index: events.NoIndex},
		"4294967295:18446744073709551615.2147483647": {Partition: 1<<32 - 1, Sequence: 1<<64 - 1, Index: 1<<31 - 1},
	} {
		if got, err := events.ParsePosition(text); err != nil || got != want || want.String() != text {
			t.Errorf("%s is read as %+v (%v) and written %s", text, got, err, want)
		}
	}
	for _, bad := range []string{
		"", "0", "0:", ":1", "0:1.", "0:.1", "0:1.-1", "0:-1", "-0:1", "+0:1", " 0:1", "0:1 ", "0:1.2.3", "a:1", "0:b", "0:1.c",
		"4294967296:1", "0:18446744073709551616", "0:1.2147483648", "0:0x1", "0:1_0", "0:1:2",
	} {
		if got, err := events.ParsePosition(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}

func TestPositionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := events.Position{
			Partition: rapid.Uint32().Draw(t, "partition"), Sequence: rapid.Uint64().Draw(t, "sequence"),
			Index: rapid.IntRange(events.NoIndex, 1<<31-1).Draw(t, "index"),
		}
		if got, err := events.ParsePosition(want.String()); err != nil || got != want {
			t.Fatalf("%s is read as %+v (%v)", want, got, err)
		}
	})
}

// TestEventID: the id is a function of time, nonce and index alone, for ever.
func TestEventID(t *testing.T) {
	nonce := [16]byte{1, 2, 3}
	id := events.EventID(sampleTime, nonce, 7)
	if want := "01JD8JP73VA0VMQ87JZ3MFH97H"; id.String() != want {
		t.Errorf("the id of a fixed place is %s, was %s", id, want)
	}
	if got := events.Time(id.Time()); got != sampleTime {
		t.Errorf("the id has the time %s, want %s", got, sampleTime)
	}
	seen := map[ulid.ULID]string{id: "itself"}
	for what, other := range map[string]ulid.ULID{
		"another time":  events.EventID(sampleTime+1, nonce, 7),
		"another nonce": events.EventID(sampleTime, [16]byte{1, 2, 4}, 7),
		"another index": events.EventID(sampleTime, nonce, 8),
	} {
		if same, ok := seen[other]; ok {
			t.Errorf("%s gives the same id as %s", what, same)
		}
		seen[other] = what
	}
}

// TestPartitionKey: what must stay in order among itself.
func TestPartitionKey(t *testing.T) {
	for subject, want := range map[string]string{sampleKey: sampleKey, sampleEndpoint: "acme", "": "acme"} {
		e := events.Event{Account: "acme", Subject: subject}
		if got := e.PartitionKey(); got != want {
			t.Errorf("subject %q: %s, want %s", subject, got, want)
		}
	}
}

// TestCloudEvents has each type's event parsed and validated by the CloudEvents SDK, in
// both modes, and compares every attribute, extension and byte of data.
func TestCloudEvents(t *testing.T) {
	for i := range events.Catalog {
		kind := &events.Catalog[i]
		for _, sequence := range []string{"", "00000000000000000017"} {
			e := sampleCloudEvent(t, kind)
			e.Sequence = sequence
			t.Run(kind.Name+sequence+"/structured", func(t *testing.T) { compare(t, e, parseStructured(t, e)) })
			t.Run(kind.Name+sequence+"/binary", func(t *testing.T) { compare(t, e, parseBinary(t, e)) })
		}
	}
}

func parseStructured(t *testing.T, e *events.CloudEvent) *cloudevent.Event {
	t.Helper()
	b, err := e.Structured()
	if err != nil {
		t.Fatal(err)
	}
	again, err := e.Structured()
	if err != nil || !bytes.Equal(b, again) {
		t.Fatalf("the same event has other bytes the second time (%v)", err)
	}
	got := new(cloudevent.Event)
	if err := got.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	return got
}

// parseBinary decodes the header values as the binding's §3.1.3.2 says and gives them
// to the SDK's HTTP binding, whose header names are the same. The SDK has no NATS
// binding for messages outside its own connection.
func parseBinary(t *testing.T, e *events.CloudEvent) *cloudevent.Event {
	t.Helper()
	headers := headersOf(t, e)
	body, err := events.Encode(e.Data)
	if err != nil {
		t.Fatal(err)
	}
	if got := headers["ce-datacontenttype"]; len(got) != 1 || got[0] != "application/json" {
		t.Errorf("ce-datacontenttype is %q: the binding wants every attribute with the prefix", got)
	}
	header := http.Header{}
	for name, values := range headers {
		plain, err := url.PathUnescape(values[0])
		if err != nil || len(values) != 1 || name != strings.ToLower(name) {
			t.Errorf("header %s: %q (%v)", name, values, err)
		}
		if name != "ce-datacontenttype" { // HTTP has it in Content-Type
			header.Set(name, plain)
		}
	}
	got, err := binding.ToEvent(t.Context(), cehttp.NewMessage(header, readCloser{bytes.NewReader(body)}))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// headersOf reads an event's headers as nats.go reads those of a message.
func headersOf(t rapid.TB, e *events.CloudEvent) nats.Header {
	t.Helper()
	before := "NATS/1.0\r\n"
	headers, err := nats.DecodeHeadersMsg(append(e.AppendHeaders([]byte(before)), "\r\n"...))
	if err != nil {
		t.Fatal(err)
	}
	return headers
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func compare(t *testing.T, e *events.CloudEvent, got *cloudevent.Event) {
	t.Helper()
	if err := got.Validate(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"specversion": "1.0", "id": e.ID.String(), "source": "/keyledger/acme",
		"type": events.Lookup(e.Type).CloudEventType(), "subject": e.Subject, "datacontenttype": "application/json",
		"time": "2024-11-22T00:00:00.123Z", "position": "0:42.2", "commandid": e.CommandID.String(),
		"partitionkey": e.PartitionKey(),
	}
	if e.Environment != "" {
		want["environment"] = e.Environment
	}
	if e.Sequence != "" {
		want["sequence"] = e.Sequence
	}
	have := map[string]string{
		"specversion": got.SpecVersion(), "id": got.ID(), "source": got.Source(), "type": got.Type(), "subject": got.Subject(),
		"datacontenttype": got.DataContentType(), "time": events.At(got.Time()).String(),
	}
	for name, value := range got.Extensions() {
		text, ok := value.(string)
		if !ok {
			t.Errorf("extension %s is a %T", name, value)
		}
		have[name] = text
	}
	if !cmp.Equal(want, have) {
		t.Errorf("attributes:\n%s", cmp.Diff(want, have))
	}
	data, err := events.Encode(e.Data)
	if err != nil || !bytes.Equal(got.Data(), data) {
		t.Errorf("data (%v):\n%s", err, cmp.Diff(string(data), string(got.Data())))
	}
}

// TestPublicFormsHideSecrets: what is tagged away is in neither mode.
func TestPublicFormsHideSecrets(t *testing.T) {
	for _, name := range []string{"key.created", "endpoint.registered"} {
		structured, err := sampleCloudEvent(t, events.Lookup(name)).Structured()
		if err != nil {
			t.Fatal(err)
		}
		for _, member := range []string{"hash", "sealed", "secret"} {
			if bytes.Contains(bytes.ToLower(structured), []byte(`"`+member)) {
				t.Errorf("%s shows a member %s…: %s", name, member, structured)
			}
		}
	}
}

// subjectHeader is how the binary mode writes a subject.
func subjectHeader(t rapid.TB, subject string) string {
	t.Helper()
	e := events.CloudEvent{Event: events.Event{Type: "key.created", Subject: subject, Data: key()}}
	headers := headersOf(t, &e)
	if len(headers["ce-subject"]) != 1 {
		t.Fatalf("subject %q: %q", subject, headers["ce-subject"])
	}
	return headers["ce-subject"][0]
}

// TestPercentEncode is CloudEvents NATS binding §3.1.3.2 with its example.
func TestPercentEncode(t *testing.T) {
	for plain, want := range map[string]string{
		"Euro € 😀":       "Euro%20%E2%82%AC%20%F0%9F%98%80",
		"0:42.2":         "0:42.2",
		"!#$&'()*+~[]{}": "!#$&'()*+~[]{}",
		" ":              "%20",
		`"`:              "%22",
		"100%":           "100%25",
		"%20":            "%2520",
		"a\r\nb: c":      "a%0D%0Ab:%20c",
		"\x7f":           "%7F",
		"\u00a0":         "%C2%A0",
	} {
		if got := subjectHeader(t, plain); got != want {
			t.Errorf("%q is encoded %s, want %s", plain, got, want)
		}
	}
}

func TestPercentEncodeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.StringN(1, -1, -1).Draw(t, "plain")
		if got, err := url.PathUnescape(subjectHeader(t, plain)); err != nil || got != plain {
			t.Fatalf("%q comes back as %q (%v)", plain, got, err)
		}
	})
}
