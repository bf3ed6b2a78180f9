package service_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

const bad = events.InvalidArgument

// badRow is one request that must be refused.
type badRow struct {
	name, subject, body string
	want                events.Code
	headers             []string
}

// badForm are refusals of credits, and of forms that all commands share.
func badForm() []badRow {
	return []badRow{
		{"malformed JSON", "cmd.acme.credit.grant", `{"environment":"test"`, bad, nil},
		{"not an object", "cmd.acme.credit.grant", `[]`, bad, nil},
		{"null", "cmd.acme.account.suspend", `null`, bad, nil},
		{"two values", "cmd.acme.credit.grant", `{} {}`, bad, nil},
		{"unknown field", "cmd.acme.credit.grant", `{"environment":"test","asset":"credits","amount":1,"colour":"red"}`, bad, nil},
		{"field in other case", "cmd.acme.credit.grant", `{"Environment":"test","asset":"credits","amount":1}`, bad, nil},
		{"field twice", "cmd.acme.credit.grant", `{"environment":"test","asset":"credits","amount":1,"amount":2}`, bad, nil},
		{"wrong type", "cmd.acme.credit.grant", `{"environment":"test","asset":"credits","amount":"1"}`, bad, nil},
		{"negative amount", "cmd.acme.credit.grant", `{"environment":"test","asset":"credits","amount":-1}`, bad, nil},
		{"zero amount", "cmd.acme.credit.grant", `{"environment":"test","asset":"credits","amount":0}`, bad, nil},
		{"2^53", "cmd.acme.credit.grant", `{"environment":"test","asset":"credits","amount":9007199254740992}`, bad, nil},
		{"a fraction", "cmd.acme.credit.debit", `{"environment":"test","asset":"credits","amount":1.5}`, bad, nil},
		{"an exponent", "cmd.acme.credit.debit", `{"environment":"test","asset":"credits","amount":1e3}`, bad, nil},
		{"2^53 debit", "cmd.acme.credit.debit", `{"environment":"test","asset":"credits","amount":9007199254740992}`, bad, nil},
		{"asset name", "cmd.acme.credit.grant", `{"environment":"test","asset":"US$","amount":1}`, bad, nil},
		{"asset of 65 characters", "cmd.acme.credit.grant", `{"environment":"test","asset":"` + long(65) + `","amount":1}`, bad, nil},
		{"reference of 257 characters", "cmd.acme.credit.grant", `{"environment":"test","asset":"credits","amount":1,"reference":"` + long(257) + `"}`, bad, nil},
		{"a refund of nothing", "cmd.acme.credit.refund", `{"debit":"debit_01ARZ3NDEKTSV4RRFFQ69G5FAV","amount":0}`, bad, nil},
		{"a refund of no debit", "cmd.acme.credit.refund", `{"debit":"key_01ARZ3NDEKTSV4RRFFQ69G5FAV"}`, bad, nil},
		{"a refund of an unknown debit", "cmd.acme.credit.refund", `{"debit":"debit_01ARZ3NDEKTSV4RRFFQ69G5FAV"}`, events.NotFound, nil},
		{"a refund of a debit of the far future", "cmd.acme.credit.refund", `{"debit":"debit_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"}`, events.NotFound, nil},
		{"unknown verb", "cmd.acme.credit.lend", `{}`, bad, nil},
		{"a verb of a later version", "cmd.acme.key.clone", `{}`, bad, nil},
		{"too many tokens", "cmd.acme.credit.grant.now", `{}`, bad, nil},
		{"unknown account", "cmd.nobody.credit.grant", `{"environment":"test","asset":"credits","amount":1}`, events.NotFound, nil},
	}
}

