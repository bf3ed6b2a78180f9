// Package receiver is a webhook receiver such as a customer runs, for the demo and for
// tests. It shares no code with the sender: signatures are verified by the Standard
// Webhooks library and events parsed by the CloudEvents SDK.
package receiver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// maxBodyBytes is the largest request body that is read.
const maxBodyBytes = 1 << 20

// Event is one verified webhook, recorded at its first arrival.
type Event struct {
	ID       string // CloudEvents id, the same as the header webhook-id
	Type     string
	Source   string
	Subject  string
	Sequence string // extension; empty where the event has none
	Data     []byte // JSON
	Body     []byte // the request body as it came
}

// Attempt is one request with a good signature and how it was answered.
type Attempt struct {
	ID     string // webhook-id
	At     time.Time
	Status int
}

// Answer is one scripted answer.
type Answer struct {
	Status int
	Header http.Header // e.g. Retry-After
}

// Totals counts requests over all paths. Each request is in exactly one of the numbers
// below Requests.
type Totals struct {
	Requests      int
	Verified      int // distinct events: signature good, parsed, answered 200
	Duplicates    int // events that came again, answered 200
	Changed       int // events that came again with other bytes, answered 200
	Scripted      int // answered from a script, not recorded as received
	BadSignatures int // answered 401
	Malformed     int // not a POST of one CloudEvent whose id is its webhook-id; answered 400
	Unknown       int // to a path that is not registered, answered 404
}

// Receiver is an http.Handler that plays any number of receivers, one a path. The zero
// value is not ready for use: call New.
type Receiver struct {
	mu      sync.Mutex // guards all below
	paths   map[string]*path
	totals  Totals
	changed chan struct{} // closed and replaced whenever totals change
}

type path struct {
	hook     *standardwebhooks.Webhook
	script   []Answer
	events   []Event
	seen     map[string][sha256.Size]byte // webhook-id to the hash of its first body
	attempts []Attempt
}

// New returns a Receiver without paths.
func New() *Receiver {
	return &Receiver{paths: map[string]*path{}, changed: make(chan struct{})}
}

// Register starts receiving on a path such as "/acme", or gives it another secret
// ("whsec_…").
func (r *Receiver) Register(name, secret string) error {
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return fmt.Errorf("register path %s: %w", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.paths[name]; p != nil {
		p.hook = hook
		return nil
	}
	r.paths[name] = &path{hook: hook, seen: map[string][sha256.Size]byte{}}
	return nil
}

// Script makes a registered path give these answers to the next requests with a good
// signature, one each; after them it is well again.
func (r *Receiver) Script(name string, answers ...Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.paths[name]
	p.script = append(p.script, answers...)
}

// Events returns the verified events of a path in the order of their arrival.
func (r *Receiver) Events(name string) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.paths[name]; p != nil {
		return append([]Event(nil), p.events...)
	}
	return nil
}

// Attempts returns the attempts on a path in the order of their arrival.
func (r *Receiver) Attempts(name string) []Attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.paths[name]; p != nil {
		return append([]Attempt(nil), p.attempts...)
	}
	return nil
}

// Totals returns the numbers so far.
func (r *Receiver) Totals() Totals {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.totals
}

// Wait returns when cond holds. It looks again after every request; cond may call the
// Receiver. When ctx ends first, the error says how far it came.
func (r *Receiver) Wait(ctx context.Context, cond func(Totals) bool) error {
	for {
		r.mu.Lock()
		totals, changed := r.totals, r.changed
		r.mu.Unlock()
		if cond(totals) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for webhooks, so far %+v: %w", totals, ctx.Err())
		}
	}
}

// ServeHTTP implements http.Handler. The question whether deliveries are welcome (CloudEvents
// HTTP 1.1 Web Hooks, §4) is answered for any path and not counted: it comes before there is
// a secret.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method == http.MethodOptions {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		w.Header().Set("WebHook-Allowed-Rate", "*")
		return
	}
	answer := r.receive(req)
	maps.Copy(w.Header(), answer.Header)
	w.WriteHeader(answer.Status)
}

func (r *Receiver) receive(req *http.Request) Answer {
	r.mu.Lock()
	p := r.paths[req.URL.Path]
	var hook *standardwebhooks.Webhook
	if p != nil {
		hook = p.hook
	}
	r.mu.Unlock()
	if p == nil {
		return r.refuse(http.StatusNotFound, func(t *Totals) { t.Unknown++ })
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxBodyBytes))
	if err != nil || req.Method != http.MethodPost {
		return r.refuse(http.StatusBadRequest, func(t *Totals) { t.Malformed++ })
	}
	if err := hook.Verify(body, req.Header); err != nil {
		return r.refuse(http.StatusUnauthorized, func(t *Totals) { t.BadSignatures++ })
	}
	event, err := parse(req, body)
	if err != nil {
		return r.refuse(http.StatusBadRequest, func(t *Totals) { t.Malformed++ })
	}
	return r.record(p, event)
}

// parse reads a CloudEvent in structured mode, and checks it against the header.
func parse(req *http.Request, body []byte) (Event, error) {
	req.Body = io.NopCloser(bytes.NewReader(body))
	e, err := cloudevents.NewEventFromHTTPRequest(req)
	if err != nil {
		return Event{}, fmt.Errorf("parse the event: %w", err)
	}
	if err := e.Validate(); err != nil {
		return Event{}, fmt.Errorf("parse the event: %w", err)
	}
	if id := req.Header.Get(standardwebhooks.HeaderWebhookID); id != e.ID() {
		return Event{}, errors.New("parse the event: its id is not its webhook-id")
	}
	sequence, _ := e.Extensions()["sequence"].(string)
	return Event{
		ID: e.ID(), Type: e.Type(), Source: e.Source(), Subject: e.Subject(),
		Sequence: sequence, Data: e.Data(), Body: body,
	}, nil
}

// record takes in a good event, or gives the next scripted answer instead.
func (r *Receiver) record(p *path, event Event) Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := Answer{Status: http.StatusOK}
	sum := sha256.Sum256(event.Body)
	first, again := p.seen[event.ID]
	switch {
	case len(p.script) > 0:
		answer, p.script = p.script[0], p.script[1:]
		r.totals.Scripted++
	case again && first != sum:
		r.totals.Changed++
	case again:
		r.totals.Duplicates++
	default:
		p.seen[event.ID] = sum
		p.events = append(p.events, event)
		r.totals.Verified++
	}
	p.attempts = append(p.attempts, Attempt{ID: event.ID, At: time.Now(), Status: answer.Status})
	r.count()
	return answer
}

func (r *Receiver) refuse(status int, add func(*Totals)) Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.totals)
	r.count()
	return Answer{Status: status}
}

// count must be called with mu held, once a request.
func (r *Receiver) count() {
	r.totals.Requests++
	close(r.changed)
	r.changed = make(chan struct{})
}
