package webhooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	recordsWaitingMax   = 16_384          // records that wait to be sent; one beyond is lost
	recordsWaitingBytes = 32 << 20        // that they may have together, likewise
	recordsSentMax      = 2048            // sent and not yet acknowledged
	recordsAck          = 2 * time.Second // for the acknowledgement of each
	redactedMin         = 4               // bytes: shorter values are in too many answers
	redacted            = "[sealed]"
)

// Attempt is the record of one attempt, as JSON in the stream store.StreamAttempts, on
// store.SubjectAttempts + <account>.<endpoint>.<outcome>. It is history for people: a
// record that cannot be stored is lost, and no delivery depends on one.
type Attempt struct {
	Event    string `json:"event"` // the event's id, which is the webhook-id
	Type     string `json:"type"`  // as in the CloudEvent
	Account  string `json:"account"`
	Endpoint string `json:"endpoint"`
	Position string `json:"position"` // of the event in the log
	Sequence string `json:"sequence"` // the delivery's number at the endpoint, as in the CloudEvent; "" for an event that it was never owed
	// Replay is the id of the replay that sent the event, "" for a delivery that was owed.
	Replay string `json:"replay,omitempty"`
	// TraceID is the trace that the event's command belongs to, in hexadecimal; "" without one.
	TraceID string `json:"trace_id,omitempty"`
	Key     string `json:"key"` // that the event is about, "" for none

	Attempt int         `json:"attempt"` // 1 for the first
	Time    events.Time `json:"time"`    // when it began
	// Outcome is "delivered"; "failed": another try follows, or, for an endpoint that
	// was removed meanwhile, none; "dead": it was the last.
	Outcome string `json:"outcome"`
	// StatusCode is the HTTP status, null if no answer came.
	StatusCode *int `json:"status_code"`
	// Phase and Error say where and how it failed before there was a whole answer, in
	// fixed texts: see Phase and Result.
	Phase string `json:"phase"`
	Error string `json:"error"`
	// Response is the beginning of the answer's body as text, at most
	// MaxResponseHeadBytes, without the values that are sealed in the endpoint.
	Response string `json:"response"`
	// RetryAfter and ContentType are these fields of the answer's header, likewise, at most
	// maxFieldBytes of each.
	RetryAfter  string `json:"retry_after,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	// Bytes is how long the body was that the attempt had to send.
	Bytes int `json:"bytes"`
	// DurationMS says where the time went, in milliseconds.
	DurationMS Durations `json:"duration_ms"`
	// NextAttemptAt is null unless another try follows.
	NextAttemptAt events.Time `json:"next_attempt_at"`
}

// Durations are Timings in milliseconds, to the microsecond.
type Durations struct {
	DNS       float64 `json:"dns"`
	Connect   float64 `json:"connect"`
	TLS       float64 `json:"tls"`
	FirstByte float64 `json:"first_byte"`
	Total     float64 `json:"total"`
}

// outcomeDead is the record of a last try that failed; the others are Outcomes.
const outcomeDead = "dead"

// record makes the record of an attempt, after so many tries; next is zero if no other
// follows.
func (f *flight) record(state DeliveryState, tries int, next time.Time) *Attempt {
	r, e := &f.result, f.event
	a := &Attempt{
		Event: e.ID.String(), Type: events.Lookup(e.Type).CloudEventType(), Account: e.Account,
		Endpoint: f.endpoint.ID, Position: e.Position.String(), Sequence: e.Sequence, Key: events.KeyOf(&e.Event),
		Attempt: tries, Time: events.At(f.at), Outcome: string(OutcomeFailed),
		Phase: string(r.Phase), Error: r.Error, TraceID: e.Trace.TraceID(), Bytes: f.bytes,
		Response:   f.sealed.redact(string(r.ResponseHead)),
		RetryAfter: f.sealed.redact(r.RetryAfterField), ContentType: f.sealed.redact(r.ContentType),
		DurationMS: Durations{
			DNS: milliseconds(r.Timings.DNS), Connect: milliseconds(r.Timings.Connect), TLS: milliseconds(r.Timings.TLS),
			FirstByte: milliseconds(r.Timings.FirstByte), Total: milliseconds(r.Timings.Total),
		},
	}
	if f.delivery.replay != nil {
		a.Replay = f.delivery.replay.request.ID
	}
	if r.Status != 0 {
		a.StatusCode = &r.Status
	}
	switch state {
	case StateDelivered:
		a.Outcome = string(OutcomeDelivered)
	case StateDead:
		a.Outcome = outcomeDead
	}
	if !next.IsZero() {
		a.NextAttemptAt = roundUp(next)
	}
	return a
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// report logs an attempt, in one line whose members are always the same (GUIDE.md lists
// them), and records it.
func (d *Dispatcher) report(a *Attempt) {
	level := slog.LevelInfo
	if a.Outcome == string(OutcomeDelivered) {
		level = slog.LevelDebug
	}
	if d.attempt.add(a); !d.cfg.Logger.Enabled(context.Background(), level) {
		return
	}
	status := 0
	if a.StatusCode != nil {
		status = *a.StatusCode
	}
	d.cfg.Logger.LogAttrs(context.Background(), level, "webhook attempt",
		slog.String("account", a.Account), slog.String("endpoint", a.Endpoint), slog.String("event", a.Event),
		slog.String("type", a.Type), slog.String("position", a.Position), slog.String("sequence", a.Sequence),
		slog.String("replay", a.Replay), slog.Int("attempt", a.Attempt), slog.String("outcome", a.Outcome),
		slog.Int("status", status), slog.String("phase", a.Phase), slog.String("error", a.Error), slog.Int("bytes", a.Bytes),
		slog.Float64("dns_ms", a.DurationMS.DNS), slog.Float64("connect_ms", a.DurationMS.Connect),
		slog.Float64("tls_ms", a.DurationMS.TLS), slog.Float64("first_byte_ms", a.DurationMS.FirstByte),
		slog.Float64("duration_ms", a.DurationMS.Total),
		slog.String("next_attempt_at", a.NextAttemptAt.String()), slog.String("trace_id", a.TraceID))
}

// redact takes the sealed values out of an answer, which may repeat the request; also
// the beginning of one at the end, where the answer was cut. It finds them as they were
// sent: a receiver that sends its own secrets back in another form shows them to itself.
func (u *unsealed) redact(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	for _, secret := range u.values() {
		if len(secret) < redactedMin {
			continue
		}
		text = strings.ReplaceAll(text, secret, redacted)
		for n := len(secret) - 1; n >= redactedMin; n-- {
			if head, cut := strings.CutSuffix(text, secret[:n]); cut {
				text = head + redacted
				break
			}
		}
	}
	return text
}

// values lists what must not be shown, in the forms in which it was sent.
func (u *unsealed) values() []string {
	var list []string
	if u.query != "" {
		list = append(list, u.query)
		if parsed, err := url.ParseQuery(u.query); err == nil {
			for _, values := range parsed {
				list = append(list, values...)
			}
		}
	}
	for _, value := range u.headers {
		list = append(list, value)
	}
	return list
}

// attemptLog stores records, as many at once as the stream takes, and holds nobody up.
type attemptLog struct {
	js      jetstream.JetStream
	logger  *slog.Logger
	records chan *nats.Msg
	bytes   atomic.Int64 // that wait to be sent
	lost    atomic.Uint64
}

func newAttemptLog(js jetstream.JetStream, logger *slog.Logger) *attemptLog {
	return &attemptLog{js: js, logger: logger, records: make(chan *nats.Msg, recordsWaitingMax)}
}

// add hands a record in.
func (l *attemptLog) add(a *Attempt) {
	data, err := events.Encode(a)
	if err != nil {
		l.lose(err)
		return
	}
	if l.bytes.Add(int64(len(data))) <= recordsWaitingBytes {
		select {
		case l.records <- &nats.Msg{Subject: store.SubjectAttempts + a.Account + "." + a.Endpoint + "." + a.Outcome, Data: data}:
			return
		default:
		}
	}
	l.bytes.Add(-int64(len(data)))
	l.lose(errors.New("too many records wait to be stored"))
}

// lose notes a record that is not stored: the first, and then each hundredth, is logged.
func (l *attemptLog) lose(err error) {
	if n := l.lost.Add(1); n%100 == 1 {
		l.logger.Warn("cannot store the record of a webhook attempt", "lost", n, "error", err)
	}
}

// close says that no more records come.
func (l *attemptLog) close() { close(l.records) }

// run sends records until close, and waits for their acknowledgements. It has a JetStream
// context of its own on the same connection, which takes them in as they come.
func (l *attemptLog) run() error {
	js, err := jetstream.New(l.js.Conn(), jetstream.WithPublishAsyncMaxPending(recordsSentMax), jetstream.WithPublishAsyncTimeout(recordsAck),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) { l.lose(err) }))
	if err != nil {
		return fmt.Errorf("store records of webhook attempts: %w", err)
	}
	for msg := range l.records {
		l.bytes.Add(-int64(len(msg.Data)))
		if _, err := js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0), jetstream.WithStallWait(recordsAck)); err != nil {
			l.lose(err)
		}
	}
	<-js.PublishAsyncComplete() // each comes, or is given up, within recordsAck
	js.CleanupPublisher()
	return nil
}
