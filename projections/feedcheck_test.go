package projections

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events/store"
)

// CheckFeed finds a missing event and another one in its place, and takes a feed that is
// behind the log or was trimmed for what it is.
func TestCheckFeed(t *testing.T) {
	f := newFeedTest(t)
	f.random(t, 20, 5)
	f.big(20)
	total := f.chain.Ordinal
	f.create(total - 3)
	check := func() error {
		return CheckFeed(patience(t), f.js, f.log, 0, f.chain.Sequence)
	}
	if err := check(); err != nil {
		t.Errorf("a feed behind the log: %v", err)
	}
	stream, err := f.js.Stream(patience(t), f.config.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(patience(t), 1); err != nil {
		t.Fatal(err)
	}
	if err := check(); err != nil {
		t.Errorf("a trimmed feed: %v", err)
	}
	if err := stream.DeleteMsg(patience(t), 4); err != nil {
		t.Fatal(err)
	}
	if err := check(); !errors.Is(err, ErrFeed) || !strings.Contains(err.Error(), "belongs at 4") {
		t.Errorf("an event is missing: %v", err)
	}
	f.delete()
	f.create(5)
	if _, err := f.js.Publish(patience(t), store.SubjectFeed(0)+"acme.-.account.opened.-", nil); err != nil {
		t.Fatal(err)
	}
	if err := check(); !errors.Is(err, ErrFeed) || !strings.Contains(err.Error(), "belongs at 6") {
		t.Errorf("an event is another: %v", err)
	}
}
