package webhooks

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const testEvent = `{"specversion":"1.0","type":"dev.keyledger.key.created.v1","id":"01JZZZZZZZZZZZZZZZZZZZZZZZ","source":"/keyledger/acme","subject":"key_01J","time":"2026-03-01T12:00:00Z","datacontenttype":"application/json","sequence":"00000000000000000001","position":"0:1.0","data":{"id":"key_01J"}}`

// newClient makes a client that may reach loopback over http.
func newClient(t testing.TB, change func(*ClientConfig)) *Client {
	t.Helper()
	guard, err := NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	if err != nil {
		t.Fatal(err)
	}
	config := ClientConfig{Guard: guard, Version: "1.2.3", AllowHTTP: true, Timeout: 10 * time.Second}
	if change != nil {
		change(&config)
	}
	c, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func within(timeout time.Duration) func(*ClientConfig) {
	return func(c *ClientConfig) { c.Timeout = timeout }
}

func request(url string) Request {
	return Request{
		URL:  url,
		Body: []byte(testEvent),
		ID:   "01JZZZZZZZZZZZZZZZZZZZZZZZ",
		Keys: []SigningKey{v1(bytes.Repeat([]byte{7}, SecretBytes))},
		Now:  time.Now(),
	}
}

func do(t testing.TB, c *Client, r Request) Result {
	t.Helper()
	result, err := c.Do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// serve runs a handler on loopback until the test ends.
func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// serveRaw gives every accepted connection to talk, and closes it when talk
// returns; done ends with the test.
func serveRaw(t testing.TB, talk func(conn net.Conn, done <-chan struct{})) (url string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var talks sync.WaitGroup
	t.Cleanup(func() { l.Close(); close(done); talks.Wait() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			talks.Go(func() { defer conn.Close(); talk(conn, done) })
		}
	}()
	return "http://" + l.Addr().String()
}

// readRequest takes a whole request from a raw connection.
func readRequest(conn net.Conn) {
	if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

func TestDeliveryAsAReceiverSeesIt(t *testing.T) {
	newer, older := NewSecret([32]byte{1}), NewSecret([32]byte{2})
	var problems []string
	note := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for _, secret := range []string{newer, older} {
			hook, _ := standardwebhooks.NewWebhook(secret)
			if err := hook.Verify(body, r.Header); err != nil {
				note("signature: %v", err)
			}
		}
		if string(body) != testEvent {
			note("body %s", body)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		message := cehttp.NewMessageFromHttpRequest(r)
		if message.ReadEncoding() != binding.EncodingStructured {
			note("encoding %v, want structured", message.ReadEncoding())
		}
		if event, err := binding.ToEvent(r.Context(), message); err != nil || event.Validate() != nil {
			note("CloudEvent %v, %v", event, err)
		} else if event.ID() != r.Header.Get("webhook-id") || event.Extensions()["sequence"] != "00000000000000000001" {
			note("CloudEvent %v", event)
		}
		got := map[string]string{"method": r.Method, "path": r.RequestURI, "host": r.Host, "proto": r.Proto}
		for name := range r.Header {
			if !strings.HasPrefix(name, "Webhook-") {
				got[name] = strings.Join(r.Header[name], "|")
			}
		}
		want := map[string]string{
			"method": "POST", "path": "/hook?a=b%20c", "host": r.Host, "proto": "HTTP/1.1",
			"Content-Type": "application/cloudevents+json; charset=utf-8", "Content-Length": fmt.Sprint(len(testEvent)),
			"User-Agent": "keyledger/1.2.3", "X-Team": "billing", "Authorization": "Bearer abc",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			note("headers (-want +got):\n%s", diff)
		}
		_, _ = io.WriteString(w, "thank you")
	}))
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	c := newClient(t, func(c *ClientConfig) { c.RootCAs, c.AllowHTTP = pool, false })

	r := request(server.URL + "/hook?a=b%20c")
	r.Keys = []SigningKey{v1(mustKey(t, newer)), v1(mustKey(t, older))}
	r.Headers = map[string]string{"x-team": "billing", "Authorization": "Bearer abc"}
	result := do(t, c, r)
	for _, p := range problems {
		t.Error(p)
	}
	timings := result.Timings
	result.Timings = Timings{}
	if diff := cmp.Diff(Result{Status: 200, Outcome: OutcomeDelivered, ResponseHead: []byte("thank you"), ContentType: "text/plain; charset=utf-8"}, result); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if timings.DNS != 0 || timings.Connect <= 0 || timings.TLS <= 0 || timings.FirstByte <= 0 ||
		timings.Total < timings.Connect+timings.TLS+timings.FirstByte {
		t.Errorf("timings %+v", timings)
	}
}

func TestAnswers(t *testing.T) {
	var trapped atomic.Int32
	trap := serve(t, func(http.ResponseWriter, *http.Request) { trapped.Add(1) })
	now := time.Now()
	date := now.Add(2 * time.Hour).UTC().Format(http.TimeFormat)
	for _, tt := range []struct {
		status  int
		header  string
		value   string
		outcome Outcome
		after   time.Duration
	}{
		{200, "", "", OutcomeDelivered, 0},
		{202, "Retry-After", "60", OutcomeDelivered, 0},
		{204, "", "", OutcomeDelivered, 0},
		{299, "", "", OutcomeDelivered, 0},
		{300, "Location", trap.URL, OutcomeFailed, 0},
		{301, "Location", trap.URL, OutcomeFailed, 0},
		{302, "Location", "http://[broken", OutcomeFailed, 0},
		{303, "Location", trap.URL, OutcomeFailed, 0},
		{304, "", "", OutcomeFailed, 0},
		{307, "Location", trap.URL, OutcomeFailed, 0},
		{308, "Location", trap.URL, OutcomeFailed, 0},
		{400, "", "", OutcomeFailed, 0},
		{404, "Retry-After", "60", OutcomeFailed, time.Minute},
		{410, "", "", OutcomeGone, 0},
		{429, "Retry-After", "120", OutcomeHeldBack, 2 * time.Minute},
		{500, "", "", OutcomeFailed, 0},
		{502, "", "", OutcomeHeldBack, 0},
		{503, "Retry-After", date, OutcomeHeldBack, 2 * time.Hour},
		{503, "Retry-After", "999999999999", OutcomeHeldBack, MaxWait},
		{504, "Retry-After", "soon", OutcomeHeldBack, 0},
		{599, "", "", OutcomeFailed, 0},
		{999, "", "", OutcomeFailed, 0},
	} {
		server := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if tt.header != "" {
				w.Header().Set(tt.header, tt.value)
			}
			w.WriteHeader(tt.status)
		})
		r := request(server.URL)
		r.Now = now
		got := do(t, newClient(t, nil), r)
		late := tt.after - got.RetryAfter // a date is rounded down, and some time has passed
		if got.Status != tt.status || got.Outcome != tt.outcome || got.Phase != "" || got.Error != "" || late < 0 || late > 5*time.Second {
			t.Errorf("%d %s: %s: %+v", tt.status, tt.header, tt.value, got)
		}
	}
	if n := trapped.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestFailures(t *testing.T) {
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of the refused handshakes
	tls.StartTLS()
	defer tls.Close()
	pool := x509.NewCertPool()
	pool.AddCert(tls.Certificate())
	_, tlsPort, _ := net.SplitHostPort(tls.Listener.Addr().String())
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	notFound := func(context.Context, string, string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: "no such host 10.9.9.9", Name: "receiver.test", Server: "10.9.9.9:53", IsNotFound: true}
	}
	stuck := func(ctx context.Context, _, _ string) ([]netip.Addr, error) { <-ctx.Done(); return nil, ctx.Err() }
	raw := func(answer string) string {
		return serveRaw(t, func(conn net.Conn, _ <-chan struct{}) { readRequest(conn); _, _ = io.WriteString(conn, answer) })
	}
	for _, tt := range []struct {
		what, url string
		lookup    LookupFunc
		roots     *x509.CertPool
		headers   map[string]string
		phase     Phase
		text      string
	}{
		{"no such name", "https://receiver.test", notFound, nil, nil, PhaseDNS, "no such host"},
		{"resolver hangs", "https://receiver.test", stuck, nil, nil, PhaseDNS, "timed out"},
		{"refused URL", "ftp://127.0.0.1", nil, nil, nil, PhaseGuard, "address refused: scheme"},
		{"refused address", "https://10.9.9.9", nil, nil, nil, PhaseGuard, "address refused: private"},
		{"refused answer", "https://receiver.test", answers("10.9.9.9"), nil, nil, PhaseGuard, "address refused: private"},
		{"one refused answer", plainName(plain.URL), answers("127.0.0.1", "10.9.9.9"), nil, nil, PhaseGuard, "address refused: private"},
		{"refused header", plain.URL, nil, nil, map[string]string{"Host": "10.9.9.9"}, PhaseGuard, "custom header refused"},
		{"nobody listens", closedURL(t), nil, nil, nil, PhaseConnect, "connection refused"},
		{"untrusted", tls.URL, nil, nil, nil, PhaseTLS, "certificate not trusted"},
		{"other name", "https://receiver.test:" + tlsPort, answers("127.0.0.1"), pool, nil, PhaseTLS, "certificate is for another name"},
		{"no TLS", "https" + strings.TrimPrefix(plain.URL, "http"), nil, nil, nil, PhaseTLS, "no TLS on this port"},
		{"no HTTP", raw("SSH-2.0-10.9.9.9\r\n"), nil, nil, nil, PhaseHeaders, "no valid HTTP answer"},
		{"long headers", raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 80<<10)), nil, nil, nil, PhaseHeaders, "no valid HTTP answer"},
		{"body cut short", raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n10.9"), nil, nil, nil, PhaseBody, "connection closed early"},
	} {
		c := newClient(t, func(c *ClientConfig) {
			c.Timeout, c.RootCAs, c.Guard.Lookup = 2*time.Second, tt.roots, tt.lookup
		})
		if tt.what == "resolver hangs" {
			c.config.Timeout = 100 * time.Millisecond
		}
		r := request(tt.url)
		r.Headers = tt.headers
		got := do(t, c, r)
		if got.Outcome != OutcomeFailed || got.Phase != tt.phase || got.Error != tt.text {
			t.Errorf("%s: %+v", tt.what, got)
		}
		if shown := fmt.Sprintf("%s %s", got.Phase, got.Error); strings.Contains(shown, "9.9") || strings.Contains(shown, "127.0") {
			t.Errorf("%s: the result shows too much: %s", tt.what, shown)
		}
	}
}

