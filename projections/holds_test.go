package projections

import (
	"fmt"
	"slices"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// draw is what a hold of the tests reserves.
func draw(amount int64) []events.Draw {
	return []events.Draw{{Grant: "grant_1", Amount: amount}}
}

// placed is a hold of 10 as it is placed.
func (h *history) placed(id, key string) events.Held {
	return events.Held{Hold: events.Hold{ID: id, Amount: 10, Held: 10, Status: events.Open, Key: key, ExpiresAt: h.now + 1000,
		CreatedAt: h.now + 1, Reserved: draw(10)}}
}

// captured is the hold after a capture.
func captured(d events.Held, amount int64) events.Held {
	d.Capture = &events.Capture{Debit: "debit_1", Amount: amount, Drawn: draw(amount)}
	d.Hold.Captured += amount
	d.Hold.Held -= amount
	if d.Reserved = draw(d.Hold.Held); d.Hold.Held == 0 {
		d.Reserved, d.Status = nil, events.Captured
	}
	return d
}

// ended is the hold after its end.
func ended(d events.Held, status string) events.Held {
	d.Capture, d.Returned, d.Reserved = nil, draw(d.Hold.Held), nil
	d.Status, d.Hold.Held = status, 0
	return d
}

func TestHoldQueries(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	key, created := h.key("acme", events.Test)
	h.commit(h.account("acme"), h.account("beta"), created, h.granted("acme", "grant_1", 100, 0, 100), h.granted("beta", "grant_1", 100, 0, 100))
	wait(t, v, h.chain.Sequence)
	none, err := ask(t, v, "hold.list", "acme", "")
	if err != nil {
		t.Fatal(err)
	}
	same(t, none, `{"holds":[],"next_cursor":null}`)

	// Two accounts may give their commands, and so their holds, the same ids.
	first, second := h.id(holdIDPrefix), h.id(holdIDPrefix)
	one := h.placed(first, key)
	h.commit(h.held("acme", "placed", one, 100, 10), h.held("beta", "placed", h.placed(first, ""), 100, 10))
	two := h.placed(second, "")
	h.commit(h.held("acme", "placed", two, 100, 20))
	wait(t, v, h.chain.Sequence)
	if k := into[struct{ Key events.Key }](t, v, "key.get", "acme", fmt.Sprintf(`{"key":%q}`, key)).Key; k.LastUsedAt != 0 {
		t.Errorf("a key whose hold was only placed was used at %s", k.LastUsedAt)
	}
	one = captured(one, 4)
	used := h.commit(h.held("acme", "captured", one, 96, 16)).Time
	h.commit(h.held("acme", "released", ended(two, events.Released), 96, 6))
	wait(t, v, h.chain.Sequence)
	if k := into[struct{ Key events.Key }](t, v, "key.get", "acme", fmt.Sprintf(`{"key":%q}`, key)).Key; k.LastUsedAt != used {
		t.Errorf("the key that a capture was paid with was used at %s, want %s", k.LastUsedAt, used)
	}
	got, err := ask(t, v, "hold.get", "acme", fmt.Sprintf(`{"hold":%q}`, first))
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, fmt.Sprintf(`{"hold":{"id":%q,"environment":"test","asset":"credits","amount":10,"captured":4,"held":6,"status":"open",
		"key":%q,"expires_at":%q,"created_at":%q,"reserved":[{"grant":"grant_1","amount":6}]}}`, first, key, one.ExpiresAt, one.CreatedAt))
	b := into[struct{ Balance Balance }](t, v, "balance.get", "acme", `{"environment":"test"}`).Balance
	if b.Posted != 96 || b.Held != 6 || b.Available != 90 || b.Grants[0].Remaining != 90 {
		t.Errorf("balance %+v", b)
	}

	for body, want := range map[string][]string{
		`{}`:                               {first, second},
		`{"status":"open"}`:                {first},
		`{"status":"released"}`:            {second},
		`{"status":"captured"}`:            nil,
		`{"environment":"live"}`:           nil,
		`{"environment":"test","limit":1}`: {first},
		fmt.Sprintf(`{"key":%q}`, key):     {first},
	} {
		var ids []string
		for _, h := range into[struct{ Holds []events.Hold }](t, v, "hold.list", "acme", body).Holds {
			ids = append(ids, h.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("hold.list %s: %v, want %v", body, ids, want)
		}
	}
	if h := into[struct{ Hold events.Hold }](t, v, "hold.get", "beta", fmt.Sprintf(`{"hold":%q}`, first)).Hold; h.Held != 10 {
		t.Errorf("beta's hold of the same id: %+v", h)
	}
	refused(t, v, events.NotFound, "hold.get", "beta", fmt.Sprintf(`{"hold":%q}`, second))
	refused(t, v, events.NotFound, "hold.get", "nobody", fmt.Sprintf(`{"hold":%q}`, first))
	refused(t, v, events.NotFound, "hold.list", "nobody", "")
	for _, body := range []string{`{}`, `{"hold":"hold_1"}`, `{"hold":"` + h.id(keyIDPrefix) + `"}`, `{"hlod":"x"}`} {
		refused(t, v, events.InvalidArgument, "hold.get", "acme", body)
	}
	for _, body := range []string{`{"status":"active"}`, `{"environment":"prod"}`, `{"key":"key_1"}`, `{"limit":501}`, `{"cursor":"x"}`} {
		refused(t, v, events.InvalidArgument, "hold.list", "acme", body)
	}
}

// TestEndedHoldsAreBounded: of those that are over the last are kept, in the order in which
// they ended, and a cursor goes on where a hold stood that is gone.
func TestEndedHoldsAreBounded(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	h.commit(h.account("acme"), h.granted("acme", "grant_1", 10_000, 0, 10_000))
	var list []events.Held
	held := int64(0)
	for range maxEndedHolds + 3 {
		d := h.placed(h.id(holdIDPrefix), "")
		held += 10
		h.commit(h.held("acme", "placed", d, 10_000, held))
		list = append(list, d)
	}
	end := func(i int) {
		held -= 10
		h.commit(h.held("acme", "expired", ended(list[i], events.Lapsed), 10_000, held))
	}
	type page struct {
		Holds []events.Hold
		Next  *string `json:"next_cursor"`
	}
	ids := func(body string) (out []string, next *string) {
		p := into[page](t, v, "hold.list", "acme", body)
		for _, h := range p.Holds {
			out = append(out, h.ID)
		}
		return out, p.Next
	}
	// The first stays open. The last ends first, and is the first to go.
	end(len(list) - 1)
	for i := 1; i < maxEndedHolds; i++ {
		end(i)
	}
	wait(t, v, h.chain.Sequence)
	if all, _ := ids(`{"limit":500}`); len(all) != maxEndedHolds+3 {
		t.Fatalf("%d are kept of %d, of which %d are over", len(all), len(list), maxEndedHolds)
	}
	_, cursor := ids(`{"limit":2}`) // ends with the second, which is gone below
	end(maxEndedHolds)
	wait(t, v, h.chain.Sequence)
	if all, _ := ids(`{"limit":500}`); len(all) != maxEndedHolds+2 || slices.Contains(all, list[len(list)-1].ID) {
		t.Errorf("%d are kept, the one that ended first: %v", len(all), slices.Contains(all, list[len(list)-1].ID))
	}
	end(maxEndedHolds + 1)
	wait(t, v, h.chain.Sequence)
	if rest, _ := ids(fmt.Sprintf(`{"limit":3,"cursor":%q}`, *cursor)); !slices.Equal(rest, []string{list[2].ID, list[3].ID, list[4].ID}) {
		t.Errorf("behind one that is gone: %v", rest)
	}
	refused(t, v, events.NotFound, "hold.get", "acme", fmt.Sprintf(`{"hold":%q}`, list[1].ID))
	if open, _ := ids(`{"status":"open"}`); !slices.Equal(open, []string{list[0].ID}) {
		t.Errorf("open: %v", open)
	}
}

// TestInconsistentHoldsStop: a hold's event that does not follow from the one before it
// stops the view.
func TestInconsistentHoldsStop(t *testing.T) {
	for name, bad := range map[string]func(d events.Held) []events.Held{
		"placed twice":      func(d events.Held) []events.Held { return []events.Held{d, d} },
		"never placed":      func(d events.Held) []events.Held { return []events.Held{captured(d, 1)} },
		"a missed capture":  func(d events.Held) []events.Held { return []events.Held{d, captured(captured(d, 1), 1)} },
		"ended twice":       func(d events.Held) []events.Held { return []events.Held{d, ended(d, "released"), ended(d, "expired")} },
		"too little held":   func(d events.Held) []events.Held { d.Hold.Held = 9; return []events.Held{d} },
		"too much reserved": func(d events.Held) []events.Held { d.Reserved = draw(11); return []events.Held{d} },
		"too little back": func(d events.Held) []events.Held {
			e := ended(d, "released")
			e.Returned = draw(9)
			return []events.Held{d, e}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t)
			v := follow(t, h.tail)
			h.commit(h.account("acme"))
			for _, d := range bad(h.placed(h.id(holdIDPrefix), "")) {
				h.commit(h.held("acme", "placed", d, 0, 0)) // the type says nothing more
			}
			wait(t, v, h.chain.Sequence)
			refused(t, v, events.Unavailable, "hold.list", "acme", "")
		})
	}
}
