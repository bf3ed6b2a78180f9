package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
)

var opened = Do("account.open", `{"name":"Acme"}`)

func TestAccount(t *testing.T) {
	Run(t, []Case{
		{"a new account works in test and not in live",
			nil, Do("account.open", `{"name":"Acme","metadata":{"crm":7}}`),
			Then{Events: []string{"account.opened"}, Data: `{"id":"acme","name":"Acme","status":"active","plan":null,"metadata":{"crm":7},
				"environments":{"test":{"enabled":true,"products":null},"live":{"enabled":false,"products":null}}}`}},
		{"an account is opened once",
			[]Step{opened}, opened, Then{Code: events.AlreadyExists}},
		{"nothing works without an account",
			nil, Do("credit.grant", `{"environment":"test","asset":"credits","amount":1}`), Then{Code: events.NotFound}},
		{"suspend",
			[]Step{opened}, Do("account.suspend", `{"reason":"unpaid"}`),
			Then{Events: []string{"account.suspended"}, Data: `{"status":"suspended","reason":"unpaid"}`}},
		{"suspending twice changes nothing",
			[]Step{opened, Do("account.suspend", `{}`)}, Do("account.suspend", `{"reason":"again"}`), Then{}},
		{"resume",
			[]Step{opened, Do("account.suspend", `{"reason":"unpaid"}`)}, Do("account.resume", `{}`),
			Then{Events: []string{"account.resumed"}, Data: `{"status":"active"}`}},
		{"resuming an active account changes nothing",
			[]Step{opened}, Do("account.resume", `{}`), Then{}},
		{"a suspended account creates no keys",
			[]Step{opened, Do("account.suspend", `{}`)}, Do("key.create", `{"environment":"test","name":"k"}`), Then{Code: events.AccountSuspended}},
		{"a suspended account spends nothing",
			[]Step{opened, granted(100), Do("account.suspend", `{}`)}, Do("credit.debit", `{"environment":"test","asset":"credits","amount":1}`),
			Then{Code: events.AccountSuspended}},
		{"a suspended account can still revoke",
			[]Step{opened, key, Do("account.suspend", `{}`)}, Do("key.revoke", `{"key":"@key1"}`), Then{Events: []string{"key.revoked"}}},
		{"a suspended account can be given credit",
			[]Step{opened, Do("account.suspend", `{}`)}, granted(5), Then{Events: []string{"credit.granted"}}},
	})
}

