package webhooks

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// The vector that the Standard Webhooks libraries share.
const (
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTimestamp = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorPrivate   = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="

	vectorSignatureA = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
	vectorSignature  = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func mustKey(t testing.TB, secret string) []byte {
	t.Helper()
	key, err := ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func v1(key []byte) SigningKey   { return SigningKey{Version: events.SigningV1, Secret: key} }
func v1a(seed []byte) SigningKey { return SigningKey{Version: events.SigningV1a, Secret: seed} }

func TestSignPublishedVectors(t *testing.T) {
	at := time.Unix(vectorTimestamp, 999_999_999) // fractions of a second do not count
	private, err := base64.StdEncoding.DecodeString(vectorPrivate)
	if err != nil {
		t.Fatal(err)
	}
	symmetric, seed := v1(mustKey(t, vectorSecret)), v1a(private[:ed25519.SeedSize])
	for want, keys := range map[string][]SigningKey{
		vectorSignature:                          {symmetric},
		vectorSignatureA:                         {seed},
		vectorSignatureA + " " + vectorSignature: {seed, symmetric},
		vectorSignature + " " + vectorSignatureA: {symmetric, seed},
	} {
		if got := Sign(vectorID, at, []byte(vectorBody), keys...); got != want {
			t.Errorf("signature %s, want %s", got, want)
		}
	}
	public := NewKeyPair([SecretBytes]byte(private))
	if want := PublicKeyPrefix + base64.StdEncoding.EncodeToString(private[ed25519.SeedSize:]); public != want {
		t.Errorf("public key %s, want %s", public, want)
	}
}

func TestSignWithSeveralSecrets(t *testing.T) {
	key := mustKey(t, vectorSecret)
	newer := mustKey(t, NewSecret([32]byte{1}))
	at := time.Unix(vectorTimestamp, 0)
	got := strings.Split(Sign(vectorID, at, []byte(vectorBody), v1(newer), v1(key)), " ")
	if len(got) != 2 || got[1] != vectorSignature || got[0] == got[1] {
		t.Errorf("signatures %q, want the newer one and then %s", got, vectorSignature)
	}
	if got := Sign(vectorID, at, []byte(vectorBody)); got != "" {
		t.Errorf("signature %q without a secret", got)
	}
}

// The reference library verifies what is signed here, with each of the secrets,
// and nothing else.
func TestSignVerifiesElsewhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[0-9A-HJKMNP-TV-Z]{26}`).Draw(t, "id")
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		at := time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "at"), 0)
		count := rapid.IntRange(1, 3).Draw(t, "secrets")
		var texts []string
		var keys []SigningKey
		for range count {
			random := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "random"))
			texts = append(texts, NewSecret(random))
			key, err := ParseSecret(NewSecret(random))
			if err != nil || !bytes.Equal(key, random[:]) {
				t.Fatalf("parsed back as %x, %v", key, err)
			}
			keys = append(keys, v1(key))
		}
		header := http.Header{}
		header.Set(headerID, id)
		header.Set(headerTimestamp, strconv.FormatInt(at.Unix(), 10))
		header.Set(headerSignature, Sign(id, at, body, keys...))
		for _, text := range texts {
			hook, err := standardwebhooks.NewWebhook(text)
			if err != nil {
				t.Fatal(err)
			}
			if err := hook.VerifyIgnoringTimestamp(body, header); err != nil {
				t.Fatalf("secret %s: %v", text, err)
			}
			if err := hook.VerifyIgnoringTimestamp(append(body, '.'), header); err == nil {
				t.Fatal("another body verifies")
			}
		}
	})
}

func TestNewSecret(t *testing.T) {
	got := NewSecret([32]byte{0xff, 0xfe})
	if want := "whsec_//4AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="; got != want {
		t.Errorf("secret %s, want %s", got, want)
	}
}

func TestParseSecret(t *testing.T) {
	coded := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for secret, want := range map[string]bool{
		vectorSecret: true, coded(24): true, coded(32): true, coded(64): true,
		coded(23): false, coded(65): false, "": false, "whsec_": false,
		vectorSecret[len("whsec_"):]:                false, // no prefix
		"WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw":    false,
		"whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw":     false,
		vectorSecret + "\n":                         false,
		"whsec_MfKQ9r8GKYqr\nTwjUPD8ILPZIo2LaLaSw":  false,
		strings.TrimRight(coded(32), "="):           false,
		strings.Replace(coded(32), "A=", "B=", 1):   false, // bits that decode to nothing
		"whsec_-_KQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw":    false, // the URL alphabet
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw!!!": false,
	} {
		key, err := ParseSecret(secret)
		if want != (err == nil) || want != (key != nil) {
			t.Errorf("%q: key of %d bytes, error %v", secret, len(key), err)
		}
		if err != nil && !errors.Is(err, ErrSecret) {
			t.Errorf("%q: error %v, want ErrSecret", secret, err)
		}
		if err != nil && strings.Contains(err.Error(), "MfKQ") {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}
