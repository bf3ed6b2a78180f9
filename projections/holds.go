package projections

import (
	"errors"
	"fmt"
	"slices"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// holdIDPrefix is what every hold id begins with; a ULID follows.
const holdIDPrefix = "hold_"

// maxEndedHolds is how many holds that are over are kept of an account: those that ended
// last. All that ever were stand in the log.
const maxEndedHolds = 100

// holds is the view of holds, in one list for each account: all that are open, and the
// last that ended. An id is a command's, which an account chooses by itself, so a record
// is called <account>/<id>.
type holds struct {
	table[*events.Hold]
	ended map[string][]*record[*events.Hold] // of each account, in the order in which they ended
}

func newHolds() *holds {
	v := &holds{table: newTable[*events.Hold](), ended: map[string][]*record[*events.Hold]{}}
	v.leaves = true
	return v
}

// Name implements Projection.
func (v *holds) Name() string { return viewHolds }

// Version implements Projection.
func (v *holds) Version() uint64 { return 1 }

// Apply implements Projection. An event that does not follow from the one before it means
// that one was missed.
func (v *holds) Apply(_ *store.Commit, _ int, e *events.Event) error {
	d, ok := e.Data.(*events.Held)
	if !ok {
		return nil
	}
	if err := v.apply(e.Account, d); err != nil {
		return fmt.Errorf("%s of hold %s of account %s: %w", e.Type, d.ID, e.Account, err)
	}
	return nil
}

// Save implements Projection.
func (v *holds) Save(account string, b []byte) []byte {
	w := events.NewWriter(b)
	for _, r := range v.lists[account] {
		ended := uint64(1 + slices.Index(v.ended[account], r)) // 0: it is open
		w.Nested(r.value)
		w.Word(&r.value.Environment)
		w.Word(&r.value.Asset)
		w.Uint(&ended)
	}
	return w.Bytes()
}

// Load implements Projection.
func (v *holds) Load(account string, data []byte) error {
	var over [maxEndedHolds]*record[*events.Hold]
	count := 0
	err := saved(data, func(r *events.Coder) error {
		d, ended := &events.Hold{}, uint64(0)
		r.Nested(d)
		r.Word(&d.Environment)
		r.Word(&d.Asset)
		r.Uint(&ended)
		if ended > maxEndedHolds {
			return fmt.Errorf("hold %s ended as number %d of %d", d.ID, ended, maxEndedHolds)
		}
		one := v.place(account, holdName(account, d.ID), d.CreatedAt)
		one.value = d
		if ended > 0 {
			over[ended-1] = one
			count++
		}
		return nil
	})
	if err != nil || count == 0 {
		return err
	}
	if slices.Contains(over[:count], nil) {
		return errors.New("one of the holds that ended is missing")
	}
	v.ended[account] = slices.Clone(over[:count])
	return nil
}

func (v *holds) apply(account string, d *events.Held) error {
	name, before := holdName(account, d.ID), events.Hold{}
	r := v.byID[name]
	switch placed := d.Capture == nil && d.Status == events.Open; {
	case placed == (r != nil):
		return errors.New("it is placed once, and before all else")
	case placed:
		r = v.place(account, name, d.CreatedAt)
	case r.value.Status != events.Open:
		return errors.New("it was over before")
	default:
		before = *r.value
	}
	m, _ := events.Movements(d)
	held, captured := before.Held+m[0].Held, before.Captured
	if d.Capture != nil {
		captured += d.Capture.Amount
	}
	if d.Hold.Held != held || d.Hold.Captured != captured || events.Total(d.Reserved) != held {
		return fmt.Errorf("it leaves %d held, %d of that in grants, and %d captured, and comes to %d and %d",
			d.Hold.Held, events.Total(d.Reserved), d.Hold.Captured, held, captured)
	}
	after := d.Hold
	r.value = &after
	if after.Status != events.Open {
		v.end(account, r)
	}
	return nil
}

// end notes that a hold is over, and lets the one go that has been for longest where there
// are too many.
func (v *holds) end(account string, r *record[*events.Hold]) {
	list := append(v.ended[account], r)
	if len(list) > maxEndedHolds {
		v.remove(account, list[0])
		list = slices.Delete(list, 0, 1)
	}
	v.ended[account] = list
}

// holdName is what a hold's record is called.
func holdName(account, id string) string { return account + "/" + id }

// holdResult answers hold.get.
type holdResult struct {
	Hold *events.Hold `json:"hold"`
}

// holdsResult answers hold.list.
type holdsResult struct {
	Holds      []*events.Hold `json:"holds"`
	NextCursor *string        `json:"next_cursor"`
}

// holdBody is the body of hold.get.
type holdBody struct {
	Hold string `json:"hold"`
}

// holdListBody is the body of hold.list.
type holdListBody struct {
	page
	Environment string `json:"environment"`
	Status      string `json:"status"`
	Key         string `json:"key"`
}

func (v *Views) getHold(account string, body *holdBody) (any, *events.Error) {
	if err := wantID("hold", holdIDPrefix, body.Hold); err != nil {
		return nil, err
	}
	if _, err := v.accounts.get(account); err != nil {
		return nil, err
	}
	r := v.holds.byID[holdName(account, body.Hold)]
	if r == nil {
		return nil, events.Errorf(events.NotFound, "account %s has no hold %s, or it is over: of those, only the last %d are kept, and all stand in the log",
			account, body.Hold, maxEndedHolds).With("kept", maxEndedHolds)
	}
	return holdResult{r.value}, nil
}

// listHolds lists what is kept: all that are open, and the last that ended.
func (v *Views) listHolds(account string, body *holdListBody) (any, *events.Error) {
	if err := oneOf("environment", body.Environment, events.Test, events.Live); err != nil {
		return nil, err
	}
	if err := oneOf("status", body.Status, events.Open, events.Captured, events.Released, events.Lapsed); err != nil {
		return nil, err
	}
	if body.Key != "" {
		if err := wantID("key", keyIDPrefix, body.Key); err != nil {
			return nil, err
		}
	}
	if _, err := v.accounts.get(account); err != nil {
		return nil, err
	}
	list, next, err := v.holds.list(account, &body.page, func(h *events.Hold) bool {
		return (body.Environment == "" || h.Environment == body.Environment) &&
			(body.Status == "" || h.Status == body.Status) &&
			(body.Key == "" || h.Key == body.Key)
	})
	if err != nil {
		return nil, err
	}
	return holdsResult{list, next}, nil
}
