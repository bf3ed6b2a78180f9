package load

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Series is the runs of one kind, and their medians.
type Series struct {
	Rates      []float64 `json:"rates_per_second"`
	Rate       float64   `json:"rate_per_second"`
	P50Micros  float64   `json:"p50_us"`
	P99Micros  float64   `json:"p99_us"`
	P999Micros float64   `json:"p999_us"`

	p50, p99, p999 []float64
}

// Run makes one run and adds it. b, where given, counts what was acknowledged. A run
// with a refused or lost command is an error: what it measured would be something else.
func (s *Series) Run(ctx context.Context, conns []*nats.Conn, j *Job, b *Books) error {
	o, err := Run(ctx, conns, j)
	if err != nil {
		return err
	}
	if b != nil {
		b.Add(o)
	}
	if len(o.Refused) > 0 || o.Lost > 0 {
		return fmt.Errorf("%d messages lost, refused: %s", o.Lost, counts(o.Refused))
	}
	s.Add(o, j.Measure)
	return nil
}

// Add adds what was measured over a time.
func (s *Series) Add(o *Outcome, over time.Duration) {
	s.Rates = append(s.Rates, float64(o.Replies)/over.Seconds())
	s.Rate = Median(s.Rates)
	for _, q := range []struct {
		quantile float64
		runs     *[]float64
		median   *float64
	}{
		{50, &s.p50, &s.P50Micros}, {99, &s.p99, &s.P99Micros}, {99.9, &s.p999, &s.P999Micros},
	} {
		*q.runs = append(*q.runs, float64(o.Latency.ValueAtQuantile(q.quantile))/1000)
		*q.median = Median(*q.runs)
	}
}

// Span is the slowest and the fastest run's rate, for people.
func (s *Series) Span() string {
	if len(s.Rates) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f–%.0f", slices.Min(s.Rates), slices.Max(s.Rates))
}

// counts lists how often each code came.
func counts(refused map[string]int64) string {
	if len(refused) == 0 {
		return "none"
	}
	var list []string
	for _, code := range slices.Sorted(maps.Keys(refused)) {
		list = append(list, fmt.Sprintf("%d× %s", refused[code], code))
	}
	return strings.Join(list, ", ")
}

// Median of none is 0, of an even number the mean of the two in the middle.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
