package events_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// body is a command with a member of every form that commands have.
type body struct {
	Name     string                         `json:"name"`
	Amount   int64                          `json:"amount"`
	ReadOnly bool                           `json:"read_only"`
	Products []string                       `json:"products"`
	Metadata events.Object                  `json:"metadata"`
	At       events.Time                    `json:"at"`
	Plan     *events.Plan                   `json:"plan"`
	Until    events.Optional[events.Time]   `json:"until,omitzero"`
	Labels   events.Optional[events.Object] `json:"labels,omitzero"`
	Rate     events.Optional[events.Rate]   `json:"rate,omitzero"`
}

const wantTime = `must be an RFC 3339 time such as "2026-01-31T12:00:00Z"`

// TestDecodeStrictRefuses: each body breaks one rule, and the answer names the member
// and the rule. Where a body holds "sesame", a value, the answer must not.
func TestDecodeStrictRefuses(t *testing.T) {
	tests := []struct{ body, want string }{
		{`{"nmae":"sesame"}`, `unknown field "nmae"`},
		{`{"Name":"sesame"}`, `unknown field "Name"`},
		{`{"plan":{"sesam":1}}`, `unknown field "plan/sesam"`},
		{`{"rate":{"sesam":1}}`, `unknown field "rate/sesam"`},
		{`{"name":"sesame","name":"sesame"}`, `field "name" stands twice`},
		{`{"metadata":{"a":"sesame","a":2}}`, `field "metadata/a" stands twice`},
		{`{"labels":{"a":"sesame","a":2}}`, `field "labels/a" stands twice`},
		{`{"rate":{"burst":1,"burst":2}}`, `field "rate/burst" stands twice`},

		{`{"name":7}`, `field "name" must be a string`},
		{`{"amount":"sesame"}`, `field "amount" must be a whole number`},
		{`{"amount":1.5}`, `field "amount" must be a whole number`},
		{`{"amount":1e3}`, `field "amount" must be a whole number`},
		{`{"amount":9223372036854775808}`, `field "amount" must be a whole number`},
		{`{"read_only":"sesame"}`, `field "read_only" must be true or false`},
		{`{"products":"sesame"}`, `field "products" must be an array`},
		{`{"products":["a",7]}`, `field "products/1" must be a string`},
		{`{"plan":"sesame"}`, `field "plan" must be an object`},
		{`{"plan":{"price":{"per":{"payments:read":"sesame"}}}}`, `field "plan/price/per/payments:read" must be a whole number`},
		{`{"metadata":"sesame"}`, `field "metadata" must be an object`},
		{`{"metadata":["sesame"]}`, `field "metadata" must be an object`},
		{`{"labels":"sesame"}`, `field "labels" must be an object`},
		{`{"rate":"sesame"}`, `field "rate" must be an object`},
		{`{"at":"sesame"}`, `field "at" ` + wantTime},
		{`{"at":7}`, `field "at" ` + wantTime},
		{`{"until":"sesame"}`, `field "until" ` + wantTime},
		{`["sesame"]`, `the body must be an object`},
		{`"sesame"`, `the body must be an object`},

		{`{"name":"sesame"} {}`, `malformed JSON at byte 18`},
		{`{"name":"sesame"},`, `malformed JSON at byte 17`},
		{`{"name":"sesame"`, `malformed JSON at byte 16`},
		{`{"name":sesame}`, `malformed JSON at byte 8`},
		{`{'name':'sesame'}`, `malformed JSON at byte 1`},
		{`{"name":"sesame",}`, `malformed JSON at byte 16`},
		{`{"amount":01}`, `malformed JSON at byte 11`},
		{`{"amount":NaN}`, `malformed JSON at byte 10`},
		{"{\"name\":\"sesame\xff\"}", `malformed JSON at byte 15`},
		{`{"name":"sesame\ud800"}`, `malformed JSON at byte 15`},
		{"{\"metadata\":{\"a\":\"sesame\xff\"}}", `malformed JSON at byte 24`},
		{`sesame`, `the body must be an object in JSON, such as {"limit":10}`},
		{`'{}'`, `the body must be an object in JSON, such as {"limit":10}`},
		{" ", `malformed JSON at byte 1`},
	}
	for _, test := range tests {
		err := events.DecodeStrict([]byte(test.body), new(body))
		switch {
		case err == nil:
			t.Errorf("%s: taken, want %q", test.body, test.want)
		case err.Code != events.InvalidArgument || err.Message != test.want:
			t.Errorf("%s:\n got %s\nwant %s: %s", test.body, err, events.InvalidArgument, test.want)
		case strings.Contains(err.Message, "sesame"):
			t.Errorf("%s: the answer repeats a value: %s", test.body, err.Message)
		}
	}
}

