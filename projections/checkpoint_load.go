package projections

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// accountOpened is the first event of every account.
const accountOpened = "account.opened"

const (
	// restorePatience is how long looking up one commit may take, as in the writer.
	restorePatience = 30 * time.Second
	// loadTurn is how many accounts the loader loads under one lock: about 100 µs.
	loadTurn = 16
)

// unread is what a checkpoint holds and the projections have not taken in: an account is
// loaded when the first event or question comes to it, and by the loader. The file's bytes
// and about 80 bytes an account stay in memory until all are; what is loaded comes on top.
type unread struct {
	data   []byte
	index  map[string]uint32 // account to its number
	at     []uint64          // where in data its section begins, 0 once it is loaded
	stamps []uint64          // the last commit that its section reflects
	end    uint64            // the highest stamp: from there on the projections are whole
}

// listing is a projection with one list of all accounts. Accounts are loaded in any order,
// so the list is made when the loader comes by, in the order in which they were opened.
type listing interface {
	// listLater says that accounts are loaded from now on, and not to be listed.
	listLater()
	// listNow lists one, in its turn. Where listLater was not called it does nothing.
	listNow(account string)
	// listed says that all are listed, and that new ones are to be from now on.
	listed()
}

// piece returns what a projection, given by its place in the file, saved of an account that
// is not loaded, given by its number.
func (u *unread) piece(account, projection int) []byte {
	section, _, _ := cutPiece(u.data[u.at[account]:])
	_, w := binary.Uvarint(section)
	piece, rest := []byte(nil), section[w:]
	for range 1 + projection + 1 { // the account stands before them
		piece, rest, _ = cutPiece(rest)
	}
	return piece
}

// Restore takes over the newest checkpoint that is whole and stands on the log, for Run to
// go on from. Without one Run begins with the log. It may run beside the writer's takeover:
// what it takes over it looks up in the log itself.
func (r *Runner) Restore(ctx context.Context) {
	if r.saving.Dir == "" {
		return
	}
	names, _, err := checkpointNames(r.saving.Dir, r.applied.Partition)
	if err != nil {
		r.log.Warn("cannot look for saved views: the whole log takes their place", "error", err)
	}
	for _, name := range names {
		began := time.Now()
		f, err := openCheckpoint(filepath.Join(r.saving.Dir, name), r.applied.Partition)
		if err == nil {
			err = errors.Join(r.restore(ctx, f), f.file.Close())
		}
		if ctx.Err() != nil {
			return // stopping: no fault of the file's
		}
		if err != nil {
			r.log.Warn("skip saved views: older ones or the whole log take their place", "checkpoint", name, "error", err)
			continue
		}
		took := time.Since(began).Milliseconds()
		r.saved(name, &f.checkpointHeader, f.size, took)
		r.log.Info("read saved views", "checkpoint", name, "accounts", f.accounts, "bytes", f.size, "took_ms", took)
		return
	}
}

// restore takes over one file. Nothing of it is used unless all of it is good.
func (r *Runner) restore(ctx context.Context, f *checkpointFile) error {
	places := make([]int, len(r.slots))
	var missing []string
	for i := range r.slots {
		for j, p := range f.projections {
			if p == (savedProjection{r.slots[i].Name(), r.slots[i].Version()}) {
				places[i] = j + 1
			}
		}
		if places[i] == 0 {
			missing = append(missing, fmt.Sprintf("%s version %d", r.slots[i].name, r.slots[i].Version()))
		}
	}
	if len(missing) == len(r.slots) {
		return fmt.Errorf("it has none of %s", strings.Join(missing, ", "))
	}
	if err := r.standsOnLog(ctx, f); err != nil {
		return err
	}
	u, names, err := f.read()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unread, r.known, r.applied = u, names, f.base
	for i := range r.slots {
		r.slots[i].saved = places[i]
		if places[i] == 0 {
			// New, of another version, or it had failed: Run makes it from the log's beginning,
			// beside the others, which serve.
			r.makeLater(&r.slots[i])
			continue
		}
		if l, ok := r.slots[i].Projection.(listing); ok {
			l.listLater()
		}
	}
	r.moveTo(r.applied.Sequence)
	if len(missing) > 0 {
		r.log.Warn("saved views lack projections: they are made from the log; until they are there their queries are unavailable",
			"projections", strings.Join(missing, ", "))
	}
	return nil
}

// standsOnLog says what is wrong with a file whose base or end is not in the log as it was.
func (r *Runner) standsOnLog(ctx context.Context, f *checkpointFile) error {
	ctx, cancel := context.WithTimeout(ctx, restorePatience)
	defer cancel()
	base := f.base
	if base.Partition != r.applied.Partition {
		return fmt.Errorf("it is of partition %d", base.Partition)
	}
	c, err := commitAt(ctx, r.tail, base.Partition, base.Sequence)
	switch {
	case err != nil:
		return fmt.Errorf("look up its base %s: %w", base.Position(), err)
	case store.ChainAt(c) != base:
		return fmt.Errorf("it begins at commit %s with hash %s, the log holds %s there", base.Position(), base.Hash, c.Hash)
	}
	if c, err = commitAt(ctx, r.tail, base.Partition, f.end.sequence); err != nil {
		return fmt.Errorf("look up its end %d: %w", f.end.sequence, err)
	}
	if c.Hash != f.end.hash {
		return fmt.Errorf("it ends at commit %d with hash %s, the log holds %s there", f.end.sequence, f.end.hash, c.Hash)
	}
	return nil
}

