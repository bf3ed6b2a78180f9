package writer

import (
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

func TestSameIDSameInputSameAnswer(t *testing.T) {
	c := newClock()
	f := run(t, new(store.Memory), c)
	f.funded("acme", 1000)
	f.funded("other", 1000)
	id := c.id()
	first := f.do("acme", "credit.debit", debit(100), id)
	again := f.do("acme", "credit.debit", debit(100), id)
	if again.Err != nil || !again.Replayed || again.Position != first.Position || posted(again) != 900 {
		t.Errorf("retry: %+v, first %+v", again, first)
	}
	if r := f.do("acme", "credit.debit", debit(101), id); r.Err == nil || r.Err.Code != events.IDReused {
		t.Errorf("same id, other amount: %+v, want id_reused", r)
	}
	if r := f.do("acme", "account.suspend", &ledger.SuspendAccount{}, id); r.Err == nil || r.Err.Code != events.IDReused {
		t.Errorf("same id, other verb: %+v, want id_reused", r)
	}
	if r := f.do("other", "credit.debit", debit(100), id); r.Err != nil || r.Replayed {
		t.Errorf("same id, other account: %+v, want its own debit", r)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

func TestDuplicateOfAPendingIDJoinsIt(t *testing.T) {
	log, c := new(store.Memory), newClock()
	gate, appending := make(chan struct{}), make(chan struct{}, 1)
	count := 0
	log.Fault = func([]byte, uint64) store.Fault {
		if count++; count != 4 {
			return store.Fault{}
		}
		return store.Fault{Before: func() { appending <- struct{}{}; <-gate }}
	}
	f := run(t, log, c)
	f.funded("acme", 1000)
	id := c.id()
	first := f.submit("acme", "credit.debit", debit(100), id)
	<-appending
	inFlight := f.submit("acme", "credit.debit", debit(100), id)
	other := c.id()
	open := f.submit("acme", "credit.debit", debit(10), other)
	inOpen := f.submit("acme", "credit.debit", debit(10), other)
	close(gate)
	if a, b := <-first, <-inFlight; a.Replayed || !b.Replayed || a.Position != b.Position || posted(b) != 900 {
		t.Errorf("in flight: %+v and %+v", a, b)
	}
	if a, b := <-open, <-inOpen; a.Replayed || !b.Replayed || a.Position != b.Position || posted(b) != 890 {
		t.Errorf("in the open group: %+v and %+v", a, b)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

func TestRefusalLeavesNoReceipt(t *testing.T) {
	c := newClock()
	f := run(t, new(store.Memory), c)
	f.funded("acme", 10)
	id := c.id()
	if r := f.do("acme", "credit.debit", debit(100), id); r.Err == nil || r.Err.Code != events.InsufficientCredits {
		t.Fatalf("%+v", r)
	}
	f.must("acme", "credit.grant", &ledger.GrantCredit{Environment: "test", Asset: "credits", Amount: 90})
	if r := f.do("acme", "credit.debit", debit(100), id); r.Err != nil || r.Replayed {
		t.Errorf("retry after a grant: %+v, want a fresh decision", r)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

func TestIDsTime(t *testing.T) {
	c := newClock()
	f := run(t, new(store.Memory), c)
	f.funded("acme", 1000)
	at := func(d time.Duration) ulid.ULID {
		return ulid.MustNew(uint64(c.now().Add(d).UnixMilli()), ulid.DefaultEntropy())
	}
	for _, row := range []struct {
		offset time.Duration
		want   events.Code
	}{
		{-receiptHorizon - time.Millisecond, events.CommandExpired},
		{-receiptHorizon, events.OK},
		{idAhead, events.OK},
		{idAhead + time.Millisecond, events.InvalidArgument},
	} {
		r := f.do("acme", "credit.debit", debit(1), at(row.offset))
		if got := codeOf(r); got != row.want {
			t.Errorf("id %s off: %s, want %s", row.offset, got, row.want)
		}
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// A known id replays whatever its age, until its receipt is forgotten; from then on it
// is expired, never a second debit.
func TestForgottenReceiptIsExpired(t *testing.T) {
	c := newClock()
	f := run(t, new(store.Memory), c)
	f.funded("acme", 1000)
	ahead := ulid.MustNew(uint64(c.now().Add(idAhead).UnixMilli()), ulid.DefaultEntropy())
	if r := f.do("acme", "credit.debit", debit(1), ahead); r.Err != nil {
		t.Fatal(r.Err)
	}
	c.advance(receiptHorizon + idAhead)
	for range 2 { // the second one in a group that was opened at that time
		if r := f.do("acme", "credit.debit", debit(1), ahead); r.Err != nil || !r.Replayed {
			t.Errorf("at the horizon's end: %+v, want the first answer", r)
		}
	}
	c.advance(time.Millisecond)
	if r := f.do("acme", "credit.debit", debit(1), ahead); codeOf(r) != events.CommandExpired {
		t.Errorf("past the horizon: %+v, want command_expired", r)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	if _, total := debitsIn(stored(t, f.log)); total != 1 {
		t.Errorf("%d taken, want 1", total)
	}
}

// With too many receipts the horizon shortens, and what was forgotten early is expired.
func TestReceiptLimitShortensTheHorizon(t *testing.T) {
	c := newClock()
	f := run(t, new(store.Memory), c, func(cfg *Config) { cfg.MaxReceipts = 2 })
	f.funded("acme", 1000)
	var ids []ulid.ULID
	for range 3 {
		id := c.id()
		ids = append(ids, id)
		if r := f.do("acme", "credit.debit", debit(1), id); r.Err != nil {
			t.Fatal(r.Err)
		}
		c.advance(10 * time.Minute)
	}
	if r := f.do("acme", "credit.debit", debit(1), ids[0]); codeOf(r) != events.CommandExpired {
		t.Errorf("forgotten id: %+v, want command_expired", r)
	}
	if r := f.do("acme", "credit.debit", debit(1), ids[1]); !r.Replayed {
		t.Errorf("kept id: %+v, want the first answer", r)
	}
	if got, want := f.w.Stats().HorizonMS, int64(24*time.Hour/time.Millisecond); got >= want {
		t.Errorf("horizon %d ms, want less than %d", got, want)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

func codeOf(r *Reply) events.Code {
	if r.Err != nil {
		return r.Err.Code
	}
	return events.OK
}
