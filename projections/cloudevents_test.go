package projections

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	nethttp "net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/binding"
	cloudevent "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
)

// toEvent reads a feed message with the CloudEvents SDK, which has the same headers for
// HTTP, after decoding them as the NATS binding says.
func toEvent(t *testing.T, msg jetstream.Msg) *cloudevent.Event {
	t.Helper()
	header := nethttp.Header{}
	for name, values := range msg.Headers() {
		if name == "ce-datacontenttype" {
			continue // HTTP has it in Content-Type
		}
		value, err := url.PathUnescape(values[0])
		if err != nil {
			t.Fatal(err)
		}
		header.Set(name, value)
	}
	e, err := binding.ToEvent(context.Background(), cehttp.NewMessage(header, io.NopCloser(bytes.NewReader(msg.Data()))))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestFeedIsCloudEvents: the CloudEvents SDK reads the feed, and what it reads is what it
// reads from the structured form of the same event.
func TestFeedIsCloudEvents(t *testing.T) {
	f := newFeedTest(t)
	f.random(t, 50, 10)
	odd := f.account("acme")
	odd.Subject = `"grüße"%41` // no id of ours; the form allows it
	f.commit(odd)
	run(t, f.feed(f.tail).Run)
	got := f.read()
	f.each(func(e *events.CloudEvent, sequence uint64) {
		binary := toEvent(t, got[sequence-1])
		if err := binary.Validate(); err != nil {
			t.Fatalf("event %d: %v", sequence, err)
		}
		data, err := e.Structured()
		if err != nil {
			t.Fatal(err)
		}
		var structured cloudevent.Event
		if err := json.Unmarshal(data, &structured); err != nil {
			t.Fatal(err)
		}
		// Extensions that came from headers bear the form of their names there.
		extensions := map[string]any{}
		for name, value := range binary.Extensions() {
			if !strings.HasPrefix(name, "nats-") {
				extensions[strings.ToLower(name)] = value
			}
		}
		if diff := cmp.Diff(structured.Extensions(), extensions); diff != "" {
			t.Errorf("extensions of event %d (-structured +binary):\n%s", sequence, diff)
		}
		for name, pair := range map[string][2]string{
			"id": {structured.ID(), binary.ID()}, "source": {structured.Source(), binary.Source()},
			"type": {structured.Type(), binary.Type()}, "subject": {structured.Subject(), binary.Subject()},
			"time": {structured.Time().String(), binary.Time().String()}, "data": {string(structured.Data()), string(binary.Data())},
			"datacontenttype": {structured.DataContentType(), binary.DataContentType()},
			"specversion":     {structured.SpecVersion(), binary.SpecVersion()},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s of event %d: structured %q, binary %q", name, sequence, pair[0], pair[1])
			}
		}
	})
	if got, want := got[len(got)-1].Headers().Get("ce-subject"), "%22gr%C3%BC%C3%9Fe%22%2541"; got != want {
		t.Errorf("ce-subject is %s, want %s", got, want)
	}
}

// TestFeedSubjects: an event is on the subjects of its own account, whoever's command it was.
func TestFeedSubjects(t *testing.T) {
	f := newFeedTest(t)
	key, created := f.key("acme", events.Live)
	f.commit(f.account("acme"), created, f.granted("acme", "grant_1", 10, 0, 10))
	f.commit(f.debited("acme", key, 9, events.Draw{Grant: "grant_1", Amount: 1}))
	leg := func(account string) events.Event {
		return events.Event{Type: "credit.transferred", Account: account, Environment: events.Test,
			Data: &events.Transferred{Transfer: events.Transfer{ID: "transfer_1", From: "acme", To: "beta", Amount: 1}, Balance: smallBalance(1)}}
	}
	alert := events.Event{Type: "balance.low", Account: "acme", Environment: events.Test, Data: &events.Alert{Balance: smallBalance(1)}}
	f.append(f.entry(leg("acme"), leg("beta"), alert)) // the receiver's event in the sender's entry
	f.commit(f.held("acme", "placed", events.Held{Hold: events.Hold{ID: "hold_1", Key: key}}, 9, 1))
	run(t, f.feed(f.tail).Run)
	want := []string{
		"keyledger.events.0.acme.-.account.opened.-",
		"keyledger.events.0.acme.live.key.created." + key,
		"keyledger.events.0.acme.test.credit.granted.-",
		"keyledger.events.0.acme.test.credit.debited." + key,
		"keyledger.events.0.acme.test.credit.transferred.-",
		"keyledger.events.0.beta.test.credit.transferred.-",
		"keyledger.events.0.acme.test.balance.low.-",
		"keyledger.events.0.acme.test.hold.placed.hold_1",
	}
	for i, msg := range f.read() {
		if msg.Subject() != want[i] {
			t.Errorf("event %d is on %s, want %s", i, msg.Subject(), want[i])
		}
		if source := "/keyledger/" + strings.Split(want[i], ".")[3]; msg.Headers().Get("ce-source") != source {
			t.Errorf("event %d is from %s, want %s", i, msg.Headers().Get("ce-source"), source)
		}
	}
}
