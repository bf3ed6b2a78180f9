package spec

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

func held(amount int64) Step {
	return Do("hold.place", fmt.Sprintf(`{"environment":"test","asset":"credits","amount":%d,"expires_in":"1h"}`, amount))
}

func placed(members string) Step {
	return Do("hold.place", `{"environment":"test","asset":"credits","amount":10,"expires_in":"1h",`+members+`}`)
}

func captured(amount int64) Step {
	return Do("hold.capture", fmt.Sprintf(`{"hold":"@hold1","amount":%d}`, amount))
}

var (
	capturedAll = Do("hold.capture", `{"hold":"@hold1"}`)
	released    = Do("hold.release", `{"hold":"@hold1"}`)
	overdrawn   = Do("account.set_plan", `{"plan":{"name":"p","overdraft":{"credits":50}}}`)
	suspended   = Do("account.suspend", `{}`)
)

const mostCredits = 1<<53 - 1

// expiringGrant is a grant of 100 that an hour ends.
var expiringGrant = Do("credit.grant", `{"environment":"test","asset":"credits","amount":100,"grant":"`+grantA+`","expires_at":"2026-03-01T13:00:00Z"}`)

// lastingGrant is a grant of 20 that nothing ends.
var lastingGrant = Do("credit.grant", `{"environment":"test","asset":"credits","amount":20,"grant":"`+grantB+`"}`)

