package server

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// webHandler answers GET /healthz (200 while commands are served, else 503) and GET
// /metrics in the Prometheus text format.
func (s *Server) webHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.serving() {
			w.WriteHeader(http.StatusServiceUnavailable)
			if s.writer.Stats().ReadOnly {
				fmt.Fprintln(w, "read-only: the log is full")
				return
			}
			fmt.Fprintln(w, "starting")
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics(), promhttp.HandlerOpts{}))
	return mux
}

func (s *Server) serving() bool {
	select {
	case <-s.ready:
		return s.writer.Stats().Serving
	default:
		return false
	}
}

// metrics are read from the parts' own counters when they are asked for.
func (s *Server) metrics() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	gauge := func(name, help string, value func() int64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "keyledger", Name: name, Help: help},
			func() float64 { return float64(value()) }))
	}
	counter := func(name, help string, value func() int64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "keyledger", Name: name, Help: help},
			func() float64 { return float64(value()) }))
	}
	counter("commits_total", "Commits acknowledged since the start.", func() int64 { return s.writer.Stats().Commits })
	counter("entries_total", "Commands committed since the start.", func() int64 { return s.writer.Stats().Entries })
	gauge("epoch", "The writer's epoch.", func() int64 { return s.writer.Stats().Epoch })
	gauge("accounts", "Accounts.", func() int64 { return s.writer.Stats().Accounts })
	gauge("keys", "Keys, revoked ones included.", func() int64 { return s.writer.Stats().Keys })
	gauge("receipts", "Command ids remembered.", func() int64 { return s.writer.Stats().Receipts })
	gauge("receipt_horizon_ms", "How far back an unknown command id is still taken, of the account where that is least.", func() int64 { return s.writer.Stats().HorizonMS })
	gauge("receipt_accounts_below_5m", "Accounts whose new command ids are refused.", func() int64 { return s.writer.Stats().BelowFloor })
	gauge("waiting", "Commands waiting for the writer.", func() int64 { return s.writer.Stats().Waiting })
	gauge("log_bytes", "Bytes the log holds.", func() int64 { return s.writer.Stats().LogBytes })
	gauge("log_bytes_max", "Bytes the log may hold, a reserve included.", func() int64 { return s.writer.Stats().LogBytesMax })
	gauge("volume_bytes_free", "Bytes free on the volume of the data directory.", func() int64 { return s.writer.Stats().VolumeBytesFree })
	gauge("access_cells", "Cells of the access log in memory: of this minute, and not stored yet.", func() int64 { return s.parts.access.Stats().Cells })
	counter("access_records_total", "Records of the access log stored since the start.", func() int64 { return s.parts.access.Stats().Records })
	counter("access_folded_total", "Refused and free requests counted without their key.", func() int64 { return s.parts.access.Stats().Folded })
	counter("access_dropped_total", "Refused and free requests that are in no record.", func() int64 { return s.parts.access.Stats().Dropped })
	gauge("log_sequence", "Last acknowledged commit.", func() int64 { return int64(s.tail.End().Sequence) })
	registry.MustRegister(s.parts.visible, lags{s}, hookStats{s}, s.parts.attempts.attempts, s.parts.attempts.duration, s.parts.attempts.sinceCommit)
	return registry
}
