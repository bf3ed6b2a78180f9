package spec

import (
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

// renew is endpoint.rotate_secret of the first endpoint.
func renew(members string) Step {
	return Do("endpoint.rotate_secret", `{"endpoint":"@endpoint1"`+members+`}`)
}

func TestRotateEndpointSecret(t *testing.T) {
	rotated := []string{"endpoint.secret_rotated"}
	refused := Then{Code: events.InvalidArgument}
	given := []Step{opened, endpoint}
	Run(t, []Case{
		{"the former one signs for a day", given, renew(``), Then{Events: rotated, Data: `{"signing":"v1","former_secrets":[{"until":"2026-03-02T12:00:00Z","signing":"v1"}]}`}},
		{"or as long as is said", given, renew(`,"grace":"1h"`), Then{Events: rotated, Data: `{"former_secrets":[{"until":"2026-03-01T13:00:00Z","signing":"v1"}]}`}},
		{"the newest stands first", append(given, renew(``)), renew(`,"grace":"1h"`),
			Then{Events: rotated, Data: `{"former_secrets":[{"until":"2026-03-01T13:00:00Z","signing":"v1"},{"until":"2026-03-02T12:00:00Z","signing":"v1"}]}`}},
		{"three sign at most", append(given, renew(``), renew(`,"grace":"1h"`)), renew(`,"grace":"1ms"`), Then{Code: events.LimitExceeded, Details: `{"limit":3}`}},
		{"one whose time is over is none", append(given, renew(``), renew(`,"grace":"1h"`)), After(time.Hour, renew(`,"grace":"1ms"`)),
			Then{Events: rotated, Data: `{"former_secrets":[{"until":"2026-03-01T13:00:00.001Z","signing":"v1"},{"until":"2026-03-02T12:00:00Z","signing":"v1"}]}`}},
		{"a moment before it is one", append(given, renew(``), renew(`,"grace":"1h"`)), After(time.Hour-time.Millisecond, renew(`,"grace":"1ms"`)), Then{Code: events.LimitExceeded}},
		{"no grace ends all", append(given, renew(``), renew(`,"grace":"1h"`)), renew(`,"grace":"0"`), Then{Events: rotated, Data: `{"former_secrets":null}`}},
		{"the longest grace", given, renew(`,"grace":"168h"`), Then{Events: rotated, Data: `{"former_secrets":[{"until":"2026-03-08T12:00:00Z","signing":"v1"}]}`}},
		{"a longer one", given, renew(`,"grace":"168h1ms"`), refused},
		{"a negative one", given, renew(`,"grace":"-1s"`), refused},
		{"a grace that is none", given, renew(`,"grace":"24"`), refused},
		{"another way to sign", given, renew(`,"signing":"v1a"`), Then{Events: rotated, Data: `{"signing":"v1a","former_secrets":[{"until":"2026-03-02T12:00:00Z","signing":"v1"}]}`}},
		{"it stays so", append(given, renew(`,"signing":"v1a"`)), renew(`,"grace":"0"`), Then{Events: rotated, Data: `{"signing":"v1a"}`}},
		{"and back", append(given, renew(`,"signing":"v1a"`)), renew(`,"grace":"0","signing":"v1"`), Then{Events: rotated, Data: `{"signing":"v1","public_key":null}`}},
		{"a way that is none", given, renew(`,"signing":"v2"`), refused},
		{"a paused one", append(given, Do("endpoint.pause", `{"endpoint":"@endpoint1"}`)), renew(``), Then{Events: rotated, Data: `{"status":"paused"}`}},
		{"one that is not there", []Step{opened}, Do("endpoint.rotate_secret", `{"endpoint":"endpoint_01JD9Z3W8X4T6V2QK7M5N0PRSB"}`), Then{Code: events.NotFound}},
		{"not an endpoint's id", given, Do("endpoint.rotate_secret", `{"endpoint":"hook"}`), refused},
		{"suspended", append(given, Do("account.suspend", `{}`)), renew(``), Then{Events: rotated}},
		{"closed", append(given, Do("account.close", `{}`)), renew(``), Then{Code: events.FailedPrecondition}},
		{"a former one's time is over: the next event leaves it out", append(given, renew(`,"grace":"1h"`)), After(time.Hour, Do("endpoint.pause", `{"endpoint":"@endpoint1"}`)),
			Then{Events: []string{"endpoint.paused"}, Data: `{"former_secrets":null}`}},
	})
}

func TestTestEndpoint(t *testing.T) {
	given := []Step{opened, endpoint}
	ping := Do("endpoint.test", `{"endpoint":"@endpoint1"}`)
	Run(t, []Case{
		{"one that is active", given, ping, Then{Events: []string{"endpoint.tested"}, Data: `{"id":"@endpoint1","status":"active"}`, Reply: `{"secret":null}`}},
		{"each time", append(given, ping), ping, Then{Events: []string{"endpoint.tested"}}},
		{"a paused one", append(given, Do("endpoint.pause", `{"endpoint":"@endpoint1"}`)), ping, Then{Code: events.FailedPrecondition}},
		{"one that is not there", []Step{opened}, Do("endpoint.test", `{"endpoint":"endpoint_01JD9Z3W8X4T6V2QK7M5N0PRSB"}`), Then{Code: events.NotFound}},
		{"not an endpoint's id", given, Do("endpoint.test", `{"endpoint":"hook"}`), Then{Code: events.InvalidArgument}},
		{"suspended", append(given, Do("account.suspend", `{}`)), ping, Then{Events: []string{"endpoint.tested"}}},
		{"closed", append(given, Do("account.close", `{}`)), ping, Then{Code: events.FailedPrecondition}},
	})
}

func TestReplayEndpoint(t *testing.T) {
	replay := func(members string) Step { return Do("endpoint.replay", `{"endpoint":"@endpoint1",`+members+`}`) }
	unfinished := func(n int) func(ledger.Command) {
		return func(c ledger.Command) { c.(*ledger.ReplayEndpoint).Unfinished = n }
	}
	replayed := []string{"endpoint.replayed"}
	refused := Then{Code: events.InvalidArgument}
	given := []Step{opened, endpoint}
	Run(t, []Case{
		{"from a position", given, replay(`"from_position":"0:01.00"`), Then{Events: replayed, Data: `{"endpoint":"@endpoint1","account":"acme","environment":"test","from_position":"0:1.0","events":[],"created_at":"2026-03-01T12:00:00Z"}`}},
		{"to a position, of some events", given, replay(`"from_position":"0:1","to_position":"0:9.2","events":["key.*","credit.*"]`), Then{Events: replayed, Data: `{"from_position":"0:1","to_position":"0:9.2","events":["credit.*","key.*"]}`}},
		{"by time", given, replay(`"from_time":"2026-03-01T10:00:00Z","to_time":"2026-03-01T10:00:00Z"`), Then{Events: replayed, Data: `{"from_time":"2026-03-01T10:00:00Z","to_time":"2026-03-01T10:00:00Z"}`}},
		{"from now", given, replay(`"from_time":"2026-03-01T12:00:00Z"`), Then{Events: replayed}},
		{"from the future", given, replay(`"from_time":"2026-03-01T12:00:00.001Z"`), Then{Code: events.FailedPrecondition}},
		{"from nowhere", given, Do("endpoint.replay", `{"endpoint":"@endpoint1"}`), refused},
		{"from two places", given, replay(`"from_position":"0:1","from_time":"2026-03-01T10:00:00Z"`), refused},
		{"to two places", given, replay(`"from_position":"0:1","to_position":"0:1","to_time":"2026-03-01T10:00:00Z"`), refused},
		{"one commit", given, replay(`"from_position":"0:4.2","to_position":"0:4"`), Then{Events: replayed}},
		{"one event", given, replay(`"from_position":"0:4.2","to_position":"0:4.2"`), Then{Events: replayed}},
		{"a commit's first event", given, replay(`"from_position":"0:4","to_position":"0:4.0"`), Then{Events: replayed}},
		{"backwards by an event", given, replay(`"from_position":"0:4.2","to_position":"0:4.1"`), refused},
		{"backwards by a commit", given, replay(`"from_position":"0:4.0","to_position":"0:3"`), refused},
		{"backwards in time", given, replay(`"from_time":"2026-03-01T10:00:00Z","to_time":"2026-03-01T09:59:59.999Z"`), refused},
		{"no position", given, replay(`"from_position":"4"`), refused},
		{"of another partition", given, replay(`"from_position":"1:4"`), refused},
		{"an event filter that can match nothing", given, replay(`"from_position":"0:1","events":["credits.*"]`), refused},
		{"51 event filters", given, replay(`"from_position":"0:1","events":` + repeated(51, `"*"`)), refused},
		{"the tenth at a time", given, Told(unfinished(9), replay(`"from_position":"0:1"`)), Then{Events: replayed}},
		{"the eleventh", given, Told(unfinished(10), replay(`"from_position":"0:1"`)), Then{Code: events.LimitExceeded, Details: `{"limit":10}`}},
		{"each time", append(given, replay(`"from_position":"0:1"`)), replay(`"from_position":"0:1"`), Then{Events: replayed}},
		{"a paused one", append(given, Do("endpoint.pause", `{"endpoint":"@endpoint1"}`)), replay(`"from_position":"0:1"`), Then{Events: replayed}},
		{"one that is not there", []Step{opened}, Told(unfinished(10), Do("endpoint.replay", `{"endpoint":"endpoint_01JD9Z3W8X4T6V2QK7M5N0PRSB","from_position":"0:1"}`)), Then{Code: events.NotFound}},
		{"not an endpoint's id", given, Do("endpoint.replay", `{"endpoint":"hook","from_position":"0:1"}`), refused},
		{"suspended", append(given, Do("account.suspend", `{}`)), replay(`"from_position":"0:1"`), Then{Events: replayed}},
		{"closed", append(given, Do("account.close", `{}`)), replay(`"from_position":"0:1"`), Then{Code: events.FailedPrecondition}},
	})
}
