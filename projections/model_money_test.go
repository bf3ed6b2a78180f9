package projections

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/keyledger/keyledger/events"
)

// assets are those of the model, which are worth the same.
var assets = []string{"credits", "usd"}

// maxOwed is how far below zero a balance of the model may go.
const maxOwed = 40

const dayMillis = 86_400_000

type purseID struct{ account, asset string }

// purse is a balance of the model, in the environment test: coins of lots.
type purse struct {
	asset       string
	lots        []*lot // all that ever were, in no order
	owed, held  int64
	low, high   int // ranks that were given
	plan, spent int64
	until       events.Time
}

// lot is a grant. Of equal terms the lower rank is drawn first.
type lot struct {
	Grant
	rank int
}

// modelDebit is what can be refunded.
type modelDebit struct {
	account, id, key string
	purse            *purse
	drawn            []events.Draw // that is not refunded
	amount, refunded int64
}

// modelHold is a hold with its newest state.
type modelHold struct {
	events.Hold
	account string
	purse   *purse
	over    int // the how manieth it was of its account to end; 0: open
}

func (m *model) purse(account, asset string) *purse {
	id := purseID{account, asset}
	if m.purses[id] == nil {
		m.purses[id] = &purse{asset: asset}
	}
	return m.purses[id]
}

// burnOrder is what has something left, as it is drawn, without the allowance.
func (p *purse) burnOrder() []*lot {
	list := slices.DeleteFunc(slices.Clone(p.lots), func(l *lot) bool { return l.Remaining == 0 })
	slices.SortFunc(list, func(a, b *lot) int {
		// As unsigned numbers, one less than never is the last of all times.
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(uint64(a.ExpiresAt)-1, uint64(b.ExpiresAt)-1), cmp.Compare(a.rank, b.rank))
	})
	return list
}

func (p *purse) allowance() int64 { return max(0, p.plan-p.spent) }

func (p *purse) available() int64 {
	sum := p.allowance() - p.owed
	for _, l := range p.lots {
		sum += l.Remaining
	}
	return sum
}

// after is the small balance that an event bears.
func (p *purse) after() events.Balance {
	return events.Balance{Environment: events.Test, Asset: p.asset, Posted: p.available() + p.held, Held: p.held, Available: p.available()}
}

// balance is what balance.get should answer at now.
func (p *purse) balance(now events.Time) Balance {
	out := Balance{
		Environment: events.Test, Asset: p.asset, Posted: p.available() + p.held, Held: p.held, Available: p.available(), Grants: []Grant{},
		Allowance: Allowance{Amount: p.plan, Remaining: p.allowance()},
	}
	for _, l := range p.burnOrder() {
		out.Grants = append(out.Grants, l.Grant)
	}
	switch {
	case p.plan == 0:
	case p.spent > 0 || p.until > now:
		out.Allowance.ResetsAt = p.until
	default:
		out.Allowance.ResetsAt = midnight(now)
	}
	return out
}

// midnight is the end of the day that t lies in.
func midnight(t events.Time) events.Time { return t - t%dayMillis + dayMillis }

// draw takes an amount, which may be more than there is.
func (p *purse) draw(amount int64, now events.Time) (list []events.Draw) {
	if part := min(amount, p.allowance()); part > 0 {
		if p.until <= now {
			p.until = midnight(now)
		}
		list = append(list, events.Draw{Grant: events.AllowanceGrant, Amount: part, ExpiresAt: p.until})
		p.spent += part
		amount -= part
	}
	for _, l := range p.burnOrder() {
		if part := min(amount, l.Remaining); part > 0 {
			list = append(list, events.Draw{Grant: l.ID, Amount: part, ExpiresAt: l.ExpiresAt, Priority: l.Priority})
			l.Remaining -= part
			amount -= part
		}
	}
	if amount > 0 {
		list = append(list, events.Draw{Grant: events.OverdraftGrant, Amount: amount})
		p.owed += amount
	}
	return list
}

// pay pays of an amount what is owed, and returns the rest.
func (p *purse) pay(amount int64, list *[]events.Draw) int64 {
	if paid := min(amount, p.owed); paid > 0 {
		*list = append(*list, events.Draw{Grant: events.OverdraftGrant, Amount: paid})
		p.owed -= paid
		amount -= paid
	}
	return amount
}

// fund adds an amount on the terms of a draw.
func (p *purse) fund(amount int64, terms events.Draw) (list []events.Draw) {
	if terms.Amount = p.pay(amount, &list); terms.Amount > 0 {
		p.high++
		p.lots = append(p.lots, &lot{Grant{terms.Grant, terms.Amount, terms.ExpiresAt, terms.Priority}, p.high})
		list = append(list, terms)
	}
	return list
}

