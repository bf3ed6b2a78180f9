package service

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/webhooks"
)

// fuzzed is a service without NATS: enough to decode.
func fuzzed(f *testing.F) *Service {
	sealer, err := events.NewSealer(make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	guard, err := webhooks.NewGuard(nil)
	if err != nil {
		f.Fatal(err)
	}
	return &Service{cfg: Config{Sealer: sealer, Actor: func(string, string) string { return operator }, EndpointSecret: webhooks.NewSecret, EndpointKey: func([32]byte) string { return "whpk_" }, CheckEndpoint: func(url string, headers map[string]string) error {
		if url == "" {
			return webhooks.CheckHeaders(headers)
		}
		if _, err := guard.CheckURL(url, false); err != nil {
			return err
		}
		return webhooks.CheckHeaders(headers)
	}}}
}

// FuzzCommand: every verb's body is refused as invalid_argument, or can be decided, and
// the outcome fits the log and its answer.
func FuzzCommand(f *testing.F) {
	s, verbs := fuzzed(f), Verbs()
	id := ulid.ULID{1: 1}
	key := "key_" + id.String()
	for verb, body := range map[string]string{
		"account.open":               `{"name":"Acme","metadata":{"a":1},"plan":{"name":"p","price":{"default":1,"per":{"payments:read":50}},"rate":{"per_second":10,"burst":20}}}`,
		"account.suspend":            `{"reason":"late"}`,
		"account.set_products":       `{"environment":"test","products":["payments"]}`,
		"account.enable_environment": `{"environment":"live"}`,
		"account.set_plan":           `{"plan":{"name":"starter","max_keys":10}}`,
		"key.create":                 `{"environment":"test","name":"k","kind":"restricted","permissions":["payments:*"],"ip_allowlist":["203.0.113.0/24","::ffff:10.0.0.1"],"expires_at":"2030-01-01T00:00:00Z"}`,
		"key.import":                 `{"environment":"test","name":"k","sha256":"` + strings.Repeat("aB", 32) + `","prefix":"sk_…wxyz"}`,
		"key.update":                 `{"key":"` + key + `","name":"n","expires_at":null,"metadata":{}}`,
		"key.disable":                `{"key":"` + key + `","reason":"leak"}`,
		"credit.grant":               `{"environment":"test","asset":"credits","amount":9007199254740991,"priority":-3,"category":"promotional"}`,
		"credit.debit":               `{"environment":"test","asset":"credits","amount":1,"key":"` + key + `"}`,
		"credit.adjust":              `{"environment":"test","asset":"credits","amount":-9007199254740991,"reason":"r"}`,
		"credit.transfer":            `{"to":"bolt","environment":"test","asset":"credits","amount":1,"reference":"r"}`,
		"hold.place":                 `{"environment":"test","asset":"credits","amount":1,"expires_in":"1h30m","key":"` + key + `"}`,
		"hold.capture":               `{"hold":"hold_01ARZ3NDEKTSV4RRFFQ69G5FAV","amount":1}`,
		"hold.release":               `{"hold":"hold_01ARZ3NDEKTSV4RRFFQ69G5FAV"}`,
		"credit.refund":              `{"debit":"debit_` + id.String() + `","amount":1,"reference":"r"}`,
		"endpoint.register":          `{"url":"https://example.com/h?token=a","environment":"test","events":["credit.*"],"headers":{"X-A":"b"}}`,
		"endpoint.pause":             `{"endpoint":"endpoint_01ARZ3NDEKTSV4RRFFQ69G5FAV"}`,
		"endpoint.update":            `{"endpoint":"` + fuzzedEndpoint + `","url":"https://example.com/h?token=b","events":["key.*"],"headers":{"X-A":"c"},"keys":["` + key + `"],"filters":[{"exact":{"type":"a"}}],"ordering":"key","rate_per_minute":60,"timeout":"5s","skip_to":"0:7.1"}`,
		"endpoint.rotate_secret":     `{"endpoint":"` + fuzzedEndpoint + `","grace":"1h","signing":"v1a"}`,
		"endpoint.test":              `{"endpoint":"` + fuzzedEndpoint + `"}`,
		"endpoint.replay":            `{"endpoint":"` + fuzzedEndpoint + `","from_position":"0:1","to_time":"2030-01-01T00:00:00Z","events":["*"]}`,
	} {
		for n := range verbs {
			if verbs[n] == verb {
				f.Add(uint8(n), []byte(body))
			}
		}
	}
	f.Fuzz(func(t *testing.T, n uint8, body []byte) {
		verb := verbs[int(n)%len(verbs)]
		r := &request{s: s, subject: store.SubjectCommand + "acme." + verb, body: body}
		req, _, refused := s.decodeCommand(r)
		if refused != nil {
			if refused.Code != events.InvalidArgument || refused.Message == "" {
				t.Fatalf("%s refused with %+v", verb, refused)
			}
			return
		}
		for _, state := range []*ledger.State{ledger.NewState(), withKey(id)} {
			in := ledger.Input{AccountID: "acme", CommandID: id, Time: 1}
			decision, refused := ledger.Decide(state, req.Spec, req.Command, &in)
			if !decision.Cites.IsZero() {
				req.Command.(ledger.Citer).Cite([]events.Event{{Data: &events.Debited{Debit: events.Debit{
					ID: "debit_" + decision.Cites.String(), Environment: events.Test, Asset: "credits", Amount: 10,
					Drawn: []events.Draw{{Grant: "grant_" + id.String(), Amount: 10}},
				}}}})
				decision, refused = ledger.Decide(state, req.Spec, req.Command, &in)
			}
			if refused != nil {
				continue
			}
			data := decision.Unchanged
			for i := range decision.Events {
				state.Evolve(&decision.Events[i])
				data = decision.Events[i].Data
			}
			store.AppendEntry(nil, &store.Entry{Command: verb, Account: "acme", Events: decision.Events})
			if _, err := (&ledger.Result{Data: data}).AppendJSON(nil); err != nil {
				t.Fatalf("%s: answer: %v", verb, err)
			}
		}
	})
}

// fuzzedEndpoint is the one of withKey.
const fuzzedEndpoint = "endpoint_01ARZ3NDEKTSV4RRFFQ69G5FAV"

// withKey is a state with an account, its credits, a key and an endpoint.
func withKey(id ulid.ULID) *ledger.State {
	state := ledger.NewState()
	create := &ledger.CreateKey{Environment: events.Test, Name: "k", KeyID: id, Hash: sha256.Sum256(id[:])}
	register := &ledger.RegisterEndpoint{
		URL: "https://example.com/h", Environment: events.Test, Events: []string{"*"}, Headers: map[string]string{"X-A": "b"},
		Endpoint: &events.Endpoint{ID: fuzzedEndpoint, URL: "https://example.com/h", Headers: []string{"X-A"}, SealedHeaders: [][]byte{{1}}},
	}
	for i, cmd := range []ledger.Command{new(ledger.OpenAccount), &ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 10}, create, register} {
		if err := cmd.Validate(); err != nil {
			panic(err)
		}
		in := ledger.Input{AccountID: "acme", CommandID: ulid.ULID{15: byte(i)}}
		decision, err := ledger.Decide(state, &ledger.Spec{Opens: i == 0}, cmd, &in)
		if err != nil {
			panic(err)
		}
		state.Evolve(&decision.Events[0])
	}
	return state
}

