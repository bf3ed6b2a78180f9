package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events/store"
)

// seedEnv takes a printed seed back.
const seedEnv = "KEYLEDGER_TEST_SEED"

// seedOf returns the seed of a random test: from the environment, or new. It is printed.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(seedEnv); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("%s=%d", seedEnv, seed)
	return seed
}

// fault is what goes wrong with one append.
type fault int

const (
	faultNone    fault = iota
	faultLost          // it never reaches the log
	faultDropped       // it is stored, its acknowledgement never comes
	faultLate          // it is given up, and reaches the log afterwards or not at all
	faultSlow          // it is stored, its acknowledgement comes after the timeout
	faultRival         // another writer takes over first
	faultOld           // it is stored or lost, and an earlier append's acknowledgement comes instead
	faults
)

// harmless are the faults after which a writer goes on by itself, at once.
var harmless = []fault{faultLost, faultDropped, faultLate, faultRival}

// lossy is a log on a bad line: it stands between a writer and its log and makes one
// append in oneIn go wrong.
type lossy struct {
	store.Log
	oneIn int
	kinds []fault
	late  sync.WaitGroup // appends on their way after they were given up

	mu     sync.Mutex // guards all below
	random *rand.Rand
	armed  bool
	counts [faults]int
}

func newLossy(log store.Log, seed uint64, oneIn int, kinds ...fault) *lossy {
	return &lossy{Log: log, oneIn: oneIn, kinds: kinds, random: rand.New(rand.NewPCG(seed, 1))}
}

// arm switches the faults on or off, and waits for what is still on its way.
func (l *lossy) arm(on bool) {
	l.mu.Lock()
	l.armed = on
	l.mu.Unlock()
	l.late.Wait()
}

// draw chooses what goes wrong. A takeover that fails pauses before it tries again, so
// its appends are spared more often.
func (l *lossy) draw(claim bool) (fault, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind := faultNone
	oneIn := l.oneIn
	if claim {
		oneIn *= 5
	}
	if l.armed && l.random.IntN(oneIn) == 0 {
		kind = l.kinds[l.random.IntN(len(l.kinds))]
	}
	if kind == faultSlow && l.random.IntN(4) > 0 {
		kind = faultDropped // a timeout costs its whole length
	}
	l.counts[kind]++
	return kind, time.Duration(l.random.IntN(3_000_000))
}

var errNoAck = errors.New("no acknowledgement")

// Append implements store.Log.
func (l *lossy) Append(ctx context.Context, data []byte, expected uint64) (uint64, error) {
	commit, err := store.Decode(data)
	if err != nil {
		return 0, err
	}
	kind, delay := l.draw(len(commit.Entries) == 0)
	switch kind {
	case faultLost:
		return 0, errNoAck
	case faultLate:
		l.late.Add(1)
		time.AfterFunc(delay, func() {
			defer l.late.Done()
			_, _ = l.Log.Append(context.Background(), data, expected) // nobody waits for its outcome any more
		})
		return 0, errNoAck
	case faultOld:
		if delay%2 == 0 {
			return expected, nil // which the append before this one got
		}
	case faultRival:
		if err := l.rival(ctx, commit); err != nil {
			return 0, err
		}
	}
	sequence, err := l.Log.Append(ctx, data, expected)
	switch {
	case kind == faultDropped:
		return 0, errNoAck
	case kind == faultSlow:
		<-ctx.Done()
		return 0, ctx.Err()
	case kind == faultOld && err == nil:
		return expected, nil
	}
	return sequence, err
}

// rival appends the "epoch started" of a writer that takes over and is never heard of
// again.
func (l *lossy) rival(ctx context.Context, c *store.Commit) error {
	r := store.Commit{
		Partition: c.Partition, Epoch: c.Epoch + 1, Writer: ulid.Make(), Nonce: store.Nonce(ulid.Make()),
		PrevSequence: c.PrevSequence, PrevHash: c.PrevHash, Ordinal: c.Ordinal, Time: c.Time,
	}
	if _, err := l.Log.Append(ctx, r.Encode(nil), c.PrevSequence); err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("append a rival's epoch: %w", err)
	}
	return nil
}

// String says how often what went wrong.
func (l *lossy) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	return fmt.Sprintf("%d appends went well, %d lost, %d acknowledgements dropped, %d late, %d slow, %d rivals, %d old acknowledgements",
		c[faultNone], c[faultLost], c[faultDropped], c[faultLate], c[faultSlow], c[faultRival], c[faultOld])
}
