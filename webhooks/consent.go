package webhooks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"time"
)

const (
	// ConsentTimeout is the time a consent request has for everything. A receiver has
	// nothing to look up to answer it, and a command waits for it.
	ConsentTimeout = 5 * time.Second
	// DefaultOrigin is the name that the receiver is asked to allow, unless the operator
	// has set another.
	DefaultOrigin = "keyledger"

	headerRequestOrigin = "WebHook-Request-Origin"
	headerRequestRate   = "WebHook-Request-Rate"
	headerAllowedOrigin = "WebHook-Allowed-Origin"
	headerAllowedRate   = "WebHook-Allowed-Rate"
)

// Consent is what a receiver answered to the question whether it takes deliveries.
type Consent struct {
	Confirmed bool
	// Rate is how many requests a minute it takes, 0 for any number; 0 if not Confirmed.
	Rate int64
	// Phase and Error say why it is not confirmed: as in Result where there was no answer,
	// and else, in a fixed text, what the answer lacks. Nothing that the other side sent is
	// in them, but its HTTP status.
	Phase Phase
	Error string
}

// PhaseConsent: there was a whole answer, and it does not allow deliveries.
const PhaseConsent Phase = "consent"

// CheckOrigin says what is wrong with a name that receivers are to be asked to allow.
func CheckOrigin(origin string) error {
	if !isDNSName(origin) {
		return errors.New("an origin is a DNS name such as hooks.example.com, which need not resolve")
	}
	return nil
}

// AskConsent asks a receiver whether it takes deliveries from here, before any is made: an
// OPTIONS request with the origin's name, and with the rate that is wanted, in requests a
// minute, unless that is 0 (CloudEvents HTTP 1.1 Web Hooks for Event Delivery, §4). It goes
// through the guard, follows no redirect, carries the endpoint's custom headers, which may
// be what lets it in, and takes ConsentTimeout at the most. The answer allows deliveries if
// it is a 2xx with the origin's name, or *, in WebHook-Allowed-Origin; WebHook-Allowed-Rate
// limits them, unless it is * or not there.
//
// There is no callback (§4.1.2): a receiver that cannot answer at once is not asked to
// fetch a URL of ours.
//
// An error says that ctx ended first.
func (c *Client) AskConsent(ctx context.Context, url string, headers map[string]string, rate int64) (Consent, error) {
	line := newTimeline(time.Now())
	request, refused := c.newRequest(http.MethodOptions, url, headers, nil)
	if refused != nil {
		return Consent{Phase: PhaseGuard, Error: refused.Error()}, nil
	}
	if rate > 0 {
		request.Header.Set(headerRequestRate, strconv.FormatInt(rate, 10))
	}
	within, cancel := c.within(ctx, min(ConsentTimeout, c.config.Timeout))
	defer cancel()
	response, err := c.transport().RoundTrip(request.WithContext(httptrace.WithClientTrace(within, line.trace())))
	if err == nil {
		defer response.Body.Close()
		_, err = readBody(response) // so that the connection can be used again
	}
	if err != nil {
		if ctx.Err() != nil {
			return Consent{}, fmt.Errorf("cut off consent request: %w", context.Cause(ctx))
		}
		phase, _ := line.now()
		if response != nil {
			phase = PhaseBody
		}
		phase, text := describe(err, phase)
		return Consent{Phase: phase, Error: text}, nil
	}
	return readConsent(response.StatusCode, response.Header, c.config.Origin), nil
}

// readConsent judges an answer.
func readConsent(status int, header http.Header, origin string) Consent {
	no := func(text string) Consent { return Consent{Phase: PhaseConsent, Error: text} }
	if status < 200 || status > 299 {
		return no("answered " + strconv.Itoa(status))
	}
	origins, rates := header.Values(headerAllowedOrigin), header.Values(headerAllowedRate)
	switch {
	case len(origins) == 0:
		return no("no " + headerAllowedOrigin)
	case len(origins) > 1:
		return no(headerAllowedOrigin + " stands there twice")
	case origins[0] != "*" && !strings.EqualFold(origins[0], origin): // names of the DNS
		return no(headerAllowedOrigin + " is for another origin")
	case len(rates) > 1:
		return no(headerAllowedRate + " stands there twice")
	case len(rates) == 0 || rates[0] == "*":
		return Consent{Confirmed: true}
	}
	rate, ok := parseRate(rates[0])
	if !ok {
		return no(headerAllowedRate + " is neither a number from 1 nor *")
	}
	return Consent{Confirmed: true, Rate: rate}
}

// maxAllowedRate is the largest rate an endpoint may have, in attempts a minute. A receiver
// that takes more than that sets no limit.
const maxAllowedRate = 60_000

// parseRate reads a positive integer; one above maxAllowedRate is 0, no limit.
func parseRate(text string) (int64, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	rate, err := strconv.ParseInt(text, 10, 64)
	if err != nil || rate > maxAllowedRate { // an error of what are digits only: out of range
		return 0, true
	}
	return rate, rate > 0
}
