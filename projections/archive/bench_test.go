package archive

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// BenchmarkArchive makes an archive of 16 spans of debits, 1,000 a commit, and looks up
// histories in it. The log is in memory; reading and decoding it is counted. It tells the
// bytes on disk an event takes, at level 0 and merged, and what a page of a history costs.
func BenchmarkArchive(b *testing.B) {
	for _, accounts := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprint("accounts=", accounts), func(b *testing.B) {
			h := newBench(b)
			list := make([]events.Event, 1000)
			for h.chain.Ordinal < fanSegments*spanEvents {
				for i := range list {
					list[i] = debit(fmt.Sprint("account-", h.random.IntN(accounts)), usual, 1)
				}
				h.push(list...)
			}
			for b.Loop() {
				h.archiveAll(b)
			}
		})
	}
}

// archiveAll makes an archive of the whole log, merges it and looks things up.
func (h *bench) archiveAll(b *testing.B) {
	a, err := Open(Config{Tail: h.again(), Dir: b.TempDir(), Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	began := time.Now()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var measured atomic.Bool
	a.step = func(at string) error { // what level 0 takes is seen before the first merge ends
		if n := a.bytes(0, fanSegments); at == stepWritten && n > 0 && !measured.Swap(true) {
			b.ReportMetric(n/fanSegments/spanEvents, "B/event-at-first")
		}
		return nil
	}
	go func() { done <- a.Run(ctx) }()
	if err := a.Wait(ctx, h.chain.Sequence); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(h.chain.Ordinal)/time.Since(began).Seconds(), "events/s")
	began = time.Now()
	h.reach(a)
	b.ReportMetric(time.Since(began).Seconds(), "s-merging")
	b.ReportMetric(a.bytes(1, 1)/fanSegments/spanEvents, "B/event-merged")
	const pages = 200
	began = time.Now()
	for i := range pages {
		n := 0
		for _, err := range a.History(ctx, fmt.Sprint("account-", i), Filter{Newest: true}) {
			if err != nil {
				b.Fatal(err)
			}
			if n++; n == 50 {
				break
			}
		}
	}
	b.ReportMetric(float64(time.Since(began).Microseconds())/pages, "µs/page")
	stop()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// bytes is how many the first n segments have on the disk, where those are of a level, else 0.
func (a *Archive) bytes(level uint32, n int) (sum float64) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if len(a.held) < n || a.held[n-1].Level != level {
		return 0
	}
	for _, s := range a.held[:n] {
		sum += float64(s.Index) + float64(s.pages()*pageBytes)
	}
	return sum
}
