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
		if !w.roomForDue() {
			return
		}
		list := w.state.Due(w.open.commit.Time)
		if list == nil || !w.addDue(list) {
			return
		}
	}
}

// meetDue adds what is due of an account, before a command of it is decided. It returns
// false where the command cannot be decided now: the group has no room for what is due,
// and the command's turn comes in the next one, or the log has none, and it is refused. An
// account with very much due is brought up to date over several groups.
func (w *Writer) meetDue(p *pending, account string) bool {
	for {
		list := w.state.DueOf(account, w.open.commit.Time)
		if list == nil {
			return true
		}
		if p.reply.Err = w.refuseMore(maxEntryBytes); p.reply.Err != nil {
			return false
		}
		if !w.roomForDue() || !w.addDue(list) {
			w.open.closed = true
			return false
		}
	}
}

// roomForDue says whether whatever is due next fits in the group and in the log.
func (w *Writer) roomForDue() bool {
	return !w.open.full() && len(w.open.entries) <= maxGroupBytes-maxEntryBytes && w.refuseMore(maxEntryBytes) == nil
}

func (w *Writer) addDue(list []events.Event) bool {
	return w.add(store.Entry{
		CommandID: ulid.Make(), Command: commandTimer, Account: list[0].Account, Actor: actorSelf,
		Outcome: events.OK, Events: list,
	}) == nil
}
