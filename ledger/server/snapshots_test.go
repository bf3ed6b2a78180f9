package server

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	ledgerclient "github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/writer"
)

// snapper runs a server that makes a snapshot as often as it can.
func snapper(t *testing.T, dir string, lines *logLines) (*Server, *ledgerclient.Client, func()) {
	t.Helper()
	return serveConfig(t, Config{
		DataDir: dir, Logger: slog.New(slog.NewTextHandler(lines, nil)), SnapshotEvery: 1, SnapshotPause: time.Nanosecond,
	})
}

// snapshotFrom waits until status shows a snapshot that begins at a sequence or after it.
func snapshotFrom(t *testing.T, s *Server, c *ledgerclient.Client, sequence uint64) *writer.SnapshotStats {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		// A question to the writer, so that this waits for it and not for the clock.
		if _, err := c.Authorize(t.Context(), &ledger.Authorize{Secret: "kl_test_unknown", Product: "payments"}); err != nil {
			t.Fatal(err)
		}
		if shown := s.writer.Stats().Snapshot; shown != nil {
			if at, err := events.ParsePosition(shown.Position); err == nil && at.Sequence >= sequence {
				return shown
			}
		}
	}
	t.Fatalf("no snapshot within %s: %+v", patience, s.writer.Stats())
	return nil
}

// A start takes the state from a snapshot and the log after it; one that lost a chunk is
// passed over with a warning, and the answers are the same.
func TestServeFromASnapshot(t *testing.T) {
	dir, ctx, lines := t.TempDir(), t.Context(), new(logLines)
	s, c, stop := snapper(t, dir, lines)
	if _, err := c.OpenAccount(ctx, "acme", ledger.OpenAccount{Name: "Acme"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Grant(ctx, "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 250}); err != nil {
		t.Fatal(err)
	}
	key, err := c.CreateKey(ctx, "acme", ledger.CreateKey{Environment: events.Test, Name: "backend"})
	if err != nil {
		t.Fatal(err)
	}
	snapshotFrom(t, s, c, s.tail.End().Sequence)
	stop()
	read := func(want int64) {
		t.Helper()
		answer, err := c.Authorize(ctx, &ledger.Authorize{Secret: key.Secret, Product: "payments"})
		if err != nil || answer.Code != events.OK || *answer.Balance != want {
			t.Errorf("answer %+v, %v; want %d left", answer, err, want)
		}
	}
	s, c, stop = snapper(t, dir, lines)
	if text := lines.String(); !strings.Contains(text, "read a snapshot") || strings.Contains(text, "skip a snapshot") ||
		!strings.Contains(text, "webhooks go on from the saved directory") {
		t.Errorf("logged %s", text)
	}
	read(150)
	snapshotFrom(t, s, c, s.tail.End().Sequence)
	stream, err := s.js.Stream(ctx, "OBJ_"+store.BucketSnapshots)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject("$O."+store.BucketSnapshots+".C.>")); err != nil {
		t.Fatal(err)
	}
	stop()
	_, c, stop = snapper(t, dir, lines)
	defer stop()
	if text := lines.String(); !strings.Contains(text, "skip a snapshot") {
		t.Errorf("logged %s", text)
	}
	read(50)
}

// A ledger that was made before there was a snapshot bucket or an access log, when the
// feed had their shares, gets both all the same.
func TestOlderLedgersGetRoom(t *testing.T) {
	for _, without := range [][]string{{"OBJ_" + store.BucketSnapshots}, {store.StreamAccess}, {"OBJ_" + store.BucketSnapshots, store.StreamAccess}} {
		_, js := newRig(t, nil).store()
		budget, err := storeBytesMax(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		streams := store.Streams(partition, budget)
		var older []jetstream.StreamConfig
		feed, spare := 0, int64(0)
		for _, c := range streams {
			if slices.Contains(without, c.Name) {
				spare += c.MaxBytes
				continue
			}
			if c.Name == store.StreamFeed(partition) {
				feed = len(older)
			}
			older = append(older, c)
		}
		older[feed].MaxBytes += spare
		for _, configs := range [][]jetstream.StreamConfig{older, streams, streams} {
			if err := store.CreateStreams(t.Context(), js, configs); err != nil {
				t.Fatalf("without %v: %v", without, err)
			}
		}
		if _, err := store.OpenSnapshots(t.Context(), js, partition); err != nil {
			t.Error(err)
		}
		if _, err := js.Stream(t.Context(), store.StreamAccess); err != nil {
			t.Error(err)
		}
	}
}
