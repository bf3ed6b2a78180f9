package ledger

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyledger/keyledger/events"
)

// told runs steps, each a verb and a body, on an account with thresholds, and returns the
// alerts of the last: environment, asset, mark and what is available. A number alone is a
// debit of so many credits, or of less than none a grant.
func told(t *testing.T, thresholds []events.Threshold, steps []string) (list []string) {
	t.Helper()
	st := NewState()
	for i, text := range append([]string{"account.open {}"}, steps...) {
		var n int64
		if _, err := fmt.Sscanf(text, "%d", &n); err == nil {
			text = fmt.Sprintf(`credit.debit {"environment":"test","asset":"credits","amount":%d}`, n)
			if n < 0 {
				text = fmt.Sprintf(`credit.grant {"environment":"test","asset":"credits","amount":%d}`, -n)
			}
		}
		verb, body, _ := strings.Cut(text, " ")
		s := step{verb: verb, account: "acme", body: body, number: uint64(i) + 1}
		if verb == "wait" { // a day and more
			s.number += 86_400_000 * 2
		}
		happened := s.due(st)
		if verb != "wait" {
			decided, text := s.decide(t, st)
			if len(decided) == 0 {
				t.Fatalf("%s %s: %s", verb, body, text)
			}
			happened = append(happened, decided...)
			for i := range decided {
				st.Evolve(&decided[i])
			}
		}
		st.accounts["acme"].Thresholds = thresholds
		list = nil
		for i, e := range happened {
			d, ok := e.Data.(*events.Alert)
			if !ok {
				if list != nil && verb != "wait" {
					t.Errorf("%s comes after an alert, as number %d", e.Type, i)
				}
				continue
			}
			mark := "exhausted"
			if e.Type == "balance.low" {
				mark = fmt.Sprint("below ", d.Below)
			}
			list = append(list, fmt.Sprintf("%s %s %s: %d", d.Environment, d.Asset, mark, d.Balance.Available))
		}
	}
	return list
}

func TestAlerts(t *testing.T) {
	const (
		plan = `account.set_plan {"plan":{"name":"p","allowance":{"amount":%d},"overdraft":{"credits":50}}}`
		live = `account.enable_environment {"environment":"live"}`
	)
	amount := func(n int64) events.Threshold { return events.Threshold{Asset: "credits", Amount: n} }
	percent := func(n int64) events.Threshold { return events.Threshold{Asset: "credits", Percent: n} }
	daily := func(n int) string { return fmt.Sprintf(plan, n) }
	for _, c := range []struct {
		name       string
		thresholds []events.Threshold
		steps      []string
		want       []string
	}{
		{"to the mark is not below it", []events.Threshold{amount(40)}, []string{"-100", "60"}, nil},
		{"one below it", []events.Threshold{amount(40)}, []string{"-100", "61"}, []string{"test credits below 40: 39"}},
		{"from the mark", []events.Threshold{amount(40)}, []string{"-100", "60", "1"}, []string{"test credits below 40: 39"}},
		{"once", []events.Threshold{amount(40)}, []string{"-100", "61", "1"}, nil},
		{"a grant tells nothing", []events.Threshold{amount(40)}, []string{"-30", "-100"}, nil},
		{"again after it was above", []events.Threshold{amount(40)}, []string{"-100", "61", "-1", "1"}, []string{"test credits below 40: 39"}},
		{"not again after it was below", []events.Threshold{amount(40)}, []string{"-100", "62", "-1", "1"}, nil},
		{"several at once, in their order", []events.Threshold{amount(10), amount(40), amount(20), amount(90)}, []string{"-100", "11", "75"},
			[]string{"test credits below 40: 14", "test credits below 20: 14"}},
		{"down to nothing", []events.Threshold{amount(1)}, []string{"-100", "100"}, []string{"test credits below 1: 0", "test credits exhausted: 0"}},
		{"exhausted once", nil, []string{daily(10), "10", "1"}, nil},
		{"exhausted by what is owed", nil, []string{daily(10), "11"}, []string{"test credits exhausted: -1"}},
		{"exhausted again", nil, []string{"-10", "10", "-10", "10"}, []string{"test credits exhausted: 0"}},
		{"another asset", []events.Threshold{{Asset: "gold", Amount: 40}}, []string{"-100", "61"}, nil},
		{"of one environment", []events.Threshold{{Asset: "credits", Environment: "live", Amount: 40}}, []string{"-100", "61"}, nil},
		{"of the other", []events.Threshold{{Asset: "credits", Environment: "live", Amount: 40}},
			[]string{live, `credit.grant {"environment":"live","asset":"credits","amount":40}`, `credit.debit {"environment":"live","asset":"credits","amount":1}`}, []string{"live credits below 40: 39"}},
		{"percent", []events.Threshold{percent(20)}, []string{daily(1000), "800", "1"}, []string{"test credits below 200: 199"}},
		{"percent, not yet", []events.Threshold{percent(20)}, []string{daily(1000), "800"}, nil},
		{"percent of little", []events.Threshold{percent(1)}, []string{daily(10), "10"}, []string{"test credits below 1: 0", "test credits exhausted: 0"}},
		{"percent of an odd number: 25 of 150 is 37.5, and 37 is below it", []events.Threshold{percent(25)}, []string{daily(150), "112", "1"}, []string{"test credits below 38: 37"}},
		{"a hundred", []events.Threshold{percent(100)}, []string{daily(1000), "1"}, []string{"test credits below 1000: 999"}},
		{"of the largest", []events.Threshold{percent(50)}, []string{daily(MaxAmount), "4503599627370496"}, []string{"test credits below 4503599627370496: 4503599627370495"}},
		{"percent without an allowance", []events.Threshold{percent(20)}, []string{`account.set_plan {"plan":{"name":"p","overdraft":{"credits":50}}}`, "-5", "10"}, []string{"test credits exhausted: -5"}},
		{"percent of another asset's", []events.Threshold{{Asset: "gold", Percent: 20}}, []string{daily(1000), `credit.grant {"environment":"test","asset":"gold","amount":5}`,
			`credit.debit {"environment":"test","asset":"gold","amount":5}`}, []string{"test gold exhausted: 0"}},
		{"a downgrade", []events.Threshold{amount(50)}, []string{daily(100), daily(49)}, []string{"test credits below 50: 49", "live credits below 50: 49"}},
		{"a downgrade and what is left of it, in percent of it", []events.Threshold{percent(20)}, []string{daily(1000), daily(100)}, nil},
		{"a downgrade below that", []events.Threshold{percent(20)}, []string{daily(1000), "90", daily(100)}, []string{"test credits below 20: 10"}},
		{"an upgrade", []events.Threshold{percent(20)}, []string{daily(100), daily(1000)}, nil},
		{"no allowance any more", []events.Threshold{percent(20), amount(5)}, []string{daily(100), `account.set_plan {"plan":{"name":"p"}}`},
			[]string{"test credits below 5: 0", "test credits exhausted: 0", "live credits below 5: 0", "live credits exhausted: 0"}},
		{"a grant's end", []events.Threshold{amount(50)}, []string{`credit.grant {"environment":"test","asset":"credits","amount":60,"expires_at":"2027-01-17T00:00:00Z"}`, "-1", "wait"}, []string{"test credits below 50: 1"}},
		{"a grant's end, and nothing is left", []events.Threshold{amount(50)}, []string{`credit.grant {"environment":"test","asset":"credits","amount":60,"expires_at":"2027-01-17T00:00:00Z"}`, "wait"},
			[]string{"test credits below 50: 0", "test credits exhausted: 0"}},
		{"a new day tells nothing, and the next fall is told", []events.Threshold{amount(50)}, []string{daily(100), "60", "wait"}, nil},
		{"of what stands in at par too", []events.Threshold{amount(3), {Asset: "gold", Amount: 8}},
			[]string{`account.set_plan {"plan":{"name":"p","par":[["credits","gold"]]}}`, "-5", `credit.grant {"environment":"test","asset":"gold","amount":10}`, "9"},
			[]string{"test gold below 8: 6", "test credits below 3: 0", "test credits exhausted: 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, told(t, c.thresholds, c.steps)); diff != "" {
				t.Errorf("alerts (-want +got):\n%s", diff)
			}
		})
	}
}

