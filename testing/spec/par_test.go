package spec

import (
	"fmt"
	"testing"

	"github.com/keyledger/keyledger/events"
)

func give(asset string, amount int64) Step {
	return Do("credit.grant", fmt.Sprintf(`{"environment":"test","asset":%q,"amount":%d}`, asset, amount))
}

func pay(asset string, amount int64) Step {
	return Do("credit.debit", fmt.Sprintf(`{"environment":"test","asset":%q,"amount":%d}`, asset, amount))
}

func balance(asset string, available int64) string {
	return fmt.Sprintf(`"balance":{"environment":"test","asset":%q,"posted":%d,"held":0,"available":%d}`, asset, available, available)
}

// insufficient is a refusal that changes nothing.
var insufficient = Then{Code: events.InsufficientCredits}

func took(more ...string) []string { return append([]string{"credit.debited"}, more...) }

func TestOverdraft(t *testing.T) {
	limit := func(n int) Step { return plan(fmt.Sprintf(`"overdraft":{"credits":%d}`, n)) }
	base := []Step{opened, limit(100), granted(30)}
	asked := with(base, key)
	cost := func(n int) Step { return Ask(fmt.Sprintf(`{"secret":"@secret1","cost":%d}`, n)) }
	Run(t, []Case{
		{"to the limit", base, debited(130), Then{Events: took("balance.exhausted"), Data: `{` + balance("credits", -100) + `}`}},
		{"one more", base, debited(131), insufficient},
		{"in steps", with(base, debited(29), debited(2), debited(98)), debited(1), Then{Events: took(), Data: `{"drawn":[{"grant":"overdraft","amount":1}],` + balance("credits", -100) + `}`}},
		{"and not one more", with(base, debited(29), debited(2), debited(99)), debited(1), insufficient},
		{"grants are drawn before it", base, debited(31), Then{Events: took("balance.exhausted"), Data: `{` + balance("credits", -1) + `}`}},
		{"no plan, none", []Step{opened}, debited(1), insufficient},
		{"zero is none", []Step{opened, limit(0)}, debited(1), insufficient},
		{"it is of one asset", base, pay("gold", 1), insufficient},
		{"authorize to the limit", asked, cost(130), Then{Events: took("balance.exhausted"), Answer: `{"allowed":true,"balance":-100}`}},
		{"authorize, one more", asked, cost(131), Then{Code: events.InsufficientCredits, Answer: `{"allowed":false,"balance":30,"cost":131}`}},
		{"a free request while owing", with(asked, debited(130)), cost(0), Then{Answer: `{"allowed":true,"balance":-100}`}},
		{"a limit that was lowered takes nothing away", with(base, debited(100)), limit(10), Then{Events: []string{"account.plan_set"}}},
		{"and lets nobody take more", with(base, debited(100), limit(10)), debited(1), insufficient},
		{"until enough was paid", with(base, debited(100), limit(10), granted(61)), debited(1), Then{Events: took(), Data: `{` + balance("credits", -10) + `}`}},
		{"and not one more than that", with(base, debited(100), limit(10), granted(61)), debited(2), insufficient},
		{"a grant pays first what is owed", with(base, debited(100)), granted(50), Then{Events: []string{"credit.granted"}, Data: `{"amount":50,"overdraft_paid":50,` + balance("credits", -20) + `}`}},
		{"and only that", with(base, debited(100)), granted(100), Then{Events: []string{"credit.granted"}, Data: `{"amount":100,"overdraft_paid":70,` + balance("credits", 30) + `}`}},
		{"to zero", with(base, debited(100)), granted(70), Then{Events: []string{"credit.granted"}, Data: `{"overdraft_paid":70,` + balance("credits", 0) + `}`}},
		{"its rest is drawn as a grant", with(base, debited(100), Do("credit.grant", `{"environment":"test","asset":"credits","amount":100,"grant":"`+grantA+`"}`)), debited(31), Then{Events: took("balance.exhausted"),
			Data: `{` + balance("credits", -1) + `}`}},
		{"a grant that only paid expires without a word", with(base, debited(100), Do("credit.grant", `{"environment":"test","asset":"credits","amount":70,"expires_at":"2026-03-02T00:00:00Z"}`)),
			At("2026-03-03T00:00:00Z", Step{}), Then{}},
		{"the largest limit", []Step{opened, plan(`"overdraft":{"credits":9007199254740991}`)}, debited(9007199254740991), Then{Events: took(), Data: `{` + balance("credits", -9007199254740991) + `}`}},
		{"and not one more than that limit", []Step{opened, plan(`"overdraft":{"credits":9007199254740991}`), debited(9007199254740991)}, debited(1), insufficient},
	})
}

