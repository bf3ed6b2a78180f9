package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// FuzzDecode: whatever stands before a right hash, a commit is refused, or says the same
// when it is written again.
func FuzzDecode(f *testing.F) {
	for _, n := range []int{0, 1, 3} {
		message := encode(follow(store.Chain{Sequence: 7, Ordinal: 3}, n))
		f.Add(message[:len(message)-len(store.Hash{})])
	}
	all := follow(store.Chain{Partition: 3}, 1)
	all.Entries[0].Events = samples(f)
	all.Entries[0].Receipt, all.Entries[0].InputHash = true, store.Hash{1}
	message := encode(all)
	f.Add(message[:len(message)-len(store.Hash{})])
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := store.Decode(body); err == nil && len(body) < 32 {
			t.Fatal("decoded without room for a hash")
		}
		c, err := store.Decode(seal(body))
		if err != nil {
			return
		}
		again, err := store.Decode(encode(c))
		if err != nil {
			t.Fatalf("written again: %v", err)
		}
		c.Hash = again.Hash // numbers can be written longer than Encode does
		if !cmp.Equal(c, again) {
			t.Fatalf("written again it says something else:\n%s", cmp.Diff(c, again))
		}
		if err := c.Each(func(e *events.CloudEvent) error { _, err := events.Encode(e); return err }); err != nil {
			t.Fatalf("the public form: %v", err)
		}
	})
}