func TestAccountUpdate(t *testing.T) {
	const marks = `[{"asset":"credits","amount":1000},{"environment":"live","asset":"usd","percent":20}]`
	named := []Step{Do("account.open", `{"name":"Acme","metadata":{"crm":7}}`)}
	watched := with(named, Do("account.update", `{"thresholds":`+marks+`}`))
	updated := []string{"account.updated"}
	threshold := func(members string) Step {
		return Do("account.update", `{"thresholds":[{`+members+`}]}`)
	}
	Run(t, []Case{
		{"only what is given changes", named, Do("account.update", `{"name":"New"}`), Then{Events: updated, Data: `{"id":"acme","name":"New","status":"active","metadata":{"crm":7},"thresholds":null}`}},
		{"a name can be taken away", named, Do("account.update", `{"name":""}`), Then{Events: updated, Data: `{"name":""}`}},
		{"metadata", named, Do("account.update", `{"metadata":{"a":1}}`), Then{Events: updated, Data: `{"name":"Acme","metadata":{"a":1}}`}},
		{"no metadata", named, Do("account.update", `{"metadata":null}`), Then{Events: updated, Data: `{"metadata":{}}`}},
		{"thresholds", named, Do("account.update", `{"thresholds":`+marks+`}`), Then{Events: updated, Data: `{"name":"Acme","metadata":{"crm":7},"thresholds":` + marks + `}`}},
		{"they stay", watched, Do("account.update", `{"name":"New"}`), Then{Events: updated, Data: `{"thresholds":` + marks + `}`}},
		{"and go", watched, Do("account.update", `{"thresholds":[]}`), Then{Events: updated, Data: `{"thresholds":null}`}},
		{"null means none", watched, Do("account.update", `{"thresholds":null}`), Then{Events: updated, Data: `{"thresholds":null}`}},
		{"one that stands twice counts once", named, Do("account.update", `{"thresholds":[{"asset":"credits","amount":5},{"asset":"credits","amount":5}]}`),
			Then{Events: updated, Data: `{"thresholds":[{"asset":"credits","amount":5}]}`}},
		{"the same changes nothing", watched, Do("account.update", `{"name":"Acme","metadata":{"crm":7},"thresholds":`+marks+`}`), Then{}},
		{"nothing changes nothing", watched, Do("account.update", `{}`), Then{}},
		{"a suspended account is updated", with(named, Do("account.suspend", `{"reason":"r"}`)), Do("account.update", `{"name":"New"}`), Then{Events: updated, Data: `{"status":"suspended","reason":"r"}`}},
		{"there must be one", nil, Do("account.update", `{"name":"New"}`), Then{Code: events.NotFound}},
		{"a name of 128 characters", named, Do("account.update", `{"name":"`+strings.Repeat("é", 128)+`"}`), Then{Events: updated}},
		{"a name of 129 characters", named, Do("account.update", `{"name":"`+strings.Repeat("é", 129)+`"}`), Then{Code: events.InvalidArgument}},
		{"no other member", named, Do("account.update", `{"plan":{"name":"p"}}`), Then{Code: events.InvalidArgument}},
		{"a threshold names an asset", named, threshold(`"amount":5`), Then{Code: events.InvalidArgument}},
		{"a threshold needs a mark", named, threshold(`"asset":"credits"`), Then{Code: events.InvalidArgument}},
		{"a threshold has one mark", named, threshold(`"asset":"credits","amount":5,"percent":5`), Then{Code: events.InvalidArgument}},
		{"no third environment", named, threshold(`"asset":"credits","amount":5,"environment":"staging"`), Then{Code: events.InvalidArgument}},
		{"the least amount", named, threshold(`"asset":"credits","amount":1`), Then{Events: updated}},
		{"a negative amount", named, threshold(`"asset":"credits","amount":-1`), Then{Code: events.InvalidArgument}},
		{"the largest amount", named, threshold(`"asset":"credits","amount":9007199254740991`), Then{Events: updated}},
		{"one more than the largest", named, threshold(`"asset":"credits","amount":9007199254740992`), Then{Code: events.InvalidArgument}},
		{"1 percent", named, threshold(`"asset":"credits","percent":1`), Then{Events: updated}},
		{"a negative percent", named, threshold(`"asset":"credits","percent":-1`), Then{Code: events.InvalidArgument}},
		{"100 percent", named, threshold(`"asset":"credits","percent":100`), Then{Events: updated}},
		{"101 percent", named, threshold(`"asset":"credits","percent":101`), Then{Code: events.InvalidArgument}},
		{"10 thresholds", named, Do("account.update", `{"thresholds":`+thresholds(10)+`}`), Then{Events: updated}},
		{"11 thresholds", named, Do("account.update", `{"thresholds":`+thresholds(11)+`}`), Then{Code: events.InvalidArgument}},
	})
}

