package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// step is one command or authorisation, with all that its outcome may depend on.
type step struct {
	verb, account, body string
	number              uint64 // of the step: its ids and its time come from it
}

// idOf returns the id that step n uses, for its command, key or endpoint.
func idOf(n uint64) ulid.ULID {
	sum := sha256.Sum256(fmt.Append(nil, n))
	id := ulid.ULID(sum[:16])
	_ = id.SetTime(1_800_000_000_000 + n)
	return id
}

// secretOf returns the secret of the key that step n creates.
func secretOf(account, environment string, n uint64) string {
	return NewSecret(environment, account, idOf(n), sha256.Sum256(fmt.Append(nil, "random", n)))
}

// signerOf is the private half of all signing keys of an account.
func signerOf(account string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(account))
	return ed25519.NewKeyFromSeed(seed[:])
}

// signed are the members of a request that the key of step ref signs at a time.
func signed(account string, ref uint64, at events.Time) string {
	a := Authorize{Message: "GET /cards"}
	a.Sign(signerOf(account), at)
	return fmt.Sprintf(`"key":"key_%s","message":%q,"signature":%q,"signed_at":%q`, idOf(ref), a.Message, a.Signature, a.SignedAt)
}

// publicOf is the other half, as key.create takes it.
func publicOf(account string) string {
	return base64.StdEncoding.EncodeToString(signerOf(account).Public().(ed25519.PublicKey))
}

// hashOf is what step n imports of a secret: its SHA-256.
func hashOf(n uint64) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(foreignOf(n)))) }

// foreignOf is the secret that step n imports.
func foreignOf(n uint64) string { return fmt.Sprint("sk_live_", n) }

// time is when the step happens: a millisecond after the one before it.
func (s step) time() events.Time { return events.Time(1_800_000_000_000 + s.number) }

// decide runs the step on st without folding it, and returns what it led to and a
// text that tells all of it.
func (s step) decide(t fataler, st *State) ([]events.Event, string) {
	now := s.time()
	if s.verb == "authorize" {
		a := new(Authorize)
		if err := events.DecodeStrict([]byte(s.body), a); err != nil {
			t.Fatalf("%s: %v", s.body, err)
		}
		if err := a.Validate(); err != nil {
			t.Fatalf("%s: %v", s.body, err)
		}
		if a.Signed() {
			a.Verify(signerOf(s.account).Public().(ed25519.PublicKey))
		}
		answer, list := a.Decide(st, a.Find(st, now), idOf(s.number), now)
		return list, string(answer.AppendJSON(nil)) + encoded(list)
	}
	i := s.index()
	cmd := Commands[i].New()
	if err := events.DecodeStrict([]byte(s.body), cmd); err != nil {
		t.Fatalf("%s %s: %v", s.verb, s.body, err)
	}
	if err := cmd.Validate(); err != nil {
		t.Fatalf("%s %s: %v", s.verb, s.body, err)
	}
	switch c := cmd.(type) {
	case *ImportKey:
		c.KeyID = idOf(s.number)
	case *CreateKey:
		if c.KeyID = idOf(s.number); c.PublicKey != "" {
			break
		}
		secret := secretOf(s.account, c.Environment, s.number)
		c.Hash, c.Prefix = sha256.Sum256([]byte(secret)), SecretPrefix(secret)
	case *RotateKey:
		c.Random = sha256.Sum256(fmt.Append(nil, "random", s.number))
	case *RegisterEndpoint:
		c.Endpoint = &events.Endpoint{
			ID: EndpointIDPrefix + idOf(s.number).String(), URL: c.URL, Headers: c.HeaderNames(), SealedSecret: []byte("sealed"), SealedHeaders: make([][]byte, len(c.Headers)),
		}
	case *UpdateEndpoint:
		c.Made = &events.Endpoint{Headers: c.HeaderNames(), SealedHeaders: make([][]byte, len(c.Headers))}
		if c.URL != nil {
			c.Made.URL = *c.URL
		}
		c.Same = func(string, []byte) bool { return true }
	case *RotateEndpointSecret:
		c.Sealed, c.PublicKey = fmt.Append(nil, "sealed", s.number), "whpk_"
	}
	in := Input{AccountID: s.account, CommandID: idOf(s.number), Time: now}
	d, err := Decide(st, &Commands[i].Spec, cmd, &in)
	if !d.Cites.IsZero() {
		cmd.(Citer).Cite(citedOf(d.Cites))
		d, err = Decide(st, &Commands[i].Spec, cmd, &in)
	}
	if err != nil {
		return nil, err.Error()
	}
	if d.Unchanged != nil {
		c := events.NewWriter([]byte("unchanged "))
		d.Unchanged.Code(c)
		return nil, string(c.Bytes())
	}
	return d.Events, encoded(d.Events)
}

// index is the verb's line in the command table.
func (s step) index() int {
	return slices.IndexFunc(Commands, func(c struct {
		Verb string
		Spec
	}) bool {
		return c.Verb == s.verb
	})
}

