package webhooks

import (
	"encoding/hex"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyledger/keyledger/events"
)

// randomCheckpoint makes one in which every lane is consistent in itself.
func randomCheckpoint(rng *mathrand.Rand) *checkpoint {
	c := &checkpoint{At: events.Time(rng.Int64N(1 << 42)), Sequence: rng.Uint64N(1 << 40), Feed: 1000 + rng.Uint64N(1<<40)}
	for i := range c.Hash {
		c.Hash[i] = byte(rng.Uint32())
	}
	c.Lanes = []laneState{}
	for i := range rng.IntN(40) {
		l := laneState{Registered: uint64(i + 1), Cursor: c.Feed - rng.Uint64N(900)}
		if rng.IntN(3) == 0 {
			l.Held = c.At + events.Time(rng.Int64N(1000))
		}
		l.Parked, l.Probing, l.Ordered = rng.IntN(5) == 0, rng.IntN(9) == 0, rng.IntN(3) == 0
		if rng.IntN(4) == 0 {
			l.Failing = failingState{Since: c.At, Percent: rng.IntN(100), Idle: events.Time(rng.IntN(2))}
		}
		l.Open = randomOpen(rng, c.At, l.Cursor-100)
		for i := range l.Open {
			if l.Ordered {
				l.Open[i].Group = 1 + l.Open[i].Feed%3
			}
		}
		for from := l.Cursor - rng.Uint64N(20); l.Ordered && len(l.Groups) < 3 && rng.IntN(2) == 0; from += rng.Uint64N(20) {
			l.Groups = append(l.Groups, groupState{uint64(1 + len(l.Groups)), from})
		}
		asked := c.Feed - 90
		for range max(0, rng.IntN(8)-5) {
			asked += 1 + rng.Uint64N(4)
			l.Replays = append(l.Replays, replayState{Asked: asked, Done: c.Feed - 300 - rng.Uint64N(300), Open: randomOpen(rng, c.At, c.Feed-700)})
		}
		c.Lanes = append(c.Lanes, l)
	}
	return c
}

// randomOpen makes up to 20 deliveries from a feed sequence on.
func randomOpen(rng *mathrand.Rand, at events.Time, feed uint64) (open []openState) {
	for range rng.IntN(20) {
		feed += 1 + rng.Uint64N(4)
		open = append(open, openState{
			Feed: feed, Tries: rng.IntN(10), Next: at + events.Time(rng.Int64N(1e9)), First: at, Last: at,
			Status: rng.IntN(600), Reason: []string{"", "dns: timed out", "tls: handshake failed"}[rng.IntN(3)],
		})
	}
	return open
}