// giveBack undoes draws, the last first. What cannot go back is homeless.
func (p *purse) giveBack(drawn []events.Draw, now events.Time) (list, homeless []events.Draw) {
	for _, d := range slices.Backward(drawn) {
		d.Amount = p.pay(d.Amount, &list)
		i := slices.IndexFunc(p.lots, func(l *lot) bool { return l.ID == d.Grant })
		back := d.Amount
		switch {
		case d.Grant == events.AllowanceGrant && d.ExpiresAt == p.until && p.until > now && p.spent <= p.plan:
			back = min(back, p.spent)
			p.spent -= back
		case i >= 0 && (d.ExpiresAt == 0 || d.ExpiresAt > now):
			if p.lots[i].Remaining == 0 && back > 0 {
				p.low--
				p.lots[i].rank = p.low
			}
			p.lots[i].Remaining += back
		default:
			back = 0
		}
		if back > 0 {
			list = append(list, events.Draw{Grant: d.Grant, Amount: back, ExpiresAt: d.ExpiresAt, Priority: d.Priority})
		}
		if d.Amount -= back; d.Amount > 0 {
			homeless = append(homeless, d)
		}
	}
	return list, homeless
}

// part is a random amount up to what is available and may be owed, 0 for none.
func (m *model) part(p *purse) int64 { return m.random.Int64N(p.available() + maxOwed + 1) }

// money is something that happens to a random balance of an account, or nothing.
func (m *model) money(account string) []events.Event {
	p := m.purse(account, assets[m.random.IntN(len(assets))])
	event := func(eventType, subject string, d events.Data) []events.Event {
		return []events.Event{{Type: eventType, Account: account, Environment: events.Test, Subject: subject, Data: d}}
	}
	at := m.h.now + 1
	switch m.random.IntN(10) {
	case 0, 1:
		g := events.Grant{ID: m.h.id("grant_"), Environment: events.Test, Asset: p.asset, Amount: 1 + m.random.Int64N(100),
			Priority: m.random.Int64N(2), Category: events.Paid, CreatedAt: at}
		if m.random.IntN(2) == 0 {
			g.ExpiresAt = at + events.Time(1+m.random.Int64N(3))*dayMillis
		}
		g.OverdraftPaid = min(g.Amount, p.owed)
		p.fund(g.Amount, events.Draw{Grant: g.ID, ExpiresAt: g.ExpiresAt, Priority: g.Priority})
		return event("credit.granted", "", &events.Granted{Grant: g, Balance: p.after()})
	case 2, 3:
		amount := m.part(p)
		if amount == 0 {
			return nil
		}
		d := events.Debit{ID: m.h.id("debit_"), Environment: events.Test, Asset: p.asset, Amount: amount, Drawn: p.draw(amount, at),
			Key: m.anyKey(account), CreatedAt: at}
		m.use(d.Key)
		m.debits = append(m.debits, &modelDebit{account, d.ID, d.Key, p, d.Drawn, amount, 0})
		return event("credit.debited", d.Key, &events.Debited{Debit: d, Balance: p.after()})
	case 4:
		return m.refund()
	case 5:
		a := events.Adjustment{ID: m.h.id("adjustment_"), Environment: events.Test, Asset: p.asset, Reason: "count", CreatedAt: at}
		if a.Amount = m.part(p) - maxOwed; a.Amount > 0 {
			a.Added = p.fund(a.Amount, events.Draw{Grant: m.h.id("grant_")})
		} else if -a.Amount <= p.available()+maxOwed {
			a.Drawn = p.draw(-a.Amount, at)
		} else {
			return nil
		}
		return event("credit.adjusted", "", &events.Adjusted{Adjustment: a, Balance: p.after()})
	case 6:
		return m.between(account, p, at)
	case 7:
		return m.time(account, p, at)
	}
	return m.hold(account, p, at)
}

