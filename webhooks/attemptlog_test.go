package webhooks

import (
	"encoding/base64"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// What is sealed in an endpoint reaches its receiver and nobody else: it is in no
// record, log line, checkpoint or answer, even if the receiver sends it all back.
func TestSealedMembersAreShownNowhere(t *testing.T) {
	r := newRig(t)
	const token, query, part = "Bearer 7f9c2ba4e88f827d", "token=s3cr%C3%ABt-in-url&x=1", "s3crët-in-url"
	codes := []int{http.StatusOK, http.StatusInternalServerError, http.StatusServiceUnavailable}
	answered := 0
	to := newReceiver(t, nil)
	to.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") != token || q.URL.RawQuery != query || q.URL.Path != "/endpoint_1" {
			t.Errorf("the receiver got %s with %v", q.URL, q.Header)
		}
		body, _ := io.ReadAll(q.Body)
		if err := to.hook.VerifyIgnoringTimestamp(body, q.Header); err != nil {
			t.Error(err)
		}
		w.WriteHeader(codes[answered%len(codes)])
		answered++
		_, _ = io.WriteString(w, "you sent "+q.URL.String()+" "+q.URL.Query().Get("token")+" "+q.Header.Get("Authorization"))
		_, _ = io.WriteString(w, strings.Repeat(".", MaxResponseHeadBytes-150)+strings.Repeat(token, 20))
	})
	r.commit(opened("acme"))
	e := r.endpoint("endpoint_1", to.server.URL+"/endpoint_1", to.key[:])
	e.Headers = []string{"Authorization"}
	e.SealedHeaders = [][]byte{r.sealer.Seal("acme", e.ID, "header/Authorization", []byte(token))}
	e.SealedQuery = r.sealer.Seal("acme", e.ID, "query", []byte(query))
	r.commit(about(e, ""))
	d := r.start(r.onClock(), func(c *Config) { c.FirstSlots = 1 })
	r.commit(debits(2)...)
	d.waiting("endpoint_1", 1)
	r.commit(debits(1)...)
	d.waiting("endpoint_1", 2)
	list, refused := d.query(`{}`)
	if refused != nil || len(list.Deliveries) != 3 {
		t.Fatalf("%v, %v", list, refused)
	}
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	shown := r.lines.String()
	if !strings.Contains(shown, `"msg":"webhook attempt"`) || len(r.records()) != 3 {
		t.Fatalf("%d records, logged:\n%s", len(r.records()), shown)
	}
	for _, name := range []string{store.StreamAttempts, store.StreamLanes(0), store.StreamFeed(0)} {
		for _, data := range r.stream(name) {
			shown += string(data)
		}
	}
	for _, row := range list.Deliveries {
		for _, value := range row {
			if text, ok := value.(string); ok {
				shown += text
			}
		}
	}
	for _, secret := range []string{
		token, token[:8], query, "s3cr%C3%ABt", part, string(to.key[:]), hex.EncodeToString(to.key[:]),
		base64.StdEncoding.EncodeToString(to.key[:]), base64.StdEncoding.EncodeToString(e.SealedSecret),
	} {
		if strings.Contains(shown, secret) {
			t.Errorf("%q is shown", secret)
		}
	}
	for _, a := range r.records() {
		if !strings.Contains(a.Response, redacted) || len(a.Response) > 2*MaxResponseHeadBytes {
			t.Errorf("response %q", a.Response)
		}
	}
}

// With another seal key nothing is sent, unsigned least of all: the deliveries wait, and
// go out when the key is back.
func TestNothingIsSentUnsigned(t *testing.T) {
	for name, spoil := range map[string]func(r *rig, e *events.Endpoint){
		"secret sealed with another key": func(r *rig, e *events.Endpoint) {
			e.SealedSecret = newSealer(t, 2).Seal("acme", e.ID, "secret", make([]byte, 32))
		},
		"secret of another endpoint": func(r *rig, e *events.Endpoint) {
			e.SealedSecret = r.sealer.Seal("acme", "endpoint_2", "secret", make([]byte, 32))
		},
		"no secret":    func(_ *rig, e *events.Endpoint) { e.SealedSecret = nil },
		"empty secret": func(r *rig, e *events.Endpoint) { e.SealedSecret = r.sealer.Seal("acme", e.ID, "secret", nil) },
		"query":        func(_ *rig, e *events.Endpoint) { e.SealedQuery = make([]byte, 40) },
		"header":       func(_ *rig, e *events.Endpoint) { e.Headers, e.SealedHeaders = []string{"X"}, [][]byte{{1}} },
		"no header":    func(_ *rig, e *events.Endpoint) { e.Headers = []string{"X"} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			to := newReceiver(t, nil)
			r.commit(opened("acme"))
			e := r.endpoint("endpoint_1", to.server.URL+"/endpoint_1", to.key[:])
			broken := *e
			spoil(r, &broken)
			r.commit(about(&broken, ""))
			d := r.start(r.onClock())
			r.commit(debits(3)...)
			d.waiting("endpoint_1", 3)
			r.clock.advance(DefaultDelays()[1])
			d.see("second tries", func() bool { return d.failed == 6 })
			d.waiting("endpoint_1", 3)
			if n := len(to.list()); n != 0 {
				t.Errorf("%d requests", n)
			}
			c := r.commit(about(e, events.Active))
			d.wait(c.Sequence)
			r.clock.advance(DefaultDelays()[2])
			d.idle()
			r.checkDelivered(to, "endpoint_1")
			if err := d.end(); err != nil {
				t.Fatal(err)
			}
			for _, a := range r.records()[:6] {
				if a.Phase != "seal" || a.Error != "cannot open sealed value" || a.Outcome != "failed" {
					t.Errorf("record %+v", a)
				}
			}
			if !strings.Contains(r.lines.String(), `"level":"ERROR","msg":"cannot make a webhook request`) {
				t.Errorf("logged:\n%s", r.lines)
			}
		})
	}
}

