package writer

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

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

// TestTheTailKeepsNoRequests: a commit that readers may still want keeps neither its
// group nor the requests in it.
func TestTheTailKeepsNoRequests(t *testing.T) {
	f := run(t, new(store.Memory), newClock())
	f.must("acme", "account.open", &ledger.OpenAccount{})
	gone := make(chan struct{})
	func() {
		cmd := &ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 1}
		runtime.AddCleanup(cmd, func(gone chan struct{}) { close(gone) }, gone)
		f.must("acme", "credit.grant", cmd)
	}()
	f.must("acme", "credit.debit", debit(1)) // the group before it was answered
	for deadline := time.Now().Add(10 * time.Second); ; {
		runtime.GC()
		select {
		case <-gone:
		default:
			if time.Now().Before(deadline) {
				continue
			}
			t.Error("the command is still in memory")
		}
		break
	}
	end := f.w.cfg.Tail.End()
	if c, err := f.w.cfg.Tail.Commit(t.Context(), end.Sequence-1); err != nil || c.Entries[0].Command != "credit.grant" {
		t.Errorf("the tail has %+v, %v", c, err)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// TestTakeoverWaitsForItsWitnesses: a look-up that fails is tried again; it is no reason to
// stop.
func TestTakeoverWaitsForItsWitnesses(t *testing.T) {
	asked := 0
	f := run(t, new(store.Memory), newClock(), func(cfg *Config) {
		cfg.Witnesses = func(context.Context) ([]Witness, error) {
			if asked++; asked < 3 {
				return nil, context.DeadlineExceeded
			}
			return nil, nil
		}
	})
	f.funded("acme", 1)
	if err := f.end(); err != nil || asked != 3 {
		t.Errorf("stopped with %v after %d look-ups", err, asked)
	}
}
