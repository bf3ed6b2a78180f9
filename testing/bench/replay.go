package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"runtime"
	"time"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/writer"
)

// replayed is what a replay of a whole log came to.
type replayed struct {
	Events       uint64  `json:"events"`
	Seconds      float64 `json:"seconds"` // on one core: decode, check and fold, from memory
	ReadSeconds  float64 `json:"read_seconds"`
	HeapBytes    int64   `json:"heap_bytes"` // of the writer, after it
	Accounts     int64   `json:"accounts"`
	Keys         int64   `json:"keys"`
	LogBytes     int64   `json:"log_bytes"`
	OpenSeconds  float64 `json:"open_seconds"` // JetStream's, of the directory
	Commits      uint64  `json:"commits"`
	LogicalCores int     `json:"cores_used"`
	StreamBytes  uint64  `json:"stream_bytes,omitzero"` // of the feed
}

// runReplay takes a log over as a start without a snapshot does, and prints how long that
// takes and what memory the writer then has: "bench replay". The log is read from
// JetStream into memory first, and then replayed by the real writer on one core, so that
// the figures are the writer's alone.
func runReplay(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench replay", flag.ContinueOnError)
	dir := flags.String("dir", "", "data `DIR`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	out, memory, err := readIntoMemory(ctx, *dir)
	if err != nil {
		return err
	}
	out.LogicalCores = 1
	runtime.GOMAXPROCS(out.LogicalCores)
	before := heapBytes()
	tail := store.NewTail(memory, 0)
	w := writer.New(writer.Config{Log: memory, Tail: tail})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stopped := make(chan error, 1)
	begin := time.Now()
	go func() { stopped <- w.Run(ctx) }()
	select {
	case <-w.Ready():
	case err := <-stopped:
		return errors.Join(errors.New("the writer stopped"), err)
	}
	out.Seconds = time.Since(begin).Seconds()
	out.HeapBytes = heapBytes() - before
	stats := w.Stats()
	out.Events, out.Accounts, out.Keys = tail.End().Ordinal, stats.Accounts, stats.Keys
	runtime.KeepAlive(memory)
	stop()
	return errors.Join(<-stopped, json.NewEncoder(os.Stdout).Encode(out))
}

// readIntoMemory copies the log of a data directory.
func readIntoMemory(ctx context.Context, dir string) (*replayed, *store.Memory, error) {
	s, err := openStore(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	out, memory := &replayed{OpenSeconds: s.took.Seconds()}, new(store.Memory)
	if out.Commits, err = s.log.Last(ctx); err != nil {
		return nil, nil, err
	}
	begin := time.Now()
	err = s.log.Read(ctx, 1, out.Commits, func(sequence uint64, data []byte) error {
		out.LogBytes += int64(len(data))
		_, err := memory.Append(ctx, data, sequence-1)
		return err
	})
	out.ReadSeconds = time.Since(begin).Seconds()
	return out, memory, err
}

// heapBytes is what lives on the heap, once nothing more of what ended before is given
// back: goroutines of a server that was shut down hold memory for a moment.
func heapBytes() int64 {
	const settled = 64 << 10 // bytes from one collection to the next
	least := int64(math.MaxInt64)
	for range 50 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		now := int64(stats.HeapAlloc)
		if now > least-settled {
			return min(now, least)
		}
		least = now
		time.Sleep(20 * time.Millisecond)
	}
	return least
}
