package verify

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// DefaultTolerance is how far webhook-timestamp may lie from the receiver's clock,
	// before or after it.
	DefaultTolerance = 5 * time.Minute
	// MaxTolerance is the longest tolerance that can be set.
	MaxTolerance = time.Hour
	// DefaultMaxBodyBytes is the largest request body, in bytes.
	DefaultMaxBodyBytes = 1 << 20
	// MaxKeys is how many secrets and public keys a Verifier takes.
	MaxKeys = 8
	// MaxSignatures is how many signatures one request may bear, of whatever version.
	MaxSignatures = 16
	// MaxPublicSignatures is how many of them may be of version v1a. Each is tried with
	// every public key, and each try reads the whole body; a sender in the midst of a
	// rotation needs two or three.
	MaxPublicSignatures = 4
	// MaxIDBytes is the longest webhook-id, in bytes.
	MaxIDBytes = 128

	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"

	secretPrefix  = "whsec_" // and the base64 of 24 to 64 bytes
	publicPrefix  = "whpk_"  // and the base64 of 32 bytes
	privatePrefix = "whsk_"  // never a receiver's

	// The Standard Webhooks specification allows secrets of 24 to 64 bytes.
	minSecretBytes = 24
	maxSecretBytes = 64

	maxTimestampDigits = 12 // of unix seconds: 31,000 years
)

// Errors of Verify and Read. They are wrapped with what is wrong: never with a
// secret, a signature or any part of a body. Status gives the answer to each.
var (
	// ErrHeader: webhook-id, webhook-timestamp or webhook-signature is missing, there
	// twice, or not of its form.
	ErrHeader = errors.New("bad webhook header")
	// ErrTooOld: webhook-timestamp lies further back than the tolerance. It is a
	// replay, or one of the clocks is wrong.
	ErrTooOld = errors.New("webhook timestamp too old")
	// ErrTooNew: webhook-timestamp lies further ahead than the tolerance.
	ErrTooNew = errors.New("webhook timestamp too new")
	// ErrSignature: none of the signatures is one of these secrets' or keys' over this
	// id, timestamp and body.
	ErrSignature = errors.New("no matching webhook signature")
	// ErrMethod: the request is no POST.
	ErrMethod = errors.New("webhook is not a POST")
	// ErrTooLarge: the body is longer than Config.MaxBodyBytes.
	ErrTooLarge = errors.New("webhook body too large")
	// ErrBody: the body broke off.
	ErrBody = errors.New("webhook body cannot be read")
	// ErrEvent: the signature is good, and what was signed is no CloudEvent in
	// structured JSON whose id is the webhook-id.
	ErrEvent = errors.New("not a CloudEvent")
)

// ErrKey is wrapped by New's errors about a secret or a public key. They name its
// place in the list and show no part of it.
var ErrKey = errors.New("not a signing secret or public key")

// Config is how a Verifier is made.
type Config struct {
	// Keys are the endpoint's signing secrets (whsec_…) and public keys (whpk_…), 1 to
	// MaxKeys in any order: one of them suffices for a request. After a rotation give
	// the new one and the old one, until the old one no longer signs.
	Keys []string
	// Tolerance is how far webhook-timestamp may lie from the clock, before or after;
	// 0 stands for DefaultTolerance, at most MaxTolerance.
	Tolerance time.Duration
	// MaxBodyBytes is the largest body that Read takes; 0 stands for
	// DefaultMaxBodyBytes.
	MaxBodyBytes int64
	// Clock tells the time; nil stands for time.Now.
	Clock func() time.Time

	// Origins are the senders that are allowed to deliver here, by the name that their
	// operator has set, up to MaxOrigins of up to MaxOriginBytes; none: whoever asks, for
	// what is delivered is signed. See AnswerConsent.
	Origins []string
	// RatePerMinute is how many requests a minute a sender is told to make at the most; 0:
	// as many as it likes.
	RatePerMinute int64
}

// Verifier verifies requests. It keeps no state between them and is safe for
// concurrent use.
type Verifier struct {
	secrets [][]byte
	publics []ed25519.PublicKey
	config  Config // with its defaults
}

// New makes a Verifier. Its errors wrap ErrKey where a key is wrong; anything
// else outside the limits is an error too.
func New(config Config) (*Verifier, error) {
	v := &Verifier{config: config}
	if len(config.Keys) == 0 || len(config.Keys) > MaxKeys {
		return nil, fmt.Errorf("make verifier: %d keys, want 1 to %d", len(config.Keys), MaxKeys)
	}
	for i, key := range config.Keys {
		if err := v.add(key); err != nil {
			return nil, fmt.Errorf("make verifier: key %d: %w", i+1, err)
		}
	}
	if v.config.Tolerance == 0 {
		v.config.Tolerance = DefaultTolerance
	}
	if v.config.Tolerance < 0 || v.config.Tolerance > MaxTolerance {
		return nil, fmt.Errorf("make verifier: tolerance %s, want up to %s", config.Tolerance, MaxTolerance)
	}
	if v.config.MaxBodyBytes == 0 {
		v.config.MaxBodyBytes = DefaultMaxBodyBytes
	}
	if v.config.MaxBodyBytes < 0 {
		return nil, fmt.Errorf("make verifier: body limit of %d bytes", config.MaxBodyBytes)
	}
	if v.config.Clock == nil {
		v.config.Clock = time.Now
	}
	if len(config.Origins) > MaxOrigins || slices.ContainsFunc(config.Origins, func(name string) bool { return !isOrigin(name) }) {
		return nil, fmt.Errorf("make verifier: origins must be up to %d names of up to %d bytes", MaxOrigins, MaxOriginBytes)
	}
	if config.RatePerMinute < 0 {
		return nil, fmt.Errorf("make verifier: rate of %d a minute", config.RatePerMinute)
	}
	return v, nil
}

