package webhooks

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// MaxHeaders is how many custom headers an endpoint may have.
	MaxHeaders = 20
	// MaxHeaderValueBytes is the longest value of a custom header, in bytes.
	MaxHeaderValueBytes = 1024
	// MaxHeaderNameBytes is the longest name of a custom header, in bytes.
	MaxHeaderNameBytes = 256
)

// ErrHeader is wrapped by every error of CheckHeaders.
var ErrHeader = errors.New("custom header refused")

// reservedHeaders are the names, in lower case, that a custom header may not
// have; reservedPrefixes are how such names may not begin.
var (
	reservedHeaders = map[string]string{
		"host":              "set from the endpoint's URL",
		"user-agent":        "set by keyledger",
		"accept-encoding":   "compression is not asked for",
		"expect":            "changes how the request is sent",
		"connection":        "hop-by-hop", // RFC 9110 §7.6.1, for all down to upgrade
		"keep-alive":        "hop-by-hop",
		"te":                "hop-by-hop",
		"trailer":           "hop-by-hop",
		"transfer-encoding": "hop-by-hop",
		"upgrade":           "hop-by-hop",
		"http2-settings":    "hop-by-hop", // RFC 7540 §3.2.1
	}
	reservedPrefixes = map[string]string{
		"content-": "describes the body",
		"webhook-": "belongs to the signature",
		"proxy-":   "hop-by-hop",
	}
)

// CheckHeaders makes sure that custom headers can be sent with every delivery:
// at most MaxHeaders of them, names that are tokens (RFC 9110 §5.6.2) of at most
// MaxHeaderNameBytes, distinct in any case and none that keyledger or the
// connection needs; values of at most MaxHeaderValueBytes without control
// characters, CR and LF above all (RFC 9110 §5.5). Errors wrap ErrHeader, name
// a header only if its name is well formed, and never show a value.
func CheckHeaders(headers map[string]string) error {
	if len(headers) > MaxHeaders {
		return fmt.Errorf("%w: %d headers, at most %d", ErrHeader, len(headers), MaxHeaders)
	}
	seen := make(map[string]bool, len(headers))
	for name, value := range headers {
		if len(name) > MaxHeaderNameBytes || !isToken(name) {
			return fmt.Errorf("%w: a name is not 1 to %d token characters", ErrHeader, MaxHeaderNameBytes)
		}
		lower := strings.ToLower(name)
		if seen[lower] {
			return fmt.Errorf("%w: %s is given twice", ErrHeader, lower)
		}
		seen[lower] = true
		if why := reservedHeader(lower); why != "" {
			return fmt.Errorf("%w: %s %s", ErrHeader, lower, why)
		}
		if len(value) > MaxHeaderValueBytes {
			return fmt.Errorf("%w: the value of %s is longer than %d bytes", ErrHeader, lower, MaxHeaderValueBytes)
		}
		if strings.IndexFunc(value, isControl) >= 0 {
			return fmt.Errorf("%w: the value of %s has a control character", ErrHeader, lower)
		}
	}
	return nil
}

// reservedHeader says why a name in lower case is not free, empty if it is.
func reservedHeader(lower string) string {
	if why := reservedHeaders[lower]; why != "" {
		return why
	}
	for prefix, why := range reservedPrefixes {
		if strings.HasPrefix(lower, prefix) {
			return why
		}
	}
	return ""
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		letter := (c|0x20) >= 'a' && (c|0x20) <= 'z'
		digit := c >= '0' && c <= '9'
		if !letter && !digit && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isControl is true for what a field value may not hold; the tab it may.
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
