package spec

import (
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// ready is an account with 250 credits and a key in test.
var ready = []Step{opened, granted(250), key}

func with(base []Step, more ...Step) []Step {
	return append(base[:len(base):len(base)], more...)
}

// ask is the plainest authorisation.
var ask = Ask(`{"secret":"@secret1"}`)

func TestAuthorize(t *testing.T) {
	Run(t, []Case{
		{"allowed, at 100 a request", ready, Ask(`{"secret":"@secret1","product":"payments","access":"read","ip":"192.0.2.1"}`),
			Then{Events: []string{"credit.debited"}, Data: `{"amount":100,"key":"@key1","product":"payments","access":"read","ip":"192.0.2.1","secret_age":"current"}`,
				Answer: `{"allowed":true,"code":"ok","account":"acme","environment":"test","key":"@key1","cost":100,"balance":150,"secret_age":"current"}`}},
		{"credits run out", with(ready, ask, ask), ask,
			Then{Code: events.InsufficientCredits, Answer: `{"allowed":false,"cost":100,"balance":50}`}},
		{"a cost of its own", ready, Ask(`{"secret":"@secret1","cost":7}`), Then{Events: []string{"credit.debited"}, Answer: `{"cost":7,"balance":243}`}},
		{"units", ready, Ask(`{"secret":"@secret1","units":2}`), Then{Events: []string{"credit.debited"}, Data: `{"units":2}`, Answer: `{"cost":200}`}},
		{"a free request commits nothing", ready, Ask(`{"secret":"@secret1","cost":0}`), Then{Answer: `{"allowed":true,"cost":0,"balance":250}`}},
		{"the plan's price", with(ready, Do("account.set_plan", `{"plan":{"name":"p","price":{"default":10,"per":{"payments:read":3}}}}`)),
			Ask(`{"secret":"@secret1","product":"payments","access":"read"}`), Then{Events: []string{"credit.debited"}, Answer: `{"cost":3}`}},
		{"the plan's default price", with(ready, Do("account.set_plan", `{"plan":{"name":"p","price":{"default":10,"per":{"payments:read":3}}}}`)),
			Ask(`{"secret":"@secret1","product":"payments"}`), Then{Events: []string{"credit.debited"}, Answer: `{"cost":10}`}},
		{"the plan's asset", with(ready, Do("account.set_plan", `{"plan":{"name":"p","price":{"asset":"usd"}}}`)), ask, Then{Code: events.InsufficientCredits, Answer: `{"balance":0}`}},
		{"a product too many", with(ready, Do("account.set_plan", `{"plan":{"name":"p","price":{"default":9007199254740991}}}`)),
			Ask(`{"secret":"@secret1","units":2}`), Then{Code: events.InvalidArgument}},
		{"an unknown secret tells nothing", ready, Ask(`{"secret":"kl_test_nothing"}`),
			Then{Code: events.KeyNotFound, Answer: `{"allowed":false}`}},
		{"a secret is required", ready, Ask(`{}`), Then{Code: events.InvalidArgument}},
		{"no negative cost", ready, Ask(`{"secret":"@secret1","cost":-1}`), Then{Code: events.InvalidArgument}},
		{"no zero units", ready, Ask(`{"secret":"@secret1","units":0}`), Then{Code: events.InvalidArgument}},
		{"access is read or write", ready, Ask(`{"secret":"@secret1","access":"admin"}`), Then{Code: events.InvalidArgument}},
		{"a bad address", ready, Ask(`{"secret":"@secret1","ip":"1.2.3"}`), Then{Code: events.InvalidArgument}},
	})
}

// The order of the decision: each row fails in all that comes later too.
func TestAuthorizeOrder(t *testing.T) {
	// A restricted key for one address that may read payments, in live, which is off,
	// with a plan of one request a second and no credits.
	base := []Step{opened,
		Do("account.set_plan", `{"plan":{"name":"p","rate":{"per_second":1,"burst":1}}}`),
		Do("key.create", `{"environment":"live","name":"k","kind":"restricted","permissions":["payments:read"],"ip_allowlist":["192.0.2.1"],"expires_at":"2026-03-02T00:00:00Z"}`)}
	enabled := with(base, Do("account.enable_environment", `{"environment":"live"}`))
	products := with(enabled, Do("account.set_products", `{"environment":"live","products":["payments"]}`))
	free := Ask(`{"secret":"@secret1","ip":"192.0.2.1","product":"payments","access":"read","cost":0}`)
	Run(t, []Case{
		{"account", with(base, Do("key.revoke", `{"key":"@key1"}`), Do("account.suspend", `{}`)), Ask(`{"secret":"@secret1"}`), Then{Code: events.AccountSuspended}},
		{"revoked", with(base, Do("key.revoke", `{"key":"@key1"}`)), After(48*time.Hour, Ask(`{"secret":"@secret1"}`)), Then{Code: events.KeyRevoked}},
		{"disabled", with(base, Do("key.disable", `{"key":"@key1"}`)), After(48*time.Hour, Ask(`{"secret":"@secret1"}`)), Then{Events: []string{"key.expired"}, Code: events.KeyDisabled}},
		{"expired", base, After(12*time.Hour, Ask(`{"secret":"@secret1"}`)), Then{Events: []string{"key.expired"}, Code: events.KeyExpired}},
		{"a millisecond before the expiry", base, After(12*time.Hour-time.Millisecond, Ask(`{"secret":"@secret1"}`)), Then{Code: events.EnvironmentDisabled}},
		{"environment", base, Ask(`{"secret":"@secret1"}`), Then{Code: events.EnvironmentDisabled}},
		{"no address", enabled, Ask(`{"secret":"@secret1","product":"other"}`), Then{Code: events.IPNotAllowed}},
		{"another address", enabled, Ask(`{"secret":"@secret1","product":"other","ip":"192.0.2.2"}`), Then{Code: events.IPNotAllowed}},
		{"the address as mapped IPv6", enabled, Ask(`{"secret":"@secret1","product":"other","ip":"::ffff:192.0.2.1"}`), Then{Code: events.ProductNotEnabled}},
		{"in live no product works at first", enabled, Ask(`{"secret":"@secret1","ip":"192.0.2.1","product":"payments"}`), Then{Code: events.ProductNotEnabled}},
		{"nor a request that names none", enabled, Ask(`{"secret":"@secret1","ip":"192.0.2.1"}`), Then{Code: events.ProductNotEnabled}},
		{"another product", products, Ask(`{"secret":"@secret1","ip":"192.0.2.1","product":"other"}`), Then{Code: events.ProductNotEnabled}},
		{"no permission to write", products, Ask(`{"secret":"@secret1","ip":"192.0.2.1","product":"payments"}`), Then{Code: events.PermissionDenied}},
		{"a restricted key must name a product", products, Ask(`{"secret":"@secret1","ip":"192.0.2.1"}`), Then{Code: events.PermissionDenied}},
		{"rate", with(products, free), Ask(`{"secret":"@secret1","ip":"192.0.2.1","product":"payments","access":"read"}`),
			Then{Code: events.RateLimited, Answer: `{"rate":{"limit":1,"remaining":0,"reset_ms":1000}}`}},
		{"credits", with(products, free), After(time.Second, Ask(`{"secret":"@secret1","ip":"192.0.2.1","product":"payments","access":"read"}`)), Then{Code: events.InsufficientCredits}},
	})
}

func TestAuthorizeProducts(t *testing.T) {
	none := with(ready, Do("account.set_products", `{"environment":"test","products":[]}`))
	some := with(ready, Do("account.set_products", `{"environment":"test","products":["maps","payments"]}`))
	star := Do("key.create", `{"environment":"test","name":"r","kind":"restricted","permissions":["maps:*"]}`)
	readOnly := Do("key.create", `{"environment":"test","name":"r","read_only":true}`)
	both := Do("key.create", `{"environment":"test","name":"r","kind":"restricted","read_only":true,"permissions":["maps:*","payments:write"]}`)
	spent := []string{"credit.debited"}
	Run(t, []Case{
		{"an empty sandbox takes any product", ready, Ask(`{"secret":"@secret1","product":"anything"}`), Then{Events: spent}},
		{"no products is none", none, Ask(`{"secret":"@secret1","product":"anything"}`), Then{Code: events.ProductNotEnabled}},
		{"a request without a product is checked against none", none, ask, Then{Events: spent}},
		{"an enabled product", some, Ask(`{"secret":"@secret1","product":"maps"}`), Then{Events: spent}},
		{"changing products takes effect at once", with(some, Do("account.set_products", `{"environment":"test","products":["maps"]}`)),
			Ask(`{"secret":"@secret1","product":"payments"}`), Then{Code: events.ProductNotEnabled}},
		{"a star permits write", with(ready, star), Ask(`{"secret":"@secret2","product":"maps"}`), Then{Events: spent}},
		{"a star permits read", with(ready, star), Ask(`{"secret":"@secret2","product":"maps","access":"read"}`), Then{Events: spent}},
		{"a star of another product", with(ready, star), Ask(`{"secret":"@secret2","product":"map"}`), Then{Code: events.PermissionDenied}},
		{"a read-only key reads", with(ready, readOnly), Ask(`{"secret":"@secret2","product":"maps","access":"read"}`), Then{Events: spent}},
		{"a read-only key does not write", with(ready, readOnly), Ask(`{"secret":"@secret2","product":"maps"}`), Then{Code: events.PermissionDenied}},
		{"a restricted and read-only key reads what it may", with(ready, both), Ask(`{"secret":"@secret2","product":"maps","access":"read"}`), Then{Events: spent}},
		{"it does not write it", with(ready, both), Ask(`{"secret":"@secret2","product":"maps"}`), Then{Code: events.PermissionDenied}},
		{"to write is not to read", with(ready, both), Ask(`{"secret":"@secret2","product":"payments","access":"read"}`), Then{Code: events.PermissionDenied}},
		{"to read is not to write", with(ready, restricted), Ask(`{"secret":"@secret2","product":"payments"}`), Then{Code: events.PermissionDenied}},
		{"a restricted key is bound by the account's products", with(some, star, Do("account.set_products", `{"environment":"test","products":["payments"]}`)),
			Ask(`{"secret":"@secret2","product":"maps"}`), Then{Code: events.ProductNotEnabled}},
		{"a product that comes later works at once", with(none, Do("account.set_products", `{"environment":"test","products":["maps"]}`)), Ask(`{"secret":"@secret1","product":"maps"}`), Then{Events: spent}},
		{"a read-only key must name a product", with(ready, readOnly), Ask(`{"secret":"@secret2","access":"read"}`), Then{Code: events.PermissionDenied}},
	})
}

// What an address has to do with an allowlist, before anything is taken.
func TestAuthorizeAddresses(t *testing.T) {
	for _, row := range []struct {
		name, allowlist, ip string
		allowed             bool
	}{
		{"an address of a range", "203.0.113.0/24", "203.0.113.255", true},
		{"the address behind it", "203.0.113.0/24", "203.0.114.0", false},
		{"a range that was given by an address in it", "203.0.113.77/24", "203.0.113.1", true},
		{"an IPv6 range", "2001:db8::/32", "2001:db8:ffff::1", true},
		{"the address behind it", "2001:db8::/32", "2001:db9::", false},
		{"a single IPv6 address, in another spelling", "2001:db8::1", "2001:0DB8:0:0:0:0:0:1", true},
		{"IPv4 as mapped IPv6", "203.0.113.0/24", "::ffff:203.0.113.1", true},
		{"a range of mapped IPv6, and IPv4", "::ffff:203.0.113.0/120", "203.0.113.1", true},
		{"all of IPv4, and IPv6", "0.0.0.0/0", "2001:db8::1", false},
		{"all of IPv6, and IPv4", "::/0", "203.0.113.1", false},
		{"all of IPv6, and mapped IPv4, which is IPv4", "::/0", "::ffff:203.0.113.1", false},
		{"no address", "0.0.0.0/0", "", false},
	} {
		then := Then{Code: events.IPNotAllowed, Answer: `{"allowed":false,"cost":0}`}
		if row.allowed {
			then = Then{Events: []string{"credit.debited"}}
		}
		restrict := Do("key.update", `{"key":"@key1","ip_allowlist":["192.0.2.9/32","`+row.allowlist+`"]}`)
		Run(t, []Case{{row.name + ": " + row.ip, with(ready, restrict), Ask(`{"secret":"@secret1","ip":"` + row.ip + `"}`), then}})
	}
}

// A key may spend assets of its class, and credits.
func TestAuthorizeAssetClass(t *testing.T) {
	plan := func(asset string) Step {
		return Do("account.set_plan", `{"plan":{"name":"p","price":{"asset":"`+asset+`","default":1},"assets":{"usd":{"class":"fiat"},"btc":{"class":"crypto"},"points":{}}}}`)
	}
	for class, may := range map[string]map[string]bool{
		"any":    {"usd": true, "btc": true, "points": true, "unnamed": true},
		"fiat":   {"usd": true, "btc": false, "points": true, "unnamed": true},
		"crypto": {"usd": false, "btc": true, "points": true, "unnamed": true},
	} {
		for asset, allowed := range may {
			given := []Step{opened, plan(asset), Do("credit.grant", `{"environment":"test","asset":"`+asset+`","amount":10}`),
				Do("key.create", `{"environment":"test","name":"k","asset_class":"`+class+`"}`)}
			then := Then{Code: events.PermissionDenied}
			if allowed {
				then = Then{Events: []string{"credit.debited"}}
			}
			Run(t, []Case{
				{class + " key, " + asset, given, Ask(`{"secret":"@secret1"}`), then},
				{class + " key, " + asset + ", free", given, Ask(`{"secret":"@secret1","cost":0}`), Then{Code: then.Code}},
				{class + " key, " + asset + ", by debit", given, Do("credit.debit", `{"environment":"test","asset":"`+asset+`","amount":1,"key":"@key1"}`), then},
			})
		}
	}
}

func TestAuthorizeRate(t *testing.T) {
	free := Ask(`{"secret":"@secret1","cost":0}`)
	plan := func(rate string) []Step {
		return with(ready, Do("account.set_plan", `{"plan":{"name":"p","rate":`+rate+`}}`))
	}
	Run(t, []Case{
		{"the burst", with(plan(`{"per_second":2,"burst":3}`), free, free), free, Then{Answer: `{"rate":{"limit":3,"remaining":0,"reset_ms":1500}}`}},
		{"past the burst", with(plan(`{"per_second":2,"burst":3}`), free, free, free), free, Then{Code: events.RateLimited}},
		{"a token comes back exactly in time", with(plan(`{"per_second":2,"burst":3}`), free, free, free), After(500*time.Millisecond, free), Then{Answer: `{"allowed":true}`}},
		{"and not a millisecond before", with(plan(`{"per_second":2,"burst":3}`), free, free, free), After(499*time.Millisecond, free), Then{Code: events.RateLimited}},
		{"three a second divide no millisecond", with(plan(`{"per_second":3,"burst":1}`), free), After(333*time.Millisecond, free), Then{Code: events.RateLimited}},
		{"so the fourth one does", with(plan(`{"per_second":3,"burst":1}`), free), After(334*time.Millisecond, free), Then{Answer: `{"allowed":true}`}},
		{"a refused request takes no token", with(plan(`{"per_second":1,"burst":1}`), Ask(`{"secret":"@secret1","cost":9000}`)), free, Then{Answer: `{"allowed":true}`}},
		{"429 never charges", with(plan(`{"per_second":1,"burst":1}`), free), ask, Then{Code: events.RateLimited, Answer: `{"balance":250}`}},
		{"no plan, no limit", ready, free, Then{Answer: `{"allowed":true}`}},
	})
}

// A secret differs from any other string in more than its look: every single change of
// a character is told without a look-up.
func TestSecretForms(t *testing.T) {
	Run(t, []Case{
		{"cut", ready, Ask(`{"secret":"kl_test_01"}`), Then{Code: events.KeyNotFound}},
		{"another environment", ready, Ask(`{"secret":"kl_live_` + strings.Repeat("0", 79) + `"}`), Then{Code: events.KeyNotFound}},
		{"of 1,024 bytes", ready, Ask(`{"secret":"` + strings.Repeat("k", 1024) + `"}`), Then{Code: events.KeyNotFound}},
		{"of 1,025 bytes", ready, Ask(`{"secret":"` + strings.Repeat("k", 1025) + `"}`), Then{Code: events.InvalidArgument}},
	})
}
