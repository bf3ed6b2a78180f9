package writer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

const (
	// maxSearches is how many entries are searched for in the log at once: each search
	// reads as fast as a core decodes.
	maxSearches = 4
	// soonCommitted is within what time of its id nearly every entry is committed: a search
	// looks there first.
	soonCommitted = 10 * time.Second
)

// citation is an older entry that a command needs to be decided: see ledger.Citer.
type citation struct {
	id      ulid.ULID
	receipt *receipt // which says where it stands; nil where it must be searched for
}

// cites notes that a command takes an older entry. It is looked up once all is
// acknowledged that the command might mean, and not by the writer's goroutine.
func (w *Writer) cites(p *pending, account string, id ulid.ULID) {
	p.citation = &citation{id: id}
	if found, ok := w.receipts.find(account, id); ok {
		p.citation.receipt = &found
	}
}

// cite looks the entry up, gives it to the command and hands that in again: its turn
// comes as if it had arrived now. If we stop right here, nothing was done.
func (w *Writer) cite(ctx context.Context, p *pending) {
	if !p.req.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, p.req.Deadline)
		defer cancel()
	}
	list, err := w.cited(ctx, p.req.Account, p.citation)
	switch {
	case err == nil:
		p.req.Command.(ledger.Citer).Cite(list)
		w.Submit(p.req)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		p.req.Done(&Reply{Err: events.Errorf(events.Unavailable, "the search in the log did not end in time, and nothing was done; try again with a longer %s", store.HeaderTimeout)})
	case ctx.Err() != nil:
		p.req.Done(&Reply{Err: events.Errorf(events.Unavailable, "keyledger is stopping; try again")})
	default:
		w.log.Error("cannot look up an entry that a command is about", "account", p.req.Account, "id", p.citation.id, "error", err)
		p.req.Done(&Reply{Err: events.Errorf(events.Unavailable, "the log cannot be read now, and nothing was done; try again")})
	}
}

// cited returns the events of an entry, nil where the account has none with this id.
func (w *Writer) cited(ctx context.Context, account string, c *citation) ([]events.Event, error) {
	if c.receipt != nil {
		commit, err := w.cfg.Tail.Commit(ctx, c.receipt.sequence)
		if err != nil {
			return nil, err
		}
		return commit.Entries[c.receipt.entry].Events, nil
	}
	s := search{tail: w.cfg.Tail, partition: w.cfg.Partition, account: account, id: c.id}
	err := s.run(ctx)
	return s.found, err
}

// search looks for an entry in the log by the time of its command id, among what is
// acknowledged. Commit times never go back, and no entry is committed before the time of
// its id less idAhead, or later than receiptHorizon after it (see receipts.check and
// Writer.date).
type search struct {
	tail      *store.Tail
	partition uint32
	account   string
	id        ulid.ULID
	found     []events.Event
}

// run looks first where nearly every entry is, then in the minute before, which is for
// clients whose clocks are ahead, and then at all that is left.
func (s *search) run(ctx context.Context) error {
	at, end := events.Time(s.id.Time()), s.tail.End().Sequence
	from, err := s.firstAt(ctx, at, 1, end)
	if err != nil {
		return err
	}
	next, err := s.scan(ctx, from, end, at+milliseconds(soonCommitted))
	if err != nil || s.found != nil {
		return err
	}
	early, err := s.firstAt(ctx, at-milliseconds(idAhead), 1, from-1)
	if err != nil {
		return err
	}
	if _, err := s.scan(ctx, early, from-1, at); err != nil || s.found != nil {
		return err
	}
	_, err = s.scan(ctx, next, end, at+milliseconds(receiptHorizon))
	return err
}

// firstAt returns the first commit from low to high whose time is not before at, high+1
// where there is none.
func (s *search) firstAt(ctx context.Context, at events.Time, low, high uint64) (uint64, error) {
	for low <= high {
		middle := low + (high-low)/2
		c, err := s.tail.Commit(ctx, middle)
		if err != nil {
			return 0, fmt.Errorf("look up commit %d: %w", middle, err)
		}
		if c.Time < at {
			low = middle + 1
		} else {
			high = middle - 1
		}
	}
	return low, nil
}

// errScanned ends a scan.
var errScanned = errors.New("scanned")

// scan reads the commits from one to another, as far as they are not later than until,
// and returns the first that it did not look at.
func (s *search) scan(ctx context.Context, from, to uint64, until events.Time) (next uint64, err error) {
	if from > to {
		return from, nil
	}
	before := store.Chain{Partition: s.partition}
	if from > 1 {
		c, err := s.tail.Commit(ctx, from-1)
		if err != nil {
			return 0, fmt.Errorf("look up commit %d: %w", from-1, err)
		}
		before = store.ChainAt(c)
	}
	next = from
	err = s.tail.Follow(ctx, before, func(c *store.Commit) error {
		if c.Time > until {
			return errScanned
		}
		next = c.Sequence + 1
		if s.found = s.in(c); s.found != nil || next > to {
			return errScanned
		}
		return nil
	})
	switch {
	case errors.Is(err, errScanned):
		return next, nil
	case err == nil: // Follow ended with ctx
		return 0, ctx.Err()
	}
	return 0, fmt.Errorf("search the log: %w", err)
}

// in returns the events of the entry if a commit has it.
func (s *search) in(c *store.Commit) []events.Event {
	for i := range c.Entries {
		if e := &c.Entries[i]; e.CommandID == s.id && e.Account == s.account {
			return e.Events
		}
	}
	return nil
}

// date makes sure that a command's id is of a time by which its entry can be found: what
// the ids of callers are checked for, those that were made here can fail while time
// stands still after a wrong clock was accepted.
func (w *Writer) date(req *Request) {
	now := w.open.commit.Time
	at := events.Time(req.ID.Time())
	if !req.Receipt && (at > now+milliseconds(idAhead) || at < now-milliseconds(receiptHorizon)) {
		_ = req.ID.SetTime(uint64(now)) // cannot fail: a commit's time is in the range of ids
	}
}
