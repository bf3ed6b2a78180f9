package events

// Movement is what an event does to one balance: where money came from and went to, by
// the lists that the rules wrote into the event, and the balance after it. What was drawn
// is no longer available, what was added is; so posted follows from that and from held.
type Movement struct {
	After        *Balance
	Held         int64 // what held changes by
	Drawn, Added []Draw
	Fresh        bool           // a grant that is added is newer than those with its terms
	Allowance    *Replenishment // the allowance anew, nil where it stays
}

// Movements returns what an event does to balances: to n of them, which are two for an
// exchange, and none for most types. This is the one place that knows the money events; a
// type that is missing here is found by the next event of its balance.
func Movements(data Data) (list [2]Movement, n int) {
	m := &list[0]
	switch d := data.(type) {
	case *Debited:
		m.After, m.Drawn = &d.Balance, d.Drawn
	case *Granted:
		m.After, m.Added, m.Fresh = &d.Balance, grantedDraws(d), true
	case *Refunded:
		m.After, m.Added = &d.Balance, d.Returned
	case *Adjusted:
		m.After, m.Drawn, m.Added, m.Fresh = &d.Balance, d.Drawn, d.Added, true
	case *Transferred:
		m.After, m.Drawn, m.Added, m.Fresh = &d.Balance, d.Drawn, d.Added, true
	case *Expired:
		m.After, m.Drawn = &d.Balance, []Draw{{Grant: d.Grant, Amount: d.Amount}}
	case *Replenished:
		m.After, m.Allowance = &d.Balance, &d.Replenishment
	case *Exchanged:
		m.After, m.Drawn = &d.From.Balance, d.From.Drawn
		list[1] = Movement{After: &d.To.Balance, Added: d.To.Added, Fresh: true}
		return list, 2
	case *Held:
		m.hold(d)
	default:
		return list, 0
	}
	return list, 1
}

// grantedDraws is where a grant went: what was owed was paid first.
func grantedDraws(d *Granted) (list []Draw) {
	if d.OverdraftPaid > 0 {
		list = append(list, Draw{Grant: OverdraftGrant, Amount: d.OverdraftPaid})
	}
	if left := d.Amount - d.OverdraftPaid; left > 0 {
		list = append(list, Draw{Grant: d.ID, Amount: left, ExpiresAt: d.ExpiresAt, Priority: d.Priority})
	}
	return list
}

// hold is what a hold does. Placed, it draws what it reserves. A capture takes of that,
// and nothing that is available moves. What lapses when it ends is gone from held alone.
func (m *Movement) hold(d *Held) {
	m.After = &d.Balance
	switch {
	case d.Capture != nil:
		m.Held = -d.Capture.Amount
	case d.Status == Open:
		m.Held, m.Drawn = d.Amount, d.Reserved
	default:
		m.Held, m.Added = -Total(d.Returned)-Total(d.Lapsed), d.Returned
	}
}

// Available is what the movement changes what is available by.
func (m *Movement) Available() int64 {
	change := Total(m.Added) - Total(m.Drawn)
	if r := m.Allowance; r != nil {
		change += r.Remaining + r.OverdraftPaid - r.Before
	}
	return change
}

// Total is the sum of a list of draws.
func Total(list []Draw) (sum int64) {
	for i := range list {
		sum += list[i].Amount
	}
	return sum
}

// Words is what a money event says of why it happened, for those who read a statement.
type Words struct {
	// ID is what happened: of a debit, a refund and so on its id, of a hold's end and its
	// beginning the hold's, of a capture that of its debit, of an expiry the grant's. A
	// replenishment has none.
	ID        string
	Key       string // it was used with
	Product   string // it paid
	Reference string // the caller's own, or the reason of an adjustment
}

// Said returns the words of an event, none where Movements has nothing.
func Said(data Data) Words {
	switch d := data.(type) {
	case *Debited:
		return Words{d.ID, d.Key, d.Product, d.Reference}
	case *Granted:
		return Words{ID: d.ID, Reference: d.Reference}
	case *Refunded:
		return Words{d.ID, d.Key, d.Product, d.Reference}
	case *Adjusted:
		return Words{ID: d.ID, Reference: d.Reason}
	case *Transferred:
		return Words{ID: d.ID, Reference: d.Reference}
	case *Expired:
		return Words{ID: d.Grant}
	case *Exchanged:
		return Words{ID: d.ID}
	case *Held:
		w := Words{ID: d.ID, Key: d.Key, Reference: d.Reference}
		if d.Capture != nil {
			w.ID = d.Capture.Debit
		}
		return w
	}
	return Words{}
}
