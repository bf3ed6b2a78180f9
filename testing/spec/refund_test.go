package spec

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

func refunded(amount int64) Step {
	return Do("credit.refund", fmt.Sprintf(`{"debit":"@debit1","amount":%d}`, amount))
}

var (
	refundAll = Do("credit.refund", `{"debit":"@debit1"}`)
	isRefund  = []string{"credit.refunded"}
)

// grantOf is a grant with an id and terms of its own.
func grantOf(id string, amount int64, terms string) Step {
	return Do("credit.grant", fmt.Sprintf(`{"environment":"test","asset":"credits","amount":%d,"grant":"%s"%s}`, amount, id, terms))
}

// expiring is a grant that expires in an hour.
func expiring(id string, amount int64) Step {
	return grantOf(id, amount, `,"expires_at":"2026-03-01T13:00:00Z"`)
}

// planOf is a plan with an allowance of credits a day, and what else its terms say.
func planOf(allowance int64, more string) Step {
	return Do("account.set_plan", fmt.Sprintf(`{"plan":{"name":"p","allowance":{"amount":%d}%s}}`, allowance, more))
}

func TestRefund(t *testing.T) {
	const oldest, youngest = `{"grant":"` + grantA + `","amount":`, `{"grant":"` + grantB + `","amount":`
	held := []Step{opened, grantOf(grantA, 100, ""), key, Do("hold.place", `{"environment":"test","asset":"credits","amount":40,"expires_in":"1h","key":"@key1"}`)}
	both := []Step{opened, grantOf(grantA, 10, ""), grantOf(grantB, 10, ""), debited(15)}
	Run(t, []Case{
		{"all of a debit", []Step{opened, grantOf(grantA, 100, ""), debited(30)}, refundAll, Then{Events: isRefund,
			Data: `{"debit":"@debit1","environment":"test","asset":"credits","amount":30,"refunded":30,"returned":[` + oldest + `30}],
				"balance":{"environment":"test","asset":"credits","posted":100,"held":0,"available":100}}`}},
		{"a part", []Step{opened, granted(100), debited(30)}, refunded(10), Then{Events: isRefund,
			Data: `{"amount":10,"refunded":10,"balance":{"environment":"test","asset":"credits","posted":80,"held":0,"available":80}}`}},
		{"without an amount, what is left", []Step{opened, granted(100), debited(30), refunded(10)}, refundAll, Then{Events: isRefund,
			Data: `{"amount":20,"refunded":30}`}},
		{"to the last credit", []Step{opened, granted(100), debited(30), refunded(10)}, refunded(20), Then{Events: isRefund, Data: `{"refunded":30}`}},
		{"one more than is left", []Step{opened, granted(100), debited(30), refunded(10)}, refunded(21),
			Then{Code: events.FailedPrecondition, Details: `{"refunded":10,"refundable":20}`}},
		{"twice", []Step{opened, granted(100), debited(30), refundAll}, refundAll,
			Then{Code: events.FailedPrecondition, Details: `{"refunded":30,"refundable":0}`}},
		{"the last drawn comes back first", both, refunded(7), Then{Events: isRefund,
			Data: `{"returned":[` + youngest + `5},` + oldest + `2}]}`}},
		{"the next refund goes on where the last one ended", append(both[:4:4], refunded(7)), refunded(8), Then{Events: isRefund,
			Data: `{"returned":[` + oldest + `8}]}`}},
		{"with the debit's key and product", []Step{opened, granted(100), key, Do("credit.debit", `{"environment":"test","asset":"credits","amount":1,"key":"@key1","product":"maps"}`)},
			Do("credit.refund", `{"debit":"@debit1","reference":"ticket 7"}`), Then{Events: isRefund, Data: `{"key":"@key1","product":"maps","reference":"ticket 7"}`}},
		{"what authorize took", []Step{opened, granted(100), key, Ask(`{"secret":"@secret1","cost":40}`)}, refunded(40), Then{Events: isRefund, Data: `{"key":"@key1"}`}},
		{"of a revoked key", []Step{opened, granted(100), key, Ask(`{"secret":"@secret1","cost":40}`), Do("key.revoke", `{"key":"@key1"}`)}, refundAll, Then{Events: isRefund}},
		{"what a capture took", append(held[:4:4], Do("hold.capture", `{"hold":"@hold1","amount":25}`)), refundAll, Then{Events: isRefund,
			Data: `{"debit":"@debit1","amount":25,"key":"@key1","returned":[` + oldest + `25}],"balance":{"environment":"test","asset":"credits","posted":100,"held":15,"available":85}}`}},
		{"each capture for itself", append(held[:4:4], Do("hold.capture", `{"hold":"@hold1","amount":25}`), Do("hold.capture", `{"hold":"@hold1"}`)),
			Do("credit.refund", `{"debit":"@debit2","amount":16}`), Then{Code: events.FailedPrecondition, Details: `{"refunded":0,"refundable":15}`}},
		{"while suspended", []Step{opened, granted(100), debited(30), Do("account.suspend", `{}`)}, refundAll, Then{Events: isRefund}},
		{"an exchange stays: the asset that was debited comes back",
			[]Step{opened, Do("account.set_plan", `{"plan":{"name":"p","par":[["usd","credits"]]}}`),
				Do("credit.grant", `{"environment":"test","asset":"usd","amount":50}`), debited(30)},
			refundAll, Then{Events: isRefund, Data: `{"asset":"credits","balance":{"environment":"test","asset":"credits","posted":30,"held":0,"available":30}}`}},
	})
}

