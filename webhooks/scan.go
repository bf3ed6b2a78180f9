package webhooks

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	scanWindowMin = 64      // stream sequences in the shortest window
	scanWindowMax = 1 << 16 // and in the longest
	scanBatch     = 256     // records in one answer
)

// scan reads the records of an account's attempts, or of one endpoint's, backwards.
// JetStream reads a filtered stream forwards only: so it reads windows, each before the
// other, and longer ones where they hold few records.
type scan struct {
	conn        *nats.Conn
	subject     string // of direct gets
	filter      string
	first, last uint64 // sequences of the stream
}

// scanned is what delivery.list needs of a record, and its sequence in the stream.
type scanned struct {
	at uint64

	Event      string      `json:"event"`
	Type       string      `json:"type"`
	Endpoint   string      `json:"endpoint"`
	Position   string      `json:"position"`
	Sequence   string      `json:"sequence"`
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

// delivery returns the row of a settled delivery.
func (r *scanned) delivery(status DeliveryState) Delivery {
	row := Delivery{
		Event: r.Event, Type: r.Type, Endpoint: r.Endpoint, Status: status, Attempts: r.Attempt,
		Position: r.Position, Sequence: r.Sequence, LastAttemptAt: r.Time, StatusCode: r.StatusCode,
	}
	if reason := reasonOf(Result{Phase: Phase(r.Phase), Error: r.Error}); reason != "" {
		row.Error = &reason
	}
	return row
}

// newScan makes a scan of what the stream holds now. No endpoint means all.
func (d *Dispatcher) newScan(ctx context.Context, account, endpoint string) (*scan, error) {
	stream, err := d.cfg.JS.Stream(ctx, store.StreamAttempts)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", store.StreamAttempts, err)
	}
	if endpoint == "" {
		endpoint = "*"
	}
	state := stream.CachedInfo().State
	return &scan{
		conn: d.cfg.JS.Conn(), subject: jetstream.DefaultAPIPrefix + "DIRECT.GET." + store.StreamAttempts,
		filter: store.SubjectAttempts + account + "." + endpoint + ".*",
		first:  max(state.FirstSeq, 1), last: state.LastSeq,
	}, nil
}

// backwards calls f for each record before a sequence, newest first, until it returns
// false; that is expected after some few.
func (s *scan) backwards(ctx context.Context, before uint64, few int, f func(*scanned) bool) error {
	shortest := uint64(max(2*few, scanWindowMin))
	length := shortest
	for to := min(before, s.last+1); to > s.first; {
		from := s.first
		if to-s.first > length {
			from = to - length
		}
		var records []*scanned
		if err := s.window(ctx, from, to, func(r *scanned) { records = append(records, r) }); err != nil {
			return err
		}
		for i := len(records) - 1; i >= 0; i-- {
			if !f(records[i]) {
				return nil
			}
		}
		if uint64(len(records)) < length/4 {
			length = min(2*length, scanWindowMax)
		} else {
			length = max(length/2, shortest)
		}
		to = from
	}
	return nil
}

// window calls f for each record from one sequence up to another, exclusive, in order.
func (s *scan) window(ctx context.Context, from, to uint64, f func(*scanned)) error {
	for from < to {
		next, err := s.batch(ctx, from, to, f)
		if err != nil {
			return fmt.Errorf("read the records of attempts from %d: %w", from, err)
		}
		from = next
	}
	return nil
}

// batch asks for a batch of messages by direct get (ADR-31) and returns the sequence
// from which to ask on, to if nothing is left before it.
func (s *scan) batch(ctx context.Context, from, to uint64, f func(*scanned)) (next uint64, err error) {
	inbox := s.conn.NewInbox()
	sub, err := s.conn.SubscribeSync(inbox)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, sub.Unsubscribe()) }()
	request := fmt.Appendf(nil, `{"seq":%d,"batch":%d,"next_by_subj":"%s"}`, from, scanBatch, s.filter)
	if err := s.conn.PublishRequest(s.subject, inbox, request); err != nil {
		return 0, err
	}
	for next = from; ; {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return 0, err
		}
		switch status := msg.Header.Get("Status"); status {
		case "":
		case "404": // nothing from there on
			return to, nil
		case "204": // the end of the batch
			if msg.Header.Get("Nats-Num-Pending") == "0" {
				next = to
			}
			return next, nil
		default:
			return 0, fmt.Errorf("status %s %s", status, msg.Header.Get("Description"))
		}
		at, err := strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("sequence of a record: %w", err)
		}
		if at >= to {
			return to, nil
		}
		r := &scanned{at: at}
		if err := json.Unmarshal(msg.Data, r); err != nil {
			return 0, fmt.Errorf("record %d: %w", at, err)
		}
		f(r)
		next = at + 1
	}
}
