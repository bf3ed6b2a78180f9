package webhooks

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestCheckHeaders(t *testing.T) {
	value := strings.Repeat("v", MaxHeaderValueBytes)
	for _, tt := range []struct {
		name, value string
		ok          bool
	}{
		{"Authorization", "Bearer abc", true},
		{"x-team", "", true},
		{"X_Odd!#$%&'*+.^`|~", "tab\there, ünicode", true},
		{"Contented", "no prefix of content-", true},
		{"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true},
		{strings.Repeat("n", MaxHeaderNameBytes), value, true},
		{strings.Repeat("n", MaxHeaderNameBytes+1), "", false},
		{"X-Long", value + "v", false},
		{"Host", "example.com", false}, {"HOST", "example.com", false},
		{"Content-Type", "text/plain", false}, {"content-length", "0", false}, {"Content-Encoding", "gzip", false}, {"content-", "", false},
		{"webhook-id", "1", false}, {"Webhook-Signature", "v1,x", false}, {"WEBHOOK-X", "", false},
		{"Connection", "close", false}, {"Keep-Alive", "60", false}, {"Proxy-Authorization", "Basic x", false}, {"Proxy-Connection", "close", false}, {"proxy-x", "", false},
		{"TE", "trailers", false}, {"Trailer", "X-A", false}, {"Transfer-Encoding", "chunked", false}, {"Upgrade", "h2c", false}, {"HTTP2-Settings", "AAA", false},
		{"User-Agent", "curl", false}, {"Accept-Encoding", "gzip", false}, {"Expect", "100-continue", false},
		{"", "x", false}, {"X Y", "x", false}, {"X:Y", "x", false}, {"X\r\nY", "x", false}, {"Ünicode", "x", false}, {"X\x00", "x", false}, {"X(Y)", "x", false},
		{"X-A", "secret\r\nHost: internal", false}, {"X-A", "secret\n", false}, {"X-A", "secret\r", false}, {"X-A", "secret\x00", false}, {"X-A", "secret\x7f", false}, {"X-A", "secret\x1b[0m", false},
	} {
		err := CheckHeaders(map[string]string{tt.name: tt.value})
		if (err == nil) != tt.ok {
			t.Errorf("%q: %q: error %v", tt.name, tt.value, err)
		}
		if err != nil && !errors.Is(err, ErrHeader) {
			t.Errorf("%q: error %v is not an ErrHeader", tt.name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the value: %v", err)
		}
	}
}

func TestCheckHeadersTogether(t *testing.T) {
	headers := map[string]string{}
	if err := CheckHeaders(nil); err != nil {
		t.Errorf("none: %v", err)
	}
	for i := range MaxHeaders {
		headers[fmt.Sprintf("X-%d", i)] = "v"
	}
	if err := CheckHeaders(headers); err != nil {
		t.Errorf("%d headers: %v", MaxHeaders, err)
	}
	headers["X-One-More"] = "v"
	if err := CheckHeaders(headers); !errors.Is(err, ErrHeader) {
		t.Errorf("%d headers: %v", MaxHeaders+1, err)
	}
	if err := CheckHeaders(map[string]string{"X-A": "1", "x-a": "2"}); !errors.Is(err, ErrHeader) {
		t.Errorf("one name in two cases: %v", err)
	}
}
