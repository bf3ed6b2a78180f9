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
	// checkAccounts is how many accounts of the open segment are compared before others, who
	// add to it, have a turn.
	checkAccounts = 256
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
	patient, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	if err := a.Wait(patient, sequence); err != nil {
		at := a.Applied()
		return fmt.Errorf("it is at %s and did not get to the log's end in %s; try again later", at.Position(), a.patience)
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
			if err := a.remake(ctx, s, progress); err != nil {
				return "", err
			}
		case err != nil:
			return "", err
		}
	}
	if len(wrong) == 0 {
		return "", nil
	}
	return fmt.Sprintf("%v; of %d segments %d are made again from the log", wrong[0], len(list), len(wrong)), nil
}

// remake throws away a segment that is wrong, or, where that is no longer held, what has
// taken its place if it is wrong too: what it was merged into meanwhile is, what a reader had
// made again is not.
func (a *Archive) remake(ctx context.Context, s *segment, progress func(done, total uint64)) error {
	a.mu.RLock()
	all := slices.Concat(a.held, a.later)
	i := slices.IndexFunc(all, func(h *segment) bool { return h.End.Sequence > s.Start.Sequence })
	if i < 0 {
		a.mu.RUnlock()
		return nil
	}
	h := all[i]
	h.acquire()
	a.mu.RUnlock()
	defer h.release()
	if h != s {
		err := h.verify()
		if err == nil {
			err = a.checkSegment(ctx, h, progress)
		}
		if d := (*damage)(nil); !errors.As(err, &d) {
			return err
		}
	}
	a.drop(h)
	return nil
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
	o := &openCheck{a: a, b: b}
	wrong, err := o.same(ctx)
	if err == nil {
		read := 0
		err = a.cfg.Tail.Follow(ctx, start, func(c *store.Commit) (err error) {
			b.add(c)
			if read += c.EventCount(); read >= checkPiece {
				read = 0
				progress(c.End(), a.cfg.Tail.End().Ordinal)
			}
			wrong, err = o.same(ctx)
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

// openCheck compares the open segment of an archive with one that is made beside it, account
// by account. Each is compared where both are at the same commit, which need not be the same
// commit for all: what adds to the segment has its turn in between, and readers all the time.
type openCheck struct {
	a, b *Archive

	begun bool
	left  []openAccount
}

// openAccount is what a part of the open segment has of an account.
type openAccount struct {
	kind    int
	account string
}

// same goes on with the comparison. It returns errSame at its end, nil where the other one is
// ahead, and errAgain where that has begun anew.
func (o *openCheck) same(ctx context.Context) (wrong string, err error) {
	if err := o.a.reach(ctx, o.b.applied.Sequence); err != nil {
		return "", err
	}
	for err == nil && ctx.Err() == nil {
		var ahead bool
		if wrong, ahead, err = o.piece(); ahead {
			return "", nil
		}
	}
	if wrong != "" {
		o.a.beginAgain(o.b.start)
	}
	if err == nil {
		err = ctx.Err()
	}
	return wrong, err
}

// piece compares up to checkAccounts.
func (o *openCheck) piece() (wrong string, ahead bool, err error) {
	a, b := o.a, o.b
	a.mu.RLock()
	defer a.mu.RUnlock()
	switch {
	case a.start != b.start:
		return "", false, errAgain
	case a.applied.Sequence > b.applied.Sequence:
		return "", true, nil
	case !o.begun:
		o.begun, o.left = true, o.all()
	}
	n := min(len(o.left), checkAccounts)
	for _, one := range o.left[:n] {
		if !bytes.Equal(a.open[one.kind].append(nil, one.account), b.open[one.kind].append(nil, one.account)) {
			return fmt.Sprintf("the %s of account %s from %s on is not what the log makes of it; it is made again from the log",
				kinds[one.kind].name, one.account, a.start.Position()), false, errSame
		}
	}
	if o.left = o.left[n:]; len(o.left) == 0 {
		return "", false, errSame
	}
	return "", false, nil
}

// all is what either has of accounts. The caller holds a.mu.
func (o *openCheck) all() (list []openAccount) {
	for k := range kinds {
		accounts := map[string]bool{}
		for _, p := range []part{o.a.open[k], o.b.open[k]} {
			for account := range p.accounts() {
				accounts[account] = true
			}
		}
		for _, account := range slices.Sorted(maps.Keys(accounts)) {
			list = append(list, openAccount{k, account})
		}
	}
	return list
}

// beginAgain has the open segment made again from the log, if it is still the one that begins
// there.
func (a *Archive) beginAgain(start store.Chain) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.start != start {
		return
	}
	a.begin()
	if a.again != nil {
		a.again()
	}
}
