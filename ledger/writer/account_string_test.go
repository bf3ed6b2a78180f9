package writer

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/keyledger/keyledger/events/store"
)

// A receipt must not keep the request alive whose subject its account was cut from.
func TestReceiptsKeepOneNameOfTheirOwn(t *testing.T) {
	c := newClock()
	f := run(t, new(store.Memory), c)
	f.funded("acme", 10)
	var given []string
	for range 3 {
		given = append(given, strings.Clone("keyledger.cmd.acme.credit.debit")[14:18])
		if r := f.do(given[len(given)-1], "credit.debit", debit(1), c.id()); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	held := 0
	for account := range f.w.receipts.accounts() {
		held++
		for _, name := range given {
			if unsafe.StringData(account) == unsafe.StringData(name) {
				t.Error("the account's name is a part of a subject")
			}
		}
	}
	if held != 1 || f.w.receipts.held != 3 {
		t.Errorf("%d receipts of %d accounts, want 3 of 1", f.w.receipts.held, held)
	}
}
