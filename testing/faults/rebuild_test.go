package faults

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/client"
)

// beginRebuild has every view made again from the log: what a kill then hits.
func beginRebuild(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	names := map[string]any{"names": []string{"accounts", "keys", "balances", "holds", "endpoints"}}
	_, err := c.Query(ctx, "_", "projection.rebuild", names)
	var refused *events.Error
	if err != nil && !(errors.As(err, &refused) && refused.Code == events.FailedPrecondition) { // one is running
		t.Fatal(err)
	}
}

// checkViews has every view, the feed and the buckets compared with the log.
func checkViews(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var out struct {
		Work struct {
			Kind     string    `json:"kind"`
			State    string    `json:"state"`
			Failure  string    `json:"failure"`
			Findings []finding `json:"findings"`
		} `json:"work"`
	}
	for verb := "projection.verify"; ; {
		reply, err := c.Query(ctx, "_", verb, nil)
		var refused *events.Error
		switch {
		case errors.As(err, &refused) && refused.Code == events.FailedPrecondition: // a rebuild is running
		case err != nil:
			t.Fatal(err)
		default:
			verb = "projection.list"
			if err := reply.Decode(&out); err != nil {
				t.Fatal(err)
			}
			if out.Work.State == "running" {
				break
			}
			if out.Work.Kind != "verify" || out.Work.State != "done" || len(out.Work.Findings) == 0 {
				t.Errorf("the verification ended: %+v", out.Work)
			}
			for _, f := range out.Work.Findings {
				if !f.Equal {
					t.Errorf("%+v", f)
				}
			}
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the verification does not end: %+v", out.Work)
		}
	}
}

// finding is what a verification says of one thing.
type finding struct {
	Name     string `json:"name"`
	Equal    bool   `json:"equal"`
	Position string `json:"position"`
	Account  string `json:"account"`
	Reason   string `json:"reason"`
}
