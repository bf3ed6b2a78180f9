package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// A key's secret is one word that a double click selects and one regular expression
// finds: kl_(test|live)_[0-9A-Za-z]{79}. Behind the prefix stand the key id (a ULID, 26
// characters), 256 random bits (four groups of 8 bytes, 11 characters each) and 6 bytes
// in 9 characters: the account's routing slot and the CRC-32C (RFC 3720) of all that.
// Groups are big-endian numbers in base62, padded.
const (
	secretPrefixChars = len("kl_test_")
	secretChars       = secretPrefixChars + ulid.EncodedSize + 4*11 + 9
	base62            = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Secret is what a well-formed secret says of itself.
type Secret struct {
	Environment string
	KeyID       ulid.ULID
	Slot        uint16
	Hash        [32]byte // SHA-256 of the whole word
}

// Slot is the routing slot of an account: the first two bytes, big-endian, of
// SHA-256(account id). Its partition is slot × partitions / 65536.
func Slot(account string) uint16 {
	sum := sha256.Sum256([]byte(account))
	return binary.BigEndian.Uint16(sum[:2])
}

// NewSecret writes the secret of a key from 32 random bytes.
func NewSecret(environment, account string, keyID ulid.ULID, random [32]byte) string {
	b := make([]byte, 0, secretChars)
	b = append(b, "kl_"...)
	b = append(b, environment...)
	b = append(b, '_')
	b = append(b, keyID.String()...)
	for i := 0; i < 32; i += 8 {
		b = appendBase62(b, binary.BigEndian.Uint64(random[i:]), 11)
	}
	slot := Slot(account)
	sum := uint64(secretSum(b, slot))
	return string(appendBase62(b, uint64(slot)<<32|sum, 9))
}

// secretSum is the checksum over what stands before the last group, and the slot.
func secretSum(head []byte, slot uint16) uint32 {
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, []byte{byte(slot >> 8), byte(slot)})
}

// ParseSecret reads a secret. A false answer means that no such secret was ever issued,
// which can be told without a look-up.
func ParseSecret(s string) (Secret, bool) {
	var out Secret
	if len(s) != secretChars {
		return out, false
	}
	switch s[:secretPrefixChars] {
	case "kl_test_":
		out.Environment = events.Test
	case "kl_live_":
		out.Environment = events.Live
	default:
		return out, false
	}
	id := s[secretPrefixChars : secretPrefixChars+ulid.EncodedSize]
	if err := out.KeyID.UnmarshalText([]byte(id)); err != nil || strings.ToUpper(id) != id {
		return out, false
	}
	tail, ok := parseBase62(s[secretChars-9:])
	if !ok || tail>>48 != 0 {
		return out, false
	}
	out.Slot = uint16(tail >> 32)
	if secretSum([]byte(s[:secretChars-9]), out.Slot) != uint32(tail) {
		return out, false
	}
	out.Hash = sha256.Sum256([]byte(s))
	return out, true
}

// SecretPrefix is how a secret is shown again: its start and its last four characters,
// which belong to the checksum.
func SecretPrefix(secret string) string {
	return secret[:secretPrefixChars+3] + "…" + secret[len(secret)-4:]
}

func appendBase62(b []byte, v uint64, width int) []byte {
	start := len(b)
	for range width {
		b = append(b, '0')
	}
	for i := start + width - 1; i >= start; i-- {
		b[i] = base62[v%62]
		v /= 62
	}
	return b
}

func parseBase62(s string) (uint64, bool) {
	var v uint64
	for i := 0; i < len(s); i++ {
		c := s[i]
		var d byte
		switch {
		case '0' <= c && c <= '9':
			d = c - '0'
		case 'A' <= c && c <= 'Z':
			d = c - 'A' + 10
		case 'a' <= c && c <= 'z':
			d = c - 'a' + 36
		default:
			return 0, false
		}
		v = v*62 + uint64(d)
	}
	return v, true
}
