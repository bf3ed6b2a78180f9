package webhooks

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/webhooks/verify"
)

// checkedBy are verifications of one request, by the name of the key.
type checkedBy map[string]func(header http.Header, body []byte) error

// checkers verify with the secrets' text forms: v1 with the Standard Webhooks library, v1a
// with crypto/ed25519, and each with webhooks/verify too, which must say the same.
func checkers(t *testing.T, clock func() time.Time, keys map[string]string) checkedBy {
	t.Helper()
	list := checkedBy{}
	for name, key := range keys {
		independent := checkV1a(strings.TrimPrefix(key, PublicKeyPrefix))
		if strings.HasPrefix(key, SecretPrefix) {
			hook, err := standardwebhooks.NewWebhook(key)
			if err != nil {
				t.Fatal(err)
			}
			independent = func(header http.Header, body []byte) error { return hook.VerifyIgnoringTimestamp(body, header) }
		}
		ours, err := verify.New(verify.Config{Keys: []string{key}, Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		list[name] = func(header http.Header, body []byte) error {
			err := independent(header, body)
			if _, own := ours.Verify(header, body); (err == nil) != (own == nil) {
				t.Errorf("%s: others say %v, webhooks/verify says %v", name, err, own)
			}
			return err
		}
	}
	return list
}

func checkV1a(public string) func(http.Header, []byte) error {
	return func(header http.Header, body []byte) error {
		key, err := base64.StdEncoding.DecodeString(public)
		if err != nil {
			return err
		}
		signed := fmt.Appendf(nil, "%s.%s.%s", header.Get("webhook-id"), header.Get("webhook-timestamp"), body)
		for signature := range strings.SplitSeq(header.Get("webhook-signature"), " ") {
			version, text, _ := strings.Cut(signature, ",")
			if got, err := base64.StdEncoding.DecodeString(text); version == "v1a" && err == nil && ed25519.Verify(key, signed, got) {
				return nil
			}
		}
		return fmt.Errorf("no v1a signature of this key")
	}
}

// request of which a test has seen all.
type wholeRequest struct {
	header http.Header
	body   []byte
}

// collect runs a receiver that hands every request on, and answers 200.
func collect(t *testing.T) (url string, requests <-chan wholeRequest) {
	t.Helper()
	channel := make(chan wholeRequest, 64)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		channel <- wholeRequest{r.Header, body}
	}))
	t.Cleanup(server.Close)
	return server.URL, channel
}

// verifies gives the names of the keys that a delivery verifies with, and the versions of
// its signatures in their order.
func (r wholeRequest) verifies(checks checkedBy) (names, versions []string) {
	for name, check := range checks {
		if check(r.header, r.body) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for signature := range strings.SplitSeq(r.header.Get("webhook-signature"), " ") {
		version, _, _ := strings.Cut(signature, ",")
		versions = append(versions, version)
	}
	return names, versions
}

// While a secret changes, both the new one and those before sign; each of those ends exactly
// at its time, at first tries and later ones alike.
func TestFormerSecretsSignUntilTheirTime(t *testing.T) {
	r := newRig(t)
	url, requests := collect(t)
	seed, oldest, middle := [32]byte{1}, [32]byte{2}, [32]byte{3}
	checks := checkers(t, r.clock.now, map[string]string{
		"current": NewKeyPair(seed), "middle": NewSecret(middle), "oldest": NewKeyPair(oldest),
	})
	now := events.At(r.clock.now())
	seal := func(key [32]byte) []byte { return r.sealer.Seal("acme", "endpoint_1", fieldSecret, key[:]) }
	e := r.endpoint("endpoint_1", url, seed[:])
	e.Signing, e.PublicKey = events.SigningV1a, NewKeyPair(seed)
	e.Former = []events.FormerSecret{
		{Until: now + 2000, Signing: events.SigningV1, Sealed: seal(middle)},
		{Until: now + 1000, Signing: events.SigningV1a, PublicKey: NewKeyPair(oldest), Sealed: seal(oldest)},
	}
	r.commit(about(e, ""))
	u := r.start(r.onClock())
	for i, step := range []struct {
		advance time.Duration
		names   string
		version string
	}{
		{0, "current middle oldest", "v1a v1 v1a"},
		{999 * time.Millisecond, "current middle oldest", "v1a v1 v1a"},
		{time.Millisecond, "current middle", "v1a v1"},
		{999 * time.Millisecond, "current middle", "v1a v1"},
		{time.Millisecond, "current", "v1a"},
		{time.Hour, "current", "v1a"},
	} {
		r.clock.advance(step.advance)
		r.commit(debit("acme", events.Test, i))
		names, versions := (<-requests).verifies(checks)
		if got := strings.Join(names, " "); got != step.names {
			t.Errorf("step %d: verifies with %s, want %s", i, got, step.names)
		}
		if got := strings.Join(versions, " "); got != step.version {
			t.Errorf("step %d: signatures %s, want %s", i, got, step.version)
		}
		u.idle()
	}
}

// A retry is signed with what signs at its own time, not at the first try's.
func TestRetryIsSignedAtItsOwnTime(t *testing.T) {
	r := newRig(t)
	current, former := [32]byte{1}, [32]byte{2}
	tries := make(chan wholeRequest, 4)
	status := http.StatusInternalServerError
	server := serve(t, func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		w.WriteHeader(status)
		status = http.StatusOK
		tries <- wholeRequest{q.Header, body}
	})
	checks := checkers(t, r.clock.now, map[string]string{"current": NewSecret(current), "former": NewSecret(former)})
	e := r.endpoint("endpoint_1", server.URL, current[:])
	e.Former = []events.FormerSecret{{
		Until: events.At(r.clock.now()) + 1000, Signing: events.SigningV1, Sealed: r.sealer.Seal("acme", "endpoint_1", fieldSecret, former[:]),
	}}
	r.commit(about(e, ""))
	u := r.start(r.onClock(0, time.Second))
	r.commit(debit("acme", events.Test, 0))
	if names, _ := (<-tries).verifies(checks); strings.Join(names, " ") != "current former" {
		t.Errorf("the first try verifies with %s", names)
	}
	u.waiting("endpoint_1", 1)
	r.clock.advance(time.Second)
	if names, _ := (<-tries).verifies(checks); strings.Join(names, " ") != "current" {
		t.Errorf("the retry verifies with %s", names)
	}
}

// A former secret that cannot be opened is no reason to send with the others only: the
// receiver may have none of them.
func TestFormerSecretThatDoesNotOpen(t *testing.T) {
	r := newRig(t)
	d := New(Config{Sealer: r.sealer})
	e := r.endpoint("endpoint_1", "https://example.com/", make([]byte, 32))
	at := time.UnixMilli(5000)
	e.Former = []events.FormerSecret{{Until: 5001, Signing: events.SigningV1, Sealed: newSealer(t, 2).Seal("acme", "endpoint_1", fieldSecret, make([]byte, 32))}}
	if _, err := d.unseal(e, at); err == nil {
		t.Error("no error")
	}
	e.Former[0].Until = 5000 // and none once it does not sign any more
	if u, err := d.unseal(e, at); err != nil || len(u.keys) != 1 {
		t.Errorf("%d keys, %v", len(u.keys), err)
	}
	for what, change := range map[string]func(){
		"a seed that is too long": func() {
			e.Signing, e.SealedSecret = events.SigningV1a, r.sealer.Seal("acme", "endpoint_1", fieldSecret, make([]byte, 64))
		},
		"another version": func() { e.Signing = "v2" },
	} {
		change()
		if _, err := d.unseal(e, at); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