func TestRefundRefusals(t *testing.T) {
	given := []Step{opened, granted(100), debited(30)}
	const debit = "debit_01ARZ3NDEKTSV4RRFFQ69G5FAV"
	full := append(given[:2:2], debited(100)) // the grant is used up
	for range 999 {
		full = append(full, granted(1))
	}
	reference := func(n int) Step {
		return Do("credit.refund", `{"debit":"@debit1","reference":"`+strings.Repeat("x", n)+`"}`)
	}
	Run(t, []Case{
		{"no account", nil, Do("credit.refund", `{"debit":"`+debit+`"}`), Then{Code: events.NotFound}},
		{"a closed account", append(given[:3:3], Do("account.close", `{}`)), refundAll, Then{Code: events.FailedPrecondition}},
		{"another account's debit", append(given[:3:3], For("bolt", opened)), For("bolt", refundAll), Then{Code: events.NotFound}},
		{"what is only held", append(given[:3:3], Do("hold.place", `{"environment":"test","asset":"credits","amount":1,"expires_in":"1h"}`)),
			Do("credit.refund", `{"debit":"debit_01KJMMA2G00000000000000008"}`), Then{Code: events.NotFound}},
		{"no such debit", given, Do("credit.refund", `{"debit":"`+debit+`"}`), Then{Code: events.NotFound}},
		{"the id of another command", []Step{opened, key}, Do("credit.refund", `{"debit":"`+debitOfFirstCommand+`"}`), Then{Code: events.NotFound}},
		{"no debit id", given, Do("credit.refund", `{"debit":"`+grantA+`"}`), Then{Code: events.InvalidArgument}},
		{"a debit id in small letters", given, Do("credit.refund", `{"debit":"debit_01arz3ndektsv4rrffq69g5fav"}`), Then{Code: events.InvalidArgument}},
		{"no debit at all", given, Do("credit.refund", `{}`), Then{Code: events.InvalidArgument}},
		{"nothing", given, refunded(0), Then{Code: events.InvalidArgument}},
		{"less than nothing", given, refunded(-1), Then{Code: events.InvalidArgument}},
		{"the largest amount", given, refunded(1<<53 - 1), Then{Code: events.FailedPrecondition}},
		{"one more than the largest amount", given, refunded(1 << 53), Then{Code: events.InvalidArgument}},
		{"reference of 256 characters", given, reference(256), Then{Events: isRefund}},
		{"reference of 257", given, reference(257), Then{Code: events.InvalidArgument}},
		{"as much as the balance has room for", append(given[:3:3], granted(1<<53-1-70-30)), refundAll, Then{Events: isRefund}},
		{"more than it has room for", append(given[:3:3], granted(1<<53-1-70-29)), refundAll, Then{Code: events.LimitExceeded}},
		{"back to the thousandth grant", full, refundAll, Then{Events: isRefund}},
		{"back to one more", append(full[:len(full):len(full)], granted(1)), refundAll, Then{Code: events.LimitExceeded}},
		{"to a grant that still has something, of a thousand",
			append([]Step{opened, granted(100), debited(30)}, full[3:]...), refundAll, Then{Events: isRefund}},
	})
}

