package webhooks

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
)

const (
	// MaxResponseBytes is how much of an answer's body is read, in bytes: both as it
	// comes over the network and after decoding.
	MaxResponseBytes = 64 << 10
	// MaxResponseHeadBytes is how much of it is kept, in bytes.
	MaxResponseHeadBytes = 4 << 10
)

// heads are buffers for the beginning of an answer, of which most are shorter.
var heads = sync.Pool{New: func() any { return new([MaxResponseHeadBytes]byte) }}

// readBody reads up to MaxResponseBytes and gives the head of it. What goes
// beyond the limit is left unread, and is no error; nor is a body that is not
// what its Content-Encoding says. An error is the network's.
//
// Compression is not asked for; if gzip comes nevertheless it is decoded, and
// any other coding is kept as it is. The limit on the coded bytes matters too:
// a gzip stream can go on for ever without a decoded byte.
func readBody(response *http.Response) ([]byte, error) {
	if response.StatusCode == http.StatusSwitchingProtocols {
		return nil, nil // what follows is no body, and knows no deadline
	}
	network := &sourceReader{from: io.LimitReader(response.Body, MaxResponseBytes)}
	var body io.Reader = network
	if isGzip(response.Header.Values("Content-Encoding")) {
		decoder, err := gzip.NewReader(network)
		if err != nil {
			return nil, network.failure
		}
		body = decoder
	}
	head := heads.Get().(*[MaxResponseHeadBytes]byte)
	defer heads.Put(head)
	n, err := io.ReadFull(body, head[:])
	if err == nil {
		_, _ = io.CopyN(io.Discard, body, MaxResponseBytes-MaxResponseHeadBytes)
	}
	return append([]byte(nil), head[:n]...), network.failure
}

func isGzip(codings []string) bool {
	if len(codings) != 1 {
		return false
	}
	coding := strings.TrimSpace(codings[0])
	return strings.EqualFold(coding, "gzip") || strings.EqualFold(coding, "x-gzip") // RFC 9110 §8.4.1.3
}

// sourceReader remembers why the network stopped giving, so that this can be
// told from what a decoder makes of it.
type sourceReader struct {
	from    io.Reader
	failure error // the first error other than io.EOF
}

func (r *sourceReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && r.failure == nil {
		r.failure = err
	}
	return n, err
}

// describe gives the phase and the text for an error that came up in a phase.
// The texts are fixed: an error of the net packages can hold addresses, the
// names in a certificate, or the first bytes of an answer.
func describe(err error, phase Phase) (Phase, string) {
	var refused *RefusedError
	var dns *net.DNSError
	switch {
	case errors.As(err, &refused):
		return PhaseGuard, refused.Error()
	case errors.As(err, &dns):
		return PhaseDNS, describeDNS(dns)
	case isTimeout(err):
		return phase, "timed out"
	case phase == PhaseTLS:
		return phase, describeTLS(err)
	}
	return phase, describeBreak(err, phase)
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &netErr) && netErr.Timeout()
}

func describeDNS(err *net.DNSError) string {
	switch {
	case err.IsNotFound:
		return "no such host"
	case err.IsTimeout:
		return "timed out"
	}
	return "lookup failed"
}

func describeTLS(err error) string {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &authority):
		return "certificate not trusted"
	case errors.As(err, &hostname):
		return "certificate is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "certificate expired or not yet valid"
	case errors.As(err, &invalid):
		return "certificate not valid"
	case errors.As(err, &record):
		return "no TLS on this port"
	case errors.As(err, &op) && op.Op == "remote error": // how crypto/tls marks an alert that came
		return "handshake refused"
	}
	return "handshake failed"
}

func describeBreak(err error, phase Phase) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case phase == PhaseConnect:
		return "connection failed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, net.ErrClosed): // the transport read the end, and closed while it was writing
		return "connection closed early"
	case phase == PhaseHeaders:
		return "no valid HTTP answer"
	}
	return "connection broken"
}
