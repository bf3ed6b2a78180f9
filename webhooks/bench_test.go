package webhooks

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// BenchmarkDeliveries measures deliveries to receivers on loopback over plain HTTP that
// answer at once, from a log with SyncAlways in the same process: b.N events of about
// 600 bytes, in commits of 100, to each of the endpoints in turn by their own account,
// or all to one. With checkpoints every second, and attempts recorded.
func BenchmarkDeliveries(b *testing.B) {
	for _, receivers := range []int{1, 100} {
		for _, slots := range []int{64, 256} {
			b.Run(fmt.Sprintf("receivers=%d/slots=%d", receivers, slots), func(b *testing.B) { benchmark(b, receivers, slots) })
		}
	}
}

// BenchmarkStart measures a start until deliveries are made, with a million events in
// commits of 500 in the log, of 1,000 accounts with an endpoint each, all of them settled:
// from a saved directory that is 100,000 events behind the end, and from the whole log.
func BenchmarkStart(b *testing.B) {
	const accounts, commits, size, tail = 1000, 2000, 500, 200
	r := newRig(b)
	r.holdFeed = true
	for i := range accounts {
		e := r.endpoint(fmt.Sprintf("endpoint_%d", i), "https://example.com", make([]byte, 32))
		e.Account = fmt.Sprintf("account_%d", i)
		r.commit(opened(e.Account), about(e, ""))
	}
	fill := func(commits int) {
		for i := range commits {
			list := debits(size)
			for j := range list {
				list[j].Account = fmt.Sprintf("account_%d", (i*size+j)%accounts)
			}
			r.commit(list...)
		}
	}
	// settle stores a checkpoint that calls all settled, for nothing answers here.
	settle := func() {
		c := &checkpoint{Sequence: r.chain.Sequence, Hash: r.chain.Hash, Feed: r.chain.Ordinal}
		if _, err := r.js.Publish(b.Context(), store.SubjectLanes(0), c.encode(checkpointBytesMax)); err != nil {
			b.Fatal(err)
		}
	}
	discard := func(c *Config) { c.Logger = slog.New(slog.DiscardHandler) }
	start := func(dir string) *run {
		return r.start(discard, seldom, func(c *Config) {
			c.Dir, c.Tail = dir, store.NewTail(r.log, 0)
			c.Tail.Reset(r.chain)
		})
	}
	fill(commits - tail)
	settle()
	if err := start(r.dir).end(); err != nil {
		b.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(r.dir, store.FileDirectory(0)))
	if err != nil {
		b.Fatal(err)
	}
	fill(tail)
	settle()
	for name, content := range map[string][]byte{"saved": file, "whole": nil} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				dir := b.TempDir()
				if content != nil {
					if err := os.WriteFile(filepath.Join(dir, store.FileDirectory(0)), content, 0o600); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				d := start(dir)
				b.StopTimer()
				if err := d.end(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(len(content)), "file-bytes")
		})
	}
}

// cpuTime is what this process has used: it says more than the clock where others run too.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCatchUp measures how fast an endpoint gets what it is owed from the feed: b.N
// events, each behind 20 of other accounts, that stood there before the dispatcher started.
func BenchmarkCatchUp(b *testing.B) {
	const others, size = 20, 500
	r := newRig(b)
	var got atomic.Int64
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		if got.Add(1) == int64(b.N) {
			close(done)
		}
	}))
	b.Cleanup(server.Close)
	r.commit(opened("acme"), about(r.endpoint("endpoint_1", server.URL, make([]byte, 32)), ""))
	var list []events.Event
	for i := range b.N * (others + 1) {
		e := debit("acme", events.Test, i)
		if i%(others+1) < others {
			e.Account = fmt.Sprintf("account_%d", i%1000)
		}
		if list = append(list, e); len(list) == size || i == b.N*(others+1)-1 {
			r.commit(list...)
			list = nil
		}
	}
	d := r.start(func(c *Config) {
		c.FirstSlots, c.Logger = DefaultFirstSlots, slog.New(slog.DiscardHandler)
	})
	begin, used := got.Load(), cpuTime(b)
	b.ResetTimer()
	<-done
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-used).Microseconds())/float64(int64(b.N)-begin), "cpu-µs/delivery")
	b.ReportMetric(float64(int64(b.N)-begin)/b.Elapsed().Seconds(), "deliveries/s")
	d.idle()
	b.ReportMetric(0, "ns/op")
}

func benchmark(b *testing.B, receivers, slots int) {
	r := newRig(b)
	var got atomic.Int64
	done := make(chan struct{})
	want := int64(b.N)
	var key [32]byte
	for i := range receivers {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			if got.Add(1) == want {
				close(done)
			}
		}))
		b.Cleanup(server.Close)
		account := fmt.Sprintf("account_%d", i)
		e := r.endpoint(fmt.Sprintf("endpoint_%d", i), server.URL, key[:])
		e.Account, e.SealedSecret = account, r.sealer.Seal(account, e.ID, "secret", key[:])
		r.commit(opened(account), about(e, ""))
	}
	d := r.start(func(c *Config) {
		c.FirstSlots, c.RetrySlots, c.Logger = slots, DefaultRetrySlots, slog.New(slog.DiscardHandler)
	})
	b.ResetTimer()
	for i := 0; i < b.N; {
		list := debits(min(100, b.N-i))
		for j := range list {
			list[j].Account = fmt.Sprintf("account_%d", (i+j)%receivers)
		}
		i += len(list)
		r.commit(list...)
	}
	<-done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
	d.idle()
	b.ReportMetric(0, "ns/op")
}
