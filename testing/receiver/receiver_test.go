package receiver_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/keyledger/keyledger/testing/receiver"
)

// sender signs with the library, as the published contract says.
type sender struct {
	t      *testing.T
	url    string
	secret string
	kind   string // content type
}

func secret(seed byte) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune('a'+seed)), 32)))
}

func start(t *testing.T, path string) (*receiver.Server, *sender) {
	t.Helper()
	s, err := receiver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Register(path, secret(0)); err != nil {
		t.Fatal(err)
	}
	return s, &sender{t: t, url: s.URL + path, secret: secret(0), kind: "application/cloudevents+json; charset=utf-8"}
}

func event(id string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/keyledger/acme","type":"dev.keyledger.credit.debited.v1",`+
		`"subject":"key_1","time":"2026-01-31T12:00:00.001Z","sequence":"00000000000000000007","datacontenttype":"application/json","data":{"amount":100}}`, id)
}

// post sends body under an id and returns the response.
func (s *sender) post(id, body string) *http.Response {
	s.t.Helper()
	hook, err := standardwebhooks.NewWebhook(s.secret)
	if err != nil {
		s.t.Fatal(err)
	}
	now := time.Now()
	signature, err := hook.Sign(id, now, []byte(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, s.url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", s.kind)
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

func (s *sender) expect(want int, id, body string) {
	s.t.Helper()
	if got := s.post(id, body).StatusCode; got != want {
		s.t.Errorf("post %s: status %d, want %d", id, got, want)
	}
}

func expectTotals(t *testing.T, s *receiver.Server, want receiver.Totals) {
	t.Helper()
	if got := s.Totals(); got != want {
		t.Errorf("totals:\n got %+v\nwant %+v", got, want)
	}
}

func TestRecordsVerifiedEvents(t *testing.T) {
	s, send := start(t, "/acme")
	send.expect(200, "01A", event("01A"))
	send.expect(200, "01B", event("01B"))
	expectTotals(t, s, receiver.Totals{Requests: 2, Verified: 2})
	got := s.Events("/acme")
	if len(got) != 2 {
		t.Fatalf("%d events, want 2", len(got))
	}
	e := got[0]
	if e.ID != "01A" || e.Type != "dev.keyledger.credit.debited.v1" || e.Source != "/keyledger/acme" || e.Subject != "key_1" ||
		e.Sequence != "00000000000000000007" || string(e.Data) != `{"amount":100}` || string(e.Body) != event("01A") {
		t.Errorf("event: %+v", e)
	}
	if got[1].ID != "01B" {
		t.Errorf("second event is %s, want 01B", got[1].ID)
	}
	if s.Events("/other") != nil || s.Attempts("/other") != nil {
		t.Error("a path that is not registered has events or attempts")
	}
}

func TestCountsDuplicates(t *testing.T) {
	s, send := start(t, "/acme")
	send.expect(200, "01A", event("01A"))
	send.expect(200, "01A", event("01A"))
	send.expect(200, "01A", strings.Replace(event("01A"), "100", "101", 1))
	expectTotals(t, s, receiver.Totals{Requests: 3, Verified: 1, Duplicates: 1, Changed: 1})
	if n := len(s.Events("/acme")); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	if n := len(s.Attempts("/acme")); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
}

func TestRefusesWhatItCannotVerify(t *testing.T) {
	s, send := start(t, "/acme")
	stranger := *send
	stranger.secret = secret(1)
	stranger.expect(401, "01A", event("01A"))
	lost := *send
	lost.url += "/x"
	lost.expect(404, "01A", event("01A"))
	send.expect(400, "01A", event("01B"))     // the id in the header is another
	send.expect(400, "01A", `{"id":"01A"}`)   // no CloudEvent
	send.expect(400, "01A", `{"specversion"`) // no JSON
	plain := *send
	plain.kind = "application/json" // no CloudEvents mode
	plain.expect(400, "01A", event("01A"))
	resp, err := http.Get(send.url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Errorf("GET: status %d, want 400", resp.StatusCode)
	}
	expectTotals(t, s, receiver.Totals{Requests: 7, BadSignatures: 1, Unknown: 1, Malformed: 5})
}

func TestSecretCanChange(t *testing.T) {
	s, send := start(t, "/acme")
	if err := s.Register("/acme", secret(2)); err != nil {
		t.Fatal(err)
	}
	send.expect(401, "01A", event("01A"))
	send.secret = secret(2)
	send.expect(200, "01A", event("01A"))
	if err := s.Register("/acme", "whsec_!"); err == nil {
		t.Error("a secret that is not base64 was taken")
	}
}

func TestFollowsItsScript(t *testing.T) {
	s, send := start(t, "/acme")
	s.Script("/acme",
		receiver.Answer{Status: 503, Header: http.Header{"Retry-After": {"7"}}},
		receiver.Answer{Status: 410})
	stranger := *send
	stranger.secret = secret(1)
	stranger.expect(401, "01A", event("01A")) // uses up no scripted answer
	if resp := send.post("01A", event("01A")); resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "7" {
		t.Errorf("first answer: %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	send.expect(410, "01B", event("01B"))
	send.expect(200, "01A", event("01A"))
	expectTotals(t, s, receiver.Totals{Requests: 4, Scripted: 2, Verified: 1, BadSignatures: 1})
	var statuses []int
	for _, a := range s.Attempts("/acme") {
		statuses = append(statuses, a.Status)
	}
	if fmt.Sprint(statuses) != "[503 410 200]" {
		t.Errorf("attempts: %v", statuses)
	}
}

func TestWait(t *testing.T) {
	s, send := start(t, "/acme")
	done := make(chan error, 1)
	go func() {
		done <- s.Wait(t.Context(), func(totals receiver.Totals) bool { return totals.Verified == 3 })
	}()
	for _, id := range []string{"01A", "01B", "01C"} {
		send.expect(200, id, event(id))
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Wait(ctx, func(totals receiver.Totals) bool { return totals.Verified == 4 })
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "Verified:3") {
		t.Errorf("wait with an ended context: %v", err)
	}
}
