package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
)

func plan(terms string) Step { return Do("account.set_plan", `{"plan":{"name":"p",`+terms+`}}`) }

// names is n different names, each followed by text.
func names(n int, format string) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(list, ",")
}

// Each limit of a plan's terms at its edge.
func TestPlanLimits(t *testing.T) {
	long := strings.Repeat("a", 64)
	var cases []Case
	for _, c := range []struct{ name, good, bad string }{
		{"name", `"name":"` + strings.Repeat("n", 128) + `"`, `"name":"` + strings.Repeat("n", 129) + `"`},
		{"a name", `"name":"n"`, `"name":""`},
		{"the whole plan", `"price":{}`, `"prices":{}`},
		{"price default, most", `"price":{"default":9007199254740991}`, `"price":{"default":9007199254740992}`},
		{"price default, least", `"price":{"default":0}`, `"price":{"default":-1}`},
		{"price asset", `"price":{"asset":"` + long + `"}`, `"price":{"asset":"` + long + `a"}`},
		{"price asset's letters", `"price":{"asset":"a-z_0"}`, `"price":{"asset":"USD"}`},
		{"price per, most", `"price":{"per":{"cards:read":9007199254740991}}`, `"price":{"per":{"cards:read":9007199254740992}}`},
		{"price per, least", `"price":{"per":{"cards:read":0}}`, `"price":{"per":{"cards:read":-1}}`},
		{"price per what", `"price":{"per":{"cards:write":1}}`, `"price":{"per":{"cards:*":1}}`},
		{"prices", `"price":{"per":{` + names(200, `"p%d:read":1`) + `}}`, `"price":{"per":{` + names(201, `"p%d:read":1`) + `}}`},
		{"rate per second, most", `"rate":{"per_second":1000000}`, `"rate":{"per_second":1000001}`},
		{"rate per second, least", `"rate":{"per_second":1}`, `"rate":{"per_second":0}`},
		{"burst, most", `"rate":{"per_second":1,"burst":1000000}`, `"rate":{"per_second":1,"burst":1000001}`},
		{"burst, least", `"rate":{"per_second":1,"burst":1}`, `"rate":{"per_second":1,"burst":-1}`},
		{"keys, most", `"max_keys":1000000`, `"max_keys":1000001`},
		{"keys, least", `"max_keys":0`, `"max_keys":-1`},
		{"allowance, most", `"allowance":{"amount":9007199254740991}`, `"allowance":{"amount":9007199254740992}`},
		{"allowance, least", `"allowance":{"amount":1}`, `"allowance":{"amount":0}`},
		{"allowance asset", `"allowance":{"amount":1,"asset":"` + long + `"}`, `"allowance":{"amount":1,"asset":"` + long + `a"}`},
		{"allowance every", `"allowance":{"amount":1,"every":"month"}`, `"allowance":{"amount":1,"every":"week"}`},
		{"time zone", `"allowance":{"amount":1,"time_zone":"Asia/Kathmandu"}`, `"allowance":{"amount":1,"time_zone":"Asia/Atlantis"}`},
		{"the machine's zone", `"allowance":{"amount":1,"time_zone":"UTC"}`, `"allowance":{"amount":1,"time_zone":"localtime"}`},
		{"overdraft, most", `"overdraft":{"usd":9007199254740991}`, `"overdraft":{"usd":9007199254740992}`},
		{"overdraft, least", `"overdraft":{"usd":0}`, `"overdraft":{"usd":-1}`},
		{"overdraft asset", `"overdraft":{"usd":1}`, `"overdraft":{"U":1}`},
		{"overdrafts", `"overdraft":{` + names(64, `"a%d":1`) + `}`, `"overdraft":{` + names(65, `"a%d":1`) + `}`},
		{"par", `"par":[["usd","usdc"]]`, `"par":[["usd"]]`},
		{"par of two", `"par":[["usd","usdc"],["usd","eur"]]`, `"par":[["usd","usdc","eur"]]`},
		{"par of none", `"par":[]`, `"par":[[]]`},
		{"par with itself", `"par":[["usd","usdc"]]`, `"par":[["usd","usd"]]`},
		{"par twice", `"par":[["usd","usdc"],["usdc","eur"]]`, `"par":[["usd","usdc"],["usd","usdc"]]`},
		{"par twice, turned round", `"par":[["usd","usdc"],["eur","usd"]]`, `"par":[["usd","usdc"],["usdc","usd"]]`},
		{"par asset", `"par":[["usd","usdc"]]`, `"par":[["usd","USDC"]]`},
		{"par pairs", `"par":[` + names(64, `["usd","a%d"]`) + `]`, `"par":[` + names(65, `["usd","a%d"]`) + `]`},
		{"scale, most", `"assets":{"eth":{"scale":12}}`, `"assets":{"eth":{"scale":13}}`},
		{"scale, least", `"assets":{"eth":{"scale":0}}`, `"assets":{"eth":{"scale":-1}}`},
		{"class", `"assets":{"eth":{"class":"crypto"}}`, `"assets":{"eth":{"class":"any"}}`},
		{"asset", `"assets":{"` + long + `":{}}`, `"assets":{"` + long + `a":{}}`},
		{"assets", `"assets":{` + names(64, `"a%d":{}`) + `}`, `"assets":{` + names(65, `"a%d":{}`) + `}`},
	} {
		set := func(terms string) Step {
			if !strings.HasPrefix(terms, `"name"`) {
				terms = `"name":"p",` + terms
			}
			return Do("account.set_plan", `{"plan":{`+terms+`}}`)
		}
		then := Then{Events: []string{"account.plan_set"}}
		if strings.HasPrefix(c.good, `"allowance"`) {
			then.Events = append(then.Events, "credit.replenished", "credit.replenished")
		}
		cases = append(cases,
			Case{c.name + ": the edge", []Step{opened}, set(c.good), then},
			Case{c.name + ": one past it", []Step{opened}, set(c.bad), Then{Code: events.InvalidArgument}},
			Case{c.name + ": twice", []Step{opened, set(c.good)}, set(c.good), Then{}})
	}
	Run(t, cases)
}

