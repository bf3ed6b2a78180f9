package webhooks

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const (
	// MaxURLBytes is the longest endpoint URL, in bytes.
	MaxURLBytes = 2048

	maxHostBytes  = 253 // RFC 1035 §2.3.4, without the root's dot
	maxLabelBytes = 63  // RFC 1035 §2.3.4
)

// CheckURL makes the checks on an endpoint's URL that need no network: it is
// absolute, https (or http, if allowHTTP), at most MaxURLBytes long, without
// userinfo and fragment, with an allowed port, and its host is a plain IP
// address that the table or an allowed prefix lets pass, or a DNS name in ASCII
// (internationalized names as xn--…).
//
// Hosts that resolvers and browsers read as numbers (2130706433, 0x7f.1,
// 127.1: WHATWG URL, "ends in a number"), localhost and the names under it
// (RFC 6761), names that end in a dot, and addresses with a zone are refused.
// What a name resolves to is checked at every dial. Every error is a
// *RefusedError.
func (g *Guard) CheckURL(raw string, allowHTTP bool) (*url.URL, error) {
	if len(raw) > MaxURLBytes {
		return nil, refuse(ClassURLLength)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return nil, refuse(ClassURL)
	}
	if u.Scheme == "" {
		return nil, refuse(ClassURL)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !allowHTTP) {
		return nil, refuse(ClassScheme)
	}
	if u.User != nil {
		return nil, refuse(ClassUserinfo)
	}
	if strings.Contains(raw, "#") {
		return nil, refuse(ClassFragment)
	}
	if err := g.checkHost(u); err != nil {
		return nil, err
	}
	if err := checkURLPort(u); err != nil {
		return nil, err
	}
	return u, nil
}

func (g *Guard) checkHost(u *url.URL) error {
	host := u.Hostname()
	if strings.Contains(host, "%") {
		return refuse(ClassZone)
	}
	addr, err := netip.ParseAddr(host)
	bracketed := strings.HasPrefix(u.Host, "[")
	switch {
	case bracketed && (err != nil || !addr.Is6()):
		return refuse(ClassHost)
	case err == nil:
		return g.checkAddr(addr)
	case !isDNSName(host):
		return refuse(ClassHost)
	}
	return nil
}

// isDNSName is true for letters, digits, hyphens and underscores in labels of
// 1 to 63 bytes, the last of which is no number and not localhost.
func isDNSName(host string) bool {
	if len(host) > maxHostBytes {
		return false
	}
	labels := strings.Split(strings.ToLower(host), ".")
	for _, label := range labels {
		if label == "" || len(label) > maxLabelBytes {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	last := labels[len(labels)-1]
	return last != "localhost" && !isNumber(last)
}

// isNumber is true for what inet_aton and browsers read as a number: decimal
// and octal digits, or 0x and hexadecimal ones.
func isNumber(label string) bool {
	digits, chars := label, "0123456789"
	if rest, ok := strings.CutPrefix(label, "0x"); ok {
		digits, chars = rest, "0123456789abcdef"
	}
	return strings.Trim(digits, chars) == ""
}

func checkURLPort(u *url.URL) error {
	port := u.Port()
	if port == "" {
		if strings.HasSuffix(u.Host, ":") {
			return refuse(ClassPort)
		}
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port || !portAllowed(uint16(n)) {
		return refuse(ClassPort)
	}
	return nil
}
