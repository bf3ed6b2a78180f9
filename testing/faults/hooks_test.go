package faults

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/go-json-experiment/json"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/webhooks"
)

const (
	hookTries      = 4
	hookSlow       = 30 * time.Millisecond
	hookWithin     = 3 * time.Second // a second, and what a checkpoint takes on a busy machine
	hookNotice     = 3 * time.Second // from a commit until the dispatcher goes by it, likewise
	hookComplaints = 5               // of one verdict that are printed
)

// hookDelays give a delivery hookTries in quick succession.
var hookDelays = []time.Duration{0, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond}

// hooks are receivers of every kind, one a path: the last part of it says which. They
// answer whoever asks and keep what came, to be verified in the end by the secrets that the
// log has: a secret that was told to nobody, because its answer was lost, counts too.
type hooks struct {
	*httptest.Server

	mu       sync.Mutex // guards what follows
	random   *rand.Rand
	requests []*request
	settled  int           // answers of 2xx
	changed  chan struct{} // closed and replaced with each answer
}

func startHooks(t *testing.T, seed uint64) *hooks {
	t.Helper()
	h := &hooks{random: rand.New(rand.NewPCG(seed, 7)), changed: make(chan struct{})}
	h.Server = httptest.NewServer(h)
	t.Cleanup(func() {
		h.CloseClientConnections() // of those that hang
		h.Close()
	})
	return h
}

// ServeHTTP takes a request and answers it as its path says.
func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost { // it is asked whether it consents
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was killed; what it sent is no request
	}
	header := r.Header
	q := &request{
		path: r.URL.Path, id: header.Get("webhook-id"), timestamp: header.Get("webhook-timestamp"), signature: header.Get("webhook-signature"),
		body: body, at: time.Now(),
	}
	h.mu.Lock()
	h.requests = append(h.requests, q)
	chance := h.random.Float64()
	h.mu.Unlock()
	status := http.StatusOK
	switch _, kind, _ := strings.Cut(r.URL.Path[1:], "/"); {
	case kind == "hanging":
		<-r.Context().Done()
		return
	case kind == "slow":
		wait := time.NewTimer(hookSlow)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-r.Context().Done():
			return
		}
	case (kind == "failing" || kind == "ordered") && chance < 0.3:
		status = []int{http.StatusInternalServerError, http.StatusNotFound, http.StatusServiceUnavailable}[int(chance*10)]
	}
	h.answer(q, status)
	w.WriteHeader(status)
}

// answer notes an answer that is about to be given.
func (h *hooks) answer(q *request, status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q.status, q.answered = status, time.Now()
	if status/100 == 2 {
		h.settled++
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait waits until something holds, which is looked at after every answer, or for so long.
// It says whether it holds.
func (h *hooks) wait(within time.Duration, holds func() bool) bool {
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		h.mu.Lock()
		changed := h.changed
		h.mu.Unlock()
		if holds() {
			return true
		}
		select {
		case <-changed:
		case <-late.C:
			return holds()
		}
	}
}

// delivered waits for so many deliveries more.
func (h *hooks) delivered(n int, within time.Duration) bool {
	from := h.count()
	return h.wait(within, func() bool { return h.count() >= from+n })
}

func (h *hooks) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.settled
}

// intN is a random number below n.
func (h *hooks) intN(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.random.IntN(n)
}

// came is what came so far.
func (h *hooks) came() []request {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]request, len(h.requests))
	for i, q := range h.requests {
		list[i] = *q
	}
	return list
}

