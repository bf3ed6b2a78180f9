package spec

import (
	"testing"

	"github.com/keyledger/keyledger/events"
)

var endpoint = Do("endpoint.register", `{"url":"https://example.com/hook","environment":"test","events":["credit.*"]}`)

func TestEndpoint(t *testing.T) {
	Run(t, []Case{
		{"register", []Step{opened}, Do("endpoint.register", `{"url":"https://example.com/hook","environment":"test","events":["key.*","credit.debited","key.*"],"headers":{"X-B":"2","X-A":"1"}}`),
			Then{Events: []string{"endpoint.registered"}, Data: `{"account":"acme","url":"https://example.com/hook","events":["credit.debited","key.*"],"headers":["X-A","X-B"],"status":"active","signing":"v1"}`}},
		{"events are required", []Step{opened}, Do("endpoint.register", `{"url":"https://example.com","environment":"test"}`), Then{Code: events.InvalidArgument}},
		{"a filter that can match nothing", []Step{opened}, Do("endpoint.register", `{"url":"https://example.com","environment":"test","events":["credits.*"]}`), Then{Code: events.InvalidArgument}},
		{"all events", []Step{opened}, Do("endpoint.register", `{"url":"https://example.com","environment":"test","events":["*"]}`), Then{Events: []string{"endpoint.registered"}}},
		{"pause", []Step{opened, endpoint}, Do("endpoint.pause", `{"endpoint":"@endpoint1"}`), Then{Events: []string{"endpoint.paused"}}},
		{"pausing twice changes nothing", []Step{opened, endpoint, Do("endpoint.pause", `{"endpoint":"@endpoint1"}`)}, Do("endpoint.pause", `{"endpoint":"@endpoint1"}`), Then{}},
		{"resume", []Step{opened, endpoint, Do("endpoint.pause", `{"endpoint":"@endpoint1"}`)}, Do("endpoint.resume", `{"endpoint":"@endpoint1"}`), Then{Events: []string{"endpoint.resumed"}}},
		{"remove", []Step{opened, endpoint}, Do("endpoint.remove", `{"endpoint":"@endpoint1"}`), Then{Events: []string{"endpoint.removed"}, Data: `{"status":"removed"}`}},
		{"a removed endpoint is gone", []Step{opened, endpoint, Do("endpoint.remove", `{"endpoint":"@endpoint1"}`)}, Do("endpoint.pause", `{"endpoint":"@endpoint1"}`), Then{Code: events.NotFound}},
	})
}

func TestEndpointsHaveALimit(t *testing.T) {
	given := []Step{opened}
	for range 50 {
		given = append(given, endpoint)
	}
	Run(t, []Case{
		{"a 51st endpoint", given, endpoint, Then{Code: events.LimitExceeded}},
	})
}
