package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// checkBalances holds every balance against what it is made of: posted is what is left of
// grants and allowance, and what is reserved, less what is owed.
func checkBalances(t fataler, st *State) {
	for _, a := range st.order {
		reserved := map[balanceID]int64{}
		if a.more != nil {
			for _, h := range a.more.holds {
				reserved[h.place] += total(h.reserved)
			}
		}
		for i := range a.balances {
			b, id := &a.balances[i], a.balances[i].id.Value()
			left := b.allowance.remaining()
			for _, g := range b.grants {
				left += g.remaining
			}
			if b.posted != left+reserved[id]-b.owed() || b.held != reserved[id] {
				t.Fatalf("%s %v: posted %d and held %d, with %d left, %d reserved and %d owed", a.ID, id, b.posted, b.held, left, reserved[id], b.owed())
			}
			if b.owed() > 0 && left > 0 {
				t.Fatalf("%s %v: %d owed with %d left", a.ID, id, b.owed(), left)
			}
			if b.posted > MaxAmount || b.held > MaxAmount {
				t.Fatalf("%s %v: posted %d, held %d", a.ID, id, b.posted, b.held)
			}
			delete(reserved, id)
		}
		if len(reserved) > 0 {
			t.Fatalf("%s holds %v in balances that it has not", a.ID, reserved)
		}
	}
}

// moves is by how much an event changes posted.
func moves(d events.Data) (place balanceID, after *events.Balance, by int64) {
	switch d := d.(type) {
	case *events.Granted:
		after, by = &d.Balance, d.Amount
	case *events.Debited:
		after, by = &d.Balance, -d.Amount
	case *events.Adjusted:
		after, by = &d.Balance, d.Amount
	case *events.Transferred:
		if after, by = &d.Balance, d.Amount; d.Drawn != nil {
			by = -by
		}
	case *events.Expired:
		after, by = &d.Balance, -d.Amount
	case *events.Replenished:
		after, by = &d.Balance, d.Remaining+d.OverdraftPaid-d.Before
	case *events.Held:
		if after = &d.Balance; d.Capture != nil {
			by = -d.Capture.Amount
		}
		by -= total(d.Lapsed)
	default:
		return place, nil, 0
	}
	return balanceID{after.Environment, after.Asset}, after, by
}

// holdWorld is random commands on two accounts, over days.
type holdWorld struct {
	st    *State
	now   events.Time
	count uint64
	holds map[string]*events.Hold // as the events tell it
	open  []string
}

// fold folds events as the log has them, and checks what each does to posted.
func (w *holdWorld) fold(t *rapid.T, list []events.Event) {
	for _, e := range decoded(t, list) {
		place, after, by := moves(e.Data)
		before := int64(0)
		if a := w.st.accounts[e.Account]; a != nil && after != nil {
			before = a.balance(place).posted
		}
		if after != nil && before+by != after.Posted {
			t.Fatalf("%s of %s moves posted by %d, from %d to %d", e.Type, e.Account, by, before, after.Posted)
		}
		if d, ok := e.Data.(*events.Held); ok {
			w.held(t, d)
		}
		w.st.Evolve(&e)
		checkBalances(t, w.st)
		if a := w.st.accounts[e.Account]; a.balance(place).available() < -a.overdraft(place.asset) {
			t.Fatalf("%s of %s leaves it with %d", e.Type, e.Account, a.balance(place).available())
		}
	}
}

// held keeps the books of a hold.
func (w *holdWorld) held(t *rapid.T, d *events.Held) {
	old := w.holds[d.ID]
	if old == nil {
		old = &events.Hold{Held: d.Amount}
		w.open = append(w.open, d.ID)
	}
	captured, ended := int64(0), total(d.Returned)+total(d.Lapsed)
	if d.Capture != nil {
		if captured = d.Capture.Amount; total(d.Capture.Drawn) != captured {
			t.Fatalf("%+v draws something else", d.Capture)
		}
	}
	if d.Hold.Captured != old.Captured+captured || d.Hold.Held != old.Held-captured-ended || total(d.Reserved) != d.Hold.Held {
		t.Fatalf("%+v\nafter %+v", d, old)
	}
	if d.Hold.Captured+d.Hold.Held+ended != d.Amount {
		t.Fatalf("%d captured, %d held, %d given back or gone, of %d", d.Hold.Captured, d.Hold.Held, ended, d.Amount)
	}
	if over := d.Hold.Held == 0; over != (d.Status != events.Open) {
		t.Fatalf("%s with %d held", d.Status, d.Hold.Held)
	}
	w.holds[d.ID] = &d.Hold
}

