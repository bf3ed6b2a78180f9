package spec

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

func granted(amount int64) Step {
	return Do("credit.grant", fmt.Sprintf(`{"environment":"test","asset":"credits","amount":%d}`, amount))
}

func debited(amount int64) Step {
	return Do("credit.debit", fmt.Sprintf(`{"environment":"test","asset":"credits","amount":%d}`, amount))
}

const (
	grantA = "grant_01ARZ3NDEKTSV4RRFFQ69G5FAV"
	grantB = "grant_01ARZ3NDEKTSV4RRFFQ69G5FAW"
)

func TestCredit(t *testing.T) {
	Run(t, []Case{
		{"grant", []Step{opened}, granted(100), Then{Events: []string{"credit.granted"},
			Data: `{"amount":100,"asset":"credits","environment":"test","priority":0,"category":"paid","balance":{"environment":"test","asset":"credits","posted":100,"held":0,"available":100}}`}},
		{"debit", []Step{opened, granted(100)}, debited(30), Then{Events: []string{"credit.debited"},
			Data: `{"amount":30,"balance":{"environment":"test","asset":"credits","posted":70,"held":0,"available":70}}`}},
		{"the last credit", []Step{opened, granted(100)}, debited(100), Then{Events: []string{"credit.debited", "balance.exhausted"}}},
		{"one more than the last", []Step{opened, granted(100)}, debited(101), Then{Code: events.InsufficientCredits}},
		{"nothing was ever granted", []Step{opened}, debited(1), Then{Code: events.InsufficientCredits}},
		{"environments are apart", []Step{opened, granted(100), Do("account.enable_environment", `{"environment":"live"}`)},
			Do("credit.debit", `{"environment":"live","asset":"credits","amount":1}`), Then{Code: events.InsufficientCredits}},
		{"live is off at first", []Step{opened}, Do("credit.debit", `{"environment":"live","asset":"credits","amount":1}`), Then{Code: events.EnvironmentDisabled}},
		{"assets are apart", []Step{opened, granted(100)}, Do("credit.debit", `{"environment":"test","asset":"usd","amount":1}`), Then{Code: events.InsufficientCredits}},
		{"low priority is drawn first, then the oldest",
			[]Step{opened,
				Do("credit.grant", `{"environment":"test","asset":"credits","amount":10,"grant":"`+grantA+`","priority":5}`),
				Do("credit.grant", `{"environment":"test","asset":"credits","amount":10,"grant":"`+grantB+`"}`)},
			debited(15), Then{Events: []string{"credit.debited"}, Data: `{"drawn":[{"grant":"` + grantB + `","amount":10},{"grant":"` + grantA + `","amount":5,"priority":5}]}`}},
		{"a grant id grants once", []Step{opened, Do("credit.grant", `{"environment":"test","asset":"credits","amount":10,"grant":"`+grantA+`"}`), debited(10)},
			Do("credit.grant", `{"environment":"test","asset":"credits","amount":10,"grant":"`+grantA+`"}`), Then{Code: events.AlreadyExists}},
		{"the largest amount", []Step{opened}, granted(1<<53 - 1), Then{Events: []string{"credit.granted"}}},
		{"one more than the largest", []Step{opened}, granted(1 << 53), Then{Code: events.InvalidArgument}},
		{"zero", []Step{opened}, granted(0), Then{Code: events.InvalidArgument}},
		{"negative", []Step{opened}, granted(-1), Then{Code: events.InvalidArgument}},
		{"a balance has a limit too", []Step{opened, granted(1<<53 - 1)}, granted(1), Then{Code: events.LimitExceeded}},
		{"a debit for a key", []Step{opened, granted(100), key}, Do("credit.debit", `{"environment":"test","asset":"credits","amount":1,"key":"@key1","product":"payments"}`),
			Then{Events: []string{"credit.debited"}, Data: `{"key":"@key1","product":"payments"}`}},
		{"a debit for an unknown key", []Step{opened, granted(100)}, Do("credit.debit", `{"environment":"test","asset":"credits","amount":1,"key":"key_01ARZ3NDEKTSV4RRFFQ69G5FAV"}`),
			Then{Code: events.NotFound}},
		{"a debit for a key of the other environment", []Step{opened, granted(100), liveKey}, Do("credit.debit", `{"environment":"test","asset":"credits","amount":1,"key":"@key1"}`),
			Then{Code: events.FailedPrecondition}},
	})
}

