package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// purse is an account whose credits are followed one command after the other, with the
// entries that a log would have.
type purse struct {
	t     fataler
	st    *State
	now   events.Time
	count uint64
	log   map[ulid.ULID][]events.Event
}

var creditsPlace = balanceID{events.Test, "credits"}

// newPurse opens an account with an allowance of 100 a day and an overdraft of 50.
func newPurse(t fataler) *purse {
	p := &purse{t: t, st: NewState(), now: 1_800_000_000_000, log: map[ulid.ULID][]events.Event{}}
	p.must("account.open", &OpenAccount{Plan: pursePlan(100)})
	return p
}

func pursePlan(allowance int64) *events.Plan {
	return &events.Plan{
		Name: "p", Allowance: &events.Allowance{Amount: allowance}, Overdraft: map[string]int64{"credits": 50},
	}
}

// pass lets time pass, with what it brings about.
func (p *purse) pass(d time.Duration) {
	p.now += events.Time(d.Milliseconds())
	for list := p.st.Due(p.now); list != nil; list = p.st.Due(p.now) {
		p.fold(list)
	}
}

func (p *purse) fold(list []events.Event) {
	for i := range list {
		p.st.Evolve(&list[i])
	}
	p.check(fmt.Sprintf("after %d of %s", p.count, list[0].Type))
}

// do decides a command and folds what it leads to.
func (p *purse) do(verb string, cmd Command) ([]events.Event, *events.Error) {
	if err := cmd.Validate(); err != nil {
		p.t.Fatalf("%s: %v", verb, err)
	}
	for i := range Commands {
		if Commands[i].Verb != verb {
			continue
		}
		p.count++
		in := Input{AccountID: "acme", CommandID: idOf(p.count), Time: p.now}
		d, err := Decide(p.st, &Commands[i].Spec, cmd, &in)
		if !d.Cites.IsZero() {
			cmd.(Citer).Cite(p.log[d.Cites])
			d, err = Decide(p.st, &Commands[i].Spec, cmd, &in)
		}
		if len(d.Events) > 0 {
			p.fold(d.Events)
			p.log[in.CommandID] = d.Events
		}
		return d.Events, err
	}
	p.t.Fatalf("unknown verb %s", verb)
	return nil, nil
}

func (p *purse) must(verb string, cmd Command) []events.Event {
	list, err := p.do(verb, cmd)
	if err != nil {
		p.t.Fatalf("%s: %v", verb, err)
	}
	return list
}

func (p *purse) balance() *balance { return p.st.accounts["acme"].balance(creditsPlace) }

// check holds the parts of the balance against the whole.
func (p *purse) check(when string) {
	b := p.balance()
	sum := b.allowance.remaining() - b.owed()
	for _, g := range b.grants {
		sum += g.remaining
		if g.remaining <= 0 {
			p.t.Fatalf("%s: grant %+v", when, g)
		}
	}
	if sum != b.available() || b.owed() > 0 && b.owed() != -sum {
		p.t.Fatalf("%s: %d are available, its parts come to %d: %+v %+v", when, b.available(), sum, b, b.allowance)
	}
	if a := b.allowance; a != nil && (a.spent < 0 || a.remaining() > a.amount) {
		p.t.Fatalf("%s: allowance %+v", when, a)
	}
}

// bought is a debit with what came of it.
type bought struct {
	debit    *events.Debit
	refunded int64
}

