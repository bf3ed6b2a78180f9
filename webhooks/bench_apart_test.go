package webhooks

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// BenchmarkIsolation measures 500 endpoints that answer at once beside others that accept and
// never answer, and are new: b.N events, each 20 ms 10 for the 500 and 10 for the others. The
// time from an event's commit to its request is reported.
func BenchmarkIsolation(b *testing.B) {
	for _, hanging := range []int{0, 50, 500, 10_000} {
		b.Run(fmt.Sprintf("hanging=%d", hanging), func(b *testing.B) {
			a := &apart{rig: newRig(b), due: map[string]time.Time{}, more: make(chan struct{}, 1)}
			a.register(500, hanging)
			a.measure(b, 500, hanging)
		})
	}
}

// apart is a log, and the receiver of both kinds of endpoints.
type apart struct {
	*rig
	mu   sync.Mutex // guards what follows
	due  map[string]time.Time
	took []time.Duration
	more chan struct{} // holds a value when took has grown
}

// ServeHTTP implements http.Handler.
func (a *apart) ServeHTTP(_ http.ResponseWriter, q *http.Request) {
	_, _ = io.Copy(io.Discard, q.Body)
	if strings.HasPrefix(q.URL.Path, "/hang") {
		<-q.Context().Done()
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.due[q.Header.Get("webhook-id")]; ok {
		a.took = append(a.took, time.Since(at))
	}
	select {
	case a.more <- struct{}{}:
	default:
	}
}

// register makes the endpoints, each with an account.
func (a *apart) register(well, hanging int) {
	server := httptest.NewServer(a)
	a.t.Cleanup(server.Close)
	a.t.Cleanup(server.CloseClientConnections)
	var list []events.Event
	for i := range well + hanging {
		path := "/well"
		if i >= well {
			path = "/hang"
		}
		e := a.endpoint(fmt.Sprintf("endpoint_%d", i), server.URL+path, make([]byte, 32))
		e.Account = fmt.Sprintf("account_%d", i)
		e.SealedSecret = a.sealer.Seal(e.Account, e.ID, "secret", make([]byte, 32))
		if list = append(list, opened(e.Account), about(e, "")); len(list) >= 1000 {
			a.commit(list...)
			list = nil
		}
	}
	a.commit(append(list, opened("nobody"))...)
}

// send commits events for the healthy ones from one number on, and as many for the others.
func (a *apart) send(from, n, well, hanging int) {
	var list []events.Event
	for i := from; i < from+n; i++ {
		list = append(list, debit(fmt.Sprintf("account_%d", i%well), events.Test, i))
		if hanging > 0 {
			list = append(list, debit(fmt.Sprintf("account_%d", well+i%hanging), events.Test, i))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.commit(list...).Each(func(e *events.CloudEvent) error {
		a.due[e.ID.String()] = time.Now()
		return nil
	})
}

func (a *apart) measure(b *testing.B, well, hanging int) {
	d := a.start(seldom, func(c *Config) {
		c.Logger, c.SlowAfter = slog.New(slog.DiscardHandler), DefaultSlowAfter
		c.FirstSlots, c.RetrySlots, c.Client = DefaultFirstSlots, DefaultRetrySlots, newClient(b, within(DefaultTimeout))
	})
	a.send(0, well, well, 0)
	d.idle()
	a.mu.Lock()
	a.took = nil
	a.mu.Unlock()
	b.ResetTimer()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for sent := 0; sent < b.N; sent += 10 {
		<-tick.C
		a.send(sent, min(10, b.N-sent), well, hanging)
	}
	arrived := func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.took) >= b.N
	}
	for !arrived() {
		<-a.more
	}
	b.StopTimer()
	slices.Sort(a.took)
	b.ReportMetric(float64(a.took[len(a.took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(a.took[len(a.took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(0, "ns/op")
}