func TestGrantsHaveALimit(t *testing.T) {
	given := []Step{opened}
	for range 1000 {
		given = append(given, granted(1))
	}
	Run(t, []Case{
		{"1,001 grants with something left", given, granted(1), Then{Code: events.LimitExceeded}},
		{"a used up grant makes room", append(given[:len(given):len(given)], debited(1)), granted(1), Then{Events: []string{"credit.granted"}}},
	})
}

func TestBalancesHaveALimit(t *testing.T) {
	of := func(asset int) string { return fmt.Sprintf(`"environment":"test","asset":"a%d","amount":1`, asset) }
	given := []Step{opened, For(Other, opened)}
	for asset := range 1000 {
		given = append(given, Do("credit.grant", "{"+of(asset)+"}"))
	}
	Run(t, []Case{
		{"a 1,001st balance", given, Do("credit.grant", "{"+of(1000)+"}"), Then{Code: events.LimitExceeded}},
		{"by a correction", given, Do("credit.adjust", "{"+of(1000)+`,"reason":"r"}`), Then{Code: events.LimitExceeded}},
		{"by a transfer", append(given[:len(given):len(given)], For(Other, Do("credit.grant", "{"+of(1000)+"}"))),
			For(Other, Do("credit.transfer", `{"to":"acme",`+of(1000)+"}")), Then{Code: events.LimitExceeded}},
		{"more in one of them", given, Do("credit.grant", "{"+of(999)+"}"), Then{Events: []string{"credit.granted"}}},
	})
}

func adjusted(amount int64) Step {
	return Do("credit.adjust", fmt.Sprintf(`{"environment":"test","asset":"credits","amount":%d,"reason":"r"}`, amount))
}

