package projections

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyledger/keyledger/events"
)

// refused asks a query that must be refused with a code.
func refused(t *testing.T, v *Views, code events.Code, verb, account, body string) {
	t.Helper()
	answer, err := ask(t, v, verb, account, body)
	if err == nil || err.Code != code {
		t.Errorf("%s %s %s: answer %.200s, error %v, want %s", verb, account, body, answer, err, code)
	}
}

// same compares JSON by value.
func same(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%v in %s", err, want)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestAccountQueries(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	empty, err := ask(t, v, "account.list", "_", "")
	if err != nil {
		t.Fatal(err)
	}
	same(t, empty, `{"accounts":[],"next_cursor":null}`)

	opened := h.account("acme")
	gone := h.account("gone")
	h.commit(opened, h.account("beta"), gone)
	h.commit(changed(gone, "account.closed", func(a *events.Account) {
		a.Status, a.Thresholds = events.Closed, []events.Threshold{{Asset: "credits", Percent: 20}}
	}))
	h.commit(changed(opened, "account.suspended", func(a *events.Account) { a.Status, a.Reason = events.Suspended, "unpaid" }))
	wait(t, v, h.chain.Sequence)

	type result struct{ Account events.Account }
	if got := into[result](t, v, "account.get", "acme", "{}").Account; got.Status != events.Suspended || got.Name != "the acme" {
		t.Errorf("account.get: %+v", got)
	}
	refused(t, v, events.NotFound, "account.get", "nobody", "{}")
	refused(t, v, events.NotFound, "account.get", "_", "{}")
	refused(t, v, events.InvalidArgument, "account.get", "acme", `{"id":"acme"}`)
	refused(t, v, events.InvalidArgument, "account.list", "acme", "{}")
	refused(t, v, events.InvalidArgument, "account.list", "_", `{"status":"asleep"}`)
	type list struct {
		Accounts []events.Account
	}
	if got, _ := ask(t, v, "account.get", "gone", ""); !strings.Contains(got, `"thresholds":[{"asset":"credits","percent":20}]`) {
		t.Errorf("account.get: %s", got)
	}
	for status, want := range map[string]string{"": "acme beta gone", "active": "beta", "suspended": "acme", "closed": "gone"} {
		var ids []string
		for _, a := range into[list](t, v, "account.list", "_", fmt.Sprintf(`{"status":%q}`, status)).Accounts {
			ids = append(ids, a.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("accounts with status %q: %s, want %s", status, got, want)
		}
	}
}

func TestKeyQueries(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	h.commit(h.account("acme"), h.account("beta"), h.granted("acme", "grant_1", 100, 0, 100))
	wait(t, v, h.chain.Sequence)
	none, err := ask(t, v, "key.list", "acme", "")
	if err != nil {
		t.Fatal(err)
	}
	same(t, none, `{"keys":[],"next_cursor":null}`)

	test, created := h.key("acme", events.Test)
	h.commit(created)
	live, createdLive := h.key("acme", events.Live)
	h.commit(createdLive)
	h.commit(changed(createdLive, "key.revoked", func(k *events.Key) { k.Status, k.Reason = events.Revoked, "leaked" }))
	used := h.commit(h.debited("acme", test, 90, events.Draw{Grant: "grant_1", Amount: 10})).Time
	h.commit(h.debited("acme", "", 80, events.Draw{Grant: "grant_1", Amount: 10}))
	wait(t, v, h.chain.Sequence)

	got, err := ask(t, v, "key.get", "acme", fmt.Sprintf(`{"key":%q}`, test))
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, fmt.Sprintf(`{"key":{"id":%q,"account":"acme","environment":"test","name":"backend","kind":"standard","status":"active",
		"permissions":[],"read_only":false,"ip_allowlist":[],"expires_at":null,"asset_class":"any","prefix":"kl_test_wxyz",
		"created_at":%q,"last_used_at":%q,"metadata":{}}}`, test, created.Data.(*events.Key).CreatedAt, used))
	if created.Data.(*events.Key).LastUsedAt != 0 {
		t.Error("the event's own data was changed")
	}
	refused(t, v, events.NotFound, "key.get", "beta", fmt.Sprintf(`{"key":%q}`, test))
	refused(t, v, events.NotFound, "key.get", "nobody", fmt.Sprintf(`{"key":%q}`, test))
	refused(t, v, events.NotFound, "key.get", "acme", fmt.Sprintf(`{"key":%q}`, h.id(keyIDPrefix)))
	refused(t, v, events.NotFound, "key.list", "nobody", "")
	for _, body := range []string{`{}`, `{"key":""}`, `{"key":"key_1"}`, `{"key":"` + h.id("") + `"}`, `{"key":7}`, `{"kye":"x"}`, `[]`, `{`} {
		refused(t, v, events.InvalidArgument, "key.get", "acme", body)
	}
	for _, body := range []string{`{"environment":"prod"}`, `{"status":"removed"}`, `{"accounts":1}`, `{"expiring_before":"soon"}`,
		`{"permission":"payments"}`, `{"permission":"payments:all"}`, `{"permission":"*"}`} {
		refused(t, v, events.InvalidArgument, "key.list", "acme", body)
	}
	type list struct{ Keys []events.Key }
	for body, want := range map[string][]string{
		`{}`:                     {test, live},
		`{"environment":"test"}`: {test},
		`{"environment":"live"}`: {live},
		`{"status":"revoked"}`:   {live},
		`{"status":"disabled"}`:  nil,
		`{"status":"active","environment":"live"}`:    nil,
		`{"status":"","environment":"","limit":null}`: {test, live},
	} {
		var ids []string
		for _, k := range into[list](t, v, "key.list", "acme", body).Keys {
			ids = append(ids, k.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("key.list %s: %v, want %v", body, ids, want)
		}
	}
	if keys := into[list](t, v, "key.list", "acme", `{"environment":"test"}`).Keys; keys[0].LastUsedAt != used {
		t.Errorf("key.list: last_used_at %s, want %s", keys[0].LastUsedAt, used)
	}
}

// TestKeyFilters that look at more than a word of the key.
func TestKeyFilters(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	expiry := events.Time(1_900_000_000_000)
	list := []events.Event{h.account("acme")}
	for name, change := range map[string]func(*events.Key){
		"plain":       func(*events.Key) {},
		"expiring":    func(k *events.Key) { k.ExpiresAt = expiry },
		"export read": func(k *events.Key) { k.Permissions = []string{"exports:read", "payments:*"} },
		"export all":  func(k *events.Key) { k.Permissions = []string{"exports:*"} },
	} {
		_, e := h.key("acme", events.Test)
		list = append(list, changed(e, "key.created", func(k *events.Key) { k.Name = name; change(k) }))
	}
	h.commit(list...)
	paid := h.debited("acme", list[1].Subject, 90, events.Draw{Grant: "grant_1", Amount: 10})
	used := h.commit(h.granted("acme", "grant_1", 100, 0, 100), paid).Time
	name := list[1].Data.(*events.Key).Name
	wait(t, v, h.chain.Sequence)
	for body, want := range map[string]string{
		fmt.Sprintf(`{"used_since":%q}`, used):                            name,
		fmt.Sprintf(`{"used_since":%q}`, used+1):                          "",
		fmt.Sprintf(`{"name_prefix":%q,"unused_since":%q}`, name, used):   "",
		fmt.Sprintf(`{"name_prefix":%q,"unused_since":%q}`, name, used+1): name,
		fmt.Sprintf(`{"unused_since":%q,"name_prefix":"pl"}`, used+1):     "plain",
		fmt.Sprintf(`{"expiring_before":%q}`, expiry):                     "",
		fmt.Sprintf(`{"expiring_before":%q}`, expiry+1):                   "expiring",
		`{"expiring_before":null}`:                                        "expiring, export all, export read, plain",
		`{"name_prefix":"exp"}`:                                           "expiring, export all, export read",
		`{"name_prefix":"export "}`:                                       "export all, export read",
		`{"name_prefix":"Exp"}`:                                           "",
		`{"permission":"exports:read"}`:                                   "export all, export read",
		`{"permission":"exports:write"}`:                                  "export all",
		`{"permission":"exports:*"}`:                                      "export all",
		`{"permission":"payments:write"}`:                                 "export read",
		`{"permission":"export:read"}`:                                    "",
	} {
		var names []string
		for _, k := range into[struct{ Keys []events.Key }](t, v, "key.list", "acme", body).Keys {
			names = append(names, k.Name)
		}
		slices.Sort(names)
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("key.list %s: %s, want %s", body, got, want)
		}
	}
}

