package access

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// counted is requests by account, minute and code.
func (r *rig) counted(l *Log, account string, from, to events.Time) (map[string]int64, events.Time) {
	r.t.Helper()
	got := map[string]int64{}
	since, err := l.Count(r.t.Context(), account, from, to, func(record *Record) {
		got[fmt.Sprint(record.Account, " ", record.Minute, " ", record.Code)] += record.Count
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return got, since
}

// Each request is counted once, from the first minute that is asked for to the first that
// is not, whether its record is stored or held; "_" is all accounts, and nothing of nobody.
func TestCount(t *testing.T) {
	r, l := scene(t)
	for _, c := range []struct {
		account  string
		from, to events.Time
	}{
		{"acme", 0, noon + 99*minuteMS}, {"acme", noon + minuteMS, noon + 4*minuteMS}, {"acme", noon + minuteMS + 1, noon + 4*minuteMS + 1},
		{"beta", noon, noon + minuteMS}, {nobody, 0, noon + 99*minuteMS}, {"acme", noon + 5*minuteMS, noon + 99*minuteMS}, {"nobody", 0, noon + 99*minuteMS},
	} {
		want := map[string]int64{}
		for minute := range events.Time(5) {
			at := noon + minute*minuteMS
			if at < c.from || at >= c.to {
				continue
			}
			if c.account == "acme" || c.account == nobody {
				want[fmt.Sprint("acme ", at, " ip_not_allowed")] = 40
				want[fmt.Sprint("acme ", at, " ok")] = 40
			}
			if c.account == "beta" || c.account == nobody {
				want[fmt.Sprint("beta ", at, " ip_not_allowed")] = 7
			}
		}
		for range 2 { // what is being counted, and stored
			if got, since := r.counted(l, c.account, c.from, c.to); since != 0 || !maps.Equal(got, want) {
				t.Errorf("%s from %s to %s: %v since %s, want %v", c.account, c.from, c.to, got, since, want)
			}
			if batch := l.cells.next(11); len(batch) > 0 {
				l.send(t.Context(), batch)
			}
		}
	}
	l.stop()
	if got, _ := r.counted(l, "acme", 0, noon+99*minuteMS); len(got) != 10 {
		t.Errorf("stored: %v", got)
	}
	r.conn.Close()
	if _, err := l.Count(t.Context(), "acme", 0, noon, func(*Record) {}); err == nil {
		t.Error("without a connection it counts")
	}
}

// What is stored while it is counted is counted once.
func TestCountWhileStoring(t *testing.T) {
	_, l := scene(t)
	n, stored := int64(0), false
	_, err := l.Count(t.Context(), "acme", noon, noon+99*minuteMS, func(record *Record) {
		n += record.Count
		if !stored {
			stored = true
			l.stop()
		}
	})
	if err != nil || n != 5*80 || l.Stats().Cells != 0 {
		t.Errorf("%d requests, want %d; %+v, %v", n, 5*80, l.Stats(), err)
	}
}

// Only so many records are looked at, and from when on all were is told to the minute.
func TestCountLooksAtSoManyRecords(t *testing.T) {
	r, l := scene(t)
	l.stop()
	if l.count != countScan {
		t.Fatalf("it looks at %d", l.count)
	}
	for limit, want := range map[int]events.Time{300: 0, 299: noon + minuteMS, 241: noon + minuteMS, 240: noon + minuteMS, 239: noon + 2*minuteMS, 1: noon + 5*minuteMS} {
		l.count = limit
		got, since := r.counted(l, "acme", noon, noon+99*minuteMS)
		if since != want {
			t.Errorf("looking at %d: since %s, want %s", limit, since, want)
		}
		for minute := range events.Time(5) {
			if at := noon + minute*minuteMS; at >= since && (got[fmt.Sprint("acme ", at, " ok")] != 40 || got[fmt.Sprint("acme ", at, " ip_not_allowed")] != 40) {
				t.Errorf("looking at %d: since %s, and not all of %s: %v", limit, since, at, got)
			}
		}
	}
	l.count = 60 // of the newest minute all, and of the one before the one that tells
	if got, since := r.counted(l, "acme", noon+4*minuteMS, noon+99*minuteMS); since > noon+4*minuteMS || len(got) != 2 {
		t.Errorf("the last minute: %v since %s", got, since)
	}
}

// Where the time is half over, what was told by then is the answer.
func TestCountEndsInTime(t *testing.T) {
	_, l := scene(t)
	l.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	late, cancelLate := context.WithTimeout(t.Context(), 7*time.Second/2)
	defer cancelLate()
	told := 0
	since, err := l.Count(ctx, "acme", noon, noon+99*minuteMS, func(*Record) { told++; <-late.Done() })
	if err != nil || told != 1 || since != noon+5*minuteMS {
		t.Errorf("%d told since %s, %v", told, since, err)
	}
}

// What the stream dropped is told.
func TestCountOfWhatIsRetained(t *testing.T) {
	r, l := scene(t)
	l.stop()
	stream, err := r.js.Stream(t.Context(), store.StreamAccess)
	if err != nil {
		t.Fatal(err)
	}
	all, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	purge := func(sequence uint64) {
		t.Helper()
		if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(sequence)); err != nil {
			t.Fatal(err)
		}
	}
	purge(2) // one record of the first minute
	if _, since := r.counted(l, "acme", noon, noon+99*minuteMS); since != noon+minuteMS {
		t.Errorf("since %s, want %s", since, noon+minuteMS)
	}
	purge(all.State.LastSeq)
	if _, since := r.counted(l, "acme", noon, noon+99*minuteMS); since != noon+5*minuteMS {
		t.Errorf("since %s, want %s", since, noon+5*minuteMS)
	}
	purge(all.State.LastSeq + 1)
	r.at(noon + 100*minuteMS)
	if _, since := r.counted(l, "acme", noon, noon+99*minuteMS); since != noon+100*minuteMS-events.Time(store.AccessAge/time.Millisecond) {
		t.Errorf("of an empty stream: since %s", since)
	}
}

// BenchmarkCount is a query of an account with as many records as one looks at.
func BenchmarkCount(b *testing.B) {
	r := newRig(b)
	l := r.open()
	for i := range countScan {
		l.Observe(refused("acme", i, noon))
	}
	l.cells.finish(noon + minuteMS)
	for batch := l.cells.next(sendBatch); len(batch) > 0; batch = l.cells.next(sendBatch) {
		if !l.send(b.Context(), batch) {
			b.Fatal("not stored")
		}
	}
	for b.Loop() {
		n := 0
		if _, err := l.Count(b.Context(), "acme", 0, noon+minuteMS, func(*Record) { n++ }); err != nil || n != countScan {
			b.Fatal(n, err)
		}
	}
}
