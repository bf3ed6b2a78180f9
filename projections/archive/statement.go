package archive

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Limits of statement.list.
const (
	statementDefault = 50
	statementMax     = 500
	// statementCommits is how many commits one page reads. One whose filter passes over more
	// ends early, with a cursor to go on from.
	statementCommits = 2000
)

// keyIDPrefix is what every key id begins with; a ULID follows.
const keyIDPrefix = "key_"

// Statement answers statement.list: a page of what moved a balance, oldest first.
type Statement struct {
	Movements []Movement `json:"movements"`
	// Opening is the balance before the first movement of the page, Closing after the last:
	// where there is none, both are the balance at the page's end.
	Opening    Amounts `json:"opening"`
	Closing    Amounts `json:"closing"`
	NextCursor *string `json:"next_cursor"`
}

// Amounts is a balance, in the asset's smallest unit. Available = Posted − Held.
type Amounts struct {
	Posted    int64 `json:"posted"`
	Held      int64 `json:"held"`
	Available int64 `json:"available"`
}

// Movement is one event as the balance saw it.
type Movement struct {
	Position  string      `json:"position"`
	Time      events.Time `json:"time"`         // of its commit
	Type      string      `json:"type"`         // of the event
	ID        string      `json:"id,omitempty"` // see events.Words
	Amount    int64       `json:"amount"`       // what posted changed by; what only sets aside or releases is 0
	Amounts               // after it
	Key       string      `json:"key,omitempty"`
	Product   string      `json:"product,omitempty"`
	Reference string      `json:"reference,omitempty"`
	Event     ulid.ULID   `json:"event"` // its id in the feed
}

// statementBody is the body of statement.list.
type statementBody struct {
	Environment  string      `json:"environment"`
	Asset        string      `json:"asset"`         // default credits
	Type         string      `json:"type"`          // a type of event, or a filter such as credit.*
	Key          string      `json:"key"`           // it was used with
	FromPosition string      `json:"from_position"` // movements behind it
	ToPosition   string      `json:"to_position"`   // up to it, itself included
	FromTime     events.Time `json:"from_time"`     // not before it
	ToTime       events.Time `json:"to_time"`       // before it
	Cursor       string      `json:"cursor"`
	Limit        *int64      `json:"limit"` // 1 to 500, default 50
}

// statement is one statement.list.
type statement struct {
	statementBody
	limit   int
	filter  Filter // of what moves the balance, in the page's span
	commits commits
	out     Statement
}

// Statement answers statement.list for an account. Body is JSON. Known says whether there is
// such an account, and at which position; the answer is true there or later. The archive
// says where the account's events are, the log what they are, as it was when it was written.
func (a *Archive) Statement(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error) {
	s, refused := a.newStatement(account, body)
	if refused != nil {
		return nil, events.Position{}, refused
	}
	if account == "_" {
		return nil, events.Position{}, events.Errorf(events.InvalidArgument, "the ledger itself has no balance: ask keyledger.query.<account>.statement.list")
	}
	at, refused := a.cfg.Known(account)
	if refused != nil {
		return nil, events.Position{}, refused
	}
	// Positions that an answer gave may be ahead of the archive, never of the log.
	r, err := a.readAt(ctx, account, historyPart, max(at.Sequence, s.filter.From.Sequence, s.filter.To.Sequence))
	if err != nil {
		return nil, events.Position{}, a.failed(ctx, err)
	}
	defer r.close()
	if err := a.state(ctx, s, r); err != nil {
		return nil, events.Position{}, a.failed(ctx, err)
	}
	return &s.out, r.at.Position(), nil
}

// failed is the answer where something was refused, or a file or the log could not be read.
func (a *Archive) failed(ctx context.Context, err error) *events.Error {
	var d *damage
	var refused *events.Error
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, ErrBehind):
		reached := a.Applied()
		return events.Errorf(events.Unavailable, "%v: it is at %s; try again, or with a longer %s", ErrBehind, reached.Position(), store.HeaderTimeout)
	case ctx.Err() != nil:
		return events.Errorf(events.Unavailable, "there was not enough time; ask for a smaller page, or with a longer %s", store.HeaderTimeout)
	case errors.As(err, &d):
		return events.Errorf(events.Unavailable, "a file of the archive was damaged and is being made again from the log; try again")
	}
	a.cfg.Logger.Error("cannot read what the archive points to", "error", err)
	return events.Errorf(events.Unavailable, "the log could not be read: %v", err)
}

