package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/keyledger/keyledger/testing/receiver"
)

// hookSecret signs the webhooks of these tests.
var hookSecret = "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))

// rehearsal is a demo that went well: one account with 22 requests, one with 2.
func rehearsal(t *testing.T) *demo {
	t.Helper()
	var visits []visit
	for range 22 {
		visits = append(visits, visit{addr: netip.MustParseAddr("203.0.113.7")})
	}
	for range 2 {
		visits = append(visits, visit{addr: netip.MustParseAddr("2001:db8::5")})
	}
	d := newDemo(visits, &progress{w: &bytes.Buffer{}}, time.Minute)
	d.hooks = &receiver.Server{Receiver: receiver.New()}
	d.refused["insufficient_credits"] = 2
	d.events = setUpEvents * 2
	for i, x := range d.accounts {
		if err := d.hooks.Register(x.path(), hookSecret); err != nil {
			t.Fatal(err)
		}
		x.allowed = min(x.visits, affordable)
		x.taken = int64(x.allowed) * demoCost
		x.balance = demoGrant - x.taken
		d.events += x.allowed
		deliver(t, d, x, fmt.Sprintf("K%d", i), 1, "dev.keyledger.key.created.v1", "key_1")
		for n := range x.allowed {
			id := fmt.Sprintf("debit_%d_%d", i, n)
			x.debits[id] = struct{}{}
			deliver(t, d, x, fmt.Sprintf("D%d-%d", i, n), n+2, "dev.keyledger.credit.debited.v1", id)
		}
		if exhausted(x.allowed) > 0 {
			d.events++
			deliver(t, d, x, fmt.Sprintf("B%d", i), x.allowed+2, "dev.keyledger.balance.exhausted.v1", "")
		}
	}
	return d
}

// deliver posts a signed event to the demo's receiver.
func deliver(t *testing.T, d *demo, x *demoAccount, id string, sequence int, kind, object string) {
	t.Helper()
	number := ""
	if sequence > 0 {
		number = fmt.Sprintf(`"sequence":"%020d",`, sequence)
	}
	body := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/keyledger/%s","type":%q,%s"datacontenttype":"application/json","data":{"id":%q}}`,
		id, x.id, kind, number, object)
	hook, err := standardwebhooks.NewWebhook(hookSecret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signature, err := hook.Sign(id, now, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodPost, x.path(), strings.NewReader(body))
	req.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	w := httptest.NewRecorder()
	d.hooks.ServeHTTP(w, req)
	if w.Code != http.StatusOK {
		t.Fatalf("deliver %s: status %d", id, w.Code)
	}
}

func TestReconcileAgrees(t *testing.T) {
	d := rehearsal(t)
	// What comes again is no difference: deliveries are at least once.
	deliver(t, d, d.accounts[0], "K0", 1, "dev.keyledger.key.created.v1", "key_1")
	d.reconcile()
	if len(d.differences) > 0 {
		t.Errorf("differences: %q", d.differences)
	}
	totals := d.totals(nil, time.Second)
	if totals.Allowed != 22 || totals.CreditsTaken != 2200 || totals.Deliveries.Verified != 25 || totals.Deliveries.Duplicates != 1 {
		t.Errorf("totals: %+v", totals)
	}
}

// TestReconcileFinds breaks one thing at a time.
func TestReconcileFinds(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, d *demo, x *demoAccount)
		want  string
	}{
		"one allowed too many": {func(_ *testing.T, _ *demo, x *demoAccount) { x.allowed++ }, "21 requests were allowed, not 20"},
		"one charged twice":    {func(_ *testing.T, _ *demo, x *demoAccount) { x.taken += demoCost }, "took 2100 credits, not 2000"},
		"balance":              {func(_ *testing.T, _ *demo, x *demoAccount) { x.balance = -100 }, "its balance is -100, not 0"},
		"other refusals": {func(_ *testing.T, d *demo, _ *demoAccount) {
			d.refused["insufficient_credits"], d.refused["ip_not_allowed"] = 1, 1
		}, "1 requests were refused with ip_not_allowed"},
		"a request without an answer": {func(_ *testing.T, d *demo, _ *demoAccount) { d.refused["insufficient_credits"]-- }, "1 requests were refused, not 2"},
		"an event in the log":         {func(_ *testing.T, d *demo, _ *demoAccount) { d.events++ }, "the log holds 32 events, not 31"},
		"a webhook missing": {func(_ *testing.T, _ *demo, x *demoAccount) { x.debits["debit_x"] = struct{}{} },
			"1 debits were not delivered"},
		"a webhook too many": {func(t *testing.T, d *demo, x *demoAccount) {
			deliver(t, d, x, "D9", 23, "dev.keyledger.credit.debited.v1", "debit_9")
		}, `a debit "debit_9" was delivered that no answer named`},
		"a debit in two events": {func(t *testing.T, d *demo, x *demoAccount) {
			deliver(t, d, x, "D9", 23, "dev.keyledger.credit.debited.v1", "debit_0_0")
		}, `a debit "debit_0_0" was delivered that no answer named, or twice`},
		"another event": {func(t *testing.T, d *demo, x *demoAccount) {
			deliver(t, d, x, "E9", 23, "dev.keyledger.endpoint.registered.v1", "endpoint_1")
		}, "an event dev.keyledger.endpoint.registered.v1 was delivered"},
		"two key events": {func(t *testing.T, d *demo, x *demoAccount) {
			deliver(t, d, x, "K9", 23, "dev.keyledger.key.created.v1", "key_2")
		}, "2 key events were delivered, not 1"},
		"a gap": {func(t *testing.T, d *demo, x *demoAccount) {
			deliver(t, d, x, "E9", 24, "dev.keyledger.credit.debited.v1", "debit_9")
		}, "not numbered from 1 without a gap (24 stands at place 23)"},
		"twice that nothing is left": {func(t *testing.T, d *demo, x *demoAccount) {
			deliver(t, d, x, "B9", 23, "dev.keyledger.balance.exhausted.v1", "")
		}, "2 events said that nothing is left, not 1"},
		"no number": {func(t *testing.T, d *demo, x *demoAccount) {
			deliver(t, d, x, "E9", 0, "dev.keyledger.credit.debited.v1", "debit_9")
		}, "1 deliveries bear no number"},
		"a changed event": {func(t *testing.T, d *demo, x *demoAccount) {
			deliver(t, d, x, "K0", 1, "dev.keyledger.key.created.v1", "key_2")
		}, "1 events that changed between attempts"},
	} {
		t.Run(name, func(t *testing.T) {
			d := rehearsal(t)
			c.spoil(t, d, d.accounts[0])
			d.reconcile()
			if all := strings.Join(d.differences, "\n"); !strings.Contains(all, c.want) {
				t.Errorf("differences:\n%s\nwant one with %s", all, c.want)
			}
		})
	}
}
