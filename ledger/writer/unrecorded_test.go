package writer

import (
	"crypto/sha256"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// unrecorded is what a writer told of.
type unrecorded struct {
	mu   sync.Mutex // guards all below
	list []string
	at   events.Time
}

func (u *unrecorded) tell(a *ledger.Authorize, answer *ledger.Answer, at events.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.list, u.at = append(u.list, string(answer.Code)+" "+answer.Account+" "+a.IP), at
}

// TestUnrecordedIsTold: refused and free requests are told of before they are answered,
// with the time of the decision; what has an event, or no answer, is not.
func TestUnrecordedIsTold(t *testing.T) {
	var told unrecorded
	c := newClock()
	f := run(t, &store.Memory{}, c, func(cfg *Config) { cfg.Unrecorded = told.tell })
	f.funded("acme", 100)
	key := ulid.Make()
	secret := ledger.NewSecret(events.Test, "acme", key, sha256.Sum256(key[:]))
	f.must("acme", "key.create", &ledger.CreateKey{Environment: events.Test, Name: "k", KeyID: key, Hash: sha256.Sum256([]byte(secret)), Prefix: ledger.SecretPrefix(secret)})
	ask := func(id ulid.ULID, a ledger.Authorize) *Reply {
		t.Helper()
		if err := a.Validate(); err != nil {
			t.Fatal(err)
		}
		return <-f.send(&Request{Authorize: &a, ID: id, Receipt: !id.IsZero(), Actor: "test"})
	}
	cost := func(n int64) *int64 { return &n }
	paid := c.id()
	for i, test := range []struct {
		id   ulid.ULID
		a    ledger.Authorize
		want string
	}{
		{paid, ledger.Authorize{Secret: secret, Cost: cost(60), IP: "192.0.2.1"}, ""},
		{paid, ledger.Authorize{Secret: secret, Cost: cost(60), IP: "192.0.2.1"}, ""}, // the first answer again
		{ulid.ULID{}, ledger.Authorize{Secret: secret, Cost: cost(60), IP: "192.0.2.2"}, "insufficient_credits acme 192.0.2.2"},
		{c.id(), ledger.Authorize{Secret: secret, Cost: cost(0), IP: "192.0.2.3"}, "ok acme 192.0.2.3"},
		{ulid.ULID{}, ledger.Authorize{Secret: "kl_test_unknown", IP: "192.0.2.4"}, "key_not_found  192.0.2.4"},
	} {
		c.advance(time.Second)
		if reply := ask(test.id, test.a); reply.Err != nil {
			t.Fatal(reply.Err)
		}
		told.mu.Lock()
		got := ""
		if len(told.list) > 0 {
			got = told.list[0]
		}
		if got != test.want || len(told.list) > 1 || test.want != "" && told.at != events.At(c.now()) {
			t.Errorf("request %d: told %q at %s, want %q at %s", i, told.list, told.at, test.want, events.At(c.now()))
		}
		told.list = nil
		told.mu.Unlock()
	}
	// What gets an error has no answer.
	late := &Request{Authorize: &ledger.Authorize{Secret: "kl_test_unknown"}, ID: ulid.Make(), Deadline: c.now().Add(-time.Second)}
	if reply := <-f.send(late); reply.Err == nil || len(told.list) > 0 {
		t.Errorf("reply %+v, told %q", reply, told.list)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}
