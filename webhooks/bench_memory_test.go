package webhooks

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// endpointBytesMax is the most that an endpoint to which there is nothing to deliver takes.
const endpointBytesMax = 2 << 10

// BenchmarkIdleEndpoints measures what memory the dispatcher keeps for each of 100,000
// endpoints, 50 an account, that were registered and have had some deliveries; nothing of
// them is pending.
func BenchmarkIdleEndpoints(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(float64(idleEndpoints(b, 100_000)), "bytes/endpoint")
	}
	b.ReportMetric(0, "ns/op")
}

// An endpoint with nothing to do costs no more than it may.
func TestIdleEndpointIsSmall(t *testing.T) {
	if bytes := idleEndpoints(t, 5000); bytes > endpointBytesMax {
		t.Errorf("%d bytes an endpoint, at most %d", bytes, endpointBytesMax)
	} else {
		t.Logf("%d bytes an endpoint", bytes)
	}
}

// idleEndpoints is how many bytes of heap each of n endpoints takes.
func idleEndpoints(t testing.TB, n int) uint64 {
	t.Helper()
	d := New(Config{})
	d.restored, d.live = &checkpoint{}, true
	before := heapInUse()
	sealer := newSealer(t, 1)
	var c store.Commit
	fold := func(e events.Event) {
		c = store.Commit{Sequence: c.Sequence + 1, Ordinal: c.End(), Entries: []store.Entry{command(e)}}
		read, err := store.Decode(c.Encode(store.AppendEntry(nil, &c.Entries[0]))) // so that nothing is shared with the test
		if err == nil {
			err = d.fold(t.Context(), read)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		account := fmt.Sprintf("account_%d", i/50)
		id := fmt.Sprintf("endpoint_%026d", i)
		fold(about(&events.Endpoint{
			ID: id, Account: account, Environment: events.Test, URL: "https://hooks.example.com/" + account,
			Events: []string{"credit.*", "key.*"}, Description: "to the billing system", Headers: []string{}, Status: events.Active,
			Signing: events.SigningV1, CreatedAt: 1, SealedSecret: sealer.Seal(account, id, "secret", make([]byte, 32)),
		}, ""))
	}
	for i := range n / 50 {
		for j := range 3 {
			fold(debit(fmt.Sprintf("account_%d", i), events.Test, j))
		}
	}
	for _, l := range d.lanes {
		for l.firstReady(d.cfg.Clock()) {
			f := &flight{lane: l, delivery: l.takeFirst(), endpoint: l.endpoint, result: Result{Outcome: OutcomeDelivered}}
			d.conclude(f, d.cfg.Clock())
		}
		if l.pending() > 0 {
			t.Fatal("something is pending")
		}
	}
	for _, n := range []*line{&d.lines[lineFirst], &d.lines[lineAgain], &d.lines[lineUnsure], &d.lines[lineSilent], &d.refills, &d.tells} {
		for n.pop() != nil {
		}
	}
	after := heapInUse()
	runtime.KeepAlive(d)
	return (after - before) / uint64(n)
}

// heapInUse is how many bytes are in use.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