// Whatever comes between, refunds give every credit of a debit back exactly once: the
// balance moves by each refund, what was undone is what was drawn, the last first, and no
// more comes back than was taken.
func TestRefundsReturnEverythingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPurse(t)
		var list []*bought
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"grant", "debit", "debit", "refund", "refund", "refund", "pass", "plan"}).Draw(t, "step") {
			case "grant":
				g := &GrantCredit{Environment: events.Test, Asset: "credits", Amount: rapid.Int64Range(1, 60).Draw(t, "amount"), Priority: rapid.Int64Range(0, 1).Draw(t, "priority")}
				if hours := rapid.IntRange(0, 30).Draw(t, "hours"); hours > 0 {
					g.ExpiresAt = p.now + milli(time.Duration(hours)*time.Hour)
				}
				p.must("credit.grant", g)
			case "debit":
				made, err := p.do("credit.debit", &DebitCredit{Environment: events.Test, Asset: "credits", Amount: rapid.Int64Range(1, 120).Draw(t, "amount")})
				if err == nil {
					list = append(list, &bought{debit: debitOf(&made[0])})
				}
			case "refund":
				if len(list) > 0 {
					p.refund(t, rapid.SampledFrom(list).Draw(t, "of"), rapid.Int64Range(0, 60).Draw(t, "amount"))
				}
			case "pass":
				p.pass(time.Duration(rapid.IntRange(1, 20).Draw(t, "hours")) * time.Hour)
			case "plan":
				p.must("account.set_plan", &SetPlan{Plan: pursePlan(rapid.SampledFrom([]int64{20, 100, 150}).Draw(t, "allowance"))})
			}
		}
		for _, b := range list {
			if b.refunded < b.debit.Amount {
				p.refund(t, b, 0)
			}
			if b.refunded != b.debit.Amount {
				t.Fatalf("%d of %d came back", b.refunded, b.debit.Amount)
			}
			p.refund(t, b, 1)
		}
		restored(t, p.st, false)
	})
}

func milli(d time.Duration) events.Time { return events.Time(d.Milliseconds()) }

// refund refunds a part of a debit, what is left for 0, and checks what comes of it.
func (p *purse) refund(t *rapid.T, b *bought, amount int64) {
	cmd := &RefundCredit{Debit: b.debit.ID}
	if amount > 0 {
		cmd.Amount = &amount
	}
	left := b.debit.Amount - b.refunded
	before := *p.balance()
	made, err := p.do("credit.refund", cmd)
	if refused := left == 0 || amount > left; refused != (err != nil) {
		t.Fatalf("refund %d of the %d left: %v", amount, left, err)
	}
	after := p.balance()
	if err != nil {
		if err.Code != events.FailedPrecondition || err.Details["refundable"] != left || after.posted != before.posted {
			t.Fatalf("refused with %v", err)
		}
		return
	}
	if amount == 0 {
		amount = left
	}
	d := made[0].Data.(*events.Refunded)
	b.refunded += amount
	if d.Amount != amount || d.Refund.Refunded != b.refunded || total(d.Returned) != amount || after.posted != before.posted+amount {
		t.Fatalf("refunded %d of %d: %+v, posted %d and then %d", amount, left, d, before.posted, after.posted)
	}
	for _, back := range d.Returned {
		if !p.belongs(b.debit, &back, idOf(p.count)) {
			t.Fatalf("%+v returned to %+v of %+v", d, back, b.debit)
		}
	}
}

// belongs says whether what was drawn may come back there.
func (p *purse) belongs(d *events.Debit, back *events.Draw, refund ulid.ULID) bool {
	if back.Grant == events.OverdraftGrant || back.Grant == prefixed(grantIDPrefix, refund) {
		return true
	}
	for _, drawn := range d.Drawn {
		if drawn.Grant == back.Grant {
			terms := *back
			terms.Amount = drawn.Amount
			return terms == drawn && back.Amount <= drawn.Amount && (drawn.ExpiresAt == 0 || drawn.ExpiresAt > p.now)
		}
	}
	return false
}

// Parts undo the same as the whole, in whatever sizes they come.
func TestPartsUndoTheWhole(t *testing.T) {
	drawn := []events.Draw{{Grant: events.AllowanceGrant, Amount: 4, ExpiresAt: 9}, {Grant: "a", Amount: 3}, {Grant: "b", Amount: 5, Priority: 2}}
	whole := undone(drawn, 0, 12)
	if fmt.Sprint(whole) != fmt.Sprint(drawn) {
		t.Fatalf("all of it: %v", whole)
	}
	for size := int64(1); size <= 12; size++ {
		sums := map[string]int64{}
		for before := int64(0); before < 12; before += size {
			part := undone(drawn, before, min(size, 12-before))
			if total(part) != min(size, 12-before) {
				t.Fatalf("a part of %d after %d: %v", size, before, part)
			}
			for _, d := range part {
				sums[d.Grant] += d.Amount
			}
		}
		if sums[events.AllowanceGrant] != 4 || sums["a"] != 3 || sums["b"] != 5 {
			t.Errorf("in parts of %d: %v", size, sums)
		}
	}
	if part := undone(drawn, 4, 5); fmt.Sprint(part) != fmt.Sprint([]events.Draw{{Grant: events.AllowanceGrant, Amount: 1, ExpiresAt: 9}, {Grant: "a", Amount: 3}, {Grant: "b", Amount: 1, Priority: 2}}) {
		t.Errorf("five after four: %v", part)
	}
}

