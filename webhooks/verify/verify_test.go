package verify_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/webhooks"
	"github.com/keyledger/keyledger/webhooks/verify"
)

// The vectors that the Standard Webhooks libraries share.
const (
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTimestamp = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorV1        = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	vectorPrivate   = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	vectorV1a       = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
)

var vectorPublic = public(ed25519.PrivateKey(mustDecode(vectorPrivate)))

func mustDecode(text string) []byte {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return b
}

func public(private ed25519.PrivateKey) string {
	return "whpk_" + base64.StdEncoding.EncodeToString(private.Public().(ed25519.PublicKey))
}

func v1(key []byte) webhooks.SigningKey { return webhooks.SigningKey{Version: "v1", Secret: key} }

func v1a(seed []byte) webhooks.SigningKey { return webhooks.SigningKey{Version: "v1a", Secret: seed} }

// signV1a signs as the specification says, with each key, newest first.
func signV1a(id string, at time.Time, body []byte, keys ...ed25519.PrivateKey) string {
	signatures := make([]string, len(keys))
	for i, key := range keys {
		message := fmt.Appendf(nil, "%s.%d.%s", id, at.Unix(), body)
		signatures[i] = "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(key, message))
	}
	return strings.Join(signatures, " ")
}

func headers(id string, at time.Time, signature string) http.Header {
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("webhook-signature", signature)
	return h
}

// newVerifier makes a verifier whose clock stands at a time.
func newVerifier(t rapid.TB, now time.Time, keys ...string) *verify.Verifier {
	t.Helper()
	v, err := verify.New(verify.Config{Keys: keys, Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPublishedVectors(t *testing.T) {
	at := time.Unix(vectorTimestamp, 0)
	if got := signV1a(vectorID, at, []byte(vectorBody), mustDecode(vectorPrivate)); got != vectorV1a {
		t.Errorf("signed %s, want %s", got, vectorV1a)
	}
	other := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 24))
	otherPublic := public(ed25519.NewKeyFromSeed(make([]byte, 32)))
	for _, tt := range []struct {
		signature string
		keys      []string
		want      error
	}{
		{vectorV1, []string{vectorSecret}, nil},
		{vectorV1a, []string{vectorPublic}, nil},
		{vectorV1, []string{other, vectorSecret}, nil}, // the receiver has changed its secret, or not yet
		{vectorV1a, []string{vectorSecret, otherPublic, vectorPublic}, nil},
		{"v1,AAAA " + vectorV1, []string{vectorSecret}, nil}, // the sender has
		{"v2,x v1 " + vectorV1a + " " + vectorV1, []string{vectorSecret}, nil},
		{vectorV1 + " " + vectorV1a, []string{vectorPublic}, nil},

		{vectorV1, []string{other}, verify.ErrSignature},
		{vectorV1a, []string{otherPublic}, verify.ErrSignature},
		{vectorV1, []string{vectorPublic}, verify.ErrSignature},
		{vectorV1a, []string{vectorSecret}, verify.ErrSignature},
		{strings.Replace(vectorV1, "v1", "v1a", 1), []string{vectorSecret, vectorPublic}, verify.ErrSignature},
		{strings.Replace(vectorV1a, "v1a", "v1", 1), []string{vectorSecret, vectorPublic}, verify.ErrSignature},
		{strings.Replace(vectorV1, "v1", "v2", 1), []string{vectorSecret}, verify.ErrSignature},
		{strings.TrimRight(vectorV1, "="), []string{vectorSecret}, verify.ErrSignature},
		{strings.Replace(vectorV1, "OE=", "OF=", 1), []string{vectorSecret}, verify.ErrSignature}, // bits that decode to nothing
		{"v1,", []string{vectorSecret}, verify.ErrSignature},
		{"v1", []string{vectorSecret}, verify.ErrSignature},
		{vectorV1 + "," + vectorV1, []string{vectorSecret}, verify.ErrSignature},
	} {
		got, err := newVerifier(t, at, tt.keys...).Verify(headers(vectorID, at, tt.signature), []byte(vectorBody))
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s with %d keys: %v, want %v", tt.signature, len(tt.keys), err, tt.want)
		}
		if err == nil && got != (verify.Message{ID: vectorID, At: at}) {
			t.Errorf("%s: %+v", tt.signature, got)
		}
	}
}