// Records are history: without their stream deliveries go on, and what is lost is
// counted and logged.
func TestDeliveryDoesNotDependOnRecords(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	if err := r.js.DeleteStream(t.Context(), store.StreamAttempts); err != nil {
		t.Fatal(err)
	}
	d := r.start()
	r.commit(debits(150)...)
	d.idle()
	r.checkDelivered(to, "endpoint_1")
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	if n := d.Stats().RecordsLost; n != 150 {
		t.Errorf("%d records lost, want 150", n)
	}
	if n := strings.Count(r.lines.String(), "cannot store the record"); n != 2 {
		t.Errorf("logged %d times, want 2", n)
	}
}

// A burst of records is stored, every one.
func TestBurstOfRecords(t *testing.T) {
	r := newRig(t)
	l := newAttemptLog(r.connect(), slog.New(slog.DiscardHandler))
	const burst = 10_000
	done := make(chan error, 1)
	go func() { done <- l.run() }()
	for i := range burst {
		l.add(&Attempt{Account: "acme", Endpoint: "endpoint_1", Outcome: "delivered", Attempt: i + 1})
	}
	l.close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s, err := r.js.Stream(t.Context(), store.StreamAttempts)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != burst || l.lost.Load() != 0 || l.bytes.Load() != 0 {
		t.Errorf("%d records of %d are stored, %d lost, %d bytes wait", n, burst, l.lost.Load(), l.bytes.Load())
	}
}

// Records that wait are bounded, by their number and by their bytes; what is beyond is lost.
func TestRecordsWaitingAreBounded(t *testing.T) {
	small := &Attempt{Account: "acme", Endpoint: "endpoint_1", Outcome: "delivered"}
	l := newAttemptLog(nil, slog.New(slog.DiscardHandler))
	for range recordsWaitingMax {
		l.add(small)
	}
	waits := l.bytes.Load()
	if l.lost.Load() != 0 || waits > recordsWaitingBytes {
		t.Errorf("%d lost, %d bytes wait", l.lost.Load(), waits)
	}
	if l.add(small); l.lost.Load() != 1 || l.bytes.Load() != waits {
		t.Errorf("one beyond the number: %d lost, %d bytes wait", l.lost.Load(), l.bytes.Load())
	}
	large := *small
	large.Response = strings.Repeat("x", MaxResponseHeadBytes)
	data, err := events.Encode(&large)
	if err != nil {
		t.Fatal(err)
	}
	l = newAttemptLog(nil, slog.New(slog.DiscardHandler))
	fit := recordsWaitingBytes / len(data)
	for range fit {
		l.add(&large)
	}
	if l.lost.Load() != 0 || len(l.records) != fit {
		t.Errorf("%d lost of %d that fit", l.lost.Load(), fit)
	}
	if l.add(&large); l.lost.Load() != 1 || len(l.records) != fit {
		t.Errorf("one beyond the bytes: %d lost", l.lost.Load())
	}
}

func TestRedact(t *testing.T) {
	u := unsealed{query: "a=1234&b=xy", headers: map[string]string{"One": "secret-value", "Two": "abc"}}
	for text, want := range map[string]string{
		"plain":                     "plain",
		"secret-value secret-value": "[sealed] [sealed]",
		"?a=1234&b=xy":              "?[sealed]",
		"1234 xy abc":               "[sealed] xy abc", // the short ones are in any text
		"cut off: secret-val":       "cut off: [sealed]",
		"cut off: sec":              "cut off: sec",
		"\xff\xfe":                  "\uFFFD",
	} {
		if got := u.redact(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
