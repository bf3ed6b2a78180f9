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
	dir := b.TempDir()
	a, err := Open(Config{Tail: h.again(), Dir: dir, Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	began := time.Now()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var measured atomic.Bool
	a.step = func(at string) error { // what level 0 takes is seen before the first merge ends
		a.mu.RLock()
		all := len(a.held) == fanSegments
		a.mu.RUnlock()
		if at == stepWritten && all && !measured.Swap(true) {
			b.ReportMetric(float64(size(b, dir, "0-"))/fanSegments/spanEvents, "B/event-at-first")
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
	b.ReportMetric(float64(size(b, dir, "1-"))/fanSegments/spanEvents, "B/event-merged")
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

// size is how many bytes the files have whose names begin with a prefix.
func size(b *testing.B, dir, prefix string) (n int) {
	for name, data := range files(b, dir) {
		if len(name) > len(prefix) && name[:len(prefix)] == prefix {
			n += len(data)
		}
	}
	return n
}