// sealerOf opens what a keyledger on a directory has sealed.
func sealerOf(t *testing.T, dir string) *events.Sealer {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := events.NewSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

// settle waits until each owed event was delivered, or tried for the last time, where the
// receiver is one that answers and the endpoint is active.
func (h *hooks) settle(t *testing.T, owing map[string]*owing) {
	t.Helper()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for late := time.After(patience); ; {
		open := h.unsettled(owing)
		if open == "" {
			return
		}
		select {
		case <-look.C:
		case <-late:
			t.Errorf("after %s not everything is settled: %s", patience, open)
			return
		}
	}
}

// unsettled names an event that still has to come, "" if there is none.
func (h *hooks) unsettled(owing map[string]*owing) string {
	type key struct{ path, id, replay string }
	tries, delivered, last := map[key]int{}, map[key]bool{}, map[key]time.Time{}
	for _, q := range h.came() {
		if q.status == 0 {
			continue
		}
		var body struct {
			Replay string `json:"replay"`
		}
		_ = json.Unmarshal(q.body, &body) // the check says so
		k := key{q.path, q.id, body.Replay}
		tries[k]++
		delivered[k] = delivered[k] || q.status/100 == 2
		last[k] = q.answered
	}
	settled := func(k key) bool { return delivered[k] || tries[k] >= hookTries }
	for _, o := range owing {
		path := o.paths[len(o.paths)-1]
		if strings.HasSuffix(path, "hanging") || o.endpoint.Status != events.Active || !o.removed.IsZero() {
			continue
		}
		for i, w := range o.list {
			if w.skipped.IsZero() && !settled(key{path: path, id: w.id}) {
				return fmt.Sprintf("number %d of %d to %s", i+1, len(o.list), path)
			}
		}
		for _, p := range o.replays {
			for id, s := range p.sends {
				_, owed := o.index[id]
				if !s.skipped && !(owed && last[key{path: path, id: id}].After(p.asked)) && !settled(key{path, id, p.id}) {
					return fmt.Sprintf("%s to %s for %s", id, path, p.id)
				}
			}
		}
	}
	return ""
}

// check holds what came against the log and what keyledger says, once all is settled.
func (h *hooks) check(t *testing.T, conn *nats.Conn, dir string, kills []time.Time) {
	t.Helper()
	owing, err := foldOwed(readLog(t, conn), sealerOf(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	h.settle(t, owing)
	d := &deliveries{owing: owing, lists: map[string]listing{}, kills: kills, tries: hookTries, within: hookWithin, notice: hookNotice}
	c := client.New(conn)
	for id, o := range owing {
		if o.removed.IsZero() {
			d.lists[id] = listed(t, c, o)
		}
	}
	d.attempts = attemptsOf(t, conn)
	d.requests = h.came()
	complaints := d.check()
	given := map[string]int{} // by verdict: the first complaints may all be of one
	for _, complaint := range complaints {
		verdict, _, _ := strings.Cut(complaint, ":")
		if given[verdict]++; given[verdict] <= hookComplaints {
			t.Error(complaint)
		}
	}
	total, pending, dead := 0, 0, 0
	for id, o := range owing {
		total, pending, dead = total+len(o.list), pending+int(d.lists[id].count), dead+len(d.lists[id].dead)
	}
	t.Logf("%d endpoints are owed %d, %d of it pending, %d dead; %d requests, %d records, %d kills; complaints: %v",
		len(owing), total, pending, dead, len(d.requests), len(d.attempts), len(kills), given)
}

// listed reads an endpoint's delivery.list, of what is pending and what is dead.
func listed(t *testing.T, c *client.Client, o *owing) (l listing) {
	t.Helper()
	for _, status := range []string{"pending", "dead"} {
		for cursor := ""; ; {
			var out struct {
				Deliveries []row   `json:"deliveries"`
				Pending    uint64  `json:"pending"`
				Next       *string `json:"next_cursor"`
			}
			reply, err := c.Query(t.Context(), o.endpoint.Account, "delivery.list",
				map[string]any{"endpoint": o.endpoint.ID, "status": status, "cursor": cursor, "limit": 500})
			if err == nil {
				err = reply.Decode(&out)
			}
			if err != nil {
				t.Fatalf("list what is %s for %s: %v", status, o.endpoint.ID, err)
			}
			owed := slices.DeleteFunc(out.Deliveries, func(r row) bool { return r.Replay != nil || r.Sequence == "" })
			if status == "pending" {
				l.pending, l.count = append(l.pending, owed...), out.Pending
			} else {
				l.dead = append(l.dead, owed...)
			}
			if out.Next == nil {
				break
			}
			cursor = *out.Next
		}
	}
	return l
}

// attemptsOf reads all records of attempts.
func attemptsOf(t *testing.T, conn *nats.Conn) (list []webhooks.Attempt) {
	t.Helper()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), store.StreamAttempts)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(t.Context(), store.StreamAttempts, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range stream.CachedInfo().State.Msgs {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatal(fmt.Errorf("read the records of attempts, %d so far: %w", len(list), err))
		}
		var a webhooks.Attempt
		if err := json.Unmarshal(m.Data(), &a); err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	return list
}