// debitOfFirstCommand would be the debit of a case's first command, at the case's start.
const debitOfFirstCommand = "debit_01KJMMA2G00000000000000002"

func TestRefundGoesWhereItCameFrom(t *testing.T) {
	const (
		overdraft = `,"overdraft":{"credits":50}`
		resets    = `"expires_at":"2026-03-02T00:00:00Z"`
		back      = `{"grant":"allowance",` + resets + `,"amount":`
		expires   = `"expires_at":"2026-03-01T13:00:00Z"`
		lent      = `{"grant":"overdraft","amount":`
	)
	hour := func(s Step) Step { return After(time.Hour, s) }
	day := func(s Step) Step { return After(24*time.Hour, s) }
	newGrant := func(amount int64, before string) string {
		return fmt.Sprintf(`{"returned":[%s{"grant":"@grant1","amount":%d}]}`, before, amount)
	}
	Run(t, []Case{
		{"a grant that was used up is there again, with its terms", []Step{opened, expiring(grantA, 30), debited(30)}, refundAll,
			Then{Events: isRefund, Data: `{"returned":[{"grant":"` + grantA + `","amount":30,` + expires + `}]}`}},
		{"and expires as it would have", []Step{opened, expiring(grantA, 30), debited(30), refundAll}, hour(Step{}),
			Then{Events: []string{"credit.expired", "balance.exhausted"}}},
		{"the last millisecond of a grant", []Step{opened, expiring(grantA, 30), debited(30)}, After(time.Hour-time.Millisecond, refundAll),
			Then{Events: isRefund, Data: `{"returned":[{"grant":"` + grantA + `","amount":30,` + expires + `}]}`}},
		{"a grant that expired", []Step{opened, expiring(grantA, 30), debited(30)}, hour(refundAll),
			Then{Events: isRefund, Data: newGrant(30, "")}},
		{"the allowance", []Step{opened, planOf(100, ""), debited(30)}, refundAll,
			Then{Events: isRefund, Data: `{"returned":[` + back + `30}],"balance":{"environment":"test","asset":"credits","posted":100,"held":0,"available":100}}`}},
		{"the allowance of yesterday", []Step{opened, planOf(100, ""), debited(30), day(Step{})}, refundAll,
			Then{Events: isRefund, Data: newGrant(30, "")}},
		{"an allowance that ended", []Step{opened, planOf(100, ""), debited(30), Do("account.set_plan", `{"plan":{"name":"q"}}`)}, refundAll,
			Then{Events: isRefund, Data: newGrant(30, "")}},
		{"what is owed is paid first", []Step{opened, planOf(10, overdraft), debited(10), debited(40)}, refundAll,
			Then{Events: isRefund, Data: `{"returned":[` + lent + `10}],"balance":{"environment":"test","asset":"credits","posted":-30,"held":0,"available":-30}}`}},
		{"what was owed is paid", []Step{opened, planOf(10, overdraft), debited(50)}, refundAll,
			Then{Events: isRefund, Data: `{"returned":[` + lent + `40},` + back + `10}],"balance":{"environment":"test","asset":"credits","posted":10,"held":0,"available":10}}`}},
		{"what was owed and was paid meanwhile", []Step{opened, planOf(10, overdraft), debited(50), granted(35)}, refundAll,
			Then{Events: isRefund, Data: newGrant(35, lent+`5},`+back+`10},`)}},
		{"an allowance of which more was spent than there is now", []Step{opened, planOf(100, ""), debited(80), planOf(79, "")}, refundAll,
			Then{Events: isRefund, Data: newGrant(80, "")}},
		{"an allowance of which all was spent that there is now", []Step{opened, planOf(100, ""), debited(80), planOf(80, "")}, refundAll,
			Then{Events: isRefund, Data: `{"returned":[` + back + `80}]}`}},
		{"a plan that is changed back gains nothing", []Step{opened, planOf(100, ""), debited(80), planOf(50, ""), refundAll, planOf(100, "")}, debited(101),
			Then{Code: events.InsufficientCredits, Details: `{"available":100}`}},
		{"the allowance takes no room", []Step{opened, planOf(100, ""), debited(30), granted(1<<53 - 1 - 100)}, refundAll, Then{Events: isRefund}},
	})
}
