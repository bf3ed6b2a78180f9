package server_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// limits are the byte limits of all streams, and what the server says of the log's.
func limits(t *testing.T, l *ledgertest.Ledger) (log, all int64) {
	t.Helper()
	js, err := jetstream.New(l.Connect())
	if err != nil {
		t.Fatal(err)
	}
	list := js.ListStreams(t.Context())
	for info := range list.Info() {
		all += info.Config.MaxBytes
		if info.Config.Name == "KEYLEDGER_LOG_0" {
			log = info.Config.MaxBytes
		}
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	reply, err := l.Query(t.Context(), "_", "ledger.status", nil)
	if err != nil {
		t.Fatal(err)
	}
	var status server.Status
	if err := reply.Decode(&status); err != nil {
		t.Fatal(err)
	}
	if w := status.Writer; w.LogBytesMax != log || w.LogBytes <= 0 || w.VolumeBytesFree <= 0 || w.StorageFull || w.ReadOnly {
		t.Errorf("the log's limit is %d, the status %+v", log, w)
	}
	return log, all
}

// The log's limit is set at a start, up and down, and the other streams share what it
// leaves, so that the sum stays what the volume allows. Without a limit given the log has
// its share at the least.
func TestLogLimit(t *testing.T) {
	var bytes int64
	l := ledgertest.Start(t, func(cfg *server.Config) { cfg.LogBytesMax = bytes })
	share, all := limits(t, l)
	for _, c := range []struct{ give, want int64 }{{share / 2, share / 2}, {0, share}, {share / 2 * 3, share / 2 * 3}, {0, share / 2 * 3}, {2 << 20, 2 << 20}} {
		l.Stop()
		bytes = c.give
		l.Start()
		log, sum := limits(t, l)
		if log != c.want {
			t.Errorf("given %d the log may have %d, want %d", c.give, log, c.want)
		}
		if sum > all+all/20 || sum < all/10*9 {
			t.Errorf("given %d all may have %d, at first they had %d", c.give, sum, all)
		}
	}
	l.Verify()
	l.Stop()
}
