package spec

import (
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

var (
	rotate    = Do("key.rotate", `{"key":"@key1"}`)
	rotateNow = Do("key.rotate", `{"key":"@key1","grace":"0"}`)
	rotated   = []string{"key.rotated"}
	atOnce    = []string{"key.rotated", "key.secret_retired"}
	retired   = []string{"key.secret_retired"}
)

// The first secret is the old one of all cases, the second the new one.
var (
	askOld = Ask(`{"secret":"@secret1","cost":1}`)
	askNew = Ask(`{"secret":"@secret2","cost":1}`)
)

func TestRotate(t *testing.T) {
	taken := []string{"credit.debited"}
	Run(t, []Case{
		{"the same key has a new secret, and the old one for a day", ready, After(time.Minute, rotate), Then{Events: rotated,
			Data: `{"id":"@key1","account":"acme","environment":"test","name":"backend","status":"active","rotated_at":"2026-03-01T12:01:00Z","old_secret_until":"2026-03-02T12:01:00Z"}`}},
		{"the new secret works at once", with(ready, rotate), askNew, Then{Events: taken, Data: `{"key":"@key1","secret_age":"current"}`, Answer: `{"key":"@key1","balance":249,"secret_age":"current"}`}},
		{"the old secret works too, on the same balance", with(ready, rotate, askNew), askOld, Then{Events: taken, Data: `{"key":"@key1","secret_age":"old"}`, Answer: `{"key":"@key1","balance":248,"secret_age":"old"}`}},
		{"up to the last millisecond of the grace", with(ready, rotate), After(24*time.Hour-time.Millisecond, askOld), Then{Events: taken, Answer: `{"secret_age":"old"}`}},
		{"and not after it", with(ready, rotate), After(24*time.Hour, askOld), Then{Events: retired, Code: events.KeyNotFound, Data: `{"id":"@key1","old_secret_until":null,"rotated_at":"2026-03-01T12:00:00Z"}`}},
		{"the new one goes on", with(ready, rotate), After(24*time.Hour, askNew), Then{Events: []string{"key.secret_retired", "credit.debited"}}},
		{"the end of the grace is told once", with(ready, rotate, Step{Wait: 24 * time.Hour}), Step{Wait: time.Hour}, Then{}},
		{"a grace of its own", ready, Do("key.rotate", `{"key":"@key1","grace":"90m"}`), Then{Events: rotated, Data: `{"old_secret_until":"2026-03-01T13:30:00Z"}`}},
		{"no grace, after a leak", ready, rotateNow, Then{Events: atOnce, Data: `{"old_secret_until":null}`}},
		{"then the old secret is unknown at once", with(ready, rotateNow), askOld, Then{Code: events.KeyNotFound}},
		{"a grace of less than a millisecond is none", ready, Do("key.rotate", `{"key":"@key1","grace":"999us"}`), Then{Events: atOnce}},
		{"a grace of a millisecond", ready, Do("key.rotate", `{"key":"@key1","grace":"1ms"}`), Then{Events: rotated, Data: `{"old_secret_until":"2026-03-01T12:00:00.001Z"}`}},
		{"the longest grace", ready, Do("key.rotate", `{"key":"@key1","grace":"720h"}`), Then{Events: rotated, Data: `{"old_secret_until":"2026-03-31T12:00:00Z"}`}},
		{"a longer one", ready, Do("key.rotate", `{"key":"@key1","grace":"720h1ns"}`), Then{Code: events.InvalidArgument}},
		{"a negative one", ready, Do("key.rotate", `{"key":"@key1","grace":"-1ns"}`), Then{Code: events.InvalidArgument}},
		{"no duration", ready, Do("key.rotate", `{"key":"@key1","grace":"a day"}`), Then{Code: events.InvalidArgument}},
		{"no number", ready, Do("key.rotate", `{"key":"@key1","grace":24}`), Then{Code: events.InvalidArgument}},
		{"no key id", ready, Do("key.rotate", `{"key":"backend"}`), Then{Code: events.InvalidArgument}},
	})
}

func TestRotateAgain(t *testing.T) {
	twice := with(ready, rotate, After(time.Hour, rotate))
	Run(t, []Case{
		{"two secrets live: the one before the old one stops", with(ready, rotate), After(time.Hour, rotate), Then{Events: atOnce, Data: `{"old_secret_until":"2026-03-02T13:00:00Z"}`}},
		{"the first is unknown", twice, askOld, Then{Code: events.KeyNotFound}},
		{"the second is old", twice, askNew, Then{Events: []string{"credit.debited"}, Answer: `{"secret_age":"old"}`}},
		{"the third is current", twice, Ask(`{"secret":"@secret3","cost":1}`), Then{Events: []string{"credit.debited"}, Answer: `{"secret_age":"current"}`}},
		{"the first grace's end brings nothing any more", twice, Step{Wait: 23 * time.Hour}, Then{}},
		{"the second's does", twice, Step{Wait: 24 * time.Hour}, Then{Events: retired}},
		{"no grace ends both", with(ready, rotate), rotateNow, Then{Events: atOnce, Data: `{"old_secret_until":null}`}},
		{"so the second is unknown too", with(ready, rotate, rotateNow), askNew, Then{Code: events.KeyNotFound}},
		{"and nothing is left to come", with(ready, rotate, rotateNow), Step{Wait: 1000 * time.Hour}, Then{}},
		{"after the grace there is none to stop", with(ready, rotate), After(24*time.Hour, rotate), Then{Events: []string{"key.secret_retired", "key.rotated"}}},
	})
}

// What ends the key ends both secrets, and the old one is told the same as the new one.
func TestRotateAndTheKeysEnd(t *testing.T) {
	expiring := []Step{opened, granted(250), Do("key.create", `{"environment":"test","name":"k","expires_at":"2026-03-01T20:00:00Z"}`), rotate}
	update := func(expires string) Step {
		return Do("key.update", `{"key":"@key1","expires_at":`+expires+`}`)
	}
	old := `{"key":"@key1","secret_age":"old"}`
	Run(t, []Case{
		{"the grace never passes the expiry", expiring[:3], rotate, Then{Events: rotated, Data: `{"old_secret_until":"2026-03-01T20:00:00Z"}`}},
		{"an expired key's old secret", expiring, After(8*time.Hour, askOld), Then{Events: []string{"key.expired"}, Code: events.KeyExpired, Answer: old}},
		{"also later", with(expiring, Step{Wait: 8 * time.Hour}), After(48*time.Hour, askOld), Then{Code: events.KeyExpired, Answer: old}},
		{"and its new one", expiring, After(8*time.Hour, askNew), Then{Events: []string{"key.expired"}, Code: events.KeyExpired, Answer: `{"secret_age":"current"}`}},
		{"an old secret whose grace ended before the expiry", with(expiring[:3], Do("key.rotate", `{"key":"@key1","grace":"1h"}`)), After(8*time.Hour, askOld),
			Then{Events: []string{"key.secret_retired", "key.expired"}, Code: events.KeyNotFound}},
		{"an earlier expiry ends the grace earlier", expiring, update(`"2026-03-01T13:00:00Z"`), Then{Events: []string{"key.updated"}, Data: `{"old_secret_until":"2026-03-01T13:00:00Z"}`}},
		{"a first expiry too", with(ready, rotate), update(`"2026-03-01T13:00:00Z"`), Then{Events: []string{"key.updated"}, Data: `{"old_secret_until":"2026-03-01T13:00:00Z"}`}},
		{"one behind the grace does not", with(ready, rotate), update(`"2026-03-03T13:00:00Z"`), Then{Events: []string{"key.updated"}, Data: `{"old_secret_until":"2026-03-02T12:00:00Z"}`}},
		{"no old secret, no end of it", ready, update(`"2026-03-01T13:00:00Z"`), Then{Events: []string{"key.updated"}, Data: `{"old_secret_until":null}`}},
		{"a later expiry does not bring the grace back", expiring, update(`"2026-03-05T20:00:00Z"`), Then{Events: []string{"key.updated"}, Data: `{"old_secret_until":"2026-03-01T20:00:00Z"}`}},
		{"which then ends by itself", with(expiring, update(`null`)), After(8*time.Hour, askOld), Then{Events: retired, Code: events.KeyNotFound}},
		{"an extended key's old secret stays dead", with(expiring, Step{Wait: 9 * time.Hour}, update(`"2026-03-05T20:00:00Z"`)), askOld,
			Then{Events: retired, Code: events.KeyNotFound}},
		{"a revoked key's old secret", with(ready, rotate, Do("key.revoke", `{"key":"@key1"}`)), askOld, Then{Code: events.KeyRevoked, Answer: old}},
		{"also after the grace, which is not told", with(ready, rotate, Do("key.revoke", `{"key":"@key1"}`)), After(48*time.Hour, askOld), Then{Code: events.KeyRevoked, Answer: old}},
		{"a disabled key's old secret", with(ready, rotate, Do("key.disable", `{"key":"@key1"}`)), askOld, Then{Code: events.KeyDisabled, Answer: old}},
	})
}

func TestRotateRefused(t *testing.T) {
	expired := []Step{opened, Do("key.create", `{"environment":"test","name":"k","expires_at":"2026-03-01T13:00:00Z"}`)}
	paced := []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","max_keys":1,"rate":{"per_second":1}}}`), key}
	Run(t, []Case{
		{"an unknown key", ready, Do("key.rotate", `{"key":"key_01ARZ3NDEKTSV4RRFFQ69G5FAV"}`), Then{Code: events.NotFound}},
		{"a suspended account", with(ready, Do("account.suspend", `{}`)), rotate, Then{Code: events.AccountSuspended}},
		{"a closed account", with(ready, Do("account.close", `{}`)), rotate, Then{Code: events.FailedPrecondition}},
		{"a revoked key", with(ready, Do("key.revoke", `{"key":"@key1"}`)), rotate, Then{Code: events.FailedPrecondition}},
		{"an expired key", expired, After(time.Hour, rotate), Then{Events: []string{"key.expired"}, Code: events.FailedPrecondition}},
		{"a key that has a millisecond left", expired, After(time.Hour-time.Millisecond, rotate), Then{Events: rotated, Data: `{"old_secret_until":"2026-03-01T13:00:00Z"}`}},
		{"an expired key that was extended", with(expired, After(time.Hour, Do("key.update", `{"key":"@key1","expires_at":null}`))), rotate, Then{Events: rotated}},
		{"a disabled key can be rotated, and stays disabled", with(ready, Do("key.disable", `{"key":"@key1"}`)), rotate, Then{Events: rotated, Data: `{"status":"disabled"}`}},
		{"it is no key more", paced, rotate, Then{Events: rotated}},
		{"a new secret has no second burst", with(paced, Ask(`{"secret":"@secret1","cost":0}`), rotate), Ask(`{"secret":"@secret2","cost":0}`), Then{Code: events.RateLimited}},
	})
}