func TestEveryPartIsSigned(t *testing.T) {
	at := time.Unix(vectorTimestamp, 0)
	v := newVerifier(t, at, vectorSecret, vectorPublic)
	for _, signature := range []string{vectorV1, vectorV1a} {
		for what, tt := range map[string]struct {
			id   string
			at   time.Time
			body string
		}{
			"id":   {vectorID + "x", at, vectorBody},
			"time": {vectorID, at.Add(time.Second), vectorBody},
			"body": {vectorID, at, vectorBody + " "},
			"none": {vectorID, at, ""},
		} {
			if _, err := v.Verify(headers(tt.id, tt.at, signature), []byte(tt.body)); !errors.Is(err, verify.ErrSignature) {
				t.Errorf("another %s: %v", what, err)
			}
		}
	}
}

func TestTolerance(t *testing.T) {
	at := time.Unix(vectorTimestamp, 0)
	for _, tt := range []struct {
		tolerance time.Duration // of the config
		late      time.Duration
		want      error
	}{
		{0, verify.DefaultTolerance, nil},
		{0, verify.DefaultTolerance + 1, verify.ErrTooOld},
		{0, -verify.DefaultTolerance, nil},
		{0, -verify.DefaultTolerance - 1, verify.ErrTooNew},
		{time.Second, time.Second, nil},
		{time.Second, time.Second + 1, verify.ErrTooOld},
		{time.Second, -time.Second - 1, verify.ErrTooNew},
		{verify.MaxTolerance, verify.MaxTolerance, nil},
		{verify.MaxTolerance, verify.MaxTolerance + 1, verify.ErrTooOld},
		{0, 200 * 365 * 24 * time.Hour, verify.ErrTooOld},
	} {
		v, err := verify.New(verify.Config{Keys: []string{vectorSecret}, Tolerance: tt.tolerance,
			Clock: func() time.Time { return at.Add(tt.late) }})
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(headers(vectorID, at, vectorV1), []byte(vectorBody))
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s late with a tolerance of %s: %v, want %v", tt.late, tt.tolerance, err, tt.want)
		}
	}
	// As far away as the header can say: the distance must not wrap around.
	h := headers(vectorID, at, vectorV1)
	h.Set("webhook-timestamp", strings.Repeat("9", 12))
	if _, err := newVerifier(t, at, vectorSecret).Verify(h, []byte(vectorBody)); !errors.Is(err, verify.ErrTooNew) {
		t.Errorf("in 30,000 years: %v", err)
	}
}