// step lets time pass and gives one command.
func (w *holdWorld) step(t *rapid.T) {
	w.now += events.Time(rapid.OneOf(rapid.Int64Range(0, 2000), rapid.Int64Range(0, 40*3_600_000)).Draw(t, "ms"))
	for list := w.st.Due(w.now); list != nil; list = w.st.Due(w.now) {
		w.fold(t, list)
	}
	account := rapid.SampledFrom([]string{"acme", "bolt"}).Draw(t, "account")
	amount := rapid.OneOf(rapid.Int64Range(1, 60), rapid.Int64Range(MaxAmount-60, MaxAmount)).Draw(t, "amount")
	span := time.Duration(rapid.Int64Range(1, 90*3_600_000_000_000).Draw(t, "span"))
	id := "hold_" + idOf(0).String()
	if len(w.open) > 0 {
		id = rapid.SampledFrom(w.open).Draw(t, "hold")
	}
	place := "\"environment\":\"test\",\"asset\":\"credits\""
	verb := rapid.SampledFrom([]string{
		"credit.grant", "credit.grant", "credit.debit", "credit.adjust", "credit.transfer", "hold.place", "hold.place", "hold.place", "hold.capture", "hold.capture", "hold.release",
	}).Draw(t, "verb")
	body := map[string]string{
		"credit.grant":    fmt.Sprintf(`{%s,"amount":%d,"expires_at":%q,"priority":%d}`, place, amount, w.now+1+events.Time(span.Milliseconds()), amount%2),
		"credit.debit":    fmt.Sprintf(`{%s,"amount":%d}`, place, amount),
		"credit.adjust":   fmt.Sprintf(`{%s,"amount":%d,"reason":"r"}`, place, amount*(1-2*(int64(span)%2))),
		"credit.transfer": fmt.Sprintf(`{"to":%q,%s,"amount":%d}`, map[string]string{"acme": "bolt", "bolt": "acme"}[account], place, amount),
		"hold.place":      fmt.Sprintf(`{%s,"amount":%d,"expires_in":%q}`, place, amount, span),
		"hold.capture":    fmt.Sprintf(`{"hold":%q,"amount":%d}`, id, amount),
		"hold.release":    fmt.Sprintf(`{"hold":%q}`, id),
	}[verb]
	if verb == "hold.capture" && span%3 == 0 {
		body = fmt.Sprintf(`{"hold":%q}`, id)
	}
	w.do(t, verb, account, body)
}

func (w *holdWorld) do(t *rapid.T, verb, account, body string) {
	w.count++
	i := step{verb: verb}.index()
	cmd := Commands[i].New()
	if err := events.DecodeStrict([]byte(body), cmd); err != nil {
		t.Fatalf("%s %s: %v", verb, body, err)
	}
	if err := cmd.Validate(); err != nil {
		t.Fatalf("%s %s: %v", verb, body, err)
	}
	d, _ := Decide(w.st, &Commands[i].Spec, cmd, &Input{AccountID: account, CommandID: idOf(w.count), Time: w.now})
	w.fold(t, d.Events)
}

// Whatever is placed, captured, released, granted, taken, corrected and moved in whatever
// order while time passes: the books of every balance and of every hold are even after
// every event, and nothing passes its limit.
func TestBooksAreEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &holdWorld{st: NewState(), now: 1_800_000_000_000, holds: map[string]*events.Hold{}}
		w.do(t, "account.open", "acme", `{"plan":{"name":"p","allowance":{"amount":40},"overdraft":{"credits":30}}}`)
		w.do(t, "account.open", "bolt", `{"plan":{"name":"p","overdraft":{"credits":9007199254740991}}}`)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			w.step(t)
		}
		if again := restored(t, w.st, false); again.Digest() != w.st.Digest() {
			t.Fatal("the sections are of another state")
		}
		w.now += 90 * 24 * 3_600_000
		for list := w.st.Due(w.now); list != nil; list = w.st.Due(w.now) {
			w.fold(t, list)
		}
		for id, h := range w.holds {
			if h.Status == events.Open {
				t.Fatalf("%s is open after its time", id)
			}
		}
	})
}

func TestCut(t *testing.T) {
	list := []events.Draw{{Grant: "a", Amount: 3, ExpiresAt: 7, Priority: 1}, {Grant: "b", Amount: 2}, {Grant: "c", Amount: 1}}
	text := func(list []events.Draw) (s string) {
		for _, d := range list {
			s += fmt.Sprintf("%s%d/%d/%d ", d.Grant, d.Amount, d.ExpiresAt, d.Priority)
		}
		return s
	}
	before := text(list)
	for amount, want := range map[int64][2]string{
		1: {"a1/7/1 ", "a2/7/1 b2/0/0 c1/0/0 "},
		3: {"a3/7/1 ", "b2/0/0 c1/0/0 "},
		4: {"a3/7/1 b1/0/0 ", "b1/0/0 c1/0/0 "},
		5: {"a3/7/1 b2/0/0 ", "c1/0/0 "},
		6: {"a3/7/1 b2/0/0 c1/0/0 ", ""},
	} {
		first, rest := cut(list, amount)
		if got := [2]string{text(first), text(rest)}; got != want {
			t.Errorf("cut at %d: %q, want %q", amount, got, want)
		}
		if text(list) != before {
			t.Fatalf("cut at %d changed the list: %s", amount, text(list))
		}
	}
}

