package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	hostile "github.com/keyledger/keyledger/testing/receiver"
	"github.com/keyledger/keyledger/webhooks/verify"
)

// examine asks endpoint.doctor about an endpoint of acme, and reads what the answer is as JSON.
func (u *run) examine(ctx context.Context, id string) (c Checkup, text string) {
	u.t.Helper()
	result, at, refused := u.Queries()["endpoint.doctor"](ctx, "acme", fmt.Appendf(nil, `{"endpoint":%q}`, id))
	if refused != nil {
		u.t.Fatal(refused)
	}
	if at.Sequence != u.log.chain.Sequence {
		u.t.Errorf("true at %s", at)
	}
	body, err := events.Encode(result)
	if err != nil {
		u.t.Fatal(err)
	}
	var out struct{ Doctor Checkup }
	if err := json.Unmarshal(body, &out); err != nil {
		u.t.Fatal(err)
	}
	return out.Doctor, string(body)
}

// results writes the steps of a checkup in one line.
func (c *Checkup) results() string {
	var list []string
	for _, s := range c.Steps {
		list = append(list, s.Name+":"+s.Result)
	}
	return strings.Join(list, " ")
}

func (c *Checkup) step(name string) CheckupStep {
	for _, s := range c.Steps {
		if s.Name == name {
			return s
		}
	}
	return CheckupStep{}
}

// fromVerify is a receiver made of webhooks/verify, which notes the events that it takes.
func fromVerify(t *testing.T, key string, took *[]*verify.Event) http.Handler {
	t.Helper()
	v, err := verify.New(verify.Config{Keys: []string{key}, RatePerMinute: 90})
	if err != nil {
		t.Fatal(err)
	}
	guard, err := verify.NewGuard(0)
	if err != nil {
		t.Fatal(err)
	}
	return verify.Handler(v, guard, func(_ context.Context, e *verify.Event) error {
		*took = append(*took, e)
		return nil
	})
}

func TestDoctorOfAWellReceiver(t *testing.T) {
	authority, err := hostile.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	seed := [32]byte{5}
	for _, tt := range []struct {
		left time.Duration
		tls  string
		text string
	}{
		{30*24*time.Hour + time.Hour, StepOK, "TLS 1.3, the certificate ends in 30 days"},
		{24*time.Hour + time.Hour, StepWarning, "TLS 1.3, the certificate ends in 1 day"},
	} {
		var took []*verify.Event
		server := httptest.NewUnstartedServer(fromVerify(t, NewKeyPair(seed), &took))
		if server.TLS, err = authority.Issue("receiver.test", time.Now().Add(-time.Hour), tt.left+time.Hour); err != nil {
			t.Fatal(err)
		}
		server.StartTLS()
		t.Cleanup(server.Close)
		var names hostile.Names
		names.Answer("receiver.test", "127.0.0.1")
		r := newRig(t)
		e := r.endpoint("endpoint_1", plainName(server.URL), seed[:])
		e.Signing, e.PublicKey = events.SigningV1a, NewKeyPair(seed)
		r.commit(about(e, ""))
		u := r.start(func(c *Config) { c.Client = newClient(t, trusting(authority.Pool, &names)) })
		got, _ := u.examine(t.Context(), "endpoint_1")
		if want := "resolve:ok guard:ok connect:ok tls:" + tt.tls + " consent:ok sign:ok ping:ok"; got.results() != want || !got.Healthy {
			t.Errorf("healthy %t: %s", got.Healthy, got.results())
		}
		for name, want := range map[string]string{"resolve": "1 address", "tls": tt.text, "consent": "90 requests a minute", "sign": "v1a", "ping": "answered 204"} {
			if s := got.step(name); s.Detail != want || s.Error != "" {
				t.Errorf("%s: %+v, want %s", name, s, want)
			}
		}
		if len(took) != 1 {
			t.Fatalf("the receiver took %d events", len(took))
		}
		ping := took[0]
		if ping.Type != "dev.keyledger.endpoint.tested.v1" || ping.Subject != "endpoint_1" || ping.Sequence != 0 ||
			ping.Extensions["replay"] != "doctor" || ping.Position != u.log.chain.Position().String() {
			t.Errorf("%+v", ping)
		}
	}
}

