package verify

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

const (
	// DefaultGuardIDs is how many handled events a Guard remembers by default.
	DefaultGuardIDs = 10_000
	// MaxGuardIDs is how many it can be told to remember.
	MaxGuardIDs = 10_000_000
)

// ErrBusy says that the same event is being handled at this moment. Whether that
// will succeed is not known yet, so it is to be sent again.
var ErrBusy = errors.New("webhook is being handled already")

// Guard tells events that come again from new ones, by their webhook-id.
//
// That an event comes again is no attack as such: keyledger sends it again until
// a 2xx reaches it, and a 2xx can be lost on the way. So a repeat is not refused.
// It is reported, and is to be answered 2xx like the first:
//
//   - An event is handled if it is new to the guard.
//   - Once it was handled without an error, it is a repeat whenever it comes, and
//     is not handled again.
//   - If handling failed or panicked, nothing is remembered: the next time it
//     comes it is new.
//   - While it is being handled, the same event is ErrBusy.
//
// The guard remembers the newest ids that were handled, so many and no more, in
// memory. An event is new again once as many others were handled after it, or
// after a restart, and the guards of two processes know nothing of each other.
// Against a stranger who sends a recorded request again, the ids of two tolerances
// of time suffice, for older requests do not verify; retries of keyledger come
// for about three days, and a replay that somebody asked for whenever it likes,
// with the same id: within the guard's memory it is a repeat. Where handling twice does harm, keep the ids with what the
// handling changes, in the same transaction; the guard then only saves work.
//
// An event that two endpoints are owed has one id: give each its own guard, where
// each is to handle it.
//
// It is safe for concurrent use.
type Guard struct {
	mu      sync.Mutex      // guards what follows
	busy    map[string]bool // one for each Do under way
	handled map[string]bool // the ids in ring
	ring    []string        // oldest at next, once it is full
	next    int
	size    int // the most that ring holds
}

// NewGuard makes a guard that remembers up to so many handled events; 0 stands
// for DefaultGuardIDs. An id such as keyledger makes takes about 120 bytes, the
// longest about 220.
func NewGuard(ids int) (*Guard, error) {
	if ids == 0 {
		ids = DefaultGuardIDs
	}
	if ids < 0 || ids > MaxGuardIDs {
		return nil, fmt.Errorf("make guard: %d ids, want up to %d", ids, MaxGuardIDs)
	}
	return &Guard{busy: map[string]bool{}, handled: map[string]bool{}, size: ids}, nil
}

// Do calls handle, unless the event with this id was handled before: then repeat
// is true. An error is ErrBusy, or handle's as it is.
func (g *Guard) Do(id string, handle func() error) (repeat bool, err error) {
	g.mu.Lock()
	switch {
	case g.handled[id]:
		g.mu.Unlock()
		return true, nil
	case g.busy[id]:
		g.mu.Unlock()
		return false, ErrBusy
	}
	g.busy[id] = true
	g.mu.Unlock()

	done := false // stays so if handle panics
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.busy, id)
		if done {
			g.remember(id)
		}
	}()
	err = handle()
	done = err == nil
	return false, err
}

// remember must be called with mu held.
func (g *Guard) remember(id string) {
	id = strings.Clone(id) // not all of the request's header with it
	g.handled[id] = true
	if len(g.ring) < g.size {
		g.ring = append(g.ring, id)
		return
	}
	delete(g.handled, g.ring[g.next])
	g.ring[g.next] = id
	g.next = (g.next + 1) % g.size
}
