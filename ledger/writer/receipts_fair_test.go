package writer

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// remember adds an id as if its command had been committed at that time.
func remember(r *receipts, account string, id ulid.ULID, at events.Time, sequence uint64) {
	r.add(&store.Entry{Account: account, CommandID: id}, at, sequence, 0)
}

// code is what an unknown id of a time would get, OK if it is taken.
func codeAt(r *receipts, account string, at, now events.Time) events.Code {
	if err := r.check(account, idAt(at, 0), now); err != nil {
		return err.Code
	}
	return events.OK
}

// An account that floods the store shortens its own horizon; those of the others stay at
// 24 hours, and their ids are known to the last.
func TestAFloodShortensItsOwnHorizonOnly(t *testing.T) {
	const limit, quiet = 1000, 200
	r, now := newReceipts(limit), events.At(start)
	for i := range uint64(quiet) {
		remember(r, "quiet", idAt(now, i), now, 1)
	}
	for i := range uint64(10 * limit) {
		now += 1000
		r.forgetOld(now)
		remember(r, "flood", idAt(now, i), now, 2+i)
	}
	for i := range uint64(quiet) {
		if _, ok := r.find("quiet", idAt(events.At(start), i)); !ok {
			t.Fatalf("the quiet account's receipt %d was forgotten", i)
		}
	}
	reach := events.Time((limit - quiet) * 1000) // of the flood: its share, one a second
	for _, row := range []struct {
		account string
		at      events.Time
		want    events.Code
	}{
		{"quiet", now - milliseconds(receiptHorizon), events.OK},
		{"other", now - milliseconds(receiptHorizon), events.OK},
		{"flood", now - reach + 1, events.OK},
		{"flood", now - reach, events.CommandExpired},
	} {
		if got := codeAt(r, row.account, row.at, now); got != row.want {
			t.Errorf("%s at %s: %s, want %s", row.account, now.Std().Sub(row.at.Std()), got, row.want)
		}
	}
	if got, want := r.horizon(now), reach-1; got != want {
		t.Errorf("shortest horizon %d ms, want %d", got, want)
	}
	if r.forgetOld(now); r.short.belowFull != 1 || r.short.belowFloor != 0 {
		t.Errorf("counted %+v, want one account below 24 hours and none below 5 minutes", r.short)
	}
	if sum := r.holders.at(r.number("quiet")).count + r.holders.at(r.number("flood")).count; sum != limit || r.held != limit {
		t.Errorf("%d receipts in accounts, %d held, want %d", sum, r.held, limit)
	}
}

// Below five minutes an account's new ids are refused as unavailable, its known ones are
// not; with the time its horizon grows again. A young ledger has forgotten nothing.
func TestTheFloorOfTheHorizon(t *testing.T) {
	r, now := newReceipts(3), events.At(start)
	floor := milliseconds(receiptFloor)
	if got := codeAt(r, "acme", now, now); got != events.OK {
		t.Errorf("an empty store: %s", got)
	}
	for i := range uint64(4) {
		remember(r, "acme", idAt(now, i), now, 1+i)
	}
	for _, row := range []struct {
		after events.Time
		want  events.Code
	}{{1, events.Unavailable}, {floor, events.Unavailable}, {floor + 1, events.OK}} {
		if got := codeAt(r, "acme", now+row.after, now+row.after); got != row.want {
			t.Errorf("%d ms after what was forgotten: %s, want %s", row.after, got, row.want)
		}
	}
	if got := codeAt(r, "acme", now, now+1); got != events.CommandExpired {
		t.Errorf("an id of the time of what was forgotten: %s", got)
	}
	if got := codeAt(r, "other", now+1, now+1); got != events.OK {
		t.Errorf("another account: %s", got)
	}
	if r.forgetOld(now + floor); r.short.belowFloor != 1 || r.horizon(now+floor) != floor-1 {
		t.Errorf("%+v and a horizon of %d, want one account below the floor", r.short, r.horizon(now+floor))
	}
	if r.forgetOld(now + floor + 1); r.short.belowFloor != 0 || r.short.belowFull != 1 {
		t.Errorf("a millisecond later: %+v", r.short)
	}
}

