package ledger

import (
	"crypto/sha256"
	"regexp"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"
)

var secretForm = regexp.MustCompile(`^kl_(test|live)_[0-9A-Za-z]{79}$`)

func drawSecret(t *rapid.T) (secret, environment, account string, id ulid.ULID) {
	environment = rapid.SampledFrom([]string{"test", "live"}).Draw(t, "environment")
	account = rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`).Draw(t, "account")
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	random := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "random"))
	return NewSecret(environment, account, id, random), environment, account, id
}

func TestSecretRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret, environment, account, id := drawSecret(t)
		if !secretForm.MatchString(secret) || len(secret) > 100 {
			t.Fatalf("form of %s", secret)
		}
		got, ok := ParseSecret(secret)
		want := Secret{Environment: environment, KeyID: id, Slot: Slot(account), Hash: sha256.Sum256([]byte(secret))}
		if !ok || got != want {
			t.Fatalf("parsed %+v, %t; want %+v", got, ok, want)
		}
	})
}

// A changed, lost or doubled character is told by the checksum, before any look-up.
func TestDamagedSecretIsTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret, _, _, _ := drawSecret(t)
		i := rapid.IntRange(0, len(secret)-1).Draw(t, "at")
		c := rapid.SampledFrom(strings.Split(base62+"_-", "")).Draw(t, "character")
		for _, damaged := range []string{secret[:i] + c + secret[i+1:], secret[:i] + secret[i+1:], secret[:i] + c + secret[i:], secret + " "} {
			if _, ok := ParseSecret(damaged); ok && damaged != secret {
				t.Fatalf("%s was taken", damaged)
			}
		}
	})
}

func TestSecretPrefixShowsLittle(t *testing.T) {
	secret := NewSecret("live", "acme", ulid.MustParse("01ARZ3NDEKTSV4RRFFQ69G5FAV"), sha256.Sum256(nil))
	if got, want := SecretPrefix(secret), "kl_live_01A…"+secret[len(secret)-4:]; got != want {
		t.Errorf("prefix %s, want %s", got, want)
	}
}

// FuzzParseSecret: what is taken has the form of a secret, says the same as its text, and
// is no secret any more with another character at the end.
func FuzzParseSecret(f *testing.F) {
	for n := range byte(3) {
		f.Add(NewSecret("test", "acme", ulid.ULID{0: n}, [32]byte{n}))
		f.Add(NewSecret("live", "other", ulid.ULID{15: n}, [32]byte{31: n}))
	}
	f.Add("")
	f.Add("kl_test_")
	f.Fuzz(func(t *testing.T, text string) {
		secret, ok := ParseSecret(text)
		if !ok {
			return
		}
		if secret.Hash != sha256.Sum256([]byte(text)) {
			t.Fatalf("%q: wrong hash", text)
		}
		if !secretForm.MatchString(text) {
			t.Fatalf("%q was taken", text)
		}
		if text[3:7] != secret.Environment || text[8:8+ulid.EncodedSize] != secret.KeyID.String() {
			t.Fatalf("%q was taken for %+v", text, secret)
		}
		for i := range base62 {
			other := text[:len(text)-1] + base62[i:i+1]
			if _, ok := ParseSecret(other); ok && other != text {
				t.Fatalf("%q and %q were taken", text, other)
			}
		}
	})
}