// citedOf returns an entry that the log might have. There is no log here.
func citedOf(id ulid.ULID) []events.Event {
	return []events.Event{{Data: &events.Debited{Debit: events.Debit{
		ID: prefixed(debitIDPrefix, id), Environment: events.Test, Asset: "credits", Amount: 9,
		Drawn: []events.Draw{{Grant: prefixed(grantIDPrefix, id), Amount: 6, Priority: 2}, {Grant: events.OverdraftGrant, Amount: 3}},
	}}}}
}

// due folds what time alone brings about before the step.
func (s step) due(st *State) (list []events.Event) {
	for {
		next := st.Due(s.time())
		if next == nil {
			return list
		}
		for i := range next {
			st.Evolve(&next[i])
		}
		list = append(list, next...)
	}
}

// do folds what is due, decides the step and folds it.
func (s step) do(t fataler, st *State) string {
	due := s.due(st)
	list, text := s.decide(t, st)
	for i := range list {
		st.Evolve(&list[i])
	}
	return encoded(due) + text
}

type fataler interface{ Fatalf(string, ...any) }

func encoded(list []events.Event) string {
	c := events.NewWriter(nil)
	for i := range list {
		list[i].Code(c)
	}
	return string(c.Bytes())
}

// decoded returns the events as they come back from the log.
func decoded(t fataler, list []events.Event) []events.Event {
	r := events.NewReader([]byte(encoded(list)))
	out := make([]events.Event, len(list))
	for i := range out {
		out[i].Code(r)
	}
	if r.Err() != nil {
		t.Fatalf("stored form: %v", r.Err())
	}
	return out
}

// bodies holds for each verb its bodies; $env is an environment, $n a small number,
// $id and $secret belong to a step, $other is the other account.
var bodies = map[string][]string{
	"account.open":                {`{"name":"n$n"}`},
	"account.update":              {`{"name":"m$n","thresholds":[{"asset":"credits","amount":10$n},{"asset":"gold","environment":"$env","percent":2$n}]}`, `{"thresholds":null}`},
	"account.suspend":             {`{"reason":"r$n"}`},
	"account.resume":              {`{}`},
	"account.close":               {`{"reason":"c$n"}`},
	"account.set_products":        {`{"environment":"$env","products":["cards","p$n"]}`, `{"environment":"$env","products":[]}`},
	"account.enable_environment":  {`{"environment":"$env"}`},
	"account.disable_environment": {`{"environment":"$env"}`},
	"account.set_plan": {`{"plan":{"name":"p","price":{"per":{"cards:write":$n}},"rate":{"per_second":5},"max_keys":2}}`, `{"plan":{"name":"q","price":{"asset":"gold","default":$n}}}`,
		`{"plan":{"name":"r","allowance":{"amount":20$n,"time_zone":"Asia/Kathmandu"},"overdraft":{"gold":1$n},"par":[["gold","credits"]],"assets":{"gold":{"scale":1}}}}`,
		`{"plan":{"name":"s","allowance":{"amount":9$n,"every":"month"},"overdraft":{"credits":5$n}}}`},
	"key.create": {
		`{"environment":"$env","name":"e","expires_at":"2027-01-15T08:00:00.03$nZ"}`,
		`{"environment":"$env","name":"n$n"}`,
		`{"environment":"$env","name":"s$n","public_key":"$public"}`, `{"environment":"$env","name":"s$n","public_key":"$public"}`,
		`{"environment":"$env","name":"r","kind":"restricted","permissions":["cards:*"],"ip_allowlist":["10.0.0.0/8"],"metadata":{"n":$n}}`,
	},
	"key.import": {`{"environment":"$env","name":"i","sha256":"$hash","prefix":"sk_…$n"}`},
	"key.update": {`{"key":"key_$id","name":"m$n","ip_allowlist":["192.0.2.$n"]}`, `{"key":"key_$id","expires_at":"2090-01-01T00:00:00Z"}`,
		`{"key":"key_$id","expires_at":"2027-01-15T08:00:00.05$nZ"}`, `{"key":"key_$id","expires_at":null}`},
	"key.rotate":        {`{"key":"key_$id"}`, `{"key":"key_$id","grace":"$n0ms"}`, `{"key":"key_$id","grace":"0"}`},
	"key.disable":       {`{"key":"key_$id"}`},
	"key.enable":        {`{"key":"key_$id"}`},
	"key.revoke":        {`{"key":"key_$id","reason":"r"}`},
	"credit.grant":      {`{"environment":"$env","asset":"credits","amount":25$n,"priority":$n}`, `{"environment":"$env","asset":"gold","amount":1$n,"grant":"grant_$id"}`},
	"credit.debit":      {`{"environment":"$env","asset":"credits","amount":8$n}`, `{"environment":"$env","asset":"gold","amount":1$n,"key":"key_$id"}`},
	"credit.adjust":     {`{"environment":"$env","asset":"credits","amount":-3$n,"reason":"r"}`, `{"environment":"$env","asset":"gold","amount":2$n,"reason":"r"}`},
	"credit.transfer":   {`{"to":"$other","environment":"$env","asset":"credits","amount":6$n}`, `{"to":"$other","environment":"$env","asset":"gold","amount":$n,"reference":"r"}`},
	"hold.place":        {`{"environment":"$env","asset":"credits","amount":4$n,"expires_in":"$n0ms"}`, `{"environment":"$env","asset":"gold","amount":$n,"expires_in":"1h","key":"key_$id"}`},
	"hold.capture":      {`{"hold":"hold_$id","amount":1$n}`, `{"hold":"hold_$id"}`},
	"hold.release":      {`{"hold":"hold_$id"}`},
	"credit.refund":     {`{"debit":"debit_$id","amount":$n}`, `{"debit":"debit_$id"}`},
	"endpoint.register": {`{"environment":"$env","url":"https://example.com/$n","events":["*"],"headers":{"x-a":"1"}}`},
	"endpoint.pause":    {`{"endpoint":"endpoint_$id"}`},
	"endpoint.resume":   {`{"endpoint":"endpoint_$id"}`},
	"endpoint.remove":   {`{"endpoint":"endpoint_$id"}`},
	"endpoint.update": {`{"endpoint":"endpoint_$id","url":"https://example.com/$n","headers":{"x-a":"2"}}`, `{"endpoint":"endpoint_$id","ordering":"key","keys":[]}`,
		`{"endpoint":"endpoint_$id","skip_to":"0:$n"}`, `{"endpoint":"endpoint_$id","skip_to":"now","rate_per_minute":$n}`},
	"endpoint.rotate_secret": {`{"endpoint":"endpoint_$id"}`, `{"endpoint":"endpoint_$id","grace":"$nms","signing":"v1a"}`, `{"endpoint":"endpoint_$id","grace":"0"}`},
	"endpoint.test":          {`{"endpoint":"endpoint_$id"}`},
	"endpoint.replay":        {`{"endpoint":"endpoint_$id","from_position":"0:$n"}`},
	"authorize": {`{"secret":"$secret"}`, `{"secret":"$secret","product":"cards","ip":"10.1.2.$n","units":2}`,
		`{"secret":"$foreign"}`, `{$signed,"cost":1}`, `{$signed,"cost":$n}`},
}

