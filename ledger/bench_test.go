package ledger

import (
	"crypto/sha256"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// allRules is a plan with a rule of every kind.
const allRules = `{"name":"all","allowance":{"amount":1000000,"time_zone":"America/New_York"},"price":{"default":1,"per":{"cards:read":1}},
	"rate":{"per_second":1000000,"burst":1000000},"max_keys":10,"overdraft":{"credits":1000},
	"par":[["credits","usd"]],"assets":{"credits":{"class":"credits"},"usd":{"scale":2,"class":"fiat"}}}`

// BenchmarkAuthorize decides and folds what the hot path does: find the key, decide,
// debit. Without a plan, and with every rule there is.
func BenchmarkAuthorize(b *testing.B) {
	plain := CreateKey{Environment: "test", Name: "k"}
	restricted := CreateKey{
		Environment: "test", Name: "k", Kind: events.Restricted, AssetClass: events.Fiat,
		Permissions: []string{"cards:read", "payments:*"}, IPAllowlist: []string{"10.0.0.0/8", "192.0.2.0/24"},
	}
	for _, c := range []struct {
		name, plan string
		key        CreateKey
		thresholds []events.Threshold
		ask        Authorize
	}{
		{"plain", "", plain, nil, Authorize{}},
		{"all rules", allRules, restricted, []events.Threshold{
			{Asset: "credits", Amount: 1000}, {Asset: "credits", Percent: 20}, {Environment: events.Live, Asset: "usd", Amount: 5},
		}, Authorize{Product: "cards", Access: events.Read, IP: "192.0.2.7"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			st, id := NewState(), ulid.ULID{5: 1, 15: 1}
			secret := NewSecret("test", "acme", id, [32]byte{1})
			c.key.KeyID, c.key.Hash = id, sha256.Sum256([]byte(secret))
			open := &OpenAccount{}
			if c.plan != "" {
				open.Plan = planOf(b, c.plan)
			}
			for _, cmd := range []Command{open, &c.key, &GrantCredit{Environment: "test", Asset: "credits", Amount: MaxAmount - 1_000_000}} {
				if err := cmd.Validate(); err != nil {
					b.Fatal(err)
				}
				in := Input{AccountID: "acme", CommandID: id, Time: 1}
				d, err := Decide(st, &Spec{Opens: true}, cmd, &in)
				if err != nil {
					b.Fatal(err)
				}
				for i := range d.Events {
					st.Evolve(&d.Events[i])
				}
			}
			st.accounts["acme"].Thresholds = c.thresholds
			c.ask.Secret = secret
			if err := c.ask.Validate(); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				key, now := c.ask.Find(st, events.Time(i+1)), events.Time(i+1)
				answer, list := c.ask.Decide(st, key, id, now)
				if !answer.Allowed {
					b.Fatal(answer.Code)
				}
				for i := range list {
					st.Evolve(&list[i])
				}
				key.Take(now)
			}
		})
	}
}

// planOf is a plan's terms out of JSON, checked and completed.
func planOf(t fataler, text string) *events.Plan {
	p := new(events.Plan)
	if err := events.DecodeStrict([]byte(text), p); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var check checks
	if check.plan(p); check.err != nil {
		t.Fatalf("%s: %v", text, check.err)
	}
	return p
}