func TestCreditAdjust(t *testing.T) {
	reason := func(text string) Step {
		return Do("credit.adjust", `{"environment":"test","asset":"credits","amount":1,"reason":"`+text+`"}`)
	}
	Run(t, []Case{
		{"up", []Step{opened, granted(100)}, adjusted(30), Then{Events: []string{"credit.adjusted"}, Data: `{"amount":30,"reason":"r","environment":"test","asset":"credits","created_at":"2026-03-01T12:00:00Z"}`,
			Reply: `{"balance":{"environment":"test","asset":"credits","posted":130,"held":0,"available":130}}`}},
		{"what it adds does not expire", []Step{opened, adjusted(30)}, After(87600*time.Hour, debited(30)), Then{Events: []string{"credit.debited", "balance.exhausted"}}},
		{"down, in burn order", []Step{opened, expiringGrant, lastingGrant}, adjusted(-105), Then{Events: []string{"credit.adjusted"},
			Data:  `{"amount":-105,"drawn":[{"grant":"` + grantA + `","amount":100,"expires_at":"2026-03-01T13:00:00Z"},{"grant":"` + grantB + `","amount":5}]}`,
			Reply: `{"balance":{"environment":"test","asset":"credits","posted":15,"held":0,"available":15}}`}},
		{"to nothing", []Step{opened, granted(100)}, adjusted(-100), Then{Events: []string{"credit.adjusted", "balance.exhausted"}}},
		{"below nothing", []Step{opened, granted(100)}, adjusted(-101), Then{Code: events.InsufficientCredits, Details: `{"available":100,"required":101}`}},
		{"what is held stays held", []Step{opened, granted(100), held(60)}, adjusted(-41), Then{Code: events.InsufficientCredits}},
		{"to the end of the overdraft", []Step{opened, overdrawn, granted(100)}, adjusted(-150), Then{Events: []string{"credit.adjusted", "balance.exhausted"},
			Reply: `{"balance":{"environment":"test","asset":"credits","posted":-50,"held":0,"available":-50}}`}},
		{"and past it", []Step{opened, overdrawn, granted(100)}, adjusted(-151), Then{Code: events.InsufficientCredits}},
		{"it pays what is owed", []Step{opened, overdrawn, debited(50)}, adjusted(20), Then{Events: []string{"credit.adjusted"}, Data: `{"added":[{"grant":"overdraft","amount":20}]}`,
			Reply: `{"balance":{"environment":"test","asset":"credits","posted":-30,"held":0,"available":-30}}`}},
		{"par does not stand in", []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","par":[["credits","gold"]]}}`), Do("credit.grant", `{"environment":"test","asset":"gold","amount":5}`)}, adjusted(-1), Then{Code: events.InsufficientCredits}},
		{"while suspended", []Step{opened, suspended}, adjusted(1), Then{Events: []string{"credit.adjusted"}}},
		{"of a closed account", []Step{opened, Do("account.close", `{}`)}, adjusted(1), Then{Code: events.FailedPrecondition}},
		{"where the environment is off", []Step{opened}, Do("credit.adjust", `{"environment":"live","asset":"credits","amount":1,"reason":"r"}`), Then{Events: []string{"credit.adjusted"}}},
		{"no account", nil, adjusted(1), Then{Code: events.NotFound}},
		{"by nothing", []Step{opened}, adjusted(0), Then{Code: events.InvalidArgument}},
		{"up by the most", []Step{opened}, adjusted(mostCredits), Then{Events: []string{"credit.adjusted"}}},
		{"up by one more", []Step{opened}, adjusted(mostCredits + 1), Then{Code: events.InvalidArgument}},
		{"down by the most", []Step{opened, granted(mostCredits)}, adjusted(-mostCredits), Then{Events: []string{"credit.adjusted", "balance.exhausted"}}},
		{"down by one more", []Step{opened}, adjusted(-mostCredits - 1), Then{Code: events.InvalidArgument}},
		{"up to the most", []Step{opened, granted(1)}, adjusted(mostCredits - 1), Then{Events: []string{"credit.adjusted"}}},
		{"up past the most", []Step{opened, granted(1)}, adjusted(mostCredits), Then{Code: events.LimitExceeded}},
		{"up past the most once the allowance is whole", []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","allowance":{"amount":5}}}`), debited(5)}, adjusted(mostCredits - 4), Then{Code: events.LimitExceeded}},
		{"and not past it", []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","allowance":{"amount":5}}}`), debited(5)}, adjusted(mostCredits - 5), Then{Events: []string{"credit.adjusted"}}},
		{"no reason", []Step{opened}, reason(""), Then{Code: events.InvalidArgument}},
		{"a reason of 256 characters", []Step{opened}, reason(strings.Repeat("é", 256)), Then{Events: []string{"credit.adjusted"}}},
		{"a reason of 257 characters", []Step{opened}, reason(strings.Repeat("é", 257)), Then{Code: events.InvalidArgument}},
		{"no environment", []Step{opened}, Do("credit.adjust", `{"asset":"credits","amount":1,"reason":"r"}`), Then{Code: events.InvalidArgument}},
		{"no asset", []Step{opened}, Do("credit.adjust", `{"environment":"test","amount":1,"reason":"r"}`), Then{Code: events.InvalidArgument}},
	})
}

func transferred(amount int64) Step {
	return Do("credit.transfer", fmt.Sprintf(`{"to":"bolt","environment":"test","asset":"credits","amount":%d}`, amount))
}

func TestCreditTransfer(t *testing.T) {
	both := []Step{opened, For(Other, opened)}
	and := func(more ...Step) []Step { return append(both[:len(both):len(both)], more...) }
	to := func(text string) Step {
		return Do("credit.transfer", `{"to":"`+text+`","environment":"test","asset":"credits","amount":1}`)
	}
	legs := []string{"credit.transferred", "credit.transferred"}
	last := []string{"credit.transferred", "credit.transferred", "balance.exhausted"}
	reference := func(text string) Step {
		return Do("credit.transfer", `{"to":"bolt","environment":"test","asset":"credits","amount":1,"reference":"`+text+`"}`)
	}
	Run(t, []Case{
		{"the sender's leg answers", and(granted(100)), transferred(30), Then{Events: legs, Reply: `{"balance":{"environment":"test","asset":"credits","posted":70,"held":0,"available":70}}`}},
		{"the receiver's leg is its own", and(granted(100)), transferred(30), Then{Events: legs,
			Data: `{"from":"acme","to":"bolt","amount":30,"drawn":null,"balance":{"environment":"test","asset":"credits","posted":30,"held":0,"available":30}}`}},
		{"what came can be spent", and(granted(100), transferred(30)), For(Other, debited(30)), Then{Events: []string{"credit.debited", "balance.exhausted"}}},
		{"and for ever", and(expiringGrant, transferred(30)), For(Other, After(87600*time.Hour, debited(30))), Then{Events: []string{"credit.expired", "balance.exhausted", "credit.debited", "balance.exhausted"}}},
		{"all there is", and(granted(100)), transferred(100), Then{Events: last}},
		{"one more", and(granted(100)), transferred(101), Then{Code: events.InsufficientCredits}},
		{"what is held stays held", and(granted(100), held(60)), transferred(41), Then{Code: events.InsufficientCredits}},
		{"to the end of the overdraft", and(overdrawn), transferred(50), Then{Events: legs, Reply: `{"balance":{"environment":"test","asset":"credits","posted":-50,"held":0,"available":-50}}`}},
		{"and past it", and(overdrawn), transferred(51), Then{Code: events.InsufficientCredits}},
		{"par does not stand in", and(Do("account.set_plan", `{"plan":{"name":"p","par":[["credits","gold"]]}}`), Do("credit.grant", `{"environment":"test","asset":"gold","amount":5}`)), transferred(1), Then{Code: events.InsufficientCredits}},
		{"it pays what the receiver owes", and(granted(100), For(Other, overdrawn), For(Other, debited(50))), transferred(20), Then{Events: legs,
			Data: `{"added":[{"grant":"overdraft","amount":20}],"balance":{"environment":"test","asset":"credits","posted":-30,"held":0,"available":-30}}`}},
		{"to itself", and(granted(100)), to(Account), Then{Code: events.InvalidArgument}},
		{"to nobody", and(granted(100)), to("nobody"), Then{Code: events.NotFound}},
		{"to the ledger", and(granted(100)), to("_"), Then{Code: events.InvalidArgument}},
		{"to no account", and(granted(100)), to(""), Then{Code: events.InvalidArgument}},
		{"to what cannot be one", and(granted(100)), to("b.c"), Then{Code: events.InvalidArgument}},
		{"from nobody", []Step{For(Other, opened)}, transferred(1), Then{Code: events.NotFound}},
		{"from a suspended account", and(granted(100), suspended), transferred(1), Then{Events: legs}},
		{"to a suspended account", and(granted(100), For(Other, suspended)), transferred(1), Then{Events: legs}},
		{"to a closed account", and(granted(100), For(Other, Do("account.close", `{}`))), transferred(1), Then{Code: events.FailedPrecondition}},
		{"from a closed account", and(granted(100), Do("account.close", `{}`)), transferred(1), Then{Code: events.FailedPrecondition}},
		{"live is off at first", and(), Do("credit.transfer", `{"to":"bolt","environment":"live","asset":"credits","amount":1}`), Then{Code: events.EnvironmentDisabled}},
		{"to where live is off", and(Do("account.enable_environment", `{"environment":"live"}`), Do("credit.grant", `{"environment":"live","asset":"credits","amount":2}`)),
			Do("credit.transfer", `{"to":"bolt","environment":"live","asset":"credits","amount":1}`), Then{Events: legs}},
		{"of nothing", and(granted(100)), transferred(0), Then{Code: events.InvalidArgument}},
		{"of less", and(granted(100)), transferred(-1), Then{Code: events.InvalidArgument}},
		{"of the most", and(granted(mostCredits)), transferred(mostCredits), Then{Events: last}},
		{"of one more", and(granted(mostCredits)), transferred(mostCredits + 1), Then{Code: events.InvalidArgument}},
		{"up to what the receiver may have", and(granted(100), For(Other, granted(mostCredits-1))), transferred(1), Then{Events: legs}},
		{"and past it", and(granted(100), For(Other, granted(mostCredits-1))), transferred(2), Then{Code: events.LimitExceeded}},
		{"a reference of 256 characters", and(granted(100)), reference(strings.Repeat("é", 256)), Then{Events: legs}},
		{"a reference of 257 characters", and(granted(100)), reference(strings.Repeat("é", 257)), Then{Code: events.InvalidArgument}},
		{"no environment", and(), Do("credit.transfer", `{"to":"bolt","asset":"credits","amount":1}`), Then{Code: events.InvalidArgument}},
		{"no asset", and(), Do("credit.transfer", `{"to":"bolt","environment":"test","amount":1}`), Then{Code: events.InvalidArgument}},
	})
}

func TestReceiversHaveALimitToo(t *testing.T) {
	given := []Step{opened, For(Other, opened), granted(10)}
	for range 999 {
		given = append(given, For(Other, granted(1)))
	}
	Run(t, []Case{
		{"the 1,000th grant", given, transferred(1), Then{Events: []string{"credit.transferred", "credit.transferred"}}},
		{"one more", append(given[:len(given):len(given)], For(Other, granted(1))), transferred(1), Then{Code: events.LimitExceeded}},
		{"adjusted", append(given[:len(given):len(given)], For(Other, granted(1))), For(Other, adjusted(1)), Then{Code: events.LimitExceeded}},
	})
}