// steps draws steps numbered from from on. What an id refers to is an earlier step of
// the same account and kind where there is one.
func steps(t *rapid.T, from, n uint64, earlier []step) []step {
	verbs := make([]string, 0, len(bodies))
	for verb := range bodies {
		verbs = append(verbs, verb)
	}
	slices.Sort(verbs)
	all := slices.Clone(earlier)
	for i := from; i < from+n; i++ {
		s := step{number: i}
		s.verb = rapid.SampledFrom(append(verbs, "authorize", "credit.grant", "key.create")).Draw(t, "verb")
		if s.verb == "account.close" && rapid.IntRange(0, 9).Draw(t, "close") > 0 {
			s.verb = "authorize" // a closed account is the end of the story
		}
		s.account = rapid.SampledFrom([]string{"acme", "bolt"}).Draw(t, "account")
		environment := rapid.SampledFrom([]string{"test", "test", "live"}).Draw(t, "environment")
		noun := map[byte]string{'k': "key.create", 'a': "key.create", 'e': "endpoint.register", 'c': "credit.grant", 'h': "hold.place"}[s.verb[0]]
		if s.verb == noun {
			noun = "key.create"
		}
		fits := []uint64{i}
		for _, old := range all {
			if old.account == s.account && old.verb == noun {
				fits = append(fits, old.number)
			}
		}
		ref := fits[len(fits)-1-rapid.IntRange(0, len(fits)-1).Draw(t, "back")]
		body := rapid.SampledFrom(bodies[s.verb]).Draw(t, "body")
		s.body = strings.NewReplacer(
			"$env", environment, "$other", map[string]string{"acme": "bolt", "bolt": "acme"}[s.account], "$n", strconv.Itoa(rapid.IntRange(1, 9).Draw(t, "number")),
			"$hash", hashOf(ref), "$foreign", foreignOf(ref),
			"$public", publicOf(s.account),
			"$signed", signed(s.account, ref, s.time()-events.Time(rapid.SampledFrom([]int64{0, 1, 2, 3, 300_000}).Draw(t, "age"))),
			"$id", idOf(ref).String(), "$secret", secretOf(s.account, environment, ref),
		).Replace(body)
		all = append(all, s)
	}
	return all[len(earlier):]
}

// opened returns the steps that open both accounts.
func opened() []step {
	return []step{
		{"account.open", "acme", `{"name":"Acme"}`, 1},
		{"account.open", "bolt", `{"name":"Bolt"}`, 2},
	}
}
