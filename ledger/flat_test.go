package ledger

import (
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyledger/keyledger/events"
)

// FuzzFlat holds the fast reader to the strict decoder: what it takes, that takes, with
// the same result; and what either refuses, DecodeStrict refuses.
func FuzzFlat(f *testing.F) {
	for _, seed := range []string{
		`{}`, ``, ` { } `, `{"environment":"test","asset":"credits","amount":100}`,
		`{"secret":"kl_test_x","id":"01JD9Z3W8X4T6V2QK7M5N0PRSD","product":"payments","access":"read","ip":"192.0.2.1","cost":0,"units":7,"reference":"r"}`,
		`{"key":"key_01JD9Z3W8X4T6V2QK7M5N0PRSD","message":"GET /v1/cards","signature":"AA==","signed_at":"2026-03-01T12:00:00Z","id":"01JD9Z3W8X4T6V2QK7M5N0PRSD"}`,
		`{"key":1}`, `{"message":null}`, `{"message":"a\nb","signature":"\u0041"}`, `{"signed_at":{}}`,
		"{ \"amount\" :\n 999999999999999 , \"key\":\"\"}\t", `{"amount":1000000000000000}`, `{"amount":9007199254740993}`, `{"amount":01}`, `{"amount":-1}`,
		`{"amount":1.0}`, `{"amount":1e3}`, `{"amount":"1"}`, `{"amount":null}`, `{"cost":null,"access":null}`, `{"amount":1,"amount":1}`, `{"Amount":1}`,
		`{"reference":"a\u0062c"}`, `{"reference":"é"}`, `{"reference":"` + "\x7f" + `"}`, `{"reference":"a\"b"}`, `{"reference":1}`, `{"unknown":1}`,
		`{"amount":1}{}`, `{"amount":1},`, `{"amount":1`, `{"amount":}`, `{"amount" 1}`, `{amount:1}`, `[]`, `null`, `{"cost":{}}`, `{"amount":1 }`, `{,}`, `{"amount":1,}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, make := range []func() any{func() any { return new(DebitCredit) }, func() any { return new(Authorize) }} {
			got, want := make(), make()
			err := events.DecodeStrict(body, got)
			plain := body
			if len(plain) == 0 {
				plain = []byte("{}")
			}
			wantErr := json.Unmarshal(plain, want, json.RejectUnknownMembers(true))
			if string(jsontext.Value(plain)) == "null" || jsontext.Value(plain).Kind() == 'n' {
				continue // refused on purpose
			}
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%q: %v, the library says %v", body, err, wantErr)
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Authorize{})); err == nil && diff != "" {
				t.Fatalf("%q (-library +got):\n%s", body, diff)
			}
		}
	})
}

// FuzzFlatItems does the same for arrays.
func FuzzFlatItems(f *testing.F) {
	for _, seed := range []string{`[]`, `[{}]`, ` [ {"a":1} , {"b":"c"} ] `, `[{"a":1}{"b":1}]`, `[{"a":1},]`, `[{"a":[]}]`, `[1]`, `[{"a":1}] x`, `[{"a":1,"a":2}]`, `[{"a":1}`, `{}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		items, ok := events.FlatItems(body)
		if !ok {
			return
		}
		var want []jsontext.Value
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("%q was split, the library says %v", body, err)
		}
		if len(items) != len(want) {
			t.Fatalf("%q has %d items, the library says %d", body, len(items), len(want))
		}
		for i := range items {
			if string(items[i]) != string(want[i]) {
				t.Fatalf("%q: item %d is %q, the library says %q", body, i, items[i], want[i])
			}
		}
	})
}

func BenchmarkDecodeAuthorize(b *testing.B) {
	body := []byte(`{"secret":"kl_test_01JD9Z3W8X4T6V2QK7M5N0PRSD0123456789012345678901234567890123456789012345678901234567","id":"01JD9Z3W8X4T6V2QK7M5N0PRSD","product":"payments","access":"read","ip":"192.0.2.1"}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := events.DecodeStrict(body, new(Authorize)); err != nil {
			b.Fatal(err)
		}
	}
}
