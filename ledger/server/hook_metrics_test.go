package server

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/keyledger/keyledger/webhooks"
)

// scraped is what a handler of metrics answers.
func scraped(h http.Handler) string {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// TestHookMetricNames: dashboards and alerts rest on them. No label names an account or an
// endpoint, so their number does not grow with customers.
func TestHookMetricNames(t *testing.T) {
	s, _, stop := serveConfig(t, Config{DataDir: t.TempDir()})
	defer stop()
	line, label := regexp.MustCompile(`^(keyledger_webhook_[a-z_]+)(?:\{(.*)\})? `), regexp.MustCompile(`([a-z]+)="`)
	var got []string
	text := scraped(s.webHandler())
	for one := range strings.Lines(text) {
		m := line.FindStringSubmatch(one)
		if m == nil || strings.HasSuffix(m[1], "_bucket") || strings.HasSuffix(m[1], "_sum") {
			continue
		}
		name := strings.TrimSuffix(m[1], "_count")
		if !strings.Contains(text, "# HELP "+name+" ") {
			t.Errorf("%s has no help", name)
		}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			name += " " + l[1]
		}
		got = append(got, name)
	}
	want := []string{
		"keyledger_webhook_attempt_seconds", "keyledger_webhook_attempts_total outcome phase", "keyledger_webhook_checkpoint_age_seconds",
		"keyledger_webhook_checkpoint_bytes", "keyledger_webhook_checkpoint_seconds", "keyledger_webhook_checkpoints_total",
		"keyledger_webhook_deliveries_total outcome", "keyledger_webhook_first_byte_seconds", "keyledger_webhook_lanes state",
		"keyledger_webhook_open_retries", "keyledger_webhook_pending", "keyledger_webhook_records_lost_total",
		"keyledger_webhook_refills_total source", "keyledger_webhook_slots_busy kind",
	}
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("the metrics of webhooks are\n%q, want\n%q", got, want)
	}
}

// TestAttemptsAreCounted by outcome and phase; only first attempts of what was owed say how
// soon an event goes out.
func TestAttemptsAreCounted(t *testing.T) {
	m := newHookMetrics()
	for _, a := range []webhooks.Attempt{
		{Outcome: "delivered", Attempt: 1}, {Outcome: "failed", Attempt: 1, Phase: "tls"}, {Outcome: "failed", Attempt: 2},
		{Outcome: "delivered", Attempt: 1, Replay: "replay_1"}, {Outcome: "dead", Attempt: 10, Phase: "body"},
	} {
		m.observe(&a, 2*time.Millisecond)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.attempts, m.duration, m.sinceCommit)
	text := scraped(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	for _, want := range []string{
		"keyledger_webhook_attempt_seconds_count 5", "keyledger_webhook_first_byte_seconds_count 2",
		`keyledger_webhook_first_byte_seconds_bucket{le="0.001"} 0`, `keyledger_webhook_first_byte_seconds_bucket{le="0.002"} 2`,
		`keyledger_webhook_attempts_total{outcome="delivered",phase="answered"} 2`, `keyledger_webhook_attempts_total{outcome="failed",phase="tls"} 1`,
		`keyledger_webhook_attempts_total{outcome="failed",phase="answered"} 1`, `keyledger_webhook_attempts_total{outcome="dead",phase="body"} 1`,
		`keyledger_webhook_attempts_total{outcome="failed",phase="dns"} 0`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}