func TestHeaders(t *testing.T) {
	at := time.Unix(vectorTimestamp, 0)
	longest := strings.Repeat("a", verify.MaxIDBytes)
	for _, tt := range []struct {
		name   string
		values []string
	}{
		{"Webhook-Id", nil}, {"Webhook-Id", []string{""}}, {"Webhook-Id", []string{vectorID, vectorID}},
		{"Webhook-Id", []string{"msg.1"}}, {"Webhook-Id", []string{"msg 1"}}, {"Webhook-Id", []string{"msg\n"}}, {"Webhook-Id", []string{"é"}},
		{"Webhook-Id", []string{longest + "a"}},
		{"Webhook-Timestamp", nil}, {"Webhook-Timestamp", []string{""}}, {"Webhook-Timestamp", []string{"1614265330", "1614265330"}},
		{"Webhook-Timestamp", []string{"+1614265330"}}, {"Webhook-Timestamp", []string{"-1"}}, {"Webhook-Timestamp", []string{"01614265330"}},
		{"Webhook-Timestamp", []string{" 1614265330"}}, {"Webhook-Timestamp", []string{"1614265330.0"}}, {"Webhook-Timestamp", []string{"1_614_265_330"}},
		{"Webhook-Timestamp", []string{"1000000000000"}}, {"Webhook-Timestamp", []string{"9223372036854775808"}}, {"Webhook-Timestamp", []string{"2021-02-25T15:02:10Z"}},
		{"Webhook-Signature", nil}, {"Webhook-Signature", []string{""}}, {"Webhook-Signature", []string{vectorV1, vectorV1}},
		{"Webhook-Signature", []string{strings.Repeat("v2,x ", verify.MaxSignatures) + vectorV1}},
		{"Webhook-Signature", []string{vectorV1 + strings.Repeat(" ", verify.MaxSignatures)}},
		{"Webhook-Signature", []string{strings.Repeat("v1a,x ", verify.MaxPublicSignatures) + vectorV1a}},
	} {
		h := headers(vectorID, at, vectorV1)
		h[tt.name] = tt.values
		if _, err := newVerifier(t, at, vectorSecret).Verify(h, []byte(vectorBody)); !errors.Is(err, verify.ErrHeader) {
			t.Errorf("%s: %q: %v", tt.name, tt.values, err)
		}
	}
	h := headers(vectorID, at, strings.Repeat("v2,x ", verify.MaxSignatures-1)+vectorV1)
	if _, err := newVerifier(t, at, vectorSecret).Verify(h, []byte(vectorBody)); err != nil {
		t.Errorf("as many signatures as there may be: %v", err)
	}
	h = headers(vectorID, at, strings.Repeat("v1a,x ", verify.MaxPublicSignatures-1)+vectorV1a+" "+vectorV1)
	for _, key := range []string{vectorSecret, vectorPublic} {
		if _, err := newVerifier(t, at, key).Verify(h, []byte(vectorBody)); err != nil {
			t.Errorf("as many of v1a as there may be: %v", err)
		}
	}
	key, err := webhooks.ParseSecret(vectorSecret)
	if err != nil {
		t.Fatal(err)
	}
	h = headers(longest, at, webhooks.Sign(longest, at, nil, v1(key)))
	if _, err := newVerifier(t, at, vectorSecret).Verify(h, nil); err != nil {
		t.Errorf("the longest id, and no body: %v", err)
	}
}

func TestNewLimits(t *testing.T) {
	secret := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, n)) }
	times := func(n int) []string { return strings.Fields(strings.Repeat(vectorSecret+" ", n)) }
	for _, tt := range []struct {
		config verify.Config
		want   error // ErrKey; errAny for another; nil
	}{
		{verify.Config{Keys: []string{secret(24), secret(64), vectorPublic}}, nil},
		{verify.Config{Keys: times(verify.MaxKeys), Tolerance: verify.MaxTolerance, MaxBodyBytes: 1}, nil},
		{verify.Config{}, errAny},
		{verify.Config{Keys: times(verify.MaxKeys + 1)}, errAny},
		{verify.Config{Keys: times(1), Tolerance: verify.MaxTolerance + 1}, errAny},
		{verify.Config{Keys: times(1), Tolerance: -1}, errAny},
		{verify.Config{Keys: times(1), MaxBodyBytes: -1}, errAny},
		{verify.Config{Keys: []string{secret(23)}}, verify.ErrKey},
		{verify.Config{Keys: []string{secret(65)}}, verify.ErrKey},
		{verify.Config{Keys: []string{""}}, verify.ErrKey},
		{verify.Config{Keys: []string{vectorSecret[len("whsec_"):]}}, verify.ErrKey},
		{verify.Config{Keys: []string{vectorSecret + "\n"}}, verify.ErrKey},
		{verify.Config{Keys: []string{"whsec_MfKQ9r8GKYqr\nTwjUPD8ILPZIo2LaLaSw"}}, verify.ErrKey},
		{verify.Config{Keys: []string{strings.TrimRight(secret(32), "=")}}, verify.ErrKey},
		{verify.Config{Keys: []string{strings.Replace(secret(32), "A=", "B=", 1)}}, verify.ErrKey},
		{verify.Config{Keys: []string{"whpk_" + base64.StdEncoding.EncodeToString(make([]byte, 31))}}, verify.ErrKey},
		{verify.Config{Keys: []string{"whpk_" + base64.StdEncoding.EncodeToString(make([]byte, 33))}}, verify.ErrKey},
		{verify.Config{Keys: []string{vectorSecret, "whsk_" + vectorPrivate}}, verify.ErrKey},
	} {
		_, err := verify.New(tt.config)
		if (err == nil) != (tt.want == nil) || errors.Is(err, verify.ErrKey) != (tt.want == verify.ErrKey) {
			t.Errorf("%q: %v", tt.config.Keys, err)
		}
		if err != nil && (strings.Contains(err.Error(), "MfKQ") || strings.Contains(err.Error(), "6Xb/")) {
			t.Errorf("the error shows a key: %v", err)
		}
	}
}