// plainName is the URL of a loopback server under a name.
func plainName(url string) string { return strings.Replace(url, "127.0.0.1", "receiver.test", 1) }

// closedURL is the URL of a port on which nobody listens.
func closedURL(t testing.TB) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestCutOffByTheCaller(t *testing.T) {
	reached := make(chan struct{})
	for name, answer := range map[string]string{"no answer": "", "in the body": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"} {
		url := serveRaw(t, func(conn net.Conn, done <-chan struct{}) {
			readRequest(conn)
			_, _ = io.WriteString(conn, answer)
			reached <- struct{}{}
			<-done
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-reached; cancel() }()
		got, err := newClient(t, nil).Do(ctx, request(url))
		if !errors.Is(err, context.Canceled) || got.Outcome != "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestWrongRequests(t *testing.T) {
	var asked atomic.Int32
	server := serve(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	for what, change := range map[string]func(*Request){
		"no id":        func(r *Request) { r.ID = "" },
		"a dot":        func(r *Request) { r.ID = "a.b" },
		"a line break": func(r *Request) { r.ID = "a\r\nb" },
		"long id":      func(r *Request) { r.ID = strings.Repeat("a", maxIDBytes+1) },
		"no key":       func(r *Request) { r.Keys = nil },
		"empty secret": func(r *Request) { r.Keys = append(r.Keys, v1(nil)) },
		"short secret": func(r *Request) { r.Keys = append(r.Keys, v1(make([]byte, 23))) },
		"long secret":  func(r *Request) { r.Keys = append(r.Keys, v1(make([]byte, 65))) },
		"short seed":   func(r *Request) { r.Keys = append(r.Keys, v1a(make([]byte, 31))) },
		"long seed":    func(r *Request) { r.Keys = append(r.Keys, v1a(make([]byte, 64))) },
		"no version":   func(r *Request) { r.Keys = append(r.Keys, SigningKey{Secret: make([]byte, 32)}) },
		"no time":      func(r *Request) { r.Timeout = -1 },
		"too long":     func(r *Request) { r.Timeout = MaxTimeout + 1 },
	} {
		r := request(server.URL)
		change(&r)
		if _, err := newClient(t, nil).Do(t.Context(), r); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: error %v, want ErrRequest", what, err)
		}
	}
	r := request(server.URL)
	r.ID = "msg_" + strings.Repeat("a", maxIDBytes-4)
	if got := do(t, newClient(t, nil), r); got.Outcome != OutcomeDelivered || asked.Load() != 1 {
		t.Errorf("longest id: %+v, %d requests in all", got, asked.Load())
	}
}

func TestNewClientLimits(t *testing.T) {
	guard := newGuard(t)
	for what, config := range map[string]ClientConfig{
		"no guard":         {Version: "1"},
		"no version":       {Guard: guard},
		"odd version":      {Guard: guard, Version: "1\r\nX: y"},
		"negative timeout": {Guard: guard, Version: "1", Timeout: -1},
		"long timeout":     {Guard: guard, Version: "1", Timeout: MaxTimeout + 1},
	} {
		if _, err := NewClient(config); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	for timeout, want := range map[time.Duration]time.Duration{0: DefaultTimeout, MaxTimeout: MaxTimeout} {
		c, err := NewClient(ClientConfig{Guard: guard, Version: "1", Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		transport := c.newTransport()
		switch {
		case c.config.Timeout != want:
			t.Errorf("timeout %s, want %s", c.config.Timeout, want)
		case c.lifetime <= 0 || c.lifetime+want+transport.IdleConnTimeout > MaxConnectionAge:
			t.Errorf("timeout %s: a transport lives %s", want, c.lifetime)
		case transport.Proxy != nil:
			t.Error("the transport has a proxy")
		}
	}
}
