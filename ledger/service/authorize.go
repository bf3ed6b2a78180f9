package service

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/writer"
)

// authorize handles keyledger.authorize: one item, or an array of independent ones.
func (s *Service) authorize(r *request) {
	if r.reply == "" {
		return // an answer that nobody hears must not take credits
	}
	if body := bytes.TrimLeft(r.body, " \t\r\n"); len(body) > 0 && body[0] == '[' {
		s.authorizeMany(r)
		return
	}
	if len(r.body) > MaxCommandBytes {
		r.fail(errTooLarge(len(r.body), MaxCommandBytes))
		return
	}
	req, err := s.decodeAuthorize(r, r.body, true)
	if err != nil {
		r.fail(err)
		return
	}
	req.Done = func(reply *writer.Reply) { r.answerAuthorize(reply) }
	s.cfg.Writer.Submit(req)
}

// decodeAuthorize decodes and checks one item. Alone, the header's id serves.
func (s *Service) decodeAuthorize(r *request, body []byte, alone bool) (*writer.Request, *events.Error) {
	a := new(ledger.Authorize)
	if err := events.DecodeStrict(body, a); err != nil {
		return nil, err
	}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	req := &writer.Request{Authorize: a, Bytes: len(body), Actor: operator, Trace: r.trace(), Deadline: r.deadline}
	var err *events.Error
	switch {
	case a.ID != "":
		req.Receipt = true
		req.ID, err = parseID(a.ID)
	case alone:
		req.ID, req.Receipt, err = r.commandID()
	default:
		req.ID = ulid.Make()
	}
	if req.Signed = a.Signed(); req.Signed && !req.Receipt {
		return nil, errSignedWithoutID
	}
	if req.Receipt {
		req.InputHash = inputHash(r.subject, body)
	}
	return req, err
}

// errSignedWithoutID: what was signed must be able to come again without paying again.
var errSignedWithoutID = events.Errorf(events.InvalidArgument, "a signed request needs a command id: id, or alone the header %s", store.HeaderCommandID)

// answerAuthorize gives one answer out. What is no answer (the id was reused, the log is
// full, the outcome unknown) is an error reply.
func (r *request) answerAuthorize(reply *writer.Reply) {
	if reply.Err != nil {
		r.fail(reply.Err)
		return
	}
	answer := withPosition(reply)
	m := memories.Get().(*memory)
	m.body = answer.AppendJSON(m.body[:0])
	r.answer(m.body, reply.Position, reply.Replayed)
	memories.Put(m)
}

func withPosition(reply *writer.Reply) *ledger.Answer {
	answer := &reply.Answer
	answer.Position, answer.Replayed = reply.Position.String(), reply.Replayed
	return answer
}

// many collects the answers to an array, in its order.
type many struct {
	r       *request
	answers []*ledger.Answer // each written by who decided it, read after the last
	left    atomic.Int64

	mu     sync.Mutex       // guards all below
	failed *events.Error    // an error that concerns the ledger, not an item
	last   *events.Position // the newest of all items
}

// lanes spreads arrays over the lanes of the intake.
var lanes atomic.Uint32

func (s *Service) authorizeMany(r *request) {
	if len(r.body) > MaxAuthorizeBytes {
		r.fail(errTooLarge(len(r.body), MaxAuthorizeBytes))
		return
	}
	items, err := splitItems(r.body)
	if err != nil {
		r.fail(err)
		return
	}
	if len(items) == 0 || len(items) > MaxAuthorizeItems {
		r.fail(events.Errorf(events.InvalidArgument, "the array has %d items, 1 to %d are allowed", len(items), MaxAuthorizeItems).
			With("limit", MaxAuthorizeItems))
		return
	}
	m := &many{r: r, answers: make([]*ledger.Answer, len(items))}
	m.left.Store(int64(len(items)))
	lane := uint16(1 + lanes.Add(1)%1024) // all in one: they are decided in order
	signed := false                       // an item was: those behind it wait for it
	for i, item := range items {
		req, err := s.decodeAuthorize(r, item, false)
		if err != nil {
			m.done(i, &ledger.Answer{Code: err.Code, Message: err.Message})
			continue
		}
		req.Lane = lane
		signed = signed || req.Signed
		req.Signed = signed
		req.Done = func(reply *writer.Reply) { m.reply(i, reply) }
		s.cfg.Writer.Submit(req)
	}
}

// splitItems returns the items of an array as they stand in it.
func splitItems(body []byte) ([][]byte, *events.Error) {
	if items, ok := events.FlatItems(body); ok {
		return items, nil
	}
	var values []jsontext.Value
	if err := events.DecodeStrict(body, &values); err != nil {
		return nil, err
	}
	items := make([][]byte, len(values))
	for i := range values {
		items[i] = values[i]
	}
	return items, nil
}

// reply takes one item's outcome. A refusal of the command id belongs to its item; what
// the ledger cannot do at all is the whole call's error, after which every item can be
// sent again with its id.
func (m *many) reply(i int, reply *writer.Reply) {
	if reply.Err == nil {
		at := reply.Position
		m.mu.Lock()
		// A first answer that is given again comes from long ago.
		if m.last == nil || at.Sequence > m.last.Sequence || at.Sequence == m.last.Sequence && at.Index > m.last.Index {
			m.last = &at
		}
		m.mu.Unlock()
		m.done(i, withPosition(reply))
		return
	}
	switch reply.Err.Code {
	case events.StorageFull, events.Unavailable, events.OutcomeUnknown:
		m.worse(reply.Err)
	}
	m.done(i, &ledger.Answer{Code: reply.Err.Code, Message: reply.Err.Message})
}

// worse keeps the error that says the least: an unknown outcome before all others.
func (m *many) worse(e *events.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil || e.Code == events.OutcomeUnknown {
		m.failed = e
	}
}

func (m *many) done(i int, answer *ledger.Answer) {
	m.answers[i] = answer
	if m.left.Add(-1) > 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		m.r.fail(m.unsettled(m.failed))
		return
	}
	body := make([]byte, 0, 256*len(m.answers))
	body = append(body, '[')
	for i, a := range m.answers {
		if i > 0 {
			body = append(body, ',')
		}
		body = a.AppendJSON(body)
	}
	body = append(body, ']')
	at := events.Position{Index: events.NoIndex}
	if m.last != nil {
		at = *m.last
	}
	m.r.answer(body, at, false)
}

// unsettled is the error of a call of which some items have no answer. If any item may
// have been charged, the whole is an unknown outcome.
func (m *many) unsettled(err *events.Error) *events.Error {
	for _, a := range m.answers {
		if a.Allowed && err.Code != events.OutcomeUnknown {
			return events.Errorf(events.OutcomeUnknown, "some items were decided and some were not (%s); retry with the same item ids", err.Message)
		}
	}
	return err
}
