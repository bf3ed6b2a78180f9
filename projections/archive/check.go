package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/keyledger/keyledger/events/store"
)

const (
	// checkDir is where Check makes segments again, within the archive's directory. What a
	// crash leaves there goes at the next start.
	checkDir = "again"
	// checkPatience is how long the archive may take to get to where the log was.
	checkPatience = 30 * time.Second
	// checkPiece is after how many events progress is told.
	checkPiece = 4096
)

// errSame ends the reading of a span that was to be read.
var errSame = errors.New("the end of the span is reached")

// Check makes every segment again from the log and says which one is not the same to the
// byte, "" for none; then it compares the open one. What differs is made again by Run. An
// error says that it could not be compared. It takes the room of the largest segment on the
// disk, and the memory of one open segment. Progress is told events of the log.
func (a *Archive) Check(ctx context.Context, progress func(done, total uint64)) (wrong string, err error) {
	if err := a.reach(ctx, a.cfg.Tail.End().Sequence); err != nil {
		return "", err
	}
	from := store.Chain{Partition: a.cfg.Partition}
	for {
		list, start := a.behind(from)
		if wrong, err = a.checkAll(ctx, list, progress); wrong != "" || err != nil {
			return wrong, err
		}
		wrong, err = a.checkOpen(ctx, start, progress)
		if !errors.Is(err, errAgain) {
			return wrong, err
		}
		from = start // it is a segment by now
	}
}

// reach waits until the archive has the commit at a sequence.
func (a *Archive) reach(ctx context.Context, sequence uint64) error {
	patient, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	if err := a.Wait(patient, sequence); err != nil {
		at := a.Applied()
		return fmt.Errorf("it is at %s and did not get to the log's end in %s; try again later", at.Position(), checkPatience)
	}
	return nil
}

// behind returns the segments that end behind a place, which the caller releases, and where
// the open one begins.
func (a *Archive) behind(from store.Chain) (list []*segment, start store.Chain) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, s := range a.held {
		if s.End.Sequence > from.Sequence {
			s.acquire()
			list = append(list, s)
		}
	}
	return list, a.start
}

// checkAll makes segments again, and throws those away that are not the same.
func (a *Archive) checkAll(ctx context.Context, list []*segment, progress func(done, total uint64)) (string, error) {
	var wrong []error
	for _, s := range list {
		defer s.release()
	}
	for _, s := range list {
		err := s.verify()
		if err == nil {
			err = a.checkSegment(ctx, s, progress)
		}
		var d *damage
		switch {
		case errors.As(err, &d):
			wrong = append(wrong, err)
			a.remake(s)
		case err != nil:
			return "", err
		}
	}
	if len(wrong) == 0 {
		return "", nil
	}
	return fmt.Sprintf("%v; of %d segments %d are made again from the log", wrong[0], len(list), len(wrong)), nil
}

// remake throws away what is held of a segment's beginning: itself, or what it was merged
// into meanwhile.
func (a *Archive) remake(s *segment) {
	a.mu.RLock()
	all := slices.Concat(a.held, a.later)
	a.mu.RUnlock()
	if i := slices.IndexFunc(all, func(h *segment) bool { return h.End.Sequence > s.Start.Sequence }); i >= 0 {
		a.drop(all[i])
	}
}

// checkSegment makes a segment again beside it. Its error is damage where it is another.
func (a *Archive) checkSegment(ctx context.Context, s *segment, progress func(done, total uint64)) error {
	cfg := a.cfg
	cfg.Dir = filepath.Join(a.cfg.Dir, checkDir)
	if err := os.RemoveAll(cfg.Dir); err != nil {
		return err
	}
	defer os.RemoveAll(cfg.Dir) // what is left goes at the next start
	b, err := openShape(cfg, a.fan)
	if err != nil {
		return err
	}
	defer b.Close()
	b.start, b.applied = s.Start, s.Start
	read := 0
	err = a.cfg.Tail.Follow(ctx, s.Start, func(c *store.Commit) error {
		if err := b.apply(c); err != nil {
			return err
		}
		for more := true; more; {
			if more, err = b.mergeNext(ctx); err != nil {
				return err
			}
		}
		if read += c.EventCount(); read >= checkPiece {
			read = 0
			progress(c.End(), a.cfg.Tail.End().Ordinal)
		}
		if c.Sequence >= s.End.Sequence {
			return errSame
		}
		return nil
	})
	switch {
	case err == nil:
		return ctx.Err()
	case !errors.Is(err, errSame):
		return err
	case len(b.held) != 1 || b.held[0].footer != s.footer:
		return s.damaged("the log makes another of the events from %s to %s", s.Start.Position(), s.End.Position())
	}
	return nil
}

// checkOpen compares the open segment with one that is made from its beginning. It returns
// errAgain when that is no longer the open one.
func (a *Archive) checkOpen(ctx context.Context, start store.Chain, progress func(done, total uint64)) (string, error) {
	b := &Archive{cfg: a.cfg}
	b.begin()
	b.start, b.applied = start, start
	wrong, err := a.sameOpen(ctx, b)
	if err == nil {
		read := 0
		err = a.cfg.Tail.Follow(ctx, start, func(c *store.Commit) (err error) {
			b.add(c)
			if read += c.EventCount(); read >= checkPiece {
				read = 0
				progress(c.End(), a.cfg.Tail.End().Ordinal)
			}
			wrong, err = a.sameOpen(ctx, b)
			return err
		})
	}
	switch {
	case errors.Is(err, errSame):
		return wrong, nil
	case err == nil:
		err = ctx.Err()
	}
	return "", err
}

// sameOpen compares both open segments where they are at the same commit, and returns
// errSame then, nil where the other one is ahead, and errAgain where it has begun anew.
func (a *Archive) sameOpen(ctx context.Context, b *Archive) (wrong string, err error) {
	if err := a.Wait(ctx, b.applied.Sequence); err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.start != b.start:
		return "", errAgain
	case a.applied.Sequence > b.applied.Sequence:
		return "", nil
	}
	for k := range kinds {
		accounts := map[string]bool{}
		for _, p := range []part{a.open[k], b.open[k]} {
			for account := range p.accounts() {
				accounts[account] = true
			}
		}
		for _, account := range slices.Sorted(maps.Keys(accounts)) {
			if !bytes.Equal(a.open[k].append(nil, account), b.open[k].append(nil, account)) {
				wrong = fmt.Sprintf("the %s of account %s from %s on is not what the log makes of it; it is made again from the log",
					kinds[k].name, account, a.start.Position())
				a.begin()
				if a.again != nil {
					a.again()
				}
				return wrong, errSame
			}
		}
	}
	return "", errSame
}
