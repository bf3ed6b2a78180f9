package spec

import (
	"fmt"
	"testing"

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
