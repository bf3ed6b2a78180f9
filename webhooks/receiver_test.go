package webhooks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// received is one request as the receiver understood it, with other people's code.
type received struct {
	endpoint string // the path, without its slash
	id       string
	sequence string
	subject  string
	position string
	at       time.Time // webhook-timestamp
	body     string
	status   int // that it was answered
}

// receiver takes webhooks and checks each request: its signature with the Standard
// Webhooks library, its form with the CloudEvents SDK.
type receiver struct {
	t      testing.TB
	key    [32]byte
	hook   *standardwebhooks.Webhook
	server *httptest.Server

	mu   sync.Mutex // guards what follows
	more *sync.Cond
	all  []received
	// answer says what to answer to a request, the tries-th with this id; nil: 200.
	answer func(w http.ResponseWriter, r *received, tries int) int
}

func newReceiver(t testing.TB, answer func(w http.ResponseWriter, r *received, tries int) int) *receiver {
	t.Helper()
	r := &receiver{t: t, answer: answer}
	r.more = sync.NewCond(&r.mu)
	r.key = sha256.Sum256([]byte(t.Name()))
	var err error
	if r.hook, err = standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString(r.key[:])); err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

// ServeHTTP implements http.Handler. A delivery is noted before it is answered.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // cut off by the sender
	}
	// Not by the clock: it may be the test's.
	if err := r.hook.VerifyIgnoringTimestamp(body, q.Header); err != nil {
		r.t.Errorf("signature: %v", err)
	}
	seconds, err := strconv.ParseInt(q.Header.Get("webhook-timestamp"), 10, 64)
	if err != nil {
		r.t.Errorf("timestamp: %v", err)
	}
	q.Body = io.NopCloser(bytes.NewReader(body))
	event, err := cloudevents.NewEventFromHTTPRequest(q)
	if err != nil {
		r.t.Errorf("not a CloudEvent: %v", err)
		return
	}
	if err := event.Validate(); err != nil || event.ID() != q.Header.Get("webhook-id") {
		r.t.Errorf("CloudEvent %s with webhook-id %s: %v", event.ID(), q.Header.Get("webhook-id"), err)
	}
	got := received{endpoint: strings.TrimPrefix(q.URL.Path, "/"), id: event.ID(), subject: event.Subject(), at: time.Unix(seconds, 0), body: string(body), status: http.StatusOK}
	got.sequence, _ = event.Extensions()["sequence"].(string)
	got.position, _ = event.Extensions()["position"].(string)
	r.mu.Lock()
	answer := r.answer
	r.mu.Unlock()
	if answer != nil {
		got.status = answer(w, &got, r.count(func(o received) bool { return o.id == got.id && o.endpoint == got.endpoint })+1)
	}
	r.mu.Lock()
	r.all = append(r.all, got)
	r.more.Broadcast()
	r.mu.Unlock()
	w.WriteHeader(got.status)
}

// answers changes what the receiver answers.
func (r *receiver) answers(answer func(w http.ResponseWriter, r *received, tries int) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// hold waits at a gate, but not longer than the test goes on.
func (r *receiver) hold(gate <-chan struct{}) {
	select {
	case <-gate:
	case <-r.t.Context().Done():
	}
}

// count counts requests.
func (r *receiver) count(is func(received) bool) int {
	n := 0
	for _, got := range r.list() {
		if is(got) {
			n++
		}
	}
	return n
}

// list returns what came so far.
func (r *receiver) list() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.all...)
}

// wait waits until something holds for what came.
func (r *receiver) wait(what string, holds func([]received) bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	defer context.AfterFunc(ctx, func() { r.mu.Lock(); defer r.mu.Unlock(); r.more.Broadcast() })()
	r.mu.Lock()
	defer r.mu.Unlock()
	for !holds(r.all) {
		if ctx.Err() != nil {
			r.t.Fatalf("never received: %s; %d requests came", what, len(r.all))
		}
		r.more.Wait()
	}
}

// requests waits until n requests came.
func (r *receiver) requests(n int) {
	r.t.Helper()
	r.wait(fmt.Sprintf("%d requests", n), func(all []received) bool { return len(all) >= n })
}

// owed recomputes from the log alone what an endpoint is owed: the ids of the events, in
// order. It is written to be plain: it knows no terms, lanes or cursors.
func (r *rig) owed(endpoint string) (ids []string) {
	r.t.Helper()
	chain := store.Chain{}
	var e *events.Endpoint
	err := store.ReadChecked(r.t.Context(), r.log, &chain, r.chain.Sequence, func(c *store.Commit) error {
		return c.Each(func(ev *events.CloudEvent) error {
			change, ok := ev.Data.(*events.Endpoint)
			if ok && change.ID == endpoint && change.Status == events.Removed {
				e, ids = nil, nil // nothing more is owed, of what came before neither
			}
			if e != nil && ev.Account == e.Account && (ev.Environment == "" || ev.Environment == e.Environment) {
				for _, filter := range e.Events {
					noun, _, _ := strings.Cut(ev.Type, ".")
					if filter == ev.Type || filter == "*" || filter == noun+".*" {
						ids = append(ids, ev.ID.String())
						break
					}
				}
			}
			if ok && change.ID == endpoint && change.Status != events.Removed {
				e = change
			}
			return nil
		})
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return ids
}

// checkDelivered compares what a receiver got for an endpoint with what the log owes:
// every owed event was delivered, nothing else came, each has its own number, and the
// bytes were the same at every try.
func (r *rig) checkDelivered(to *receiver, endpoint string) {
	r.t.Helper()
	ids := r.owed(endpoint)
	number := map[string]int{}
	for i, id := range ids {
		number[id] = i + 1
	}
	body, delivered := map[string]string{}, map[string]bool{}
	for _, got := range to.list() {
		if got.endpoint != endpoint {
			continue
		}
		if n := number[got.id]; n == 0 || got.sequence != fmt.Sprintf("%020d", n) {
			r.t.Errorf("%s: event %s came with sequence %q, and is number %d of those owed", endpoint, got.id, got.sequence, n)
		}
		if before, ok := body[got.id]; ok && before != got.body {
			r.t.Errorf("%s: event %s came with other bytes:\n%s\n%s", endpoint, got.id, before, got.body)
		}
		body[got.id] = got.body
		delivered[got.id] = delivered[got.id] || got.status/100 == 2
	}
	for _, id := range ids {
		if !delivered[id] {
			r.t.Errorf("%s: event %s, number %d, was never delivered", endpoint, id, number[id])
		}
	}
}
