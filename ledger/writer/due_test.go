package writer

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// createKeys opens an account and makes keys that expire so long after the start.
func createKeys(f *fixture, n int, life time.Duration) {
	f.t.Helper()
	f.must("acme", "account.open", &ledger.OpenAccount{})
	for range n {
		id := ulid.Make()
		f.must("acme", "key.create", &ledger.CreateKey{Environment: events.Test, Name: "k", KeyID: id, ExpiresAt: events.At(start.Add(life))})
	}
}

var errEnough = errors.New("enough")

// awaitExpired follows the log until n keys have expired, and returns the commits that say
// so. It fails where a key expires twice.
func awaitExpired(t *testing.T, f *fixture, n int) (list []*store.Commit) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	seen := map[string]bool{}
	err := f.w.cfg.Tail.Follow(ctx, store.Chain{}, func(c *store.Commit) error {
		found := false
		for _, e := range c.Entries {
			if e.Events[0].Type != "key.expired" {
				continue
			}
			if found = true; seen[e.Events[0].Subject] {
				t.Errorf("%s expired twice", e.Events[0].Subject)
			}
			seen[e.Events[0].Subject] = true
		}
		if found {
			list = append(list, c)
		}
		if len(seen) == n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("%d of %d keys expired: %v", len(seen), n, err)
	}
	return list
}

// expiredIn counts key.expired in a whole log.
func expiredIn(t *testing.T, log store.Log) (n int) {
	for _, c := range commits(t, log) {
		for _, e := range c.Entries {
			if e.Events[0].Type == "key.expired" {
				n++
			}
		}
	}
	return n
}

// TestTimerWithoutTraffic: nobody asks for anything, and the event comes, in portions.
func TestTimerWithoutTraffic(t *testing.T) {
	const keys = 2*maxDue + 1
	log, c := new(store.Memory), newClock()
	f := run(t, log, c)
	createKeys(f, keys, time.Hour)
	c.advance(time.Hour)
	list := awaitExpired(t, f, keys)
	for _, commit := range list {
		if commit.Time != events.At(start.Add(time.Hour)) || len(commit.Entries) > maxDue {
			t.Errorf("commit %d is of %s with %d entries", commit.Sequence, commit.Time, len(commit.Entries))
		}
		for _, e := range commit.Entries {
			if e.Actor != actorSelf || e.Command != commandTimer || e.Receipt {
				t.Errorf("entry %+v", e)
			}
		}
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	if n := expiredIn(t, log); n != keys {
		t.Errorf("%d of %d in the log", n, keys)
	}
}

// TestTimerAfterDowntime: what fell due while no writer ran comes after the start, and
// not again after the next one.
func TestTimerAfterDowntime(t *testing.T) {
	log, c := new(store.Memory), newClock()
	f := run(t, log, c)
	createKeys(f, 3, time.Hour)
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	c.advance(72 * time.Hour)
	for range 2 {
		f = run(t, log, c)
		awaitExpired(t, f, 3)
		f.must("acme", "account.suspend", &ledger.SuspendAccount{})
		f.must("acme", "account.resume", &ledger.ResumeAccount{})
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		if n := expiredIn(t, log); n != 3 {
			t.Fatalf("%d events of 3 keys", n)
		}
	}
}

// TestTimerLost: an append that was lost is made again, one whose acknowledgement was
// lost is not.
func TestTimerLost(t *testing.T) {
	for _, stored := range []bool{true, false} {
		log, c := new(store.Memory), newClock()
		failed := false
		log.Fault = func(data []byte, _ uint64) store.Fault {
			commit, err := store.Decode(data)
			if err != nil || failed || len(commit.Entries) == 0 || commit.Entries[0].Command != commandTimer {
				return store.Fault{}
			}
			failed = true
			return store.Fault{Lose: !stored, Err: errTimeout}
		}
		f := run(t, log, c)
		createKeys(f, 5, time.Hour)
		c.advance(time.Hour)
		awaitExpired(t, f, 5)
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		if n := expiredIn(t, log); n != 5 || !failed {
			t.Errorf("stored %t: %d events of 5 keys (fault happened: %t)", stored, n, failed)
		}
	}
}

// TestTimerWaitsForTheClock: a clock that jumped expires nothing.
func TestTimerWaitsForTheClock(t *testing.T) {
	log, c := new(store.Memory), newClock()
	f := run(t, log, c)
	createKeys(f, 1, time.Hour)
	c.jump(24 * time.Hour)
	if r := f.do("acme", "account.suspend", &ledger.SuspendAccount{}, ulid.ULID{}); r.Err == nil {
		t.Error("decided with a wrong clock")
	}
	if n := expiredIn(t, log); n != 0 {
		t.Errorf("%d keys expired by a wrong clock", n)
	}
	<-f.send(&Request{AcceptClock: true})
	awaitExpired(t, f, 1)
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// keyEvents are the types of what happened to keys, in the order of the log.
func keyEvents(t *testing.T, log store.Log) (types []string) {
	for _, c := range stored(t, log) {
		for _, entry := range c.Entries {
			for _, e := range entry.Events {
				if _, ok := e.Data.(*events.Key); ok {
					types = append(types, e.Type)
				}
			}
		}
	}
	return types
}

// TestNoticesOfTheOperator: a writer gives the notices it was told to give, one that
// starts from a snapshot too; with none it gives none.
func TestNoticesOfTheOperator(t *testing.T) {
	given := func(list ...time.Duration) func(*Config) {
		return func(cfg *Config) { cfg.Notices = append([]time.Duration{}, list...) }
	}
	for _, row := range []struct {
		name    string
		notices func(*Config)
		want    []string
	}{
		{"its own", given(time.Hour, 2*time.Hour), []string{"key.created", "key.expiring", "key.expiring", "key.expired"}},
		{"none", given(), []string{"key.created", "key.expired"}},
		{"the ledger's", func(*Config) {}, []string{"key.created", "key.expiring", "key.expired"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			log, c, snaps := new(store.Memory), newClock(), new(store.MemorySnapshots)
			f := snapping(t, log, c, snaps, row.notices)
			createKeys(f, 1, 25*time.Hour)
			f.until("a snapshot", func() bool { return f.w.Stats().Snapshot != nil })
			for _, wait := range []time.Duration{23 * time.Hour, time.Hour, time.Hour} {
				if err := f.end(); err != nil {
					t.Fatal(err)
				}
				c.advance(wait)
				f = snapping(t, log, c, snaps, row.notices)
				f.must("acme", "account.enable_environment", &ledger.EnableEnvironment{Environment: events.Live})
				f.must("acme", "account.disable_environment", &ledger.DisableEnvironment{Environment: events.Live})
			}
			if err := f.end(); err != nil {
				t.Fatal(err)
			}
			if got := keyEvents(t, log); !slices.Equal(got, row.want) {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
}
