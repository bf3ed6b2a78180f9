package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events/store"
)

const (
	subjectConsumerCreate = "$JS.API.CONSUMER.CREATE.>"
	subjectAck            = "$JS.ACK."
	// typeConsumerCreate is the type of an answer to it (nats-server, JSApiConsumerCreateResponseType).
	typeConsumerCreate = "io.nats.jetstream.api.v1.consumer_create_response"

	// consumerBytesMax bounds a creation, so that large ones hold up nobody else's.
	consumerBytesMax = 64 << 10
	// guardSubjectsMax bounds a request's subject and reply subject, in bytes together: what
	// the guard sends on has a longer line, and NATS closes a connection at 4 KiB.
	guardSubjectsMax = 2 << 10

	// guardAnswers is where the guard has the store answer; the client's inbox follows.
	guardAnswers = inboxPrefixOwn + ".guard."
)

// consumerGuard passes what concerns consumers from the clients' side on to the store, if
// the answers go nowhere but to an inbox.
//
// Permissions do not bind reply subjects. If these requests crossed the wall by import, the
// store's answers would be published on the clients' side wherever the request says: as a
// command, without a body, or as an event in somebody else's live feed. So the guard asks
// in the client's stead. What consumers deliver crosses as inboxes do; answers of JetStream's
// API, which NATS lets cross no further import, come back by the guard. It waits for nothing
// and remembers nothing: nobody's request holds up another's.
//
// A push consumer's deliver_subject is a subject of the account that holds the
// stream, and the server publishes to it with no permission asked: keyledger.log.0
// would make every message of the feed a commit. NATS refuses that only when the
// subject belongs to the consumer's own stream (error 10081), and has no setting
// that limits it otherwise. Pull consumers, which have none, pass as they are.
//
// Of a creation the server gets the guard's own encoding of what the guard has understood,
// never the client's bytes: what was checked is what is used. Of the client's headers it
// gets one; Nats-Trace-Dest in particular would be obeyed with the guard's rights.
type consumerGuard struct {
	clients *nats.Conn // listens, and answers
	store   *nats.Conn // asks the store, and hears it
	log     *slog.Logger
}

// start listens, with a goroutine of the connection's own for each of the subjects. It ends
// when the connections close.
func (g *consumerGuard) start() error {
	if _, err := g.store.Subscribe(guardAnswers+">", g.answer); err != nil {
		return fmt.Errorf("start consumer guard: %w", err)
	}
	if err := g.store.Flush(); err != nil {
		return fmt.Errorf("start consumer guard: %w", err)
	}
	handlers := map[way]nats.MsgHandler{toGuard: g.relay, toGuardInbox: g.pass}
	for _, row := range operatorPublishes {
		handle := handlers[row.way]
		switch {
		case handle == nil:
			continue
		case row.subject == subjectConsumerCreate:
			handle = g.create
		}
		if _, err := g.clients.Subscribe(row.subject, handle); err != nil {
			return fmt.Errorf("start consumer guard: %w", err)
		}
	}
	if err := g.clients.Flush(); err != nil {
		return fmt.Errorf("start consumer guard: %w", err)
	}
	return nil
}

// pass hands a request on whose answers are the store's, at the inbox.
func (g *consumerGuard) pass(m *nats.Msg) {
	if g.takes(m) {
		g.ask(m, m.Reply, m.Data)
	}
}

// relay hands a request on and its answer back.
func (g *consumerGuard) relay(m *nats.Msg) {
	if g.takes(m) {
		g.ask(m, guardAnswers+m.Reply, m.Data)
	}
}

// create relays the creation of a consumer, if it may be, or answers why not.
func (g *consumerGuard) create(m *nats.Msg) {
	if !g.takes(m) {
		return
	}
	body, err := checkConsumer(m.Data)
	if err == nil {
		g.ask(m, guardAnswers+m.Reply, body)
		return
	}
	g.log.Warn("consumer creation refused", "subject", m.Subject, "error", err)
	if err := m.Respond(refusal(err)); err != nil {
		g.log.Warn("consumer creation not answered", "subject", m.Subject, "error", err)
	}
}

// takes says whether a request can be answered: at an inbox. Anything else is a client's
// mistake, or an attempt to have keyledger publish to a subject of its choice. An
// acknowledgement may want no answer.
func (g *consumerGuard) takes(m *nats.Msg) bool {
	switch {
	case !isInbox(m.Reply) && (m.Reply != "" || !strings.HasPrefix(m.Subject, subjectAck)):
		g.log.Warn("ignored a request whose reply subject is no inbox (_INBOX.…)", "subject", m.Subject, "reply", m.Reply)
		return false
	case len(m.Subject)+len(m.Reply) > guardSubjectsMax:
		g.log.Warn("ignored a request with subjects that are too long", "bytes", len(m.Subject)+len(m.Reply), "limit", guardSubjectsMax)
		return false
	}
	return true
}

// ask asks the store what m asks.
func (g *consumerGuard) ask(m *nats.Msg, reply string, body []byte) {
	ask := nats.NewMsg(m.Subject)
	ask.Reply, ask.Data = reply, body
	if level := m.Header.Get(natsserver.JSRequiredApiLevel); level != "" {
		ask.Header.Set(natsserver.JSRequiredApiLevel, level)
	}
	if err := g.store.PublishMsg(ask); err != nil {
		g.log.Warn("request not passed on to the store", "subject", m.Subject, "error", err)
	}
}

// answer hands the store's answer to the client.
func (g *consumerGuard) answer(m *nats.Msg) {
	inbox := strings.TrimPrefix(m.Subject, guardAnswers)
	if err := g.clients.Publish(inbox, m.Data); err != nil {
		g.log.Warn("answer of the store not passed on", "error", err)
	}
}

// checkConsumer reads a creation request the way the server does (unknown fields
// refused), and returns it encoded anew.
func checkConsumer(body []byte) ([]byte, error) {
	if len(body) > consumerBytesMax {
		return nil, &apiRefusal{status: 400, cause: fmt.Errorf("the request has %d bytes, at most %d are allowed", len(body), consumerBytesMax)}
	}
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
