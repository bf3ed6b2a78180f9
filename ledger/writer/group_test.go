package writer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// TestGroupsFillUp: what does not fit into a group comes in the next one, in its order,
// decided once; groups use the room that a commit has.
func TestGroupsFillUp(t *testing.T) {
	const n = 40
	log, c := new(store.Memory), newClock()
	gate, appending := make(chan struct{}), make(chan int, n)
	log.Fault = func(data []byte, _ uint64) store.Fault {
		return store.Fault{Before: func() { appending <- len(data); <-gate }}
	}
	f := run(t, log, c)
	<-appending // epoch started is held up: all that follows waits
	var replies []chan *Reply
	metadata := events.Object(`{"a":"` + strings.Repeat("x", 16<<10-8) + `"}`)
	for i := range n {
		replies = append(replies, f.submit(fmt.Sprint("acme-", i), "account.open", &ledger.OpenAccount{Metadata: metadata}, ulid.ULID{}))
	}
	close(gate)
	for i, ch := range replies {
		if r := <-ch; r.Err != nil {
			t.Errorf("command %d: %v", i, r.Err)
		}
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	close(appending)
	largest := 0
	for size := range appending {
		largest = max(largest, size)
	}
	if largest > store.MaxCommitBytes || largest < store.MaxCommitBytes-(32<<10) {
		t.Errorf("the largest commit has %d bytes; %d are allowed, and there was enough to fill it", largest, store.MaxCommitBytes)
	}
	seen := map[string]bool{}
	for _, commit := range commits(t, log) {
		for _, e := range commit.Entries {
			if seen[e.Account] {
				t.Errorf("%s was opened twice", e.Account)
			}
			seen[e.Account] = true
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d accounts are in the log", len(seen), n)
	}
}
