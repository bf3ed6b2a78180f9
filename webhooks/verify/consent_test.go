package verify_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyledger/keyledger/webhooks/verify"
)

func TestConsent(t *testing.T) {
	type h = http.Header
	allow := []string{"POST, OPTIONS"}
	for _, tt := range []struct {
		origins []string
		rate    int64
		asked   []string
		status  int
		want    h
	}{
		{nil, 0, []string{"keyledger"}, 200, h{"Allow": allow, "Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {"*"}}},
		{nil, 1, []string{"keyledger"}, 200, h{"Allow": allow, "Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {"1"}}},
		{[]string{"a.example", "KeyLedger"}, 600, []string{"keyledger"}, 200, h{"Allow": allow, "Webhook-Allowed-Origin": {"KeyLedger"}, "Webhook-Allowed-Rate": {"600"}}},
		{[]string{"a.example"}, 600, []string{"keyledger"}, 403, h{"Allow": allow}},
		{[]string{"a.example"}, 0, []string{"x.a.example"}, 403, h{"Allow": allow}},
		{[]string{"a.example"}, 0, []string{"a.example", "b.example"}, 403, h{"Allow": allow}},
		{[]string{"a.example"}, 0, []string{"*"}, 403, h{"Allow": allow}},
		{[]string{"a.example"}, 0, nil, 204, h{"Allow": allow}}, // not our question
		{nil, 0, nil, 204, h{"Allow": allow}},
	} {
		v, err := verify.New(verify.Config{Keys: []string{vectorSecret}, Origins: tt.origins, RatePerMinute: tt.rate})
		if err != nil {
			t.Fatal(err)
		}
		guard, err := verify.NewGuard(0)
		if err != nil {
			t.Fatal(err)
		}
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodOptions, "/", nil)
		r.Header["Webhook-Request-Origin"] = tt.asked
		verify.Handler(v, guard, func(context.Context, *verify.Event) error {
			t.Error("handled as an event")
			return nil
		}).ServeHTTP(w, r)
		if diff := cmp.Diff(tt.want, w.Header()); diff != "" || w.Code != tt.status {
			t.Errorf("%v, %d asked by %v: %d %s", tt.origins, tt.rate, tt.asked, w.Code, diff)
		}
		if v.AnswerConsent(w, httptest.NewRequest(http.MethodPost, "/", nil)) {
			t.Error("a POST asks for consent")
		}
	}
}

func TestConsentLimits(t *testing.T) {
	longest := strings.Repeat("a", verify.MaxOriginBytes)
	for what, tt := range map[string]struct {
		origins []string
		rate    int64
		good    bool
	}{
		"the most":         {strings.Fields(strings.Repeat(longest+" ", verify.MaxOrigins)), 1 << 60, true},
		"one too many":     {strings.Fields(strings.Repeat("a ", verify.MaxOrigins+1)), 0, false},
		"too long":         {[]string{longest + "a"}, 0, false},
		"empty":            {[]string{""}, 0, false},
		"everybody":        {[]string{"*"}, 0, false},
		"a line break":     {[]string{"a\r\nb"}, 0, false},
		"a URL":            {[]string{"https://a.example"}, 0, false},
		"a negative rate":  {nil, -1, false},
		"no rate, no name": {nil, 0, true},
	} {
		_, err := verify.New(verify.Config{Keys: []string{vectorSecret}, Origins: tt.origins, RatePerMinute: tt.rate})
		if tt.good != (err == nil) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
