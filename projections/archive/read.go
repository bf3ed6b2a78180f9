package archive

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// reading is what one part has of one account, at one position. It must be closed.
type reading struct {
	at       store.Chain // up to which it is all there
	archive  *Archive
	account  string
	part     int
	segments []*segment
	start    place  // of the open segment
	open     []byte // its chunk
}

// read begins a reading.
func (a *Archive) read(account string, part int) *reading {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, s := range a.held {
		s.acquire()
	}
	return &reading{
		at: a.applied, archive: a, account: account, part: part, segments: a.held,
		start: place{a.start.Sequence, a.start.Time}, open: a.open[part].append(nil, account),
	}
}

// readAt begins a reading that has the commit at sequence, once the archive does and it is
// the query's turn to read. Its error is that of Wait, or an *events.Error of the turn.
func (a *Archive) readAt(ctx context.Context, account string, part int, sequence uint64) (*reading, error) {
	for {
		if err := a.Wait(ctx, sequence); err != nil {
			return nil, err
		}
		if refused := store.TurnOf(ctx).Read(ctx); refused != nil {
			return nil, refused
		}
		r := a.read(account, part)
		if r.at.Sequence >= sequence {
			return r, nil
		}
		r.close() // a file was found damaged meanwhile
	}
}

// close ends a reading.
func (r *reading) close() {
	for _, s := range r.segments {
		s.release()
	}
}

// chunks is the account's chunks, newest or oldest first. Wanted says whether there can be
// something in one whose events are all behind the sequence of from and not before its time,
// and up to that of to: those that it does not want are not read. An error ends it: a file
// that is damaged will be made again.
func (r *reading) chunks(newest bool, wanted func(from, to place) bool) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		open := func() bool {
			if len(r.open) == 0 || !wanted(r.start, place{r.at.Sequence, r.at.Time}) {
				return true
			}
			return yield(r.open, nil)
		}
		if newest && !open() {
			return
		}
		for i := range r.segments {
			if newest {
				i = len(r.segments) - 1 - i
			}
			if !r.segment(r.segments[i], newest, wanted, yield) {
				return
			}
		}
		if !newest {
			open()
		}
	}
}

// segment is chunks of one segment; false where the caller has enough.
func (r *reading) segment(s *segment, newest bool, wanted func(from, to place) bool, yield func([]byte, error) bool) bool {
	end := place{s.End.Sequence, s.End.Time}
	if !wanted(place{s.Start.Sequence, s.Start.Time}, end) {
		return true
	}
	h, err := s.find(r.account)
	if err != nil {
		yield(nil, r.archive.found(err))
		return false
	}
	if h == nil {
		return true
	}
	list := h.parts[r.part]
	for i := range list {
		if newest {
			i = len(list) - 1 - i
		}
		to := end
		if i+1 < len(list) {
			to = list[i+1].place
		}
		if !wanted(list[i].place, to) {
			continue
		}
		data, err := s.chunk(s.file, &list[i])
		if err != nil {
			yield(nil, r.archive.found(err))
			return false
		}
		if !yield(data, nil) {
			return false
		}
	}
	return true
}

// Filter says which of an account's events a history tells. The zero Filter tells all,
// oldest first.
type Filter struct {
	From        events.Position // events behind it; the zero position is the beginning
	To          events.Position // up to it, itself included; the zero position is what there is
	Newest      bool            // newest first
	Types       []string        // types of events, or filters such as credit.*; none: all
	Environment string          // of the event; "" is any
	Asset       string          // of a balance that the event moves; "" is any, and none
}

// History is the events of an account: where they are in the log, and of which type. An
// error ends it; Applied is what it is true at, or later. It keeps files open until it
// ends.
func (a *Archive) History(ctx context.Context, account string, f Filter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		r := a.read(account, historyPart)
		defer r.close()
		r.history(ctx, f, yield)
	}
}

// history is the entries of a reading of the history.
func (r *reading) history(ctx context.Context, f Filter, yield func(Entry, error) bool) {
	wants := f.compile()
	for chunk, err := range r.chunks(f.Newest, f.reaches) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(Entry{}, fmt.Errorf("read the history of account %s: %w", r.account, err))
			return
		}
		for e, err := range readHistory(chunk, &f) {
			if err != nil {
				yield(Entry{}, fmt.Errorf("read the history of account %s: %w", r.account, err))
				return
			}
			e.Position.Partition = r.at.Partition
			if wants(&e) && !yield(e, nil) {
				return
			}
		}
	}
}

// reaches says whether the filter's span meets the events behind from up to to.
func (f *Filter) reaches(from, to place) bool {
	return to.sequence >= f.From.Sequence && (f.To.Sequence == 0 || from.sequence < f.To.Sequence)
}

// compile makes a function of the filter.
func (f *Filter) compile() func(*Entry) bool {
	passes := make(map[string]bool, len(types))
	for _, name := range types {
		passes[name] = len(f.Types) == 0 || slices.ContainsFunc(f.Types, func(filter string) bool { return events.Matches(filter, name) })
	}
	return func(e *Entry) bool {
		return passes[e.Type] && later(e.Position, f.From) && (f.To.Sequence == 0 || !later(e.Position, f.To)) &&
			(f.Environment == "" || e.Environment == f.Environment) &&
			(f.Asset == "" || e.Assets[0] == f.Asset || e.Assets[1] == f.Asset)
	}
}

// later says whether p is later in the log than q. Without an index, a position is the end
// of its commit.
func later(p, q events.Position) bool {
	if p.Sequence != q.Sequence {
		return p.Sequence > q.Sequence
	}
	return q.Index != events.NoIndex && (p.Index == events.NoIndex || p.Index > q.Index)
}