func TestPlanTerms(t *testing.T) {
	const full = `"price":{"asset":"usd","default":5,"per":{"cards:read":2}},"rate":{"per_second":3,"burst":9},"max_keys":7,
		"allowance":{"asset":"usd","amount":40,"every":"month","time_zone":"Asia/Kathmandu"},"overdraft":{"usd":8},"par":[["usd","usdc"]],
		"assets":{"usd":{"scale":2,"class":"fiat"},"usdc":{"scale":6,"class":"crypto"}}`
	Run(t, []Case{
		{"what is left out", []Step{opened}, Do("account.set_plan", `{"plan":{"name":"p"}}`), Then{Events: []string{"account.plan_set"},
			Data: `{"plan":{"name":"p","price":{"asset":"credits","default":100,"per":{}},"rate":null,"max_keys":0,"allowance":null,"overdraft":{},"par":[],"assets":{}}}`}},
		{"parts of what is left out", []Step{opened}, plan(`"rate":{"per_second":3},"assets":{"usd":{}},"price":{"asset":"usd"}`), Then{Events: []string{"account.plan_set"},
			Data: `{"plan":{"name":"p","price":{"asset":"usd","default":100,"per":{}},"rate":{"per_second":3,"burst":3},"max_keys":0,"allowance":null,"overdraft":{},"par":[],
				"assets":{"usd":{"scale":0,"class":"credits"}}}}`}},
		{"all terms stand in the event", []Step{opened}, Do("account.open", `{"plan":{"name":"p",`+full+`}}`), Then{Code: events.AlreadyExists}},
		{"a plan is required", []Step{opened}, Do("account.set_plan", `{}`), Then{Code: events.InvalidArgument}},
		{"an account opens with a plan", nil, Do("account.open", `{"plan":{"name":"p",`+full+`}}`), Then{Events: []string{"account.opened", "credit.replenished", "credit.replenished"},
			Data: `{"environment":"live","asset":"usd","amount":40,"spent":0,"remaining":40,"before":0,"by":"plan","resets_at":"2026-03-31T18:15:00Z",
				"balance":{"environment":"live","asset":"usd","posted":40,"held":0,"available":40}}`}},
		{"or without an allowance", nil, Do("account.open", `{"plan":{"name":"p"}}`), Then{Events: []string{"account.opened"}, Data: `{"plan":{"name":"p",
			"price":{"asset":"credits","default":100,"per":{}},"rate":null,"max_keys":0,"allowance":null,"overdraft":{},"par":[],"assets":{}}}`}},
		{"it opens with what a plan must be", nil, Do("account.open", `{"plan":{"name":"p","allowance":{"amount":0}}}`), Then{Code: events.InvalidArgument}},
		{"the same terms in other words", []Step{opened, plan(full)}, plan(strings.ReplaceAll(full, `"max_keys":7,`, `"max_keys": 7 ,`)), Then{}},
		{"defaults written out", []Step{opened, plan(`"allowance":{"amount":5}`)}, plan(`"price":{"asset":"credits","default":100},"allowance":{"asset":"credits","amount":5,"every":"day","time_zone":"UTC"}`), Then{}},
		{"other terms and the same allowance", []Step{opened, plan(`"allowance":{"amount":5}`)}, plan(`"max_keys":9,"allowance":{"amount":5}`), Then{Events: []string{"account.plan_set"}}},
		{"a balance has no room for it", []Step{opened, granted(1<<53 - 1 - 10)}, plan(`"allowance":{"amount":11}`), Then{Code: events.LimitExceeded}},
		{"just room", []Step{opened, granted(1<<53 - 1 - 10)}, plan(`"allowance":{"amount":10}`), Then{Events: []string{"account.plan_set", "credit.replenished", "credit.replenished"}}},
		{"the rest of the old one makes room", []Step{opened, plan(`"allowance":{"amount":10}`), granted(1<<53 - 1 - 10)}, plan(`"allowance":{"amount":10,"every":"month"}`),
			Then{Events: []string{"account.plan_set", "credit.replenished", "credit.replenished"}}},
		{"room for a spent one to come again", []Step{opened, plan(`"allowance":{"amount":10}`), debited(10)}, granted(1<<53 - 1 - 10), Then{Events: []string{"credit.granted"}}},
		{"no room for that", []Step{opened, plan(`"allowance":{"amount":10}`), debited(10)}, granted(1<<53 - 1 - 9), Then{Code: events.LimitExceeded}},
		{"a larger one needs room, although it was spent", []Step{opened, plan(`"allowance":{"amount":10}`), debited(10), granted(1<<53 - 1 - 10)}, plan(`"allowance":{"amount":11}`), Then{Code: events.LimitExceeded}},
		{"where some is owed there is more room", []Step{opened, plan(`"overdraft":{"credits":10}`), debited(10)}, granted(1<<53 - 1), Then{Events: []string{"credit.granted"},
			Data: `{"overdraft_paid":10,"balance":{"environment":"test","asset":"credits","posted":9007199254740981,"held":0,"available":9007199254740981}}`}},
	})
}

