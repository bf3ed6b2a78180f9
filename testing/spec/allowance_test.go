package spec

import (
	"fmt"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// daily is a plan with 100 credits a day in a zone.
func daily(zone string) Step { return allowed(100, "day", zone) }

func allowed(amount int64, every, zone string) Step {
	return Do("account.set_plan", fmt.Sprintf(`{"plan":{"name":"p","allowance":{"amount":%d,"every":%q,"time_zone":%q}}}`, amount, every, zone))
}

// spent is an account that has spent 30 of 100 a day at a moment.
func spent(zone, at string) []Step {
	return []Step{At(at, opened), daily(zone), debited(30)}
}

// TestAllowanceClock: a command at the first millisecond of a local day has the new
// allowance, one at the last of the day before has the old.
func TestAllowanceClock(t *testing.T) {
	var cases []Case
	for _, c := range []struct{ name, zone, start, last, midnight, next string }{
		{"UTC", "UTC", "2026-03-01T12:00:00Z", "2026-03-01T23:59:59.999Z", "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"},
		{"a quarter of an hour", "Asia/Kathmandu", "2026-03-01T12:00:00Z", "2026-03-01T18:14:59.999Z", "2026-03-01T18:15:00Z", "2026-03-02T18:15:00Z"},
		{"the month's end", "UTC", "2026-04-30T12:00:00Z", "2026-04-30T23:59:59.999Z", "2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z"},
		{"the year's end", "America/New_York", "2026-12-31T12:00:00Z", "2027-01-01T04:59:59.999Z", "2027-01-01T05:00:00Z", "2027-01-02T05:00:00Z"},
		{"to the leap day", "UTC", "2028-02-28T12:00:00Z", "2028-02-28T23:59:59.999Z", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"},
		{"a day of 23 hours", "America/New_York", "2026-03-08T05:00:00Z", "2026-03-09T03:59:59.999Z", "2026-03-09T04:00:00Z", "2026-03-10T04:00:00Z"},
		{"a day of 25 hours", "America/New_York", "2026-11-01T04:00:00Z", "2026-11-02T04:59:59.999Z", "2026-11-02T05:00:00Z", "2026-11-03T05:00:00Z"},
		{"a day that was left out", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-30T09:59:59.999Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
		{"a midnight that was left out", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-04T02:59:59.999Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},
		{"an hour that comes twice before midnight", "America/Sao_Paulo", "2018-02-17T12:00:00Z", "2018-02-18T02:59:59.999Z", "2018-02-18T03:00:00Z", "2018-02-19T03:00:00Z"},
		{"a day that begins, goes back and begins", "America/St_Johns", "2010-11-06T12:00:00Z", "2010-11-07T02:29:59.999Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"},
	} {
		base := spent(c.zone, c.start)
		cases = append(cases,
			Case{c.name + ": the last moment", base, At(c.last, debited(71)), Then{Code: events.InsufficientCredits}},
			Case{c.name + ": what is left then", base, At(c.last, debited(70)), Then{Events: []string{"credit.debited", "balance.exhausted"},
				Data: `{"asset":"credits"}`}},
			Case{c.name + ": the first moment", base, At(c.midnight, debited(100)),
				Then{Events: []string{"credit.replenished", "credit.debited", "balance.exhausted"}}},
			Case{c.name + ": one more than the new", base, At(c.midnight, debited(101)),
				Then{Events: []string{"credit.replenished"}, Code: events.InsufficientCredits,
					Data: `{"amount":100,"spent":0,"remaining":100,"before":70,"by":"period","resets_at":"` + c.next + `","created_at":"` + c.midnight + `",
						"balance":{"environment":"test","asset":"credits","posted":100,"held":0,"available":100}}`}},
			Case{c.name + ": once", with(base, At(c.midnight, Step{})), At(c.midnight, debited(1)), Then{Events: []string{"credit.debited"},
				Data: `{"drawn":[{"grant":"allowance","amount":1,"expires_at":"` + c.next + `"}]}`}},
		)
	}
	Run(t, cases)
}

func TestAllowance(t *testing.T) {
	whole := func(next string) Then {
		return Then{Events: []string{"credit.replenished"}, Data: `{"remaining":100,"before":70,"by":"period","resets_at":"` + next + `"}`}
	}
	month := func(at string, wait string, next string) Case {
		return Case{"a month from " + at, []Step{At(at, opened), allowed(100, "month", "America/New_York"), debited(30)}, At(wait, Step{}), whole(next)}
	}
	Run(t, []Case{
		{"who spends nothing costs no event", []Step{opened, daily("UTC")}, After(1000*time.Hour, Step{}), Then{}},
		{"and draws of the day it is", []Step{opened, daily("UTC")}, At("2026-04-01T00:00:00Z", debited(1)), Then{Events: []string{"credit.debited"},
			Data: `{"drawn":[{"grant":"allowance","amount":1,"expires_at":"2026-04-02T00:00:00Z"}]}`}},
		{"nothing spent since the last event", with(spent("UTC", "2026-03-01T12:00:00Z"), At("2026-03-02T00:00:00Z", Step{})), At("2026-03-09T12:00:00Z", Step{}), Then{}},
		{"three days on, one event for the latest", spent("UTC", "2026-03-01T12:00:00Z"), At("2026-03-04T12:00:00Z", Step{}), whole("2026-03-05T00:00:00Z")},
		{"a year on", spent("UTC", "2026-03-01T12:00:00Z"), At("2027-03-04T12:00:00Z", Step{}), whole("2027-03-05T00:00:00Z")},
		{"across a change of the clocks", spent("America/New_York", "2026-03-07T12:00:00Z"), At("2026-03-09T04:00:00Z", Step{}), whole("2026-03-10T04:00:00Z")},
		{"just not across it", spent("America/New_York", "2026-03-07T12:00:00Z"), At("2026-03-09T03:59:59.999Z", Step{}), whole("2026-03-09T04:00:00Z")},
		month("2026-01-31T12:00:00Z", "2026-02-01T05:00:00Z", "2026-03-01T05:00:00Z"),
		month("2028-02-29T12:00:00Z", "2028-03-01T05:00:00Z", "2028-04-01T04:00:00Z"),
		month("2026-10-20T12:00:00Z", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z"),
		month("2026-01-15T12:00:00Z", "2026-05-20T12:00:00Z", "2026-06-01T04:00:00Z"),
		{"the month's last moment", []Step{opened, allowed(100, "month", "UTC"), debited(30)}, At("2026-03-31T23:59:59.999Z", Step{}), Then{}},
		{"what is left does not add up", with(spent("UTC", "2026-03-01T12:00:00Z"), At("2026-03-02T12:00:00Z", debited(10))), At("2026-03-03T12:00:00Z", debited(101)),
			Then{Events: []string{"credit.replenished"}, Code: events.InsufficientCredits}},
		{"it is drawn before grants", []Step{opened, Do("credit.grant", `{"environment":"test","asset":"credits","amount":50,"priority":-1000,"grant":"`+grantA+`"}`), daily("UTC")}, debited(120),
			Then{Events: []string{"credit.debited"}, Data: `{"drawn":[{"grant":"allowance","amount":100,"expires_at":"2026-03-02T00:00:00Z"},{"grant":"` + grantA + `","amount":20,"priority":-1000}],
				"balance":{"environment":"test","asset":"credits","posted":30,"held":0,"available":30}}`}},
		{"and grants are not given anew", []Step{opened, granted(50), daily("UTC"), debited(120)}, At("2026-03-02T00:00:00Z", Step{}),
			Then{Events: []string{"credit.replenished"}, Data: `{"balance":{"environment":"test","asset":"credits","posted":130,"held":0,"available":130}}`}},
		{"each environment has its own", []Step{opened, daily("UTC"), Do("account.enable_environment", `{"environment":"live"}`), debited(100)},
			Do("credit.debit", `{"environment":"live","asset":"credits","amount":100}`), Then{Events: []string{"credit.debited", "balance.exhausted"}}},
		{"both are given anew", []Step{opened, daily("UTC"), Do("account.enable_environment", `{"environment":"live"}`), debited(100), Do("credit.debit", `{"environment":"live","asset":"credits","amount":9}`)},
			At("2026-03-02T00:00:00Z", Step{}), Then{Events: []string{"credit.replenished", "credit.replenished"}}},
		{"of a suspended account too", with(spent("UTC", "2026-03-01T12:00:00Z"), Do("account.suspend", `{}`)), At("2026-03-02T00:00:00Z", Step{}), whole("2026-03-03T00:00:00Z")},
		{"authorize sees the new day", []Step{opened, daily("UTC"), key, ask}, At("2026-03-02T00:00:00Z", ask),
			Then{Events: []string{"credit.replenished", "credit.debited", "balance.exhausted"}, Answer: `{"allowed":true,"balance":0}`}},
		{"authorize in the old one", []Step{opened, daily("UTC"), key, ask}, At("2026-03-01T23:59:59.999Z", ask), Then{Code: events.InsufficientCredits}},
		{"a key's last moment is the allowance's first", []Step{opened, daily("UTC"), Do("key.create", `{"environment":"test","name":"k","expires_at":"2026-03-02T00:00:00Z"}`), ask},
			At("2026-03-02T00:00:00Z", ask), Then{Events: []string{"key.expired", "credit.replenished"}, Code: events.KeyExpired}},
		{"a grant that ends pays for nothing", []Step{opened, Do("credit.grant", `{"environment":"test","asset":"credits","amount":50,"expires_at":"2026-03-02T00:00:00Z"}`), daily("UTC"), debited(10)},
			At("2026-03-02T00:00:00Z", debited(101)), Then{Events: []string{"credit.expired", "credit.replenished"}, Code: events.InsufficientCredits}},
	})
}

// What is owed is paid by the allowance when it comes, and counts as spent of it.
func TestAllowancePaysWhatIsOwed(t *testing.T) {
	plan := func(amount int64) Step {
		return Do("account.set_plan", fmt.Sprintf(`{"plan":{"name":"p","allowance":{"amount":%d},"overdraft":{"credits":250}}}`, amount))
	}
	owing := []Step{opened, plan(100), debited(340)} // owes 240
	Run(t, []Case{
		{"all of it", owing, At("2026-03-02T00:00:00Z", Step{}), Then{Events: []string{"credit.replenished"},
			Data: `{"amount":100,"spent":100,"remaining":0,"before":0,"overdraft_paid":100,"balance":{"environment":"test","asset":"credits","posted":-140,"held":0,"available":-140}}`}},
		{"the next day again", with(owing, At("2026-03-02T00:00:00Z", Step{})), At("2026-03-03T00:00:00Z", Step{}), Then{Events: []string{"credit.replenished"},
			Data: `{"spent":100,"balance":{"environment":"test","asset":"credits","posted":-40,"held":0,"available":-40}}`}},
		{"the rest", with(owing, At("2026-03-02T00:00:00Z", Step{}), At("2026-03-03T00:00:00Z", Step{})), At("2026-03-04T00:00:00Z", Step{}), Then{Events: []string{"credit.replenished"},
			Data: `{"spent":40,"remaining":60,"overdraft_paid":40,"balance":{"environment":"test","asset":"credits","posted":60,"held":0,"available":60}}`}},
		{"and then it is whole", with(owing, At("2026-03-02T00:00:00Z", Step{}), At("2026-03-03T00:00:00Z", Step{}), At("2026-03-04T00:00:00Z", Step{})), At("2026-03-05T00:00:00Z", Step{}),
			Then{Events: []string{"credit.replenished"}, Data: `{"spent":0,"before":60,"remaining":100}`}},
		{"nothing is due of it after", with(owing, At("2026-03-02T00:00:00Z", Step{}), At("2026-03-03T00:00:00Z", Step{}), At("2026-03-04T00:00:00Z", Step{}), At("2026-03-05T00:00:00Z", Step{})),
			At("2026-03-09T00:00:00Z", Step{}), Then{}},
		{"days that nobody looked at pay nothing", owing, At("2026-03-20T00:00:00Z", Step{}), Then{Events: []string{"credit.replenished"}, Data: `{"overdraft_paid":100}`}},
		{"a plan's allowance pays at once", []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","overdraft":{"credits":250}}}`), debited(30)}, plan(100),
			Then{Events: []string{"account.plan_set", "credit.replenished", "credit.replenished"}, Data: `{"environment":"live","spent":0}`}},
		{"and the rest can be drawn", []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","overdraft":{"credits":250}}}`), debited(30), plan(100)}, debited(70),
			Then{Events: []string{"credit.debited", "balance.exhausted"}}},
		{"an upgrade pays too", with(owing, plan(300)), debited(210), Then{Events: []string{"credit.debited"},
			Data: `{"drawn":[{"grant":"overdraft","amount":210}],"balance":{"environment":"test","asset":"credits","posted":-250,"held":0,"available":-250}}`}},
		{"to the last", with(owing, plan(300)), debited(211), Then{Code: events.InsufficientCredits}},
	})
}
