package projections

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
)

// Wire is the connection inside this process that lies under a nats.Conn. The feed writes
// its messages to it as they go over it: nats.go takes headers as a map only, which costs
// more than all the rest of a message on our side.
//
// Both may write, because what lies there is a net.Pipe, which carries one Write after the
// other, each as a whole, and because each Write of nats.go is of whole protocol lines
// (nats.go, natsWriter).
type Wire struct {
	server nats.InProcessConnProvider

	mu   sync.Mutex
	conn net.Conn // guarded by mu: the last one that was made
}

// NewWire makes the Wire to a nats-server in this process. It is for one nats.Conn, by
// nats.InProcessServer(wire).
func NewWire(server nats.InProcessConnProvider) *Wire { return &Wire{server: server} }

// InProcessConn implements nats.InProcessConnProvider.
func (w *Wire) InProcessConn() (net.Conn, error) {
	conn, err := w.server.InProcessConn()
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = conn
	return conn, nil
}

// current returns the connection there is; nats.go closes it when it makes another.
func (w *Wire) current() net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conn
}

// wireBufferMax is how many bytes of messages are gathered before they are written.
const wireBufferMax = 32 << 10

// wireWriter writes feed messages to a connection. It holds the last one until it is
// known whether its acknowledgement is wanted. It belongs to one goroutine.
type wireWriter struct {
	conn   net.Conn
	prefix string // of subjects
	reply  string // where acknowledgements go
	buffer []byte // whole messages, not yet written

	// The message that is held, in memory that is used again; none where subject is empty.
	subject []byte
	message []byte // headers and body
	headers int    // bytes of message
}

// publish gathers an event's message, which expects the stream to end at a sequence. It
// writes when there is enough.
func (w *wireWriter) publish(e *events.CloudEvent, expected uint64) (err error) {
	if err := w.gather(""); err != nil {
		return err
	}
	m := append(w.message[:0], "NATS/1.0\r\n"+jetstream.ExpectedLastSeqHeader+": "...)
	m = strconv.AppendUint(m, expected, 10)
	m = append(e.AppendHeaders(append(m, "\r\n"...)), "\r\n"...)
	w.headers = len(m)
	if w.message, err = events.AppendJSON(m, e.Data); err != nil {
		return fmt.Errorf("encode data of %s: %w", e.Position, err)
	}
	subject := e.AppendSubject(append(w.subject, w.prefix...))
	if bytes.ContainsAny(subject, " \t\r\n") { // it would be read as something else
		return fmt.Errorf("event %s cannot be published on %q", e.Position, subject)
	}
	w.subject = subject
	return nil
}

// end asks for the acknowledgement of the last message that was published.
func (w *wireWriter) end() error { return w.gather(w.reply) }

// gather puts the message that is held behind those before it:
// HPUB <subject> [reply] <bytes of headers> <bytes>.
func (w *wireWriter) gather(reply string) error {
	if len(w.subject) == 0 {
		return nil
	}
	b := append(append(w.buffer, "HPUB "...), w.subject...)
	if b = append(b, ' '); reply != "" {
		b = append(append(b, reply...), ' ')
	}
	b = append(strconv.AppendInt(b, int64(w.headers), 10), ' ')
	b = append(strconv.AppendInt(b, int64(len(w.message)), 10), "\r\n"...)
	w.buffer = append(append(b, w.message...), "\r\n"...)
	w.subject = w.subject[:0]
	if len(w.buffer) < wireBufferMax {
		return nil
	}
	return w.flush()
}

// flush writes what was gathered. After a Write that ended in the middle of a message the
// connection cannot be used any more, by nats.go neither.
func (w *wireWriter) flush() error {
	if len(w.buffer) == 0 {
		return nil
	}
	n, err := w.conn.Write(w.buffer)
	w.buffer = w.buffer[:0]
	if err != nil && n > 0 {
		_ = w.conn.Close()
	}
	if err != nil {
		return fmt.Errorf("write to NATS: %w", err)
	}
	return nil
}