func TestPar(t *testing.T) {
	one := plan(`"par":[["usd","usdc"]]`)
	base := []Step{opened, one, give("usd", 100), give("usdc", 30)}
	swapped := []string{"credit.exchanged", "credit.debited"}
	Run(t, []Case{
		{"own first", base, pay("usdc", 30), Then{Events: took("balance.exhausted")}},
		{"the shortfall only", base, pay("usdc", 50), Then{Events: append(swapped, "balance.exhausted"), Data: `{` + balance("usdc", 0) + `}`}},
		{"what stood in has the rest", with(base, pay("usdc", 50)), pay("usd", 80), Then{Events: took("balance.exhausted")}},
		{"and no more", with(base, pay("usdc", 50)), pay("usd", 81), insufficient},
		{"the other way", base, pay("usd", 130), Then{Events: append(swapped, "balance.exhausted", "balance.exhausted")}},
		{"both are not enough", base, pay("usd", 131), insufficient},
		{"alerts come last, the source's first", base, pay("usdc", 130), Then{Events: append(swapped, "balance.exhausted", "balance.exhausted"), Data: `{"asset":"usdc"}`}},
		{"without the pair", []Step{opened, give("usd", 100)}, pay("usdc", 1), insufficient},
		{"another plan ends it", with(base, plan(`"max_keys":2`)), pay("usdc", 31), insufficient},
		{"environments are apart", []Step{opened, one, Do("credit.grant", `{"environment":"live","asset":"usd","amount":9}`)}, pay("usdc", 1), insufficient},
		{"a pair of pairs does not reach further", []Step{opened, plan(`"par":[["usd","usdc"],["usdc","eur"]]`), give("usd", 9)}, pay("eur", 1), insufficient},
		{"pairs in their order", []Step{opened, plan(`"par":[["eur","usd"],["usdc","usd"]]`), give("usdc", 50), give("eur", 20)}, pay("usd", 30),
			Then{Events: []string{"credit.exchanged", "credit.exchanged", "credit.debited", "balance.exhausted"}, Data: `{"asset":"eur"}`}},
		{"the first suffices", []Step{opened, plan(`"par":[["eur","usd"],["usdc","usd"]]`), give("usdc", 50), give("eur", 20)}, pay("usd", 20),
			Then{Events: append(swapped, "balance.exhausted"), Data: `{"asset":"eur"}`}},
		{"then the overdraft", []Step{opened, plan(`"par":[["usd","usdc"]],"overdraft":{"usdc":5}`), give("usd", 10)}, pay("usdc", 15), Then{Events: append(swapped, "balance.exhausted"), Data: `{"asset":"usd"}`}},
		{"and not one more", []Step{opened, plan(`"par":[["usd","usdc"]],"overdraft":{"usdc":5}`), give("usd", 10)}, pay("usdc", 16), insufficient},
		{"what stands in is not overdrawn", []Step{opened, plan(`"par":[["usd","usdc"]],"overdraft":{"usd":5}`), give("usd", 10)}, pay("usdc", 11), insufficient},
		{"nor one that owes", []Step{opened, plan(`"par":[["usd","usdc"]],"overdraft":{"usd":5}`), pay("usd", 3)}, pay("usdc", 1), insufficient},
		{"it pays what is owed as well", []Step{opened, plan(`"par":[["usd","usdc"]],"overdraft":{"usdc":5}`), pay("usdc", 5), give("usd", 10)}, pay("usdc", 3),
			Then{Events: swapped, Data: `{"amount":3,` + balance("usdc", 0) + `}`}},
		{"the allowance stands in too", []Step{opened, plan(`"par":[["usd","usdc"]],"allowance":{"asset":"usd","amount":10}`)}, pay("usdc", 4), Then{Events: swapped}},
		{"and comes again", []Step{opened, plan(`"par":[["usd","usdc"]],"allowance":{"asset":"usd","amount":10}`), pay("usdc", 4)}, At("2026-03-02T00:00:00Z", Step{}), Then{Events: []string{"credit.replenished"},
			Data: `{"asset":"usd","before":6,"remaining":10}`}},
		{"authorize", []Step{opened, plan(`"price":{"asset":"usdc","default":7},"par":[["usd","usdc"]]`), give("usd", 10), key}, ask,
			Then{Events: swapped, Answer: `{"allowed":true,"code":"ok","cost":7,"balance":0}`}},
		{"authorize what both have not", []Step{opened, plan(`"price":{"asset":"usdc","default":11},"par":[["usd","usdc"]]`), give("usd", 10), key}, ask,
			Then{Code: events.InsufficientCredits, Answer: `{"balance":0}`}},
	})
}