// newStatement reads and checks a body.
func (a *Archive) newStatement(account string, text []byte) (*statement, *events.Error) {
	s := &statement{limit: statementDefault, commits: commits{tail: a.cfg.Tail, account: account}}
	if err := events.DecodeStrict(text, &s.statementBody); err != nil {
		return nil, err
	}
	if s.Asset == "" {
		s.Asset = events.Credits
	}
	switch {
	case s.Environment != events.Test && s.Environment != events.Live:
		return nil, events.Errorf(events.InvalidArgument, "environment must be test or live")
	case !events.ValidName(s.Asset):
		return nil, events.Errorf(events.InvalidArgument, "asset must be 1 to 64 of a-z 0-9 _ -")
	case s.Type != "" && !events.ValidFilter(s.Type):
		return nil, events.Errorf(events.InvalidArgument, "type must be a type of event such as credit.debited, or a filter such as credit.*")
	case s.Key != "" && !validKey(s.Key):
		return nil, events.Errorf(events.InvalidArgument, "key must be a key id such as %s01J…", keyIDPrefix)
	case s.FromTime != 0 && s.ToTime != 0 && s.FromTime >= s.ToTime:
		return nil, events.Errorf(events.InvalidArgument, "from_time must be before to_time")
	}
	if s.Limit != nil {
		if *s.Limit < 1 || *s.Limit > statementMax {
			return nil, events.Errorf(events.InvalidArgument, "limit must be from 1 to %d", statementMax)
		}
		s.limit = int(*s.Limit)
	}
	s.out.Movements = []Movement{}
	s.filter = Filter{Environment: s.Environment, Asset: s.Asset}
	return s, a.bounds(s)
}

// bounds reads the positions of a body.
func (a *Archive) bounds(s *statement) *events.Error {
	end := a.cfg.Tail.End()
	for _, b := range []struct {
		name, text string
		p          *events.Position
	}{{"from_position", s.FromPosition, &s.filter.From}, {"to_position", s.ToPosition, &s.filter.To}} {
		if b.text == "" {
			continue
		}
		p, err := events.ParsePosition(b.text)
		if err != nil || p.Partition != a.cfg.Partition || p.Sequence == 0 {
			return events.Errorf(events.InvalidArgument, "%s must be a position such as 0:42.0, or 0:42 for a whole commit", b.name)
		}
		if p.Sequence > end.Sequence {
			last := end.Position()
			return events.Errorf(events.InvalidArgument, "%s %s is beyond the log's end %s", b.name, p, last).With("end", last.String())
		}
		*b.p = p
	}
	if s.filter.To.Sequence != 0 && later(s.filter.From, s.filter.To) {
		return events.Errorf(events.InvalidArgument, "from_position %s must not be after to_position %s", s.filter.From, s.filter.To)
	}
	if s.Cursor == "" {
		return nil
	}
	text, err := base64.RawURLEncoding.DecodeString(s.Cursor)
	p, bad := events.ParsePosition(string(text))
	if err != nil || bad != nil || cursorOf(p) != s.Cursor || p.Partition != a.cfg.Partition || p.Sequence > end.Sequence {
		return events.Errorf(events.InvalidArgument, "cursor must be the next_cursor of an earlier page of the same list")
	}
	if later(p, s.filter.From) {
		s.filter.From = p
	}
	return nil
}

// cursorOf is a position as the outside sees it: opaque.
func cursorOf(p events.Position) string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.String()))
}

func validKey(id string) bool {
	text, ok := strings.CutPrefix(id, keyIDPrefix)
	_, err := ulid.ParseStrict(text)
	return ok && err == nil
}

// state fills the answer from a reading of the account's history.
func (a *Archive) state(ctx context.Context, s *statement, r *reading) error {
	if err := a.times(ctx, s, r.at); err != nil {
		return err
	}
	end := s.filter.To // of the page
	if end.Sequence == 0 {
		return nil // before the first commit
	}
	filter := s.filter
	if s.Type != "" {
		filter.Types = []string{s.Type}
	}
	var failed error
	r.history(ctx, filter, func(e Entry, err error) bool {
		var more bool
		if err == nil {
			more, err = s.add(ctx, &e, &end)
		}
		failed = err
		return more && err == nil
	})
	if failed != nil || len(s.out.Movements) > 0 {
		return failed
	}
	if s.out.NextCursor == nil {
		end = s.filter.To // what the filter passed over last need not have been the last
	}
	var err error
	s.out.Closing, err = s.balance(ctx, r, end)
	s.out.Opening = s.out.Closing
	return err
}

