package spec

import (
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

var (
	key        = Do("key.create", `{"environment":"test","name":"backend"}`)
	restricted = Do("key.create", `{"environment":"test","name":"r","kind":"restricted","permissions":["payments:read"]}`)
	liveKey    = Do("key.create", `{"environment":"live","name":"backend"}`)
)

func TestKey(t *testing.T) {
	Run(t, []Case{
		{"create",
			[]Step{opened}, Do("key.create", `{"environment":"test","name":"backend","ip_allowlist":["203.0.113.7/24","2001:db8::1","::ffff:192.0.2.0/120"],"metadata":{"a":1}}`),
			Then{Events: []string{"key.created"}, Data: `{"account":"acme","environment":"test","name":"backend","kind":"standard","status":"active","permissions":[],
				"read_only":false,"ip_allowlist":["192.0.2.0/24","2001:db8::1/128","203.0.113.0/24"],"expires_at":null,"asset_class":"any","last_used_at":null,"metadata":{"a":1}}`}},
		{"a name is required", []Step{opened}, Do("key.create", `{"environment":"test"}`), Then{Code: events.InvalidArgument}},
		{"a name of 128 characters", []Step{opened}, Do("key.create", `{"environment":"test","name":"`+strings.Repeat("é", 128)+`"}`), Then{Events: []string{"key.created"}}},
		{"a name of 129 characters", []Step{opened}, Do("key.create", `{"environment":"test","name":"`+strings.Repeat("é", 129)+`"}`), Then{Code: events.InvalidArgument}},
		{"no control characters", []Step{opened}, Do("key.create", `{"environment":"test","name":"a\nb"}`), Then{Code: events.InvalidArgument}},
		{"a bad CIDR", []Step{opened}, Do("key.create", `{"environment":"test","name":"k","ip_allowlist":["10.0.0.0/33"]}`), Then{Code: events.InvalidArgument}},
		{"an address with a zone", []Step{opened}, Do("key.create", `{"environment":"test","name":"k","ip_allowlist":["fe80::1%eth0"]}`), Then{Code: events.InvalidArgument}},
		{"permissions are for restricted keys", []Step{opened}, Do("key.create", `{"environment":"test","name":"k","permissions":["payments:read"]}`), Then{Code: events.InvalidArgument}},
		{"a restricted key", []Step{opened}, Do("key.create", `{"environment":"test","name":"k","kind":"restricted","permissions":["payments:read"]}`), Then{Events: []string{"key.created"}}},
		{"a permission names an access", []Step{opened}, Do("key.create", `{"environment":"test","name":"k","kind":"restricted","permissions":["payments"]}`), Then{Code: events.InvalidArgument}},
		{"an expiry in the past", []Step{opened}, Do("key.create", `{"environment":"test","name":"k","expires_at":"2026-03-01T12:00:00Z"}`), Then{Code: events.InvalidArgument}},
		{"an expiry in a millisecond", []Step{opened}, Do("key.create", `{"environment":"test","name":"k","expires_at":"2026-03-01T12:00:00.001Z"}`), Then{Events: []string{"key.created"}}},
		{"no other kind", []Step{opened}, Do("key.create", `{"environment":"test","name":"k","kind":"root"}`), Then{Code: events.InvalidArgument}},
		{"no other asset class", []Step{opened}, Do("key.create", `{"environment":"test","name":"k","asset_class":"gold"}`), Then{Code: events.InvalidArgument}},
		{"the plan's number of keys",
			[]Step{opened, Do("account.set_plan", `{"plan":{"name":"p","max_keys":1}}`), key}, key, Then{Code: events.LimitExceeded}},
		{"a plan that allows fewer takes none away",
			[]Step{opened, key, key, Do("account.set_plan", `{"plan":{"name":"p","max_keys":1}}`)}, Ask(`{"secret":"@secret2","cost":0}`), Then{Answer: `{"allowed":true}`}},
		{"but gives no more",
			[]Step{opened, key, key, Do("account.set_plan", `{"plan":{"name":"p","max_keys":1}}`), Do("key.revoke", `{"key":"@key1"}`)}, key, Then{Code: events.LimitExceeded}},
		{"expired and disabled keys count",
			[]Step{opened, Do("account.set_plan", `{"plan":{"name":"p","max_keys":1}}`), key, Do("key.disable", `{"key":"@key1"}`)}, key, Then{Code: events.LimitExceeded}},
		{"both environments count",
			[]Step{opened, Do("account.set_plan", `{"plan":{"name":"p","max_keys":1}}`), liveKey}, key, Then{Code: events.LimitExceeded}},
		{"a revoked key makes room",
			[]Step{opened, Do("account.set_plan", `{"plan":{"name":"p","max_keys":1}}`), key, Do("key.revoke", `{"key":"@key1"}`)}, key, Then{Events: []string{"key.created"}}},
	})
}

func TestKeysHaveALimit(t *testing.T) {
	given := []Step{opened}
	for range 1000 {
		given = append(given, key)
	}
	more := append(given[:1000:1000], Do("account.set_plan", `{"plan":{"name":"p","max_keys":1001}}`), key)
	Run(t, []Case{
		{"a 1,001st key", given, key, Then{Code: events.LimitExceeded}},
		{"that a plan allows", more, key, Then{Events: []string{"key.created"}}},
		{"a 1,002nd", append(more, key), key, Then{Code: events.LimitExceeded}},
		{"the 1,000th key", given[:1000], key, Then{Events: []string{"key.created"}}},
	})
}

func TestKeyChanges(t *testing.T) {
	have := []Step{opened, key}
	Run(t, []Case{
		{"rename", have, Do("key.update", `{"key":"@key1","name":"new"}`), Then{Events: []string{"key.updated"}, Data: `{"name":"new","ip_allowlist":[]}`}},
		{"the same name changes nothing", have, Do("key.update", `{"key":"@key1","name":"backend"}`), Then{}},
		{"an update of nothing changes nothing", have, Do("key.update", `{"key":"@key1"}`), Then{}},
		{"set and clear an expiry",
			append(have, Do("key.update", `{"key":"@key1","expires_at":"2027-01-01T00:00:00Z"}`)),
			Do("key.update", `{"key":"@key1","expires_at":null}`), Then{Events: []string{"key.updated"}, Data: `{"expires_at":null}`}},
		{"disable", have, Do("key.disable", `{"key":"@key1","reason":"leak"}`), Then{Events: []string{"key.disabled"}, Data: `{"status":"disabled","reason":"leak"}`}},
		{"disabling twice changes nothing", append(have, Do("key.disable", `{"key":"@key1"}`)), Do("key.disable", `{"key":"@key1"}`), Then{}},
		{"enable", append(have, Do("key.disable", `{"key":"@key1"}`)), Do("key.enable", `{"key":"@key1"}`), Then{Events: []string{"key.enabled"}}},
		{"revoke", have, Do("key.revoke", `{"key":"@key1"}`), Then{Events: []string{"key.revoked"}, Data: `{"status":"revoked"}`}},
		{"revoking twice changes nothing", append(have, Do("key.revoke", `{"key":"@key1"}`)), Do("key.revoke", `{"key":"@key1"}`), Then{}},
		{"revoked is final", append(have, Do("key.revoke", `{"key":"@key1"}`)), Do("key.enable", `{"key":"@key1"}`), Then{Code: events.FailedPrecondition}},
		{"a revoked key is not changed", append(have, Do("key.revoke", `{"key":"@key1"}`)), Do("key.update", `{"key":"@key1","name":"x"}`), Then{Code: events.FailedPrecondition}},
		{"an unknown key", have, Do("key.disable", `{"key":"key_01ARZ3NDEKTSV4RRFFQ69G5FAV"}`), Then{Code: events.NotFound}},
		{"no key id at all", have, Do("key.disable", `{"key":"backend"}`), Then{Code: events.InvalidArgument}},
		{"other permissions work at once", []Step{opened, restricted, Do("key.update", `{"key":"@key1","permissions":["maps:read"]}`)},
			Ask(`{"secret":"@secret1","product":"payments","access":"read","cost":0}`), Then{Code: events.PermissionDenied}},
		{"no permissions permit nothing", []Step{opened, restricted, Do("key.update", `{"key":"@key1","permissions":[]}`)},
			Ask(`{"secret":"@secret1","product":"payments","access":"read","cost":0}`), Then{Code: events.PermissionDenied}},
		{"another allowlist works at once", append(have, Do("key.update", `{"key":"@key1","ip_allowlist":["192.0.2.1"]}`)), Ask(`{"secret":"@secret1","cost":0}`), Then{Code: events.IPNotAllowed}},
		{"none lets everybody in", append(have, Do("key.update", `{"key":"@key1","ip_allowlist":["192.0.2.1"]}`), Do("key.update", `{"key":"@key1","ip_allowlist":[]}`)),
			Ask(`{"secret":"@secret1","cost":0}`), Then{Answer: `{"allowed":true}`}},
		{"an expiry in the past", have, Do("key.update", `{"key":"@key1","expires_at":"2026-03-01T12:00:00Z"}`), Then{Code: events.InvalidArgument}},
		{"an expiry in a millisecond", have, Do("key.update", `{"key":"@key1","expires_at":"2026-03-01T12:00:00.001Z"}`), Then{Events: []string{"key.updated"}}},
		{"a kind stays what it is", have, Do("key.update", `{"key":"@key1","kind":"restricted"}`), Then{Code: events.InvalidArgument}},
		{"a standard key gets no permissions", have, Do("key.update", `{"key":"@key1","permissions":["a:read"]}`), Then{Code: events.FailedPrecondition}},
	})
}

// What time alone brings about comes before the next command, once.
func TestKeyExpiry(t *testing.T) {
	at := func(clock string) string { return `"expires_at":"2026-03-01T` + clock + `Z"` }
	have := []Step{opened, Do("key.create", `{"environment":"test","name":"k",`+at("13:00:00")+`}`)}
	wait := func(d time.Duration) Step { return Step{Wait: d} }
	Run(t, []Case{
		{"not a millisecond before", have, wait(time.Hour - time.Millisecond), Then{}},
		{"to the millisecond", have, wait(time.Hour), Then{Events: []string{"key.expired"}, Data: `{"id":"@key1","status":"active","expires_at":"2026-03-01T13:00:00Z"}`}},
		{"once", append(have, wait(time.Hour)), wait(time.Hour), Then{}},
		{"long after", have, wait(1000 * time.Hour), Then{Events: []string{"key.expired"}}},
		{"before the command that meets it", have, After(time.Hour, Do("account.suspend", `{}`)), Then{Events: []string{"key.expired", "account.suspended"}}},
		{"not when it was put off", append(have, Do("key.update", `{"key":"@key1",`+at("14:00:00")+`}`)), wait(time.Hour), Then{}},
		{"when it was put off", append(have, Do("key.update", `{"key":"@key1",`+at("14:00:00")+`}`)), wait(2 * time.Hour), Then{Events: []string{"key.expired"}}},
		{"when it was put forward", append(have, Do("key.update", `{"key":"@key1",`+at("12:30:00")+`}`)), wait(2 * time.Hour), Then{Events: []string{"key.expired"}}},
		{"once, when it was put off and back", append(have, Do("key.update", `{"key":"@key1",`+at("14:00:00")+`}`), Do("key.update", `{"key":"@key1",`+at("13:00:00")+`}`)),
			wait(2 * time.Hour), Then{Events: []string{"key.expired"}}},
		{"not when there is none any more", append(have, Do("key.update", `{"key":"@key1","expires_at":null}`)), wait(2 * time.Hour), Then{}},
		{"again after a new expiry", append(have, After(time.Hour, Do("key.update", `{"key":"@key1",`+at("14:00:00")+`}`))), wait(time.Hour), Then{Events: []string{"key.expired"}}},
		{"not twice because of another change", append(have, After(time.Hour, Do("key.update", `{"key":"@key1","name":"n"}`))), wait(time.Hour), Then{}},
		{"of a disabled key too", append(have, Do("key.disable", `{"key":"@key1"}`)), wait(time.Hour), Then{Events: []string{"key.expired"}}},
		{"not of a revoked one", append(have, Do("key.revoke", `{"key":"@key1"}`)), wait(time.Hour), Then{}},
		{"in the order of time", append(have, Do("key.create", `{"environment":"test","name":"k",`+at("12:10:00")+`}`)), wait(time.Hour),
			Then{Events: []string{"key.expired", "key.expired"}, Data: `{"id":"@key1"}`}},
	})
}
