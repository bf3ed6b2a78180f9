package ledger

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// The test vector of ARCHITECTURE.md: the key is that of RFC 8032, 7.1, test 1.
const (
	vectorSeed      = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
	vectorPublic    = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	vectorSignedAt  = "2026-03-01T12:00:00Z"
	vectorMessage   = "GET /v1/cards?page=2"
	vectorSignature = "fsqJSRECgWLWIWStQOP98h7V1ecJlXbUujfnBzHZ6gz3TY0KDUR+hJSpgfydqj9rBQGz+kmmhP7SwlDOvF9aBA=="
)

func TestSignatureVector(t *testing.T) {
	seed, err := hex.DecodeString(vectorSeed)
	if err != nil {
		t.Fatal(err)
	}
	private := ed25519.NewKeyFromSeed(seed)
	at, err := events.ParseTime(vectorSignedAt)
	if err != nil {
		t.Fatal(err)
	}
	a := Authorize{Key: keyIDPrefix + idOf(1).String(), Message: vectorMessage}
	if a.Sign(private, at); a.SignedAt != vectorSignedAt || a.Signature != vectorSignature {
		t.Errorf("signed_at %s, signature %s, want %s, %s", a.SignedAt, a.Signature, vectorSignedAt, vectorSignature)
	}
	public, ok := decodePublicKey(vectorPublic)
	if err := a.Validate(); err != nil || !ok {
		t.Fatal(err, ok)
	}
	if a.Verify(public); !a.signature.verified {
		t.Error("the signature does not verify")
	}
	text, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{vectorSeed, vectorPublic, vectorSignedAt, vectorMessage, vectorSignature} {
		if !strings.Contains(string(text), part) {
			t.Errorf("ARCHITECTURE.md does not have %s", part)
		}
	}
}

// forgeable says whether a signature that takes no private key verifies: R is the neutral
// element and S is 0, which is right for any point that the challenge times 8 makes
// neutral.
func forgeable(public []byte) bool {
	sig := make([]byte, ed25519.SignatureSize)
	sig[0] = 1
	for i := range 200 {
		if ed25519.Verify(public, fmt.Append(nil, i), sig) {
			return true
		}
	}
	return false
}

// Every point of small order is refused: anybody could sign for it. So it is for each in
// the list, of either sign where there is one.
func TestSmallOrderIsForgeable(t *testing.T) {
	for _, text := range smallOrders {
		public, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if !forgeable(public) {
			t.Errorf("nobody can sign for %s: it does not belong in the list", text)
		}
		for _, sign := range []byte{0, 0x80} {
			public[31] = public[31]&0x7f | sign
			c := CreateKey{Environment: "test", Name: "s", PublicKey: base64.StdEncoding.EncodeToString(public)}
			if err := c.Validate(); err == nil || err.Code != events.InvalidArgument {
				t.Errorf("%x: %v", public, err)
			}
		}
	}
	proper, _ := decodePublicKey(vectorPublic)
	if forgeable(proper) || smallOrder(proper) {
		t.Error("a proper key is refused")
	}
}

// A signing key has no secret, so no secret is its.
func TestNoSecretIsASigningKeys(t *testing.T) {
	st := NewState()
	for _, s := range append(opened(), step{"key.create", "acme", `{"environment":"test","name":"s","public_key":"` + vectorPublic + `"}`, 3}) {
		s.do(t, st)
	}
	if k := st.keys[idOf(3)]; k.hash != [32]byte{} || k.PublicKey() == nil {
		t.Fatalf("the signing key has hash %x and public key %x", k.hash, k.PublicKey())
	}
	secret := secretOf("acme", "test", 3)
	a := &Authorize{Secret: secret}
	if err := a.Validate(); err != nil {
		t.Fatal(err)
	}
	if a.Find(st, 1) != nil {
		t.Error("a secret that names the signing key was found")
	}
	a.secret.Hash = [32]byte{} // as of a request without one
	if a.Find(st, 1) != nil {
		t.Error("the zero hash was found")
	}
}