func TestBalanceQuery(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	h.commit(h.account("acme"))
	wait(t, v, h.chain.Sequence)
	empty := `{"balance":{"environment":"live","asset":"usdc","posted":0,"held":0,"available":0,"grants":[],
		"allowance":{"amount":0,"remaining":0,"resets_at":null}}}`
	got, err := ask(t, v, "balance.get", "acme", `{"environment":"live","asset":"usdc"}`)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, empty)
	// Burn order: low priority first, then the oldest.
	h.commit(h.granted("acme", "grant_a", 10, 5, 10), h.granted("acme", "grant_b", 20, 0, 30),
		h.granted("acme", "grant_c", 30, 5, 60), h.granted("acme", "grant_d", 40, -1, 100))
	h.commit(h.debited("acme", "", 45, events.Draw{Grant: "grant_d", Amount: 40}, events.Draw{Grant: "grant_b", Amount: 15}))
	wait(t, v, h.chain.Sequence)
	for _, body := range []string{`{"environment":"test"}`, `{"environment":"test","asset":"credits"}`} {
		got, err = ask(t, v, "balance.get", "acme", body)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, `{"balance":{"environment":"test","asset":"credits","posted":45,"held":0,"available":45,"grants":[
			{"id":"grant_b","remaining":5,"expires_at":null,"priority":0},
			{"id":"grant_a","remaining":10,"expires_at":null,"priority":5},
			{"id":"grant_c","remaining":30,"expires_at":null,"priority":5}],
			"allowance":{"amount":0,"remaining":0,"resets_at":null}}}`)
	}
	refused(t, v, events.NotFound, "balance.get", "nobody", `{"environment":"test"}`)
	for _, body := range []string{`{}`, `{"environment":"prod"}`, `{"environment":"test","asset":"US$"}`,
		`{"environment":"test","asset":"` + strings.Repeat("x", 65) + `"}`, `{"environment":"test","at":"now"}`} {
		refused(t, v, events.InvalidArgument, "balance.get", "acme", body)
	}
}

