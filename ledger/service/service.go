// Package service is keyledger on NATS: a micro service (ADR-32) with one endpoint for
// commands, one for queries and one for authorize. One generic handler decodes, checks
// and hands on; the tables it works from are ledger.Commands and Config.Queries.
package service

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/writer"
)

// Limits of requests.
const (
	MaxCommandBytes   = 64 << 10
	MaxAuthorizeBytes = 512 << 10 // of an array
	MaxAuthorizeItems = 1000

	DefaultTimeout = 5 * time.Second
	MaxTimeout     = time.Minute
)

// Name is the micro service's name.
const Name = "keyledger"

// QueryFunc answers one query from a view, with the position the answer is true at.
type QueryFunc func(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error)

// Config is what a Service works with. All members are required
// unless they say what nil means.
type Config struct {
	Conn    *nats.Conn // keyledger's own
	Writer  *writer.Writer
	Version string
	Logger  *slog.Logger
	Sealer  *events.Sealer

	// Queries is the query table: verb to answer.
	Queries map[string]QueryFunc
	// Commands are the commands of the ledger itself that are no events and not the
	// writer's: verb to what does it.
	Commands map[string]QueryFunc
	// Actor says who gave a command of the verbs that customers may give too: "customer:" and
	// a credential's name, "operator", or "unknown".
	Actor func(account, reply string) string
	// End is the acknowledged end of the log, which moves before anybody is answered.
	End func() store.Chain
	// WaitFor waits until the views have reached a sequence.
	WaitFor func(ctx context.Context, sequence uint64) error
	// EndpointSecret writes a webhook signing secret from 32 random bytes.
	EndpointSecret func(random [32]byte) string
	// EndpointKey writes the public key of a webhook signing key (v1a) from 32 random bytes,
	// its seed.
	EndpointKey func(seed [32]byte) string
	// CheckEndpoint says what is wrong with an endpoint's URL, unless it is "", and custom
	// headers.
	CheckEndpoint func(url string, headers map[string]string) error
	// Consent asks a receiver whether it agrees to deliveries, and how many a minute it takes,
	// 0 for any number (CloudEvents HTTP 1.1 Web Hooks, §4). It returns when ctx ends, or soon
	// after. Nil: nobody is asked.
	Consent func(ctx context.Context, who Receiver) (consent string, allowedRate int64)
	// RequireConsent refuses receivers that do not agree.
	RequireConsent bool
	// Replays tells how many replays to an endpoint have not ended. Nil: they are not counted.
	Replays func(account, endpoint string) int
}

// Service is the running micro service.
type Service struct {
	cfg   Config
	micro micro.Service

	quick, readers, waiting *pool // of queries
	commands                *pool // of commands of the ledger itself
	asking                  *pool // of commands whose receiver is asked for its consent
	questions               questions
}

func newService(cfg Config) *Service {
	return &Service{
		cfg:     cfg,
		quick:   newPool(quickLimits, "queries are running"),
		readers: newPool(readLimits, "queries read the log"),
		waiting: newPool(waitLimits, "queries wait for a position"),

		commands: newPool(commandLimits, "commands of the ledger itself are running"),
		asking:   newPool(askLimits, "commands ask a receiver for its consent"),
	}
}

// Start registers the service: from now on it is reachable.
func Start(cfg Config) (*Service, error) {
	s := newService(cfg)
	m, err := micro.AddService(cfg.Conn, micro.Config{
		Name: Name, Version: cfg.Version, Description: "API keys, credits and webhooks in one provable log",
	})
	if err != nil {
		return nil, fmt.Errorf("register the micro service: %w", err)
	}
	s.micro = m
	endpoints := []struct {
		name, subject string
		handle        func(*request)
	}{
		{"command", store.SubjectCommand + ">", s.command},
		{"query", store.SubjectQuery + ">", s.query},
		{"authorize", store.SubjectAuthorize, s.authorize},
	}
	for _, e := range endpoints {
		err := m.AddEndpoint(e.name, s.handler(e.handle), micro.WithEndpointSubject(e.subject),
			micro.WithEndpointPendingLimits(-1, 256<<20))
		if err != nil {
			return nil, fmt.Errorf("register endpoint %s: %w", e.name, err)
		}
	}
	return s, nil
}

// Stop takes the service off NATS: nothing new comes in. What was handed to the writer
// is still answered.
func (s *Service) Stop() error { return s.micro.Stop() }

// request is one message on its way to its answer.
type request struct {
	s        *Service
	subject  string
	reply    string
	header   micro.Headers
	body     []byte
	deadline time.Time
}

func (s *Service) handler(f func(*request)) micro.HandlerFunc {
	return func(m micro.Request) {
		r := &request{s: s, subject: m.Subject(), reply: m.Reply(), header: m.Headers(), body: m.Data()}
		if !replySafe(r.reply) {
			s.cfg.Logger.Warn("ignored a request whose reply subject is no inbox (_INBOX.…)", "subject", r.subject, "reply", r.reply)
			return
		}
		if r.fromServer() {
			s.cfg.Logger.Warn("ignored what NATS itself may have published; a command without a reply subject needs a body", "subject", r.subject)
			return
		}
		timeout := DefaultTimeout
		if text := r.header.Get(store.HeaderTimeout); text != "" {
			d, err := time.ParseDuration(text)
			if err != nil || d <= 0 || d > MaxTimeout {
				r.fail(events.Errorf(events.InvalidArgument, "%s must be a duration such as 5s, at most %s", store.HeaderTimeout, MaxTimeout))
				return
			}
			timeout = d
		}
		r.deadline = time.Now().Add(timeout)
		f(r)
	}
}