func TestDecodeStrictTakes(t *testing.T) {
	at := events.At(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))
	tests := []struct {
		body string
		want body
	}{
		{``, body{}},
		{`{}`, body{}},
		{" {\n} ", body{}},
		{`{"name":"naïve 😀","amount":-3,"read_only":true,"products":[]}`, body{Name: "naïve 😀", Amount: -3, ReadOnly: true, Products: []string{}}},
		{`{"amount":9007199254740991}`, body{Amount: 1<<53 - 1}},
		{`{"metadata": { "a" : [1, 2] }}`, body{Metadata: events.Object(`{"a":[1,2]}`)}},
		{`{"metadata":null}`, body{}},
		{`{"at":"2026-01-31T12:00:00Z"}`, body{At: at}},
		{`{"at":"2026-01-31T13:30:00.000+01:30"}`, body{At: at}},
		{`{"at":null}`, body{}},
		{`{"until":null,"labels":null}`, body{Until: events.Some(events.Time(0)), Labels: events.Some(events.Object(nil))}},
		{`{"until":"2026-01-31T12:00:00Z","rate":{"burst":2}}`, body{Until: events.Some(at), Rate: events.Some(events.Rate{Burst: 2})}},
	}
	for _, test := range tests {
		var got body
		if err := events.DecodeStrict([]byte(test.body), &got); err != nil {
			t.Errorf("%s: %v", test.body, err)
		} else if !cmp.Equal(test.want, got) {
			t.Errorf("%s:\n%s", test.body, cmp.Diff(test.want, got))
		}
	}
}

// TestOptional: absent, null and a value are three things, both ways.
func TestOptional(t *testing.T) {
	type patch struct {
		Until events.Optional[events.Time] `json:"until,omitzero"`
	}
	for text, want := range map[string]patch{
		`{}`:                                   {},
		`{"until":null}`:                       {Until: events.Some(events.Time(0))},
		`{"until":"2024-11-22T00:00:00.123Z"}`: {Until: events.Some(sampleTime)},
	} {
		var got patch
		if err := events.DecodeStrict([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
		if back, err := events.Encode(want); err != nil || string(back) != text {
			t.Errorf("%+v is written %s, %v; want %s", want, back, err, text)
		}
	}
}

// TestProducts: never set and none are two things.
func TestProducts(t *testing.T) {
	for text, want := range map[string]events.Environment{
		`{"enabled":false,"products":null}`: {},
		`{"enabled":false,"products":[]}`:   {Products: events.Products{}},
	} {
		var got events.Environment
		if err := events.DecodeStrict([]byte(text), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %#v, %v", text, got, err)
		}
		if back, err := events.Encode(want); err != nil || string(back) != text {
			t.Errorf("%#v is written %s, %v; want %s", want, back, err, text)
		}
	}
}

func TestTime(t *testing.T) {
	for _, bad := range []string{
		`""`, `"`, `"2026-01-31"`, `"2026-01-31T12:00:00"`, `"2026-01-31 12:00:00Z"`, `"2026-02-30T12:00:00Z"`,
		`"2026-01-31T1:00:00Z"`, `"2026-01-31T12:00:00,5Z"`, `"2026-01-31T12:00:00+25:00"`,
		`"1970-01-01T00:00:00Z"`, `"1969-12-31T23:59:59Z"`, `"10000-01-01T00:00:00Z"`, `1767225600`, `{}`, `true`,
	} {
		var got events.Time
		if err := got.UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s was read as %s", bad, got)
		}
	}
}

func TestTimeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := events.Time(rapid.Int64Range(0, 253_402_300_799_999).Draw(t, "ms"))
		text, err := want.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var got events.Time
		if err := got.UnmarshalJSON(text); err != nil || got != want {
			t.Fatalf("%d is written %s and read as %d (%v)", want, text, got, err)
		}
		if want != 0 && string(text) != `"`+want.String()+`"` {
			t.Fatalf("%d is written %s and %s", want, text, want)
		}
	})
}
