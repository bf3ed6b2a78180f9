package webhooks

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"time"

	"github.com/keyledger/keyledger/events"
)

const (
	// DefaultTimeout is the time one attempt has for everything: resolving,
	// connecting, TLS, sending, and the answer with its body.
	DefaultTimeout = 15 * time.Second
	// MaxTimeout is the longest timeout that can be set.
	MaxTimeout = 30 * time.Second
	// MaxConnectionAge is the longest life of a connection: not later than this is
	// an endpoint's name resolved and its address checked again.
	MaxConnectionAge = 60 * time.Second

	maxIdle            = 15 * time.Second // an unused connection is closed after this
	maxIdleConns       = 512              // over all endpoints
	maxIdleConnsHost   = 8                // as many as an endpoint has deliveries in flight by default
	maxRespHeaderBytes = 64 << 10         // of an answer
	maxIDBytes         = 128              // of a webhook-id
	maxFieldBytes      = 128              // of a field of an answer's header that is kept

	// ContentType of every delivery: a CloudEvent in structured JSON mode.
	ContentType = "application/cloudevents+json; charset=utf-8"

	headerID        = "webhook-id"        // the event's id, the same at every try
	headerTimestamp = "webhook-timestamp" // unix seconds of this attempt
	headerSignature = "webhook-signature" // see Sign
	headerTrace     = "traceparent"       // W3C Trace Context: the attempt is the parent
)

// ErrRequest is wrapped by Client.Do's errors about a request that no customer
// can have caused: a missing key, an id that cannot be signed.
var ErrRequest = errors.New("bad attempt request")

// ClientConfig is how a Client is made.
type ClientConfig struct {
	// Guard checks every URL and every address that is dialled. Required.
	Guard *Guard
	// Version stands in the User-Agent: keyledger/<version>. Required, a token.
	Version string
	// AllowHTTP lets plain http URLs pass.
	AllowHTTP bool
	// Timeout of one attempt that has no other, over everything; 0 stands for
	// DefaultTimeout, at most MaxTimeout.
	Timeout time.Duration
	// Origin is the name that receivers are asked to allow, see AskConsent and
	// CheckOrigin. "" stands for DefaultOrigin.
	Origin string
	// RootCAs verify the receivers' certificates; nil stands for the system's.
	RootCAs *x509.CertPool
}

// Client makes attempts. It goes through no proxy, follows no redirect, keeps
// no cookie, speaks HTTP/1.1 only, and dials nothing but what the guard lets
// pass. It is safe for concurrent use.
//
// No connection outlives MaxConnectionAge: the transport with its connections
// is replaced often enough that what is under way can end, and a deadline on
// each connection closes it in any case.
type Client struct {
	config   ClientConfig     // not changed after NewClient
	lifetime time.Duration    // how long one transport takes new attempts
	age      time.Duration    // how long one connection lives
	clock    func() time.Time // tells the age of the transport

	mu      sync.Mutex      // guards what follows
	current *http.Transport // nil before the first attempt
	made    time.Time       // when current was made
}

// NewClient makes a client; a config outside the limits is an error.
func NewClient(config ClientConfig) (*Client, error) {
	if config.Guard == nil {
		return nil, errors.New("make client: no guard")
	}
	if !isToken(config.Version) {
		return nil, errors.New("make client: version is not a token")
	}
	config.Origin = cmp.Or(config.Origin, DefaultOrigin)
	if err := CheckOrigin(config.Origin); err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	if config.Timeout == 0 {
		config.Timeout = DefaultTimeout
	}
	if config.Timeout < 0 || config.Timeout > MaxTimeout {
		return nil, fmt.Errorf("make client: timeout %s, want up to %s", config.Timeout, MaxTimeout)
	}
	// A connection made when its transport is new may be taken for the last time just
	// before the transport is replaced, is then busy for up to the longest timeout, and, if an
	// attempt raced with the replacement, idle for up to maxIdle.
	lifetime := MaxConnectionAge - MaxTimeout - maxIdle
	return &Client{config: config, lifetime: lifetime, age: MaxConnectionAge, clock: time.Now}, nil
}

// Close closes the connections that no attempt uses. The client can be used on.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		c.current.CloseIdleConnections()
		c.current = nil
	}
}