func TestEndpointQueries(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	h.commit(h.account("acme"), h.account("beta"))
	test, registered := h.endpoint("acme", events.Test)
	h.commit(registered)
	live, registeredLive := h.endpoint("acme", events.Live)
	h.commit(registeredLive, changed(registered, "endpoint.paused", func(e *events.Endpoint) { e.Status = events.Paused }))
	wait(t, v, h.chain.Sequence)
	type list struct{ Endpoints []events.Endpoint }
	check := func(body string, want ...string) {
		t.Helper()
		var ids []string
		for _, e := range into[list](t, v, "endpoint.list", "acme", body).Endpoints {
			ids = append(ids, e.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("endpoint.list %s: %v, want %v", body, ids, want)
		}
	}
	check(`{}`, test, live)
	check(`{"environment":"live"}`, live)
	check(`{"status":"paused"}`, test)
	check(`{"status":"disabled"}`)
	h.commit(changed(registered, "endpoint.removed", func(e *events.Endpoint) { e.Status = events.Removed }))
	wait(t, v, h.chain.Sequence)
	check(`{}`, live)
	check(`{"limit":1,"cursor":"`+*cursorAt(v.endpoints.byID[test])+`"}`, live) // a cursor outlives what it names
	type one struct{ Endpoint events.Endpoint }
	if got := into[one](t, v, "endpoint.get", "acme", fmt.Sprintf(`{"endpoint":%q}`, test)).Endpoint; got.Status != events.Removed {
		t.Errorf("a removed endpoint: %+v", got)
	}
	got, err := ask(t, v, "endpoint.get", "acme", fmt.Sprintf(`{"endpoint":%q}`, live))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(got, "ealed") || strings.Contains(got, base64.StdEncoding.EncodeToString([]byte("sealed"))) {
		t.Errorf("a sealed member is shown: %s", got)
	}
	refused(t, v, events.NotFound, "endpoint.get", "beta", fmt.Sprintf(`{"endpoint":%q}`, live))
	refused(t, v, events.NotFound, "endpoint.list", "nobody", "")
	for _, body := range []string{`{}`, `{"endpoint":"endpoint_"}`, `{"endpoint":"` + h.id(keyIDPrefix) + `"}`} {
		refused(t, v, events.InvalidArgument, "endpoint.get", "acme", body)
	}
	for _, body := range []string{`{"environment":"prod"}`, `{"status":"removed"}`, `{"status":"revoked"}`} {
		refused(t, v, events.InvalidArgument, "endpoint.list", "acme", body)
	}
}

func TestPaging(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	h.commit(h.account("acme"), h.account("beta"))
	// Keys of one commit are made at one moment and stand by id, whatever their order
	// in it.
	var want []string
	for range 12 {
		var list []events.Event
		for range 10 {
			id, e := h.key("acme", events.Test)
			list, want = append(list, e), append(want, id)
		}
		slices.Reverse(list)
		h.commit(list...)
	}
	stranger, other := h.key("beta", events.Test)
	h.commit(other)
	wait(t, v, h.chain.Sequence)
	type page struct {
		Keys []events.Key
		Next *string `json:"next_cursor"`
	}
	for _, limit := range []int{1, 7, 50, 60, 119, 120, 500} {
		var got []string
		var pages int
		for body := fmt.Sprintf(`{"limit":%d}`, limit); ; pages++ {
			p := into[page](t, v, "key.list", "acme", body)
			if len(p.Keys) > limit || len(p.Keys) == 0 {
				t.Fatalf("limit %d: a page of %d", limit, len(p.Keys))
			}
			for _, k := range p.Keys {
				got = append(got, k.ID)
			}
			if p.Next == nil {
				break
			}
			body = fmt.Sprintf(`{"limit":%d,"cursor":%q}`, limit, *p.Next)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
		if want := (120 - 1) / limit; pages != want {
			t.Errorf("limit %d: %d pages before the last, want %d", limit, pages, want)
		}
	}
	if p := into[page](t, v, "key.list", "acme", `{}`); len(p.Keys) != defaultPage || p.Next == nil {
		t.Errorf("a page without limit has %d keys", len(p.Keys))
	}
	for _, limit := range []string{"0", "-1", "501", "1.5", `"7"`} {
		refused(t, v, events.InvalidArgument, "key.list", "acme", `{"limit":`+limit+`}`)
	}
	for _, cursor := range []string{"!", "a", want[0], *cursorAt(v.keys.byID[stranger]),
		*cursorAt(&keyRecord{id: h.id(keyIDPrefix), created: h.now}), *cursorAt(v.accounts.byID["acme"])} {
		refused(t, v, events.InvalidArgument, "key.list", "acme", fmt.Sprintf(`{"cursor":%q}`, cursor))
	}
}

// TestPageLooksAtSoMuch: a filter that passes over many objects ends the page early, and
// its cursor goes on.
func TestPageLooksAtSoMuch(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	const n = 2*maxScanned + 500
	for i := 0; i < n; i += 500 {
		var list []events.Event
		for j := range 500 {
			list = append(list, h.account(fmt.Sprintf("a%06d", i+j)))
		}
		if i == n-500 {
			list[499].Data.(*events.Account).Status = events.Suspended
		}
		h.commit(list...)
	}
	wait(t, v, h.chain.Sequence)
	type page struct {
		Accounts []events.Account
		Next     *string `json:"next_cursor"`
	}
	body, pages, found := `{"status":"suspended"}`, 0, []string{}
	for {
		p := into[page](t, v, "account.list", "_", body)
		pages++
		for _, a := range p.Accounts {
			found = append(found, a.ID)
		}
		if p.Next == nil {
			break
		}
		body = fmt.Sprintf(`{"status":"suspended","cursor":%q}`, *p.Next)
	}
	if want := []string{fmt.Sprintf("a%06d", n-1)}; pages != 3 || !slices.Equal(found, want) {
		t.Errorf("%d pages found %v, want 3 and %v", pages, found, want)
	}
}
