package spec

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

// hashOf is what key.import takes of a secret.
func hashOf(secret string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(secret))) }

// imports is key.import of a secret in test, with more members.
func imports(secret, more string) Step {
	return Do("key.import", `{"environment":"test","name":"i","sha256":"`+hashOf(secret)+`"`+more+`}`)
}

func TestKeyImport(t *testing.T) {
	have := []Step{opened}
	made := Then{Events: []string{"key.imported"}}
	bad := Then{Code: events.InvalidArgument}
	body := func(sha256 string) Step {
		return Do("key.import", `{"environment":"test","name":"i","sha256":"`+sha256+`"}`)
	}
	Run(t, []Case{
		{"all of it", have, imports("sk_live_4eC39", `,"prefix":"sk_live_…C39","kind":"restricted","permissions":["maps:read"],"ip_allowlist":["192.0.2.1"],"metadata":{"a":1}`),
			Then{Events: []string{"key.imported"}, Data: `{"id":"@key1","status":"active","kind":"restricted","permissions":["maps:read"],"ip_allowlist":["192.0.2.1/32"],
				"prefix":"sk_live_…C39","imported":true,"metadata":{"a":1}}`}},
		{"digits in upper case", have, body(strings.ToUpper(hashOf("a"))), made},
		{"no hash", have, Do("key.import", `{"environment":"test","name":"i"}`), bad},
		{"63 digits", have, body(hashOf("a")[1:]), bad},
		{"66 digits", have, body(hashOf("a") + "00"), bad},
		{"no digits", have, body(strings.Repeat("x", 64)), bad},
		{"the hash of nothing that is known", have, body(strings.Repeat("0", 64)), bad},
		{"a prefix of 32 characters", have, imports("a", `,"prefix":"`+strings.Repeat("é", 32)+`"`), made},
		{"the secret as its prefix", have, imports("sk_live_4eC39", `,"prefix":"sk_live_4eC39"`), bad},
		{"a prefix of 33 characters", have, imports("a", `,"prefix":"`+strings.Repeat("é", 33)+`"`), bad},
		{"a prefix that does not print", have, imports("a", `,"prefix":"a\n"`), bad},
		{"what key.create refuses", have, imports("a", `,"kind":"root"`), bad},
		{"a public key", have, imports("a", `,"public_key":"`+public+`"`), bad},
		{"an expiry in the past", have, imports("a", `,"expires_at":"2026-03-01T12:00:00Z"`), bad},
		{"the same secret again", append(have, imports("a", "")), imports("a", ""), Then{Code: events.AlreadyExists}},
		{"of another environment", append(have, imports("a", "")), Do("key.import", `{"environment":"live","name":"i","sha256":"`+hashOf("a")+`"}`), Then{Code: events.AlreadyExists}},
		{"of a revoked key", append(have, imports("a", ""), Do("key.revoke", `{"key":"@key1"}`)), imports("a", ""), Then{Code: events.AlreadyExists}},
		{"another secret", append(have, imports("a", "")), imports("b", ""), made},
		{"the plan's number of keys", append(have, Do("account.set_plan", `{"plan":{"name":"p","max_keys":1}}`), key), imports("a", ""), Then{Code: events.LimitExceeded}},
		{"a suspended account", append(have, Do("account.suspend", `{}`)), imports("a", ""), Then{Code: events.AccountSuspended}},
		{"of a key that has a new one", append(have, imports("a", ""), Do("key.rotate", `{"key":"@key1","grace":"0"}`)), imports("a", ""), Then{Code: events.AlreadyExists}},
		{"changed like any other", append(have, imports("a", "")), Do("key.update", `{"key":"@key1","name":"n"}`), Then{Events: []string{"key.updated"}, Data: `{"imported":true}`}},
	})
}

func TestAuthorizeImported(t *testing.T) {
	other := ledger.NewSecret("test", "elsewhere", ulid.ULID{1: 7}, [32]byte{9})
	have := []Step{opened, granted(250), imports("sk_live_4eC39", `,"ip_allowlist":["192.0.2.1"]`), imports("ключ \"1\"", ""), imports(other, "")}
	ask := func(secret, more string) Step { return Ask(fmt.Sprintf(`{"secret":%q%s}`, secret, more)) }
	paid := []string{"credit.debited"}
	Run(t, []Case{
		{"by the secret that its owner has", have, ask("sk_live_4eC39", `,"ip":"192.0.2.1"`),
			Then{Events: paid, Answer: `{"allowed":true,"account":"acme","key":"@key1","secret_age":"current","balance":150}`}},
		{"whatever a secret looks like", have, ask("ключ \"1\"", ""), Then{Events: paid, Answer: `{"key":"@key2"}`}},
		{"a secret of another keyledger", have, ask(other, ""), Then{Events: paid, Answer: `{"key":"@key3"}`}},
		{"its restrictions hold", have, ask("sk_live_4eC39", ""), Then{Code: events.IPNotAllowed}},
		{"another secret", have, ask("sk_live_4eC38", ""), Then{Code: events.KeyNotFound, Answer: `{"account":null}`}},
		{"the hash is no secret", have, ask(hashOf("sk_live_4eC39"), ""), Then{Code: events.KeyNotFound}},
		{"in the grace of its rotation", with(have, Do("key.rotate", `{"key":"@key2"}`)), After(24*time.Hour-time.Millisecond, ask("ключ \"1\"", "")), Then{Events: paid, Answer: `{"key":"@key2","secret_age":"old"}`}},
		{"after it", with(have, Do("key.rotate", `{"key":"@key2"}`)), After(24*time.Hour, ask("ключ \"1\"", "")), Then{Events: []string{"key.secret_retired"}, Code: events.KeyNotFound}},
		{"by its new secret", with(have, Do("key.rotate", `{"key":"@key2"}`)), Ask(`{"secret":"@secret1"}`), Then{Events: paid, Answer: `{"key":"@key2","secret_age":"current"}`}},
		{"revoked", with(have, Do("key.revoke", `{"key":"@key2"}`)), ask("ключ \"1\"", ""), Then{Code: events.KeyRevoked}},
		{"expired", with(have, imports("e", `,"expires_at":"2026-03-01T13:00:00Z"`)), After(time.Hour, ask("e", "")), Then{Events: []string{"key.expired"}, Code: events.KeyExpired}},
	})
}
