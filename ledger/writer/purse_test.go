package writer

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// purses is a second model of money. It shares nothing with package ledger and is written
// another way: every credit there is stands in it by itself, what is owed is a number
// beside, a period is known by its local date, and an exchange goes one step at a time.
type purses struct {
	now  time.Time
	plan *purseTerms
	all  map[string]*purse // of "environment asset"
	made int               // credits that were ever there
}

// purseTerms are the terms of a plan that money depends on.
type purseTerms struct {
	asset, every, zone string // of the allowance
	amount             int    // 0: none
	overdraft          map[string]int
	par                [][2]string
}

// purseScale is how many of an asset's units are one of the coarsest's.
var purseScale = map[string]int{"credits": 1, "usd": 1, "usdc": 10, "eur": 1}

type purse struct {
	credits []credit // in burn order
	owed    int
	spent   int // of the allowance, in the period that is called so:
	period  string
	every   string
	zone    string
}

// credit is a single one, and what it is part of.
type credit struct {
	of       string // a grant's id, "allowance" or "exchanged"
	priority int
	expires  time.Time // zero: never
	number   int       // in the order of coming
}

const farAway = 1 << 62

func (p *purses) purse(environment, asset string) *purse {
	name := environment + " " + asset
	if p.all[name] == nil {
		p.all[name] = &purse{}
	}
	return p.all[name]
}

func (u *purse) available() int { return len(u.credits) - u.owed }

func (u *purse) periodAt(now time.Time) string {
	zone, err := time.LoadLocation(u.zone)
	if err != nil {
		panic(err)
	}
	if u.every == "month" {
		return now.In(zone).Format("2006-01")
	}
	return now.In(zone).Format("2006-01-02")
}

// add puts credits in; while something is owed each pays one of it.
func (p *purses) add(u *purse, n int, like credit) {
	for range n {
		if u.owed > 0 {
			u.owed--
			if like.of == "allowance" {
				u.spent++
			}
			continue
		}
		p.made++
		like.number = p.made
		u.credits = append(u.credits, like)
	}
	slices.SortFunc(u.credits, func(a, b credit) int {
		return cmp.Or(a.rank()-b.rank(), cmp.Compare(a.end(), b.end()), a.number-b.number)
	})
}

func (c credit) rank() int {
	if c.of == "allowance" {
		return -farAway
	}
	return c.priority
}

func (c credit) end() int64 {
	if c.expires.IsZero() {
		return farAway
	}
	return c.expires.UnixMilli()
}

// remove takes one credit, or owes one, and says what it was part of.
func (u *purse) remove() string {
	if len(u.credits) == 0 {
		u.owed++
		return "overdraft"
	}
	first := u.credits[0]
	u.credits = u.credits[1:]
	if first.of == "allowance" {
		u.spent++
	}
	return first.of
}

// pass is what time alone brings about.
func (p *purses) pass(now time.Time) {
	p.now = now
	for name, u := range p.all {
		u.credits = slices.DeleteFunc(u.credits, func(c credit) bool { return !c.expires.IsZero() && !c.expires.After(now) })
		if u.zone == "" || u.periodAt(now) == u.period {
			continue
		}
		anew := u.spent > 0
		u.period, u.spent = u.periodAt(now), 0
		if _, asset, _ := strings.Cut(name, " "); anew && p.plan != nil && p.plan.amount > 0 && p.plan.asset == asset {
			p.refill(u)
		}
	}
}

// refill makes the allowance what the plan gives, less what was spent.
func (p *purses) refill(u *purse) {
	u.credits = slices.DeleteFunc(u.credits, func(c credit) bool { return c.of == "allowance" })
	p.add(u, max(0, p.plan.amount-u.spent), credit{of: "allowance"})
}

// setPlan changes the terms.
func (p *purses) setPlan(next *purseTerms) {
	old := p.plan
	p.plan = next
	if old != nil && old.amount == next.amount && (old.amount == 0 || old.asset == next.asset && old.every == next.every && old.zone == next.zone) {
		return
	}
	for _, environment := range []string{"test", "live"} {
		if old != nil && old.amount > 0 && (next.amount == 0 || next.asset != old.asset) {
			u := p.purse(environment, old.asset)
			u.credits = slices.DeleteFunc(u.credits, func(c credit) bool { return c.of == "allowance" })
		}
		if next.amount > 0 {
			u := p.purse(environment, next.asset)
			u.every, u.zone = next.every, next.zone
			u.period = u.periodAt(p.now)
			p.refill(u)
		}
	}
}

// part is so many credits of one thing.
type part struct {
	Of     string
	Amount int
}

// take takes an amount, or nothing and returns false. It returns what it was parts of.
func (p *purses) take(environment, asset string, amount int) ([]part, bool) {
	before := p.copy()
	u := p.purse(environment, asset)
	short := amount - u.available()
	if p.plan != nil {
		for _, pair := range p.plan.par {
			if pair[0] == asset {
				p.swap(u, p.purse(environment, pair[1]), &short, purseScale[pair[1]], purseScale[asset])
			} else if pair[1] == asset {
				p.swap(u, p.purse(environment, pair[0]), &short, purseScale[pair[0]], purseScale[asset])
			}
		}
	}
	parts, ok := p.withdraw(environment, asset, amount)
	if !ok {
		p.all = before
	}
	return parts, ok
}

// withdraw takes an amount that is there or may be owed, or nothing and returns false.
func (p *purses) withdraw(environment, asset string, amount int) (parts []part, ok bool) {
	u := p.purse(environment, asset)
	limit := 0
	if p.plan != nil {
		limit = p.plan.overdraft[asset]
	}
	if amount-u.available() > limit {
		return nil, false
	}
	for range amount {
		of := u.remove()
		if n := len(parts); n == 0 || parts[n-1].Of != of {
			parts = append(parts, part{Of: of})
		}
		parts[len(parts)-1].Amount++
	}
	return parts, true
}

// swap exchanges step by step, while a step is not more than what is short.
func (p *purses) swap(to, from *purse, short *int, scaleFrom, scaleTo int) {
	give, got := 1, 1
	if scaleFrom > scaleTo {
		give = scaleFrom / scaleTo
	} else {
		got = scaleTo / scaleFrom
	}
	added := 0
	for *short >= got && from.owed == 0 && len(from.credits) >= give {
		for range give {
			from.remove()
		}
		added += got
		*short -= got
	}
	p.add(to, added, credit{of: "exchanged"})
}

func (p *purses) copy() map[string]*purse {
	out := maps.Clone(p.all)
	for name, u := range out {
		again := *u
		again.credits = slices.Clone(u.credits)
		out[name] = &again
	}
	return out
}
