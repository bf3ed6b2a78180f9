package spec

import (
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// key.expiring comes 7 days and 1 day before a key's expiry, to the millisecond.
func TestKeyExpiring(t *testing.T) {
	const day, ms = 24 * time.Hour, time.Millisecond
	life := func(d time.Duration) []Step {
		return []Step{opened, Do("key.create", `{"environment":"test","name":"k","expires_at":"`+events.At(Start.Add(d)).String()+`"}`)}
	}
	update := func(d time.Duration) Step {
		return Do("key.update", `{"key":"@key1","expires_at":"`+events.At(Start.Add(d)).String()+`"}`)
	}
	wait := func(d time.Duration) Step { return Step{Wait: d} }
	month := life(30 * day)
	told := []string{"key.expiring"}
	Run(t, []Case{
		{"a week before", month, wait(23 * day), Then{Events: told, Data: `{"id":"@key1","status":"active","expires_at":"2026-03-31T12:00:00Z"}`}},
		{"not a millisecond sooner", month, wait(23*day - ms), Then{}},
		{"once", with(month, wait(23*day)), wait(6*day - ms), Then{}},
		{"a day before", with(month, wait(23*day)), wait(6 * day), Then{Events: told}},
		{"that too once", with(month, wait(23*day), wait(6*day)), wait(day - ms), Then{}},
		{"then the expiry", with(month, wait(23*day), wait(6*day)), wait(day), Then{Events: []string{"key.expired"}}},
		{"after a downtime over the first, the first", month, wait(29*day - ms), Then{Events: told}},
		{"after a downtime over both, only the shorter", month, wait(29 * day), Then{Events: told}},
		{"which is the last", with(month, wait(29*day)), wait(day - ms), Then{}},
		{"after a downtime over all, only the expiry", month, wait(30 * day), Then{Events: []string{"key.expired"}}},
		{"before the command that meets it", month, After(23*day, Do("key.disable", `{"key":"@key1"}`)), Then{Events: []string{"key.expiring", "key.disabled"}}},
		{"of a disabled key too", with(month, Do("key.disable", `{"key":"@key1"}`)), wait(23 * day), Then{Events: told}},
		{"of a suspended account's too", with(month, Do("account.suspend", `{}`)), wait(23 * day), Then{Events: told}},
		{"not of a revoked key", with(month, Do("key.revoke", `{"key":"@key1"}`)), wait(60 * day), Then{}},
		{"not of a closed account's", with(month, Do("account.close", `{}`)), wait(60 * day), Then{}},
	})
	Run(t, []Case{
		{"a key that lives a week has no notice a week before", life(7 * day), wait(6*day - ms), Then{}},
		{"but one a day before", life(7 * day), wait(6 * day), Then{Events: told}},
		{"a millisecond more than a week", life(7*day + ms), wait(ms), Then{Events: told}},
		{"a key that lives a day", life(day), wait(day - ms), Then{}},
		{"a millisecond more than a day", life(day + ms), wait(ms), Then{Events: told}},
		{"a key that lives an hour just expires", life(time.Hour), wait(time.Hour), Then{Events: []string{"key.expired"}}},
	})
	noticed := with(month, wait(23*day))
	Run(t, []Case{
		{"another name tells nothing anew", with(noticed, Do("key.update", `{"key":"@key1","name":"n"}`)), wait(6*day - ms), Then{}},
		{"nor does another secret", with(noticed, rotateNow), wait(6*day - ms), Then{}},
		{"nor the same expiry", with(noticed, update(30*day)), wait(6*day - ms), Then{}},
		{"a later expiry has its own week", with(noticed, update(40*day)), wait(10 * day), Then{Events: told}},
		{"and nothing before it", with(noticed, update(40*day)), wait(10*day - ms), Then{}},
		{"one in less than a week has its own day", with(noticed, update(29*day)), wait(5 * day), Then{Events: told}},
		{"and no week", with(noticed, update(29*day)), wait(5*day - ms), Then{}},
		{"one in less than a day has none", with(noticed, update(24*day)), wait(day), Then{Events: []string{"key.expired"}}},
		{"no expiry, no notice", with(month, Do("key.update", `{"key":"@key1","expires_at":null}`)), wait(60 * day), Then{}},
		{"an expired key that was extended", with(life(time.Hour), wait(time.Hour), update(30*day)), wait(23*day - time.Hour), Then{Events: told}},
		{"two keys at one time", with(month, month[1]), wait(23 * day), Then{Events: []string{"key.expiring", "key.expiring"}}},
	})
}
