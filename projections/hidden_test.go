package projections

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// TestHiddenMembersInNoAnswer: neither a query nor a bucket shows the hash of a secret or
// what is sealed. That no public form of an event has them is shown with the events.
func TestHiddenMembersInNoAnswer(t *testing.T) {
	hidden := []byte("0123456789hidden-hidden-hidden!!")
	k := newKVTest(t)
	k.create()
	key, created := k.key("acme", events.Test)
	created = changed(created, "key.rotated", func(k *events.Key) { k.Hash, k.OldHash = [32]byte(hidden), [32]byte(hidden) })
	endpoint, registered := k.endpoint("acme", events.Test)
	registered = changed(registered, "endpoint.registered", func(e *events.Endpoint) {
		e.SealedSecret, e.SealedQuery, e.SealedHeaders = hidden, hidden, [][]byte{hidden}
	})
	k.commit(k.account("acme"), created, registered)
	v := follow(t, k.tail)
	_, value := k.once(v)
	shown := map[string]string{"bucket": value}
	for verb, body := range map[string]string{
		"key.get": fmt.Sprintf(`{"key":%q}`, key), "key.list": "",
		"endpoint.get": fmt.Sprintf(`{"endpoint":%q}`, endpoint), "endpoint.list": "",
	} {
		answer, err := ask(t, v, verb, "acme", body)
		if err != nil {
			t.Fatal(err)
		}
		shown[verb] = answer
	}
	for where, text := range shown {
		for _, trace := range []string{
			string(hidden), hex.EncodeToString(hidden), base64.RawStdEncoding.EncodeToString(hidden),
			strings.Trim(strings.ReplaceAll(fmt.Sprint(hidden), " ", ","), "[]"),
		} {
			if strings.Contains(text, trace) || !strings.Contains(text, `"environment":"test"`) {
				t.Errorf("%s shows %s", where, text)
			}
		}
	}
}
