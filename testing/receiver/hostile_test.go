package receiver_test

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyledger/keyledger/testing/receiver"
)

const (
	patience = 20 * time.Second       // for what must happen
	pause    = 100 * time.Millisecond // for what must not
)

func startHostile(t *testing.T, does receiver.Behaviour, config *tls.Config) *receiver.Hostile {
	t.Helper()
	h, err := receiver.StartHostile(does, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// ask posts a body to a hostile receiver with a client of the standard library.
func ask(t *testing.T, h *receiver.Hostile, within time.Duration) (*http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, strings.NewReader("event"))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	response, err := transport.RoundTrip(r)
	if err == nil {
		t.Cleanup(func() { response.Body.Close() })
	}
	return response, err
}

func TestHangs(t *testing.T) {
	for what, does := range map[string]receiver.Behaviour{
		"deaf": receiver.Deaf(), "mute": receiver.Mute(), "no answer": receiver.Hang(""), "half a line": receiver.Hang("HTTP/1.1 20"),
		"dripping": receiver.Drip(receiver.StatusOK, "X: y\r\n", pause/20),
	} {
		if _, err := ask(t, startHostile(t, does, nil), pause); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want the deadline", what, err)
		}
	}
	response, err := ask(t, startHostile(t, receiver.Hang(receiver.HeadersOK+"ab"), nil), pause*3)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); string(body) != "ab" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", body, err)
	}
}

// Each byte comes by itself, and the text over and over.
func TestDrips(t *testing.T) {
	response, err := ask(t, startHostile(t, receiver.Drip(receiver.HeadersOK, "abc", time.Millisecond), nil), patience)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != "abcabca" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFloods(t *testing.T) {
	const enough = 8 << 20
	h := startHostile(t, receiver.Flood(receiver.HeadersGzip, receiver.GzipChunk(1<<20)), nil)
	response, err := ask(t, h, patience)
	if err != nil {
		t.Fatal(err)
	}
	body, err := gzip.NewReader(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, body, enough); err != nil || n != enough || h.Sent() > enough {
		t.Errorf("%d bytes of %d sent, %v", n, h.Sent(), err)
	}
}

func TestResets(t *testing.T) {
	if _, err := ask(t, startHostile(t, receiver.Reset(""), nil), patience); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("before the answer: %v", err)
	}
	response, err := ask(t, startHostile(t, receiver.Reset(receiver.HeadersOK+"ab"), nil), patience)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); string(body) != "ab" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("in the body: %q, %v", body, err)
	}
	h := startHostile(t, receiver.ResetAtOnce(), nil)
	if _, err := ask(t, h, patience); err == nil || h.Accepted() != 1 {
		t.Errorf("at once: %v, %d connections", err, h.Accepted())
	}
}

func TestAnswersThatAreSomethingElse(t *testing.T) {
	if response, err := ask(t, startHostile(t, receiver.Redirect("307 Away", "http://10.0.0.1/"), nil), patience); err != nil ||
		response.StatusCode != 307 || response.Header.Get("Location") != "http://10.0.0.1/" {
		t.Errorf("%+v, %v", response, err)
	}
	conn, err := net.Dial("tcp", startHostile(t, receiver.Babble(receiver.GoAway), nil).Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := make([]byte, len(receiver.GoAway))
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != receiver.GoAway {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCertificates(t *testing.T) {
	authority, err := receiver.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for what, tt := range map[string]struct {
		config func() (*tls.Config, error)
		refuse any // to errors.As; nil: it is good
	}{
		"good":        {func() (*tls.Config, error) { return authority.Issue("r.test", now.Add(-time.Hour), 2*time.Hour) }, nil},
		"expired":     {func() (*tls.Config, error) { return authority.Issue("r.test", now.Add(-2*time.Hour), time.Hour) }, new(x509.CertificateInvalidError)},
		"other name":  {func() (*tls.Config, error) { return authority.Issue("127.0.0.1", now.Add(-time.Hour), 2*time.Hour) }, new(x509.HostnameError)},
		"self-signed": {func() (*tls.Config, error) { return receiver.SelfSigned("r.test") }, new(x509.UnknownAuthorityError)},
	} {
		config, err := tt.config()
		if err != nil {
			t.Fatal(err)
		}
		h := startHostile(t, receiver.Say(receiver.WholeOK), config)
		conn, err := tls.Dial("tcp", h.Address, &tls.Config{RootCAs: authority.Pool, ServerName: "r.test"})
		if err == nil {
			conn.Close()
		}
		if (err == nil) != (tt.refuse == nil) || tt.refuse != nil && !errors.As(err, tt.refuse) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestNames(t *testing.T) {
	var names receiver.Names
	names.Answer("r.test", "127.0.0.1", "::1")
	names.Answer("r.test", "10.0.0.1")
	for i, want := range [][]string{{"127.0.0.1", "::1"}, {"10.0.0.1"}, {"10.0.0.1"}} {
		got, err := names.Lookup(t.Context(), "ip", "r.test")
		if err != nil || !slices.EqualFunc(got, want, func(a netip.Addr, b string) bool { return a.String() == b }) {
			t.Errorf("lookup %d: %v, %v, want %v", i+1, got, err, want)
		}
	}
	var dns *net.DNSError
	if _, err := names.Lookup(t.Context(), "ip", "other.test"); !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("unknown name: %v", err)
	}
	if n := names.Lookups("r.test"); n != 3 {
		t.Errorf("%d lookups", n)
	}
}

// Nothing of a behaviour outlives its receiver, whatever it is doing.
func TestCloseEndsEverything(t *testing.T) {
	for _, does := range []receiver.Behaviour{
		receiver.Deaf(), receiver.Mute(), receiver.Hang(""), receiver.Drip("", "x", time.Hour), receiver.Flood("", strings.Repeat("x", 64<<10)),
	} {
		reached := make(chan struct{})
		h, err := receiver.StartHostile(func(c *receiver.Conn) { close(reached); does(c) }, nil)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", h.Address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-reached
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
}
