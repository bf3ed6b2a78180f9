package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/webhooks"
)

// hookMetrics are what attempts to deliver to webhook endpoints add up to. No label is an
// account or an endpoint: those are in the records and lines of the attempts.
type hookMetrics struct {
	attempts    *prometheus.CounterVec // outcome, phase
	duration    prometheus.Histogram
	sinceCommit prometheus.Histogram
}

// answeredPhase is the label of attempts that had a whole answer, whatever its status.
const answeredPhase = "answered"

func newHookMetrics() *hookMetrics {
	m := &hookMetrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "keyledger", Name: "webhook_attempts_total",
			Help: "Attempts that ended: delivered, failed with another to come, or dead; and the phase in which they failed, answered with a whole answer.",
		}, []string{"outcome", "phase"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "keyledger", Name: "webhook_attempt_seconds",
			Help:    "How long attempts took, from resolving the name to the end of the answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30},
		}),
		sinceCommit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "keyledger", Name: "webhook_first_byte_seconds",
			Help:    "From a commit until its event's first byte could be sent to an endpoint: first attempts only.",
			Buckets: []float64{.001, .002, .003, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 300, 3600},
		}),
	}
	for _, outcome := range []string{"delivered", "failed", "dead"} { // all from the start, so that rates begin at 0
		m.attempts.WithLabelValues(outcome, answeredPhase)
	}
	for _, phase := range webhooks.Phases {
		m.attempts.WithLabelValues("failed", string(phase))
		m.attempts.WithLabelValues("dead", string(phase))
	}
	return m
}

// observe takes an attempt in.
func (m *hookMetrics) observe(a *webhooks.Attempt, sinceCommit time.Duration) {
	phase := a.Phase
	if phase == "" {
		phase = answeredPhase
	}
	m.attempts.WithLabelValues(a.Outcome, phase).Inc()
	m.duration.Observe(a.DurationMS.Total / 1000)
	if a.Attempt == 1 && a.Replay == "" {
		m.sinceCommit.Observe(sinceCommit.Seconds())
	}
}

// hookStats collects how the lanes of endpoints stand.
type hookStats struct{ s *Server }

// hookValue is one value of webhooks.Stats.
type hookValue struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*webhooks.Stats) float64
	by   []string // the label's value
}

var hookValues = func() []hookValue {
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("keyledger_webhook_"+name, help, labels, nil)
	}
	lanes := desc("lanes", "Endpoints by how they stand: all, behind (owed more than is in memory), held (back for a time), parked (only the oldest delivery is tried), failing (every attempt fails).", "state")
	slots := desc("slots_busy", "Attempts under way, by the slots they hold: first and later tries at endpoints that answer promptly, any at unsure and silent ones, and slow ones, which hold none.", "kind")
	settled := desc("deliveries_total", "Deliveries that were settled since the start: delivered or dead.", "outcome")
	refills := desc("refills_total", "Readings for endpoints that are behind: of the feed, of the log, or failed.", "source")
	return []hookValue{
		{lanes, gauge, func(s *webhooks.Stats) float64 { return float64(s.Lanes) }, []string{"all"}},
		{lanes, gauge, func(s *webhooks.Stats) float64 { return float64(s.Behind) }, []string{"behind"}},
		{lanes, gauge, func(s *webhooks.Stats) float64 { return float64(s.HeldBack) }, []string{"held"}},
		{lanes, gauge, func(s *webhooks.Stats) float64 { return float64(s.Parked) }, []string{"parked"}},
		{lanes, gauge, func(s *webhooks.Stats) float64 { return float64(s.Failing) }, []string{"failing"}},
		{slots, gauge, func(s *webhooks.Stats) float64 { return float64(s.Slots.First) }, []string{"first"}},
		{slots, gauge, func(s *webhooks.Stats) float64 { return float64(s.Slots.Later) }, []string{"later"}},
		{slots, gauge, func(s *webhooks.Stats) float64 { return float64(s.Slots.Unsure) }, []string{"unsure"}},
		{slots, gauge, func(s *webhooks.Stats) float64 { return float64(s.Slots.Silent) }, []string{"silent"}},
		{slots, gauge, func(s *webhooks.Stats) float64 { return float64(s.Slots.Slow) }, []string{"slow"}},
		{settled, counter, func(s *webhooks.Stats) float64 { return float64(s.Delivered) }, []string{"delivered"}},
		{settled, counter, func(s *webhooks.Stats) float64 { return float64(s.Dead) }, []string{"dead"}},
		{refills, counter, func(s *webhooks.Stats) float64 { return float64(s.Refills.Feed) }, []string{"feed"}},
		{refills, counter, func(s *webhooks.Stats) float64 { return float64(s.Refills.Log) }, []string{"log"}},
		{refills, counter, func(s *webhooks.Stats) float64 { return float64(s.Refills.Failed) }, []string{"failed"}},
		{desc("pending", "Deliveries that are owed and not settled."), gauge, func(s *webhooks.Stats) float64 { return float64(s.Pending) }, nil},
		{desc("open_retries", "Deliveries that wait for their next try."), gauge, func(s *webhooks.Stats) float64 { return float64(s.OpenRetries) }, nil},
		{desc("records_lost_total", "Records of attempts that could not be stored."), counter, func(s *webhooks.Stats) float64 { return float64(s.RecordsLost) }, nil},
		{desc("checkpoints_total", "Checkpoints of the lanes that were written."), counter, func(s *webhooks.Stats) float64 { return float64(s.Checkpoint.Written) }, nil},
		{desc("checkpoint_bytes", "Size of the last checkpoint."), gauge, func(s *webhooks.Stats) float64 { return float64(s.Checkpoint.Bytes) }, nil},
		{desc("checkpoint_seconds", "How long the last checkpoint took to write."), gauge, func(s *webhooks.Stats) float64 { return float64(s.Checkpoint.DurationMS) / 1000 }, nil},
		{desc("checkpoint_age_seconds", "Since the last checkpoint, while something has changed since: what a crash would repeat."), gauge, func(s *webhooks.Stats) float64 { return float64(s.Checkpoint.AgeMS) / 1000 }, nil},
	}
}()

// Describe implements prometheus.Collector.
func (hookStats) Describe(out chan<- *prometheus.Desc) {
	for i := range hookValues {
		out <- hookValues[i].desc
	}
}

// Collect implements prometheus.Collector.
func (h hookStats) Collect(out chan<- prometheus.Metric) {
	stats := h.s.parts.hooks.Stats()
	for i := range hookValues {
		v := &hookValues[i]
		out <- prometheus.MustNewConstMetric(v.desc, v.kind, v.of(&stats), v.by...)
	}
}
