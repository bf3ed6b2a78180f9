package writer

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

var errDisk = errors.New("input/output error")

// disk is what a log in memory is stored on: it counts as JetStream does, and is full or
// fails when a test says so.
type disk struct {
	log *store.Memory

	mu      sync.Mutex // guards all below
	used    int64
	max     int64 // of the log, 0: no limit
	free    int64 // of a volume of 1 GiB
	failed  error // what the storage is asked says
	appends int   // tried
	fault   store.Fault
	reads   error // every read fails with it

	readFailed chan struct{} // a token after each failed read
}

func newDisk() *disk {
	d := &disk{log: new(store.Memory), free: 1 << 29, readFailed: make(chan struct{}, 1)}
	d.log.Fault = func(data []byte, expected uint64) store.Fault {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.appends++
		size := store.RecordBytes(0, len(data), expected)
		if d.max > 0 && d.used+size > d.max {
			return store.Fault{Lose: true, Err: store.ErrStorageFull}
		}
		if d.fault.Err != nil {
			d.failed = errDisk
			return d.fault
		}
		d.used += size
		return store.Fault{}
	}
	d.log.ReadFault = func(uint64) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.reads != nil {
			select {
			case d.readFailed <- struct{}{}:
			default:
			}
		}
		return d.reads
	}
	return d
}

func (d *disk) set(change func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *disk) usage(context.Context) (Usage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed != nil {
		return Usage{}, errors.Join(ErrStorageFailed, d.failed)
	}
	return Usage{Log: d.used, LogMax: d.max, Free: d.free, Volume: 1 << 30}, nil
}

func (d *disk) run(t *testing.T, c *clock) *fixture {
	return run(t, d.log, c, func(cfg *Config) { cfg.Storage = d.usage })
}

// full debits until it is refused with storage_full, right after a look at the storage:
// before one, what was appended meanwhile may count twice.
func (f *fixture) full() {
	f.t.Helper()
	looked := false
	for range 10_000 {
		r := f.do("acme", "credit.debit", debit(1), f.clock.id())
		switch {
		case r.Err == nil:
			looked = false
		case r.Err.Code != events.StorageFull || r.Err.Code.Status() != 507:
			f.t.Fatalf("refused with %v", r.Err)
		case looked:
			return
		default:
			if err := f.w.lookAtStorage(context.Background()); err != nil {
				f.t.Fatalf("%v", err)
			}
			looked = true
		}
	}
	f.t.Fatalf("the log does not fill up")
}

// works checks that commands are taken, or else refused with storage_full.
func (f *fixture) works(want bool) {
	f.t.Helper()
	if err := f.w.lookAtStorage(context.Background()); err != nil {
		f.t.Fatalf("%v", err)
	}
	r := f.do("acme", "credit.debit", debit(1), f.clock.id())
	if want != (r.Err == nil) || r.Err != nil && r.Err.Code != events.StorageFull {
		f.t.Fatalf("want %t, got %v", want, r.Err)
	}
	if s := f.w.Stats(); s.StorageFull == want {
		f.t.Fatalf("stats %+v", s)
	}
}

