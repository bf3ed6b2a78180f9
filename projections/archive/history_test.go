package archive

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// TestChunks: a chunk of any entries reads back in both directions, joined from any split,
// and whole blocks are left out only where a filter leaves all of them out. rapid prints the
// seed of a failure.
func TestChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []Entry
		at := events.Position{Sequence: rapid.Uint64Range(1, 1<<40).Draw(t, "sequence")}
		for range rapid.SampledFrom([]int{1, 5, blockEntries - 1, blockEntries, blockEntries + 1, 3*blockEntries + 7}).Draw(t, "entries") {
			if ahead := rapid.SampledFrom([]uint64{0, 0, 1, 300}).Draw(t, "ahead"); ahead > 0 {
				at = events.Position{Sequence: at.Sequence + ahead}
			}
			at.Index += rapid.IntRange(1, 200).Draw(t, "index")
			kind := rapid.IntRange(0, len(types)-1).Draw(t, "type")
			e := Entry{Position: at, Type: types[kind], Environment: rapid.SampledFrom(environments).Draw(t, "environment")}
			for i := range moves[kind] {
				e.Assets[i] = rapid.SampledFrom([]string{"credits", "usd", "eur"}).Draw(t, "asset")
			}
			list = append(list, e)
		}
		split := rapid.IntRange(0, len(list)).Draw(t, "split")
		chunk, err := joinHistory(nil, [][]byte{coded(list[:split]), coded(list[split:])})
		if err != nil || string(chunk) != string(coded(list)) {
			t.Fatalf("joined at %d of %d it is another chunk: %v", split, len(list), err)
		}
		backwards := slices.Clone(list)
		slices.Reverse(backwards)
		if got := read(t, chunk, &Filter{}); !slices.Equal(got, list) {
			t.Fatalf("read %v, want %v", got, list)
		}
		if got := read(t, chunk, &Filter{Newest: true}); !slices.Equal(got, backwards) {
			t.Fatalf("read backwards %v, want %v", got, backwards)
		}
		f := Filter{From: rapid.SampledFrom(list).Draw(t, "from").Position, To: rapid.SampledFrom(list).Draw(t, "to").Position}
		passes := f.compile()
		var want, got []Entry
		for i := range list {
			if passes(&list[i]) {
				want = append(want, list[i])
			}
		}
		all := read(t, chunk, &f)
		for i := range all {
			if passes(&all[i]) {
				got = append(got, all[i])
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("from %s to %s: %v, want %v", f.From, f.To, got, want)
		}
		if len(want) == 1 && len(all) > 2*blockEntries {
			t.Fatalf("%d entries were read for one", len(all))
		}
	})
}

func coded(list []Entry) []byte {
	var all entries
	for i := range list {
		all.add(&list[i])
	}
	return all.append(nil)
}

func read(t *rapid.T, chunk []byte, f *Filter) (list []Entry) {
	for e, err := range readHistory(chunk, f) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// FuzzChunk: whatever a chunk is, reading it ends, and with an error where it is not one.
func FuzzChunk(f *testing.F) {
	f.Add(coded([]Entry{{Position: events.Position{Sequence: 7, Index: 1}, Type: "credit.debited", Environment: events.Test, Assets: [2]string{"credits"}}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, chunk []byte) {
		for _, newest := range []bool{false, true} {
			n := 0
			for _, err := range readHistory(chunk, &Filter{Newest: newest}) {
				if n++; err == nil && n > len(chunk) {
					t.Fatal("more entries than bytes")
				}
			}
		}
	})
}
