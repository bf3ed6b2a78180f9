package service

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/writer"
)

// operator is who gives commands, but for those that customers may give too. Authorize is
// its word as well: a gateway asks for it.
const operator = "operator"

// actor is who gave a command. NATS lets nobody but the operator give most of them.
func (s *Service) actor(r *request, account, verb string) string {
	if strings.HasPrefix(verb, "key.") || strings.HasPrefix(verb, "endpoint.") {
		return s.cfg.Actor(account, r.reply)
	}
	return operator
}

var specs = func() map[string]*ledger.Spec {
	m := map[string]*ledger.Spec{}
	for i := range ledger.Commands {
		m[ledger.Commands[i].Verb] = &ledger.Commands[i].Spec
	}
	return m
}()

// Verbs returns every command's verb, in the order of the table.
func Verbs() []string {
	var list []string
	for i := range ledger.Commands {
		list = append(list, ledger.Commands[i].Verb)
	}
	return list
}

// command handles keyledger.cmd.<account>.<noun>.<verb>.
func (s *Service) command(r *request) {
	if verb, ok := strings.CutPrefix(r.subject, store.SubjectCommand+"_."); ok {
		s.ledgerCommand(r, verb)
		return
	}
	req, secret, err := s.decodeCommand(r)
	if err != nil {
		r.fail(err)
		return
	}
	req.Done = func(reply *writer.Reply) { r.answerCommand(reply, secret) }
	if s.asks(req.Command) {
		s.preview(r, req, secret)
		return
	}
	s.cfg.Writer.Submit(req)
}

// acceptClock is the one command of the ledger itself that is the writer's.
const acceptClock = "ledger.accept_clock"

// ledgerCommand handles keyledger.cmd._.<noun>.<verb>: an operator's word to the ledger
// itself, which is no event.
func (s *Service) ledgerCommand(r *request, verb string) {
	if len(r.body) > MaxCommandBytes {
		r.fail(errTooLarge(len(r.body), MaxCommandBytes))
		return
	}
	if do := s.cfg.Commands[verb]; do != nil {
		s.run(r, s.commands, "_", do, func(context.Context, *request, *turn) *events.Error { return nil })
		return
	}
	if verb != acceptClock {
		r.fail(errUnknownVerb("command of the ledger itself", verb, append(slices.Collect(maps.Keys(s.cfg.Commands)), acceptClock)))
		return
	}
	if err := events.DecodeStrict(r.body, &struct{}{}); err != nil {
		r.fail(err)
		return
	}
	off := s.cfg.Writer.Stats().ClockOffMS
	s.cfg.Writer.Submit(&writer.Request{AcceptClock: true, Deadline: r.deadline, Done: func(reply *writer.Reply) {
		if reply.Err != nil {
			r.fail(reply.Err)
			return
		}
		body, err := events.Encode(map[string]any{"clock": map[string]int64{"accepted_off_ms": off}})
		r.answerEncoded(body, err, reply.Position, false)
	}})
}

// newSecret tells the secret that a command made, of what the command led to.
type newSecret func(events.Data) string

// decodeCommand does all that can be done before it is the command's turn: size, JSON
// and fields, id form, and what the edge adds.
func (s *Service) decodeCommand(r *request) (req *writer.Request, secret newSecret, err *events.Error) {
	if len(r.body) > MaxCommandBytes {
		return nil, nil, errTooLarge(len(r.body), MaxCommandBytes)
	}
	account, verb, ok := parseSubject(r.subject, store.SubjectCommand)
	if !ok {
		return nil, nil, events.Errorf(events.InvalidArgument, "the subject must be keyledger.cmd.<account>.<noun>.<verb>")
	}
	spec := specs[verb]
	if spec == nil {
		return nil, nil, errUnknownVerb("command", verb, Verbs())
	}
	if !ledger.ValidAccount(account) {
		return nil, nil, events.Errorf(events.InvalidArgument, "an account id has 1 to 64 of A-Z a-z 0-9 _ - and is not _ alone")
	}
	cmd := spec.New()
	if err := events.DecodeStrict(r.body, cmd); err != nil {
		return nil, nil, err
	}
	if err := s.checkEndpoint(cmd); err != nil {
		return nil, nil, err
	}
	if err := cmd.Validate(); err != nil {
		return nil, nil, err
	}
	id, receipt, err := r.commandID()
	if err != nil {
		return nil, nil, err
	}
	req = &writer.Request{
		Account: account, Verb: verb, Spec: spec, Command: cmd,
		ID: id, Receipt: receipt, Bytes: len(r.body), Actor: s.actor(r, account, verb), Trace: r.trace(), Deadline: r.deadline,
	}
	if receipt {
		req.InputHash = inputHash(r.subject, r.body)
	}
	return req, s.complete(account, cmd), nil
}

// complete gives a command what must not depend on the state and is not in its body:
// fresh ids, secrets and sealed values. It happens once a command, so that a command
// that is decided again gets the same ones. The secret is shown once; nil where the
// command makes none.
func (s *Service) complete(account string, cmd ledger.Command) newSecret {
	switch c := cmd.(type) {
	case *ledger.ImportKey:
		c.KeyID = ulid.Make()
	case *ledger.CreateKey:
		if c.KeyID = ulid.Make(); c.PublicKey != "" {
			break
		}
		var random [32]byte
		rand.Read(random[:])
		secret := ledger.NewSecret(c.Environment, account, c.KeyID, random)
		c.Hash, c.Prefix = sha256.Sum256([]byte(secret)), ledger.SecretPrefix(secret)
		return func(events.Data) string { return secret }
	case *ledger.RotateKey:
		rand.Read(c.Random[:])
		return func(d events.Data) string { return c.Secret(d.(*events.Key).Environment, account) }
	case *ledger.RegisterEndpoint:
		return s.completeRegister(account, c)
	case *ledger.UpdateEndpoint:
		s.completeUpdate(account, c)
	case *ledger.RotateEndpointSecret:
		return s.completeRotate(account, c)
	case *ledger.ReplayEndpoint:
		if s.cfg.Replays != nil {
			c.Unfinished = s.cfg.Replays(account, c.Endpoint)
		}
	}
	return nil
}

// answerCommand gives a command's reply out. A secret is in the first answer only.
func (r *request) answerCommand(reply *writer.Reply, secret newSecret) {
	if reply.Err != nil {
		r.fail(reply.Err)
		return
	}
	result := ledger.Result{Data: reply.Data}
	if secret != nil { // which shall not stay in memory
		if result.Omitted = reply.Replayed; !reply.Replayed {
			result.Secret = secret(reply.Data)
		}
		body, err := result.AppendJSON(nil)
		r.answerEncoded(body, err, reply.Position, reply.Replayed)
		return
	}
	m := memories.Get().(*memory)
	var err error
	m.body, err = result.AppendJSON(m.body[:0])
	r.answerEncoded(m.body, err, reply.Position, reply.Replayed)
	memories.Put(m)
}

func errTooLarge(got, most int) *events.Error {
	return events.Errorf(events.InvalidArgument, "the body has %d bytes, at most %d are allowed", got, most).With("limit", most)
}

func errUnknownVerb(what, verb string, known []string) *events.Error {
	slices.Sort(known)
	return events.Errorf(events.InvalidArgument, "unknown %s %.80q; known are %s", what, verb, strings.Join(known, ", ")).
		With("verbs", known)
}
