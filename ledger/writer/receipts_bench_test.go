package writer

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// stream adds receipts at 60,000 a second, spread over accounts.
type stream struct {
	r     *receipts
	names []string
	n     uint64
}

func newStream(accounts, limit int) *stream {
	s := &stream{r: newReceipts(limit), names: make([]string, accounts)}
	for i := range s.names {
		s.names[i] = fmt.Sprintf("account-%07d", i)
	}
	return s
}

// add looks an unknown id up and adds it, and says whether it really was unknown.
func (s *stream) add(e *store.Entry) bool {
	at := events.At(start) + events.Time(s.n/60)
	scattered := s.n * 0x9e3779b97f4a7c15
	e.Account, e.CommandID = s.names[scattered>>20%uint64(len(s.names))], idAt(at, scattered)
	_, known := s.r.find(e.Account, e.CommandID)
	s.r.add(e, at, s.n/64, int(s.n%64))
	if s.n++; s.n%64 == 0 {
		s.r.forgetOld(at)
	}
	return !known
}

// BenchmarkReceipt looks an unknown id up and adds it while there are a million: full,
// where each addition also forgets one, and with room, where each makes the store larger.
func BenchmarkReceipt(b *testing.B) {
	const live = 1_000_000
	for _, row := range []struct {
		name            string
		accounts, limit int
	}{
		{"full/accounts=1", 1, live},
		{"full/accounts=1000", 1000, live},
		{"full/accounts=1000000", 1_000_000, live},
		{"room/accounts=1000", 1000, 100 * live},
	} {
		b.Run(row.name, func(b *testing.B) {
			s, e := newStream(row.accounts, row.limit), new(store.Entry)
			for range live {
				s.add(e)
			}
			b.ReportAllocs()
			for b.Loop() {
				if !s.add(e) {
					b.Fatal("a new id was known")
				}
			}
		})
	}
}

// BenchmarkReceiptsGrow fills a store up and says what a receipt takes and how long the
// longest addition took.
func BenchmarkReceiptsGrow(b *testing.B) {
	for _, n := range []int{1_000_000, 10_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				bytes, longest := grow(n)
				b.ReportMetric(bytes, "bytes/receipt")
				b.ReportMetric(float64(longest.Microseconds()), "max-us")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/receipt")
			}
		})
	}
}

// grow adds n receipts of 1,000 accounts to an empty store and returns the memory that one
// takes, and how long the longest addition took.
func grow(n int) (bytes float64, longest time.Duration) {
	s, e := newStream(1000, n), new(store.Entry)
	before := liveHeap()
	for range n {
		began := time.Now()
		s.add(e)
		longest = max(longest, time.Since(began))
	}
	bytes = float64(liveHeap()-before) / float64(n)
	runtime.KeepAlive(s)
	return bytes, longest
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What is said of the memory of a receipt is true within a tenth.
func TestReceiptBytes(t *testing.T) {
	bytes, _ := grow(1_000_000)
	t.Logf("%.1f bytes a receipt", bytes)
	if bytes < 0.9*ReceiptBytes || bytes > 1.1*ReceiptBytes {
		t.Errorf("a receipt takes %.1f bytes, ReceiptBytes says %d", bytes, ReceiptBytes)
	}
}
