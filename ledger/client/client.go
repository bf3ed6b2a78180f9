// Package client is keyledger's Go client. It speaks the same subjects and JSON as any
// other NATS client; the CLI is built on it.
package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// Client sends commands, queries and authorisations over one NATS connection, which
// stays the caller's. It is safe for use by many goroutines.
type Client struct{ conn *nats.Conn }

// New returns a client on a connection.
func New(conn *nats.Conn) *Client { return &Client{conn: conn} }

// Conn returns the connection.
func (c *Client) Conn() *nats.Conn { return c.conn }

// Reply is what came back.
type Reply struct {
	Body     []byte // JSON
	Position string // what the answer is true at
	Replayed bool   // the first answer again, from a receipt
}

// Decode decodes the body into v. Members it does not know are ignored: a newer server
// may say more.
func (r *Reply) Decode(v any) error {
	if err := json.Unmarshal(r.Body, v); err != nil {
		return fmt.Errorf("decode the reply: %w", err)
	}
	return nil
}

// Option changes one call.
type Option func(*nats.Msg)

// WithID sets the command id, a ULID. Retrying with the same id and the same body is
// safe: the command happens once, and the first answer comes again.
func WithID(id ulid.ULID) Option {
	return func(m *nats.Msg) { m.Header.Set(store.HeaderCommandID, id.String()) }
}

// WithMinPosition makes a query wait until its view has reached a position: read your
// own writes.
func WithMinPosition(position string) Option {
	return func(m *nats.Msg) { m.Header.Set(store.HeaderMinPosition, position) }
}

// WithTraceparent says which trace a command belongs to (W3C Trace Context): its events
// and their deliveries carry it on. What is no traceparent is passed over.
func WithTraceparent(traceparent string) Option {
	return func(m *nats.Msg) {
		if trace := events.ParseTraceparent(traceparent); trace != (events.Trace{}) {
			m.Header.Set(store.HeaderTraceparent, trace.String())
		}
	}
}

// Strict makes a query see everything that was acknowledged before it.
func Strict() Option {
	return func(m *nats.Msg) { m.Header.Set(store.HeaderConsistency, "strict") }
}

// Command sends a command. Without WithID it makes an id of its own and, where the
// outcome stays unknown, tries again with it until ctx ends, so that the command happens
// once. A refusal is an *events.Error.
func (c *Client) Command(ctx context.Context, account, verb string, body any, opts ...Option) (*Reply, error) {
	msg, err := c.message(ctx, store.SubjectCommand+account+"."+verb, body, opts)
	if err != nil {
		return nil, err
	}
	if msg.Header.Get(store.HeaderCommandID) == "" {
		msg.Header.Set(store.HeaderCommandID, ulid.Make().String())
	}
	return c.settle(ctx, msg)
}

// settle sends a message with a command id until its outcome is known. Once one try may
// have been carried out, that a later one was not says nothing: the outcome is unknown
// until an answer tells it.
func (c *Client) settle(ctx context.Context, msg *nats.Msg) (*Reply, error) {
	var unknown error
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		reply, err := c.request(ctx, msg)
		var refused *events.Error
		switch {
		case err == nil:
			return reply, nil
		case errors.As(err, &refused) && refused.Code == events.OutcomeUnknown, errors.Is(err, nats.ErrTimeout):
			unknown = err
		case unknown == nil, refused != nil && refused.Code != events.Unavailable:
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, unknown
		case <-time.After(pause):
		}
	}
}

// Pauses between the tries of a call whose outcome is unknown.
const (
	firstPause = time.Millisecond
	lastPause  = time.Second
)

// Query sends a query.
func (c *Client) Query(ctx context.Context, account, verb string, body any, opts ...Option) (*Reply, error) {
	msg, err := c.message(ctx, store.SubjectQuery+account+"."+verb, body, opts)
	if err != nil {
		return nil, err
	}
	return c.request(ctx, msg)
}

