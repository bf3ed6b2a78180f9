package webhooks

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// hanging is a server that answers nothing until the test ends.
func hanging(t *testing.T) (url string) {
	done := make(chan struct{})
	server := serve(t, func(http.ResponseWriter, *http.Request) { <-done })
	t.Cleanup(func() { close(done) }) // before the server is closed, which waits
	return server.URL
}

func TestRequestHasItsOwnTimeout(t *testing.T) {
	r := request(hanging(t))
	r.Timeout = 50 * time.Millisecond
	result := do(t, newClient(t, within(MaxTimeout)), r)
	if result.Phase != PhaseHeaders || result.Error != "timed out" || result.Timings.Total > 10*time.Second {
		t.Errorf("%+v", result)
	}

	late := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-time.After(200 * time.Millisecond) })
	r = request(late.URL)
	r.Timeout = MaxTimeout
	if result := do(t, newClient(t, within(50*time.Millisecond)), r); result.Outcome != OutcomeDelivered {
		t.Errorf("a timeout longer than the client's: %+v", result)
	}
}

// The transport's dial has the time of the attempt that asked for it, be it shorter or longer
// than the client's.
func TestDialHasTheRequestsTimeout(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{time.Second: time.Second, MaxTimeout: MaxTimeout, 0: 10 * time.Second} {
		var left time.Duration
		client := newClient(t, func(c *ClientConfig) {
			c.Guard.Lookup = func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
				deadline, _ := ctx.Deadline()
				left = time.Until(deadline)
				return nil, errors.New("no")
			}
		})
		r := request("http://receiver.example/")
		r.Timeout = timeout
		do(t, client, r)
		if left > want || left < want-want/2 {
			t.Errorf("timeout %s: a dial had %s", timeout, left)
		}
	}
}

func TestEndpointHasItsOwnTimeout(t *testing.T) {
	r := newRig(t)
	e := r.endpoint("endpoint_1", hanging(t), make([]byte, 32))
	e.Timeout = "50ms"
	r.commit(about(e, ""))
	u := r.start(func(c *Config) { c.Client = newClient(t, within(MaxTimeout)) })
	r.commit(debit("acme", events.Test, 0))
	u.waiting("endpoint_1", 1)
	if err := u.end(); err != nil {
		t.Fatal(err)
	}
	if list := r.records(); len(list) != 1 || list[0].Error != "timed out" {
		t.Fatalf("records %+v", list)
	}
}

func TestTimeoutOf(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "1s": time.Second, "30s": MaxTimeout, "31s": 0, "-1s": 0, "soon": 0,
	} {
		if got := timeoutOf(&events.Endpoint{Timeout: text}); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