// Both legs say where the money came from and went to.
func TestExchangedTellsBothLegs(t *testing.T) {
	w := newWorld(t)
	for _, s := range []Step{opened, plan(`"par":[["usd","usdc"]],"overdraft":{"usdc":500},"assets":{"usd":{"scale":2},"usdc":{"scale":4}}`), pay("usdc", 200),
		Do("credit.grant", `{"environment":"test","asset":"usd","amount":10,"grant":"`+grantA+`","priority":3}`)} {
		w.step(s)
	}
	out := w.step(pay("usdc", 450)) // 200 are owed, 650 are short: six whole cents, and 50 more owed
	w.check(outcome{events: out.events[:1]}, Then{Events: []string{"credit.exchanged"}, Data: `{"environment":"test",
		"from":{"asset":"usd","amount":6,"drawn":[{"grant":"` + grantA + `","amount":6,"priority":3}],` + balance("usd", 4) + `},
		"to":{"asset":"usdc","amount":600,"added":[{"grant":"overdraft","amount":200},{"grant":"` + addedGrant(out.events[0]) + `","amount":400}],` + balance("usdc", 400) + `}}`})
	w.check(outcome{events: out.events[1:]}, Then{Events: took(), Data: `{"amount":450,
		"drawn":[{"grant":"` + addedGrant(out.events[0]) + `","amount":400},{"grant":"overdraft","amount":50}],` + balance("usdc", -50) + `}`})
}

// addedGrant is the grant that an exchange made.
func addedGrant(e events.Event) string { return e.Data.(*events.Exchanged).To.Added[1].Grant }

