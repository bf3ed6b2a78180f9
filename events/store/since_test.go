package store_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
)

// The first message on the subjects asked for that was stored at a time or later is found, to
// the nanosecond.
func TestSince(t *testing.T) {
	js := startJetStream(t)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	scan := func() *store.Scan {
		s, err := store.NewScan(t.Context(), js, "S", "s.wanted.*")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	since := func(at time.Time) uint64 {
		t.Helper()
		first, err := scan().Since(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		return first
	}
	if got := since(time.Now().Add(-time.Hour)); got != math.MaxUint64 {
		t.Errorf("in an empty stream: %d", got)
	}
	for i := range 20 {
		if _, err := js.Publish(t.Context(), fmt.Sprintf("s.%s.%d", []string{"wanted", "other"}[i%2], i), nil); err != nil {
			t.Fatal(err)
		}
	}
	var last *store.Scanned
	err = scan().Window(t.Context(), 1, 21, func(m *store.Scanned) error {
		if got := since(m.Stored); got != m.Sequence {
			t.Errorf("since message %d: %d", m.Sequence, got)
		}
		if last != nil {
			if got := since(last.Stored.Add(1)); got != m.Sequence {
				t.Errorf("after message %d: %d, want %d", last.Sequence, got, m.Sequence)
			}
		}
		last = m
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := since(last.Stored.Add(1)); got != math.MaxUint64 {
		t.Errorf("after the last one, %d: %d", last.Sequence, got)
	}
	if got := since(time.Now().Add(-time.Hour)); got != 1 {
		t.Errorf("since before all: %d", got)
	}
}
