package webhooks

import (
	"crypto/tls"
	"net/http/httptrace"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The hooks in the orders in which a transport may call them; pass lets the
// time go by.
func TestTimeline(t *testing.T) {
	const ms = time.Millisecond
	type hooks = *httptrace.ClientTrace
	pass := func(d time.Duration) func(hooks) { return func(hooks) { <-time.After(d) } }
	var (
		getConn   = func(h hooks) { h.GetConn("receiver.test:443") }
		dnsStart  = func(h hooks) { h.DNSStart(httptrace.DNSStartInfo{}) }
		dnsDone   = func(h hooks) { h.DNSDone(httptrace.DNSDoneInfo{}) }
		connStart = func(h hooks) { h.ConnectStart("tcp", "192.0.2.1:443") }
		connDone  = func(h hooks) { h.ConnectDone("tcp", "192.0.2.1:443", nil) }
		tlsStart  = func(h hooks) { h.TLSHandshakeStart() }
		tlsDone   = func(h hooks) { h.TLSHandshakeDone(tls.ConnectionState{}, nil) }
		gotConn   = func(h hooks) { h.GotConn(httptrace.GotConnInfo{}) }
		wrote     = func(h hooks) { h.WroteRequest(httptrace.WroteRequestInfo{}) }
		notWrote  = func(h hooks) { h.WroteRequest(httptrace.WroteRequestInfo{Err: httptraceError{}}) }
		firstByte = func(h hooks) { h.GotFirstResponseByte() }
	)
	for what, tt := range map[string]struct {
		calls []func(hooks)
		phase Phase
		want  Timings
	}{
		"nothing yet": {nil, PhaseConnect, Timings{}},
		"all of it": {
			[]func(hooks){getConn, dnsStart, pass(ms), dnsDone, connStart, pass(2 * ms), connDone, tlsStart, pass(3 * ms), tlsDone, gotConn, pass(ms), wrote, pass(4 * ms), firstByte, pass(6 * ms)},
			PhaseHeaders, Timings{DNS: ms, Connect: 2 * ms, TLS: 3 * ms, FirstByte: 5 * ms, Total: 17 * ms},
		},
		"the resolver's own hooks beside ours": {
			[]func(hooks){getConn, dnsStart, dnsStart, pass(ms), dnsDone, dnsDone}, PhaseDNS, Timings{DNS: ms, Total: ms},
		},
		"two addresses, cut off at the second": {
			[]func(hooks){getConn, connStart, pass(ms), connDone, connStart, pass(ms), connDone, tlsStart, pass(5 * ms)},
			PhaseTLS, Timings{Connect: 2 * ms, TLS: 5 * ms, Total: 7 * ms},
		},
		"not written": {[]func(hooks){getConn, gotConn, pass(ms), notWrote}, PhaseWrite, Timings{FirstByte: ms, Total: ms}},
		"a kept connection, while the dial goes on": {
			[]func(hooks){getConn, gotConn, dnsStart, pass(ms), dnsDone, wrote, connStart, pass(ms), connDone, tlsStart, pass(ms), tlsDone, firstByte},
			PhaseHeaders, Timings{FirstByte: 3 * ms, Total: 3 * ms},
		},
		"a second look for a connection": {
			[]func(hooks){getConn, connStart, pass(ms), connDone, gotConn, pass(ms), getConn, connStart, pass(4 * ms)},
			PhaseConnect, Timings{Connect: 4 * ms, Total: 6 * ms},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			line := newTimeline(time.Now())
			for _, call := range tt.calls {
				call(line.trace())
			}
			phase, timings := line.now()
			if diff := cmp.Diff(tt.want, timings); diff != "" || phase != tt.phase {
				t.Errorf("%s: phase %s, want %s; timings (-want +got):\n%s", what, phase, tt.phase, diff)
			}
		})
	}
}

type httptraceError struct{}

func (httptraceError) Error() string { return "not written" }
