package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

func TestCheckNotices(t *testing.T) {
	for _, c := range []struct {
		list []time.Duration
		ok   bool
	}{
		{nil, true},
		{[]time.Duration{}, true},
		{[]time.Duration{time.Millisecond}, true},
		{[]time.Duration{time.Millisecond - 1}, false},
		{[]time.Duration{0}, false},
		{[]time.Duration{-time.Hour}, false},
		{[]time.Duration{8760 * time.Hour}, true},
		{[]time.Duration{time.Hour, 8760*time.Hour + 1}, false},
		{slices.Repeat([]time.Duration{time.Hour}, 5), true},
		{slices.Repeat([]time.Duration{time.Hour}, 6), false},
	} {
		if err := CheckNotices(c.list); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.list, err)
		}
	}
}

// naiveKey is what the contract says of one key's time, in milliseconds.
type naiveKey struct {
	notices               []int
	expires, set, given   int // expiry, when it was set, shortest notice given; 0: none
	until                 int // end of the old secret
	told, revoked, closed bool
}

// look returns what a look at the key at now tells, and notes it.
func (k *naiveKey) look(now int) (list []string) {
	if k.revoked || k.closed {
		return nil
	}
	if k.until != 0 && k.until <= now && k.until != k.expires {
		list, k.until = append(list, "key.secret_retired"), 0
	}
	switch {
	case k.expires == 0 || k.told:
	case k.expires <= now:
		list, k.told = append(list, "key.expired"), true
	default:
		for n := 1; n <= 100; n++ { // the shortest first
			at := k.expires - n
			if slices.Contains(k.notices, n) && k.set < at && at <= now && (k.given == 0 || n < k.given) {
				list, k.given = append(list, "key.expiring"), n
				break
			}
		}
	}
	return list
}

// Whatever happens to a key, and however seldom anybody looks, what time brings about of
// it is what a naive reading of the contract says, to the millisecond.
func TestKeyTimeAgainstANaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		model := &naiveKey{notices: rapid.SliceOfN(rapid.IntRange(1, 30), 0, 3).Draw(t, "notices")}
		st := NewState()
		st.Notices = []time.Duration{}
		for _, n := range model.notices {
			st.Notices = append(st.Notices, time.Duration(n)*time.Millisecond)
		}
		now := 1
		command := func(verb, body string) bool {
			s := step{verb, "acme", body, uint64(now)}
			list, _ := s.decide(t, st)
			for i := range list {
				st.Evolve(&list[i])
			}
			return len(list) > 0
		}
		at := func(ms int) string { return events.Time(1_800_000_000_000 + ms).String() }
		command("account.open", `{}`)
		model.expires = rapid.IntRange(2, 60).Draw(t, "expires")
		model.set = now
		command("key.create", `{"environment":"test","name":"k","expires_at":"`+at(model.expires)+`"}`)
		key := `{"key":"key_` + idOf(1).String() + `"`
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now += rapid.SampledFrom([]int{1, 1, 1, 2, 17}).Draw(t, "wait")
			var got []string
			for _, e := range (step{number: uint64(now)}).due(st) {
				got = append(got, e.Type)
			}
			if want := model.look(now); !slices.Equal(want, got) {
				t.Fatalf("at %d: %v, the model has %v: %+v", now, got, want, *model)
			}
			model.change(t, now, key, at, command)
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				next := NewState()
				next.Notices = st.Notices
				if _, err := next.RestoreAccount(st.AppendAccount(nil, 0)); err != nil {
					t.Fatal(err)
				}
				st = next
			}
		}
	})
}

// change is a random command, or none.
func (k *naiveKey) change(t *rapid.T, now int, key string, at func(int) string, command func(verb, body string) bool) {
	over := k.revoked || k.closed
	switch rapid.IntRange(0, 19).Draw(t, "command") {
	case 0, 1:
		expires := now + rapid.IntRange(0, 60).Draw(t, "expires")
		if command("key.update", key+`,"expires_at":"`+at(expires)+`"}`) {
			k.expires, k.set, k.given, k.told = expires, now, 0, false
			if k.until > expires {
				k.until = expires
			}
		}
	case 2:
		if command("key.update", key+`,"expires_at":null}`) {
			k.expires, k.told = 0, false
		}
	case 3, 4:
		grace := rapid.IntRange(0, 20).Draw(t, "grace")
		want := !over && (k.expires == 0 || k.expires > now)
		if got := command("key.rotate", key+fmt.Sprintf(`,"grace":"%dms"}`, grace)); got != want {
			t.Fatalf("rotated at %d: %t: %+v", now, got, *k)
		}
		if want {
			k.until = 0
			if grace > 0 {
				k.until = now + grace
			}
			if k.expires != 0 && k.until > k.expires {
				k.until = k.expires
			}
		}
	case 5:
		command("key.update", key+fmt.Sprintf(`,"name":"n%d"}`, now))
	case 6:
		command("key.disable", key+"}")
	case 7:
		if rapid.IntRange(0, 9).Draw(t, "sure") == 0 {
			k.revoked = command("key.revoke", key+"}") || k.revoked
		}
	case 8:
		if rapid.IntRange(0, 9).Draw(t, "sure") == 0 {
			k.closed = command("account.close", "{}") || k.closed
		}
	}
}

// An expiry that an older ledger stored does not say when it was set: no notice is given
// whose time came before the key did.
func TestNoticesOfOlderExpiries(t *testing.T) {
	const created, expires = 1_800_000_000_000, 1_800_000_000_000 + 3*86_400_000
	st := NewState()
	st.Evolve(&events.Event{Type: "account.opened", Account: "acme", Data: &events.Account{ID: "acme", Status: events.Active}})
	st.Evolve(&events.Event{Type: "key.created", Account: "acme", Data: &events.Key{
		ID: "key_" + idOf(1).String(), Account: "acme", Environment: events.Test, Status: events.Active, CreatedAt: created, ExpiresAt: expires,
	}})
	var got []string
	for now := events.Time(created); now <= expires; now += 3_600_000 {
		for _, e := range st.Due(now) {
			st.Evolve(&e)
			got = append(got, fmt.Sprintf("%s %d h before", e.Type, (expires-now)/3_600_000))
		}
	}
	if want := "key.expiring 24 h before, key.expired 0 h before"; strings.Join(got, ", ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
