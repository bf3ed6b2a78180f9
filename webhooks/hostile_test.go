package webhooks

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	hostile "github.com/keyledger/keyledger/testing/receiver"
)

const (
	shortTimeout = 300 * time.Millisecond // of attempts that are to run out of it
	longTimeout  = 20 * time.Second       // of attempts that must end before, by themselves
	drip         = 10 * time.Millisecond  // between two bytes: no pause is as long as a timeout
	unread       = 32 << 20               // bytes of a body that the system's buffers do not hold

	// maxAttemptBytes is how much memory an attempt may take, its whole life long and
	// not at one time, with what the test needs itself. The bodies that come are
	// endless.
	maxAttemptBytes = 2 << 20
)

// record is what of a Result is the same each time.
type record struct {
	status  int
	outcome Outcome
	phase   Phase
	text    string
	head    int // bytes
}

// attack is one behaviour and the record of the attempt that meets it.
type attack struct {
	what string
	does hostile.Behaviour
	tls  bool // the URL is https, and the behaviour comes in place of the handshake
	body int  // bytes of the request, 0: an event
	want record
	// or is another phase that the record may have: a reset can overtake what came
	// before it, so that it shows before the transport has noted that all was sent.
	or Phase
}

// hangs must all end at the timeout, and not before.
var hangs = []attack{
	{what: "no handshake", does: hostile.Deaf(), tls: true, want: record{0, OutcomeFailed, PhaseTLS, "timed out", 0}},
	{what: "hangs in the handshake", does: hostile.Mute(), tls: true, want: record{0, OutcomeFailed, PhaseTLS, "timed out", 0}},
	{what: "hangs after the head of a TLS record", does: hostile.Babble("\x16\x03\x03\x40\x00"), tls: true, want: record{0, OutcomeFailed, PhaseTLS, "timed out", 0}},
	{what: "does not read", does: hostile.Deaf(), body: unread, want: record{0, OutcomeFailed, PhaseWrite, "timed out", 0}},
	{what: "does not answer", does: hostile.Hang(""), want: record{0, OutcomeFailed, PhaseHeaders, "timed out", 0}},
	{what: "says GOAWAY of HTTP/2 and hangs", does: hostile.Babble(hostile.GoAway), want: record{0, OutcomeFailed, PhaseHeaders, "timed out", 0}, or: PhaseWrite},
	{what: "hangs in the status line", does: hostile.Hang("HTTP/1.1 20"), want: record{0, OutcomeFailed, PhaseHeaders, "timed out", 0}},
	{what: "hangs in the headers", does: hostile.Hang(hostile.StatusOK + "X-A: b\r\n"), want: record{0, OutcomeFailed, PhaseHeaders, "timed out", 0}},
	{what: "hangs after a 100", does: hostile.Hang("HTTP/1.1 100 Continue\r\n\r\n"), want: record{0, OutcomeFailed, PhaseHeaders, "timed out", 0}},
	{what: "hangs after the headers", does: hostile.Hang(hostile.HeadersOK), want: record{200, OutcomeFailed, PhaseBody, "timed out", 0}},
	{what: "hangs in the body", does: hostile.Hang(hostile.HeadersOK + "0123456789"), want: record{200, OutcomeFailed, PhaseBody, "timed out", 10}},
	{what: "hangs in a chunk", does: hostile.Hang(hostile.HeadersChunked + "a\r\n01234"), want: record{200, OutcomeFailed, PhaseBody, "timed out", 5}},
	{what: "hangs before the last chunk", does: hostile.Hang(hostile.HeadersChunked + hostile.Chunk("01234")), want: record{200, OutcomeFailed, PhaseBody, "timed out", 5}},
	{what: "hangs in the body of a 410", does: hostile.Hang("HTTP/1.1 410 Gone\r\nContent-Length: 9\r\n\r\n"), want: record{410, OutcomeGone, PhaseBody, "timed out", 0}},
	{what: "hangs in the body of a 503", does: hostile.Hang("HTTP/1.1 503 Later\r\nContent-Length: 9\r\n\r\n"), want: record{503, OutcomeHeldBack, PhaseBody, "timed out", 0}},
	{what: "drips headers", does: hostile.Drip(hostile.StatusOK+"X-Drip: ", "x", drip), want: record{0, OutcomeFailed, PhaseHeaders, "timed out", 0}},
	{what: "drips lines of headers", does: hostile.Drip(hostile.StatusOK, "A: b\r\n", drip), want: record{0, OutcomeFailed, PhaseHeaders, "timed out", 0}},
	{what: "drips answers of 102", does: hostile.Drip("", "HTTP/1.1 102 Wait\r\n\r\n", drip), want: record{0, OutcomeFailed, PhaseHeaders, "timed out", 0}},
	{what: "drips a body", does: hostile.Drip(hostile.HeadersOK, "x", drip), want: record{200, OutcomeFailed, PhaseBody, "timed out", anyLength}},
	{what: "drips chunks", does: hostile.Drip(hostile.HeadersChunked, hostile.Chunk("x"), drip), want: record{200, OutcomeFailed, PhaseBody, "timed out", anyLength}},
	{what: "drips gzip", does: hostile.Drip(hostile.HeadersGzip, hostile.GzipChunk(0), drip), want: record{200, OutcomeFailed, PhaseBody, "timed out", 0}},
	{what: "drips the body of a 410", does: hostile.Drip("HTTP/1.1 410 Gone\r\n\r\n", "x", drip), want: record{410, OutcomeGone, PhaseBody, "timed out", anyLength}},
}

