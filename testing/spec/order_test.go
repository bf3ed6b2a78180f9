package spec

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// flaw is one thing that is wrong with a request, and nothing else.
type flaw struct {
	name  string
	code  events.Code
	given []Step         // what makes it so
	ask   map[string]any // members of the request that make it so
	wait  time.Duration  // before the request
}

// The order of an authorisation's checks. Of two that fail the first gives the answer.
var flaws = []flaw{
	{name: "an unknown secret", code: events.KeyNotFound, ask: map[string]any{"secret": "kl_live_unknown"}},
	{name: "a closed account", code: events.AccountSuspended, given: []Step{Do("account.close", `{}`)}},
	{name: "a suspended account", code: events.AccountSuspended, given: []Step{Do("account.suspend", `{}`)}},
	{name: "a revoked key", code: events.KeyRevoked, given: []Step{Do("key.revoke", `{"key":"@key1"}`)}},
	{name: "a disabled key", code: events.KeyDisabled, given: []Step{Do("key.disable", `{"key":"@key1"}`)}},
	{name: "an expired key", code: events.KeyExpired, wait: time.Hour},
	{name: "live is off", code: events.EnvironmentDisabled, given: []Step{Do("account.disable_environment", `{"environment":"live"}`)}},
	{name: "another address", code: events.IPNotAllowed, ask: map[string]any{"ip": "192.0.2.2"}},
	{name: "a product that is not enabled", code: events.ProductNotEnabled, given: []Step{Do("account.set_products", `{"environment":"live","products":["maps"]}`)}},
	{name: "no permission to write", code: events.PermissionDenied, ask: map[string]any{"access": "write"}},
	{name: "an asset of another class", code: events.PermissionDenied, given: []Step{Do("account.set_plan", orderPlan("btc"))}},
	{name: "no token left", code: events.RateLimited, given: []Step{Ask(`{"secret":"@secret1","ip":"192.0.2.1","product":"payments","access":"read","cost":0}`)}},
	{name: "too few credits", code: events.InsufficientCredits, ask: map[string]any{"cost": 101}},
}

func orderPlan(asset string) string {
	return `{"plan":{"name":"p","price":{"asset":"` + asset + `","default":1},"rate":{"per_second":1},"assets":{"usd":{"class":"fiat"},"btc":{"class":"crypto"}}}}`
}

// with both flaws: what makes the later one so is done first, while it still can be.
func (f *flaw) with(later *flaw, base []Step) Case {
	members := map[string]any{"secret": "@secret1", "ip": "192.0.2.1", "product": "payments", "access": "read"}
	maps.Copy(members, later.ask)
	maps.Copy(members, f.ask)
	body, err := events.Encode(members)
	if err != nil {
		panic(err)
	}
	c := Case{Name: f.name + ", and " + later.name, Given: base, When: After(max(f.wait, later.wait), Ask(string(body)))}
	for _, g := range [][]Step{later.given, f.given} {
		c.Given = with(c.Given, g...)
	}
	c.Then.Code = f.code
	gone := slices.ContainsFunc(c.Given, func(s Step) bool { return s.Verb == "key.revoke" || s.Verb == "account.close" })
	if c.When.Wait > 0 && !gone {
		c.Then.Events = []string{"key.expired"}
	}
	return c
}

func TestOrderOfAuthorize(t *testing.T) {
	base := []Step{opened, Do("account.set_plan", orderPlan("usd")),
		Do("account.enable_environment", `{"environment":"live"}`), Do("account.set_products", `{"environment":"live","products":["payments"]}`),
		Do("credit.grant", `{"environment":"live","asset":"usd","amount":100}`),
		Do("key.create", `{"environment":"live","name":"k","kind":"restricted","permissions":["payments:read"],"ip_allowlist":["192.0.2.1"],"asset_class":"fiat","expires_at":"2026-03-01T13:00:00Z"}`)}
	none := flaw{name: "nothing else"}
	cases := []Case{none.with(&none, base)}
	cases[0].Then = Then{Events: []string{"credit.debited"}, Answer: `{"cost":1,"balance":99}`}
	for i := range flaws {
		cases = append(cases, flaws[i].with(&none, base))
		for j := i + 1; j < len(flaws); j++ {
			cases = append(cases, flaws[i].with(&flaws[j], base))
		}
	}
	Run(t, cases)
}

