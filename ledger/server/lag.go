package server

import "github.com/prometheus/client_golang/prometheus"

// newVisible makes the histogram of how long commits took from their acknowledgement until
// every view had them: one sample a commit.
func newVisible() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "keyledger", Name: "visible_seconds",
		Help:    "From the acknowledgement of a commit until the views have it.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .02, .05, .1, .15, .25, .5, 1, 2.5, 10},
	})
}

// lags collects how far behind the log each projection, the feed and the buckets are.
type lags struct{ s *Server }

var (
	lagEvents = prometheus.NewDesc("keyledger_projection_lag_events", "Acknowledged events that it does not have yet.", []string{"projection"}, nil)
	lagMS     = prometheus.NewDesc("keyledger_projection_lag_ms", "For how long the oldest of them has been waiting.", []string{"projection"}, nil)
	stopped   = prometheus.NewDesc("keyledger_projection_stopped", "1 while it does not go on.", []string{"projection"}, nil)
)

// Describe implements prometheus.Collector.
func (lags) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{lagEvents, lagMS, stopped} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (l lags) Collect(out chan<- prometheus.Metric) {
	for _, one := range l.s.followed() {
		failed := 0.0
		if one.Failure != "" {
			failed = 1
		}
		out <- prometheus.MustNewConstMetric(lagEvents, prometheus.GaugeValue, float64(one.LagEvents), one.Name)
		out <- prometheus.MustNewConstMetric(lagMS, prometheus.GaugeValue, float64(one.LagMS), one.Name)
		out <- prometheus.MustNewConstMetric(stopped, prometheus.GaugeValue, failed, one.Name)
	}
}
