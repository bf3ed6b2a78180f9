package receiver

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Behaviour is what a Hostile does on a connection. The connection is closed when it
// returns.
type Behaviour func(c *Conn)

// Hostile is a receiver that does the same on every connection: nothing good. It listens
// on a free port of 127.0.0.1.
type Hostile struct {
	URL     string // https:// with a TLS config, else http://, and the address
	Address string // 127.0.0.1:<port>

	listener net.Listener
	tls      *tls.Config
	do       Behaviour
	done     chan struct{} // closed by Close
	talks    sync.WaitGroup
	accepted atomic.Int64
	sent     atomic.Int64

	mu   sync.Mutex            // guards what follows
	open map[net.Conn]struct{} // nil once closed
}

// StartHostile starts a Hostile. With a TLS config each connection begins with a
// handshake; a client that refuses it never meets the behaviour. The caller closes it.
func StartHostile(do Behaviour, config *tls.Config) (*Hostile, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the hostile receiver: %w", err)
	}
	h := &Hostile{
		Address:  listener.Addr().String(),
		listener: listener,
		tls:      config,
		do:       do,
		done:     make(chan struct{}),
		open:     map[net.Conn]struct{}{},
	}
	h.URL = "http://" + h.Address
	if config != nil {
		h.URL = "https://" + h.Address
	}
	h.talks.Go(h.accept)
	return h, nil
}

// Accepted is how many connections there were.
func (h *Hostile) Accepted() int { return int(h.accepted.Load()) }

// Sent is how many bytes behaviours wrote, on all connections. What lies in the buffers
// of the system counts.
func (h *Hostile) Sent() int { return int(h.sent.Load()) }

// Close ends all connections and waits for the behaviours to return.
func (h *Hostile) Close() error {
	close(h.done)
	err := h.listener.Close()
	h.mu.Lock()
	for conn := range h.open {
		_ = conn.Close() // a behaviour may have done so
	}
	h.open = nil
	h.mu.Unlock()
	h.talks.Wait()
	if err != nil {
		return fmt.Errorf("close the hostile receiver: %w", err)
	}
	return nil
}

func (h *Hostile) accept() {
	for {
		raw, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.accepted.Add(1)
		h.mu.Lock()
		if h.open == nil {
			h.mu.Unlock()
			raw.Close()
			return
		}
		h.open[raw] = struct{}{}
		h.talks.Go(func() { h.talk(raw.(*net.TCPConn)) })
		h.mu.Unlock()
	}
}

func (h *Hostile) talk(raw *net.TCPConn) {
	c := &Conn{Conn: raw, raw: raw, from: h}
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, ok := h.open[raw]; ok { // else Close has closed it
			delete(h.open, raw)
			_ = raw.Close()
		}
	}()
	if h.tls != nil {
		secure := tls.Server(raw, h.tls)
		if secure.Handshake() != nil {
			return
		}
		c.Conn = secure
	}
	h.do(c)
}

// Conn is one connection of a Hostile: TLS, where there is TLS.
type Conn struct {
	net.Conn
	raw  *net.TCPConn
	from *Hostile
}

// Say writes a text; false once the other side does not take it.
func (c *Conn) Say(text string) bool { return c.send([]byte(text)) }

func (c *Conn) send(b []byte) bool {
	n, err := c.Write(b)
	c.from.sent.Add(int64(n))
	return err == nil
}

// ReadRequest takes a whole HTTP request; false if none came.
func (c *Conn) ReadRequest() bool {
	r, err := http.ReadRequest(bufio.NewReader(c.Conn))
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil
}

// Hang does nothing until the Hostile is closed.
func (c *Conn) Hang() { <-c.from.done }

// Drip says a text again and again, a byte at a time, until the other side is gone.
func (c *Conn) Drip(text string, every time.Duration) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for i := 0; c.Say(text[i : i+1]); i = (i + 1) % len(text) {
		select {
		case <-c.from.done:
			return
		case <-ticks.C:
		}
	}
}

// Flood says a text again and again, as fast as it goes, until the other side is gone.
func (c *Conn) Flood(text string) {
	b := []byte(text)
	for c.send(b) {
	}
}

// Reset closes the connection with a TCP reset: what the other side has not read yet it
// may never see.
func (c *Conn) Reset() {
	_ = c.raw.SetLinger(0)
	_ = c.raw.Close()
}
