package webhooks

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func zipped(t testing.TB, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// counter counts what is read from a body.
type counter struct {
	io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// forever repeats a text without end.
type forever struct {
	text []byte
	at   int
}

func (f *forever) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = f.text[f.at]
		f.at = (f.at + 1) % len(f.text)
	}
	return len(p), nil
}

func TestReadBody(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	bomb := bytes.Repeat(zipped(t, make([]byte, 1<<20)), 64)
	broken := errors.New("network down")
	emptyBlocks := append(zipped(t, nil)[:10:10], 0, 0, 0, 0xff, 0xff) // the header, and a stored block of no bytes
	for _, tt := range []struct {
		what    string
		codings []string
		body    io.Reader
		head    []byte
		read    int // at most so many bytes off the network
		err     error
	}{
		{"empty", nil, strings.NewReader(""), nil, 0, nil},
		{"short", nil, strings.NewReader("ok"), []byte("ok"), 2, nil},
		{"byte by byte", nil, iotest.OneByteReader(bytes.NewReader(long[:5000])), long[:MaxResponseHeadBytes], 5000, nil},
		{"just the head", nil, bytes.NewReader(long[:MaxResponseHeadBytes]), long[:MaxResponseHeadBytes], MaxResponseHeadBytes, nil},
		{"long", nil, bytes.NewReader(long), long[:MaxResponseHeadBytes], MaxResponseBytes, nil},
		{"endless", nil, &forever{text: []byte("x")}, bytes.Repeat([]byte("x"), MaxResponseHeadBytes), MaxResponseBytes, nil},
		{"gzip", []string{"gzip"}, bytes.NewReader(zipped(t, []byte("ok"))), []byte("ok"), 100, nil},
		{"x-gzip", []string{" X-GZIP "}, bytes.NewReader(zipped(t, []byte("ok"))), []byte("ok"), 100, nil},
		{"gzip bomb", []string{"gzip"}, bytes.NewReader(bomb), make([]byte, MaxResponseHeadBytes), 8 << 10, nil},
		{"endless gzip members", []string{"gzip"}, &forever{text: zipped(t, nil)}, nil, MaxResponseBytes, nil},
		{"endless empty blocks", []string{"gzip"}, io.MultiReader(bytes.NewReader(emptyBlocks), &forever{text: emptyBlocks[10:]}), nil, MaxResponseBytes, nil},
		{"not gzip", []string{"gzip"}, strings.NewReader("plain text"), nil, 100, nil},
		{"no gzip at all", []string{"gzip"}, strings.NewReader(""), nil, 0, nil},
		{"gzip cut short", []string{"gzip"}, bytes.NewReader(zipped(t, []byte("ok"))[:14]), []byte("ok"), 100, nil},
		{"other coding", []string{"br"}, strings.NewReader("\x0b\x01"), []byte("\x0b\x01"), 2, nil},
		{"coded twice", []string{"gzip, gzip"}, strings.NewReader("\x1f"), []byte("\x1f"), 1, nil},
		{"two codings", []string{"gzip", "gzip"}, strings.NewReader("\x1f"), []byte("\x1f"), 1, nil},
		{"broken", nil, io.MultiReader(strings.NewReader("ok"), iotest.ErrReader(broken)), []byte("ok"), 2, broken},
		{"broken after the head", nil, io.MultiReader(bytes.NewReader(long[:9999]), iotest.ErrReader(broken)), long[:MaxResponseHeadBytes], 9999, broken},
		{"broken after the limit", nil, io.MultiReader(bytes.NewReader(long[:MaxResponseBytes]), iotest.ErrReader(broken)), long[:MaxResponseHeadBytes], MaxResponseBytes, nil},
		{"broken gzip header", []string{"gzip"}, iotest.ErrReader(broken), nil, 0, broken},
		{"broken gzip", []string{"gzip"}, io.MultiReader(bytes.NewReader(zipped(t, []byte("ok"))[:15]), iotest.ErrReader(broken)), []byte("ok"), 100, broken},
	} {
		body := &counter{Reader: tt.body}
		response := &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(body)}
		response.Header["Content-Encoding"] = tt.codings
		head, err := readBody(response)
		if !bytes.Equal(head, tt.head) || !errors.Is(err, tt.err) {
			t.Errorf("%s: head of %d bytes %.20q, error %v; want %d bytes, %v", tt.what, len(head), head, err, len(tt.head), tt.err)
		}
		if body.n > tt.read {
			t.Errorf("%s: %d bytes read, want at most %d", tt.what, body.n, tt.read)
		}
		if cap(head) > 2*len(head)+64 {
			t.Errorf("%s: %d bytes hold on to %d", tt.what, len(head), cap(head))
		}
	}
}

// A 2xx is delivered however long its body is, plain or coded, and at once.
func TestBodiesBeyondTheLimit(t *testing.T) {
	bomb := bytes.Repeat(zipped(t, make([]byte, 1<<20)), 1024) // 1 GiB, as members of 1 MiB
	endless := func(w http.ResponseWriter, r *http.Request) {
		text := bytes.Repeat([]byte("x"), 32<<10)
		for r.Context().Err() == nil {
			if _, err := w.Write(text); err != nil {
				return
			}
		}
	}
	for what, tt := range map[string]struct {
		handler http.HandlerFunc
		head    []byte
	}{
		"endless": {endless, bytes.Repeat([]byte("x"), MaxResponseHeadBytes)},
		"bomb": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		}, make([]byte, MaxResponseHeadBytes)},
		"gzip unasked": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("compression is asked for")
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped(t, []byte("decoded")))
		}, []byte("decoded")},
	} {
		server := serve(t, tt.handler)
		got := do(t, newClient(t, nil), request(server.URL))
		if got.Outcome != OutcomeDelivered || got.Phase != "" || !bytes.Equal(got.ResponseHead, tt.head) || got.Timings.Total > 5*time.Second {
			t.Errorf("%s: %s in phase %q after %s, head of %d bytes", what, got.Outcome, got.Phase, got.Timings.Total, len(got.ResponseHead))
		}
	}
}

func TestDescribeTLS(t *testing.T) {
	for want, err := range map[string]error{
		"certificate not trusted":              x509.UnknownAuthorityError{},
		"certificate is for another name":      x509.HostnameError{Certificate: &x509.Certificate{}, Host: "internal.example"},
		"certificate expired or not yet valid": x509.CertificateInvalidError{Reason: x509.Expired, Detail: "internal"},
		"certificate not valid":                x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign, Detail: "internal"},
		"no TLS on this port":                  tls.RecordHeaderError{Msg: "internal"},
		"handshake refused":                    &net.OpError{Op: "remote error", Err: errors.New("internal")},
		"handshake failed":                     errors.New("internal"),
	} {
		for _, wrapped := range []error{err, &tls.CertificateVerificationError{Err: err}} {
			if phase, got := describe(wrapped, PhaseTLS); got != want || phase != PhaseTLS {
				t.Errorf("%T: %s: %q, want %q", err, phase, got, want)
			}
		}
	}
}