// anyLength stands for a head of which the time decides how long it is.
const anyLength = -1

// floods must end by themselves, whatever still comes.
var floods = []attack{
	{what: "endless body", does: hostile.Flood(hostile.HeadersEndless, strings.Repeat("x", 32<<10)), want: record{200, OutcomeDelivered, "", "", MaxResponseHeadBytes}},
	{what: "endless chunks", does: hostile.Flood(hostile.HeadersChunked, hostile.Chunk(strings.Repeat("x", 32<<10))), want: record{200, OutcomeDelivered, "", "", MaxResponseHeadBytes}},
	{what: "endless body of a 500", does: hostile.Flood("HTTP/1.1 500 Oh\r\n\r\n", strings.Repeat("x", 32<<10)), want: record{500, OutcomeFailed, "", "", MaxResponseHeadBytes}},
	{what: "gzip bomb", does: hostile.Flood(hostile.HeadersGzip, hostile.GzipChunk(4<<20)), want: record{200, OutcomeDelivered, "", "", MaxResponseHeadBytes}},
	{what: "gzip of nothing, endless", does: hostile.Flood(hostile.HeadersGzip, strings.Repeat(hostile.GzipChunk(0), 512)), want: record{200, OutcomeDelivered, "", "", 0}},
	{what: "endless status line", does: hostile.Flood("HTTP/1.1 200 ", strings.Repeat("x", 32<<10)), want: record{0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0}},
	{what: "endless header", does: hostile.Flood(hostile.StatusOK+"X-A: ", strings.Repeat("x", 32<<10)), want: record{0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0}},
	{what: "endless headers", does: hostile.Flood(hostile.StatusOK, strings.Repeat("X-A: b\r\n", 4<<10)), want: record{0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0}},
	{what: "huge headers", does: hostile.Say(hostile.StatusOK + "X-A: " + strings.Repeat("x", maxRespHeaderBytes) + "\r\nContent-Length: 0\r\n\r\n"), want: record{0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0}, or: PhaseWrite},
	{what: "endless trailers", does: hostile.Flood(hostile.HeadersChunked+"0\r\n", strings.Repeat("X-A: b\r\n", 4<<10)), want: record{200, OutcomeFailed, PhaseBody, "connection broken", 0}},
	{what: "endless chunk extensions", does: hostile.Flood(hostile.HeadersChunked, "1;"+strings.Repeat("x", 2<<10)+"\r\nx\r\n"), want: record{200, OutcomeFailed, PhaseBody, "connection broken", anyLength}},
	{what: "flood of 100", does: hostile.Flood("", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1<<10)), want: record{0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0}},
	{what: "flood of 103", does: hostile.Flood("", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 1<<10)), want: record{0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0}},
}

