package ledger

import (
	"cmp"
	"slices"
	"strings"
	"unique"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// balance is what an account has of one asset in one environment. What is available is
// the allowance's rest and the rests of the grants, or, below zero, what is owed: whoever
// owes has neither.
type balance struct {
	id           unique.Handle[balanceID] // shared by all accounts
	posted, held int64
	grants       []grant    // with something left, in burn order
	allowance    *allowance // nil where no plan ever gave one
}

// grant is what is left of one.
type grant struct {
	id        ulid.ULID
	remaining int64
	expiresAt events.Time // 0: never
	priority  int64
}

// allowance is a plan's allowance in one environment. Once until is past, all of it is
// there again; if something was spent, that takes a credit.replenished. One that the plan
// no longer gives has no amount and stays for what was spent: a plan that gives one again
// before until begins with that.
type allowance struct {
	amount, spent int64
	until         events.Time // end of the period that spent belongs to
	due           events.Time // until which the dues know of it
}

type balanceID struct{ environment, asset string }

func (id balanceID) compare(other balanceID) int {
	return cmp.Or(strings.Compare(id.environment, other.environment), strings.Compare(id.asset, other.asset))
}

func (b *balance) available() int64 { return b.posted - b.held }

// owed is how far below zero the balance is.
func (b *balance) owed() int64 { return max(0, -b.available()) }

// remaining is the rest of the allowance.
func (a *allowance) remaining() int64 {
	if a == nil {
		return 0
	}
	return max(0, a.amount-a.spent)
}

// room is how much can come in so that posted never passes MaxAmount, not even once the
// allowance is whole again.
func (b *balance) room() int64 {
	whole := b.posted
	if b.allowance != nil {
		whole += b.allowance.amount - b.allowance.remaining()
	}
	return MaxAmount - max(whole, 0)
}

// after is the small balance once posted and held have changed.
func (b *balance) after(id balanceID, posted, held int64) events.Balance {
	out := events.Balance{Environment: id.environment, Asset: id.asset, Posted: b.posted + posted, Held: b.held + held}
	out.Available = out.Posted - out.Held
	return out
}

// draw takes an amount in burn order: the allowance, the grants, and what is not there as
// owed. Whether it may is decided before. End is the end of the allowance's period.
func (b *balance) draw(amount int64, end events.Time) (list []events.Draw) {
	if part := min(amount, b.allowance.remaining()); part > 0 {
		list = append(list, events.Draw{Grant: events.AllowanceGrant, Amount: part, ExpiresAt: end})
		amount -= part
	}
	for i := 0; amount > 0 && i < len(b.grants); i++ {
		g := &b.grants[i]
		part := min(amount, g.remaining)
		list = append(list, events.Draw{
			Grant: prefixed(grantIDPrefix, g.id), Amount: part, ExpiresAt: g.expiresAt, Priority: g.priority,
		})
		amount -= part
	}
	if amount > 0 {
		list = append(list, events.Draw{Grant: events.OverdraftGrant, Amount: amount})
	}
	return list
}

// fund is where an amount goes that comes in anew: it pays what is owed, and the rest is
// a grant on these terms.
func (b *balance) fund(amount int64, terms events.Draw) (list []events.Draw) {
	if paid := min(amount, b.owed()); paid > 0 {
		list = append(list, events.Draw{Grant: events.OverdraftGrant, Amount: paid})
		amount -= paid
	}
	if amount > 0 {
		terms.Amount = amount
		list = append(list, terms)
	}
	return list
}

// giveBack is where draws go that are undone, the last drawn first: what is owed is paid
// before all, then each goes where it came from if that is live at now. The rest, and
// what was owed and is no more, is homeless.
func (b *balance) giveBack(drawn []events.Draw, now events.Time) (list []events.Draw, homeless []events.Draw) {
	sum := total(drawn)
	paid := min(sum, b.owed())
	if paid > 0 {
		list = append(list, events.Draw{Grant: events.OverdraftGrant, Amount: paid})
	}
	for _, d := range slices.Backward(undone(drawn, paid, sum-paid)) {
		back, rest := d, d
		back.Amount = b.takesBack(&d, now)
		if rest.Amount -= back.Amount; back.Amount > 0 {
			list = append(list, back)
		}
		if rest.Amount > 0 {
			homeless = append(homeless, rest)
		}
	}
	return list, homeless
}

// takesBack is how much of a draw can go back to where it came from. Nothing can to an
// allowance of which more was spent than there is to have since the plan changed: what
// came back would be there twice once the plan is changed back.
func (b *balance) takesBack(d *events.Draw, now events.Time) int64 {
	switch {
	case d.Grant == events.OverdraftGrant:
		return 0
	case d.Grant != events.AllowanceGrant:
		if d.ExpiresAt != 0 && d.ExpiresAt <= now {
			return 0
		}
		return d.Amount
	}
	if a := b.allowance; a == nil || a.spent > a.amount {
		return 0
	}
	return b.lifts(d, now)
}

// lifts, for a draw whose period still ran when it was undone (a change of the plan may have
// given the allowance another one since, and carried over what was spent), is by how much the rest of the allowance becomes more when a draw from it is as if
// it had never been: by less than the draw where more was spent than there is to have.
func (b *balance) lifts(d *events.Draw, now events.Time) int64 {
	a := b.allowance
	if d.Grant != events.AllowanceGrant || a == nil || d.ExpiresAt <= now || a.until <= now {
		return 0
	}
	return max(0, min(d.Amount, a.spent)-max(0, a.spent-a.amount))
}

// total is the sum of a list of draws.
func total(list []events.Draw) (sum int64) {
	for i := range list {
		sum += list[i].Amount
	}
	return sum
}

// balance returns the balance, an empty one where nothing ever moved.
func (a *Account) balance(id balanceID) *balance {
	if i, found := a.findBalance(id); found {
		return &a.balances[i]
	}
	return &balance{}
}

// findBalance returns where the balance stands, or would.
func (a *Account) findBalance(id balanceID) (int, bool) {
	for i := range a.balances {
		if c := a.balances[i].id.Value().compare(id); c >= 0 {
			return i, c == 0
		}
	}
	return len(a.balances), false
}

// makeBalance returns the balance, which is made where there is none. It stays where it is
// until the next one is made.
func (st *State) makeBalance(a *Account, id balanceID) *balance {
	i, found := a.findBalance(id)
	if !found {
		st.newPlace = shared(st.newPlace, id)
		a.balances = slices.Insert(a.balances, i, balance{id: st.newPlace})
	}
	return &a.balances[i]
}

// moved folds a movement of money: what was drawn, what was added, and the balance after
// it. Fresh says that what was added is newer than what has the same terms.
func (st *State) moved(account string, after *events.Balance, drawn, added []events.Draw, fresh bool) {
	a := st.account(account)
	if a == nil {
		return
	}
	b := st.makeBalance(a, balanceID{after.Environment, after.Asset})
	b.posted, b.held = after.Posted, after.Held
	for i := range drawn {
		b.evolveDrawn(&drawn[i])
	}
	for i := range added {
		if id, ok := b.evolveAdded(&added[i], fresh); ok && added[i].ExpiresAt != 0 {
			st.setDue(a, due{at: added[i].ExpiresAt, kind: dueGrant, id: id, place: b.id})
		}
	}
	st.setAllowanceDue(a, b)
}

func (b *balance) evolveDrawn(d *events.Draw) {
	switch d.Grant {
	case events.OverdraftGrant:
	case events.AllowanceGrant:
		if b.allowance != nil {
			b.allowance.spent += d.Amount
			b.allowance.until = d.ExpiresAt
		}
	default:
		i := b.find(d.Grant)
		if i < 0 {
			return
		}
		if b.grants[i].remaining -= d.Amount; b.grants[i].remaining <= 0 {
			b.grants = slices.Delete(b.grants, i, i+1)
		}
	}
}

// evolveAdded returns true for a grant that was not there.
func (b *balance) evolveAdded(d *events.Draw, fresh bool) (ulid.ULID, bool) {
	switch d.Grant {
	case events.OverdraftGrant:
		return ulid.ULID{}, false
	case events.AllowanceGrant:
		if b.allowance != nil {
			// What was spent beyond an amount that is smaller now is undone first.
			b.allowance.spent = min(b.allowance.spent, b.allowance.amount) - d.Amount
		}
		return ulid.ULID{}, false
	}
	if i := b.find(d.Grant); i >= 0 {
		b.grants[i].remaining += d.Amount
		return ulid.ULID{}, false
	}
	id, err := ulid.ParseStrict(strings.TrimPrefix(d.Grant, grantIDPrefix))
	if err != nil {
		return id, false
	}
	g := grant{id: id, remaining: d.Amount, expiresAt: d.ExpiresAt, priority: d.Priority}
	i := 0
	for i < len(b.grants) && (b.grants[i].before(&g) || fresh && !g.before(&b.grants[i])) {
		i++
	}
	b.grants = slices.Insert(b.grants, i, g)
	return id, true
}

// before says whether g is burnt before other by its terms: low priority first, then the
// earliest expiry.
func (g *grant) before(other *grant) bool {
	if g.priority != other.priority {
		return g.priority < other.priority
	}
	return g.expiresAt != other.expiresAt && (other.expiresAt == 0 || g.expiresAt != 0 && g.expiresAt < other.expiresAt)
}

// find returns which grant has the id, -1 for none.
func (b *balance) find(id string) int {
	parsed, err := ulid.ParseStrict(strings.TrimPrefix(id, grantIDPrefix))
	if err != nil {
		return -1
	}
	return slices.IndexFunc(b.grants, func(g grant) bool { return g.id == parsed })
}
