package access

import (
	"context"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// A minute is stored once it and its grace are over, and not a millisecond before; what
// is answered later makes a second record.
func TestAMinuteIsStored(t *testing.T) {
	r := newRig(t)
	l := r.open()
	for range 1000 {
		l.Observe(refused("acme", 1, noon))
	}
	over := noon + minuteMS + events.Time(minuteGrace.Milliseconds())
	r.at(over - 1)
	l.store(t.Context())
	if got := r.stored(); len(got) != 0 {
		t.Errorf("stored too early: %+v", got)
	}
	r.at(over)
	l.store(t.Context())
	want := l.Stats()
	l.Observe(refused("acme", 1, noon+minuteMS-1))
	l.store(t.Context())
	got := r.stored()
	if len(got) != 2 || got[0].Count != 1000 || got[1].Count != 1 || got[0].Minute != got[1].Minute || got[1].LastAt != noon+minuteMS-1 {
		t.Errorf("stored %+v", got)
	}
	if want != (Stats{Records: 1}) || l.Stats() != (Stats{Records: 2}) {
		t.Errorf("stats %+v, then %+v", want, l.Stats())
	}
}

// More than one batch of records, in the order of their ids.
func TestAllOfAMinuteIsStored(t *testing.T) {
	r := newRig(t)
	l := r.open()
	const keys = 3*sendBatch + 1
	for i := range 3 * keys {
		l.Observe(refused("acme", i%keys, noon))
	}
	r.at(noon + 2*minuteMS)
	l.store(t.Context())
	got := r.stored()
	if len(got) != keys || total(got) != 3*keys || l.Stats() != (Stats{Records: keys}) {
		t.Errorf("%d records of %d requests, stats %+v", len(got), total(got), l.Stats())
	}
	if !slices.IsSortedFunc(got, func(a, b Record) int { return a.ID.Compare(b.ID) }) {
		t.Error("the ids are out of order")
	}
}

// While the stream is gone nothing is lost that fits; when it is there again each record
// is stored once.
func TestWithoutTheStream(t *testing.T) {
	r := newRig(t)
	l := r.open()
	if err := r.js.DeleteStream(t.Context(), store.StreamAccess); err != nil {
		t.Fatal(err)
	}
	const keys = 2*sendBatch + 10
	for i := range keys {
		l.Observe(refused("acme", i, noon))
	}
	r.at(noon + 2*minuteMS)
	l.store(t.Context())
	if l.Stats() != (Stats{Cells: keys}) {
		t.Errorf("stats %+v", l.Stats())
	}
	r.createStream()
	l.store(t.Context())
	if got := r.stored(); len(got) != keys || total(got) != keys || l.Stats() != (Stats{Records: keys}) {
		t.Errorf("%d records of %d requests, stats %+v", len(got), total(got), l.Stats())
	}
}

// A record that was stored without anybody hearing of it is sent again and not stored twice.
func TestStoredButNotAcknowledged(t *testing.T) {
	r := newRig(t)
	l := r.open()
	for i := range 10 {
		l.Observe(refused("acme", i, noon))
	}
	r.at(noon + 2*minuteMS)
	l.cells.finish(noon + minuteMS)
	for _, c := range l.cells.next(4) {
		ack, err := l.publish(&c.Record)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			t.Fatal(err)
		}
	}
	deaf, cancel := context.WithCancel(t.Context())
	cancel()
	l.send(deaf, l.cells.next(sendBatch)) // hears of some, perhaps
	l.store(t.Context())
	if got := r.stored(); len(got) != 10 || total(got) != 10 || l.Stats() != (Stats{Records: 10}) {
		t.Errorf("%d records of %d requests, stats %+v", len(got), total(got), l.Stats())
	}
}

// A stop stores the minute that is being counted.
func TestStopStoresWhatThereIs(t *testing.T) {
	r := newRig(t)
	l := r.open()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	for i := range 2000 {
		l.Observe(refused("acme", i%700, noon))
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := r.stored(); len(got) != 700 || total(got) != 2000 || l.Stats() != (Stats{Records: 700}) {
		t.Errorf("%d records of %d requests, stats %+v", len(got), total(got), l.Stats())
	}
}

// What cannot be stored at a stop is counted as dropped.
func TestStopWithoutTheStream(t *testing.T) {
	r := newRig(t)
	l := r.open()
	for i := range 2000 {
		l.Observe(refused("acme", i%700, noon))
	}
	if err := r.js.DeleteStream(t.Context(), store.StreamAccess); err != nil {
		t.Fatal(err)
	}
	l.stop()
	if l.Stats() != (Stats{Dropped: 2000}) {
		t.Errorf("stats %+v", l.Stats())
	}
}

// Without a connection nothing blocks.
func TestWithoutAConnection(t *testing.T) {
	r := newRig(t)
	l := r.open()
	l.Observe(refused("acme", 1, noon))
	r.conn.Close()
	r.at(noon + 2*minuteMS)
	l.store(t.Context())
	l.Observe(refused("acme", 2, noon+minuteMS))
	if l.Stats() != (Stats{Cells: 2}) {
		t.Errorf("stats %+v", l.Stats())
	}
}

// The free uses that the stream retains are told, each once, and no refusals.
func TestRetainedUsesAreTold(t *testing.T) {
	r := newRig(t)
	l := r.open()
	if err := l.readUses(t.Context()); err != nil || len(r.used) != 0 {
		t.Fatalf("of an empty stream %v, %v", r.used, err)
	}
	const keys = 2*usesBatch + 1
	for i := range keys {
		free := refused("acme", i, noon+events.Time(i))
		free.Code = events.OK
		l.Observe(free)
		l.Observe(refused("acme", i, noon+minuteMS-1))
	}
	l.stop()
	again := r.open()
	if err := again.tellRetained(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.used) != keys {
		t.Fatalf("%d uses, want %d", len(r.used), keys)
	}
	for i, got := range r.used {
		if want := (Use{"acme", keyID(i), noon + events.Time(i), "192.0.2.1", "payments"}); got != want {
			t.Fatalf("use %+v, want %+v", got, want)
		}
	}
}

// The stream knows a record by its id: what send relies on.
func TestTheStreamKnowsRecordsByTheirIDs(t *testing.T) {
	r := newRig(t)
	for i, want := range []bool{false, true} {
		ack, err := r.js.Publish(t.Context(), store.SubjectAccess+"acme.ok", []byte("{}"), jetstream.WithMsgID("1"))
		if err != nil || ack.Duplicate != want {
			t.Errorf("message %d: %+v, %v", i, ack, err)
		}
	}
}