// What a capture took is refunded as a debit, to the grants it was reserved from.
func TestRefundOfACapture(t *testing.T) {
	p := newPurse(t)
	p.must("credit.grant", &GrantCredit{Environment: events.Test, Asset: "credits", Amount: 30})
	id := idOf(99)
	taken := []events.Draw{{Grant: events.AllowanceGrant, Amount: 25, ExpiresAt: p.balance().allowance.until}}
	hold := events.Hold{
		ID: prefixed(holdIDPrefix, idOf(98)), Environment: events.Test, Asset: "credits", Amount: 40, Held: 40,
		Status: events.Open, Key: "key_x", ExpiresAt: p.now + 1000, Reserved: []events.Draw{{Grant: events.AllowanceGrant, Amount: 40, ExpiresAt: taken[0].ExpiresAt}},
	}
	p.fold([]events.Event{{Type: "hold.placed", Account: "acme", Data: &events.Held{Hold: hold, Balance: events.Balance{Environment: events.Test, Asset: "credits", Posted: 130, Held: 40}}}})
	hold.Captured, hold.Held, hold.Reserved = 25, 15, []events.Draw{{Grant: events.AllowanceGrant, Amount: 15, ExpiresAt: taken[0].ExpiresAt}}
	p.log[id] = []events.Event{{Type: "hold.captured", Account: "acme", Data: &events.Held{
		Hold: hold, Capture: &events.Capture{Debit: prefixed(debitIDPrefix, id), Amount: 25, Drawn: taken},
		Balance: events.Balance{Environment: events.Test, Asset: "credits", Posted: 105, Held: 15},
	}}}
	p.fold(p.log[id])
	d := p.must("credit.refund", &RefundCredit{Debit: prefixed(debitIDPrefix, id)})[0]
	r := d.Data.(*events.Refunded)
	if r.Amount != 25 || d.Subject != "key_x" || r.Key != "key_x" || d.Environment != events.Test || fmt.Sprint(r.Returned) != fmt.Sprint(taken) || r.Balance.Available != 115 {
		t.Errorf("refunded %+v", r)
	}
}

// A hold that ends after the plan made the allowance smaller gives back what the
// customer may still have of it, and the rest is gone: as if it had never been placed.
func TestHoldEndsInASmallerAllowance(t *testing.T) {
	for _, row := range []struct{ debited, remaining int64 }{{0, 50}, {10, 40}, {20, 30}} {
		p := newPurse(t)
		if row.debited > 0 {
			p.must("credit.debit", &DebitCredit{Environment: events.Test, Asset: "credits", Amount: row.debited})
		}
		held := []events.Draw{{Grant: events.AllowanceGrant, Amount: 80, ExpiresAt: p.balance().allowance.until}}
		p.fold([]events.Event{{Type: "hold.placed", Account: "acme", Data: &events.Held{
			Hold:    events.Hold{ID: prefixed(holdIDPrefix, idOf(98)), Environment: events.Test, Asset: "credits", Amount: 80, Held: 80, Status: events.Open, ExpiresAt: p.now + 1000, Reserved: held},
			Balance: events.Balance{Environment: events.Test, Asset: "credits", Posted: 100 - row.debited, Held: 80},
		}}})
		p.must("account.set_plan", &SetPlan{Plan: pursePlan(50)})
		p.pass(time.Second)
		b := p.balance()
		if b.allowance.remaining() != row.remaining || b.available() != row.remaining || b.held != 0 {
			t.Errorf("%d debited: %+v, allowance %+v", row.debited, b, b.allowance)
		}
	}
}