// Authorize asks for one decision. A refusal is an answer, not an error.
func (c *Client) Authorize(ctx context.Context, a *ledger.Authorize, opts ...Option) (*ledger.Answer, error) {
	item := *a
	if item.ID == "" {
		item.ID = ulid.Make().String()
	}
	msg, err := c.message(ctx, store.SubjectAuthorize, &item, opts)
	if err != nil {
		return nil, err
	}
	reply, err := c.settle(ctx, msg)
	if err != nil {
		return nil, err
	}
	answer := new(ledger.Answer)
	return answer, reply.Decode(answer)
}

// AuthorizeSigned asks for one decision with a signing key: it signs the message now, with
// the private half of a.Key.
func (c *Client) AuthorizeSigned(ctx context.Context, private ed25519.PrivateKey, a *ledger.Authorize, opts ...Option) (*ledger.Answer, error) {
	item := *a
	item.Sign(private, events.At(time.Now()))
	return c.Authorize(ctx, &item, opts...)
}

// AuthorizeMany asks for up to 1,000 independent decisions, made in order and answered
// at once.
func (c *Client) AuthorizeMany(ctx context.Context, list []ledger.Authorize, opts ...Option) ([]ledger.Answer, error) {
	items := append([]ledger.Authorize(nil), list...)
	for i := range items {
		if items[i].ID == "" {
			items[i].ID = ulid.Make().String()
		}
	}
	msg, err := c.message(ctx, store.SubjectAuthorize, items, opts)
	if err != nil {
		return nil, err
	}
	reply, err := c.settle(ctx, msg)
	if err != nil {
		return nil, err
	}
	var answers []ledger.Answer
	err = reply.Decode(&answers)
	return answers, err
}

// message builds a request. The time that ctx has left goes along.
func (c *Client) message(ctx context.Context, subject string, body any, opts []Option) (*nats.Msg, error) {
	msg := nats.NewMsg(subject)
	if raw, ok := body.([]byte); ok {
		msg.Data = raw
	} else if body != nil {
		data, err := events.Encode(body)
		if err != nil {
			return nil, fmt.Errorf("encode the body: %w", err)
		}
		msg.Data = data
	}
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline).Truncate(time.Millisecond); left > 0 && left < time.Minute {
			msg.Header.Set(store.HeaderTimeout, left.String())
		}
	}
	for _, opt := range opts {
		opt(msg)
	}
	return msg, nil
}

// answerGrace is how much longer than the server the client waits, so that it hears the
// server's own word.
const answerGrace = time.Second

func (c *Client) request(ctx context.Context, msg *nats.Msg) (*Reply, error) {
	wait := 5 * time.Second
	if d, err := time.ParseDuration(msg.Header.Get(store.HeaderTimeout)); err == nil {
		wait = d
	}
	one, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait+answerGrace)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			cancel()
		}
	})
	defer stop()
	answer, err := c.conn.RequestMsgWithContext(one, msg)
	if err != nil {
		return nil, requestError(err, ctx)
	}
	if answer.Header.Get(store.HeaderErrorCode) != "" {
		var body struct {
			Error *events.Error `json:"error"`
		}
		if err := json.Unmarshal(answer.Data, &body); err != nil || body.Error == nil {
			return nil, fmt.Errorf("error reply: %s %s", answer.Header.Get(store.HeaderErrorCode), answer.Header.Get(store.HeaderError))
		}
		return nil, body.Error
	}
	return &Reply{
		Body: answer.Data, Position: answer.Header.Get(store.HeaderPosition),
		Replayed: answer.Header.Get(store.HeaderReplayed) == "true",
	}, nil
}

// requestError says what a person can do about a request that had no reply.
func requestError(err error, ctx context.Context) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("no keyledger answers on this NATS server; is it started (keyledger serve), and is --server right? (%w)", err)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("no answer in time: %w", nats.ErrTimeout)
	}
	return fmt.Errorf("send the request: %w", err)
}
