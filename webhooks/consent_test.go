package webhooks

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyledger/keyledger/webhooks/verify"
)

func ask(t *testing.T, c *Client, url string, headers map[string]string, rate int64) Consent {
	t.Helper()
	consent, err := c.AskConsent(t.Context(), url, headers, rate)
	if err != nil {
		t.Fatal(err)
	}
	return consent
}

func TestConsentAsTheReceiverSeesIt(t *testing.T) {
	var got *http.Request
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("WebHook-Allowed-Origin", "Hooks.Example.com")
		w.Header().Set("WebHook-Allowed-Rate", "120")
	})
	client := newClient(t, func(c *ClientConfig) { c.Origin = "hooks.example.com" })
	if got := ask(t, client, server.URL+"/in?a=b", map[string]string{"Authorization": "Bearer x"}, 600); got != (Consent{Confirmed: true, Rate: 120}) {
		t.Errorf("%+v", got)
	}
	want := http.Header{
		"Webhook-Request-Origin": {"hooks.example.com"}, "Webhook-Request-Rate": {"600"},
		"Authorization": {"Bearer x"}, "User-Agent": {"keyledger/1.2.3"},
	}
	if diff := cmp.Diff(want, got.Header); diff != "" || got.Method != http.MethodOptions || got.RequestURI != "/in?a=b" || got.ContentLength > 0 {
		t.Errorf("%s %s, %d bytes: %s", got.Method, got.RequestURI, got.ContentLength, diff)
	}
	ask(t, newClient(t, nil), server.URL, nil, 0)
	if got.Header.Get("WebHook-Request-Origin") != DefaultOrigin || got.Header.Values("WebHook-Request-Rate") != nil {
		t.Errorf("by default: %v", got.Header)
	}
}