// The same through the writer: the flooding account is refused and told why, goes on
// without ids, and its known ids still get their first answers.
func TestBelowTheFloorKnownIDsAreAnswered(t *testing.T) {
	c := newClock()
	f := run(t, new(store.Memory), c, func(cfg *Config) { cfg.MaxReceipts = 2 })
	f.funded("acme", 1000)
	f.funded("other", 1000)
	var ids []ulid.ULID
	for range 3 {
		c.advance(time.Second)
		ids = append(ids, c.id())
		if r := f.do("acme", "credit.debit", debit(1), ids[len(ids)-1]); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	r := f.do("acme", "credit.debit", debit(1), c.id())
	if codeOf(r) != events.Unavailable || !strings.Contains(r.Err.Message, "5 minutes") || !strings.Contains(r.Err.Message, "same id") {
		t.Errorf("a new id: %+v, want unavailable and what to do", r)
	}
	if r := f.do("acme", "credit.debit", debit(1), ids[0]); codeOf(r) != events.CommandExpired {
		t.Errorf("the forgotten id: %+v, want command_expired", r)
	}
	if r := f.do("acme", "credit.debit", debit(1), ids[1]); !r.Replayed {
		t.Errorf("a known id: %+v, want the first answer", r)
	}
	if r := f.do("acme", "credit.debit", debit(2), ids[1]); codeOf(r) != events.IDReused {
		t.Errorf("a known id with another input: %+v, want id_reused", r)
	}
	f.must("acme", "credit.debit", debit(1))
	if r := f.do("other", "credit.debit", debit(1), c.id()); r.Err != nil {
		t.Errorf("another account: %v", r.Err)
	}
	// The other's receipt cost acme its second; the third is still known.
	if r := f.do("acme", "credit.debit", debit(1), ids[2]); !r.Replayed {
		t.Errorf("after an eviction: %+v, want the first answer", r)
	}
	s := f.w.Stats()
	if s.Receipts != 2 || s.ReceiptLimit != 2 || s.ReceiptBytes != ReceiptBytes || s.BelowFloor != 1 || s.BelowFull != 1 {
		t.Errorf("%+v", s)
	}
	c.advance(receiptFloor)
	if r := f.do("acme", "credit.debit", debit(1), c.id()); r.Err != nil {
		t.Errorf("five minutes later: %v", r.Err)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	if times, total := debitsIn(stored(t, f.log)); total != 6 || len(times) != 6 {
		t.Errorf("%d taken in %d debits, want 6 of 1", total, len(times))
	}
}

// An id ahead of the clock whose receipt the budget took must not come in again while its
// time is still ahead of the clock or within the horizon.
func TestAForgottenIDAheadOfTheClock(t *testing.T) {
	r, now := newReceipts(1), events.At(start)
	ahead := idAt(now+milliseconds(idAhead), 1)
	remember(r, "acme", ahead, now, 1)
	remember(r, "acme", idAt(now, 2), now, 2)
	for _, later := range []time.Duration{0, idAhead, idAhead + receiptFloor + time.Second, receiptHorizon + idAhead, 3 * receiptHorizon} {
		if err := r.check("acme", ahead, now+milliseconds(later)); err == nil || err.Code != events.CommandExpired {
			t.Errorf("%s later: %v, want command_expired", later, err)
		}
	}
}

// The sweep forgets every account's receipts a minute after the horizon, a share at a
// time, and drops the accounts once newer commits make their marks pointless.
func TestTheSweepReachesEveryAccount(t *testing.T) {
	const accounts = 10 * sweepHolders
	r, now := newReceipts(1_000_000), events.At(start)
	for i := range uint64(accounts) {
		remember(r, "a"+string(rune('0'+i)), idAt(now, i), now, 1+i)
	}
	remember(r, "many", idAt(now-1, math.MaxUint64), now-1, 1)
	for i := range uint64(3 * sweepReceipts) {
		remember(r, "many", idAt(now, i), now, 1+i)
	}
	edge := now + milliseconds(receiptHorizon+idAhead)
	sweep := func(at events.Time) {
		for range 1 + accounts/sweepHolders + 3 {
			before := r.held
			if r.forgetOld(at); before-r.held > sweepReceipts {
				t.Fatalf("one sweep forgot %d receipts, at most %d", before-r.held, sweepReceipts)
			}
		}
	}
	if sweep(edge); r.held != accounts+3*sweepReceipts {
		t.Errorf("%d receipts at the horizon's end, want all but the one that is past it", r.held)
	}
	if sweep(edge + 1); r.held != 0 {
		t.Errorf("%d receipts past the horizon, want none", r.held)
	}
	if got := len(r.numbers); got != accounts+1 {
		t.Errorf("%d accounts before a commit proves that their marks are past, want %d", got, accounts+1)
	}
	remember(r, "new", idAt(edge+1, 0), edge+1, 9)
	sweep(edge + 1)
	if _, ok := r.find("new", idAt(edge+1, 0)); !ok || len(r.numbers) != 1 {
		t.Errorf("%d accounts are kept, want the new one", len(r.numbers))
	}
	used := r.used
	for i := range uint64(accounts) {
		remember(r, "b"+string(rune('0'+i)), idAt(edge+1, i), edge+1, 10+i)
	}
	if r.used != used {
		t.Errorf("%d account records, %d were free", r.used, used)
	}
}