// The order of a command's checks, as far as the rules make them: its form, the account,
// the account's state, what it is about, whether that is in a state to do it, limits, money.
func TestOrderOfCommands(t *testing.T) {
	const nobody = `"key":"key_01ARZ3NDEKTSV4RRFFQ69G5FAV"`
	suspended := with(ready, Do("account.suspend", `{}`))
	closed := with(suspended, Do("account.close", `{}`))
	full := with(ready, Do("account.set_plan", `{"plan":{"name":"p","max_keys":1,"assets":{"btc":{"class":"crypto"}}}}`))
	fiat := with([]Step{full[0], full[1], full[3]}, Do("key.create", `{"environment":"live","name":"k","asset_class":"fiat"}`))
	debit := func(members string) Step {
		return Do("credit.debit", `{"environment":"live","amount":9000,`+members+`}`)
	}
	Run(t, []Case{
		{"form, account", nil, Do("key.rotate", `{"key":"x"}`), Then{Code: events.InvalidArgument}},
		{"form, state", closed, Do("key.rotate", `{"key":"x"}`), Then{Code: events.InvalidArgument}},
		{"account, target", nil, Do("key.rotate", `{`+nobody+`}`), Then{Code: events.NotFound}},
		{"closed, suspended", closed, Do("key.create", `{"environment":"test","name":"k"}`), Then{Code: events.FailedPrecondition}},
		{"closed, target", closed, Do("key.update", `{`+nobody+`}`), Then{Code: events.FailedPrecondition}},
		{"suspended, target", suspended, Do("key.rotate", `{`+nobody+`}`), Then{Code: events.AccountSuspended}},
		{"suspended, precondition", with(ready, Do("key.revoke", `{"key":"@key1"}`), Do("account.suspend", `{}`)), rotate, Then{Code: events.AccountSuspended}},
		{"suspended, limit", with(full, Do("account.suspend", `{}`)), key, Then{Code: events.AccountSuspended}},
		{"suspended, money", suspended, debited(9000), Then{Code: events.AccountSuspended}},
		{"target, precondition", ready, debit(`"asset":"credits",` + nobody), Then{Code: events.NotFound}},
		{"environment of the key, class of the key", fiat, Do("credit.debit", `{"environment":"test","asset":"btc","amount":9000,"key":"@key1"}`), Then{Code: events.FailedPrecondition}},
		{"class of the key, environment", fiat, debit(`"asset":"btc","key":"@key1"`), Then{Code: events.PermissionDenied}},
		{"environment, money", fiat, debit(`"asset":"usd","key":"@key1"`), Then{Code: events.EnvironmentDisabled}},
		{"expiry in the past, limit", full, Do("key.create", `{"environment":"test","name":"k","expires_at":"2026-03-01T12:00:00Z"}`), Then{Code: events.InvalidArgument}},
		{"limit", full, key, Then{Code: events.LimitExceeded}},
		{"a grant that is there, its expiry", with(ready, Do("credit.grant", `{"environment":"test","asset":"credits","amount":1,"grant":"`+grantA+`"}`)),
			Do("credit.grant", `{"environment":"test","asset":"credits","amount":1,"grant":"`+grantA+`","expires_at":"2026-03-01T12:00:00Z"}`), Then{Code: events.AlreadyExists}},
		{"expiry in the past, limit of a balance", ready, Do("credit.grant", `{"environment":"test","asset":"credits","amount":9007199254740991,"expires_at":"2026-03-01T12:00:00Z"}`), Then{Code: events.InvalidArgument}},
		{"an account that is there, closed", closed, opened, Then{Code: events.AlreadyExists}},
	})
}