func TestDoctorOfIllReceivers(t *testing.T) {
	const consented = "resolve:ok guard:ok connect:ok tls:skipped consent:ok sign:ok ping:failed"
	status := func(status int) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			if w.Header().Set("WebHook-Allowed-Origin", "*"); r.Method == http.MethodPost {
				w.Header().Set("Location", "http://127.0.0.1/")
				w.WriteHeader(status)
			}
		}).URL
	}
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	for _, tt := range []struct {
		what, url string
		lookup    LookupFunc
		results   string
		at, error string
	}{
		{"no name", "https://receiver.test/", answers(), "resolve:failed guard:skipped connect:skipped tls:skipped consent:skipped sign:ok ping:skipped", "resolve", "no such host"},
		{"a private name", "https://receiver.test/", answers("10.9.9.9", "10.9.9.8"), "resolve:ok guard:failed connect:skipped tls:skipped consent:skipped sign:ok ping:skipped", "guard", "address refused: private"},
		{"one private address", "https://receiver.test/", answers("127.0.0.1", "10.9.9.8"), "resolve:ok guard:failed connect:skipped tls:skipped consent:skipped sign:ok ping:skipped", "guard", "address refused: private"},
		{"a URL that is not allowed any more", "https://10.9.9.9/", nil, "resolve:skipped guard:failed connect:skipped tls:skipped consent:skipped sign:ok ping:skipped", "guard", "address refused: private"},
		{"nobody listens", closedURL(t), nil, "resolve:ok guard:ok connect:failed tls:skipped consent:skipped sign:ok ping:skipped", "connect", "connection refused"},
		{"no TLS", "https" + strings.TrimPrefix(plain.URL, "http"), nil, "resolve:ok guard:ok connect:ok tls:failed consent:skipped sign:ok ping:skipped", "tls", "no TLS on this port"},
		{"no consent", plain.URL, nil, "resolve:ok guard:ok connect:ok tls:skipped consent:warning sign:ok ping:ok", "consent", "no WebHook-Allowed-Origin"},
		{"a wrong secret", status(401), nil, consented, "ping", "answered 401"},
		{"gone", status(410), nil, consented, "ping", "answered 410"},
		{"a redirect", status(307), nil, consented, "ping", "answered 307"},
		{"too much", status(429), nil, consented, "ping", "answered 429"},
		{"an error", status(500), nil, consented, "ping", "answered 500"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			r := newRig(t)
			r.commit(about(r.endpoint("endpoint_1", tt.url, make([]byte, 32), "key.*"), ""))
			u := r.start(func(c *Config) {
				c.Client = newClient(t, func(c *ClientConfig) { c.Guard.Lookup = tt.lookup })
			})
			got, text := u.examine(t.Context(), "endpoint_1")
			if got.results() != tt.results || got.Healthy == strings.Contains(tt.results, "failed") {
				t.Errorf("healthy %t: %s", got.Healthy, got.results())
			}
			if s := got.step(tt.at); s.Error != tt.error || s.Hint == "" || s.Detail != "" {
				t.Errorf("%+v", s)
			}
			if strings.Contains(tt.error, "refused: ") && (strings.Contains(strings.ReplaceAll(text, tt.url, ""), "10.9") || got.step("resolve").Detail != "") {
				t.Errorf("tells of what was refused: %s", text)
			}
			// Nothing of it counts: the lane is as it was, even of a receiver that answered 410 or 429.
			u.see("untouched", func() bool {
				l := u.lanes["endpoint_1"]
				return l.pending() == 0 && !l.gone && l.held.IsZero() && u.delivered+u.failed+u.dead == 0
			})
		})
	}
}

func TestDoctorByThePolicy(t *testing.T) {
	server := serve(t, func(http.ResponseWriter, *http.Request) {})
	for policy, want := range map[ConsentPolicy]string{"": StepWarning, ConsentPolicyPrefer: StepWarning, ConsentPolicyRequire: StepFailed, ConsentPolicyOff: StepSkipped} {
		r := newRig(t)
		r.commit(about(r.endpoint("endpoint_1", server.URL, make([]byte, 32)), ""))
		u := r.start(func(c *Config) { c.Consent = policy })
		if got, _ := u.examine(t.Context(), "endpoint_1"); got.step("consent").Result != want || got.Healthy == (want == StepFailed) {
			t.Errorf("%q: %s, healthy %t", policy, got.results(), got.Healthy)
		}
	}
}

// A seal key that is another one is seen, and nothing is sent unsigned.
func TestDoctorWithoutTheSealKey(t *testing.T) {
	server := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("something was sent") })
	r := newRig(t)
	r.commit(about(r.endpoint("endpoint_1", server.URL, make([]byte, 32)), ""))
	u := r.start(func(c *Config) { c.Sealer = newSealer(t, 2) })
	got, _ := u.examine(t.Context(), "endpoint_1")
	if want := "resolve:ok guard:ok connect:ok tls:skipped consent:skipped sign:failed ping:skipped"; got.results() != want || got.Healthy {
		t.Errorf("healthy %t: %s", got.Healthy, got.results())
	}
}

