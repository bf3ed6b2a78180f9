package projections

import (
	"fmt"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// The newest use of a key counts, free or paid, whichever is told first. Unknown keys are
// passed over, and nothing of it is in the event's own data.
func TestUsed(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	h.commit(h.account("acme"), h.granted("acme", "grant_1", 100, 0, 100))
	id, created := h.key("acme", events.Test)
	h.commit(created)
	wait(t, v, h.chain.Sequence)
	check := func(at events.Time, ip, product string) {
		t.Helper()
		type result struct{ Key events.Key }
		got := into[result](t, v, "key.get", "acme", fmt.Sprintf(`{"key":%q}`, id)).Key
		if got.LastUsedAt != at || got.LastUsedIP != ip || got.LastUsedProduct != product {
			t.Errorf("last used %s from %q for %q, want %s from %q for %q", got.LastUsedAt, got.LastUsedIP, got.LastUsedProduct, at, ip, product)
		}
	}
	pay := func(ip string) events.Time {
		t.Helper()
		paid := h.debited("acme", id, 90, events.Draw{Grant: "grant_1", Amount: 10})
		paid.Data.(*events.Debited).IP = ip
		at := h.commit(paid).Time
		wait(t, v, h.chain.Sequence)
		return at
	}
	v.Used([]Use{{"acme", h.id(keyIDPrefix), h.now, "192.0.2.9", ""}, {"acme", id, h.now + 1000, "192.0.2.1", "search"}})
	free := h.now + 1000
	check(free, "192.0.2.1", "search")
	pay("192.0.2.2") // before it
	check(free, "192.0.2.1", "search")
	h.now = free
	paid := pay("192.0.2.3")
	check(paid, "192.0.2.3", "")
	v.Used([]Use{{"acme", id, free, "192.0.2.1", "search"}, {"acme", id, paid, "192.0.2.4", ""}}) // not newer
	check(paid, "192.0.2.3", "")
	if key := created.Data.(*events.Key); key.LastUsedAt != 0 || key.LastUsedIP != "" {
		t.Errorf("the event's own data was changed: %+v", key)
	}
}