// thresholds is a JSON array of n thresholds.
func thresholds(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"asset":"credits","amount":%d}`, i+1)
	}
	return "[" + strings.Join(list, ",") + "]"
}

// A closed account gives nothing and takes nothing; what takes its rights away works.
func TestAccountClose(t *testing.T) {
	base := with(ready, Do("endpoint.register", `{"environment":"test","url":"https://example.com/","events":["*"]}`))
	closed := with(base, Do("account.close", `{"reason":"left"}`))
	Run(t, []Case{
		{"close", base, Do("account.close", `{"reason":"left"}`), Then{Events: []string{"account.closed"}, Data: `{"id":"acme","status":"closed","reason":"left"}`}},
		{"a suspended account", with(base, Do("account.suspend", `{}`)), Do("account.close", `{}`), Then{Events: []string{"account.closed"}}},
		{"closing twice changes nothing", closed, Do("account.close", `{"reason":"again"}`), Then{}},
		{"a reason of 256 characters", base, Do("account.close", `{"reason":"`+strings.Repeat("r", 256)+`"}`), Then{Events: []string{"account.closed"}}},
		{"a reason of 257 characters", base, Do("account.close", `{"reason":"`+strings.Repeat("r", 257)+`"}`), Then{Code: events.InvalidArgument}},
		{"there must be one", nil, Do("account.close", `{}`), Then{Code: events.NotFound}},
		{"its keys are refused", closed, ask, Then{Code: events.AccountSuspended}},
		{"its keys can be revoked", closed, Do("key.revoke", `{"key":"@key1"}`), Then{Events: []string{"key.revoked"}}},
		{"and disabled", closed, Do("key.disable", `{"key":"@key1"}`), Then{Events: []string{"key.disabled"}}},
		{"its endpoints can be paused", closed, Do("endpoint.pause", `{"endpoint":"@endpoint1"}`), Then{Events: []string{"endpoint.paused"}}},
		{"and removed", closed, Do("endpoint.remove", `{"endpoint":"@endpoint1"}`), Then{Events: []string{"endpoint.removed"}}},
	})
	for verb, body := range map[string]string{
		"account.resume": `{}`, "account.suspend": `{}`, "account.update": `{"name":"n"}`, "account.enable_environment": `{"environment":"test"}`,
		"account.disable_environment": `{"environment":"test"}`, "account.set_plan": `{"plan":{"name":"p"}}`,
		"account.set_products": `{"environment":"test","products":[]}`,
		"key.create":           `{"environment":"test","name":"k"}`, "key.update": `{"key":"@key1"}`, "key.rotate": `{"key":"@key1"}`, "key.enable": `{"key":"@key1"}`,
		"credit.grant": `{"environment":"test","asset":"credits","amount":1}`, "credit.debit": `{"environment":"test","asset":"credits","amount":1}`,
		"endpoint.register": `{"environment":"test","url":"https://example.com/","events":["*"]}`, "endpoint.resume": `{"endpoint":"@endpoint1"}`,
	} {
		Run(t, []Case{{"refused: " + verb, closed, Do(verb, body), Then{Code: events.FailedPrecondition}}})
	}
}

func TestEnvironments(t *testing.T) {
	live := with(ready, Do("account.enable_environment", `{"environment":"live"}`), Do("account.set_products", `{"environment":"live","products":["payments"]}`), liveKey)
	off := Do("account.disable_environment", `{"environment":"live"}`)
	askLive := Ask(`{"secret":"@secret2","product":"payments","cost":0}`)
	Run(t, []Case{
		{"disable live", live, off, Then{Events: []string{"account.environment_disabled"},
			Data: `{"environments":{"test":{"enabled":true,"products":null},"live":{"enabled":false,"products":["payments"]}}}`}},
		{"disabling twice changes nothing", with(live, off), off, Then{}},
		{"live is off at first", []Step{opened}, off, Then{}},
		{"its keys work", live, askLive, Then{Answer: `{"allowed":true}`}},
		{"and are refused at once", with(live, off), askLive, Then{Code: events.EnvironmentDisabled}},
		{"those of test are not", with(live, off), ask, Then{Events: []string{"credit.debited"}}},
		{"enabled again it is as it was", with(live, off, Do("account.enable_environment", `{"environment":"live"}`)), askLive, Then{Answer: `{"allowed":true}`}},
		{"test can be disabled too", with(live, Do("account.disable_environment", `{"environment":"test"}`)), ask, Then{Code: events.EnvironmentDisabled}},
		{"and then spends nothing", with(live, Do("account.disable_environment", `{"environment":"test"}`)), debited(1), Then{Code: events.EnvironmentDisabled}},
		{"of a suspended account", with(live, Do("account.suspend", `{}`)), off, Then{Events: []string{"account.environment_disabled"}}},
		{"no third environment", live, Do("account.disable_environment", `{"environment":"staging"}`), Then{Code: events.InvalidArgument}},
		{"one must be named", live, Do("account.disable_environment", `{}`), Then{Code: events.InvalidArgument}},
	})
}

func TestProducts(t *testing.T) {
	Run(t, []Case{
		{"products are sorted, without repetitions",
			[]Step{opened}, Do("account.set_products", `{"environment":"live","products":["b","a","b"]}`),
			Then{Events: []string{"account.products_set"}, Data: `{"environments":{"test":{"enabled":true,"products":null},"live":{"enabled":false,"products":["a","b"]}}}`}},
		{"the same products change nothing",
			[]Step{opened, Do("account.set_products", `{"environment":"live","products":["a","b"]}`)},
			Do("account.set_products", `{"environment":"live","products":["b","a"]}`), Then{}},
		{"none is not the same as never set",
			[]Step{opened}, Do("account.set_products", `{"environment":"test","products":[]}`), Then{Events: []string{"account.products_set"}}},
		{"enable live",
			[]Step{opened}, Do("account.enable_environment", `{"environment":"live"}`), Then{Events: []string{"account.environment_enabled"}}},
		{"enabling twice changes nothing",
			[]Step{opened, Do("account.enable_environment", `{"environment":"live"}`)}, Do("account.enable_environment", `{"environment":"live"}`), Then{}},
		{"test is enabled from the start",
			[]Step{opened}, Do("account.enable_environment", `{"environment":"test"}`), Then{}},
		{"200 products",
			[]Step{opened}, Do("account.set_products", `{"environment":"test","products":`+slugs(200)+`}`), Then{Events: []string{"account.products_set"}}},
		{"201 products",
			[]Step{opened}, Do("account.set_products", `{"environment":"test","products":`+slugs(201)+`}`), Then{Code: events.InvalidArgument}},
		{"a product of 64 characters",
			[]Step{opened}, Do("account.set_products", `{"environment":"test","products":["`+strings.Repeat("a", 64)+`"]}`), Then{Events: []string{"account.products_set"}}},
		{"a product of 65 characters",
			[]Step{opened}, Do("account.set_products", `{"environment":"test","products":["`+strings.Repeat("a", 65)+`"]}`), Then{Code: events.InvalidArgument}},
		{"products are required",
			[]Step{opened}, Do("account.set_products", `{"environment":"test"}`), Then{Code: events.InvalidArgument}},
		{"no third environment",
			[]Step{opened}, Do("account.enable_environment", `{"environment":"staging"}`), Then{Code: events.InvalidArgument}},
	})
}

func TestPlan(t *testing.T) {
	Run(t, []Case{
		{"what a plan leaves out is filled in",
			[]Step{opened}, Do("account.set_plan", `{"plan":{"name":"starter","rate":{"per_second":10}}}`),
			Then{Events: []string{"account.plan_set"}, Data: `{"plan":{"name":"starter","price":{"asset":"credits","default":100,"per":{}},"rate":{"per_second":10,"burst":10},"max_keys":0,"allowance":null,"overdraft":{},"par":[],"assets":{}}}`}},
		{"the same plan changes nothing",
			[]Step{opened, Do("account.set_plan", `{"plan":{"name":"starter"}}`)}, Do("account.set_plan", `{"plan":{"name":"starter","price":{"default":100}}}`), Then{}},
		{"a plan is required", []Step{opened}, Do("account.set_plan", `{}`), Then{Code: events.InvalidArgument}},
		{"a plan has a name", []Step{opened}, Do("account.set_plan", `{"plan":{}}`), Then{Code: events.InvalidArgument}},
		{"no negative price", []Step{opened}, Do("account.set_plan", `{"plan":{"name":"p","price":{"default":-1}}}`), Then{Code: events.InvalidArgument}},
		{"the largest price", []Step{opened}, Do("account.set_plan", `{"plan":{"name":"p","price":{"default":9007199254740991}}}`), Then{Events: []string{"account.plan_set"}}},
		{"one more than the largest", []Step{opened}, Do("account.set_plan", `{"plan":{"name":"p","price":{"default":9007199254740992}}}`), Then{Code: events.InvalidArgument}},
		{"a price names product and access", []Step{opened}, Do("account.set_plan", `{"plan":{"name":"p","price":{"per":{"payments":5}}}}`), Then{Code: events.InvalidArgument}},
		{"no price for any access", []Step{opened}, Do("account.set_plan", `{"plan":{"name":"p","price":{"per":{"payments:*":5}}}}`), Then{Code: events.InvalidArgument}},
		{"a rate has at least one a second", []Step{opened}, Do("account.set_plan", `{"plan":{"name":"p","rate":{"per_second":0,"burst":5}}}`), Then{Code: events.InvalidArgument}},
		{"open with a plan", nil, Do("account.open", `{"plan":{"name":"p","max_keys":3}}`), Then{Events: []string{"account.opened"}}},
	})
}

// slugs is a JSON array of n product names.
func slugs(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = `"p` + string(rune('a'+i/26)) + string(rune('a'+i%26)) + `"`
	}
	return "[" + strings.Join(list, ",") + "]"
}