// A log at its limit, less the reserve, refuses what would be written and nothing else;
// a restart finds the reserve; a higher limit lets commands in again.
func TestLogAtItsLimit(t *testing.T) {
	d, c := newDisk(), newClock()
	d.max = 100_000
	f := d.run(t, c)
	f.funded("acme", 1_000_000)
	id := c.id()
	first := f.do("acme", "credit.debit", debit(7), id)
	f.full()
	if used := d.used; used > 90_500 || used < 89_000 { // up to a commit's header beyond
		t.Errorf("refused at %d bytes of 100,000, a tenth of which is reserved", used)
	}
	if r := f.do("acme", "credit.debit", debit(5_000_000), c.id()); r.Err == nil || r.Err.Code != events.InsufficientCredits {
		t.Errorf("a refusal: %+v", r)
	}
	if r := f.do("acme", "account.resume", &ledger.ResumeAccount{}, ulid.ULID{}); r.Err != nil {
		t.Errorf("a command that changes nothing: %v", r.Err)
	}
	if r := f.do("acme", "credit.debit", debit(7), id); r.Err != nil || !r.Replayed || r.Position != first.Position {
		t.Errorf("a retry of what is done: %+v", r)
	}
	if r := <-f.send(&Request{}); r.Err != nil {
		t.Errorf("a barrier: %v", r.Err)
	}
	for range 3 { // each takes the partition over
		if err := f.end(); err != nil {
			t.Fatal(err)
		}
		f = d.run(t, c)
		f.works(false)
	}
	d.set(func(d *disk) { d.max = 200_000 })
	f.works(true)
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// Few bytes free on the volume: the same, and it ends by itself.
func TestVolumeNearlyFull(t *testing.T) {
	d, c := newDisk(), newClock()
	f := d.run(t, c)
	f.funded("acme", 1000)
	f.works(true)
	d.set(func(d *disk) { d.free = reserveBytes - 1 })
	f.works(false)
	d.set(func(d *disk) { d.free = 1 << 29 })
	f.works(true)
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// A log too full for "epoch started" is served read-only and taken over when there is
// room, without a restart.
func TestTooFullForATakeover(t *testing.T) {
	for name, fill := range map[string]func(*disk){
		"log":    func(d *disk) { d.max = d.used + 10 },
		"volume": func(d *disk) { d.free = claimBytes - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			d, c := newDisk(), newClock()
			f := d.run(t, c)
			f.funded("acme", 1000)
			if err := f.end(); err != nil {
				t.Fatal(err)
			}
			d.set(fill)
			tried := d.appends
			f = d.run(t, c)
			<-f.w.Ready()
			f.works(false)
			if r := <-f.send(&Request{}); r.Err == nil || r.Err.Code != events.StorageFull {
				t.Errorf("a barrier that nothing proves: %+v", r)
			}
			if s := f.w.Stats(); !s.ReadOnly || s.Serving || f.w.cfg.Tail.End().Sequence != 3 {
				t.Errorf("stats %+v, tail at %d", s, f.w.cfg.Tail.End().Sequence)
			}
			d.set(func(d *disk) {
				if name == "volume" && d.appends > tried {
					t.Error("an append was tried on a volume without room: that error would stay")
				}
				d.max, d.free = 0, 1<<29
			})
			if err := f.w.lookAtStorage(t.Context()); err != nil {
				t.Fatal(err)
			}
			for f.w.Stats().ReadOnly { // until the next try
				<-f.send(&Request{})
			}
			f.works(true)
			if err := f.end(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// After an I/O error nothing is acknowledged: who waits gets outcome_unknown, the writer
// ends, and after a restart a retry finds out, once.
func TestStorageFailureEnds(t *testing.T) {
	for name, fault := range map[string]store.Fault{
		"stored, not synced": {Err: errTimeout},
		"not stored":         {Lose: true, Err: errTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			d, c := newDisk(), newClock()
			f := d.run(t, c)
			f.funded("acme", 1000)
			d.set(func(d *disk) { d.fault = fault })
			id := c.id()
			select {
			case r := <-f.submit("acme", "credit.debit", debit(100), id):
				if r.Err == nil || r.Err.Code != events.OutcomeUnknown {
					t.Errorf("a debit in the failed append: %+v, want outcome_unknown", r)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("a debit in the failed append has no answer: the writer goes on")
			}
			if err := <-f.done; !errors.Is(err, ErrStorageFailed) || !errors.Is(err, errDisk) {
				t.Errorf("Run returned %v, want ErrStorageFailed and its cause", err)
			}
			if r := f.do("acme", "credit.debit", debit(1), c.id()); r.Err == nil || r.Err.Code != events.Unavailable {
				t.Errorf("after the end: %+v", r)
			}
			d.set(func(d *disk) { d.fault, d.failed = store.Fault{}, nil })
			f = d.run(t, c)
			if r := f.do("acme", "credit.debit", debit(100), id); r.Err != nil || posted(r) != 900 || r.Replayed == fault.Lose {
				t.Errorf("the retry: %+v", r)
			}
			if err := f.end(); err != nil {
				t.Fatal(err)
			}
			if _, total := debitsIn(stored(t, d.log)); total != 100 {
				t.Errorf("%d taken, want 100", total)
			}
		})
	}
}

// A storage that has failed before the start: nothing is tried, Run says so.
func TestStorageFailedAtStart(t *testing.T) {
	d := newDisk()
	d.failed = errDisk
	if err := d.run(t, newClock()).wait(); !errors.Is(err, ErrStorageFailed) || d.appends > 0 {
		t.Errorf("Run returned %v after %d appends", err, d.appends)
	}
}

// Reads that fail: a first answer that cannot be read is "unavailable", never decided
// again; a log that cannot be read is not served until it can.
func TestFailingReads(t *testing.T) {
	d, c := newDisk(), newClock()
	f := d.run(t, c)
	f.funded("acme", 1000)
	id := c.id()
	f.do("acme", "credit.debit", debit(100), id)
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	f = d.run(t, c) // its tail holds nothing in memory
	<-f.w.Ready()
	d.set(func(d *disk) { d.reads = errDisk })
	if r := f.do("acme", "credit.debit", debit(100), id); r.Err == nil || r.Err.Code != events.OutcomeUnknown {
		t.Errorf("a retry whose first answer cannot be read: %+v", r)
	}
	if r := f.do("acme", "credit.debit", debit(100), c.id()); r.Err != nil || posted(r) != 800 {
		t.Errorf("a new debit: %+v", r)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	<-d.readFailed
	f = d.run(t, c)
	reply := f.submit("acme", "credit.debit", debit(100), id)
	<-d.readFailed
	<-d.readFailed // the second try to take over
	select {
	case <-f.w.Ready():
		t.Error("served a log that cannot be read")
	case r := <-reply:
		t.Errorf("answered %+v from a log that cannot be read", r)
	default:
	}
	d.set(func(d *disk) { d.reads = nil })
	if r := <-reply; r.Err != nil || !r.Replayed || posted(r) != 900 {
		t.Errorf("the retry: %+v", r)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}
