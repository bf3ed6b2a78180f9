package ledger

import (
	"crypto/sha256"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

const exchangeIDPrefix = "exchange_"

// coverShortfall makes a balance able to pay an amount that it is short by: what the
// plan's par pairs have is exchanged, and the rest it may owe. It returns the balance as
// it is after the exchanges.
func (in *Input) coverShortfall(t *taken, b *balance, short int64, class string) (*balance, *events.Error) {
	plan := in.Account.Plan
	if plan == nil {
		return nil, errInsufficient(t.place.asset, t.before, t.amount)
	}
	changed := *b
	changed.grants = append([]grant(nil), b.grants...)
	for _, pair := range plan.Par {
		other, ok := otherOf(pair, t.place.asset)
		if !ok || short <= 0 || !mayTouch(class, plan.Class(other)) {
			continue
		}
		short -= in.exchange(t, &changed, other, short)
	}
	if short > plan.Overdraft[t.place.asset] {
		return nil, errInsufficient(t.place.asset, t.before, t.amount)
	}
	return &changed, nil
}

// exchange turns as much of another asset into what b is short of as there is of it, and
// returns how much that was. Both legs have the same value to the last unit: what cannot
// be had exactly is not exchanged.
func (in *Input) exchange(t *taken, b *balance, asset string, short int64) int64 {
	from := balanceID{t.place.environment, asset}
	source := in.Account.balance(from)
	give, take := rate(in.Account.Plan, asset, t.place.asset)
	// In steps of give units of one, which are worth take units of the other. What of the
	// shortfall has no exact price stays short.
	steps := min(short/take, max(0, source.available())/give)
	if steps == 0 || b.room() < steps*take {
		return 0
	}
	id := derived(in.CommandID, byte(len(t.exchanges)))
	drawn := source.draw(steps*give, in.allowanceEnd(source))
	added := b.fund(steps*take, events.Draw{Grant: prefixed(grantIDPrefix, id)})
	fromAfter, toAfter := source.after(from, -steps*give, 0), b.after(t.place, steps*take, 0)
	t.exchanges = append(t.exchanges, events.Event{
		Type: "credit.exchanged", Account: in.AccountID, Environment: t.place.environment,
		Data: &events.Exchanged{
			ID: prefixed(exchangeIDPrefix, id), Environment: t.place.environment, CreatedAt: in.Time,
			From: events.Leg{Asset: asset, Amount: steps * give, Drawn: drawn, Balance: fromAfter},
			To:   events.Leg{Asset: t.place.asset, Amount: steps * take, Added: added, Balance: toAfter},
		},
	})
	t.alerts = append(t.alerts, in.alerts(from, source.available(), &fromAfter)...)
	b.posted = toAfter.Posted
	for i := range added {
		b.evolveAdded(&added[i], true)
	}
	return steps * take
}

// rate returns how many units of one asset are worth how many of another, in the smallest
// whole numbers: scales are at most maxScale apart.
func rate(p *events.Plan, from, to string) (give, take int64) {
	give, take = 1, 1
	for d := p.Assets[from].Scale - p.Assets[to].Scale; d > 0; d-- {
		give *= 10
	}
	for d := p.Assets[to].Scale - p.Assets[from].Scale; d > 0; d-- {
		take *= 10
	}
	return give, take
}

// otherOf returns the asset that a pair puts beside one of its two.
func otherOf(pair []string, asset string) (string, bool) {
	switch asset {
	case pair[0]:
		return pair[1], true
	case pair[1]:
		return pair[0], true
	}
	return "", false
}

// mayTouch says whether a key of a class may spend an asset of a class.
func mayTouch(key, asset string) bool {
	return key == events.Any || asset == events.Credits || key == asset
}

// derived makes one more id out of a command's, at the same time: the n-th of those that
// it needs.
func derived(id ulid.ULID, n byte) ulid.ULID {
	sum := sha256.Sum256(append(id[:], n))
	copy(id[6:], sum[:])
	return id
}

func errInsufficient(asset string, available, required int64) *events.Error {
	return events.Errorf(events.InsufficientCredits, "%d %s are available, %d were asked for", available, asset, required).
		With("available", available).With("required", required)
}
