package writer

import (
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// A walk may take either account of a transfer after it and the other one before: each
// gets its own leg once.
func TestTransferAcrossAWalk(t *testing.T) {
	log, c := new(store.Memory), newClock()
	f := run(t, log, c)
	f.funded("acme", 100)
	f.funded("other", 100)
	if r := f.do("acme", "credit.transfer", transfer("other", 30), c.id()); r.Err != nil {
		t.Fatal(r.Err)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	list := stored(t, log)
	last := list[len(list)-1]
	before, after := offline(log, c, nil), offline(log, c, nil)
	before.restore(t.Context(), nil)
	after.restore(t.Context(), nil)
	for _, commit := range list {
		after.fold(commit)
		if commit != last {
			before.fold(commit)
		}
	}
	for _, ahead := range []string{"acme", "other", "both", "none"} {
		w := offline(log, c, nil)
		w.restore(t.Context(), nil)
		w.stamps = map[string]uint64{}
		for i := range before.state.Accounts() {
			from, account := before, before.state.AccountAt(i)
			if ahead == account || ahead == "both" {
				from, w.stamps[account] = after, last.Sequence
			}
			if _, err := w.state.RestoreAccount(from.state.AppendAccount(nil, i)); err != nil {
				t.Fatal(err)
			}
			if err := w.receipts.restoreMore(account, from.receipts.appendAccount(nil, account)); err != nil {
				t.Fatal(err)
			}
		}
		w.fold(last)
		if got, want := remembered(w), remembered(after); got != want {
			t.Errorf("with %s ahead:\n%swant\n%s", ahead, got, want)
		}
	}
}

// A repeated transfer is answered with the sender's leg, at the position of the first
// answer, and moves nothing.
func TestTransferTwice(t *testing.T) {
	log, c := new(store.Memory), newClock()
	f := run(t, log, c)
	f.funded("acme", 100)
	f.funded("other", 100)
	id := c.id()
	first := f.do("acme", "credit.transfer", transfer("other", 30), id)
	if d, ok := first.Data.(*events.Transferred); !ok || d.Drawn == nil || first.Position.Index != 1 {
		t.Fatalf("%+v", first)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	f = run(t, log, c)
	again := f.do("acme", "credit.transfer", transfer("other", 30), id)
	if d, ok := again.Data.(*events.Transferred); !ok || d.Drawn == nil || !again.Replayed || again.Position != first.Position {
		t.Errorf("%+v, first %+v", again, first)
	}
	// The receiver's own ids are its own.
	if r := f.do("other", "credit.debit", debit(130), id); r.Err != nil || r.Replayed {
		t.Errorf("%+v", r)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// What is due of the account that is paid comes before the transfer too, as an entry of
// its own.
func TestTransferMeetsWhatIsDueOfBoth(t *testing.T) {
	log, c := new(store.Memory), newClock()
	f := run(t, log, c)
	// So much is due before that the timer does not come to the receiver by itself.
	f.must("crowd", "account.open", &ledger.OpenAccount{})
	for range maxDue {
		id := ulid.Make()
		f.must("crowd", "key.create", &ledger.CreateKey{Environment: events.Test, Name: "k", KeyID: id, ExpiresAt: events.At(start.Add(time.Hour - time.Millisecond))})
	}
	for _, account := range []string{"acme", "other"} {
		f.must(account, "account.open", &ledger.OpenAccount{})
		f.must(account, "credit.grant", &ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: ledger.MaxAmount, ExpiresAt: events.At(start.Add(time.Hour))})
	}
	f.must("acme", "credit.debit", debit(1))
	f.must("acme", "credit.adjust", &ledger.AdjustCredit{Environment: events.Test, Asset: "credits", Amount: 1, Reason: "does not expire"})
	c.advance(time.Hour)
	if r := f.do("acme", "credit.transfer", transfer("other", 1), ulid.ULID{}); r.Err != nil {
		t.Errorf("the receiver's grant is over and leaves room: %v", r.Err)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	entries := map[string][]string{}
	for _, commit := range stored(t, log) {
		for _, e := range commit.Entries {
			for i := range e.Events {
				if e.Command == commandTimer && e.Events[i].Account != e.Account {
					t.Errorf("an event of %s in the entry of %s", e.Events[i].Account, e.Account)
				}
			}
			entries[e.Account] = append(entries[e.Account], e.Events[0].Type)
		}
	}
	if got := entries["other"]; got[len(got)-1] != "credit.expired" {
		t.Errorf("entries of the receiver: %v", got)
	}
}