// FuzzAuthorize: an item is refused as invalid_argument, or decided.
func FuzzAuthorize(f *testing.F) {
	s := fuzzed(f)
	secret := ledger.NewSecret(events.Test, "acme", ulid.ULID{1: 1}, [32]byte{})
	for _, body := range []string{
		`{"secret":"` + secret + `","product":"payments","access":"read","ip":"203.0.113.7","cost":1}`,
		`{"secret":"` + secret + `","units":9007199254740991,"reference":"r","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}`,
		`{"secret":"kl_test_x"}`, `{"secret":"sk_live_4eC39HqLyjWDarjtT1zdp7dc"}`, `[{}]`,
		`{"key":"key_` + ulid.ULID{1: 1}.String() + `","message":"GET /","signature":"` + strings.Repeat("A", 86) + `==","signed_at":"2026-03-01T12:00:00Z","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		req, refused := s.decodeAuthorize(&request{s: s, subject: store.SubjectAuthorize}, body, true)
		if refused != nil {
			if refused.Code != events.InvalidArgument || refused.Message == "" {
				t.Fatalf("refused with %+v", refused)
			}
			return
		}
		if req.Signed != req.Authorize.Signed() || req.Signed && !req.Receipt {
			t.Fatalf("a signed request without an id of its own: %+v", req)
		}
		state := withKey(ulid.ULID{1: 1})
		answer, _ := req.Authorize.Decide(state, req.Authorize.Find(state, 1), req.ID, 1)
		if answer.Allowed {
			t.Fatalf("a key whose secret nobody has was allowed: %+v", answer)
		}
	})
}
