package ledger

import (
	"time"

	"github.com/keyledger/keyledger/events"
)

// periodEnd is when the period ends that now lies in.
func periodEnd(a *events.Allowance, now events.Time) events.Time {
	zone, err := events.Zone(a.TimeZone)
	if err != nil {
		zone = time.UTC // it was known when the plan was set; nothing is decided on an error
	}
	_, end := events.Period(a.Every, zone, now)
	return end
}

// allowanceEnd returns when the period ends of the allowance that a draw at now takes from;
// 0 where it has nothing left.
func (in *Input) allowanceEnd(b *balance) events.Time {
	switch {
	case b.allowance.remaining() == 0:
		return 0
	case b.allowance.until > in.Time:
		return b.allowance.until
	}
	return periodEnd(in.Account.Plan.Allowance, in.Time)
}

// replenish is the start of a period for an allowance out of which something was spent:
// however many periods have gone by, one event, for the latest.
func (in *Input) replenish(place balanceID) []events.Event {
	b := in.Account.balance(place)
	end := periodEnd(in.Account.Plan.Allowance, in.Time)
	event, alerts := in.allowanceEvent(b, place, b.allowance.amount, 0, events.ByPeriod, end)
	return append([]events.Event{event}, alerts...)
}

// setAllowance is what a new plan makes of the allowances in both environments: the new
// amount less what was spent in the period that runs. It refuses one that a balance has no
// room for.
func (in *Input) setAllowance(next *events.Plan) (list []events.Event, err *events.Error) {
	var old *events.Allowance
	if p := in.Account.Plan; p != nil {
		old = p.Allowance
	}
	if old == next.Allowance || old != nil && next.Allowance != nil && *old == *next.Allowance {
		return nil, nil
	}
	then := *in.Account // as it is under the new plan: percents are of its allowance
	then.Plan = next
	under := Input{AccountID: in.AccountID, Account: &then, Time: in.Time}
	var alerts []events.Event
	set := func(place balanceID, amount int64, end events.Time) {
		b := then.balance(place)
		spent, spentUntil := b.allowance.spentAt(in.Time)
		if amount == 0 {
			end = spentUntil
		}
		if b.posted-b.allowance.remaining()+amount > MaxAmount {
			err = errBalanceFull()
		}
		event, told := under.allowanceEvent(b, place, amount, spent, events.ByPlan, end)
		list, alerts = append(list, event), append(alerts, told...)
	}
	for _, environment := range []string{events.Test, events.Live} {
		if old != nil && (next.Allowance == nil || next.Allowance.Asset != old.Asset) {
			set(balanceID{environment, old.Asset}, 0, 0)
		}
		if a := next.Allowance; a != nil {
			set(balanceID{environment, a.Asset}, a.Amount, periodEnd(a, in.Time))
		}
	}
	if err != nil {
		return nil, err
	}
	return append(list, alerts...), nil
}

// spentAt is how much was spent in the period that runs at now, and when that ends; zeros
// where nothing was.
func (a *allowance) spentAt(now events.Time) (spent int64, end events.Time) {
	if a == nil || a.spent == 0 || a.until <= now {
		return 0, 0
	}
	return a.spent, a.until
}

// comesAgain says whether the next period has an event: something was spent of what it
// gives anew.
func (a *allowance) comesAgain() bool { return a.amount > 0 && a.spent > 0 }

// allowanceEvent is the event that sets an allowance, and what it alerts to. It pays first
// what the balance owes. What there is no room for, since holds keep the allowances of many
// periods, counts as spent.
func (in *Input) allowanceEvent(b *balance, place balanceID, amount, spent int64, by string, end events.Time) (event events.Event, alerts []events.Event) {
	r := events.Replenishment{
		Environment: place.environment, Asset: place.asset, Amount: amount, Before: b.allowance.remaining(),
		By: by, ResetsAt: end, CreatedAt: in.Time,
	}
	unspent := max(0, amount-spent)
	comes := min(unspent, MaxAmount-(b.posted-r.Before))
	r.OverdraftPaid = min(comes, b.owed())
	r.Remaining = comes - r.OverdraftPaid
	r.Spent = spent + unspent - r.Remaining
	after := b.after(place, r.Remaining+r.OverdraftPaid-r.Before, 0)
	event = events.Event{
		Type: "credit.replenished", Account: in.AccountID, Environment: place.environment,
		Data: &events.Replenished{Replenishment: r, Balance: after},
	}
	return event, in.alerts(place, b.available(), &after)
}

func (st *State) evolveReplenished(account string, d *events.Replenished) {
	a := st.account(account)
	if a == nil {
		return
	}
	b := st.makeBalance(a, balanceID{d.Environment, d.Asset})
	b.posted, b.held = d.Balance.Posted, d.Balance.Held
	b.allowance = nil
	if d.Amount > 0 || d.Spent > 0 {
		b.allowance = &allowance{amount: d.Amount, spent: d.Spent, until: d.ResetsAt}
		st.setAllowanceDue(a, b)
	}
}

// expireGrant is the end of a grant: its rest is gone.
func (in *Input) expireGrant(d *due) []events.Event {
	place := d.place.Value()
	b := in.Account.balance(place)
	g := b.grants[b.find(prefixed(grantIDPrefix, d.id))]
	after := b.after(place, -g.remaining, 0)
	list := []events.Event{{
		Type: "credit.expired", Account: in.AccountID, Environment: place.environment,
		Data: &events.Expired{
			Expiry: events.Expiry{
				Grant: prefixed(grantIDPrefix, d.id), Environment: place.environment, Asset: place.asset,
				Amount: g.remaining, ExpiredAt: g.expiresAt,
			},
			Balance: after,
		},
	}}
	return append(list, in.alerts(place, b.available(), &after)...)
}

func (st *State) evolveExpired(account string, d *events.Expired) {
	st.moved(account, &d.Balance, []events.Draw{{Grant: d.Grant, Amount: d.Amount}}, nil, false)
}

// alerts are the thresholds that a balance fell through, one event each: it was not below
// and is now. What is above again and falls again is told again.
func (in *Input) alerts(place balanceID, before int64, after *events.Balance) (list []events.Event) {
	if after.Available >= before {
		return nil
	}
	alert := func(eventType string, t *events.Threshold, below int64) {
		list = append(list, events.Event{
			Type: eventType, Account: in.AccountID, Environment: place.environment,
			Data: &events.Alert{Environment: place.environment, Asset: place.asset, Threshold: t, Below: below, Balance: *after},
		})
	}
	for i := range in.Account.Thresholds {
		t := &in.Account.Thresholds[i]
		if t.Asset != place.asset || t.Environment != "" && t.Environment != place.environment {
			continue
		}
		if below, ok := belowOf(t, in.Account.Plan); ok && before >= below && after.Available < below {
			alert("balance.low", t, below)
		}
	}
	if before > 0 && after.Available <= 0 {
		alert("balance.exhausted", nil, 0)
	}
	return list
}

// belowOf is what a balance must be less than to be below a threshold. A part of the
// allowance is rounded up: what is less than it is less than the whole number above it.
// There is none of a plan without an allowance of the asset.
func belowOf(t *events.Threshold, p *events.Plan) (int64, bool) {
	if t.Percent == 0 {
		return t.Amount, true
	}
	if p == nil || p.Allowance == nil || p.Allowance.Asset != t.Asset {
		return 0, false
	}
	a := p.Allowance.Amount
	return a/100*t.Percent + (a%100*t.Percent+99)/100, true
}
