package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const listenSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// hookTo posts an event as keyledger does, signed by the Standard Webhooks library, and
// returns the status of the answer.
func hookTo(t *testing.T, url, secret, id string, sequence uint64) int {
	t.Helper()
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	number := `"replay":"replay_1"`
	if sequence > 0 {
		number = fmt.Sprintf(`"sequence":"%020d"`, sequence)
	}
	body := `{"specversion":"1.0","id":"` + id + `","source":"/keyledger/acme","type":"dev.keyledger.credit.debited.v1","subject":"key_1","position":"0:7.1",` + number + `,"data":{"amount":1}}`
	now := time.Now()
	signature, err := hook.Sign(id, now, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	request.Header.Set("webhook-id", id)
	request.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	request.Header.Set("webhook-signature", signature)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// listening runs a listener, whose output is to be read when nothing is under way.
func listening(t *testing.T, f *listenFlags, secrets ...string) (l *listener, out *bytes.Buffer, url string) {
	t.Helper()
	v, err := verifierOf(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	out = new(bytes.Buffer)
	l = newListener(&app{out: out, errOut: io.Discard}, f, v)
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	return l, out, server.URL
}

// lastLine is the last of what was printed, but for the time that it begins with.
func lastLine(out *bytes.Buffer) string {
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	_, text, _ := strings.Cut(lines[len(lines)-1], "  ")
	return text
}

func TestListenerPrintsWhatComes(t *testing.T) {
	l, out, url := listening(t, &listenFlags{once: 6}, listenSecret)
	other := "whsec_" + strings.Repeat("A", 43) + "="
	for _, tt := range []struct {
		secret   string
		id       string
		sequence uint64
		status   int
		want     string
	}{
		{listenSecret, "E1", 4, 204, "204  #4  credit.debited.v1  key_1  E1  verified"},
		{other, "E2", 5, 401, "401  NOT VERIFIED: no matching webhook signature"},
		{listenSecret, "E2", 7, 204, "204  #7  credit.debited.v1  key_1  E2  verified  (2 before it not here yet)"},
		{listenSecret, "E3", 6, 204, "204  #6  credit.debited.v1  key_1  E3  verified  (1 before it not here yet)"},
		{listenSecret, "E3", 6, 204, "204  #6  credit.debited.v1  key_1  E3  verified  (again)  (1 before it not here yet)"},
		{listenSecret, "E4", 0, 204, "204  replay replay_1  credit.debited.v1  key_1  E4  verified"},
		{listenSecret, "E5", 5, 204, "204  #5  credit.debited.v1  key_1  E5  verified"},
	} {
		if status := hookTo(t, url, tt.secret, tt.id, tt.sequence); status != tt.status {
			t.Errorf("%s answered %d", tt.id, status)
		}
		if got := lastLine(out); got != tt.want {
			t.Errorf("printed %q\nwant    %q", got, tt.want)
		}
	}
	<-l.enough
	if got := l.seen.summary(l.verified, l.refused); got != "6 deliveries verified, 1 not" {
		t.Error(got)
	}
	hookTo(t, url, listenSecret, "E9", 9)
	if got := l.seen.summary(l.verified, l.refused); got != "7 deliveries verified, 1 not; 1 of the numbers between are missing" {
		t.Error(got)
	}
}

// What does not verify is answered as webhooks/verify says, whatever --status says, and not
// handed on; and nothing that a stranger sends steers a terminal.
func TestListenerAnswers(t *testing.T) {
	_, _, url := listening(t, &listenFlags{status: 503}, listenSecret)
	if got := hookTo(t, url, listenSecret, "E1", 1); got != 503 {
		t.Errorf("answered %d", got)
	}
	if got := hookTo(t, url, "whsec_"+strings.Repeat("A", 43)+"=", "E1", 1); got != 401 {
		t.Errorf("answered %d to what does not verify", got)
	}
	request, err := http.NewRequest(http.MethodOptions, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("WebHook-Request-Origin", "keyledger")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.Header.Get("WebHook-Allowed-Origin") != "*" {
		t.Errorf("consent: %v", response.Header)
	}
	_, out, url := listening(t, &listenFlags{print: "body"}, listenSecret)
	response, err = http.Post(url, "text/plain", strings.NewReader("\x1b[31mred\nline"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), "  ?[31mred?line\n") {
		t.Errorf("%q", out)
	}
}

func TestListenerForwards(t *testing.T) {
	var got http.Header
	var body string
	answer := http.StatusAccepted
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r.Header, string(b)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(answer)
	}))
	t.Cleanup(target.Close)
	f := &listenFlags{forward: target.URL}
	_, out, url := listening(t, f, listenSecret)
	if status := hookTo(t, url, "whsec_"+strings.Repeat("A", 43)+"=", "E0", 1); status != 401 || got != nil {
		t.Errorf("what does not verify: %d, %v", status, got)
	}
	if status := hookTo(t, url, listenSecret, "E1", 1); status != http.StatusAccepted {
		t.Errorf("answered %d", status)
	}
	if got.Get("webhook-id") != "E1" || got.Get("webhook-signature") == "" || !strings.Contains(body, `"id":"E1"`) {
		t.Errorf("%v %s", got, body)
	}
	answer = http.StatusTemporaryRedirect
	if status := hookTo(t, url, listenSecret, "E2", 2); status != http.StatusTemporaryRedirect {
		t.Errorf("answered %d", status)
	}
	target.Close()
	if status := hookTo(t, url, listenSecret, "E3", 3); status != http.StatusBadGateway || !strings.Contains(lastLine(out), "verified  (forwarding failed: ") {
		t.Errorf("answered %d: %s", status, lastLine(out))
	}
}

// However many numbers do not come, so many are remembered, and it is said once.
func TestListenerStopsCountingGaps(t *testing.T) {
	l, _, _ := listening(t, &listenFlags{}, listenSecret)
	said := new(bytes.Buffer)
	l.a.errOut = said
	for _, d := range []struct{ number, missing uint64 }{
		{1, 0}, {listenRemembers, listenRemembers - 2}, {listenRemembers + 3, listenRemembers}, {listenRemembers + 2, listenRemembers - 1},
		{2, 0}, {1 << 40, listenRemembers}, {1<<40 + 9, listenRemembers},
	} {
		g := &received{Verified: true, ID: strconv.FormatUint(d.number, 10), Sequence: d.number}
		if l.note(g); g.Missing != d.missing {
			t.Errorf("#%d: %d missing, want %d", d.number, g.Missing, d.missing)
		}
		if d.number < 1<<40 && said.Len() > 0 {
			t.Errorf("#%d: said %q", d.number, said)
		}
	}
	if strings.Count(said.String(), "gaps are no longer counted") != 1 {
		t.Errorf("said %q", said)
	}
}
