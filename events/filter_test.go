package events_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// filtered is the event that the tables below filter.
func filtered(t testing.TB) *events.CloudEvent {
	t.Helper()
	return &events.CloudEvent{
		Event: events.Event{Type: "credit.debited", Account: "acme", Environment: events.Live, Subject: sampleKey, Data: debited()},
		ID:    events.EventID(sampleTime, [16]byte{15: 1}, 2), Time: sampleTime,
		Position:  events.Position{Sequence: 42, Index: 2},
		CommandID: ulid.MustParseStrict("01JD9Z3W8X4T6V2QK7M5N0PRSA"),
		Sequence:  "00000000000000000007",
	}
}

// TestAttributeFilters: CloudEvents Subscriptions 1.0-wip, §3.2.4.
func TestAttributeFilters(t *testing.T) {
	for text, want := range map[string]bool{
		``: true, `null`: true, ` [ ] `: true,
		`[{"exact":{"type":"dev.keyledger.credit.debited.v1"}}]`:                     true,
		`[{"exact":{"type":"dev.keyledger.Credit.debited.v1"}}]`:                     false,
		`[{"exact":{"type":"dev.keyledger.credit"}}]`:                                false,
		`[{"prefix":{"type":"dev.keyledger.credit."}}]`:                              true,
		`[{"prefix":{"type":"debited"}}]`:                                            false,
		`[{"suffix":{"type":"debited.v1"}}]`:                                         true,
		`[{"suffix":{"type":"credit"}}]`:                                             false,
		`[{"exact":{"environment":"live","source":"/keyledger/acme"}}]`:              true,
		`[{"exact":{"environment":"test","source":"/keyledger/acme"}}]`:              false,
		`[{"exact":{"environment":"live"}},{"exact":{"source":"/keyledger/other"}}]`: false,
		`[{"exact":{"specversion":"1.0"}}]`:                                          true,
		`[{"prefix":{"time":"2024-11-22T"}}]`:                                        true,
		`[{"exact":{"position":"0:42.2"}}]`:                                          true,
		`[{"exact":{"partitionkey":"` + sampleKey + `"}}]`:                           true,
		`[{"exact":{"commandid":"01JD9Z3W8X4T6V2QK7M5N0PRSA"}}]`:                     true,
		`[{"not":{"exact":{"environment":"test"}}}]`:                                 true,
		`[{"not":{"not":{"exact":{"environment":"test"}}}}]`:                         false,
		`[{"any":[{"exact":{"environment":"test"}},{"prefix":{"subject":"key_"}}]}]`: true,
		`[{"any":[{"exact":{"environment":"test"}},{"prefix":{"subject":"ke_"}}]}]`:  false,
		`[{"all":[{"exact":{"environment":"live"}},{"prefix":{"subject":"key_"}}]}]`: true,
		`[{"all":[{"exact":{"environment":"live"}},{"suffix":{"subject":"key_"}}]}]`: false,
	} {
		f, err := events.ParseFilters([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := f.Match(filtered(t)); got != want {
			t.Errorf("%s matches: %v, want %v", text, got, want)
		}
	}
	f, err := events.ParseFilters([]byte(`[ {"exact" : {"subject":"x"} } ]`))
	if err != nil || string(f.JSON()) != `[{"exact":{"subject":"x"}}]` {
		t.Errorf("kept as %s (%v)", f.JSON(), err)
	}
	none := filtered(t)
	none.Subject, none.Environment = "", ""
	for _, text := range []string{`[{"exact":{"subject":"x"}}]`, `[{"prefix":{"environment":"x"}}]`} {
		f, err := events.ParseFilters([]byte(text))
		if err != nil || f.Match(none) {
			t.Errorf("%s matches an event that has no such attribute (%v)", text, err)
		}
	}
}

// TestAttributeFiltersRefused: each refusal names the place.
func TestAttributeFiltersRefused(t *testing.T) {
	nested := func(depth int) string {
		return "[" + strings.Repeat(`{"not":`, depth-1) + `{"exact":{"type":"x"}}` + strings.Repeat("}", depth-1) + "]"
	}
	many := func(n int) string { // of two parts each
		return "[" + strings.TrimSuffix(strings.Repeat(`{"exact":{"type":"x"}},`, n), ",") + "]"
	}
	long := func(bytes int) string {
		const frame = `[{"exact":{"type":""}}]`
		return strings.Replace(frame, `""`, `"`+strings.Repeat("x", bytes-len(frame))+`"`, 1)
	}
	for text, want := range map[string]string{
		`{}`:   "filters: must be an array",
		`[1]`:  "filters[0]: must be an object",
		`[`:    "filters: ",
		`[{}]`: "filters[0]: must have exactly one member",
		`[{"exact":{"type":"x"},"prefix":{"type":"x"}}]`: "filters[0]: must have exactly one member",
		`[{"sql":"type = 'x'"}]`:                         "filters[0].sql: is no dialect",
		`[{"exact":{}}]`:                                 "filters[0].exact: must have at least one attribute",
		`[{"exact":[]}]`:                                 "filters[0].exact: must be an object",
		`[{"exact":{"type":""}}]`:                        "filters[0].exact.type: must be a text",
		`[{"exact":{"type":1}}]`:                         "filters[0].exact.type: must be a text",
		`[{"exact":{"sequence":"1"}}]`:                   "is no attribute that can be compared",
		`[{"exact":{"type":"x","type":"y"}}]`:            "filters: ",
		`[{"all":[]}]`:                                   "filters[0].all: must have at least one",
		`[{"any":{}}]`:                                   "filters[0].any: must be an array",
		`[{"not":[]}]`:                                   "filters[0].not: must be an object",
		`[{"any":[{"not":{"exact":{"x":"y"}}}]}]`:        "filters[0].any[0].not.exact: ",
		nested(events.MaxFilterDepth + 1):                "deep at most",
		many(events.MaxFilterNodes/2 + 1):                "more than 200 parts",
		long(events.MaxFilterBytes + 1):                  "filters have 8193 bytes",
	} {
		_, err := events.ParseFilters([]byte(text))
		if err == nil || err.Code != events.InvalidArgument || !strings.Contains(err.Message, want) {
			t.Errorf("%.80s: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{nested(events.MaxFilterDepth), many(events.MaxFilterNodes / 2), long(events.MaxFilterBytes)} {
		if _, err := events.ParseFilters([]byte(text)); err != nil {
			t.Errorf("%.80s, at the limit: %v", text, err)
		}
	}
}

// TestFiltersAgainstPlainReading compares with an evaluation of the JSON itself over the
// attributes of the structured form.
func TestFiltersAgainstPlainReading(t *testing.T) {
	event := filtered(t)
	event.Sequence = ""
	text, err := event.Structured()
	if err != nil {
		t.Fatal(err)
	}
	var attributes map[string]any
	if err := json.Unmarshal(text, &attributes); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(drawFilter(3), 0, 3).Draw(t, "filters")
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		f, refused := events.ParseFilters(text)
		if refused != nil {
			t.Fatalf("%s: %v", text, refused)
		}
		want := true
		for _, one := range list {
			want = want && plainly(one, attributes)
		}
		if got := f.Match(event); got != want {
			t.Fatalf("%s matches: %v, want %v", text, got, want)
		}
	})
}

func drawFilter(depth int) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		dialects := []string{"exact", "prefix", "suffix", "all", "any", "not"}
		if depth == 0 {
			dialects = dialects[:3]
		}
		dialect := rapid.SampledFrom(dialects).Draw(t, "dialect")
		switch dialect {
		case "all", "any":
			var list []any
			for _, one := range rapid.SliceOfN(drawFilter(depth-1), 1, 3).Draw(t, "within") {
				list = append(list, one)
			}
			return map[string]any{dialect: list}
		case "not":
			return map[string]any{dialect: drawFilter(depth-1).Draw(t, "within")}
		}
		compared := map[string]any{}
		for range rapid.IntRange(1, 2).Draw(t, "attributes") {
			name := rapid.SampledFrom(events.FilterAttributes()).Draw(t, "name")
			compared[name] = rapid.SampledFrom([]string{"live", "test", "l", "e", "key_", "1.0", "dev.keyledger.credit.debited.v1", "v1", "2024", "/keyledger/acme", "0:42.2", "0"}).Draw(t, "value")
		}
		return map[string]any{dialect: compared}
	})
}

