package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events/store"
)

// TestLogs holds the two implementations to one contract.
func TestLogs(t *testing.T) {
	t.Run("memory", func(t *testing.T) { checkLog(t, new(store.Memory)) })
	t.Run("JetStream", func(t *testing.T) { checkLog(t, openLog(t, startJetStream(t), 64<<20)) })
}

func checkLog(t *testing.T, log store.Log) {
	ctx := t.Context()
	if last, err := log.Last(ctx); last != 0 || err != nil {
		t.Errorf("an empty log ends at %d, %v", last, err)
	}
	commits := fill(t, log, store.Chain{}, 40)
	if last, err := log.Last(ctx); last != 40 || err != nil {
		t.Errorf("the log ends at %d, %v; want 40", last, err)
	}
	for _, expected := range []uint64{0, 39, 41, 1 << 40} {
		if sequence, err := log.Append(ctx, []byte("late"), expected); !errors.Is(err, store.ErrConflict) || sequence != 0 {
			t.Errorf("append after %d of 40: %d, %v; want %v", expected, sequence, err, store.ErrConflict)
		}
	}
	for _, missing := range []uint64{0, 41, 1 << 40} {
		if data, err := log.Get(ctx, missing); !errors.Is(err, store.ErrNoMessage) || data != nil {
			t.Errorf("message %d of 40: %q, %v; want %v", missing, data, err, store.ErrNoMessage)
		}
	}
	// One, a few (singly), many (through a consumer), all, from 0, none, backwards.
	for _, span := range [][2]uint64{{1, 1}, {40, 40}, {3, 18}, {3, 19}, {3, 20}, {1, 40}, {0, 40}, {0, 0}, {9, 8}} {
		checkRead(t, log, commits, span[0], span[1])
	}
	for _, to := range []uint64{4, 40} {
		read := 0
		if err := log.Read(ctx, 1, to, func(uint64, []byte) error { read++; return errStop }); err != errStop || read != 1 {
			t.Errorf("read up to %d: %d messages, then %v", to, read, err)
		}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if err := log.Read(cancelled, 1, to, func(uint64, []byte) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("read up to %d with a cancelled context: %v", to, err)
		}
	}
}

func checkRead(t *testing.T, log store.Log, commits []*store.Commit, from, to uint64) {
	t.Helper()
	var got, want []store.Hash
	for sequence := max(from, 1); sequence <= to; sequence++ {
		want = append(want, commits[sequence-1].Hash)
	}
	err := log.Read(t.Context(), from, to, func(sequence uint64, data []byte) error {
		c, err := store.Decode(data)
		if err != nil || c.Sequence != sequence {
			t.Errorf("message %d holds %+v, %v", sequence, c, err)
			return err
		}
		got = append(got, c.Hash)
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("read %d to %d: %d messages, %v; want %d", from, to, len(got), err, len(want))
	}
}

// TestJetStreamFull: a full log refuses, keeps what it has, and goes on once there is
// room.
func TestJetStreamFull(t *testing.T) {
	js := startJetStream(t)
	log := openLog(t, js, 1<<20)
	data := make([]byte, 100<<10)
	var n uint64
	for ; n < 100; n++ {
		sequence, err := log.Append(t.Context(), data, n)
		if errors.Is(err, store.ErrStorageFull) {
			break
		}
		if err != nil || sequence != n+1 {
			t.Fatalf("append %d: %d, %v", n+1, sequence, err)
		}
	}
	if last, err := log.Last(t.Context()); n < 2 || n == 100 || last != n || err != nil {
		t.Fatalf("refused behind %d messages of 100 KiB, the log ends at %d, %v", n, last, err)
	}
	config := store.Streams(0, 1<<20)[0]
	config.MaxBytes *= 2
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if sequence, err := log.Append(t.Context(), data, n); err != nil || sequence != n+1 {
		t.Errorf("with more room: %d, %v", sequence, err)
	}
}

// damagedLog is a log of n commits in a stream that lets messages be deleted, and one
// is: so a corrupt record looks to a reader (nats-server #8632).
func damagedLog(t *testing.T, n int, missing uint64) *store.JetStream {
	t.Helper()
	js := startJetStream(t)
	config := store.Streams(0, 64<<20)[0]
	config.DenyDelete = false
	stream, err := js.CreateStream(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	log, err := store.OpenJetStream(t.Context(), js, 0)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, log, store.Chain{}, n)
	if err := stream.DeleteMsg(t.Context(), missing); err != nil {
		t.Fatal(err)
	}
	return log
}

// TestJetStreamSkipsAreFound: JetStream passes over what it lost without a word; reading
// with a chain does not. The last row waits for the consumer to stall.
func TestJetStreamSkipsAreFound(t *testing.T) {
	for _, test := range []struct {
		name         string
		end, missing uint64
	}{
		{"read singly", 10, 5},
		{"read singly, at the end", 10, 10},
		{"read through a consumer", 40, 5},
		{"read through a consumer, at the end", 40, 40},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			log := damagedLog(t, int(test.end), test.missing)
			var chain store.Chain
			read := uint64(0)
			err := store.ReadChecked(t.Context(), log, &chain, test.end, func(*store.Commit) error { read++; return nil })
			checkDamage(t, err, test.missing)
			if read != test.missing-1 || chain.Sequence != test.missing-1 {
				t.Errorf("read %d commits, the chain is at %d; want %d", read, chain.Sequence, test.missing-1)
			}
		})
	}
}