// badAccounts are refusals of accounts, command ids and headers.
func badAccounts() []badRow {
	return []badRow{
		{"no verb", "cmd.acme", `{}`, bad, nil},
		{"account of the ledger", "cmd._.account.open", `{}`, bad, nil},
		{"unknown command of the ledger", "cmd._.ledger.reboot", `{}`, bad, nil},
		{"accepting a clock with a field", "cmd._.ledger.accept_clock", `{"off":1}`, bad, nil},
		{"account of 65 characters", "cmd." + long(65) + ".account.open", `{}`, bad, nil},
		{"account with a strange character", "cmd.ac@me.account.open", `{}`, bad, nil},
		{"account exists", "cmd.acme.account.open", `{}`, events.AlreadyExists, nil},
		{"bad ULID", "cmd.acme.account.suspend", `{}`, bad, []string{"Nats-Msg-Id", "42"}},
		{"ULID in lower case", "cmd.acme.account.suspend", `{}`, bad, []string{"Nats-Msg-Id", strings.ToLower(ulid.Make().String())}},
		{"ULID with a wrong letter", "cmd.acme.account.suspend", `{}`, bad, []string{"Nats-Msg-Id", "01ARZ3NDEKTSV4RRFFQ69G5FAU"}},
		{"ULID of yesterday", "cmd.acme.account.suspend", `{}`, events.CommandExpired, []string{"Nats-Msg-Id", idAt(-25 * time.Hour)}},
		{"ULID of tomorrow", "cmd.acme.account.suspend", `{}`, bad, []string{"Nats-Msg-Id", idAt(2 * time.Minute)}},
		{"bad timeout", "cmd.acme.account.suspend", `{}`, bad, []string{"Keyledger-Timeout", "soon"}},
		{"timeout of none", "cmd.acme.account.suspend", `{}`, bad, []string{"Keyledger-Timeout", "0s"}},
		{"timeout of an hour", "cmd.acme.account.suspend", `{}`, bad, []string{"Keyledger-Timeout", "1h"}},
		{"64 KiB and a byte", "cmd.acme.account.suspend", `{"reason":"` + long(64<<10) + `"}`, bad, nil},
		{"metadata of 16 KiB and a byte", "cmd.new.account.open", `{"metadata":{"a":"` + long(16<<10-7) + `"}}`, bad, nil},
		{"metadata that is no object", "cmd.new.account.open", `{"metadata":7}`, bad, nil},
		{"name of 129 characters", "cmd.new.account.open", `{"name":"` + long(129) + `"}`, bad, nil},
	}
}

// badMoves are refusals of holds, corrections and transfers.
func badMoves() []badRow {
	const place = `"environment":"test","asset":"credits"`
	return []badRow{
		{"a hold without an end", "cmd.acme.hold.place", `{` + place + `,"amount":1}`, bad, nil},
		{"a hold for a number of seconds", "cmd.acme.hold.place", `{` + place + `,"amount":1,"expires_in":60}`, bad, nil},
		{"a hold of nothing", "cmd.acme.hold.place", `{` + place + `,"amount":0,"expires_in":"1h"}`, bad, nil},
		{"a hold of 2^53", "cmd.acme.hold.place", `{` + place + `,"amount":9007199254740992,"expires_in":"1h"}`, bad, nil},
		{"a hold of a year and an hour", "cmd.acme.hold.place", `{` + place + `,"amount":1,"expires_in":"8761h"}`, bad, nil},
		{"capture null", "cmd.acme.hold.capture", `{"hold":null}`, bad, nil},
		{"capture less than nothing", "cmd.acme.hold.capture", `{"hold":"hold_01ARZ3NDEKTSV4RRFFQ69G5FAV","amount":-1}`, bad, nil},
		{"release an unknown hold", "cmd.acme.hold.release", `{"hold":"hold_01ARZ3NDEKTSV4RRFFQ69G5FAV"}`, events.NotFound, nil},
		{"adjust by nothing", "cmd.acme.credit.adjust", `{` + place + `,"amount":0,"reason":"r"}`, bad, nil},
		{"adjust by -2^53", "cmd.acme.credit.adjust", `{` + place + `,"amount":-9007199254740992,"reason":"r"}`, bad, nil},
		{"adjust without a reason", "cmd.acme.credit.adjust", `{` + place + `,"amount":1}`, bad, nil},
		{"transfer to itself", "cmd.acme.credit.transfer", `{"to":"acme",` + place + `,"amount":1}`, bad, nil},
		{"transfer to a wildcard", "cmd.acme.credit.transfer", `{"to":">",` + place + `,"amount":1}`, bad, nil},
		{"transfer to nobody", "cmd.acme.credit.transfer", `{"to":"nobody",` + place + `,"amount":1}`, events.NotFound, nil},
	}
}