func TestConsentOfAnswers(t *testing.T) {
	type h = http.Header
	no := func(text string) Consent { return Consent{Phase: PhaseConsent, Error: text} }
	for _, tt := range []struct {
		status int
		header h
		want   Consent
	}{
		{200, h{"Webhook-Allowed-Origin": {"keyledger"}}, Consent{Confirmed: true}},
		{204, h{"Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {"*"}}, Consent{Confirmed: true}},
		{299, h{"Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {"1"}}, Consent{Confirmed: true, Rate: 1}},
		{200, h{"Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {strings.Repeat("9", 30)}}, Consent{Confirmed: true}},
		{200, h{"Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {"9223372036854775807"}}, Consent{Confirmed: true}},
		{200, h{"Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {"60001"}}, Consent{Confirmed: true}},
		{200, h{"Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {"60000"}}, Consent{Confirmed: true, Rate: 60_000}},
		{200, h{}, no("no WebHook-Allowed-Origin")},
		{200, h{"Webhook-Allowed-Rate": {"*"}}, no("no WebHook-Allowed-Origin")},
		{200, h{"Webhook-Allowed-Origin": {""}}, no("WebHook-Allowed-Origin is for another origin")},
		{200, h{"Webhook-Allowed-Origin": {"other.example"}}, no("WebHook-Allowed-Origin is for another origin")},
		{200, h{"Webhook-Allowed-Origin": {"keyledger.example"}}, no("WebHook-Allowed-Origin is for another origin")},
		{200, h{"Webhook-Allowed-Origin": {"other, *"}}, no("WebHook-Allowed-Origin is for another origin")},
		{200, h{"Webhook-Allowed-Origin": {"other", "*"}}, no("WebHook-Allowed-Origin stands there twice")},
		{200, h{"Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {"1", "2"}}, no("WebHook-Allowed-Rate stands there twice")},
		{200, h{"Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {"0"}}, no("WebHook-Allowed-Rate is neither a number from 1 nor *")},
		{200, h{"Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {"-1"}}, no("WebHook-Allowed-Rate is neither a number from 1 nor *")},
		{200, h{"Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {"1.5"}}, no("WebHook-Allowed-Rate is neither a number from 1 nor *")},
		{200, h{"Webhook-Allowed-Origin": {"*"}, "Webhook-Allowed-Rate": {""}}, no("WebHook-Allowed-Rate is neither a number from 1 nor *")},
		{300, h{"Webhook-Allowed-Origin": {"*"}}, no("answered 300")},
		{405, h{"Webhook-Allowed-Origin": {"*"}}, no("answered 405")},
		{500, h{}, no("answered 500")},
	} {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			for name, values := range tt.header {
				w.Header()[name] = values
			}
			w.WriteHeader(tt.status)
		})
		if got := ask(t, newClient(t, nil), server.URL, nil, 0); got != tt.want {
			t.Errorf("%d %v: %+v, want %+v", tt.status, tt.header, got, tt.want)
		}
	}
}

// A redirect is an answer that does not allow anything, and nobody goes where it leads.
func TestConsentIsNotRedirected(t *testing.T) {
	other := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		t.Error("the redirect was followed")
		w.Header().Set("WebHook-Allowed-Origin", "*")
	})
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WebHook-Allowed-Origin", "*")
			http.Redirect(w, r, other.URL, status)
		})
		if got := ask(t, newClient(t, nil), server.URL, nil, 0); got.Confirmed {
			t.Errorf("%d: %+v", status, got)
		}
	}
}

// The question goes where a delivery may go, and says of what was refused its class alone.
func TestConsentPassesTheGuard(t *testing.T) {
	server := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a refused address was asked") })
	strict, err := NewGuard(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(t, func(c *ClientConfig) { c.Guard = strict })
	for _, url := range []string{server.URL, "http://169.254.169.254/", "http://user@example.com/", "http://example.com:22/"} {
		if got := ask(t, client, url, nil, 0); got.Confirmed || got.Phase != PhaseGuard || !strings.HasPrefix(got.Error, "address refused: ") {
			t.Errorf("%s: %+v", url, got)
		}
	}
	strict.Lookup = answers("127.0.0.1") // by name: at the dial
	if got := ask(t, client, strings.Replace(server.URL, "127.0.0.1", "receiver.example", 1), nil, 0); got != (Consent{Phase: PhaseGuard, Error: "address refused: loopback"}) {
		t.Errorf("by name: %+v", got)
	}
	if got := ask(t, client, server.URL, map[string]string{"Host": "x"}, 0); got.Phase != PhaseGuard {
		t.Errorf("with a header that is refused: %+v", got)
	}
}

// Whatever a receiver does, the question ends in time, takes no memory, and is not taken as
// answered.
func TestConsentOfHostileReceivers(t *testing.T) {
	for _, a := range slices.Concat(hangs, floods, breaks) {
		if a.body > 0 {
			continue // of the request, which has none
		}
		t.Run(a.what, func(t *testing.T) {
			h := startHostile(t, a.does, nil)
			url := h.URL
			if a.tls {
				url = "https://" + h.Address
			}
			got := ask(t, newClient(t, within(shortTimeout)), url, nil, 0)
			if got.Confirmed || got.Error == "" || got.Phase == "" {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestConsentCutOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if got, err := newClient(t, nil).AskConsent(ctx, server.URL, nil, 0); !errors.Is(err, context.Canceled) || got != (Consent{}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOrigins(t *testing.T) {
	for origin, want := range map[string]bool{
		"keyledger": true, "hooks.example.com": true, "": false, "*": false, "a b": false, "a\r\nX: y": false, "example.com.": false, "1.2.3.4": false,
	} {
		if err := CheckOrigin(origin); want != (err == nil) {
			t.Errorf("%q: %v", origin, err)
		}
	}
	if _, err := NewClient(ClientConfig{Guard: newGuard(t), Version: "1", Origin: "*"}); err == nil {
		t.Error("a client with any origin")
	}
}

// What webhooks/verify answers is what is asked for here.
func TestConsentOfTheVerifyHandler(t *testing.T) {
	for _, tt := range []struct {
		origins []string
		rate    int64
		want    Consent
	}{
		{nil, 0, Consent{Confirmed: true}},
		{nil, 30, Consent{Confirmed: true, Rate: 30}},
		{[]string{"other", "KeyLedger"}, 30, Consent{Confirmed: true, Rate: 30}},
		{[]string{"other"}, 30, Consent{Phase: PhaseConsent, Error: "answered 403"}},
	} {
		v, err := verify.New(verify.Config{Keys: []string{vectorSecret}, Origins: tt.origins, RatePerMinute: tt.rate})
		if err != nil {
			t.Fatal(err)
		}
		guard, err := verify.NewGuard(0)
		if err != nil {
			t.Fatal(err)
		}
		server := serve(t, verify.Handler(v, guard, func(context.Context, *verify.Event) error { return nil }).ServeHTTP)
		if got := ask(t, newClient(t, nil), server.URL, nil, 0); got != tt.want {
			t.Errorf("%v, %d: %+v", tt.origins, tt.rate, got)
		}
	}
}