// ahead says whether some accounts may be ahead of the others: applied is between a
// checkpoint's base and its end. mu must be held.
func (r *Runner) ahead() bool { return r.unread != nil && r.applied.Sequence < r.unread.end }

// prepare loads the accounts that a commit changes, notes those that it opens, and says
// which of its events the checkpoint has: nil for none. mu must be held.
func (r *Runner) prepare(c *store.Commit) []bool {
	u := r.unread
	r.skip = r.skip[:0]
	for e := range eventsOf(c) {
		if u != nil {
			i, found := u.index[e.Account]
			skip := found && c.Sequence <= u.stamps[i]
			r.skip = append(r.skip, skip)
			if skip {
				continue
			}
			if found {
				r.load(int(i))
			}
		}
		if e.Type == accountOpened {
			r.known = append(r.known, e.Account)
		}
	}
	if u == nil || c.Sequence > u.end {
		return nil
	}
	return r.skip
}

// takeIn loads an account unless it is. mu must be held.
func (r *Runner) takeIn(account string) {
	if r.unread == nil {
		return
	}
	if i, found := r.unread.index[account]; found {
		r.load(int(i))
	}
}

// lockLoaded takes mu for reading while accounts are loaded.
func (r *Runner) lockLoaded(accounts []string) {
	r.mu.RLock()
	for _, account := range accounts {
		if u := r.unread; u != nil {
			if i, found := u.index[account]; found && u.at[i] != 0 {
				r.mu.RUnlock()
				r.mu.Lock()
				r.takeIn(account)
				r.mu.Unlock()
				r.mu.RLock()
			}
		}
	}
}

// load hands each projection what it saved of an account, given by its number, once. mu
// must be held.
func (r *Runner) load(account int) {
	u := r.unread
	if u == nil || account >= len(u.at) || u.at[account] == 0 {
		return
	}
	for i := range r.slots {
		s := &r.slots[i]
		if s.saved == 0 || s.failure != nil {
			continue
		}
		if err := loadOne(s.Projection, r.known[account], u.piece(account, s.saved-1)); err != nil {
			r.fail(s, &failure{r.applied, r.applied.Position(), fmt.Errorf("load account %s: %w", r.known[account], err)})
		}
	}
	u.at[account] = 0
}

// loadOne makes a panic a failure too, as foldOne does.
func loadOne(p Projection, account string, piece []byte) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	if len(piece) == 0 {
		return nil
	}
	return p.Load(account, piece)
}

// loadRest loads what nobody has asked for: once the projections have come to where the
// log ended at the start, with half of a core at the most, and without a pause from when
// somebody waits for all. Then the file's bytes are let go.
func (r *Runner) loadRest(ctx context.Context) error {
	r.mu.RLock()
	u := r.unread
	r.mu.RUnlock()
	if u == nil {
		return nil
	}
	if err := r.Wait(ctx, max(u.end, r.tail.End().Sequence)); err != nil {
		return nil // ctx ended
	}
	hurry := false
	for begun := time.Now(); !r.loadSome(); begun = time.Now() {
		if hurry {
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		select {
		case <-time.After(time.Since(begun)):
		case <-r.hurry:
			hurry = true
		case <-ctx.Done():
			return nil
		}
	}
	r.log.Info("loaded all saved views", "accounts", len(u.at))
	return nil
}

// loadSome takes one turn of the loader and says whether it was the last.
func (r *Runner) loadSome() (done bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range loadTurn {
		if r.listed == len(r.known) {
			done = true
			break
		}
		r.load(r.listed)
		r.each(func(l listing) { l.listNow(r.known[r.listed]) })
		r.listed++
	}
	if done {
		r.each(listing.listed)
		r.unread = nil
		close(r.loaded)
	}
	return done
}

// each calls f with the projections that list all accounts.
func (r *Runner) each(f func(listing)) {
	for i := range r.slots {
		if l, ok := r.slots[i].Projection.(listing); ok {
			f(l)
		}
	}
}

// awaitLoaded returns once every account is loaded.
func (r *Runner) awaitLoaded(ctx context.Context) *events.Error {
	r.mu.RLock()
	done := r.unread == nil
	r.mu.RUnlock()
	if done {
		return nil
	}
	signal(r.hurry)
	select {
	case <-r.loaded:
		return nil
	case <-ctx.Done():
		r.mu.RLock()
		defer r.mu.RUnlock()
		return events.Errorf(events.Unavailable, "the views are being read after a start, %d of %d accounts so far: try again", r.listed, len(r.known)).
			With("accounts", len(r.known)).With("read", r.listed)
	}
}

// accountsFrom returns up to n accounts in the order in which they were opened, and whether
// more follow.
func (r *Runner) accountsFrom(start, n int) (accounts []string, more bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	end := min(start+n, len(r.known))
	return r.known[start:end:end], end < len(r.known)
}