// Changing the plan in the middle of a period gives the new amount less what was spent,
// however often it is changed.
func TestPlanChanges(t *testing.T) {
	const none = `"max_keys":1`
	amount := func(n int) string { return fmt.Sprintf(`"allowance":{"amount":%d}`, n) }
	base := []Step{opened, plan(amount(100)), debited(60)}
	change := func(name string, given []Step, terms string, last string) Case {
		return Case{name, given, plan(terms), Then{Events: []string{"account.plan_set", "credit.replenished", "credit.replenished"}, Data: last}}
	}
	left := func(name string, given []Step, n int64) []Case {
		return []Case{
			{name + ": what is left", given, debited(n), Then{Events: []string{"credit.debited", "balance.exhausted"}}},
			{name + ": one more", given, debited(n + 1), Then{Code: events.InsufficientCredits}},
		}
	}
	live := `{"environment":"live","before":100,`
	cases := []Case{
		change("upgrade", base, amount(150), live+`"amount":150,"spent":0,"remaining":150}`),
		change("downgrade", base, amount(70), live+`"amount":70,"spent":0,"remaining":70}`),
		change("to none", with(base, granted(1), Do("credit.grant", `{"environment":"live","asset":"credits","amount":1}`)), none, live+`"amount":0,"spent":0,"remaining":0,"resets_at":null}`),
		{"to another asset", base, plan(`"allowance":{"amount":9,"asset":"gold"}`), Then{
			Events: []string{"account.plan_set", "credit.replenished", "credit.replenished", "credit.replenished", "credit.replenished", "balance.exhausted", "balance.exhausted"},
			Data:   `{"environment":"live","asset":"credits"}`}},
		{"a downgrade takes the rest away", base, plan(amount(60)), Then{Events: []string{"account.plan_set", "credit.replenished", "credit.replenished", "balance.exhausted"}, Data: `{"environment":"test"}`}},
		{"a lower plan's day", with(base, plan(amount(40))), At("2026-03-02T00:00:00Z", debited(41)), Then{Events: []string{"credit.replenished"}, Code: events.InsufficientCredits}},
		{"a removed one comes not again", with(base, plan(none)), At("2026-03-02T00:00:00Z", debited(1)), Then{Code: events.InsufficientCredits}},
		{"another zone's day", with(base, plan(`"allowance":{"amount":100,"time_zone":"Asia/Kathmandu"}`)), At("2026-03-01T18:15:00Z", Step{}), Then{Events: []string{"credit.replenished"},
			Data: `{"remaining":100,"before":40,"resets_at":"2026-03-02T18:15:00Z"}`}},
		{"and not before it", with(base, plan(`"allowance":{"amount":100,"time_zone":"Asia/Kathmandu"}`)), At("2026-03-01T18:14:59.999Z", Step{}), Then{}},
		{"to a month: not at midnight", with(base, plan(`"allowance":{"amount":100,"every":"month"}`)), At("2026-03-02T00:00:00Z", debited(41)), Then{Code: events.InsufficientCredits}},
		{"given again after its day, it is whole", with(base, plan(none), At("2026-03-02T00:00:00Z", plan(amount(100)))), debited(100), Then{Events: []string{"credit.debited", "balance.exhausted"}}},
	}
	for _, list := range [][]Case{
		left("upgrade", with(base, plan(amount(150))), 90),
		left("downgrade", with(base, plan(amount(70))), 10),
		left("back up again", with(base, plan(amount(61)), plan(amount(100))), 40),
		left("below what was spent and back", with(base, plan(amount(10)), plan(amount(100))), 40),
		left("up, spent, down and up", with(base, plan(amount(200)), debited(100), plan(amount(10)), plan(amount(200))), 40),
		left("none and back", with(base, plan(none), plan(amount(100))), 40),
		left("none twice and back", with(base, plan(none), plan(`"max_keys":2`), plan(amount(100))), 40),
		left("another asset and back", with(base, plan(`"allowance":{"amount":9,"asset":"gold"}`), plan(amount(100))), 40),
		left("another zone", with(base, plan(`"allowance":{"amount":100,"time_zone":"Asia/Kathmandu"}`)), 40),
		left("a month and back", with(base, plan(`"allowance":{"amount":100,"every":"month"}`), plan(amount(100))), 40),
		left("what was granted stays", with(base, granted(5), plan(none)), 5),
		left("and the new day is whole", with(base, plan(none), plan(amount(100)), At("2026-03-02T00:00:00Z", Step{})), 100),
	} {
		cases = append(cases, list...)
	}
	Run(t, cases)
}
