package spec

import (
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

// register is endpoint.register with more members in its body.
func register(members string) Step {
	return Do("endpoint.register", `{"url":"https://example.com/hook","environment":"test","events":["credit.*"],`+members+`}`)
}

// update is endpoint.update of the first endpoint.
func update(members string) Step {
	return Do("endpoint.update", `{"endpoint":"@endpoint1",`+members+`}`)
}

// repeated is a JSON array of n times an item.
func repeated(n int, item string) string {
	return "[" + item + strings.Repeat(","+item, n-1) + "]"
}

func TestEndpointTerms(t *testing.T) {
	registered := []string{"endpoint.registered"}
	refused := Then{Code: events.InvalidArgument}
	Run(t, []Case{
		{"all terms", []Step{opened, key}, register(`"keys":["@key1","@key1"],"filters":[ {"prefix": {"type":"dev.keyledger."}} ],"ordering":"key","rate_per_minute":600,"timeout":"5000ms"`),
			Then{Events: registered, Data: `{"keys":["@key1"],"filters":[{"prefix":{"type":"dev.keyledger."}}],"ordering":"key","rate_per_minute":600,"timeout":"5s","signing":"v1","public_key":null}`}},
		{"none of them", []Step{opened}, endpoint, Then{Events: registered, Data: `{"keys":null,"filters":null,"ordering":"none","rate_per_minute":null,"timeout":null}`}},
		{"no filters is none", []Step{opened}, register(`"filters":[],"keys":[]`), Then{Events: registered, Data: `{"keys":null,"filters":null}`}},
		{"a key pair", []Step{opened}, register(`"signing":"v1a"`), Then{Events: registered, Data: `{"signing":"v1a"}`}},
		{"another signature", []Step{opened}, register(`"signing":"v2"`), refused},
		{"50 keys", []Step{opened, key}, register(`"keys":` + repeated(50, `"@key1"`)), Then{Events: registered}},
		{"51 keys", []Step{opened, key}, register(`"keys":` + repeated(51, `"@key1"`)), refused},
		{"not a key's id", []Step{opened}, register(`"keys":["backend"]`), refused},
		{"a key that is not there", []Step{opened}, register(`"keys":["key_01JD9Z3W8X4T6V2QK7M5N0PRSB"]`), Then{Code: events.NotFound}},
		{"a key of another account", []Step{opened, For(Other, opened), key}, For(Other, register(`"keys":["@key1"]`)), Then{Code: events.NotFound}},
		{"a key of another environment", []Step{opened, liveKey}, register(`"keys":["@key1"]`), Then{Code: events.FailedPrecondition}},
		{"filters that are no array", []Step{opened}, register(`"filters":{"exact":{"type":"x"}}`), refused},
		{"filters of another dialect", []Step{opened}, register(`"filters":[{"sql":"true"}]`), refused},
		{"filters of an attribute that is none", []Step{opened}, register(`"filters":[{"exact":{"sequence":"1"}}]`), refused},
		{"filters of 8 KiB", []Step{opened}, register(`"filters":[{"exact":{"type":"` + strings.Repeat("x", 8<<10-23) + `"}}]`), Then{Events: registered}},
		{"and a byte", []Step{opened}, register(`"filters":[{"exact":{"type":"` + strings.Repeat("x", 8<<10-22) + `"}}]`), refused},
		{"another order", []Step{opened}, register(`"ordering":"subject"`), refused},
		{"the highest rate", []Step{opened}, register(`"rate_per_minute":60000`), Then{Events: registered}},
		{"a higher one", []Step{opened}, register(`"rate_per_minute":60001`), refused},
		{"a negative rate", []Step{opened}, register(`"rate_per_minute":-1`), refused},
		{"the shortest timeout", []Step{opened}, register(`"timeout":"1s"`), Then{Events: registered}},
		{"a shorter one", []Step{opened}, register(`"timeout":"999ms"`), refused},
		{"the longest timeout", []Step{opened}, register(`"timeout":"30s"`), Then{Events: registered, Data: `{"timeout":"30s"}`}},
		{"a longer one", []Step{opened}, register(`"timeout":"30001ms"`), refused},
		{"a timeout that is none", []Step{opened}, register(`"timeout":"5"`), refused},
		{"50 event filters", []Step{opened}, Do("endpoint.register", `{"url":"https://example.com","environment":"test","events":`+repeated(50, `"*"`)+`}`), Then{Events: registered}},
		{"51 event filters", []Step{opened}, Do("endpoint.register", `{"url":"https://example.com","environment":"test","events":`+repeated(51, `"*"`)+`}`), refused},
	})
}

func TestEndpointConsent(t *testing.T) {
	asked := func(consent string, rate int64) func(ledger.Command) {
		return func(cmd ledger.Command) {
			switch c := cmd.(type) {
			case *ledger.RegisterEndpoint:
				c.Endpoint.Consent, c.Endpoint.AllowedRate, c.RequireConsent = consent, rate, true
			case *ledger.UpdateEndpoint:
				c.Made.Consent, c.Made.AllowedRate, c.RequireConsent = consent, rate, true
			}
		}
	}
	yes, no := asked(events.ConsentConfirmed, 120), asked(events.ConsentUnconfirmed, 0)
	full := []Step{opened}
	for range 50 {
		full = append(full, endpoint)
	}
	Run(t, []Case{
		{"a receiver that agrees", []Step{opened}, Told(yes, endpoint), Then{Events: []string{"endpoint.registered"}, Data: `{"consent":"confirmed","allowed_rate":120}`}},
		{"one that does not, where it has to", []Step{opened}, Told(no, endpoint), Then{Code: events.FailedPrecondition}},
		{"consent comes before limits", full, Told(no, endpoint), Then{Code: events.FailedPrecondition}},
		{"the key comes before consent", []Step{opened}, Told(no, register(`"keys":["key_01JD9Z3W8X4T6V2QK7M5N0PRSB"]`)), Then{Code: events.NotFound}},
		{"nobody asked", []Step{opened}, endpoint, Then{Events: []string{"endpoint.registered"}, Data: `{"consent":"off"}`}},
		{"moving to one that agrees", []Step{opened, endpoint}, Told(yes, update(`"url":"https://b.example"`)), Then{Events: []string{"endpoint.updated"}, Data: `{"consent":"confirmed","allowed_rate":120}`}},
		{"moving to one that does not", []Step{opened, Told(yes, endpoint)}, Told(no, update(`"url":"https://b.example"`)), Then{Code: events.FailedPrecondition}},
		{"moving to one that was not asked", []Step{opened, Told(yes, endpoint)}, update(`"url":"https://b.example"`), Then{Events: []string{"endpoint.updated"}, Data: `{"consent":"off","allowed_rate":null}`}},
		{"the same URL, that agrees now", []Step{opened, endpoint}, Told(yes, update(`"url":"https://example.com/hook"`)), Then{Events: []string{"endpoint.updated"}, Data: `{"consent":"confirmed"}`}},
		{"the same URL, that is down now", []Step{opened, Told(yes, endpoint)}, Told(no, update(`"url":"https://example.com/hook"`)), Then{}},
		{"another member, where consent is required", []Step{opened, endpoint}, Told(no, update(`"description":"b"`)), Then{Events: []string{"endpoint.updated"}, Data: `{"consent":"off"}`}},
	})
}

func TestUpdateEndpoint(t *testing.T) {
	updated := []string{"endpoint.updated"}
	refused := Then{Code: events.InvalidArgument}
	whole := Do("endpoint.register", `{"url":"https://example.com/hook?token=1","environment":"test","events":["credit.*"],"description":"a","headers":{"X-A":"1","X-B":"2"},"keys":["@key1"],"filters":[{"exact":{"subject":"s"}}],"ordering":"key","rate_per_minute":60,"timeout":"5s"}`)
	given := []Step{opened, key, whole}
	Run(t, []Case{
		{"nothing", given, Do("endpoint.update", `{"endpoint":"@endpoint1"}`), Then{}},
		{"everything as it is", given, update(`"url":"https://example.com/hook?token=1","environment":"test","events":["credit.*","credit.*"],"description":"a","headers":{"X-A":"1","X-B":"2"},"keys":["@key1"],"filters":[ {"exact":{"subject":"s"}} ],"ordering":"key","rate_per_minute":60,"timeout":"5000ms","signing":"v1"`), Then{}},
		{"everything", given, update(`"url":"https://b.example/hook","events":["key.*"],"description":"b","headers":{"X-C":"3"},"keys":[],"filters":[],"ordering":"none","rate_per_minute":0,"timeout":""`),
			Then{Events: updated, Data: `{"url":"https://b.example/hook","events":["key.*"],"description":"b","headers":["X-C"],"keys":null,"filters":null,"ordering":"none","rate_per_minute":null,"timeout":null,"status":"active"}`}},
		{"one member leaves the others", given, update(`"description":"b"`),
			Then{Events: updated, Data: `{"url":"https://example.com/hook","events":["credit.*"],"headers":["X-A","X-B"],"keys":["@key1"],"filters":[{"exact":{"subject":"s"}}],"ordering":"key","rate_per_minute":60,"timeout":"5s"}`}},
		{"members that are null stay", given, update(`"url":null,"events":null,"headers":null,"keys":null,"filters":null,"timeout":null`), Then{}},
		{"another query only", given, update(`"url":"https://example.com/hook?token=2"`), Then{Events: updated}},
		{"no query any more", given, update(`"url":"https://example.com/hook"`), Then{Events: updated}},
		{"a query that was not there", []Step{opened, endpoint}, update(`"url":"https://example.com/hook?token=1"`), Then{Events: updated}},
		{"another value of a header only", given, update(`"headers":{"X-A":"1","X-B":"3"}`), Then{Events: updated}},
		{"no headers", given, update(`"headers":{}`), Then{Events: updated, Data: `{"headers":[]}`}},
		{"twice", append(given, update(`"description":"b"`)), update(`"description":"b"`), Then{}},
		{"a paused one stays paused", append(given, Do("endpoint.pause", `{"endpoint":"@endpoint1"}`)), update(`"description":"b"`), Then{Events: updated, Data: `{"status":"paused"}`}},
		{"another environment", given, update(`"environment":"live"`), Then{Code: events.FailedPrecondition}},
		{"another way to sign", given, update(`"signing":"v1a"`), Then{Code: events.FailedPrecondition}},
		{"no event filter", given, update(`"events":[]`), refused},
		{"an event filter that can match nothing", given, update(`"events":["credits.*"]`), refused},
		{"an empty URL", given, update(`"url":""`), refused},
		{"filters that are none", given, update(`"filters":[{"exact":{}}]`), refused},
		{"a rate too high", given, update(`"rate_per_minute":60001`), refused},
		{"a timeout too short", given, update(`"timeout":"999ms"`), refused},
		{"too many keys", given, update(`"keys":` + repeated(51, `"@key1"`)), refused},
		{"another order", given, update(`"ordering":""`), refused},
		{"a key that is not there", given, update(`"keys":["key_01JD9Z3W8X4T6V2QK7M5N0PRSB"]`), Then{Code: events.NotFound}},
		{"a key of another environment", []Step{opened, liveKey, endpoint}, update(`"keys":["@key1"]`), Then{Code: events.FailedPrecondition}},
		{"a member that is not one", given, update(`"status":"active"`), refused},
		{"not an endpoint's id", given, Do("endpoint.update", `{"endpoint":"hook"}`), refused},
		{"an endpoint that is not there", []Step{opened}, Do("endpoint.update", `{"endpoint":"endpoint_01JD9Z3W8X4T6V2QK7M5N0PRSB","description":"b"}`), Then{Code: events.NotFound}},
		{"suspended", append(given, Do("account.suspend", `{}`)), update(`"description":"b"`), Then{Events: updated}},
		{"closed", append(given, Do("account.close", `{}`)), update(`"description":"b"`), Then{Code: events.FailedPrecondition}},
	})
}

func TestSkip(t *testing.T) {
	updated := []string{"endpoint.updated"}
	given := []Step{opened, endpoint}
	Run(t, []Case{
		{"to a position", given, update(`"skip_to":"0:042.03"`), Then{Events: updated, Data: `{"skip_to":"0:42.3"}`}},
		{"to a commit's end", given, update(`"skip_to":"0:42"`), Then{Events: updated, Data: `{"skip_to":"0:42"}`}},
		{"to now", given, update(`"skip_to":"now"`), Then{Events: updated, Data: `{"skip_to":"now"}`}},
		{"to the same position again", append(given, update(`"skip_to":"0:42"`)), update(`"skip_to":"0:42"`), Then{}},
		{"to now again, which is later", append(given, update(`"skip_to":"now"`)), update(`"skip_to":"now"`), Then{Events: updated}},
		{"the next event does not say it again", append(given, update(`"skip_to":"0:42"`)), update(`"description":"b"`), Then{Events: updated, Data: `{"skip_to":null}`}},
		{"to another partition", given, update(`"skip_to":"1:42"`), Then{Code: events.InvalidArgument}},
		{"to no position", given, update(`"skip_to":"end"`), Then{Code: events.InvalidArgument}},
	})
}
