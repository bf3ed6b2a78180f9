package webhooks

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A kept connection is used again, until its transport is too old; then the
// name is resolved and checked again, so that a name that moves to a refused
// address is found out.
func TestConnectionsAreCheckedAgain(t *testing.T) {
	var dialled, closed atomic.Int32
	gone := make(chan struct{}, 8)
	url := plainName(serveRaw(t, func(conn net.Conn, done <-chan struct{}) {
		dialled.Add(1)
		keepAnswering(conn)
		closed.Add(1)
		gone <- struct{}{}
	}))
	var addr atomic.Pointer[string]
	set := func(a string) { addr.Store(&a) }
	set("127.0.0.1")
	c := newClient(t, func(c *ClientConfig) {
		c.Guard.Lookup = func(ctx context.Context, network, host string) ([]netip.Addr, error) {
			return answers(*addr.Load())(ctx, network, host)
		}
	})
	now := time.Now()
	c.clock = func() time.Time { return now }

	first := do(t, c, request(url))
	if first.Outcome != OutcomeDelivered || first.Timings.DNS <= 0 || first.Timings.Connect <= 0 {
		t.Errorf("first: %+v", first)
	}
	set("10.0.0.1")
	now = now.Add(c.lifetime - 1)
	again := do(t, c, request(url))
	if again.Outcome != OutcomeDelivered || again.Timings.DNS != 0 || again.Timings.Connect != 0 || dialled.Load() != 1 {
		t.Errorf("again: %+v, %d connections", again, dialled.Load())
	}
	now = now.Add(1)
	if got := do(t, c, request(url)); got.Phase != PhaseGuard || got.Error != "address refused: private" {
		t.Errorf("moved to a private address: %+v", got)
	}
	select {
	case <-gone:
	case <-time.After(maxIdle / 2):
		t.Error("the old connection stays open until it has been idle for long")
	}
	set("127.0.0.1")
	if got := do(t, c, request(url)); got.Outcome != OutcomeDelivered || dialled.Load() != 2 || closed.Load() != 1 {
		t.Errorf("back: %+v, %d connections, %d closed", got, dialled.Load(), closed.Load())
	}
}

// keepAnswering answers requests on one connection until it is closed.
func keepAnswering(conn net.Conn) {
	answered := make(chan struct{})
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})}
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(answered)
		}
	}
	_ = server.Serve(&oneConn{conn: conn})
	<-answered
}

// oneConn is a listener with a single connection.
type oneConn struct {
	conn net.Conn
	used bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if l.used {
		return nil, net.ErrClosed
	}
	l.used = true
	return l.conn, nil
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

// The deadline of the connection ends even an attempt that still has time.
func TestConnectionHasADeadline(t *testing.T) {
	url := serveRaw(t, func(conn net.Conn, done <-chan struct{}) { readRequest(conn); <-done })
	c := newClient(t, nil)
	if c.age != MaxConnectionAge {
		t.Errorf("connections live %s", c.age)
	}
	c.age = 100 * time.Millisecond
	got := do(t, c, request(url))
	if got.Outcome != OutcomeFailed || got.Error != "timed out" || got.Timings.Total > c.config.Timeout/2 {
		t.Errorf("%+v", got)
	}
}

// Many attempts at once, while transports come and go.
func TestConcurrentAttempts(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	c := newClient(t, nil)
	var ticks atomic.Int64
	start := time.Now()
	c.clock = func() time.Time { return start.Add(time.Duration(ticks.Add(1)) * c.lifetime / 7) }
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 25 {
				got, err := c.Do(t.Context(), request(server.URL))
				if err != nil || got.Outcome != OutcomeDelivered || string(got.ResponseHead) != testEvent {
					t.Errorf("%+v, %v", got, err)
				}
			}
		})
	}
	all.Wait()
}