// A request that is allowed and costs falls through marks as a debit does; one that is
// refused or free tells nothing.
func TestAlertsOfAuthorize(t *testing.T) {
	const create = `key.create {"environment":"test","name":"k"}`
	ask := func(cost int) string {
		return fmt.Sprintf(`authorize {"secret":%q,"cost":%d}`, secretOf("acme", "test", 3), cost)
	}
	got := told(t, []events.Threshold{{Asset: "credits", Amount: 40}}, []string{"-100", create, ask(61)})
	if diff := cmp.Diff([]string{"test credits below 40: 39"}, got); diff != "" {
		t.Errorf("alerts (-want +got):\n%s", diff)
	}
}

// The bucket is exact: tokens come one after the other at their millisecond.
func TestRateAgainstACountOfTokens(t *testing.T) {
	for _, r := range []events.Rate{{PerSecond: 1, Burst: 1}, {PerSecond: 3, Burst: 7}, {PerSecond: 7, Burst: 2}, {PerSecond: 1000, Burst: 1}, {PerSecond: 1_000_000, Burst: 1_000_000}, {PerSecond: 1, Burst: 1_000_000}} {
		a := &Account{Account: events.Account{Plan: &events.Plan{Rate: &r}}}
		k := &Key{account: a}
		level := r.Burst * 1000 // thousandths of a token, filled millisecond by millisecond
		now := events.Time(1_800_000_000_000)
		for i := range 20_000 {
			s := k.rate(now)
			if s.Remaining != level/1000 || s.Limit != r.Burst || s.ResetMS != (r.Burst*1000-level+r.PerSecond-1)/r.PerSecond {
				t.Fatalf("%+v after %d ms: %+v, the level is %d", r, i, s, level)
			}
			if s.Remaining > 0 && i%5000 < 400 { // else it fills up
				k.Take(now)
				level -= 1000
			}
			now++
			level = min(level+r.PerSecond, r.Burst*1000)
		}
		if s := k.rate(now + 1<<40); s.Remaining != r.Burst || s.ResetMS != 0 {
			t.Errorf("%+v is not full after a long time: %+v", r, s)
		}
		r.Burst = 1 // a smaller plan
		if s := k.rate(now); s.Remaining < 0 || s.Remaining > 1 {
			t.Errorf("with a burst of 1: %+v", s)
		}
	}
}
