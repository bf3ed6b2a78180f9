package projections

import (
	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// endpointIDPrefix is what every endpoint id begins with; a ULID follows.
const endpointIDPrefix = "endpoint_"

// endpoints is the view of webhook endpoints, in one list for each account. Removed ones
// stay, so that endpoint.get can still tell what they were.
type endpoints struct {
	table[*events.Endpoint]
}

func newEndpoints() *endpoints { return &endpoints{newTable[*events.Endpoint]()} }

// Name implements Projection.
func (v *endpoints) Name() string { return viewEndpoints }

// Version implements Projection.
func (v *endpoints) Version() uint64 { return 1 }

// Apply implements Projection.
func (v *endpoints) Apply(_ *store.Commit, _ int, e *events.Event) error {
	if d, ok := e.Data.(*events.Endpoint); ok {
		v.place(d.Account, d.ID, d.CreatedAt).value = d
	}
	return nil
}

// Save implements Projection.
func (v *endpoints) Save(account string, b []byte) []byte {
	w := events.NewWriter(b)
	for _, r := range v.lists[account] {
		w.Nested(r.value)
	}
	return w.Bytes()
}

// Load implements Projection.
func (v *endpoints) Load(_ string, data []byte) error {
	return saved(data, func(r *events.Coder) error {
		d := &events.Endpoint{}
		r.Nested(d)
		v.place(d.Account, d.ID, d.CreatedAt).value = d
		return nil
	})
}

// endpointResult answers endpoint.get.
type endpointResult struct {
	Endpoint *events.Endpoint `json:"endpoint"`
}

// endpointsResult answers endpoint.list.
type endpointsResult struct {
	Endpoints  []*events.Endpoint `json:"endpoints"`
	NextCursor *string            `json:"next_cursor"`
}

// endpointBody is the body of endpoint.get.
type endpointBody struct {
	Endpoint string `json:"endpoint"`
}

// endpointListBody is the body of endpoint.list.
type endpointListBody struct {
	page
	Environment string `json:"environment"`
	Status      string `json:"status"`
}

func (v *Views) getEndpoint(account string, body *endpointBody) (any, *events.Error) {
	if err := wantID("endpoint", endpointIDPrefix, body.Endpoint); err != nil {
		return nil, err
	}
	if _, err := v.accounts.get(account); err != nil {
		return nil, err
	}
	r := v.endpoints.byID[body.Endpoint]
	if r == nil || r.value.Account != account {
		return nil, events.Errorf(events.NotFound, "account %s has no endpoint %s", account, body.Endpoint)
	}
	return endpointResult{r.value}, nil
}

func (v *Views) listEndpoints(account string, body *endpointListBody) (any, *events.Error) {
	if err := oneOf("environment", body.Environment, events.Test, events.Live); err != nil {
		return nil, err
	}
	if err := oneOf("status", body.Status, events.Active, events.Paused, events.Disabled); err != nil {
		return nil, err
	}
	if _, err := v.accounts.get(account); err != nil {
		return nil, err
	}
	list, next, err := v.endpoints.list(account, &body.page, func(e *events.Endpoint) bool {
		return e.Status != events.Removed &&
			(body.Environment == "" || e.Environment == body.Environment) &&
			(body.Status == "" || e.Status == body.Status)
	})
	if err != nil {
		return nil, err
	}
	return endpointsResult{list, next}, nil
}
