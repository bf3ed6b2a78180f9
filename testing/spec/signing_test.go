package spec

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

// pair is a customer's signing key; public is what the ledger gets of it.
var (
	pair      = ed25519.NewKeyFromSeed(slices.Repeat([]byte{7}, ed25519.SeedSize))
	public    = base64.StdEncoding.EncodeToString(pair.Public().(ed25519.PublicKey))
	signing   = Do("key.create", `{"environment":"test","name":"s","public_key":"`+public+`"}`)
	signReady = []Step{opened, granted(250), signing}
)

// sign is a request signed so long after the Start, with more members.
func sign(after time.Duration, message, more string) Step {
	a := ledger.Authorize{Message: message}
	a.Sign(pair, events.At(Start.Add(after)))
	return Ask(fmt.Sprintf(`{"key":"@key1","message":%q,"signature":%q,"signed_at":%q%s}`, message, a.Signature, a.SignedAt, more))
}

func TestSigningKey(t *testing.T) {
	bad := Then{Code: events.InvalidArgument}
	create := func(public string) Step {
		return Do("key.create", `{"environment":"test","name":"s","public_key":"`+public+`"}`)
	}
	Run(t, []Case{
		{"all of it", []Step{opened}, Do("key.create", `{"environment":"test","name":"s","public_key":"`+public+`","asset_class":"fiat","read_only":true,"metadata":{"a":1}}`),
			Then{Events: []string{"key.created"}, Data: `{"id":"@key1","public_key":"` + public + `","prefix":"","asset_class":"fiat","read_only":true,"metadata":{"a":1}}`}},
		{"the same public key twice", signReady, create(public), Then{Code: events.AlreadyExists}},
		{"and after the key was revoked", with(signReady, Do("key.revoke", `{"key":"@key1"}`)), create(public), Then{Code: events.AlreadyExists}},
		{"there is no secret to rotate", signReady, Do("key.rotate", `{"key":"@key1"}`), Then{Code: events.FailedPrecondition}},
		{"31 bytes", []Step{opened}, create(base64.StdEncoding.EncodeToString(make([]byte, 31))), bad},
		{"33 bytes", []Step{opened}, create(base64.StdEncoding.EncodeToString(make([]byte, 33))), bad},
		{"no base64", []Step{opened}, create(strings.Repeat("?", 44)), bad},
		{"without its padding", []Step{opened}, create(public[:43]), bad},
		{"with bits behind its end", []Step{opened}, create(strings.Repeat("A", 42) + "B="), bad},
		{"with a line break", []Step{opened}, create(public[:40] + `\n` + public[40:]), bad},
		{"a line break within the length", []Step{opened}, create(public[:42] + `\n=`), bad},
		{"the neutral element", []Step{opened}, create(base64.StdEncoding.EncodeToString(append([]byte{1}, make([]byte, 31)...))), bad},
		{"all zero", []Step{opened}, create(base64.StdEncoding.EncodeToString(make([]byte, 32))), bad},
		{"all zero but for the sign", []Step{opened}, create(base64.StdEncoding.EncodeToString(append(make([]byte, 31), 0x80))), bad},
	})
}

