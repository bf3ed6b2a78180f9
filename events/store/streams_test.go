package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
)

// TestStreams: every stream has a limit, together they keep to the budget, the log never
// discards, and no derived stream costs an fsync.
func TestStreams(t *testing.T) {
	const budget = 10 << 30
	var sum int64
	for _, c := range store.Streams(7, budget) {
		sum += c.MaxBytes
		log := c.Name == "KEYLEDGER_LOG_7"
		synced := log || c.Name == "KEYLEDGER_LANES_7" || c.Name == "KEYLEDGER_CHECKPOINTS_7"
		if c.MaxBytes <= 0 || c.Storage != jetstream.FileStorage {
			t.Errorf("%s has %d bytes in %s storage", c.Name, c.MaxBytes, c.Storage)
		}
		if log != (c.DenyPurge && c.DenyDelete && c.Discard == jetstream.DiscardNew && c.MaxAge == 0) {
			t.Errorf("%s: only the log keeps everything: %+v", c.Name, c)
		}
		if synced == (c.PersistMode == jetstream.AsyncPersistMode) {
			t.Errorf("%s has persist mode %v", c.Name, c.PersistMode)
		}
	}
	if sum > budget || sum < budget*9/10 {
		t.Errorf("the streams take %d of %d bytes", sum, int64(budget))
	}
}

// TestAccessLogIsCapped: it takes a share of a small volume, and of a large one no more
// than its limit.
func TestAccessLogIsCapped(t *testing.T) {
	const edge = store.AccessBytesMax / 2 * 100 // of which 2 % are the limit
	for budget, want := range map[int64]int64{edge - 100: store.AccessBytesMax - 2, edge: store.AccessBytesMax, edge + 100: store.AccessBytesMax} {
		configs := store.Streams(0, budget)
		limited := store.Streams(0, budget)
		if err := store.LimitLog(limited, budget, store.LogBytesMin); err != nil {
			t.Fatal(err)
		}
		for i, c := range configs {
			if c.Name != store.StreamAccess {
				continue
			}
			if got := limited[i].MaxBytes; got != store.AccessBytesMax {
				t.Errorf("of %d bytes beside a small log: %d", budget, got)
			}
			if c.MaxBytes != want || c.MaxAge != 7*24*time.Hour || c.Discard != jetstream.DiscardOld {
				t.Errorf("of %d bytes: %+v, want %d", budget, c, want)
			}
		}
	}
}

// TestCheckpointsAreCapped: likewise, with 1 %.
func TestCheckpointsAreCapped(t *testing.T) {
	const edge = store.CheckpointsBytesMax * 100
	for budget, want := range map[int64]int64{edge - 100: store.CheckpointsBytesMax - 1, edge: store.CheckpointsBytesMax, edge + 100: store.CheckpointsBytesMax} {
		limited := store.Streams(0, budget)
		if err := store.LimitLog(limited, budget, store.LogBytesMin); err != nil {
			t.Fatal(err)
		}
		for i, c := range store.Streams(0, budget) {
			if c.Name != store.StreamCheckpoints(0) {
				continue
			}
			if c.MaxBytes != want || limited[i].MaxBytes != store.CheckpointsBytesMax || c.Discard != jetstream.DiscardOld || c.MaxAge != 0 {
				t.Errorf("of %d bytes: %+v, want %d; beside a small log %d", budget, c, want, limited[i].MaxBytes)
			}
		}
	}
}

// TestCreateStreamsTwice: the second time changes nothing, also not what an operator
// changed.
func TestCreateStreamsTwice(t *testing.T) {
	js := startJetStream(t)
	configs := store.Streams(0, 64<<20)
	if err := store.CreateStreams(t.Context(), js, configs); err != nil {
		t.Fatal(err)
	}
	fill(t, openLog(t, js, 64<<20), store.Chain{}, 3)
	operators := configs[0]
	operators.MaxBytes *= 2
	if _, err := js.UpdateStream(t.Context(), operators); err != nil {
		t.Fatal(err)
	}
	if err := store.CreateStreams(t.Context(), js, configs); err != nil {
		t.Fatalf("the second time: %v", err)
	}
	for _, want := range configs {
		stream, err := js.Stream(t.Context(), want.Name)
		if err != nil {
			t.Fatal(err)
		}
		info := stream.CachedInfo()
		if info.Config.PersistMode != want.PersistMode || info.Config.Discard != want.Discard {
			t.Errorf("%s was made as %+v", want.Name, info.Config)
		}
		if want.Name == operators.Name && (info.Config.MaxBytes != operators.MaxBytes || info.State.LastSeq != 3) {
			t.Errorf("the log has %d bytes and %d messages; want %d and 3", info.Config.MaxBytes, info.State.LastSeq, operators.MaxBytes)
		}
	}
}

// TestBucketsAreBuckets: the streams made by hand are what the key-value API opens.
func TestBucketsAreBuckets(t *testing.T) {
	js := startJetStream(t)
	openLog(t, js, 64<<20)
	for _, name := range []string{store.BucketKeys, store.BucketBalances} {
		bucket, err := js.KeyValue(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{"old", "new"} {
			if _, err := bucket.PutString(t.Context(), "acme.test.credits", value); err != nil {
				t.Fatal(err)
			}
		}
		if entry, err := bucket.Get(t.Context(), "acme.test.credits"); err != nil || string(entry.Value()) != "new" {
			t.Errorf("%s holds %v, %v", name, entry, err)
		}
		if history, err := bucket.History(t.Context(), "acme.test.credits"); err != nil || len(history) != 1 {
			t.Errorf("%s keeps %d values, %v", name, len(history), err)
		}
	}
}

// TestUnsafeLogsAreRefused: a log that could lose or change what it holds is not used.
func TestUnsafeLogsAreRefused(t *testing.T) {
	tests := []struct {
		name   string
		change func(*jetstream.StreamConfig)
		want   string
	}{
		{"deletes", func(c *jetstream.StreamConfig) { c.DenyDelete = false }, "deleted or purged"},
		{"purges", func(c *jetstream.StreamConfig) { c.DenyPurge = false }, "deleted or purged"},
		{"async", func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }, "not written durably"},
		{"memory", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "not written durably"},
		{"discards old", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discards old messages"},
		{"ages", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "discards old messages"},
		{"counts", func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 }, "discards old messages"},
		{"counts per subject", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 10 }, "discards old messages"},
		{"message TTLs", func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }, "discards old messages"},
		{"work queue", func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, "discards old messages"},
	}
	js := startJetStream(t)
	for i, test := range tests {
		configs := store.Streams(uint32(i), 64<<20)[:1]
		unsafe := configs[0]
		test.change(&unsafe)
		if _, err := js.CreateStream(t.Context(), unsafe); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		err := store.CreateStreams(t.Context(), js, configs)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), unsafe.Name) {
			t.Errorf("%s: %v; want %s named and %q", test.name, err, unsafe.Name, test.want)
		}
	}
}