var errAny = errors.New("any error")

// What the reference library signs, and what keyledger signs, verifies here; and
// what verifies here verifies with the library.
func TestAgreesWithTheReferenceAndTheSender(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[0-9A-HJKMNP-TV-Z]{26}`).Draw(t, "id")
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		at := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "at"), 0)
		random := rapid.SliceOfN(rapid.Byte(), 32, 32)
		newer := webhooks.NewSecret([32]byte(random.Draw(t, "newer")))
		older := webhooks.NewSecret([32]byte(append(random.Draw(t, "older")[1:], 0)))
		hook, err := standardwebhooks.NewWebhook(newer)
		if err != nil {
			t.Fatal(err)
		}
		reference, err := hook.Sign(id, at, body)
		if err != nil {
			t.Fatal(err)
		}
		newerKey, _ := webhooks.ParseSecret(newer)
		olderKey, _ := webhooks.ParseSecret(older)
		ours := webhooks.Sign(id, at, body, v1(newerKey), v1(olderKey))
		mixed := webhooks.Sign(id, at, body, v1a(newerKey), v1(olderKey))
		seed := ed25519.NewKeyFromSeed(newerKey)
		if made := webhooks.NewKeyPair([32]byte(newerKey)); made != public(seed) {
			t.Fatalf("public key %s, not %s", made, public(seed))
		}
		for _, tt := range []struct{ signature, key string }{
			{reference, newer}, {ours, newer}, {ours, older}, {signV1a(id, at, body, ed25519.NewKeyFromSeed(olderKey), seed), public(seed)},
			{mixed, public(seed)}, {mixed, older},
		} {
			v, h := newVerifier(t, at, tt.key), headers(id, at, tt.signature)
			if got, err := v.Verify(h, body); err != nil || got.ID != id || !got.At.Equal(at) {
				t.Fatalf("%s: %+v, %v", tt.signature, got, err)
			}
			if _, err := v.Verify(h, append(body[:len(body):len(body)], '.')); !errors.Is(err, verify.ErrSignature) {
				t.Fatalf("another body: %v", err)
			}
		}
	})
}

// A long header is not taken apart: to refuse one takes no memory that grows with it.
func TestLongSignatureHeader(t *testing.T) {
	at := time.Unix(vectorTimestamp, 0)
	v, h := newVerifier(t, at, vectorSecret), headers(vectorID, at, strings.Repeat("v1,x ", 200_000))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := v.Verify(h, nil)
	runtime.ReadMemStats(&after)
	if bytes := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, verify.ErrHeader) || bytes > 64<<10 {
		t.Errorf("%v, after %d bytes", err, bytes)
	}
}
