package webhooks

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
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
