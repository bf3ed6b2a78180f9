package events_test

import (
	"bytes"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// FuzzDecodeStrict: a body is refused as invalid_argument, or means the same once it is
// written and read again.
func FuzzDecodeStrict(f *testing.F) {
	for _, text := range []string{
		``, `{}`, `null`, ` {"name":"a","amount":9007199254740991}`, `{"amount":1e3}`, `{"name":"a","name":"b"}`, `{"Name":"a"}`,
		`{"products":["a","b"],"metadata":{"a":{"b":[1,null,"\u0000"]}},"at":"2026-01-31T12:00:00Z","read_only":true}`,
		`{"until":null,"labels":null,"rate":{"per_second":1}}`, `{"until":"2026-01-31T12:00:00.123+01:00","labels":{},"plan":{"name":"p","price":{"per":{"a:read":1}}}}`,
		"{\"name\":\"\xff\"}", `{"name":"\ud800"}`, `{} {}`, `[[[[[[`, `{"metadata":{"a":1,"a":2}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var first, second body
		if err := events.DecodeStrict(text, &first); err != nil {
			if err.Code != events.InvalidArgument || err.Message == "" {
				t.Fatalf("refused with %+v", err)
			}
			return
		}
		written, err := events.Encode(&first)
		if err != nil {
			t.Fatalf("write what was read: %v", err)
		}
		if err := events.DecodeStrict(written, &second); err != nil {
			t.Fatalf("read what was written, %s: %v", written, err)
		}
		again, err := events.Encode(&second)
		if err != nil || !bytes.Equal(written, again) {
			t.Fatalf("written %s, then %s (%v)", written, again, err)
		}
	})
}