func TestHoldPlace(t *testing.T) {
	bad := func(body string) Step { return Do("hold.place", body) }
	Run(t, []Case{
		{"place", []Step{opened, granted(100)}, placed(`"reference":"order 7"`), Then{Events: []string{"hold.placed"},
			Data: `{"id":"@hold1","environment":"test","asset":"credits","amount":10,"captured":0,"held":10,"status":"open","reference":"order 7","expires_at":"2026-03-01T13:00:00Z",
				"created_at":"2026-03-01T12:00:00Z","balance":{"environment":"test","asset":"credits","posted":100,"held":10,"available":90}}`,
			Reply: `{"balance":{"environment":"test","asset":"credits","posted":100,"held":10,"available":90}}`}},
		{"it reserves in burn order", []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","allowance":{"amount":5}}}`), expiringGrant, lastingGrant}, held(110),
			Then{Events: []string{"hold.placed"}, Data: `{"reserved":[{"grant":"allowance","amount":5,"expires_at":"2026-03-02T00:00:00Z"},{"grant":"` + grantA + `","amount":100,"expires_at":"2026-03-01T13:00:00Z"},{"grant":"` + grantB + `","amount":5}]}`}},
		{"the last credit", []Step{opened, granted(100)}, held(100), Then{Events: []string{"hold.placed", "balance.exhausted"}}},
		{"one more than the last", []Step{opened, granted(100)}, held(101), Then{Code: events.InsufficientCredits}},
		{"what is held cannot be held again", []Step{opened, granted(100), held(60)}, held(41), Then{Code: events.InsufficientCredits}},
		{"nor taken", []Step{opened, granted(100), held(60)}, debited(41), Then{Code: events.InsufficientCredits}},
		{"into the overdraft", []Step{opened, overdrawn, granted(100)}, held(150), Then{Events: []string{"hold.placed", "balance.exhausted"}, Reply: `{"balance":{"environment":"test","asset":"credits","posted":100,"held":150,"available":-50}}`}},
		{"and not past it", []Step{opened, overdrawn, granted(100)}, held(151), Then{Code: events.InsufficientCredits}},
		{"par comes before it", []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","par":[["credits","gold"]]}}`), granted(5), Do("credit.grant", `{"environment":"test","asset":"gold","amount":5}`)}, placed(`"reference":""`),
			Then{Events: []string{"credit.exchanged", "hold.placed", "balance.exhausted", "balance.exhausted"}, Reply: `{"balance":{"environment":"test","asset":"credits","posted":10,"held":10,"available":0}}`}},
		{"for a key", []Step{opened, granted(100), key}, placed(`"key":"@key1"`), Then{Events: []string{"hold.placed"}, Data: `{"key":"@key1"}`}},
		{"for an unknown key", []Step{opened, granted(100)}, placed(`"key":"key_01ARZ3NDEKTSV4RRFFQ69G5FAV"`), Then{Code: events.NotFound}},
		{"for a key of the other environment", []Step{opened, granted(100), liveKey}, placed(`"key":"@key1"`), Then{Code: events.FailedPrecondition}},
		{"for a key of another class", []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","assets":{"usd":{"class":"fiat"}}}}`), Do("key.create", `{"environment":"test","name":"k","asset_class":"crypto"}`)},
			bad(`{"environment":"test","asset":"usd","amount":1,"expires_in":"1h","key":"@key1"}`), Then{Code: events.PermissionDenied}},
		{"while suspended", []Step{opened, granted(100), suspended}, held(1), Then{Code: events.AccountSuspended}},
		{"of a closed account", []Step{opened, granted(100), Do("account.close", `{}`)}, held(1), Then{Code: events.FailedPrecondition}},
		{"live is off at first", []Step{opened}, bad(`{"environment":"live","asset":"credits","amount":1,"expires_in":"1h"}`), Then{Code: events.EnvironmentDisabled}},
		{"no account", nil, held(1), Then{Code: events.NotFound}},
		{"no environment", []Step{opened}, bad(`{"asset":"credits","amount":1,"expires_in":"1h"}`), Then{Code: events.InvalidArgument}},
		{"no asset", []Step{opened}, bad(`{"environment":"test","amount":1,"expires_in":"1h"}`), Then{Code: events.InvalidArgument}},
		{"a malformed key", []Step{opened}, placed(`"key":"key_1"`), Then{Code: events.InvalidArgument}},
		{"of nothing", []Step{opened, granted(1)}, held(0), Then{Code: events.InvalidArgument}},
		{"of the largest amount", []Step{opened, granted(mostCredits)}, held(mostCredits), Then{Events: []string{"hold.placed", "balance.exhausted"}}},
		{"of one more than that", []Step{opened, granted(mostCredits)}, held(mostCredits + 1), Then{Code: events.InvalidArgument}},
		{"as much as may be held", []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","overdraft":{"credits":9007199254740991}}}`), granted(5), held(mostCredits - 1)}, held(1),
			Then{Events: []string{"hold.placed"}, Reply: `{"balance":{"environment":"test","asset":"credits","posted":5,"held":9007199254740991,"available":-9007199254740986}}`}},
		{"and one more", []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","overdraft":{"credits":9007199254740991}}}`), granted(5), held(mostCredits)}, held(1), Then{Code: events.LimitExceeded}},
		{"a reference of 256 characters", []Step{opened, granted(10)}, placed(`"reference":"` + strings.Repeat("é", 256) + `"`), Then{Events: []string{"hold.placed", "balance.exhausted"}}},
		{"a reference of 257 characters", []Step{opened, granted(10)}, placed(`"reference":"` + strings.Repeat("é", 257) + `"`), Then{Code: events.InvalidArgument}},
	})
}

func TestHoldTime(t *testing.T) {
	lasting := func(text string) Step {
		return Do("hold.place", `{"environment":"test","asset":"credits","amount":1,"expires_in":"`+text+`"}`)
	}
	given := []Step{opened, granted(10)}
	var cases []Case
	for _, text := range []string{"", "0", "0s", "-1s", "1", "1d", "soon", "8760h0m0.000000001s", "9999999h"} {
		cases = append(cases, Case{"not " + text, given, lasting(text), Then{Code: events.InvalidArgument}})
	}
	for text, expires := range map[string]string{
		"1ns": "2026-03-01T12:00:00.001Z", "1ms": "2026-03-01T12:00:00.001Z", "1000001ns": "2026-03-01T12:00:00.002Z", "1h30m": "2026-03-01T13:30:00Z", "8760h": "2027-03-01T12:00:00Z",
	} {
		cases = append(cases, Case{text, given, lasting(text), Then{Events: []string{"hold.placed"}, Data: `{"expires_at":"` + expires + `"}`}})
	}
	Run(t, cases)
}

func TestHoldCapture(t *testing.T) {
	given := []Step{opened, granted(100), held(60)}
	and := func(more ...Step) []Step { return append(given[:len(given):len(given)], more...) }
	Run(t, []Case{
		{"all of it", given, capturedAll, Then{Events: []string{"hold.captured"}, Data: `{"id":"@hold1","amount":60,"captured":60,"held":0,"status":"captured"}`,
			Reply: `{"balance":{"environment":"test","asset":"credits","posted":40,"held":0,"available":40}}`}},
		{"a part", given, captured(25), Then{Events: []string{"hold.captured"}, Data: `{"captured":25,"held":35,"status":"open"}`,
			Reply: `{"balance":{"environment":"test","asset":"credits","posted":75,"held":35,"available":40}}`}},
		{"again, to the last", and(captured(25)), captured(35), Then{Events: []string{"hold.captured"}, Data: `{"captured":60,"held":0,"status":"captured"}`}},
		{"again, the rest", and(captured(25)), capturedAll, Then{Events: []string{"hold.captured"}, Data: `{"captured":60,"held":0,"status":"captured"}`}},
		{"more than is held", given, captured(61), Then{Code: events.FailedPrecondition}},
		{"more than is still held", and(captured(25)), captured(36), Then{Code: events.FailedPrecondition, Details: `{"held":35}`}},
		{"after all of it was", and(capturedAll), captured(1), Then{Code: events.NotFound}},
		{"after its release", and(released), capturedAll, Then{Code: events.NotFound}},
		{"a millisecond before its end", given, After(time.Hour-time.Millisecond, capturedAll), Then{Events: []string{"hold.captured"}}},
		{"at its end", given, After(time.Hour, capturedAll), Then{Events: []string{"hold.expired"}, Code: events.NotFound}},
		{"of nothing", given, captured(0), Then{Code: events.InvalidArgument}},
		{"the largest amount", given, captured(mostCredits), Then{Code: events.FailedPrecondition}},
		{"one more than that", given, captured(mostCredits + 1), Then{Code: events.InvalidArgument}},
		{"of no hold", given, Do("hold.capture", `{}`), Then{Code: events.InvalidArgument}},
		{"of a malformed hold", given, Do("hold.capture", `{"hold":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}`), Then{Code: events.InvalidArgument}},
		{"of an unknown hold", given, Do("hold.capture", `{"hold":"hold_01ARZ3NDEKTSV4RRFFQ69G5FAV"}`), Then{Code: events.NotFound}},
		{"of another account's hold", and(For(Other, opened)), For(Other, capturedAll), Then{Code: events.NotFound}},
		{"while suspended", and(suspended), capturedAll, Then{Events: []string{"hold.captured"}}},
		{"of a closed account", and(Do("account.close", `{}`)), capturedAll, Then{Code: events.FailedPrecondition}},
		{"of a revoked key's hold", []Step{opened, granted(10), key, placed(`"key":"@key1"`), Do("key.revoke", `{"key":"@key1"}`)}, capturedAll, Then{Events: []string{"hold.captured"}, Data: `{"key":"@key1"}`}},
		{"what is reserved first is taken first", []Step{opened, expiringGrant, lastingGrant, held(110)}, captured(105),
			Then{Events: []string{"hold.captured"}, Data: `{"reserved":[{"grant":"` + grantB + `","amount":5}]}`}},
		{"from a grant that is over meanwhile",
			[]Step{opened, expiringGrant, Do("hold.place", `{"environment":"test","asset":"credits","amount":60,"expires_in":"2h"}`)}, After(time.Hour, capturedAll),
			Then{Events: []string{"credit.expired", "balance.exhausted", "hold.captured"}, Data: `{"balance":{"environment":"test","asset":"credits","posted":0,"held":0,"available":0}}`}},
	})
}

func TestHoldRelease(t *testing.T) {
	given := []Step{opened, granted(100), held(60)}
	and := func(more ...Step) []Step { return append(given[:len(given):len(given)], more...) }
	Run(t, []Case{
		{"release", given, released, Then{Events: []string{"hold.released"}, Data: `{"id":"@hold1","held":0,"captured":0,"status":"released"}`,
			Reply: `{"balance":{"environment":"test","asset":"credits","posted":100,"held":0,"available":100}}`}},
		{"the rest of one", and(captured(25)), released, Then{Events: []string{"hold.released"}, Data: `{"held":0,"captured":25,"status":"released"}`,
			Reply: `{"balance":{"environment":"test","asset":"credits","posted":75,"held":0,"available":75}}`}},
		{"twice", and(released), released, Then{Code: events.NotFound}},
		{"after it was captured", and(capturedAll), released, Then{Code: events.NotFound}},
		{"an unknown one", given, Do("hold.release", `{"hold":"hold_01ARZ3NDEKTSV4RRFFQ69G5FAV"}`), Then{Code: events.NotFound}},
		{"a malformed one", given, Do("hold.release", `{"hold":"hold_1"}`), Then{Code: events.InvalidArgument}},
		{"none", given, Do("hold.release", `{}`), Then{Code: events.InvalidArgument}},
		{"while suspended", and(suspended), released, Then{Events: []string{"hold.released"}}},
		{"at its end", given, After(time.Hour, released), Then{Events: []string{"hold.expired"}, Code: events.NotFound}},
		{"it expires by itself", given, Step{Wait: time.Hour}, Then{Events: []string{"hold.expired"},
			Data: `{"held":0,"status":"expired","balance":{"environment":"test","asset":"credits","posted":100,"held":0,"available":100}}`}},
		{"and so does a closed account's", and(Do("account.close", `{}`)), Step{Wait: time.Hour}, Then{Events: []string{"hold.expired"}}},
		{"and not sooner", given, Step{Wait: time.Hour - time.Millisecond}, Then{}},
		{"what was released can be held again", and(released), held(100), Then{Events: []string{"hold.placed", "balance.exhausted"}}},
		{"from a grant that is over meanwhile",
			[]Step{opened, expiringGrant, Do("hold.place", `{"environment":"test","asset":"credits","amount":60,"expires_in":"2h"}`), Step{Wait: time.Hour}}, released,
			Then{Events: []string{"hold.released"}, Reply: `{"lapsed":[{"grant":"` + grantA + `","amount":60,"expires_at":"2026-03-01T13:00:00Z"}],"balance":{"environment":"test","asset":"credits","posted":0,"held":0,"available":0}}`}},
		{"what was owed for it and paid since", []Step{opened, overdrawn, held(50), granted(70)}, released,
			Then{Events: []string{"hold.released"}, Reply: `{"balance":{"environment":"test","asset":"credits","posted":70,"held":0,"available":70}}`}},
		{"an allowance of yesterday", []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","allowance":{"amount":100}}}`), Do("hold.place", `{"environment":"test","asset":"credits","amount":60,"expires_in":"24h"}`), Step{Wait: 12 * time.Hour}}, released,
			Then{Events: []string{"hold.released"}, Reply: `{"balance":{"environment":"test","asset":"credits","posted":100,"held":0,"available":100}}`}},
	})
}

func TestHoldsHaveALimit(t *testing.T) {
	given := []Step{opened, granted(20_000)}
	for range 9_999 {
		given = append(given, held(1))
	}
	full := append(given[:len(given):len(given)], held(1))
	Run(t, []Case{
		{"the 10,000th", given, held(1), Then{Events: []string{"hold.placed"}}},
		{"one more", full, held(1), Then{Code: events.LimitExceeded}},
		{"the end of one makes room", append(full[:len(full):len(full)], released), held(1), Then{Events: []string{"hold.placed"}}},
	})
}

// A balance has more than 1,000 grants when holds give some back. One hold takes 2,000.
func TestAHoldDrawsFromSoMany(t *testing.T) {
	given := []Step{opened}
	for range 2 {
		for range 1000 {
			given = append(given, granted(1))
		}
		given = append(given, held(1000))
	}
	given = append(given, granted(1), granted(1), Do("hold.release", `{"hold":"@hold2"}`), released)
	Run(t, []Case{
		{"2,000 grants", given, held(2000), Then{Events: []string{"hold.placed"}}},
		{"2,001 grants", given, held(2001), Then{Code: events.LimitExceeded}},
		{"and gives them all back", append(given[:len(given):len(given)], held(2000)), Do("hold.release", `{"hold":"@hold3"}`), Then{Events: []string{"hold.released"}}},
	})
}

// A hold keeps the allowance it was placed on beyond its period, and the next one is whole
// again: there must be room for both.
func TestAllowanceBesideHolds(t *testing.T) {
	given := func(most int64) []Step {
		return []Step{opened, Do("account.set_plan", `{"plan":{"name":"p","allowance":{"amount":40}}}`), granted(most - 40),
			Do("hold.place", `{"environment":"test","asset":"credits","amount":30,"expires_in":"48h"}`)}
	}
	replenished := []string{"credit.replenished"}
	Run(t, []Case{
		{"there is", given(mostCredits - 30), Step{Wait: 12 * time.Hour}, Then{Events: replenished,
			Data: `{"before":10,"remaining":40,"spent":0,"balance":{"environment":"test","asset":"credits","posted":9007199254740991,"held":30,"available":9007199254740961}}`}},
		{"there is for one less", given(mostCredits - 29), Step{Wait: 12 * time.Hour}, Then{Events: replenished,
			Data: `{"before":10,"remaining":39,"spent":1,"balance":{"environment":"test","asset":"credits","posted":9007199254740991,"held":30,"available":9007199254740961}}`}},
	})
}

// What a hold of the running period took of an allowance that is smaller now is not spent
// once it is released, even where nothing of it can come back.
func TestReleasedFromASmallerAllowance(t *testing.T) {
	allowance := func(amount int64) Step {
		return Do("account.set_plan", fmt.Sprintf(`{"plan":{"name":"p","allowance":{"amount":%d}}}`, amount))
	}
	given := []Step{opened, allowance(100), held(60), held(30), allowance(20)} // 90 spent of 20
	and := func(more ...Step) []Step { return append(given[:len(given):len(given)], more...) }
	second := Do("hold.release", `{"hold":"@hold2"}`)
	balance := func(posted, held, available int64) string {
		return fmt.Sprintf(`{"balance":{"environment":"test","asset":"credits","posted":%d,"held":%d,"available":%d}}`, posted, held, available)
	}
	Run(t, []Case{
		{"the first is not enough", given, second, Then{Events: []string{"hold.released"}, Reply: balance(60, 60, 0)}},
		{"with the other all of it is there", and(second), released, Then{Events: []string{"hold.released"}, Reply: balance(20, 0, 20)}},
		{"in the other order too", and(released), second, Then{Events: []string{"hold.released"}, Reply: balance(20, 0, 20)}},
		{"and the old one again", and(second, released, allowance(100)), held(100), Then{Events: []string{"hold.placed", "balance.exhausted"}}},
		{"without an allowance in between", []Step{opened, allowance(100), held(60), Do("account.set_plan", `{"plan":{"name":"q"}}`), released, allowance(100)}, held(100),
			Then{Events: []string{"hold.placed", "balance.exhausted"}}},
	})
}
