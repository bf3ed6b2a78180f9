package store_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// TestChainFindsDamage: each kind of damage to the commit that follows 0:7 is found
// there, named, and leaves the chain where it was.
func TestChainFindsDamage(t *testing.T) {
	before := store.Chain{Sequence: 7, Hash: store.Hash{7}, Ordinal: 20, Epoch: 3, Time: 1000}
	with := func(change func(*store.Commit)) []byte {
		c := follow(before, 1)
		change(c)
		return encode(c)
	}
	good := with(func(*store.Commit) {})
	flipped := bytes.Clone(good)
	flipped[50] ^= 1
	tests := []struct {
		name     string
		sequence uint64
		message  []byte
		at       uint64
		want     string
	}{
		{"a message missing", 9, good, 8, "message missing: the next one there is has sequence 9"},
		{"many messages missing", 1000, good, 8, "message missing"},
		{"a message twice", 7, good, 8, "message missing: the next one there is has sequence 7"},
		{"a flipped bit", 8, flipped, 8, "hash does not match the content"},
		{"something else", 8, []byte("hello"), 8, "not a commit"},
		{"nothing", 8, nil, 8, "not a commit"},
		{"another partition's", 8, with(func(c *store.Commit) { c.Partition = 2 }), 8, "it belongs to partition 2"},
		{"one moved forward", 8, with(func(c *store.Commit) { c.PrevSequence = 6 }), 8, "it was written to follow sequence 6"},
		{"one moved back", 8, with(func(c *store.Commit) { c.PrevSequence = 8 }), 8, "it was written to follow sequence 8"},
		{"one of another history", 8, with(func(c *store.Commit) { c.PrevHash = store.Hash{8} }), 8, "it was written to follow another commit"},
		{"a wrong ordinal", 8, with(func(c *store.Commit) { c.Ordinal = 21 }), 8, "it counts 21 events before it, not 20"},
		{"a former writer's", 8, with(func(c *store.Commit) { c.Epoch = 2 }), 8, "its epoch 2 is before epoch 3"},
		{"time going back", 8, with(func(c *store.Commit) { c.Time = 999 }), 8, "is before"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			chain := before
			c, err := chain.Check(test.sequence, test.message)
			var damage *store.DamageError
			if !errors.As(err, &damage) || c != nil {
				t.Fatalf("gave %+v, %v; want damage", c, err)
			}
			if damage.Partition != 0 || damage.Sequence != test.at || !strings.Contains(damage.Reason, test.want) {
				t.Errorf("found at %d:%d: %s; want 0:%d: %s", damage.Partition, damage.Sequence, damage.Reason, test.at, test.want)
			}
			if chain != before {
				t.Errorf("the chain moved to %+v", chain)
			}
			if !strings.Contains(err.Error(), "log damaged at 0:8: ") {
				t.Errorf("it says %q", err)
			}
		})
	}
}

func TestChainMovesOn(t *testing.T) {
	chain := store.Chain{Partition: 2}
	for n := range uint64(5) {
		commit := follow(chain, int(n)) // n events, the first an epoch started
		commit.Epoch, commit.Time = 1+n/2, events.Time(1000*(n/2))
		got, err := chain.Check(n+1, encode(commit))
		if err != nil {
			t.Fatal(err)
		}
		want := store.Chain{
			Partition: 2, Sequence: n + 1, Hash: got.Hash, Ordinal: n * (n + 1) / 2, Epoch: 1 + n/2, Time: events.Time(1000 * (n / 2)),
		}
		if chain != want || chain != store.ChainAt(got) {
			t.Errorf("after commit %d the chain is %+v, want %+v", n+1, chain, want)
		}
	}
	if got := chain.Position().String(); got != "2:5" {
		t.Errorf("the chain is at %s, want 2:5", got)
	}
}
