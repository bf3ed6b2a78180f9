package main

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/client"
)

// endpointStatus is the status in the reply of endpoint.status.
type endpointStatus struct {
	Pending       uint64 `json:"pending"`
	InFlight      int64  `json:"in_flight"`
	OpenRetries   int64  `json:"open_retries"`
	Withheld      uint64 `json:"withheld"`
	Parked        bool   `json:"parked"`
	HeldUntil     string `json:"held_until"`
	FailingSince  string `json:"failing_since"`
	NextAttemptAt string `json:"next_attempt_at"`
	Cursor        string `json:"cursor"`
	Replays       []struct {
		ID      string `json:"id"`
		Percent int64  `json:"percent"`
	} `json:"replays"`
}

// showStatus shows an endpoint and how deliveries to it stand. With --json the one reply
// gets the other's member "status".
func (a *app) showStatus(endpoint, status *client.Reply) error {
	var parts struct {
		Status jsontext.Value `json:"status"`
	}
	if err := status.Decode(&parts); err != nil {
		return err
	}
	if a.json {
		var whole map[string]jsontext.Value
		if err := endpoint.Decode(&whole); err != nil {
			return err
		}
		whole["status"] = parts.Status
		body, err := events.Encode(whole)
		if err == nil {
			_, err = fmt.Fprintf(a.out, "%s\n", body)
		}
		return err
	}
	var reply struct {
		Endpoint events.Endpoint `json:"endpoint"`
	}
	var at struct {
		Status endpointStatus `json:"status"`
	}
	if err := status.Decode(&at); err != nil {
		return err
	}
	return a.show(endpoint, &reply, func(t *table) {
		endpointRows(t, &reply.Endpoint)
		at.Status.rows(t)
	})
}

// rows tells how deliveries stand; what is not so has no row.
func (s *endpointStatus) rows(t *table) {
	text := fmt.Sprintf("%d", s.Pending)
	for _, part := range []struct {
		n    uint64
		what string
	}{{uint64(s.InFlight), "under way"}, {uint64(s.OpenRetries), "failed before"}, {s.Withheld, "behind another of their key"}} {
		if part.n > 0 {
			text += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	t.row("pending", text)
	if s.Parked {
		t.row("parked", "yes: only the oldest delivery is tried")
	}
	if s.HeldUntil != "" {
		t.row("held back until", s.HeldUntil)
	}
	if s.FailingSince != "" {
		t.row("every attempt failed since", s.FailingSince)
	}
	if s.NextAttemptAt != "" {
		t.row("next attempt", s.NextAttemptAt)
	}
	t.row("settled up to", s.Cursor)
	var replays []string
	for _, r := range s.Replays {
		replays = append(replays, fmt.Sprintf("%s (%d%% read)", r.ID, r.Percent))
	}
	if len(replays) > 0 {
		t.row("replays", strings.Join(replays, ", "))
	}
}
