package writer

import (
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	// maxDue is how many entries of one commit time alone may bring about: a million keys
	// that expire at once hold nobody up.
	maxDue = 200
	// actorSelf and commandTimer are the actor and the command of such an entry.
	actorSelf, commandTimer = "keyledger", "timer"
)

// fireDue adds what time alone brings about to the open group, before any command of
// that time. It is a function of the state and the commit's time: what fell due while no
// writer ran comes with the first group after the start. If we stop before the group is
// acknowledged, the state that is folded again gives the same events again.
func (w *Writer) fireDue() {
	if w.clock.off != 0 {
		return
	}
	for range maxDue {
		if w.open.full() || len(w.open.entries) > maxGroupBytes-maxEntryBytes || w.refuseMore(maxEntryBytes) != nil {
			return // what is taken must fit; there will be a group and room for it
		}
		event, ok := w.state.Due(w.open.commit.Time)
		if !ok {
			return
		}
		err := w.add(store.Entry{
			CommandID: ulid.Make(), Command: commandTimer, Account: event.Account, Actor: actorSelf,
			Outcome: events.OK, Events: []events.Event{event},
		})
		if err != nil { // the log filled up this moment
			w.state.Undue(&event)
			return
		}
	}
}