// times narrows the span by the times that are asked for. It refuses one that ends before it
// begins.
func (a *Archive) times(ctx context.Context, s *statement, at store.Chain) error {
	whole := events.Position{Partition: at.Partition, Index: events.NoIndex}
	if s.filter.To.Sequence == 0 {
		whole.Sequence = at.Sequence
		s.filter.To = whole
	}
	if s.FromTime != 0 {
		n, err := a.before(ctx, s.FromTime, at.Sequence)
		if err != nil {
			return err
		}
		if whole.Sequence = n; n > 0 && later(whole, s.filter.From) {
			s.filter.From = whole
		}
	}
	if s.ToTime != 0 {
		n, err := a.before(ctx, s.ToTime, at.Sequence)
		if err != nil {
			return err
		}
		if whole.Sequence = n; later(s.filter.To, whole) {
			s.filter.To = whole
		}
	}
	if later(s.filter.From, s.filter.To) {
		return events.Errorf(events.InvalidArgument, "the span ends at %s, before it begins at %s: turn it round", s.filter.To, s.filter.From)
	}
	return nil
}

// add adds an entry's movement. It returns false, and where the page ends, when the page
// is full.
func (s *statement) add(ctx context.Context, e *Entry, end *events.Position) (more bool, err error) {
	full := len(s.out.Movements) == s.limit || s.commits.read == statementCommits && s.commits.last.Sequence != e.Position.Sequence
	if full {
		text := cursorOf(*end)
		s.out.NextCursor = &text
		return false, nil
	}
	c, err := s.commits.at(ctx, e)
	if err != nil {
		return false, err
	}
	event := c.Event(e.Position.Index)
	m, err := s.movement(event)
	if err != nil {
		return false, fmt.Errorf("%s at %s: %w", e.Type, e.Position, err)
	}
	*end = e.Position
	words := events.Said(event.Data)
	if s.Key != "" && words.Key != s.Key {
		return true, nil
	}
	after, amount := amountsOf(m.After), m.Available()+m.Held
	before := amounts(after.Posted-amount, after.Held-m.Held)
	switch {
	case len(s.out.Movements) == 0:
		s.out.Opening = before
	case s.Type == "" && s.Key == "" && before != s.out.Closing:
		return false, fmt.Errorf("%s at %s begins with %+v, and the movement before it ends with %+v", e.Type, e.Position, before, s.out.Closing)
	}
	s.out.Closing = after
	s.out.Movements = append(s.out.Movements, Movement{
		Position: e.Position.String(), Time: c.Time, Type: e.Type, ID: words.ID, Amount: amount, Amounts: after,
		Key: words.Key, Product: words.Product, Reference: words.Reference, Event: events.EventID(c.Time, c.Nonce, e.Position.Index),
	})
	return true, nil
}

// movement returns what an event does to the statement's balance.
func (s *statement) movement(e *events.Event) (*events.Movement, error) {
	list, n := events.Movements(e.Data)
	for i := range list[:n] {
		if b := list[i].After; b.Environment == s.Environment && b.Asset == s.Asset {
			return &list[i], nil
		}
	}
	return nil, fmt.Errorf("it does not move %s in %s", s.Asset, s.Environment)
}

// balance returns the balance at a position.
func (s *statement) balance(ctx context.Context, r *reading, at events.Position) (found Amounts, failed error) {
	if at.Sequence == 0 {
		return Amounts{}, nil
	}
	last := Filter{To: at, Newest: true, Environment: s.Environment, Asset: s.Asset}
	r.history(ctx, last, func(e Entry, err error) bool {
		var c *store.Commit
		if err == nil {
			c, err = s.commits.at(ctx, &e)
		}
		if failed = err; err != nil {
			return false
		}
		var m *events.Movement
		if m, failed = s.movement(c.Event(e.Position.Index)); failed == nil {
			found = amountsOf(m.After)
		}
		return false
	})
	return found, failed
}

func amountsOf(b *events.Balance) Amounts { return amounts(b.Posted, b.Held) }

func amounts(posted, held int64) Amounts { return Amounts{posted, held, posted - held} }
