package events_test

import (
	"regexp"
	"testing"

	"github.com/keyledger/keyledger/events"
)

func TestCatalog(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+\.[a-z]+(_[a-z]+)*$`)
	seen := map[string]bool{}
	for i := range events.Catalog {
		kind := &events.Catalog[i]
		if !form.MatchString(kind.Name) || seen[kind.Name] {
			t.Errorf("%q is not a new <noun>.<verb>", kind.Name)
		}
		seen[kind.Name] = true
		if kind.Version < 1 || kind.New == nil || kind.Meaning == "" {
			t.Errorf("%s lacks its version, payload or meaning", kind.Name)
		}
		if events.Lookup(kind.Name) != kind {
			t.Errorf("%s is not found by its name", kind.Name)
		}
	}
	if events.Lookup("credit.invented") != nil {
		t.Error("a type that is not in the catalog was found")
	}
	if got, want := events.Lookup("credit.debited").CloudEventType(), "dev.keyledger.credit.debited.v1"; got != want {
		t.Errorf("public type %s, want %s", got, want)
	}
}

func TestFilters(t *testing.T) {
	tests := []struct {
		filter, eventType string
		matches, valid    bool
	}{
		{"*", "credit.debited", true, true},
		{"credit.*", "credit.debited", true, true},
		{"credit.debited", "credit.debited", true, true},
		{"credit.granted", "credit.debited", false, true},
		{"key.*", "credit.debited", false, true},
		{"credit.", "credit.debited", false, false},
		{"credit", "credit.debited", false, false},
		{"credit*", "credit.debited", false, false},
		{"cred.*", "credit.debited", false, false},
		{"*.debited", "credit.debited", false, false},
		{"*.*", "credit.debited", false, false},
		{".*", "credit.debited", false, false},
		{"credit.deb*", "credit.debited", false, false},
		{"credit.debited.*", "credit.debited", false, false},
		{"credit.debited ", "credit.debited", false, false},
		{"Credit.*", "credit.debited", false, false},
		{"credit.>", "credit.debited", false, false},
		{"", "credit.debited", false, false},
	}
	for _, test := range tests {
		if got := events.Matches(test.filter, test.eventType); got != test.matches {
			t.Errorf("Matches(%q, %q) = %t", test.filter, test.eventType, got)
		}
		if got := events.ValidFilter(test.filter); got != test.valid {
			t.Errorf("ValidFilter(%q) = %t", test.filter, got)
		}
	}
}

func TestCodes(t *testing.T) {
	for code, status := range map[events.Code]int{
		events.OK: 200, events.InvalidArgument: 400, events.KeyNotFound: 401, events.InsufficientCredits: 402,
		events.AccountSuspended: 403, events.NotFound: 404, events.FailedPrecondition: 409, events.IDReused: 422,
		events.RateLimited: 429, events.Unavailable: 503, events.StorageFull: 507, "invented": 500,
	} {
		if got := code.Status(); got != status {
			t.Errorf("%s has status %d, want %d", code, got, status)
		}
	}
	err := events.Errorf(events.NotFound, "there is no key %s", "k").With("key", "k")
	text, encodeErr := events.Encode(err)
	if want := `{"code":"not_found","message":"there is no key k","details":{"key":"k"}}`; encodeErr != nil || string(text) != want {
		t.Errorf("written %s (%v), want %s", text, encodeErr, want)
	}
	if got, want := err.Error(), "not_found: there is no key k"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}
