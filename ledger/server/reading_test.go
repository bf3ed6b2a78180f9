package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
)

// What crosses the wall between the NATS accounts, as the operator uses it.

func TestOperatorReadsStreams(t *testing.T) {
	r := newRig(t, nil)
	r.ledgerStreams()
	_, own := r.store()
	ctx := t.Context()
	c := r.client()
	const n = 3000 // several pull requests of nats.go
	for i := 2; i <= n; i++ {
		if _, err := own.PublishAsync(store.SubjectFeed(0)+"acme.test.key.updated.key_1", fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
		if i <= 50 {
			if _, err := own.Publish(ctx, store.SubjectLog(0), fmt.Appendf(nil, "%d", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	select {
	case <-own.PublishAsyncComplete():
	case <-time.After(patience):
		t.Fatal("messages not stored")
	}
	for name, want := range map[string]uint64{store.StreamLog(0): 50, store.StreamFeed(0): n} {
		s, err := c.js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.CachedInfo().State.LastSeq; got != want {
			t.Errorf("%s: last sequence %d, want %d", name, got, want)
		}
		m, err := s.GetMsg(ctx, 7)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) != "7" {
			t.Errorf("%s: message 7 is %q", name, m.Data)
		}
		readAll(t, s, want)
		batch(t, c, name, 40)
	}
	if _, err := c.js.AccountInfo(ctx); err != nil {
		t.Errorf("account info: %v", err)
	}
	names := c.js.StreamNames(ctx)
	count := 0
	for range names.Name() {
		count++
	}
	if names.Err() != nil || count != 9 {
		t.Errorf("stream names: %d, %v; want 9", count, names.Err())
	}
	durable(t, c)
}

// readAll reads a stream with an ordered consumer, from the first message to the last.
func readAll(t *testing.T, s jetstream.Stream, last uint64) {
	t.Helper()
	oc, err := s.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	it, err := oc.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer it.Stop()
	for want := uint64(1); want <= last; want++ {
		m, err := it.Next(jetstream.NextMaxWait(patience))
		if err != nil {
			t.Fatalf("message %d: %v", want, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if meta.Sequence.Stream != want {
			t.Fatalf("got message %d, want %d", meta.Sequence.Stream, want)
		}
	}
}

// batch reads several messages with one direct request (ADR-31).
func batch(t *testing.T, c *client, stream string, n int) {
	t.Helper()
	inbox := c.NewInbox()
	sub, err := c.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, fmt.Appendf(nil, `{"seq":1,"batch":%d}`, n)); err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= n; i++ {
		m, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatalf("message %d of a batch: %v", i, err)
		}
		if got := m.Header.Get("Nats-Sequence"); got != fmt.Sprint(i) {
			t.Fatalf("got message %s of a batch, want %d", got, i)
		}
	}
	if m, err := sub.NextMsg(patience); err != nil || m.Header.Get("Status") != "204" {
		t.Errorf("end of a batch: %v, %v", m, err)
	}
}

// durable goes through the life of a consumer with acknowledgements.
func durable(t *testing.T, c *client) {
	t.Helper()
	ctx := t.Context()
	cons, err := c.js.CreateOrUpdateConsumer(ctx, store.StreamFeed(0), jetstream.ConsumerConfig{
		Durable: "mine", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "keyledger.events.*.acme.>",
	})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := cons.Fetch(10, jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for m := range batch.Messages() {
		count++
		if err := m.DoubleAck(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if batch.Error() != nil || count != 10 {
		t.Fatalf("fetched %d messages, %v; want 10", count, batch.Error())
	}
	info, err := cons.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if info.AckFloor.Stream != 10 {
		t.Errorf("acknowledged up to %d, want 10", info.AckFloor.Stream)
	}
	if err := c.js.DeleteConsumer(ctx, store.StreamFeed(0), "mine"); err != nil {
		t.Error(err)
	}
}

func TestOperatorWatchesViews(t *testing.T) {
	r := newRig(t, nil)
	r.ledgerStreams()
	_, own := r.store()
	ctx := t.Context()
	keys, err := own.KeyValue(ctx, store.BucketKeys)
	if err != nil {
		t.Fatal(err)
	}
	// Enough bytes that the server stops until the client's flow control answers.
	const n = 300
	value := make([]byte, 8<<10)
	for i := range n {
		if _, err := keys.Put(ctx, fmt.Sprintf("acme.test.key_%d", i), value); err != nil {
			t.Fatal(err)
		}
	}
	view, err := r.client().js.KeyValue(ctx, store.BucketKeys)
	if err != nil {
		t.Fatal(err)
	}
	got, err := view.Get(ctx, "acme.test.key_7")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Value()) != len(value) {
		t.Errorf("got %d bytes, want %d", len(got.Value()), len(value))
	}
	if _, err := view.Put(ctx, "acme.test.key_7", nil); err == nil {
		t.Error("the operator changed a view")
	}
	w, err := view.WatchAll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if next(t, w) == nil {
			t.Fatalf("the watch ended its first part after %d of %d keys", i, n)
		}
	}
	if next(t, w) != nil {
		t.Error("no mark after the first part of the watch")
	}
	if _, err := keys.Put(ctx, "acme.test.late", value); err != nil {
		t.Fatal(err)
	}
	if e := next(t, w); e == nil || e.Key() != "acme.test.late" {
		t.Errorf("got %v, want the late key", e)
	}
	if err := w.Stop(); err != nil {
		t.Error(err)
	}
}

func next(t *testing.T, w jetstream.KeyWatcher) jetstream.KeyValueEntry {
	t.Helper()
	select {
	case e := <-w.Updates():
		return e
	case <-time.After(patience):
		t.Fatal("the watch stands still")
		return nil
	}
}

func TestOperatorHearsTheFeedLive(t *testing.T) {
	r := newRig(t, nil)
	r.ledgerStreams()
	_, own := r.store()
	c := r.client()
	sub, err := c.SubscribeSync("keyledger.events.*.acme.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	subject := store.SubjectFeed(0) + "acme.test.key.created.key_2"
	if _, err := own.Publish(t.Context(), subject, []byte("live")); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != subject || string(m.Data) != "live" {
		t.Errorf("got %s %q", m.Subject, m.Data)
	}
	// The reply subject is the relay's own inbox, for the acknowledgement of its append.
	if m.Reply != "" {
		if err := c.Publish(m.Reply, []byte("forged")); err != nil {
			t.Fatal(err)
		}
		c.violation(t, "publish", m.Reply)
	}
}
