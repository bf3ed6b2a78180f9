package events_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// TestWords: every usual word is read as itself without memory of its own, and whatever is
// nearly one is read as it is.
func TestWords(t *testing.T) {
	list := []string{events.Test, events.Live, events.Active, events.Revoked, events.Paid, events.Any, "authorize", "operator", "UTC"}
	for i := range events.Catalog {
		list = append(list, events.Catalog[i].Name)
	}
	for _, w := range list {
		if allocs := testing.AllocsPerRun(10, func() { events.Shared(w) }); allocs != 0 {
			t.Errorf("%q takes memory to look up", w)
		}
		c := events.NewWriter(nil)
		near := []string{w, w + "x", "x" + w, w[1:], w[:len(w)-1], "\x00" + w[1:], w[:len(w)-1] + "\xff", ""}
		for i := range near {
			c.Word(&near[i])
		}
		r := events.NewReader(c.Bytes())
		for i := range near {
			read := "before"
			if r.Word(&read); read != near[i] || events.Shared(read) != near[i] {
				t.Errorf("%q was read as %q", near[i], read)
			}
		}
		var one string
		stored := events.NewWriter(nil)
		stored.Word(&one)
		stored.Word(&w)
		b := stored.Bytes()
		reader := events.NewReader(b)
		if allocs := testing.AllocsPerRun(10, func() { *reader = *events.NewReader(b); reader.Word(&one); reader.Word(&one) }); allocs > 0 || one != w {
			t.Errorf("reading %q as %q takes %v allocations", w, one, allocs)
		}
	}
	// A line of the catalog that is none is refused by its name.
	e := events.Event{}
	c := events.NewWriter(nil)
	name, version := "live", uint64(1) // a word, but no type
	c.Word(&name)
	c.Uint(&version)
	r := events.NewReader(c.Bytes())
	if e.Code(r); !errors.Is(r.Err(), events.ErrNewer) || !strings.Contains(r.Err().Error(), `"live"`) {
		t.Errorf("an event of a type that is a word: %v", r.Err())
	}
}