// replySafe says whether an answer may be published there: only to an inbox. Anywhere
// else the answer, sent with keyledger's own rights, could do what the caller may not.
// Whose inbox it is need not be asked: a caller knows no other's, since they are derived
// from seeds (store.InboxToken) or random.
func replySafe(reply string) bool {
	return reply == "" || strings.HasPrefix(reply, store.InboxRoot)
}

// fromServer says whether nats-server may have published it: its answers go wherever a
// request for them says, with no permission asked, and may name a command. Those with a
// status (404, 408 …) and of acknowledgements have no body, a stored message has its place in
// headers, what a consumer delivers has a reply subject that is no inbox, and every answer of
// JetStream's API is JSON with members that no command has. None has an inbox to answer to.
func (r *request) fromServer() bool {
	if r.reply != "" {
		return false
	}
	return len(r.body) == 0 || r.header.Get("Status") != "" || r.header.Get(jetstream.StreamHeader) != ""
}

// commandID reads the caller's id, or makes one.
func (r *request) commandID() (id ulid.ULID, receipt bool, err *events.Error) {
	text := r.header.Get(store.HeaderCommandID)
	if text == "" {
		return ulid.Make(), false, nil
	}
	id, err = parseID(text)
	return id, true, err
}

// trace is the trace that the caller says the command belongs to, nil where it says none. Of
// two neither counts (W3C Trace Context, §3.2).
func (r *request) trace() *events.Trace {
	if len(r.header) == 0 {
		return nil
	}
	values, other := r.header[store.HeaderTraceparent], r.header[traceparentOfHTTP]
	if len(values)+len(other) != 1 {
		return nil
	}
	t := events.ParseTraceparent((append(values, other...))[0])
	if t == (events.Trace{}) {
		return nil
	}
	return &t
}

// traceparentOfHTTP is the header as HTTP libraries write it.
const traceparentOfHTTP = "Traceparent"

// parseID reads a command id: a ULID in its canonical form.
func parseID(text string) (ulid.ULID, *events.Error) {
	id, err := ulid.ParseStrict(text)
	if err != nil || id.String() != text {
		return id, events.Errorf(events.InvalidArgument, "the command id must be a ULID, 26 characters of 0-9 A-Z without I L O U")
	}
	return id, nil
}

// inputHash is SHA-256(subject, NUL, body).
func inputHash(subject string, body []byte) store.Hash {
	var room [1024]byte // most requests fit
	b := append(append(append(room[:0], subject...), 0), body...)
	return sha256.Sum256(b)
}

// answer publishes a result.
func (r *request) answer(body []byte, at events.Position, replayed bool) {
	if r.reply == "" {
		return
	}
	if replayed {
		r.publish(nats.Header{store.HeaderPosition: {at.String()}, store.HeaderReplayed: {"true"}}, body)
		return
	}
	m := memories.Get().(*memory)
	m.position[0] = at.String()
	r.publish(m.header, body)
	memories.Put(m)
}

// memory is what a fresh answer is made in. It is used again: what is published was
// copied when the call returns.
type memory struct {
	body     []byte
	header   nats.Header
	position []string // the one value in header
}

var memories = sync.Pool{New: func() any {
	m := &memory{position: make([]string, 1)}
	m.header = nats.Header{store.HeaderPosition: m.position}
	return m
}}

// answerEncoded publishes a result, or says that it could not be encoded.
func (r *request) answerEncoded(body []byte, err error, at events.Position, replayed bool) {
	if err != nil {
		r.s.cfg.Logger.Error("cannot encode an answer", "subject", r.subject, "error", err)
		r.fail(events.Errorf(events.Unavailable, "the answer could not be encoded"))
		return
	}
	r.answer(body, at, replayed)
}

// fail publishes a refusal.
func (r *request) fail(e *events.Error) {
	if r.reply == "" {
		r.s.cfg.Logger.Info("refused a request that has no reply subject", "subject", r.subject, "code", e.Code, "message", e.Message)
		return
	}
	body, err := events.Encode(map[string]any{"error": e})
	if err != nil {
		r.s.cfg.Logger.Error("cannot encode a refusal", "subject", r.subject, "error", err)
		return
	}
	r.publish(nats.Header{
		store.HeaderErrorCode: {fmt.Sprint(e.Code.Status())},
		store.HeaderError:     {e.Message},
	}, body)
}

func (r *request) publish(header nats.Header, body []byte) {
	err := r.s.cfg.Conn.PublishMsg(&nats.Msg{Subject: r.reply, Header: header, Data: body})
	if err != nil {
		r.s.cfg.Logger.Warn("cannot publish an answer", "subject", r.subject, "error", err)
	}
}

// parseSubject splits <prefix><account>.<noun>.<verb>.
func parseSubject(subject, prefix string) (account, verb string, ok bool) {
	account, verb, ok = strings.Cut(strings.TrimPrefix(subject, prefix), ".")
	return account, verb, ok && strings.Count(verb, ".") == 1
}
