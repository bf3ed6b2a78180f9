package webhooks

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// crowd is a rig with endpoints of two kinds: those that are always well, and others that
// answer, break off, or hang for ever, as they are told to.
type crowd struct {
	*rig
	well, ill   *receiver
	wells, ills int
	mood        atomic.Int32
}

// Moods of the ill.
const (
	moodWell = iota
	moodBreak
	moodHang
)

func newCrowd(t *testing.T, wells, ills int) *crowd {
	t.Helper()
	w := &crowd{rig: newRig(t), wells: wells, ills: ills, well: newReceiver(t, nil)}
	w.ill = newReceiver(t, func(http.ResponseWriter, *received, int) int {
		switch w.mood.Load() {
		case moodBreak:
			panic(http.ErrAbortHandler)
		case moodHang:
			<-t.Context().Done()
		}
		return http.StatusOK
	})
	w.commit(opened("acme"))
	w.join("well", w.well, wells)
	w.join("ill", w.ill, ills)
	return w
}

// join registers endpoints.
func (w *crowd) join(name string, to *receiver, n int) {
	for i := range n {
		w.add(fmt.Sprintf("endpoint_%s_%d", name, i), to)
	}
}

// few is slots for a handful, so that it shows who takes whose, and attempts that end with
// the test only.
func (w *crowd) few(c *Config) {
	c.FirstSlots, c.RetrySlots, c.UnsureSlots, c.SilentSlots, c.SlowSlots = 8, 2, 4, 3, 4096
	c.Client = newClient(w.t, within(MaxTimeout))
}

// all waits until the healthy ones got n events each.
func (w *crowd) all(n int) {
	w.t.Helper()
	w.well.requests(n * w.wells)
}

// Endpoints that begin to hang give their slots back: the others get what they are owed while
// not one of the attempts that hang has ended.
func TestEndpointsThatBeginToHangHoldUpNobody(t *testing.T) {
	w := newCrowd(t, 100, 200)
	d := w.start(w.few, func(c *Config) { c.SlowAfter = 20 * time.Millisecond })
	w.commit(debits(1)...)
	d.idle()
	w.mood.Store(moodHang)
	w.commit(debits(20)...)
	w.all(21)
	d.see("all that hang have given their slots back", func() bool {
		s := d.slots()
		return s.Slow >= w.ills && s.First+s.Later+s.Unsure == 0
	})
	if s := d.Stats(); s.InFlight != s.Slots.under() || s.Slots.Silent != 0 {
		t.Errorf("stats %+v", s)
	}
}

// Endpoints that are known not to answer share few slots of their own, for first and later
// tries alike, and those of the others stay free.
func TestSilentEndpointsHaveTheirOwnSlots(t *testing.T) {
	w := newCrowd(t, 30, 100)
	w.mood.Store(moodBreak)
	d := w.start(w.few, w.onClock())
	w.commit(debits(1)...)
	w.all(1)
	d.see("a hundred are silent", func() bool {
		n := 0
		for _, l := range d.lanes {
			if l.manner == mannerSilent && l.firsts == 0 && len(l.waiting) == 1 {
				n++
			}
		}
		return n == w.ills
	})
	w.mood.Store(moodHang)
	w.well.answers(func(_ http.ResponseWriter, _ *received, tries int) int {
		if tries == 1 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	w.commit(debits(3)...)
	for i := range w.wells {
		d.waiting(fmt.Sprintf("endpoint_well_%d", i), 3)
	}
	w.clock.advance(DefaultDelays()[1])
	w.well.requests(7 * w.wells) // later tries of the healthy ones, beside those of the others
	d.see("the silent ones have their slots, one each", func() bool {
		for _, l := range d.lanes {
			if l.firsts+l.agains > 1 {
				return false
			}
		}
		return d.slots() == Slots{Silent: 3}
	})
}

// Endpoints that are new wait among themselves, and hang without those that are known to answer.
func TestNewEndpointsWaitAmongThemselves(t *testing.T) {
	w := newCrowd(t, 20, 0)
	d := w.start(w.few)
	w.commit(debits(1)...)
	d.idle()
	w.mood.Store(moodHang)
	w.join("ill", w.ill, 50)
	w.commit(debits(20)...)
	w.all(21)
	d.see("they hang", func() bool { return d.slots() == Slots{Unsure: 4} })
}

// Slow slots are bounded, and a quarter is kept from endpoints that are new: an attempt beyond
// them keeps its slot.
func TestSlowSlotsAreBounded(t *testing.T) {
	w := newCrowd(t, 0, 20)
	d := w.start(w.few, func(c *Config) { c.SlowSlots, c.SlowAfter = 8, time.Millisecond })
	w.mood.Store(moodHang)
	w.commit(debits(1)...)
	late := func() (n int) {
		for _, l := range d.lanes {
			n += l.late
		}
		return n
	}
	d.see("six that are new", func() bool { return d.slots() == Slots{Unsure: 4, Slow: 6} && late() == 10 })
	d.mu.Lock()
	for _, l := range d.lanes {
		if l.firsts == 0 {
			l.manner = mannerPrompt
		}
	}
	d.mu.Unlock()
	w.commit(debits(1)...)
	d.see("two more", func() bool { return d.slots() == Slots{First: 8, Unsure: 4, Slow: 8} && late() == 20 })
}

// An endpoint is prompt from a prompt answer on, until an attempt takes too long.
func TestMannerOfALane(t *testing.T) {
	w := newCrowd(t, 1, 0)
	gate := make(chan struct{})
	w.well.answers(func(_ http.ResponseWriter, got *received, _ int) int {
		if got.sequence == numberText(2) {
			w.well.hold(gate)
		}
		return http.StatusOK
	})
	d := w.start(w.few, func(c *Config) { c.SlowAfter = 50 * time.Millisecond })
	l := d.lanes["endpoint_well_0"]
	d.see("unsure at the start", func() bool { return l.manner == mannerUnsure && l.width == 1 })
	w.commit(debits(1)...)
	d.see("prompt", func() bool { return l.manner == mannerPrompt && l.width == laneWidth+1 })
	w.commit(debits(1)...)
	d.see("late", func() bool { return l.manner == mannerUnsure && l.width == 1 && d.slots() == Slots{Slow: 1} })
	close(gate)
	d.see("answered late", func() bool { return l.manner == mannerUnsure && l.width == 2 && d.slots() == Slots{} })
	w.commit(debits(1)...)
	d.see("prompt again", func() bool { return l.manner == mannerPrompt && l.width == 3 && l.late == 0 })
	other := &lane{late: 1, manner: mannerUnsure, width: 1}
	if other.judge(&flight{}); other.manner != mannerUnsure || other.width != 1 {
		t.Error("an answer makes an endpoint prompt while another attempt at it hangs")
	}
}

// After a restart an endpoint that did not answer is known for it.
func TestSilentAfterARestart(t *testing.T) {
	w := newCrowd(t, 1, 1)
	w.mood.Store(moodBreak)
	d := w.start(w.few)
	w.commit(debits(1)...)
	d.waiting("endpoint_ill_0", 1)
	w.all(1)
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	d = w.start(w.few)
	d.see("what the checkpoint tells", func() bool {
		return d.lanes["endpoint_ill_0"].manner == mannerSilent && d.lanes["endpoint_well_0"].manner == mannerUnsure
	})
}
