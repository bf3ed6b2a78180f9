package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events/store"
)

const (
	subjectConsumerCreate = "$JS.API.CONSUMER.CREATE.>"
	// typeConsumerCreate is the type of an answer to it (nats-server, JSApiConsumerCreateResponseType).
	typeConsumerCreate = "io.nats.jetstream.api.v1.consumer_create_response"

	guardWorkers = 4                // requests in hand at once; more wait
	guardTimeout = 10 * time.Second // how long the store may take; clients give up after 5 s
)

// consumerGuard passes the creation of consumers from the clients' side on to the
// store, if the consumer delivers nowhere but to an inbox.
//
// A push consumer's deliver_subject is a subject of the account that holds the
// stream, and the server publishes to it with no permission asked: keyledger.log.0
// would make every message of the feed a commit. NATS refuses that only when the
// subject belongs to the consumer's own stream (error 10081), and has no setting
// that limits it otherwise. Pull consumers, which have none, pass as they are.
//
// The server gets the guard's own encoding of what the guard has understood, never
// the client's bytes: what was checked is what is used. Of the client's headers it
// gets one; Nats-Trace-Dest in particular would be obeyed with the guard's rights.
type consumerGuard struct {
	clients *nats.Conn // listens, and answers the client
	store   *nats.Conn // asks the store
	log     *slog.Logger
}

// start listens, with guardWorkers goroutines of the connection's own. It ends when
// the connections close.
func (g *consumerGuard) start() error {
	for range guardWorkers {
		if _, err := g.clients.QueueSubscribe(subjectConsumerCreate, "guard", g.handle); err != nil {
			return fmt.Errorf("start consumer guard: %w", err)
		}
	}
	if err := g.clients.Flush(); err != nil {
		return fmt.Errorf("start consumer guard: %w", err)
	}
	return nil
}

func (g *consumerGuard) handle(m *nats.Msg) {
	// Without an inbox nobody can be answered: a client's mistake, or an attempt to
	// have keyledger publish to a subject of its choice.
	if !isInbox(m.Reply) {
		g.log.Warn("consumer creation ignored: its reply subject is not an inbox", "subject", m.Subject, "reply", m.Reply)
		return
	}
	answer, err := g.create(m)
	if err != nil {
		g.log.Warn("consumer creation refused", "subject", m.Subject, "error", err)
		answer = refusal(err)
	}
	if err := m.Respond(answer); err != nil {
		g.log.Warn("consumer creation not answered", "subject", m.Subject, "error", err)
	}
}

// create asks the store for what m wants, and returns its answer.
func (g *consumerGuard) create(m *nats.Msg) ([]byte, error) {
	body, err := checkConsumer(m.Data)
	if err != nil {
		return nil, err
	}
	ask := nats.NewMsg(m.Subject)
	ask.Data = body
	if level := m.Header.Get(natsserver.JSRequiredApiLevel); level != "" {
		ask.Header.Set(natsserver.JSRequiredApiLevel, level)
	}
	answer, err := g.store.RequestMsg(ask, guardTimeout)
	if err != nil {
		return nil, &apiRefusal{status: 503, cause: err}
	}
	return answer.Data, nil
}

// checkConsumer reads a creation request the way the server does (unknown fields
// refused), and returns it encoded anew.
func checkConsumer(body []byte) ([]byte, error) {
	var req natsserver.CreateConsumerRequest
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return nil, &apiRefusal{status: 400, cause: fmt.Errorf("invalid JSON: %w", err)}
	}
	if to := req.Config.DeliverSubject; to != "" && !isInbox(to) {
		return nil, &apiRefusal{status: 403, cause: fmt.Errorf("deliver_subject %q is not an inbox (_INBOX.…)", to)}
	}
	if req.Config.Direct || req.Config.Sourcing {
		return nil, &apiRefusal{status: 403, cause: errors.New("direct and sourcing consumers are for servers")}
	}
	return json.Marshal(&req)
}

// isInbox reports whether subject is one that clients get their answers on.
func isInbox(subject string) bool { return strings.HasPrefix(subject, store.InboxRoot) }

// apiRefusal is a refusal in JetStream's terms.
type apiRefusal struct {
	status int // HTTP status
	cause  error
}

func (r *apiRefusal) Error() string { return r.cause.Error() }
func (r *apiRefusal) Unwrap() error { return r.cause }

// refusal is the answer to a creation that was refused, as JetStream would put it.
func refusal(err error) []byte {
	status := 500
	var r *apiRefusal
	if errors.As(err, &r) {
		status = r.status
	}
	answer := natsserver.JSApiConsumerCreateResponse{ApiResponse: natsserver.ApiResponse{
		Type: typeConsumerCreate,
		Error: &natsserver.ApiError{
			Code:        status,
			ErrCode:     uint16(natsserver.JSBadRequestErr),
			Description: "keyledger: " + err.Error(),
		},
	}}
	text, err := json.Marshal(&answer)
	if err != nil {
		panic(fmt.Sprintf("encode a consumer refusal: %v", err)) // strings and numbers only
	}
	return text
}