func TestAuthorizeSigned(t *testing.T) {
	paid := []string{"credit.debited"}
	const window = 5 * time.Minute
	unknown := Then{Code: events.KeyNotFound, Answer: `{"allowed":false,"account":null,"key":null}`}
	bad := Then{Code: events.InvalidArgument}
	ok := sign(0, "GET /v1/cards", "")
	changed := func(member, value string) Step {
		s := ok
		i := strings.Index(s.Body, `"`+member+`":"`) + len(member) + 4
		s.Body = s.Body[:i] + value + s.Body[i+strings.Index(s.Body[i:], `"`):]
		return s
	}
	Run(t, []Case{
		{"allowed", signReady, sign(0, "GET /v1/cards", `,"product":"cards","reference":"r"`),
			Then{Events: paid, Data: `{"key":"@key1","product":"cards","reference":"r","signed_at":"2026-03-01T12:00:00Z","secret_age":null}`,
				Answer: `{"allowed":true,"code":"ok","account":"acme","key":"@key1","cost":100,"balance":150,"secret_age":null}`}},
		{"no message", signReady, sign(0, "", ""), Then{Events: paid}},
		{"any characters", signReady, sign(0, "é \U0001f511 / \" \\", ""), Then{Events: paid}},
		{"another message", signReady, changed("message", "GET /v1/cardz"), unknown},
		{"another time", signReady, changed("signed_at", "2026-03-01T12:00:00.001Z"), unknown},
		{"the same time in other words", signReady, changed("signed_at", "2026-03-01T12:00:00+00:00"), unknown},
		{"another signature", signReady, changed("signature", strings.Repeat("A", 86)+"=="), unknown},
		{"an unknown key", signReady, changed("key", "key_01ARZ3NDEKTSV4RRFFQ69G5FAV"), unknown},
		{"a key with a secret", []Step{opened, granted(250), key}, ok, unknown},
		{"no secret matches a signing key", signReady, Ask(`{"secret":"@key1"}`), unknown},

		{"5 minutes old", signReady, After(window, ok), Then{Events: paid}},
		{"a millisecond older", signReady, After(window+time.Millisecond, ok), Then{Code: events.CommandExpired, Answer: `{"allowed":false,"key":"@key1"}`}},
		{"5 minutes ahead", signReady, sign(window, "", ""), Then{Events: paid}},
		{"a millisecond more", signReady, sign(window+time.Millisecond, "", ""), Then{Code: events.CommandExpired}},
		{"too old comes before all that the account is", with(signReady, Do("key.revoke", `{"key":"@key1"}`), Do("account.suspend", `{}`)),
			After(window+time.Millisecond, ok), Then{Code: events.CommandExpired}},
		{"revoked", with(signReady, Do("key.revoke", `{"key":"@key1"}`)), ok, Then{Code: events.KeyRevoked}},

		{"a signature pays once", with(signReady, ok), ok, Then{Code: events.IDReused, Answer: `{"allowed":false,"key":"@key1"}`}},
		{"for another product neither", with(signReady, ok), sign(0, "GET /v1/cards", `,"product":"maps","cost":1`), Then{Code: events.IDReused}},
		{"nor at no cost", with(signReady, ok), sign(0, "GET /v1/cards", `,"cost":0`), Then{Code: events.IDReused}},
		{"up to its last millisecond", with(signReady, ok), After(window, ok), Then{Code: events.IDReused}},
		{"nor one that was ahead", with(signReady, sign(window, "", "")), After(2*window, sign(window, "", "")), Then{Code: events.IDReused}},
		{"although others paid meanwhile", with(signReady, sign(window, "", `,"cost":1`), After(2*window, sign(2*window, "", `,"cost":1`))), sign(window, "", ""), Then{Code: events.IDReused}},
		{"another one pays", with(signReady, ok), sign(0, "GET /v1/cards?page=2", ""), Then{Events: paid}},
		{"a free one leaves nothing", with(signReady, sign(0, "", `,"cost":0`), sign(0, "", `,"cost":0`)), sign(0, "", ""), Then{Events: paid}},
		{"a refused one leaves nothing", with(signReady, sign(0, "", `,"cost":251`)), sign(0, "", ""), Then{Events: paid}},

		{"a secret and a signature", signReady, sign(0, "", `,"secret":"x"`), bad},
		{"no key", signReady, changed("key", ""), bad},
		{"what is no key id", signReady, changed("key", "backend"), bad},
		{"no signature", signReady, changed("signature", ""), bad},
		{"a signature of 63 bytes", signReady, changed("signature", strings.Repeat("A", 84)), bad},
		{"a signature of 65 bytes", signReady, changed("signature", strings.Repeat("A", 87)+"="), bad},
		{"no time", signReady, changed("signed_at", ""), bad},
		{"what is no time", signReady, changed("signed_at", "yesterday"), bad},
		{"a message alone", signReady, Ask(`{"message":"m"}`), bad},
		{"a message of 16 KiB", signReady, sign(0, strings.Repeat("m", 16<<10), ""), Then{Events: paid}},
		{"a message of 16 KiB and a byte", signReady, sign(0, strings.Repeat("m", 16<<10+1), ""), bad},
	})
}
