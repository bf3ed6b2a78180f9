package webhooks

import (
	"crypto/tls"
	"net/http/httptrace"
	"sync"
	"time"
)

// Phase is the step of an attempt in which it failed. The names are stored.
type Phase string

const (
	PhaseGuard   Phase = "guard"   // the URL, a header or the address was refused
	PhaseDNS     Phase = "dns"     // the name was being resolved
	PhaseConnect Phase = "connect" // TCP
	PhaseTLS     Phase = "tls"     // handshake and certificate
	PhaseWrite   Phase = "write"   // the request was being sent
	PhaseHeaders Phase = "headers" // the answer was awaited, up to the end of its headers
	PhaseBody    Phase = "body"    // the body of the answer was being read
)

// Timings says where the time of an attempt went. On a connection that was
// open already, DNS, Connect and TLS are zero. A step that was cut off counts
// until then.
type Timings struct {
	DNS       time.Duration // resolving the name
	Connect   time.Duration // TCP, all addresses tried
	TLS       time.Duration // the handshake
	FirstByte time.Duration // from the connection being ready to the first byte of the answer
	Total     time.Duration // everything, the body included
}

type span struct{ from, to time.Time }

func (s span) length(now time.Time) time.Duration {
	if s.from.IsZero() {
		return 0
	}
	if s.to.IsZero() {
		return now.Sub(s.from)
	}
	return s.to.Sub(s.from)
}

// timeline follows one attempt. The transport calls its hooks from several
// goroutines, and those of a dial that is no longer wanted even after the
// attempt has ended.
type timeline struct {
	start time.Time

	mu                        sync.Mutex // guards what follows
	phase                     Phase
	connected                 bool // the request has its connection: what a dial still reports is about another
	dns, connect, tls, answer span
}

func newTimeline(start time.Time) *timeline {
	return &timeline{start: start, phase: PhaseConnect}
}

// trace gives the hooks that fill the timeline.
func (t *timeline) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn:           func(string) { t.reset() },
		DNSStart:          func(httptrace.DNSStartInfo) { t.begin(&t.dns, PhaseDNS) },
		DNSDone:           func(httptrace.DNSDoneInfo) { t.end(&t.dns) },
		ConnectStart:      func(string, string) { t.begin(&t.connect, PhaseConnect) },
		ConnectDone:       func(string, string, error) { t.end(&t.connect) },
		TLSHandshakeStart: func() { t.begin(&t.tls, PhaseTLS) },
		TLSHandshakeDone:  func(tls.ConnectionState, error) { t.end(&t.tls) },
		GotConn:           func(httptrace.GotConnInfo) { t.ready() },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				t.advance(PhaseWrite, PhaseHeaders)
			}
		},
		GotFirstResponseByte: t.firstByte,
	}
}

// reset is called at each look for a connection: the transport looks again when
// a kept one turns out to be closed and nothing was sent on it.
func (t *timeline) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase, t.connected = PhaseConnect, false
	t.dns, t.connect, t.tls, t.answer = span{}, span{}, span{}, span{}
}

func (t *timeline) begin(s *span, phase Phase) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.connected {
		return
	}
	t.phase = phase
	if s.from.IsZero() {
		s.from = time.Now()
	}
}

func (t *timeline) end(s *span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.connected {
		s.to = time.Now()
	}
}

func (t *timeline) ready() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.connected = true
	t.phase = PhaseWrite
	t.answer.from = time.Now()
}

func (t *timeline) firstByte() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answer.to = time.Now()
}

// advance moves from one phase to the next, and does nothing in any other.
func (t *timeline) advance(from, to Phase) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase == from {
		t.phase = to
	}
}

// now gives the phase the attempt is in and the timings up to this moment.
func (t *timeline) now() (Phase, Timings) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	return t.phase, Timings{
		DNS:       t.dns.length(now),
		Connect:   t.connect.length(now),
		TLS:       t.tls.length(now),
		FirstByte: t.answer.length(now),
		Total:     now.Sub(t.start),
	}
}