// refund gives back a part of some debit: the last drawn first.
func (m *model) refund() []events.Event {
	if len(m.debits) == 0 {
		return nil
	}
	d := m.debits[m.random.IntN(len(m.debits))]
	left := d.amount - d.refunded
	if left == 0 {
		return nil
	}
	r := events.Refund{ID: m.h.id("refund_"), Debit: d.id, Environment: events.Test, Asset: d.purse.asset,
		Amount: 1 + m.random.Int64N(left), Key: d.key, CreatedAt: m.h.now + 1}
	d.refunded += r.Amount
	r.Refunded = d.refunded
	var undone, homeless []events.Draw
	d.drawn, undone = split(d.drawn, left-r.Amount)
	r.Returned, homeless = d.purse.giveBack(undone, m.h.now+1)
	if n := events.Total(homeless); n > 0 {
		r.Returned = append(r.Returned, d.purse.fund(n, events.Draw{Grant: m.h.id("grant_")})...)
		d.purse.lots[len(d.purse.lots)-1].rank = d.purse.low - 1 // as what is given back
		d.purse.low--
	}
	return []events.Event{{Type: "credit.refunded", Account: d.account, Environment: events.Test, Subject: d.key,
		Data: &events.Refunded{Refund: r, Balance: d.purse.after()}}}
}

// split cuts a list of draws in two behind an amount.
func split(list []events.Draw, amount int64) (first, rest []events.Draw) {
	for _, d := range list {
		before, after := d, d
		before.Amount = min(d.Amount, amount)
		after.Amount -= before.Amount
		amount -= before.Amount
		if before.Amount > 0 {
			first = append(first, before)
		}
		if after.Amount > 0 {
			rest = append(rest, after)
		}
	}
	return first, rest
}

// between moves money to another account, or between the assets of one.
func (m *model) between(account string, p *purse, at events.Time) []events.Event {
	amount := m.random.Int64N(max(0, p.available()) + 1)
	if amount == 0 {
		return nil
	}
	other := m.account()
	if other == account {
		to := m.purse(account, assets[1-slices.Index(assets, p.asset)])
		d := &events.Exchanged{ID: m.h.id("exchange_"), Environment: events.Test, CreatedAt: at}
		d.From = events.Leg{Asset: p.asset, Amount: amount, Drawn: p.draw(amount, at), Balance: p.after()}
		d.To = events.Leg{Asset: to.asset, Amount: amount, Added: to.fund(amount, events.Draw{Grant: m.h.id("grant_")}), Balance: to.after()}
		return []events.Event{{Type: "credit.exchanged", Account: account, Environment: events.Test, Data: d}}
	}
	to := m.purse(other, p.asset)
	t := events.Transfer{ID: m.h.id("transfer_"), From: account, To: other, Environment: events.Test, Asset: p.asset, Amount: amount, CreatedAt: at}
	paid := t
	t.Drawn = p.draw(amount, at)
	paid.Added = to.fund(amount, events.Draw{Grant: m.h.id("grant_")})
	return []events.Event{
		{Type: "credit.transferred", Account: account, Environment: events.Test, Data: &events.Transferred{Transfer: t, Balance: p.after()}},
		{Type: "credit.transferred", Account: other, Environment: events.Test, Data: &events.Transferred{Transfer: paid, Balance: to.after()}},
	}
}

// time is what time brings about of a balance, or a new plan.
func (m *model) time(account string, p *purse, at events.Time) []events.Event {
	for _, l := range p.lots {
		if l.Remaining > 0 && l.ExpiresAt != 0 && l.ExpiresAt <= at {
			d := &events.Expired{Expiry: events.Expiry{Grant: l.ID, Environment: events.Test, Asset: p.asset, Amount: l.Remaining, ExpiredAt: l.ExpiresAt}}
			l.Remaining = 0
			d.Balance = p.after()
			return []events.Event{{Type: "credit.expired", Account: account, Environment: events.Test, Data: d}}
		}
	}
	if p.plan > 0 && p.spent > 0 && p.until <= at {
		return []events.Event{m.replenished(account, p, p.plan, 0, events.ByPeriod)}
	}
	if p.asset != assets[0] {
		return nil
	}
	amount := m.random.Int64N(60) * m.random.Int64N(2)
	set := m.h.account(account)
	set.Type = "account.plan_set"
	set.Data.(*events.Account).CreatedAt = m.created[account]
	if amount > 0 {
		set.Data.(*events.Account).Plan = &events.Plan{Name: "some", Price: events.Price{Asset: p.asset, Default: new(int64), Per: map[string]int64{}},
			Allowance: &events.Allowance{Asset: p.asset, Amount: amount, Every: events.Day, TimeZone: "UTC"}}
	}
	spent := p.spent
	if amount == 0 {
		spent = 0
	}
	return []events.Event{set, m.replenished(account, p, amount, spent, events.ByPlan)}
}

