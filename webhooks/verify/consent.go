package verify

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxOrigins is how many senders a Verifier can be told to allow.
	MaxOrigins = 64
	// MaxOriginBytes is the longest name of a sender, in bytes.
	MaxOriginBytes = 253

	headerRequestOrigin = "WebHook-Request-Origin"
	headerAllowedOrigin = "WebHook-Allowed-Origin"
	headerAllowedRate   = "WebHook-Allowed-Rate"
	anyone              = "*"

	// allowedMethods is the value of Allow (RFC 9110 §10.2.1).
	allowedMethods = http.MethodPost + ", " + http.MethodOptions
)

// AnswerConsent answers a request that asks for permission to deliver, and says whether it
// was one: OPTIONS, by which keyledger asks before it registers an endpoint (CloudEvents
// HTTP 1.1 Web Hooks for Event Delivery, §4). The sender in WebHook-Request-Origin is
// allowed to if Config.Origins says so, at Config.RatePerMinute; another one is answered 403,
// and OPTIONS that ask for something else, such as a browser's, 204. Handler calls it; a
// program with a handler of its own calls it before Read.
func (v *Verifier) AnswerConsent(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodOptions {
		return false
	}
	w.Header().Set("Allow", allowedMethods)
	origins := r.Header.Values(headerRequestOrigin)
	if len(origins) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	allowed := anyone
	if len(v.config.Origins) > 0 {
		same := func(name string) bool { return strings.EqualFold(name, origins[0]) }
		i := slices.IndexFunc(v.config.Origins, same)
		if i < 0 || len(origins) > 1 {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		allowed = v.config.Origins[i]
	}
	rate := anyone
	if v.config.RatePerMinute > 0 {
		rate = strconv.FormatInt(v.config.RatePerMinute, 10)
	}
	w.Header().Set(headerAllowedOrigin, allowed)
	w.Header().Set(headerAllowedRate, rate)
	w.WriteHeader(http.StatusOK)
	return true
}

// isOrigin is true for the names that senders have: of a host, or like one.
func isOrigin(name string) bool {
	if name == "" || len(name) > MaxOriginBytes {
		return false
	}
	for _, c := range []byte(name) {
		letter := (c|0x20) >= 'a' && (c|0x20) <= 'z'
		if !letter && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