// badKeys are refusals of keys.
func badKeys() []badRow {
	return []badRow{
		{"bad CIDR", "cmd.acme.key.create", `{"environment":"test","name":"k","ip_allowlist":["1.2.3.4/33"]}`, bad, nil},
		{"201 CIDRs", "cmd.acme.key.create", `{"environment":"test","name":"k","ip_allowlist":` + list(201, `"1.2.3.4"`) + `}`, bad, nil},
		{"201 permissions", "cmd.acme.key.create", `{"environment":"test","name":"k","kind":"restricted","permissions":` + list(201, `"a:read"`) + `}`, bad, nil},
		{"import without a hash", "cmd.acme.key.import", `{"environment":"test","name":"k"}`, bad, nil},
		{"import of a secret", "cmd.acme.key.import", `{"environment":"test","name":"k","secret":"sk_1"}`, bad, nil},
		{"import of a signing key", "cmd.acme.key.import", `{"environment":"test","name":"k","sha256":"` + strings.Repeat("ab", 32) + `","public_key":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}`, bad, nil},
		{"prefix of 33 characters", "cmd.acme.key.import", `{"environment":"test","name":"k","sha256":"` + strings.Repeat("ab", 32) + `","prefix":"` + long(33) + `"}`, bad, nil},
		{"bad public key", "cmd.acme.key.create", `{"environment":"test","name":"k","public_key":"AAAA"}`, bad, nil},
		{"bad time", "cmd.acme.key.create", `{"environment":"test","name":"k","expires_at":"tomorrow"}`, bad, nil},
		{"unknown key", "cmd.acme.key.revoke", `{"key":"key_01ARZ3NDEKTSV4RRFFQ69G5FAV"}`, events.NotFound, nil},
	}
}

// noEndpoint is the id of none.
const noEndpoint = "endpoint_01ARZ3NDEKTSV4RRFFQ69G5FAV"

// badEndpoints are refusals of webhook endpoints.
func badEndpoints() []badRow {
	return []badRow{
		{"http webhook to a private address", "cmd.acme.endpoint.register", hook("http://10.0.0.1/x"), bad, nil},
		{"webhook to link-local metadata", "cmd.acme.endpoint.register", hook("https://169.254.169.254/latest"), bad, nil},
		{"webhook in odd form", "cmd.acme.endpoint.register", hook("https://2130706433/"), bad, nil},
		{"webhook with userinfo", "cmd.acme.endpoint.register", hook("https://a:b@example.com/"), bad, nil},
		{"webhook of another scheme", "cmd.acme.endpoint.register", hook("ftp://example.com/"), bad, nil},
		{"webhook without host", "cmd.acme.endpoint.register", hook("https:///x"), bad, nil},
		{"webhook URL of 2,049 bytes", "cmd.acme.endpoint.register", hook("https://example.com/" + long(2029)), bad, nil},
		{"51 event filters", "cmd.acme.endpoint.register", `{"url":"https://example.com","environment":"test","events":` + list(51, `"*"`) + `}`, bad, nil},
		{"21 headers", "cmd.acme.endpoint.register", `{"url":"https://example.com","environment":"test","events":["*"],"headers":` + headers(21) + `}`, bad, nil},
		{"a reserved header", "cmd.acme.endpoint.register", `{"url":"https://example.com","environment":"test","events":["*"],"headers":{"Host":"x"}}`, bad, nil},
		{"a header with a line break", "cmd.acme.endpoint.register", `{"url":"https://example.com","environment":"test","events":["*"],"headers":{"X-A":"a\r\nb"}}`, bad, nil},
		{"a header of 1 KiB and a byte", "cmd.acme.endpoint.register", `{"url":"https://example.com","environment":"test","events":["*"],"headers":{"X-A":"` + long(1025) + `"}}`, bad, nil},
		{"filters that are no filters", "cmd.acme.endpoint.register", `{"url":"https://example.com","environment":"test","events":["*"],"filters":"credit.*"}`, bad, nil},
		{"moving a webhook to link-local metadata", "cmd.acme.endpoint.update", `{"endpoint":"` + noEndpoint + `","url":"https://169.254.169.254/latest"}`, bad, nil},
		{"moving it to a URL of 2,049 bytes", "cmd.acme.endpoint.update", `{"endpoint":"` + noEndpoint + `","url":"https://example.com/` + long(2029) + `"}`, bad, nil},
		{"giving it 21 headers", "cmd.acme.endpoint.update", `{"endpoint":"` + noEndpoint + `","headers":` + headers(21) + `}`, bad, nil},
		{"giving it a reserved header", "cmd.acme.endpoint.update", `{"endpoint":"` + noEndpoint + `","headers":{"Webhook-Id":"x"}}`, bad, nil},
		{"updating an unknown webhook", "cmd.acme.endpoint.update", `{"endpoint":"` + noEndpoint + `","headers":{"X-A":"x"}}`, events.NotFound, nil},
		{"rotating the secret of an unknown webhook", "cmd.acme.endpoint.rotate_secret", `{"endpoint":"` + noEndpoint + `"}`, events.NotFound, nil},
		{"testing an unknown webhook", "cmd.acme.endpoint.test", `{"endpoint":"` + noEndpoint + `"}`, events.NotFound, nil},
		{"replaying to an unknown webhook", "cmd.acme.endpoint.replay", `{"endpoint":"` + noEndpoint + `","from_position":"0:1"}`, events.NotFound, nil},
		{"keyledger's own commands", "cmd.acme.endpoint.note_failing", `{"endpoint":"` + noEndpoint + `","since":"2026-03-01T12:00:00Z","percent":50}`, bad, nil},
	}
}

