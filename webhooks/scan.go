package webhooks

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// scanned is what delivery.list needs of a record, and its sequence in the stream.
type scanned struct {
	at uint64

	Event      string      `json:"event"`
	Type       string      `json:"type"`
	Endpoint   string      `json:"endpoint"`
	Position   string      `json:"position"`
	Sequence   string      `json:"sequence"`
	Key        string      `json:"key"`
	Replay     string      `json:"replay"`
	Attempt    int         `json:"attempt"`
	Time       events.Time `json:"time"`
	Outcome    string      `json:"outcome"`
	StatusCode *int        `json:"status_code"`
	Phase      string      `json:"phase"`
	Error      string      `json:"error"`
}

// state is the delivery's, "" while it was not settled by this attempt.
func (r *scanned) state() DeliveryState {
	switch r.Outcome {
	case string(OutcomeDelivered):
		return StateDelivered
	case outcomeDead:
		return StateDead
	}
	return ""
}

// name says which delivery the record is of.
func (r *scanned) name() deliveryName { return deliveryName{r.Endpoint, r.Event, r.Replay} }

// delivery returns the delivery's row, as its last record says.
func (r *scanned) delivery() Delivery {
	row := Delivery{
		Event: r.Event, Type: r.Type, Endpoint: r.Endpoint, Status: r.state(), Attempts: r.Attempt,
		Position: r.Position, Sequence: r.Sequence, Key: r.Key, LastAttemptAt: r.Time, StatusCode: r.StatusCode,
	}
	if r.Replay != "" {
		row.Replay = &r.Replay
	}
	if reason := reasonOf(Result{Phase: Phase(r.Phase), Error: r.Error}); reason != "" {
		row.Error = &reason
	}
	return row
}

// scan reads the records of an account's attempts, or of one endpoint's.
type scan struct{ *store.Scan }

// newScan makes a scan of what the stream holds now. No endpoint means all.
func (d *Dispatcher) newScan(ctx context.Context, account, endpoint string) (scan, error) {
	if endpoint == "" {
		endpoint = "*"
	}
	s, err := store.NewScan(ctx, d.cfg.JS, store.StreamAttempts, store.SubjectAttempts+account+"."+endpoint+".*")
	return scan{s}, err
}

// backwards is store.Scan.Backwards with records.
func (s scan) backwards(ctx context.Context, before uint64, few int, f func(*scanned) bool) error {
	return s.Backwards(ctx, before, few, func(m *store.Scanned) (bool, error) {
		r, err := readScanned(m)
		return err == nil && f(r), err
	})
}

// window is store.Scan.Window with records.
func (s scan) window(ctx context.Context, from, to uint64, f func(*scanned)) error {
	return s.Window(ctx, from, to, func(m *store.Scanned) error {
		r, err := readScanned(m)
		if err == nil {
			f(r)
		}
		return err
	})
}

func readScanned(m *store.Scanned) (*scanned, error) {
	r := &scanned{at: m.Sequence}
	if err := json.Unmarshal(m.Data, r); err != nil {
		return nil, fmt.Errorf("record of an attempt %d: %w", m.Sequence, err)
	}
	return r, nil
}