// Scales: an exchange is exact to the last unit or is not made.
func TestParScales(t *testing.T) {
	scales := func(more string) Step {
		return plan(`"par":[["usd","usdc"],["eur","usdc"]],"assets":{"usd":{"scale":2},"usdc":{"scale":4},"eur":{"scale":4}}` + more)
	}
	base := []Step{opened, scales(``), give("usd", 10)}
	swapped := []string{"credit.exchanged", "credit.debited"}
	Run(t, []Case{
		{"a cent is a hundred", base, pay("usdc", 1000), Then{Events: append(swapped, "balance.exhausted"), Data: `{"asset":"usd",` + balance("usd", 0) + `}`}},
		{"no more than there is", base, pay("usdc", 1001), insufficient},
		{"no part of a cent", base, pay("usdc", 150), insufficient},
		{"unless another has the rest", with(base, give("eur", 50)), pay("usdc", 150), Then{Events: []string{"credit.exchanged", "credit.exchanged", "credit.debited", "balance.exhausted"}, Data: `{"asset":"eur"}`}},
		{"one less of it", with(base, give("eur", 49)), pay("usdc", 150), insufficient},
		{"or is owed", []Step{opened, scales(`,"overdraft":{"usdc":50}`), give("usd", 10)}, pay("usdc", 150), Then{Events: swapped, Data: `{` + balance("usdc", -50) + `}`}},
		{"however much stands in", []Step{opened, scales(`,"overdraft":{"usdc":50}`), give("usd", 1)}, pay("usdc", 150), Then{Events: append(swapped, "balance.exhausted")}},
		{"one more owed", []Step{opened, scales(`,"overdraft":{"usdc":50}`), give("usd", 10)}, pay("usdc", 151), insufficient},
		{"own rest makes it exact", with(base, give("usdc", 50)), pay("usdc", 150), Then{Events: append(swapped, "balance.exhausted"), Data: `{"asset":"usdc"}`}},
		{"the other way in whole hundreds", []Step{opened, scales(``), give("usdc", 299)}, pay("usd", 2), Then{Events: swapped, Data: `{` + balance("usd", 0) + `}`}},
		{"299 are no three cents", []Step{opened, scales(``), give("usdc", 299)}, pay("usd", 3), insufficient},
		{"scales as far apart as they go", []Step{opened, plan(`"par":[["a","b"]],"assets":{"a":{"scale":0},"b":{"scale":12}}`), give("a", 9007)}, pay("b", 9_007_000_000_000_000), Then{Events: append(swapped, "balance.exhausted")}},
		{"and one more", []Step{opened, plan(`"par":[["a","b"]],"assets":{"a":{"scale":0},"b":{"scale":12}}`), give("a", 9007)}, pay("b", 9_007_000_000_000_001), insufficient},
		{"more than an amount can be", []Step{opened, plan(`"par":[["a","b"]],"assets":{"a":{"scale":0},"b":{"scale":12}}`), give("a", 1<<53-1)}, pay("b", 1<<53-1), insufficient},
	})
}

// A key spends its class and what stands in for it only where it may touch both.
func TestParClasses(t *testing.T) {
	terms := `"price":{"asset":"usdc","default":10},"par":[["usd","usdc"],["points","usdc"]],"assets":{"usd":{"class":"fiat"},"usdc":{"class":"crypto"}}`
	of := func(class string) Step {
		return Do("key.create", fmt.Sprintf(`{"environment":"test","name":"k","asset_class":%q}`, class))
	}
	base := []Step{opened, plan(terms)}
	swapped := []string{"credit.exchanged", "credit.debited"}
	Run(t, []Case{
		{"any", with(base, give("usd", 11), of("any")), ask, Then{Events: swapped}},
		{"crypto spends crypto", with(base, give("usdc", 11), of("crypto")), ask, Then{Events: took()}},
		{"crypto does not touch usd", with(base, give("usd", 11), of("crypto")), ask, insufficient},
		{"crypto touches credits", with(base, give("usd", 11), give("points", 11), of("crypto")), ask, Then{Events: swapped}},
		{"fiat spends no crypto", with(base, give("usdc", 11), give("usd", 11), of("fiat")), ask, Then{Code: events.PermissionDenied}},
		{"a debit for a key is as the key", with(base, give("usd", 11), of("crypto")), Do("credit.debit", `{"environment":"test","asset":"usdc","amount":1,"key":"@key1"}`), insufficient},
		{"and is refused", with(base, give("usdc", 11), of("fiat")), Do("credit.debit", `{"environment":"test","asset":"usdc","amount":1,"key":"@key1"}`), Then{Code: events.PermissionDenied}},
		{"without one it is the operator's", with(base, give("usd", 11), of("crypto")), pay("usdc", 1), Then{Events: swapped}},
	})
}
