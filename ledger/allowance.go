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

// allowanceEnd returns when the allowance that a draw at now takes from ends.
func (in *Input) allowanceEnd(b *balance) func() events.Time {
	return func() events.Time {
		if b.allowance.until > in.Time {
			return b.allowance.until
		}
		return periodEnd(in.Account.Plan.Allowance, in.Time)
	}
}

// replenish is the start of a period for an allowance out of which something was spent:
// however many periods have gone by, one event, for the latest.
func (in *Input) replenish(place balanceID) []events.Event {
	b := in.Account.balance(place)
	end := periodEnd(in.Account.Plan.Allowance, in.Time)
	return in.allowanceEvent(b, place, b.allowance.amount, 0, events.ByPeriod, end)
}

// setAllowance is what a new plan makes of the allowances in both environments: the new
// amount less what was spent in the period that runs.
func (in *Input) setAllowance(next *events.Plan) (list []events.Event) {
	var old *events.Allowance
	if p := in.Account.Plan; p != nil {
		old = p.Allowance
	}
	if old == next.Allowance || old != nil && next.Allowance != nil && *old == *next.Allowance {
		return nil
	}
	for _, environment := range []string{events.Test, events.Live} {
		if old != nil && (next.Allowance == nil || next.Allowance.Asset != old.Asset) {
			place := balanceID{environment, old.Asset}
			list = append(list, in.allowanceEvent(in.Account.balance(place), place, 0, 0, events.ByPlan, 0)...)
		}
		if a := next.Allowance; a != nil {
			place := balanceID{environment, a.Asset}
			b := in.Account.balance(place)
			spent := int64(0)
			if b.allowance != nil {
				spent = b.allowance.spent
			}
			list = append(list, in.allowanceEvent(b, place, a.Amount, spent, events.ByPlan, periodEnd(a, in.Time))...)
		}
	}
	return list
}

// allowanceEvent is the event that sets an allowance, and what it brings about. It pays
// first what the balance owes. What there is no room for, since holds keep the allowances
// of many periods, counts as spent.
func (in *Input) allowanceEvent(b *balance, place balanceID, amount, spent int64, by string, end events.Time) []events.Event {
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
	list := []events.Event{{
		Type: "credit.replenished", Account: in.AccountID, Environment: place.environment,
		Data: &events.Replenished{Replenishment: r, Balance: after},
	}}
	return append(list, in.alerts(place, b.available(), &after)...)
}

func (st *State) evolveReplenished(account string, d *events.Replenished) {
	a := st.accounts[account]
	if a == nil {
		return
	}
	b := a.makeBalance(balanceID{d.Environment, d.Asset})
	b.posted, b.held = d.Balance.Posted, d.Balance.Held
	b.allowance = nil
	if d.Amount > 0 {
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
		below := t.Amount
		if t.Percent > 0 {
			below = percentOf(in.Account.Plan, place.asset, t.Percent)
		}
		if before >= below && after.Available < below {
			alert("balance.low", t, below)
		}
	}
	if before > 0 && after.Available <= 0 {
		alert("balance.exhausted", nil, 0)
	}
	return list
}

// percentOf is a part of the plan's allowance of an asset, rounded down.
func percentOf(p *events.Plan, asset string, percent int64) int64 {
	if p == nil || p.Allowance == nil || p.Allowance.Asset != asset {
		return 0
	}
	a := p.Allowance.Amount
	return a/100*percent + a%100*percent/100
}