// badQueries are refusals of queries.
func badQueries(keyID string) []badRow {
	return []badRow{
		{"unknown query", "query.acme.key.find", `{}`, bad, nil},
		{"query of an unknown account", "query.nobody.account.get", `{}`, events.NotFound, nil},
		{"query with an unknown field", "query.acme.key.get", `{"key":"` + keyID + `","x":1}`, bad, nil},
		{"limit of 501", "query.acme.key.list", `{"limit":501}`, bad, nil},
		{"bad cursor", "query.acme.key.list", `{"cursor":"?"}`, bad, nil},
		{"bad position", "query.acme.key.list", `{}`, bad, []string{"Keyledger-Min-Position", "42"}},
		{"bad consistency", "query.acme.key.list", `{}`, bad, []string{"Keyledger-Consistency", "eventual"}},
	}
}

// unknownSigner are the members of a request that no key signed.
var unknownSigner = `"key":"key_01ARZ3NDEKTSV4RRFFQ69G5FAV","message":"m","signature":"` + strings.Repeat("A", 86) + `==","signed_at":"2026-03-01T12:00:00Z"`

// badAuthorize are refusals of authorize.
func badAuthorize(secret string) []badRow {
	return []badRow{
		{"authorize nothing", "authorize", ``, bad, nil},
		{"authorize with a negative cost", "authorize", `{"secret":"` + secret + `","cost":-1}`, bad, nil},
		{"authorize with 2^53", "authorize", `{"secret":"` + secret + `","cost":9007199254740992}`, bad, nil},
		{"authorize with a bad id", "authorize", `{"secret":"` + secret + `","id":"1"}`, bad, nil},
		{"authorize with a bad address", "authorize", `{"secret":"` + secret + `","ip":"300.1.1.1"}`, bad, nil},
		{"authorize with a secret of 1,025 bytes", "authorize", `{"secret":"` + long(1025) + `"}`, bad, nil},
		{"authorize both ways", "authorize", `{"secret":"x",` + unknownSigner + `,"id":"` + idAt(0) + `"}`, bad, nil},
		{"authorize by signature without an id", "authorize", `{` + unknownSigner + `}`, bad, nil},
		{"authorize an empty array", "authorize", `[]`, bad, nil},
		{"authorize 1,001 items", "authorize", list(1001, `{"secret":"x"}`), bad, nil},
		{"authorize 512 KiB and a byte", "authorize", `[{"secret":"` + long(512<<10) + `"}]`, bad, nil},
	}
}

// Every row gets its code and changes nothing.
func TestBadInput(t *testing.T) {
	l, keyID, secret := prepared(t)
	var rows []badRow
	for _, list := range [][]badRow{badForm(), badAccounts(), badMoves(), badKeys(), badEndpoints(), badQueries(keyID), badAuthorize(secret)} {
		rows = append(rows, list...)
	}
	for _, row := range rows {
		before := len(l.Commits())
		reply := raw(t, l, "keyledger."+row.subject, row.body, row.headers...)
		if got := codeOf(t, reply); got != row.want {
			t.Errorf("%s: %s (%s), want %s", row.name, got, reply.Data, row.want)
		}
		if after := len(l.Commits()); after != before {
			t.Errorf("%s: %d commits more", row.name, after-before)
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

// list is a JSON array of n times item.
func list(n int, item string) string {
	return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
}

// headers is a JSON object of n custom headers.
func headers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"X-H%d":"v"`, i)
	}
	return "{" + strings.TrimPrefix(b.String(), ",") + "}"
}

func hook(url string) string {
	return fmt.Sprintf(`{"url":%q,"environment":"test","events":["*"]}`, url)
}

// idAt is a command id of another time.
func idAt(d time.Duration) string {
	return ulid.MustNew(ulid.Timestamp(time.Now().Add(d)), ulid.DefaultEntropy()).String()
}