// add takes one key in its text form (Standard Webhooks, "Signature scheme").
func (v *Verifier) add(key string) error {
	if strings.HasPrefix(key, privatePrefix) {
		return fmt.Errorf("%w: a private key (%s…) is the sender's alone", ErrKey, privatePrefix)
	}
	if text, ok := strings.CutPrefix(key, publicPrefix); ok {
		public, ok := decode(text)
		if !ok || len(public) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: want %s and the base64 of %d bytes", ErrKey, publicPrefix, ed25519.PublicKeySize)
		}
		v.publics = append(v.publics, public)
		return nil
	}
	text, ok := strings.CutPrefix(key, secretPrefix)
	secret, good := decode(text)
	if !ok || !good || len(secret) < minSecretBytes || len(secret) > maxSecretBytes {
		return fmt.Errorf("%w: want %s and the base64 of %d to %d bytes", ErrKey, secretPrefix, minSecretBytes, maxSecretBytes)
	}
	v.secrets = append(v.secrets, secret)
	return nil
}

// decode takes standard base64 in its one form: padded, without line breaks.
func decode(text string) ([]byte, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return b, err == nil && !strings.ContainsAny(text, "\r\n")
}

// Message is what the headers of a verified request say.
type Message struct {
	ID string    // webhook-id: of the event, the same however often it is sent
	At time.Time // webhook-timestamp: of this attempt, in whole seconds
}

// Verify checks that body came with these headers from the holder of one of the
// keys, and not long ago. The body is the request's, byte for byte. An error
// wraps ErrHeader, ErrTooOld, ErrTooNew or ErrSignature.
//
// Signatures of an unknown version are passed over. Each v1 signature is compared
// with each secret's, in constant time; ed25519 has no secret here, and its first match
// ends the search.
func (v *Verifier) Verify(header http.Header, body []byte) (Message, error) {
	id, err := single(header, headerID)
	if err != nil {
		return Message{}, err
	}
	if !isID(id) {
		return Message{}, fmt.Errorf("%w: %s is not 1 to %d visible ASCII characters without a dot", ErrHeader, headerID, MaxIDBytes)
	}
	timestamp, err := single(header, headerTimestamp)
	if err != nil {
		return Message{}, err
	}
	at, err := parseTimestamp(timestamp)
	if err != nil {
		return Message{}, err
	}
	given, err := single(header, headerSignature)
	if err != nil {
		return Message{}, err
	}
	signatures, err := split(given)
	if err != nil {
		return Message{}, err
	}
	if age := v.config.Clock().Sub(at); age > v.config.Tolerance {
		return Message{}, ErrTooOld
	} else if age < -v.config.Tolerance {
		return Message{}, ErrTooNew
	}
	if !v.signed(id+"."+timestamp+".", body, signatures) {
		return Message{}, ErrSignature
	}
	return Message{ID: id, At: at}, nil
}

// single is the value of a header that must be there once.
func single(header http.Header, name string) (string, error) {
	values := header.Values(name)
	if len(values) != 1 || values[0] == "" {
		return "", fmt.Errorf("%w: %s must be there once", ErrHeader, name)
	}
	return values[0], nil
}

// split is the list of signatures, of which there may be so many.
func split(given string) ([]string, error) {
	signatures := strings.SplitN(given, " ", MaxSignatures+1)
	if len(signatures) > MaxSignatures {
		return nil, fmt.Errorf("%w: more than %d signatures in %s", ErrHeader, MaxSignatures, headerSignature)
	}
	public := 0
	for _, signature := range signatures {
		if strings.HasPrefix(signature, "v1a,") {
			public++
		}
	}
	if public > MaxPublicSignatures {
		return nil, fmt.Errorf("%w: %d signatures of version v1a in %s, at most %d", ErrHeader, public, headerSignature, MaxPublicSignatures)
	}
	return signatures, nil
}

// isID leaves out the dot, which in what is signed ends the id.
func isID(id string) bool {
	for _, c := range []byte(id) {
		if c <= ' ' || c > '~' || c == '.' {
			return false
		}
	}
	return len(id) <= MaxIDBytes
}

func parseTimestamp(text string) (time.Time, error) {
	seconds, err := strconv.ParseUint(text, 10, 63)
	if err != nil || len(text) > maxTimestampDigits || strconv.FormatUint(seconds, 10) != text {
		return time.Time{}, fmt.Errorf("%w: %s is not in unix seconds", ErrHeader, headerTimestamp)
	}
	return time.Unix(int64(seconds), 0), nil
}

// signed is true if one of the signatures is of one of the keys.
func (v *Verifier) signed(head string, body []byte, signatures []string) bool {
	macs := make([][]byte, len(v.secrets))
	for i, secret := range v.secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(head))
		mac.Write(body)
		macs[i] = mac.Sum(nil)
	}
	var message []byte // of ed25519, which takes it in one piece
	found := false
	for _, signature := range signatures {
		version, text, _ := strings.Cut(signature, ",")
		got, ok := decode(text)
		if !ok {
			continue
		}
		switch version {
		case "v1":
			for _, mac := range macs {
				found = hmac.Equal(mac, got) || found
			}
		case "v1a":
			if message == nil && len(v.publics) > 0 {
				message = append([]byte(head), body...)
			}
			if slices.ContainsFunc(v.publics, func(public ed25519.PublicKey) bool { return ed25519.Verify(public, message, got) }) {
				return true
			}
		}
	}
	return found
}