// breaks end with the connection, or with an answer that is none.
var breaks = []attack{
	{what: "reset in the handshake", does: hostile.ResetAtOnce(), tls: true, want: record{0, OutcomeFailed, PhaseTLS, "handshake failed", 0}},
	{what: "no TLS", does: hostile.Babble("HTTP/1.1 400 Bad Request\r\n\r\n"), tls: true, want: record{0, OutcomeFailed, PhaseTLS, "no TLS on this port", 0}},
	{what: "handshake refused", does: hostile.Babble("\x15\x03\x03\x00\x02\x02\x28"), tls: true, want: record{0, OutcomeFailed, PhaseTLS, "handshake refused", 0}},
	{what: "reset in the request", does: hostile.ResetAtOnce(), body: unread, want: record{0, OutcomeFailed, PhaseWrite, "connection closed early", 0}, or: PhaseHeaders},
	{what: "reset after the request", does: hostile.Reset(""), want: record{0, OutcomeFailed, PhaseHeaders, "connection closed early", 0}, or: PhaseWrite},
	{what: "closed after the request", does: hostile.Say(""), want: record{0, OutcomeFailed, PhaseHeaders, "connection closed early", 0}, or: PhaseWrite},
	{what: "reset in the status line", does: hostile.Reset("HTTP/1.1 2"), want: record{0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0}, or: PhaseWrite},
	{what: "reset in the headers", does: hostile.Reset(hostile.StatusOK + "X-A: b"), want: record{0, OutcomeFailed, PhaseHeaders, "connection closed early", 0}, or: PhaseWrite},
	{what: "reset after the headers", does: hostile.Reset(hostile.HeadersOK), want: record{200, OutcomeFailed, PhaseBody, "connection closed early", 0}},
	{what: "reset in the body", does: hostile.Reset(hostile.HeadersOK + "0123456789"), want: record{200, OutcomeFailed, PhaseBody, "connection closed early", 10}},
	{what: "reset instead of the end of the body", does: hostile.Reset(hostile.HeadersEndless + "ok"), want: record{200, OutcomeFailed, PhaseBody, "connection closed early", 2}},
	{what: "reset before the last chunk", does: hostile.Reset(hostile.HeadersChunked + hostile.Chunk("ok")), want: record{200, OutcomeFailed, PhaseBody, "connection closed early", 2}},
	{what: "reset after a whole 200", does: hostile.Reset(hostile.WholeOK), want: record{200, OutcomeDelivered, "", "", 2}},
	{what: "reset after a 204", does: hostile.Reset("HTTP/1.1 204 No Content\r\n\r\n"), want: record{204, OutcomeDelivered, "", "", 0}},
	{what: "closed in the body", does: hostile.Say(hostile.HeadersOK + "0123456789"), want: record{200, OutcomeFailed, PhaseBody, "connection closed early", 10}},
	{what: "200 before the request was read", does: hostile.Babble(hostile.WholeOK), want: record{200, OutcomeDelivered, "", "", 2}},
	{what: "1xx, then 200", does: hostile.Say("HTTP/1.1 102 Wait\r\n\r\n" + hostile.WholeOK), want: record{200, OutcomeDelivered, "", "", 2}},
	// It hands the connection over: what comes is no body, and no context ends the reading of it.
	{what: "101", does: hostile.Hang("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), want: record{101, OutcomeFailed, "", "", 0}},
	{what: "GOAWAY of HTTP/2", does: hostile.Say(hostile.GoAway), want: record{0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0}, or: PhaseWrite},
	{what: "HTTP/0.9", does: hostile.Say("ok"), want: record{0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0}, or: PhaseWrite},
	{what: "two lengths", does: hostile.Say(hostile.StatusOK + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"), want: record{0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0}, or: PhaseWrite},
	{what: "no length", does: hostile.Say(hostile.StatusOK + "Content-Length: -2\r\n\r\nok"), want: record{0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0}, or: PhaseWrite},
	{what: "unheard-of coding", does: hostile.Say(hostile.StatusOK + "Transfer-Encoding: shuffled\r\n\r\nok"), want: record{0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0}, or: PhaseWrite},
	{what: "no chunk", does: hostile.Say(hostile.HeadersChunked + "ffffffffffffffffff\r\n"), want: record{200, OutcomeFailed, PhaseBody, "connection broken", 0}},
}

// startHostile runs a hostile receiver until the test ends.
func startHostile(t *testing.T, does hostile.Behaviour, config *tls.Config) *hostile.Hostile {
	t.Helper()
	h, err := hostile.StartHostile(does, config)
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

// meet makes the attempt and compares its record, with the memory it took.
func (a attack) meet(t *testing.T, timeout time.Duration) Result {
	t.Helper()
	h := startHostile(t, a.does, nil)
	r := request(h.URL)
	if a.tls {
		r.URL = "https://" + h.Address
	}
	if a.body > 0 {
		r.Body = make([]byte, a.body)
	}
	c := newClient(t, within(timeout))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	result := do(t, c, r)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > maxAttemptBytes {
		t.Errorf("took %d bytes of memory, at most %d", took, maxAttemptBytes)
	}
	got := record{result.Status, result.Outcome, result.Phase, result.Error, len(result.ResponseHead)}
	want := a.want
	if want.head == anyLength {
		want.head = got.head
	}
	if a.or != "" && got.phase == a.or {
		want.phase = a.or
	}
	if got != want {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if result.RetryAfter != 0 || h.Accepted() != 1 {
		t.Errorf("Retry-After %s, %d connections", result.RetryAfter, h.Accepted())
	}
	return result
}

func TestHostileHangs(t *testing.T) {
	for _, a := range hangs {
		t.Run(a.what, func(t *testing.T) {
			if took := a.meet(t, shortTimeout).Timings.Total; took < shortTimeout || took > longTimeout/2 {
				t.Errorf("took %s, want %s", took, shortTimeout)
			}
		})
	}
}

// A body that would be whole in the end comes too slowly for the deadline.
func TestBodyWithinTheDeadline(t *testing.T) {
	a := attack{
		does: hostile.Drip(hostile.StatusOK+"Content-Length: 200\r\n\r\n", "x", drip),
		want: record{200, OutcomeFailed, PhaseBody, "timed out", anyLength},
	}
	a.meet(t, shortTimeout)
}

func TestHostileFloodsAndBreaks(t *testing.T) {
	for _, a := range slices.Concat(floods, breaks) {
		t.Run(a.what, func(t *testing.T) {
			if took := a.meet(t, longTimeout).Timings.Total; took > longTimeout/2 {
				t.Errorf("took %s", took)
			}
		})
	}
}

// Wherever a redirect points, nobody goes there.
func TestHostileRedirects(t *testing.T) {
	var trapped atomic.Int32
	trap := serve(t, func(http.ResponseWriter, *http.Request) { trapped.Add(1) })
	for _, status := range []string{"301 M", "302 M", "303 M", "307 M", "308 M"} {
		for _, to := range []string{trap.URL, "http://169.254.169.254/latest/meta-data/", "http://[::1]:8080/", "//" + trap.URL[len("http://"):], "/", "file:///etc/passwd", "http://[broken"} {
			a := attack{does: hostile.Redirect(status, to), want: record{outcome: OutcomeFailed}}
			a.want.status = int(status[0]-'0')*100 + int(status[1]-'0')*10 + int(status[2]-'0')
			a.meet(t, longTimeout)
		}
	}
	if n := trapped.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestHostileCertificates(t *testing.T) {
	now := time.Now()
	ours, err := hostile.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := hostile.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	issue := func(by *hostile.Authority, host string, from time.Time) func() (*tls.Config, error) {
		return func() (*tls.Config, error) { return by.Issue(host, from, 2*time.Hour) }
	}
	for what, tt := range map[string]struct {
		make func() (*tls.Config, error)
		text string
	}{
		"good":              {issue(ours, "receiver.test", now.Add(-time.Hour)), ""},
		"expired":           {issue(ours, "receiver.test", now.Add(-3*time.Hour)), "certificate expired or not yet valid"},
		"not yet valid":     {issue(ours, "receiver.test", now.Add(time.Hour)), "certificate expired or not yet valid"},
		"other name":        {issue(ours, "other.test", now.Add(-time.Hour)), "certificate is for another name"},
		"only its address":  {issue(ours, "127.0.0.1", now.Add(-time.Hour)), "certificate is for another name"},
		"name above":        {issue(ours, "test", now.Add(-time.Hour)), "certificate is for another name"},
		"unknown authority": {issue(theirs, "receiver.test", now.Add(-time.Hour)), "certificate not trusted"},
		"self-signed":       {func() (*tls.Config, error) { return hostile.SelfSigned("receiver.test") }, "certificate not trusted"},
		"old TLS":           {old(issue(ours, "receiver.test", now.Add(-time.Hour))), "handshake refused"},
	} {
		t.Run(what, func(t *testing.T) {
			config, err := tt.make()
			if err != nil {
				t.Fatal(err)
			}
			h := startHostile(t, hostile.Say(hostile.WholeOK), config)
			var names hostile.Names
			names.Answer("receiver.test", "127.0.0.1")
			got := do(t, newClient(t, trusting(ours.Pool, &names)), request(plainName(h.URL)))
			want := record{0, OutcomeFailed, PhaseTLS, tt.text, 0}
			if tt.text == "" {
				want = record{200, OutcomeDelivered, "", "", 2}
			}
			if got := (record{got.Status, got.Outcome, got.Phase, got.Error, len(got.ResponseHead)}); got != want {
				t.Errorf("%+v\nwant %+v", got, want)
			}
		})
	}
}

func trusting(pool *x509.CertPool, names *hostile.Names) func(*ClientConfig) {
	return func(c *ClientConfig) {
		c.RootCAs, c.AllowHTTP, c.Timeout, c.Guard.Lookup = pool, false, longTimeout, names.Lookup
	}
}

func old(make func() (*tls.Config, error)) func() (*tls.Config, error) {
	return func() (*tls.Config, error) {
		config, err := make()
		config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		return config, err
	}
}

// A server that offers HTTP/2 is spoken to in HTTP/1.1; one that knows nothing else says
// so, and that is no answer.
func TestHostileHTTP2(t *testing.T) {
	authority, err := hostile.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	config, err := authority.Issue("receiver.test", time.Now().Add(-time.Hour), 2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	config.NextProtos = []string{"h2"}
	var names hostile.Names
	names.Answer("receiver.test", "127.0.0.1")
	for text, want := range map[string]record{
		hostile.WholeOK: {200, OutcomeDelivered, "", "", 2},
		hostile.GoAway:  {0, OutcomeFailed, PhaseHeaders, "no valid HTTP answer", 0},
	} {
		h := startHostile(t, hostile.Say(text), config)
		got := do(t, newClient(t, trusting(authority.Pool, &names)), request(plainName(h.URL)))
		if got := (record{got.Status, got.Outcome, got.Phase, got.Error, len(got.ResponseHead)}); got != want {
			t.Errorf("%q: %+v\nwant %+v", text, got, want)
		}
	}
}

// A name leads to a receiver, then away from it: each connection asks again, and what it
// is told is checked again.
func TestHostileNames(t *testing.T) {
	// It says that it closes, or the next attempt may try the connection that is about to end.
	h := startHostile(t, hostile.Say(hostile.StatusOK+"Connection: close\r\nContent-Length: 2\r\n\r\nok"), nil)
	_, port, _ := net.SplitHostPort(h.Address)
	var names hostile.Names
	names.Answer("receiver.test", "127.0.0.1")
	names.Answer("receiver.test", "127.0.0.1", "10.0.0.1")
	names.Answer("receiver.test", "::ffff:169.254.169.254")
	names.Answer("receiver.test")
	names.Answer("receiver.test", "127.0.0.1")
	c := newClient(t, func(c *ClientConfig) { c.Guard.Lookup, c.Timeout = names.Lookup, longTimeout })
	for i, want := range []record{
		{200, OutcomeDelivered, "", "", 2},
		{0, OutcomeFailed, PhaseGuard, "address refused: private", 0},
		{0, OutcomeFailed, PhaseGuard, "address refused: link-local", 0},
		{0, OutcomeFailed, PhaseDNS, "no such host", 0},
		{200, OutcomeDelivered, "", "", 2},
	} {
		got := do(t, c, request("http://receiver.test:"+port))
		if got := (record{got.Status, got.Outcome, got.Phase, got.Error, len(got.ResponseHead)}); got != want {
			t.Errorf("answer %d: %+v\nwant %+v", i+1, got, want)
		}
	}
	if names.Lookups("receiver.test") != 5 || h.Accepted() != 2 {
		t.Errorf("%d lookups, %d connections", names.Lookups("receiver.test"), h.Accepted())
	}
}