// replenished sets the allowance of a balance.
func (m *model) replenished(account string, p *purse, amount, spent int64, by string) events.Event {
	r := events.Replenishment{Environment: events.Test, Asset: p.asset, Amount: amount, Before: p.allowance(), By: by, CreatedAt: m.h.now + 1}
	r.OverdraftPaid = min(max(0, amount-spent), p.owed)
	p.owed -= r.OverdraftPaid
	p.plan, p.spent, p.until = amount, spent+r.OverdraftPaid, 0
	if amount > 0 {
		p.until = midnight(m.h.now + 1)
	}
	r.Spent, r.Remaining, r.ResetsAt = p.spent, p.allowance(), p.until
	return events.Event{Type: "credit.replenished", Account: account, Environment: events.Test, Data: &events.Replenished{Replenishment: r, Balance: p.after()}}
}

// hold places a hold, or takes of one or ends one that is open.
func (m *model) hold(account string, p *purse, at events.Time) []events.Event {
	event := func(h *modelHold, verb string, d events.Held) []events.Event {
		h.Hold.Held = events.Total(h.Reserved)
		d.Hold, d.Balance = h.Hold, h.purse.after()
		return []events.Event{{Type: "hold." + verb, Account: h.account, Environment: events.Test, Subject: h.ID, Data: &d}}
	}
	open := slices.DeleteFunc(slices.Clone(m.holds), func(h *modelHold) bool { return h.over > 0 })
	if len(open) == 0 || m.random.IntN(2) == 0 {
		amount := m.part(p)
		if amount == 0 {
			return nil
		}
		h := &modelHold{account: account, purse: p, Hold: events.Hold{ID: m.h.id("hold_"), Environment: events.Test, Asset: p.asset,
			Amount: amount, Status: events.Open, Key: m.anyKey(account), ExpiresAt: at + dayMillis, CreatedAt: at, Reserved: p.draw(amount, at)}}
		p.held += amount
		m.holds = append(m.holds, h)
		return event(h, "placed", events.Held{})
	}
	h := open[m.random.IntN(len(open))]
	p = h.purse
	if m.random.IntN(2) == 0 {
		amount := 1 + m.random.Int64N(h.Held)
		c := &events.Capture{Debit: m.h.id("debit_"), Amount: amount, CreatedAt: at}
		c.Drawn, h.Reserved = split(h.Reserved, amount)
		h.Captured += amount
		p.held -= amount
		m.use(h.Key)
		m.debits = append(m.debits, &modelDebit{h.account, c.Debit, h.Key, p, c.Drawn, amount, 0})
		if h.Reserved == nil {
			h.Status, h.over = events.Captured, m.ended(h.account)+1
		}
		return event(h, "captured", events.Held{Capture: c})
	}
	var d events.Held
	p.held -= h.Held
	d.Returned, d.Lapsed = p.giveBack(h.Reserved, at)
	for _, o := range d.Lapsed {
		if o.Grant == events.OverdraftGrant { // it was paid since
			p.low--
			p.lots = append(p.lots, &lot{Grant{ID: "grant_" + h.ID[len("hold_"):], Remaining: o.Amount}, p.low})
			d.Returned = append(d.Returned, events.Draw{Grant: "grant_" + h.ID[len("hold_"):], Amount: o.Amount})
		}
	}
	d.Lapsed = slices.DeleteFunc(d.Lapsed, func(o events.Draw) bool { return o.Grant == events.OverdraftGrant })
	status := []string{events.Released, events.Lapsed}[m.random.IntN(2)]
	h.Reserved, h.Status, h.over = nil, status, m.ended(h.account)+1
	return event(h, status, d)
}

// ended is how many holds of an account ended.
func (m *model) ended(account string) (n int) {
	for _, h := range m.holds {
		if h.account == account && h.over > 0 {
			n++
		}
	}
	return n
}

func (m *model) checkHolds(t *testing.T, v *Views, account string) {
	t.Helper()
	got, body := []events.Hold{}, `{"limit":7}`
	for {
		page := into[struct {
			Holds []events.Hold
			Next  *string `json:"next_cursor"`
		}](t, v, "hold.list", account, body)
		got = append(got, page.Holds...)
		if page.Next == nil {
			break
		}
		body = fmt.Sprintf(`{"limit":7,"cursor":%q}`, *page.Next)
	}
	want := []events.Hold{}
	for _, h := range m.holds {
		if h.account == account && (h.over == 0 || h.over > m.ended(account)-maxEndedHolds) {
			want = append(want, h.Hold)
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s: holds (-model +view):\n%s", account, diff)
	}
}
