package projections

import "github.com/keyledger/keyledger/events"

// movement is what an event does to one balance: where money came from and went to, by
// the lists that the rules wrote into the event, and the balance after it. What was drawn
// is no longer available, what was added is; so posted follows from that and from held.
type movement struct {
	after        *events.Balance
	held         int64 // what held changes by
	drawn, added []events.Draw
	fresh        bool                  // a grant that is added is newer than those with its terms
	allowance    *events.Replenishment // the allowance anew, nil where it stays
}

// movements returns what an event does to balances: to n of them, which are two for an
// exchange, and none for most types. This is the one place that knows the money events; a
// type that is missing here is found by the next event of its balance.
func movements(data events.Data) (list [2]movement, n int) {
	m := &list[0]
	switch d := data.(type) {
	case *events.Debited:
		m.after, m.drawn = &d.Balance, d.Drawn
	case *events.Granted:
		m.after, m.added, m.fresh = &d.Balance, grantedDraws(d), true
	case *events.Refunded:
		m.after, m.added = &d.Balance, d.Returned
	case *events.Adjusted:
		m.after, m.drawn, m.added, m.fresh = &d.Balance, d.Drawn, d.Added, true
	case *events.Transferred:
		m.after, m.drawn, m.added, m.fresh = &d.Balance, d.Drawn, d.Added, true
	case *events.Expired:
		m.after, m.drawn = &d.Balance, []events.Draw{{Grant: d.Grant, Amount: d.Amount}}
	case *events.Replenished:
		m.after, m.allowance = &d.Balance, &d.Replenishment
	case *events.Exchanged:
		m.after, m.drawn = &d.From.Balance, d.From.Drawn
		list[1] = movement{after: &d.To.Balance, added: d.To.Added, fresh: true}
		return list, 2
	case *events.Held:
		m.hold(d)
	default:
		return list, 0
	}
	return list, 1
}

// grantedDraws is where a grant went: what was owed was paid first.
func grantedDraws(d *events.Granted) (list []events.Draw) {
	if d.OverdraftPaid > 0 {
		list = append(list, events.Draw{Grant: events.OverdraftGrant, Amount: d.OverdraftPaid})
	}
	if left := d.Amount - d.OverdraftPaid; left > 0 {
		list = append(list, events.Draw{Grant: d.ID, Amount: left, ExpiresAt: d.ExpiresAt, Priority: d.Priority})
	}
	return list
}

// hold is what a hold does. Placed, it draws what it reserves. A capture takes of that,
// and nothing that is available moves. What lapses when it ends is gone from held alone.
func (m *movement) hold(d *events.Held) {
	m.after = &d.Balance
	switch {
	case d.Capture != nil:
		m.held = -d.Capture.Amount
	case d.Status == events.Open:
		m.held, m.drawn = d.Amount, d.Reserved
	default:
		m.held, m.added = -total(d.Returned)-total(d.Lapsed), d.Returned
	}
}

// available is what the movement changes what is available by.
func (m *movement) available() int64 {
	change := total(m.added) - total(m.drawn)
	if r := m.allowance; r != nil {
		change += r.Remaining + r.OverdraftPaid - r.Before
	}
	return change
}

// total is the sum of a list of draws.
func total(list []events.Draw) (sum int64) {
	for i := range list {
		sum += list[i].Amount
	}
	return sum
}
