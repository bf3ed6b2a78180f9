package verify_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/keyledger/keyledger/webhooks"
	"github.com/keyledger/keyledger/webhooks/verify"
)

const (
	eventID   = "01JD8JP73VBQXDT3JGJ47NC5HP"
	eventBody = `{"specversion":"1.0","id":"` + eventID + `","source":"/keyledger/acme","type":"dev.keyledger.credit.debited.v1","subject":"key_01J",` +
		`"time":"2024-11-22T00:00:00.123Z","position":"0:42.2","commandid":"01JD9Z3W8X4T6V2QK7M5N0PRSA","environment":"test","partitionkey":"key_01J",` +
		`"sequence":"00000000000000000007","datacontenttype":"application/json","data":{"amount":100}}`
)

// post is a signed request at the time of the vectors.
func post(t testing.TB, id, body string) *http.Request {
	t.Helper()
	key, err := webhooks.ParseSecret(vectorSecret)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(vectorTimestamp, 0)
	r := httptest.NewRequest(http.MethodPost, "/hooks", strings.NewReader(body))
	r.Header = headers(id, at, webhooks.Sign(id, at, []byte(body), v1(key)))
	r.Header.Set("Content-Type", webhooks.ContentType)
	return r
}

func TestRead(t *testing.T) {
	at := time.Unix(vectorTimestamp, 0)
	got, err := newVerifier(t, at, vectorSecret).Read(post(t, eventID, eventBody))
	if err != nil {
		t.Fatal(err)
	}
	want := &verify.Event{
		Attempt: verify.Message{ID: eventID, At: at}, Source: "/keyledger/acme", Type: "dev.keyledger.credit.debited.v1", Subject: "key_01J",
		Time: time.Date(2024, 11, 22, 0, 0, 0, 123_000_000, time.UTC), Sequence: 7, Position: "0:42.2", Environment: "test", PartitionKey: "key_01J",
		Data:       []byte(`{"amount":100}`),
		Extensions: map[string]string{"commandid": "01JD9Z3W8X4T6V2QK7M5N0PRSA", "datacontenttype": "application/json"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

// The smallest event, and one with what this package has no name for.
func TestReadOtherEvents(t *testing.T) {
	v := newVerifier(t, time.Unix(vectorTimestamp, 0), vectorSecret)
	for body, want := range map[string]map[string]string{
		`{"specversion":"1.0","id":"1","source":"/s","type":"t"}`:                                                                              {},
		" {\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"replay\":true,\"n\":7,\"ID\":\"other\",\"subject\":null}\n": {"replay": "true", "n": "7", "ID": "other"},
	} {
		got, err := v.Read(post(t, "1", body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
		} else if got.Data != nil || got.Sequence != 0 || !got.Time.IsZero() || got.Subject != "" || !cmp.Equal(want, got.Extensions) {
			t.Errorf("%s: %+v", body, got)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	v := newVerifier(t, time.Unix(vectorTimestamp, 0), vectorSecret)
	signed := func(body string) func() *http.Request { return func() *http.Request { return post(t, eventID, body) } }
	changed := func(change func(*http.Request)) func() *http.Request {
		return func() *http.Request { r := post(t, eventID, eventBody); change(r); return r }
	}
	swap := func(old, new string) func() *http.Request { return signed(strings.Replace(eventBody, old, new, 1)) }
	for what, tt := range map[string]struct {
		request func() *http.Request
		want    error
		status  int
	}{
		"GET":                {changed(func(r *http.Request) { r.Method = http.MethodGet }), verify.ErrMethod, 405},
		"no body":            {changed(func(r *http.Request) { r.Body = nil }), verify.ErrBody, 400},
		"a broken body":      {changed(func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(errors.New("reset"))) }), verify.ErrBody, 400},
		"no signature":       {changed(func(r *http.Request) { r.Header.Del("webhook-signature") }), verify.ErrHeader, 400},
		"a stranger":         {changed(func(r *http.Request) { r.Header.Set("webhook-signature", "v1,AAAA") }), verify.ErrSignature, 401},
		"long ago":           {changed(func(r *http.Request) { r.Header.Set("webhook-timestamp", "1") }), verify.ErrTooOld, 401},
		"soon":               {changed(func(r *http.Request) { r.Header.Set("webhook-timestamp", "9999999999") }), verify.ErrTooNew, 401},
		"no content type":    {changed(func(r *http.Request) { r.Header.Del("Content-Type") }), verify.ErrEvent, 400},
		"other content type": {changed(func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }), verify.ErrEvent, 400},
		"other id":           {swap(eventID, "01JD8JP73VBQXDT3JGJ47NC5HQ"), verify.ErrEvent, 400},
		"other version":      {swap(`"1.0"`, `"0.3"`), verify.ErrEvent, 400},
		"no type":            {swap(`"type"`, `"kind"`), verify.ErrEvent, 400},
		"empty type":         {swap("dev.keyledger.credit.debited.v1", ""), verify.ErrEvent, 400},
		"type is null":       {swap(`"dev.keyledger.credit.debited.v1"`, "null"), verify.ErrEvent, 400},
		"empty source":       {swap("/keyledger/acme", ""), verify.ErrEvent, 400},
		"time":               {swap("2024-11-22T", "2024-11-22 "), verify.ErrEvent, 400},
		"sequence":           {swap("00000000000000000007", "-7"), verify.ErrEvent, 400},
		"sequence of zero":   {swap("00000000000000000007", "0"), verify.ErrEvent, 400},
		"twice":              {swap(`"position"`, `"subject"`), verify.ErrEvent, 400},
		"data twice":         {swap(`"position"`, `"data"`), verify.ErrEvent, 400},
		"binary data":        {swap(`"data":{"amount":100}`, `"data_base64":"AA=="`), verify.ErrEvent, 400},
		"object":             {swap(`"0:42.2"`, `{}`), verify.ErrEvent, 400},
		"list":               {signed("[" + eventBody + "]"), verify.ErrEvent, 400},
		"two events":         {signed(eventBody + eventBody), verify.ErrEvent, 400},
		"cut short":          {signed(eventBody[:len(eventBody)-1]), verify.ErrEvent, 400},
		"nothing":            {signed(""), verify.ErrEvent, 400},
	} {
		event, err := v.Read(tt.request())
		if !errors.Is(err, tt.want) || event != nil || verify.Status(err) != tt.status {
			t.Errorf("%s: %v, %v, status %d; want %v, %d", what, event, err, verify.Status(err), tt.want, tt.status)
		}
	}
}

func TestBodyLimit(t *testing.T) {
	for limit, want := range map[int64]error{int64(len(eventBody)): nil, int64(len(eventBody)) - 1: verify.ErrTooLarge} {
		v, err := verify.New(verify.Config{Keys: []string{vectorSecret}, MaxBodyBytes: limit, Clock: func() time.Time { return time.Unix(vectorTimestamp, 0) }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Read(post(t, eventID, eventBody)); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("limit %d: %v, want %v", limit, err, want)
		}
	}
	// Without a length, and without an end: no more is read than the limit.
	read := 0
	r := post(t, eventID, eventBody)
	r.Body = io.NopCloser(readerFunc(func(p []byte) (int, error) { read += len(p); return len(p), nil }))
	_, err := newVerifier(t, time.Unix(vectorTimestamp, 0), vectorSecret).Read(r)
	if !errors.Is(err, verify.ErrTooLarge) || verify.Status(err) != 413 || read > 2*verify.DefaultMaxBodyBytes {
		t.Errorf("endless body: %v after %d bytes", err, read)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Whatever comes: no panic, and what is taken is signed in the library's eyes too.
func FuzzRead(f *testing.F) {
	good := post(f, eventID, eventBody)
	f.Add(eventID, good.Header.Get("webhook-timestamp"), good.Header.Get("webhook-signature"), []byte(eventBody))
	f.Add(vectorID, "1614265330", vectorV1+" "+vectorV1a, []byte(vectorBody))
	f.Add("1", "1614265330", "v1,", []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","time":null}`))
	f.Add("a.b", "-1", "v1a, v1", []byte(`[{`))
	hook, err := standardwebhooks.NewWebhook(vectorSecret)
	if err != nil {
		f.Fatal(err)
	}
	key, err := webhooks.ParseSecret(vectorSecret)
	if err != nil {
		f.Fatal(err)
	}
	at := time.Unix(vectorTimestamp, 0)
	v := newVerifier(f, at, vectorSecret)
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		// As it is, and with a good signature, to get at what is behind it.
		for _, signature := range []string{signature, webhooks.Sign(id, at, body, v1(key))} {
			r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
			r.Header = http.Header{
				"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signature}, "Content-Type": {webhooks.ContentType},
			}
			event, err := v.Read(r)
			if err != nil {
				if s := verify.Status(err); event != nil || s < 400 || s > 499 {
					t.Errorf("%+v, status %d: %v", event, s, err)
				}
				continue
			}
			if event.Attempt.ID != id || event.Type == "" || event.Source == "" {
				t.Errorf("event %+v", event)
			}
			if err := hook.VerifyIgnoringTimestamp(body, r.Header); err != nil {
				t.Errorf("taken, but not by the library: %v", err)
			}
		}
	})
}