// Request is one attempt to be made. Do changes nothing in it.
type Request struct {
	URL     string
	Body    []byte            // the CloudEvent in JSON, the same bytes at every try
	ID      string            // the event's id: 1 to 128 letters, digits, '-' and '_'
	Headers map[string]string // custom headers, see CheckHeaders
	Keys    []SigningKey      // newest first, at least one
	Now     time.Time         // time of the attempt, as it is signed
	Timeout time.Duration     // of this attempt, over everything, up to MaxTimeout; 0: the client's
	Trace   events.Trace      // whose parent is the attempt; zero: none
}

// Result is what came of an attempt.
type Result struct {
	// Status is the HTTP status, 0 if no answer came. It stands even if the body
	// could not be read.
	Status  int
	Outcome Outcome
	// RetryAfter is how long the receiver asked to wait, 0 to MaxWait; 0 if it did
	// not ask, or answered 2xx.
	RetryAfter time.Duration
	// Phase in which the attempt failed; empty if there was a whole answer, be it a
	// refusal.
	Phase Phase
	// Error says what happened in that phase, in one of a fixed set of texts: it
	// never holds an address or anything that the other side sent.
	Error string
	// ResponseHead is the beginning of the answer's body, decoded, at most
	// MaxResponseHeadBytes.
	ResponseHead []byte
	// RetryAfterField and ContentType are fields of the answer's header as they came, at
	// most maxFieldBytes of each.
	RetryAfterField, ContentType string
	Timings                      Timings
}

// Do makes one attempt: it signs and sends the request and reads the answer,
// within the request's timeout. What the endpoint does, or is refused for, is in
// the Result. An error means that the attempt does not count, and there is no
// Result: ctx ended first (the error wraps ctx's), or the request was wrong in
// itself (ErrRequest).
//
// A customer's Idempotency-Key header lets the transport send the request a
// second time within the attempt, if a kept connection breaks before any answer.
func (c *Client) Do(ctx context.Context, r Request) (Result, error) {
	if err := r.check(); err != nil {
		return Result{}, err
	}
	line := newTimeline(time.Now())
	request, refused := c.build(r)
	if refused != nil {
		return line.failed(PhaseGuard, refused.Error()), nil
	}
	within, cancel := c.within(ctx, r.Timeout)
	defer cancel()
	request = request.WithContext(httptrace.WithClientTrace(within, line.trace()))

	// RoundTrip and not http.Client: it follows no redirect, whatever its Location.
	response, err := c.transport().RoundTrip(request)
	if err != nil {
		if ctx.Err() != nil {
			return Result{}, fmt.Errorf("cut off attempt: %w", context.Cause(ctx))
		}
		phase, _ := line.now()
		return line.failed(describe(err, phase)), nil
	}
	defer response.Body.Close()
	head, err := readBody(response)
	if err != nil && ctx.Err() != nil {
		return Result{}, fmt.Errorf("cut off attempt: %w", context.Cause(ctx))
	}
	return line.answered(r, response, head, err), nil
}

// timeoutKey is the key of a context's value that is the timeout of its attempt. The
// transport lets a dial go on when the attempt that asked for it has ended, with a context
// that has kept its values alone.
type timeoutKey struct{}

// within gives an attempt its time; 0 stands for the client's.
func (c *Client) within(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		timeout = c.config.Timeout
	}
	return context.WithTimeout(context.WithValue(ctx, timeoutKey{}, timeout), timeout)
}

// check finds what the caller did wrong.
func (r Request) check() error {
	if r.ID == "" || len(r.ID) > maxIDBytes {
		return fmt.Errorf("%w: id of %d bytes, want 1 to %d", ErrRequest, len(r.ID), maxIDBytes)
	}
	for _, c := range []byte(r.ID) {
		letter := (c|0x20) >= 'a' && (c|0x20) <= 'z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("%w: id has more than letters, digits, - and _", ErrRequest)
		}
	}
	if len(r.Keys) == 0 {
		return fmt.Errorf("%w: no signing key", ErrRequest)
	}
	for _, key := range r.Keys {
		if err := key.check(); err != nil {
			return fmt.Errorf("%w: %w", ErrRequest, err)
		}
	}
	if r.Timeout < 0 || r.Timeout > MaxTimeout {
		return fmt.Errorf("%w: timeout %s, want up to %s", ErrRequest, r.Timeout, MaxTimeout)
	}
	return nil
}

