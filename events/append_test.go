package events

import (
	"testing"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"
)

// What the hot path writes by hand is what the struct tags say.
func TestAppendJSONEqualsTheTags(t *testing.T) {
	text := rapid.String()
	number := rapid.Int64Range(-1<<53, 1<<53)
	rapid.Check(t, func(t *rapid.T) {
		d := &Debited{}
		for _, s := range []*string{&d.ID, &d.Environment, &d.Asset, &d.Key, &d.Product, &d.Access, &d.IP, &d.SecretAge, &d.Reference, &d.Balance.Environment, &d.Balance.Asset} {
			*s = text.Draw(t, "text")
		}
		d.Amount, d.Units, d.Balance.Posted, d.Balance.Held = number.Draw(t, "amount"), number.Draw(t, "units"), number.Draw(t, "posted"), number.Draw(t, "held")
		d.CreatedAt = Time(rapid.Int64Range(0, 1<<42).Draw(t, "time"))
		for range rapid.IntRange(0, 3).Draw(t, "draws") {
			d.Drawn = append(d.Drawn, Draw{Grant: text.Draw(t, "grant"), Amount: number.Draw(t, "part")})
		}
		type plainDebit Debit
		type plainBalance Balance
		want, err := json.Marshal(&struct {
			plainDebit
			Balance plainBalance `json:"balance"`
		}{plainDebit(d.Debit), plainBalance(d.Balance)}, json.Deterministic(true))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(d.AppendJSON(nil)); got != string(want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		want, err = json.Marshal((*plainDebit)(&d.Debit))
		if err != nil || string(d.Debit.AppendJSON(nil)) != string(want) {
			t.Fatalf("debit: got %s, want %s, %v", d.Debit.AppendJSON(nil), want, err)
		}
	})
}
