package ledger

import (
	"cmp"
	"math"

	"github.com/keyledger/keyledger/events"
)

// replayIDPrefix is what every replay's id begins with; its command's id follows.
const replayIDPrefix = "replay_"

// ReplayEndpoint is endpoint.replay: events of the past are sent to an endpoint again. Both
// ends of the range are in it; it ends before the replay's own event in any case.
type ReplayEndpoint struct {
	Endpoint string      `json:"endpoint"`
	From     string      `json:"from_position,omitzero"` // this or from_time
	FromTime events.Time `json:"from_time,omitzero"`
	To       string      `json:"to_position,omitzero"` // this, or to_time, or neither
	ToTime   events.Time `json:"to_time,omitzero"`
	Events   []string    `json:"events,omitzero"` // filters; none: what the endpoint subscribes to now

	// Unfinished is how many replays of the endpoint have not ended, told at the edge.
	Unfinished int `json:"-"`
}

// Validate implements Command.
func (c *ReplayEndpoint) Validate() *events.Error {
	var check checks
	check.endpoint(c.Endpoint)
	check.that((c.From != "") != (c.FromTime != 0), "give either from_position or from_time")
	check.that(c.To == "" || c.ToTime == 0, "give either to_position or to_time, or neither")
	var from, to events.Position
	if c.From != "" {
		from = check.position("from_position", c.From)
		c.From = from.String()
	}
	if c.To != "" {
		to = check.position("to_position", c.To)
		c.To = to.String()
	}
	if c.From != "" && c.To != "" {
		check.that(!ends(to, from), "to_position is before from_position")
	}
	check.that(c.ToTime == 0 || c.FromTime <= c.ToTime, "to_time is before from_time")
	check.eventFilters(c.Events)
	return check.err
}

// ends says whether a range to a place ends before one from another begins. Without an
// index a place is a whole commit.
func ends(to, from events.Position) bool {
	if to.Index == events.NoIndex {
		to.Index = math.MaxInt
	}
	return cmp.Or(cmp.Compare(to.Sequence, from.Sequence), cmp.Compare(to.Index, from.Index)) < 0
}

// Decide implements Command.
func (c *ReplayEndpoint) Decide(in *Input) (Decision, *events.Error) {
	e, err := in.endpoint(c.Endpoint)
	if err != nil {
		return Decision{}, err
	}
	if c.FromTime > in.Time {
		return Decision{}, events.Errorf(events.FailedPrecondition, "from_time is %s, and it is %s: a replay is of the past", c.FromTime, in.Time)
	}
	if c.Unfinished >= maxReplays {
		return Decision{}, events.Errorf(events.LimitExceeded, "%d replays to endpoint %s have not ended, the most there may be; wait for one", c.Unfinished, e.ID).
			With("limit", maxReplays)
	}
	return one(in, "endpoint.replayed", e.Environment, e.ID, &events.Replay{
		ID: prefixed(replayIDPrefix, in.CommandID), Endpoint: e.ID, Account: in.AccountID, Environment: e.Environment,
		From: c.From, To: c.To, FromTime: c.FromTime, ToTime: c.ToTime, Events: sortedUnique(c.Events), CreatedAt: in.Time,
	})
}