func decode(t *testing.T, b []byte) *checkpoint {
	t.Helper()
	c, err := decodeCheckpoint(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckpointRoundTrip(t *testing.T) {
	rng := random(t)
	for range 100 {
		want := randomCheckpoint(rng)
		if diff := cmp.Diff(want, decode(t, want.encode(checkpointBytesMax))); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

// settledFor says whether a checkpoint calls a delivery settled.
func (c *checkpoint) settledFor(registered uint64, e entry) bool {
	feed := e.feed
	l := c.lane(registered)
	if l == nil {
		return feed <= c.Feed
	}
	for _, o := range l.Open {
		if o.Feed == feed {
			return false
		}
	}
	for _, g := range l.Groups {
		if g.Name == e.group && feed >= g.From {
			return false
		}
	}
	return feed <= l.Cursor
}

func (c *checkpoint) replays(registered uint64) []replayState {
	if l := c.lane(registered); l != nil {
		return l.Replays
	}
	return nil
}

// doneFor says whether a checkpoint calls an event done for a replay.
func (c *checkpoint) doneFor(registered, asked, feed uint64) bool {
	r := c.replay(registered, asked)
	if r == nil {
		return asked <= c.Feed
	}
	return feed <= r.Done && !slices.ContainsFunc(r.Open, func(o openState) bool { return o.Feed == feed })
}

// However small a checkpoint must be, it never calls settled what is not, nor done for a
// replay, and it stays within the limit.
func TestCheckpointWithinALimit(t *testing.T) {
	rng := random(t)
	for range 80 {
		seed := rng.Uint64()
		full := randomCheckpoint(mathrand.New(mathrand.NewPCG(seed, 1)))
		limit := len(full.head(full.reasons(), 0)) + 16 + rng.IntN(len(full.encode(checkpointBytesMax))+1)
		b := randomCheckpoint(mathrand.New(mathrand.NewPCG(seed, 1))).encode(limit)
		if len(b) > limit {
			t.Fatalf("seed %d: %d bytes, limit %d", seed, len(b), limit)
		}
		small := decode(t, b)
		for i := uint64(1); i <= 41; i++ {
			for feed := full.Feed - 1100; feed <= full.Feed+1; feed++ {
				if e := (entry{feed: feed, group: 1 + feed%3}); small.settledFor(i, e) && !full.settledFor(i, e) {
					t.Fatalf("seed %d, limit %d: endpoint %d, event %d is called settled", seed, limit, i, feed)
				}
				for _, r := range full.replays(i) {
					if small.doneFor(i, r.Asked, feed) && !full.doneFor(i, r.Asked, feed) {
						t.Fatalf("seed %d, limit %d: endpoint %d, event %d is called done for the replay of %d", seed, limit, i, feed, r.Asked)
					}
				}
			}
		}
	}
}

// An open delivery of a lane that takes fewer bytes than others, which have none, is not
// called settled where neither finds room.
func TestOpenDeliveryOfAShortLane(t *testing.T) {
	full := func() *checkpoint {
		c := &checkpoint{At: 1_790_000_000_000, Sequence: 9, Feed: 1 << 34}
		c.Lanes = []laneState{{Registered: 5, Cursor: 100, Open: []openState{{Feed: 60, Next: c.At}}}}
		for i := range uint64(3) {
			c.Lanes = append(c.Lanes, laneState{Registered: 1<<29 + i, Cursor: c.Feed + i - 3, Held: c.At + 1e9})
		}
		return c
	}
	most := len(full().encode(checkpointBytesMax))
	for limit := len(full().head([]string{""}, 4)); limit <= most; limit++ {
		if got := decode(t, full().encode(limit)); got.settledFor(5, entry{feed: 60}) || got.settledFor(1<<29, entry{feed: 1 << 34}) {
			t.Errorf("in %d bytes of %d: %+v", limit, most, got)
		}
	}
}

// A checkpoint grows with trouble, and a great deal of it fits.
func TestCheckpointSize(t *testing.T) {
	c := &checkpoint{At: 1_790_000_000_000, Sequence: 1 << 30, Feed: 1 << 32}
	idle := len(c.encode(checkpointBytesMax))
	for i := range 10_000 {
		c.Lanes = append(c.Lanes, laneState{Registered: uint64(i) * 1000, Cursor: c.Feed - uint64(i)})
	}
	busy := len(c.encode(checkpointBytesMax)) - idle
	for i := range 100 {
		for j := range laneOpenMax {
			c.Lanes[i].Open = append(c.Lanes[i].Open, openState{
				Feed: c.Feed - 1_000_000 + uint64(j)*1000, Tries: 3, Next: c.At + 1_800_000, First: c.At, Last: c.At, Reason: "connect: timed out",
			})
		}
	}
	failing := len(c.encode(checkpointBytesMax)) - idle - busy
	t.Logf("%d bytes idle, %d an endpoint with something under way, %d a delivery that waits for its next try",
		idle, busy/10_000, failing/(100*laneOpenMax))
	if idle > 150 || busy > 12*10_000 || failing > 28*100*laneOpenMax {
		t.Errorf("%d bytes idle, %d for 10,000 busy endpoints, %d for 10,000 open retries", idle, busy, failing)
	}
}

// The stored forms are for ever: these checkpoints were written by the versions.
func TestCheckpointGolden(t *testing.T) {
	const head = "000102030405060708090a0b0c0d0e0f80b083c5986832" + "abababababababababababababababababababababababababababababababab" +
		"f40302" + "00" + "1268656164657273" + "3a2074696d6564206f7574"
	const open = "02" + "d6030190fe83c5986880b083c5986880b083c598680001" + "1102c0ffa7c59868e09382c5986880b083c59868f40300"
	want := func() *checkpoint {
		c := &checkpoint{
			Writer: [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, At: 1_790_000_000_000, Sequence: 50, Feed: 500,
			Lanes: []laneState{
				{Registered: 5, Cursor: 500, Held: 1_790_000_060_000},
				{Registered: 40, Cursor: 487, Open: []openState{
					{Feed: 470, Tries: 1, Next: 1_790_000_005_000, First: 1_790_000_000_000, Last: 1_790_000_000_000, Reason: "headers: timed out"},
					{Feed: 487, Tries: 2, Next: 1_790_000_300_000, First: 1_789_999_990_000, Last: 1_790_000_000_000, Status: 500},
				}},
			},
		}
		for i := range c.Hash {
			c.Hash[i] = 0xab
		}
		return c
	}
	read := func(golden string, want *checkpoint) {
		t.Helper()
		b, err := hex.DecodeString(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, decode(t, b)); diff != "" {
			t.Errorf("read (-want +got):\n%s", diff)
		}
	}
	read("01"+head+"02"+"05f403c0d98ac5986800"+"28e70300"+open, want())
	now := want()
	now.Lanes[0].Parked, now.Lanes[0].Probing = true, true
	const golden = "02" + head + "02" + "05f403c0d98ac598680300" + "28e7030000" + open
	read(golden, now)
	if got := hex.EncodeToString(now.encode(checkpointBytesMax)); got != golden {
		t.Errorf("written\n%s\nwant\n%s", got, golden)
	}
	for _, later := range []string{"03" + golden[2:], "02" + head + "01" + "05f4030080010000"} {
		b, err := hex.DecodeString(later)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeCheckpoint(b); err == nil || !strings.Contains(err.Error(), "use a newer one") {
			t.Errorf("a checkpoint of later: %v", err)
		}
	}
}
