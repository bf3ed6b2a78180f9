package writer

import (
	"testing"
	"unsafe"

	"github.com/keyledger/keyledger/events/store"
)

// A receipt must not keep the request alive whose subject its account was cut from.
func TestReceiptsShareTheAccountsName(t *testing.T) {
	c := newClock()
	f := run(t, new(store.Memory), c)
	f.funded("acme", 10)
	for range 3 {
		subject := []byte("keyledger.cmd.acme.credit.debit") // a new one each time
		if r := f.do(string(subject)[14:18], "credit.debit", debit(1), c.id()); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	names := map[*byte]bool{}
	for key := range f.w.receipts.known {
		names[unsafe.StringData(key.account)] = true
	}
	if len(f.w.receipts.known) != 3 || len(names) != 1 {
		t.Errorf("%d receipts keep %d strings", len(f.w.receipts.known), len(names))
	}
}
