package main

import (
	"bytes"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/client"
)

func TestHoldListRows(t *testing.T) {
	if c := holdList(new(app)); c.Name() != "list" || c.Flags().Lookup("status") == nil {
		t.Errorf("the command is %s", c.Use)
	}
	var out, notes bytes.Buffer
	a := &app{out: &out, errOut: &notes}
	body, err := events.Encode(map[string]any{"next_cursor": "abc", "holds": []events.Hold{
		{ID: "hold_1", Environment: events.Test, Asset: "credits", Status: events.Open, Amount: 10, Captured: 4, Held: 6, ExpiresAt: at(1)},
		{ID: "hold_2", Environment: events.Live, Asset: "usd", Status: events.Lapsed, Amount: 7, Key: "key_1", ExpiresAt: at(2)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var list listedHolds
	if err := a.show(&client.Reply{Body: body}, &list, list.rows); err != nil {
		t.Fatal(err)
	}
	want := `HOLD    ENVIRONMENT  ASSET    STATUS   AMOUNT  CAPTURED  HELD  EXPIRES               KEY
hold_1  test         credits  open     10      4         6     2026-01-01T00:00:01Z  -
hold_2  live         usd      expired  7       0         0     2026-01-01T00:00:02Z  key_1
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
	if notes.String() != "note: there are more: --cursor abc\n" {
		t.Errorf("notes: %s", &notes)
	}
}
