package ledger

import (
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

const holdIDPrefix = "hold_"

// hold is an open hold. Which grants pay it is fixed when it is placed, so that no expiry
// and no other debit can take what was set aside.
type hold struct {
	id                   ulid.ULID
	place                balanceID
	amount, captured     int64
	key, reference       string
	expiresAt, createdAt events.Time
	reserved             []events.Draw // never written to
}

// data returns the hold as an event or an answer holds it.
func (h *hold) data() events.Hold {
	return events.Hold{
		ID: prefixed(holdIDPrefix, h.id), Environment: h.place.environment, Asset: h.place.asset,
		Amount: h.amount, Captured: h.captured, Held: total(h.reserved), Status: events.Open,
		Key: h.key, Reference: h.reference, ExpiresAt: h.expiresAt, CreatedAt: h.createdAt, Reserved: h.reserved,
	}
}

func newHold(id ulid.ULID, d *events.Held) *hold {
	return &hold{
		id: id, place: balanceID{d.Environment, d.Asset}, amount: d.Amount, captured: d.Hold.Captured, key: d.Key,
		reference: d.Reference, expiresAt: d.ExpiresAt, createdAt: d.CreatedAt, reserved: d.Reserved,
	}
}

// hold returns an open hold, nil where there is none.
func (a *Account) hold(id ulid.ULID) *hold {
	if a.more == nil {
		return nil
	}
	if i, found := a.more.findHold(id); found {
		return a.more.holds[i]
	}
	return nil
}

func (m *more) findHold(id ulid.ULID) (int, bool) {
	return slices.BinarySearchFunc(m.holds, id, func(h *hold, id ulid.ULID) int { return h.id.Compare(id) })
}

// PlaceHold is hold.place.
type PlaceHold struct {
	Environment string `json:"environment"`
	Asset       string `json:"asset"`
	Amount      int64  `json:"amount"`
	ExpiresIn   string `json:"expires_in"` // a Go duration such as "15m"
	Key         string `json:"key"`
	Reference   string `json:"reference"`
}

// Validate implements Command.
func (c *PlaceHold) Validate() *events.Error {
	var check checks
	check.environment(c.Environment)
	check.asset(c.Asset)
	check.amount(c.Amount)
	d, err := time.ParseDuration(c.ExpiresIn)
	check.that(err == nil, "expires_in must be a duration such as 15m or 1h30m")
	check.that(d > 0 && d <= maxHoldTime, "expires_in must be more than 0 and at most %dh", int64(maxHoldTime/time.Hour))
	if c.Key != "" {
		check.key(c.Key)
	}
	check.text("reference", c.Reference, 0, maxReferenceChars)
	return check.err
}

// expiry is when the hold ends by itself: never sooner than was asked for.
func (c *PlaceHold) expiry(now events.Time) events.Time {
	d, _ := time.ParseDuration(c.ExpiresIn) // by Validate
	return now + events.Time((d+time.Millisecond-1)/time.Millisecond)
}

// Decide implements Command.
func (c *PlaceHold) Decide(in *Input) (Decision, *events.Error) {
	class, err := in.spendingKey(c.Key, c.Environment, c.Asset)
	if err != nil {
		return Decision{}, err
	}
	if err := in.inEnvironment(c.Environment); err != nil {
		return Decision{}, err
	}
	if m := in.Account.more; m != nil && len(m.holds) >= maxHolds {
		return Decision{}, events.Errorf(events.LimitExceeded, "account %s has %d open holds, the most it may have; capture or release one first", in.AccountID, maxHolds).
			With("limit", maxHolds)
	}
	place := balanceID{c.Environment, c.Asset}
	if held := in.Account.balance(place).held; c.Amount > MaxAmount-held {
		return Decision{}, events.Errorf(events.LimitExceeded, "what is held would pass %d", int64(MaxAmount)).With("limit", int64(MaxAmount))
	}
	taken, err := in.take(place, c.Amount, class)
	if err != nil {
		return Decision{}, err
	}
	if len(taken.drawn) > maxReserved {
		return Decision{}, events.Errorf(events.LimitExceeded, "the hold would draw from %d grants, at most %d are allowed; hold less at once", len(taken.drawn), maxReserved).
			With("limit", maxReserved)
	}
	return Decision{Events: taken.hold(in, c)}, nil
}

// hold is the events of setting it aside.
func (t *taken) hold(in *Input, c *PlaceHold) []events.Event {
	after := t.after
	after.Held += t.amount
	after.Available -= t.amount
	d := &events.Held{Hold: events.Hold{
		ID: prefixed(holdIDPrefix, in.CommandID), Environment: c.Environment, Asset: c.Asset,
		Amount: c.Amount, Held: c.Amount, Status: events.Open, Key: c.Key, Reference: c.Reference,
		ExpiresAt: c.expiry(in.Time), CreatedAt: in.Time, Reserved: t.drawn,
	}, Balance: after}
	return t.events(in, events.Event{
		Type: "hold.placed", Account: in.AccountID, Environment: c.Environment, Subject: d.ID, Data: d,
	}, &after)
}

// CaptureHold is hold.capture. It may come again and again until nothing is held.
type CaptureHold struct {
	Hold   string `json:"hold"`
	Amount *int64 `json:"amount,omitzero"` // nil: all that is still held
}

// Validate implements Command.
func (c *CaptureHold) Validate() *events.Error {
	var check checks
	check.hold(c.Hold)
	if c.Amount != nil {
		check.amount(*c.Amount)
	}
	return check.err
}

// Decide implements Command.
func (c *CaptureHold) Decide(in *Input) (Decision, *events.Error) {
	h, err := in.openHold(c.Hold)
	if err != nil {
		return Decision{}, err
	}
	held := total(h.reserved)
	amount := held
	if c.Amount != nil {
		amount = *c.Amount
	}
	if amount > held {
		return Decision{}, events.Errorf(events.FailedPrecondition, "hold %s still holds %d, %d cannot be captured", c.Hold, held, amount).
			With("held", held)
	}
	d := events.Held{Hold: h.data()}
	p := &events.Capture{Debit: prefixed(debitIDPrefix, in.CommandID), Amount: amount, CreatedAt: in.Time}
	p.Drawn, d.Reserved = cut(h.reserved, amount)
	d.Capture, d.Hold.Captured, d.Hold.Held = p, h.captured+amount, held-amount
	if d.Hold.Held == 0 {
		d.Status = events.Captured
	}
	d.Balance = in.Account.balance(h.place).after(h.place, -amount, -amount)
	return one(in, "hold.captured", d.Environment, d.ID, &d)
}

// cut parts a list of draws so that the first part is an amount.
func cut(list []events.Draw, amount int64) (first, rest []events.Draw) {
	for i, d := range list {
		part := min(d.Amount, amount)
		amount -= part
		if left := d.Amount - part; left > 0 {
			if d.Amount = part; part > 0 {
				first = append(first, d)
			}
			d.Amount = left
			return first, append([]events.Draw{d}, list[i+1:]...)
		}
		first = append(first, d)
	}
	return first, nil
}

// ReleaseHold is hold.release.
type ReleaseHold struct {
	Hold string `json:"hold"`
}

// Validate implements Command.
func (c *ReleaseHold) Validate() *events.Error {
	var check checks
	check.hold(c.Hold)
	return check.err
}

// Decide implements Command.
func (c *ReleaseHold) Decide(in *Input) (Decision, *events.Error) {
	h, err := in.openHold(c.Hold)
	if err != nil {
		return Decision{}, err
	}
	return Decision{Events: h.end(in, in.Time, events.Released, "hold.released")}, nil
}

// hold checks the form of a hold's id.
func (c *checks) hold(id string) {
	text, ok := strings.CutPrefix(id, holdIDPrefix)
	_, err := ulid.ParseStrict(text)
	c.that(ok && err == nil, "hold must be a hold id such as hold_01J…")
}

// openHold finds the hold that a command is about, by an id that was checked.
func (in *Input) openHold(id string) (*hold, *events.Error) {
	parsed, _ := ulid.ParseStrict(strings.TrimPrefix(id, holdIDPrefix))
	if h := in.Account.hold(parsed); h != nil {
		return h, nil
	}
	return nil, events.Errorf(events.NotFound, "account %s has no open hold %s; it may have been captured or released, or its time may be over", in.AccountID, id)
}

// expire is the end of a hold's time. It gives back as of that time, however late it is
// looked at: what expires after it is there again, to expire by itself.
func (h *hold) expire(in *Input) []events.Event {
	return h.end(in, h.expiresAt, events.Lapsed, "hold.expired")
}

// end gives back what is still held, as of a time: to what is owed, and to the grants it
// was reserved from. What was reserved from a grant or an allowance whose time is over
// goes with it, and so does what the allowance has no more since the plan changed; what was
// owed for it and was paid since is a grant of its own.
func (h *hold) end(in *Input, at events.Time, status, eventType string) []events.Event {
	b := in.Account.balance(h.place)
	d := events.Held{Hold: h.data()}
	held := d.Held
	d.Status, d.Hold.Held, d.Reserved = status, 0, nil
	var live, homeless []events.Draw
	for _, part := range h.reserved {
		if part.ExpiresAt != 0 && part.ExpiresAt <= at {
			d.Lapsed = append(d.Lapsed, part)
		} else {
			live = append(live, part)
		}
	}
	d.Returned, homeless = b.giveBack(live, at)
	for _, lost := range homeless {
		if lost.Grant == events.OverdraftGrant {
			d.Returned = append(d.Returned, events.Draw{Grant: prefixed(grantIDPrefix, h.id), Amount: lost.Amount})
			continue
		}
		back := lost
		if back.Amount = b.lifts(&lost, at); back.Amount > 0 {
			d.Returned = append(d.Returned, back)
		}
		if lost.Amount -= back.Amount; lost.Amount > 0 {
			d.Lapsed = append(d.Lapsed, lost)
		}
	}
	d.Balance = b.after(h.place, -total(d.Lapsed), -held)
	return []events.Event{{
		Type: eventType, Account: in.AccountID, Environment: h.place.environment, Subject: d.ID, Data: &d,
	}}
}

// appendHeld appends the members of a result: the hold, what a capture took, where the
// rest of it went to, and the balance.
func appendHeld(b []byte, d *events.Held) ([]byte, error) {
	b, err := events.AppendJSON(append(b, `{"hold":`...), &d.Hold)
	member := func(name string, there bool, v any) {
		if there && err == nil {
			b, err = events.AppendJSON(append(b, `,"`+name+`":`...), v)
		}
	}
	member("capture", d.Capture != nil, d.Capture)
	member("returned", len(d.Returned) > 0, d.Returned)
	member("lapsed", len(d.Lapsed) > 0, d.Lapsed)
	member("balance", true, &d.Balance)
	return b, err
}

func (st *State) evolveHeld(account string, d *events.Held) {
	a := st.account(account)
	id, err := ulid.ParseStrict(d.ID[min(len(holdIDPrefix), len(d.ID)):])
	if a == nil || err != nil {
		return
	}
	var drawn []events.Draw
	i, found := a.extra().findHold(id)
	switch {
	case d.Status != events.Open:
		if found {
			a.more.holds = slices.Delete(a.more.holds, i, i+1)
		}
	case found:
		h := *a.more.holds[i]
		h.captured, h.reserved = d.Hold.Captured, d.Reserved
		a.more.holds[i] = &h
	default:
		drawn = d.Reserved
		a.more.holds = slices.Insert(a.more.holds, i, newHold(id, d))
		st.setDue(a, due{at: d.ExpiresAt, kind: dueHold, id: id})
	}
	st.evolveLapsed(a, d)
	st.moved(account, &d.Balance, drawn, d.Returned, false)
}

// evolveLapsed folds what a hold gives up of the allowance of the period that runs, since
// more was spent of it than there is to have by now: it is not spent any more.
func (st *State) evolveLapsed(a *Account, d *events.Held) {
	al := a.balance(balanceID{d.Environment, d.Asset}).allowance
	if al == nil {
		return
	}
	for i := range d.Lapsed {
		if l := &d.Lapsed[i]; l.Grant == events.AllowanceGrant && l.ExpiresAt == al.until {
			al.spent = max(al.spent-l.Amount, min(al.spent, al.amount))
		}
	}
}