// The answer is there before the caller's time is over, whatever hangs.
func TestDoctorEndsInTime(t *testing.T) {
	r := newRig(t)
	r.commit(about(r.endpoint("endpoint_1", hanging(t), make([]byte, 32)), ""))
	u := r.start()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	got, _ := u.examine(ctx, "endpoint_1")
	if ctx.Err() != nil || got.Healthy || got.step("ping").Error != "timed out" && got.step("consent").Error != "timed out" {
		t.Errorf("%v: %+v", ctx.Err(), got)
	}
}

func TestDoctorTellsWhatHoldsBack(t *testing.T) {
	server := serve(t, func(http.ResponseWriter, *http.Request) {})
	r := newRig(t)
	for id, status := range map[string]string{"endpoint_paused": events.Paused, "endpoint_disabled": events.Disabled, "endpoint_held": events.Active} {
		e := r.endpoint(id, server.URL, make([]byte, 32))
		r.commit(about(e, ""))
		r.commit(about(e, status))
	}
	u := r.start(r.onClock())
	u.mu.Lock()
	held := u.lanes["endpoint_held"]
	held.held, held.parked, held.failing = r.clock.now().Add(time.Hour), true, &failing{since: 1}
	u.mu.Unlock()
	for id, want := range map[string][]string{
		"endpoint_paused": {"is paused"}, "endpoint_disabled": {"is disabled"},
		"endpoint_held": {"nothing is sent before", "only the oldest is tried", "since 1970-01-01T00:00:00.001Z"},
	} {
		got, _ := u.examine(t.Context(), id)
		fits := slices.EqualFunc(got.Notes, want, strings.Contains)
		if !fits || !got.Healthy {
			t.Errorf("%s: healthy %t, %q", id, got.Healthy, got.Notes)
		}
	}
}

func TestDoctorRefuses(t *testing.T) {
	r := newRig(t)
	e := r.endpoint("endpoint_1", "https://example.com/", make([]byte, 32))
	e.Account = "other"
	r.commit(opened("acme"), about(e, ""))
	u := r.start()
	for body, want := range map[string]events.Code{
		`{}`: events.InvalidArgument, `{"endpoint":1}`: events.InvalidArgument, `{"endpoint":"endpoint_1","more":1}`: events.InvalidArgument,
		`{"endpoint":"endpoint_2"}`: events.NotFound,
		`{"endpoint":"endpoint_1"}`: events.NotFound, // another account's
	} {
		if _, _, refused := u.doctor(t.Context(), "acme", []byte(body)); refused == nil || refused.Code != want {
			t.Errorf("%s: %v, want %s", body, refused, want)
		}
	}
	if _, _, refused := u.doctor(t.Context(), "nobody", []byte(`{"endpoint":"endpoint_1"}`)); refused == nil || refused.Code != events.NotFound {
		t.Errorf("of no account: %v", refused)
	}
}

func TestDoctorsAtOnce(t *testing.T) {
	var pool doctors
	for i := range doctorsAtOnce {
		if err := pool.enter(fmt.Sprint(i / doctorsEach)); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if err := pool.enter("more"); err == nil || err.Code != events.Unavailable {
		t.Errorf("one too many: %v", err)
	}
	pool.leave("1")
	if err := pool.enter("0"); err == nil || err.Code != events.Unavailable {
		t.Errorf("one too many of an account: %v", err)
	}
	if err := pool.enter("1"); err != nil {
		t.Error(err)
	}
	for i := range doctorsAtOnce {
		pool.leave(fmt.Sprint(i / doctorsEach))
	}
	if pool.all != 0 || len(pool.each) != 0 {
		t.Errorf("left over: %d, %v", pool.all, pool.each)
	}
}

func TestEveryFailureHasAHint(t *testing.T) {
	for _, phase := range []Phase{PhaseGuard, PhaseDNS, PhaseConnect, PhaseTLS, PhaseWrite, PhaseHeaders, PhaseBody, PhaseSeal, PhaseConsent, phasePing} {
		if hint(phase, "unheard-of") == "" {
			t.Errorf("no hint for %s", phase)
		}
	}
	if a, b := hint(PhaseConnect, "connection refused"), hint(PhaseConnect, "timed out"); a == b {
		t.Error("one hint for all")
	}
}

func TestParseConsentPolicy(t *testing.T) {
	for name, want := range map[string]ConsentPolicy{"": ConsentPolicyPrefer, "require": ConsentPolicyRequire, "prefer": ConsentPolicyPrefer, "off": ConsentPolicyOff} {
		if got, err := ParseConsentPolicy(name); got != want || err != nil {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	if _, err := ParseConsentPolicy("maybe"); err == nil {
		t.Error("no error")
	}
}
