package projections

import (
	"testing"

	"github.com/oklog/ulid/v2"
)

// TestWorksAreKept: who waits for a work finds how it ended although others were done
// since, as many as are kept.
func TestWorksAreKept(t *testing.T) {
	h := newHistory(t)
	h.commit(h.account("acme"))
	v := follow(t, h.tail)
	if got := v.Works(); len(got) != 0 {
		t.Errorf("before any: %+v", got)
	}
	first, err := v.Verify()
	if err != nil {
		t.Fatal(err)
	}
	workEnd(t, v.Runner)
	seen := map[ulid.ULID]bool{first.ID: true}
	for n := 2; n <= workKept+1; n++ {
		if got := v.Works(); len(got) != n-1 || got[n-2].ID != first.ID || got[n-2].State != workDone || len(got[n-2].Findings) != len(v.slots) {
			t.Fatalf("with %d works: %+v", n-1, got)
		}
		rebuild(t, v.Runner, ViewKeys)
		last := v.Work()
		if got := v.Works()[0]; seen[last.ID] || last.Number != uint64(n) || got.ID != last.ID {
			t.Fatalf("work %d: %+v, and the first of all is %+v", n, last, got)
		}
		seen[last.ID] = true
	}
	if got := v.Works(); len(got) != workKept || got[workKept-1].Number != 2 {
		t.Errorf("one more than are kept: %+v", got)
	}
}