// What the end of a hold gives back, and where to.
func TestEndOfAHold(t *testing.T) {
	const now, soon = events.Time(1000), events.Time(2000)
	live, live2, dead := prefixed(grantIDPrefix, idOf(1)), prefixed(grantIDPrefix, idOf(2)), prefixed(grantIDPrefix, idOf(3))
	fresh := prefixed(grantIDPrefix, idOf(9))
	draw := func(grant string, amount int64, expires events.Time) events.Draw {
		return events.Draw{Grant: grant, Amount: amount, ExpiresAt: expires}
	}
	type list = []events.Draw
	for _, c := range []struct {
		name                       string
		available                  int64
		allowance                  *allowance
		reserved, returned, lapsed list
	}{
		{"to where it came from, the last drawn first", 0, nil,
			list{draw(live, 5, soon), draw(live2, 7, 0)}, list{draw(live2, 7, 0), draw(live, 5, soon)}, nil},
		{"a grant whose time is over", 0, nil, list{draw(dead, 5, now), draw(live, 7, now+1)}, list{draw(live, 7, now+1)}, list{draw(dead, 5, now)}},
		{"what is owed comes first", -6, nil, list{draw(live, 5, soon), draw(live2, 3, 0)},
			list{draw("overdraft", 6, 0), draw(live, 2, soon)}, nil},
		{"what is over pays nothing", -6, nil, list{draw(dead, 5, now)}, nil, list{draw(dead, 5, now)}},
		{"owed for it, and owed still", -8, nil, list{draw("overdraft", 8, 0)}, list{draw("overdraft", 8, 0)}, nil},
		{"owed for it, and paid since", 0, nil, list{draw("overdraft", 8, 0)}, list{draw(fresh, 8, 0)}, nil},
		{"owed for it, and half of it paid since", -3, nil, list{draw("overdraft", 8, 0)}, list{draw("overdraft", 3, 0), draw(fresh, 5, 0)}, nil},
		{"the allowance of this period", 2, &allowance{amount: 10, spent: 8, until: soon}, list{draw("allowance", 8, soon)}, list{draw("allowance", 8, soon)}, nil},
		{"the allowance of the last period", 10, &allowance{amount: 10, until: soon}, list{draw("allowance", 8, now)}, nil, list{draw("allowance", 8, now)}},
		{"an allowance that the plan took away", 0, nil, list{draw("allowance", 8, soon)}, nil, list{draw("allowance", 8, soon)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			held := total(c.reserved)
			place := balanceID{events.Test, "credits"}
			a := &Account{Account: events.Account{ID: "acme"}}
			b := NewState().makeBalance(a, place)
			b.posted, b.held, b.allowance = c.available+held, held, c.allowance
			h := &hold{id: idOf(9), place: place, amount: held, expiresAt: now, reserved: c.reserved}
			d := h.end(&Input{Account: a, AccountID: "acme", Time: now}, now, events.Released, "hold.released")[0].Data.(*events.Held)
			if diff := cmp.Diff(list{}, append(list{}, d.Reserved...)); diff != "" || d.Hold.Held != 0 {
				t.Errorf("it holds something still: %+v", d)
			}
			if diff := cmp.Diff(c.returned, d.Returned); diff != "" {
				t.Errorf("returned (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.lapsed, d.Lapsed); diff != "" {
				t.Errorf("lapsed (-want +got):\n%s", diff)
			}
			if d.Balance.Available != c.available+total(c.returned) || d.Balance.Held != 0 {
				t.Errorf("%+v after %d available", d.Balance, c.available)
			}
		})
	}
}

// A hold that expired while nothing ran gives back as if it had been looked at in time:
// what it returns to a grant is there to expire with it, and pays what was owed then.
func TestLateExpiryIsAsOfItsTime(t *testing.T) {
	for _, late := range []bool{false, true} {
		st := NewState()
		steps := append(opened(),
			step{"account.set_plan", "acme", `{"plan":{"name":"p","overdraft":{"credits":50}}}`, 3},
			step{"credit.grant", "acme", `{"environment":"test","asset":"credits","amount":100,"expires_at":"2027-01-15T08:00:00.100Z"}`, 4},
			step{"hold.place", "acme", `{"environment":"test","asset":"credits","amount":100,"expires_in":"10ms"}`, 5}, // to 15
			step{"credit.debit", "acme", `{"environment":"test","asset":"credits","amount":30}`, 6},
		)
		for _, s := range steps {
			s.do(t, st)
		}
		if !late {
			step{number: 15}.due(st)
		}
		step{"credit.grant", "acme", `{"environment":"test","asset":"credits","amount":1}`, 500}.do(t, st)
		checkBalances(t, st)
		if b := st.accounts["acme"].balance(balanceID{events.Test, "credits"}); b.posted != 1 || b.held != 0 {
			t.Errorf("late %t: %+v, want 1 posted", late, b)
		}
	}
}
