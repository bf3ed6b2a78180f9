package events

import (
	"testing"
	"time"

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

// What is written by hand for speed is what the standard library writes.
func TestTimeText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := Time(rapid.OneOf(
			rapid.Int64Range(1, 253_402_300_799_999), rapid.Int64Range(-1<<50, 1<<50),
			rapid.Map(rapid.Int64Range(0, 253_402_300_799), func(s int64) int64 { return s * 1000 }),
		).Draw(t, "ms"))
		want := at.Std().Format(time.RFC3339Nano)
		if at == 0 {
			want = ""
		}
		if at.String() != want {
			t.Fatalf("%d is %s, want %s", int64(at), at, want)
		}
	})
	for _, at := range []string{"1972-02-29T23:59:59.999Z", "2000-02-29T00:00:00Z", "2100-02-28T23:59:59.01Z", "2100-03-01T00:00:00Z", "9999-12-31T23:59:59.999Z"} {
		std, err := time.Parse(time.RFC3339Nano, at)
		if err != nil || At(std).String() != at {
			t.Errorf("%s is written %s, %v", at, At(std), err)
		}
	}
}

func TestAppendStringEqualsTheLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]*`)).Draw(t, "text")
		want, err := json.Marshal(s)
		if err != nil || string(AppendString(nil, s)) != string(want) {
			t.Fatalf("%q is written %s, want %s (%v)", s, AppendString(nil, s), want, err)
		}
	})
}
