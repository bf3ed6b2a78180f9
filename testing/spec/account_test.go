package spec

import (
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