// build makes the HTTP request of an attempt.
func (c *Client) build(r Request) (*http.Request, error) {
	request, err := c.newRequest(http.MethodPost, r.URL, r.Headers, r.Body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", ContentType)
	request.Header.Set(headerID, r.ID)
	request.Header.Set(headerTimestamp, strconv.FormatInt(r.Now.Unix(), 10))
	request.Header.Set(headerSignature, Sign(r.ID, r.Now, r.Body, r.Keys...))
	if r.Trace != (events.Trace{}) {
		request.Header.Set(headerTrace, r.Trace.String())
	}
	return request, nil
}

// newRequest makes a request to an endpoint. What it refuses is the endpoint's
// configuration: checked when it was registered, and again here, under today's rules.
func (c *Client) newRequest(method, url string, headers map[string]string, body []byte) (*http.Request, error) {
	u, err := c.config.Guard.CheckURL(url, c.config.AllowHTTP)
	if err != nil {
		return nil, err
	}
	if CheckHeaders(headers) != nil {
		return nil, ErrHeader
	}
	request, err := http.NewRequest(method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, refuse(ClassURL)
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	request.Header.Set("User-Agent", "keyledger/"+c.config.Version)
	request.Header.Set(headerRequestOrigin, c.config.Origin) // in each request, as it was in the one that asked
	return request, nil
}

// transport gives the current transport, and a new one when that is too old.
func (c *Client) transport() *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	if c.current != nil && now.Sub(c.made) < c.lifetime {
		return c.current
	}
	if c.current != nil {
		c.current.CloseIdleConnections() // and those in use, once they are not
	}
	c.current, c.made = c.newTransport(), now
	return c.current
}

func (c *Client) newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            c.dial,
		TLSClientConfig:        c.tlsConfig(),
		TLSHandshakeTimeout:    MaxTimeout, // an attempt's own ends it sooner
		DisableCompression:     true,
		MaxIdleConns:           maxIdleConns,
		MaxIdleConnsPerHost:    maxIdleConnsHost,
		IdleConnTimeout:        maxIdle,
		MaxResponseHeaderBytes: maxRespHeaderBytes,
		Protocols:              protocols,
	}
}

func (c *Client) tlsConfig() *tls.Config {
	return &tls.Config{RootCAs: c.config.RootCAs, MinVersion: tls.VersionTLS12}
}

// dial goes through the guard and gives the connection its deadline. It ends with the
// time of the attempt that asked for it, see timeoutKey.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	timeout, ok := ctx.Value(timeoutKey{}).(time.Duration)
	if !ok {
		timeout = c.config.Timeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := c.config.Guard.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(c.age)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("set connection deadline: %w", err)
	}
	return conn, nil
}

// failed is the result of an attempt without an answer.
func (t *timeline) failed(phase Phase, text string) Result {
	_, timings := t.now()
	return Result{Outcome: OutcomeFailed, Phase: phase, Error: text, Timings: timings}
}

// answered is the result of an attempt with an answer, whose body may have
// broken off. A status other than 2xx says enough without its body; a 2xx
// counts only with all of it.
func (t *timeline) answered(r Request, response *http.Response, head []byte, broken error) Result {
	_, timings := t.now()
	result := Result{
		Status:       response.StatusCode,
		Outcome:      Classify(response.StatusCode),
		ResponseHead: head,
		Timings:      timings,

		RetryAfterField: field(response, "Retry-After"),
		ContentType:     field(response, "Content-Type"),
	}
	if broken != nil {
		result.Phase, result.Error = describe(broken, PhaseBody)
		if result.Outcome == OutcomeDelivered {
			result.Outcome = OutcomeFailed
		}
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		now := r.Now.Add(timings.Total)
		result.RetryAfter = ParseRetryAfter(response.Header.Get("Retry-After"), now)
	}
	return result
}

// field is the beginning of a field of an answer's header.
func field(response *http.Response, name string) string {
	value := response.Header.Get(name)
	return value[:min(len(value), maxFieldBytes)]
}