// TestJetStreamReadGoesOn: behind what is missing the rest of the range still comes, and
// nothing from beyond the range.
func TestJetStreamReadGoesOn(t *testing.T) {
	log := damagedLog(t, 45, 30)
	for _, span := range [][2]uint64{{20, 35}, {1, 40}, {1, 30}, {25, 30}} {
		var want []uint64
		for sequence := span[0]; sequence <= span[1]; sequence++ {
			if sequence != 30 {
				want = append(want, sequence)
			}
		}
		var got []uint64
		err := log.Read(t.Context(), span[0], span[1], func(sequence uint64, _ []byte) error {
			got = append(got, sequence)
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("read %d to %d: got %d, %v; want %d", span[0], span[1], got, err, want)
		}
	}
}

// TestJetStreamReadIsPaced: several readers of large commits over one connection are not
// sent so much at once that the server, which holds a quarter of its default for a
// client here, cuts them off as too slow.
func TestJetStreamReadIsPaced(t *testing.T) {
	const messages, readers = 200, 3
	js := startJetStream(t, func(o *natsserver.Options) { o.MaxPending = 16 << 20 })
	log := openLog(t, js, 1<<30)
	large := bytes.Repeat([]byte("x"), store.MaxCommitBytes)
	for i := range uint64(messages) {
		if _, err := log.Append(t.Context(), large, i); err != nil {
			t.Fatal(err)
		}
	}
	var group errgroup.Group
	for range readers {
		group.Go(func() error {
			read := 0
			err := log.Read(t.Context(), 1, messages, func(uint64, []byte) error { read++; return nil })
			if err == nil && read != messages {
				err = fmt.Errorf("read %d messages of %d", read, messages)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if n := js.Conn().Stats().Reconnects; n > 0 {
		t.Errorf("the server cut the connection %d times", n)
	}
}

func checkDamage(t *testing.T, err error, at uint64) {
	t.Helper()
	var damage *store.DamageError
	if !errors.As(err, &damage) || damage.Sequence != at {
		t.Errorf("%v; want damage at %d", err, at)
	}
}

func TestOpenJetStreamWithoutStream(t *testing.T) {
	if _, err := store.OpenJetStream(t.Context(), startJetStream(t), 0); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("%v, want %v", err, jetstream.ErrStreamNotFound)
	}
}
