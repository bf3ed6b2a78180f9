package writer

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// What goes through the stored form behaves as before: the same answers, the same marks,
// and the same times of forgetting.
func TestReceiptsThroughTheirStoredForm(t *testing.T) {
	const limit = 20
	r, now := newReceipts(limit), events.At(start)
	for i := range uint64(3 * limit) {
		now += 60_000
		remember(r, []string{"acme", "acme", "other"}[i%3], idAt(now-events.Time(i), i), now, 1000*i)
	}
	again := restored(t, r, limit)
	if got, want := slices.Collect(again.accounts()), slices.Collect(r.accounts()); !slices.Equal(got, want) {
		t.Errorf("accounts %v, want %v", got, want)
	}
	for now += milliseconds(receiptHorizon - 30*time.Minute); r.held > 0; now += 60_000 {
		r.forgetOld(now)
		again.forgetOld(now)
		if r.held != again.held || r.horizon(now) != again.horizon(now) {
			t.Fatalf("%d receipts and horizon %d, want %d and %d", again.held, again.horizon(now), r.held, r.horizon(now))
		}
		for _, account := range []string{"acme", "other", "nobody"} {
			if got, want := again.appendAccount(nil, account), r.appendAccount(nil, account); !bytes.Equal(got, want) {
				t.Fatalf("%s is stored as\n%x, want\n%x", account, got, want)
			}
			for i := range uint64(3 * limit) {
				id := idAt(events.At(start)+60_000*events.Time(i+1)-events.Time(i), i)
				got, ok := again.find(account, id)
				if want, known := r.find(account, id); got != want || ok != known || codeOfErr(again.check(account, id, now)) != codeOfErr(r.check(account, id, now)) {
					t.Fatalf("%s %s: %+v %v, want %+v %v", account, id, got, ok, want, known)
				}
			}
		}
	}
}

func codeOfErr(err *events.Error) events.Code {
	if err == nil {
		return events.OK
	}
	return err.Code
}

func TestStoredReceiptsAreSmall(t *testing.T) {
	r, now := newReceipts(1000), events.At(start)
	if b := r.appendAccount(nil, "acme"); len(b) != 0 {
		t.Errorf("nothing is stored in %d bytes", len(b))
	}
	if err := r.restoreAccount("acme", nil); err != nil || len(r.numbers) != 0 {
		t.Errorf("nothing is restored as %d accounts, %v", len(r.numbers), err)
	}
	for i := range uint64(1000) {
		remember(r, "acme", idAt(now+events.Time(i), i), now+events.Time(i), 1_000_000+i)
	}
	if got := len(r.appendAccount(nil, "acme")); got > 28*1000 {
		t.Errorf("a thousand receipts are stored in %d bytes", got)
	}
}

// With a smaller budget than they were stored with, the oldest are forgotten, by the rules.
func TestRestoreUnderASmallerBudget(t *testing.T) {
	r, now := newReceipts(100), events.At(start)
	for i := range uint64(100) {
		remember(r, "acme", idAt(now+events.Time(i), i), now+events.Time(i), i)
	}
	small := restored(t, r, 10)
	if _, ok := small.find("acme", idAt(now+90, 90)); !ok || small.held != 10 {
		t.Errorf("%d receipts, want the newest 10", small.held)
	}
	if got := codeAt(small, "acme", now+89, now+100); got != events.CommandExpired {
		t.Errorf("a forgotten id: %s, want command_expired", got)
	}
}

// Bytes that are no stored receipts give an error, never a panic; every cut is found.
func TestBadStoredReceipts(t *testing.T) {
	r, now := newReceipts(10), events.At(start)
	for i := range uint64(12) {
		remember(r, "acme", idAt(now+events.Time(i), i), now+events.Time(i), i)
	}
	good := r.appendAccount(nil, "acme")
	for n := 1; n < len(good); n++ {
		if err := newReceipts(10).restoreAccount("acme", good[:n]); err == nil {
			t.Errorf("cut to %d of %d bytes: no error", n, len(good))
		}
	}
	if err := newReceipts(10).restoreAccount("acme", append(good[:len(good):len(good)], 0)); err == nil {
		t.Error("a byte too many: no error")
	}
	if err := newReceipts(10).restoreAccount("acme", good[:len(good)-1]); !errors.Is(err, events.ErrShort) {
		t.Errorf("cut: %v, want ErrShort", err)
	}
	if err := r.restoreAccount("acme", good); err == nil {
		t.Error("an account that has receipts already: no error")
	}
	for name, s := range map[string]struct{ mark, sequence, entry uint64 }{
		"mark":     {mark: 1},
		"sequence": {sequence: math.MaxUint64},
		"entry":    {entry: 1 << 16},
	} {
		c := events.NewWriter(nil)
		mark := -int64(s.mark)
		c.Int(&mark)
		c.Len(1)
		c.Uint(&s.sequence)
		c.Int(new(int64))
		c.Uint(&s.entry)
		c.Fixed(make([]byte, idAndInput))
		if err := newReceipts(10).restoreAccount("acme", c.Bytes()); err == nil {
			t.Errorf("%s out of range: no error", name)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		b := slices.Clone(good)
		for range rapid.IntRange(1, 5).Draw(t, "changes") {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "to")
		}
		r := newReceipts(10)
		if r.restoreAccount("acme", b) == nil {
			r.forgetOld(now)
			r.appendAccount(nil, "acme")
		}
	})
}

// appendAccount appends all that is remembered of an account.
func (r *receipts) appendAccount(b []byte, account string) []byte {
	b, _ = r.appendSome(b, account, math.MaxUint32)
	return b
}

// restoreAccount takes back what appendAccount wrote, of an account that has nothing yet.
func (r *receipts) restoreAccount(account string, b []byte) error {
	if r.number(account) != 0 {
		return fmt.Errorf("restore receipts of %s: it has some already", account)
	}
	return r.restoreMore(account, b)
}

// accounts returns the accounts that have receipts or a mark. The store may change
// meanwhile; an account that comes or goes meanwhile may be left out.
func (h *holders) accounts() iter.Seq[string] {
	return func(yield func(string) bool) {
		for n := uint32(1); n <= h.used; n++ {
			if account := h.at(n).account; account != "" && !yield(account) {
				return
			}
		}
	}
}
