package store_test

import (
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events/store"
)

// TestRecordBytes: what we count is what JetStream counts, at every number of digits.
func TestRecordBytes(t *testing.T) {
	js := startJetStream(t)
	log := openLog(t, js, 64<<20)
	var want int64
	for i := range uint64(120) {
		data := make([]byte, 1+37*i)
		want += store.RecordBytes(0, len(data), i)
		if _, err := log.Append(t.Context(), data, i); err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), store.StreamLog(0))
		if err != nil {
			t.Fatal(err)
		}
		if got := int64(stream.CachedInfo().State.Bytes); got != want {
			t.Fatalf("after %d messages JetStream counts %d bytes, we %d", i+1, got, want)
		}
	}
}

// TestLimitLog: the others share what the log leaves, and all keep to the budget.
func TestLimitLog(t *testing.T) {
	const budget = 1 << 30
	for _, bytes := range []int64{store.LogBytesMin, budget / 2, budget / 100 * 95} {
		configs := store.Streams(0, budget)
		if err := store.LimitLog(configs, budget, bytes); err != nil {
			t.Fatal(err)
		}
		var sum int64
		for _, c := range configs {
			sum += c.MaxBytes
		}
		if configs[0].MaxBytes != bytes || sum > budget || sum < budget/100*95 {
			t.Errorf("with a log of %d: it has %d, all %d of %d", bytes, configs[0].MaxBytes, sum, int64(budget))
		}
	}
	for _, bytes := range []int64{store.LogBytesMin - 1, budget} {
		if err := store.LimitLog(store.Streams(0, budget), budget, bytes); err == nil {
			t.Errorf("a log of %d bytes was taken", bytes)
		}
	}
}

// TestFitStreams: the limits of streams that exist follow, but that of the log never below
// what it holds.
func TestFitStreams(t *testing.T) {
	const budget = 60 << 20
	js := startJetStream(t)
	log := openLog(t, js, budget)
	fill(t, log, store.Chain{}, 3)
	for _, bytes := range []int64{50 << 20, 2 << 20, 40 << 20} {
		configs := store.Streams(0, budget)
		if err := store.LimitLog(configs, budget, bytes); err != nil {
			t.Fatal(err)
		}
		if err := store.FitStreams(t.Context(), js, configs); err != nil {
			t.Fatal(err)
		}
		for _, want := range configs {
			stream, err := js.Stream(t.Context(), want.Name)
			if err != nil {
				t.Fatal(err)
			}
			if got := stream.CachedInfo().Config.MaxBytes; got != want.MaxBytes {
				t.Errorf("%s has %d bytes, want %d", want.Name, got, want.MaxBytes)
			}
		}
	}
	if last, err := log.Last(t.Context()); err != nil || last != 3 {
		t.Errorf("the log ends at %d, %v", last, err)
	}
	for i := range uint64(5) {
		if _, err := log.Append(t.Context(), make([]byte, 250<<10), 3+i); err != nil {
			t.Fatal(err)
		}
	}
	configs := store.Streams(0, budget)
	if err := store.LimitLog(configs, budget, store.LogBytesMin); err != nil {
		t.Fatal(err)
	}
	if err := store.FitStreams(t.Context(), js, configs); err == nil || !strings.Contains(err.Error(), "it holds") {
		t.Errorf("a log cut below what it holds: %v", err)
	}
}
