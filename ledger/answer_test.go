package ledger

import (
	"testing"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// What the hot path writes by hand is what the struct tags say.
func TestAnswerJSONEqualsTheTags(t *testing.T) {
	text, number := rapid.String(), rapid.Int64()
	rapid.Check(t, func(t *rapid.T) {
		a := Answer{
			Allowed: rapid.Bool().Draw(t, "allowed"), Code: events.Code(rapid.StringMatching(`[a-z_]{1,20}`).Draw(t, "code")),
			Message: text.Draw(t, "message"), Account: text.Draw(t, "account"), Environment: text.Draw(t, "environment"),
			Key: text.Draw(t, "key"), Cost: number.Draw(t, "cost"), Debit: text.Draw(t, "debit"),
			SecretAge: text.Draw(t, "age"), Position: text.Draw(t, "position"), Replayed: rapid.Bool().Draw(t, "replayed"),
		}
		if rapid.Bool().Draw(t, "has balance") {
			n := number.Draw(t, "balance")
			a.Balance = &n
		}
		if rapid.Bool().Draw(t, "has rate") {
			a.Rate = &RateState{Limit: number.Draw(t, "limit"), Remaining: number.Draw(t, "remaining"), ResetMS: number.Draw(t, "reset")}
		}
		type plain Answer
		want, err := json.Marshal((*plain)(&a))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(a.AppendJSON(nil)); got != string(want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}
