package service

import (
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// BenchmarkEdge is what the edge does with one request before it goes to the writer:
// decode, check, hash.
func BenchmarkEdge(b *testing.B) {
	id := ulid.Make().String()
	for name, secret := range map[string]string{
		"ours":    ledger.NewSecret(events.Test, "acme", ulid.ULID{1: 1}, [32]byte{}),
		"foreign": "sk_live_" + strings.Repeat("4eC39HqLyj", 4),
	} {
		b.Run(name, func(b *testing.B) {
			s := &Service{}
			r := &request{s: s, subject: store.SubjectAuthorize}
			body := []byte(`{"secret":"` + secret + `","id":"` + id + `","product":"payments","access":"read","ip":"192.0.2.1"}`)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.decodeAuthorize(r, body, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