func plainly(filter map[string]any, attributes map[string]any) bool {
	for dialect, v := range filter {
		switch within := v.(type) {
		case []any:
			hits := 0
			for _, one := range within {
				if plainly(one.(map[string]any), attributes) {
					hits++
				}
			}
			return dialect == "any" && hits > 0 || dialect == "all" && hits == len(within)
		case map[string]any:
			if dialect == "not" {
				return !plainly(within, attributes)
			}
			for name, want := range within {
				has, ok := attributes[name].(string)
				is := map[string]func(string, string) bool{
					"exact": func(a, b string) bool { return a == b }, "prefix": strings.HasPrefix, "suffix": strings.HasSuffix,
				}[dialect]
				if !ok || !is(has, want.(string)) {
					return false
				}
			}
			return true
		}
	}
	panic(fmt.Sprintf("%v is no filter", filter))
}

func FuzzParseFilters(f *testing.F) {
	f.Add([]byte(`[{"all":[{"exact":{"type":"x"}},{"not":{"prefix":{"subject":"key_"}}}]}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		filters, err := events.ParseFilters(text)
		if err != nil {
			return
		}
		again, err := events.ParseFilters(filters.JSON())
		if err != nil || string(again.JSON()) != string(filters.JSON()) || again.Match(filtered(t)) != filters.Match(filtered(t)) {
			t.Errorf("%s is read back as %s (%v)", filters.JSON(), again.JSON(), err)
		}
	})
}

func TestKeyOf(t *testing.T) {
	for name, want := range map[string]string{
		"key.created": sampleKey, "credit.debited": sampleKey, "credit.refunded": sampleKey, "hold.placed": held().Hold.Key,
		"account.opened": "", "credit.granted": "", "endpoint.paused": "",
	} {
		e := sampleEvent(t, events.Lookup(name))
		if got := events.KeyOf(&e); got != want {
			t.Errorf("%s is about key %q, want %q", name, got, want)
		}
		if strings.HasPrefix(name, "credit.") && want != "" {
			e.Subject = ""
			if got := events.KeyOf(&e); got != want {
				t.Errorf("%s without a subject is about key %q, want %q", name, got, want)
			}
		}
	}
}
