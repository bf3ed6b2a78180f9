package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/keyledger/keyledger/events"
)

const (
	maxLineBytes    = 64 << 10 // of an access log
	maxProductBytes = 64
	rootProduct     = "root" // the product of the path "/"
)

// visit is one line of an access log, read as a request to an API.
type visit struct {
	addr    netip.Addr
	product string
	access  string
}

// badLine is a line that could not be read.
type badLine struct {
	Number int    `json:"line"`
	Reason string `json:"reason"`
}

// readAccessLog reads an access log in the common or combined format. Lines it cannot
// read are returned, not skipped silently. Empty lines are no lines.
func readAccessLog(r io.Reader) (visits []visit, bad []badLine, err error) {
	lines := bufio.NewReaderSize(r, maxLineBytes)
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		var v visit
		var wrong error
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			wrong = fmt.Errorf("longer than %d bytes", maxLineBytes)
			err = skipLine(lines)
		case strings.TrimSpace(string(line)) == "":
			if err == nil {
				continue
			}
		default:
			v, wrong = parseLine(strings.TrimSpace(string(line)))
		}
		switch {
		case wrong != nil:
			bad = append(bad, badLine{number, wrong.Error()})
		case v.addr.IsValid():
			visits = append(visits, v)
		}
		if errors.Is(err, io.EOF) {
			return visits, bad, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read line %d: %w", number, err)
		}
	}
}

// skipLine reads to the end of a line that does not fit the buffer.
func skipLine(lines *bufio.Reader) error {
	for {
		if _, err := lines.ReadSlice('\n'); !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// parseLine reads one line:
//
//	host ident user [time] "method target protocol" status bytes …
//
// What follows the status is not looked at: real logs have user agents that are cut off.
func parseLine(line string) (visit, error) {
	host, rest, _ := strings.Cut(line, " ")
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return visit{}, fmt.Errorf("%.60q is not a client address", host)
	}
	// The user may hold spaces, so the time is looked for by its bracket.
	_, rest, ok := strings.Cut(rest, " [")
	if !ok {
		return visit{}, errors.New("no [time]")
	}
	if _, rest, ok = strings.Cut(rest, `] "`); !ok {
		return visit{}, errors.New("no \"request\" behind the [time]")
	}
	request, rest, ok := cutQuoted(rest)
	if !ok {
		return visit{}, errors.New("the request has no closing quote")
	}
	status, _, _ := strings.Cut(strings.TrimPrefix(rest, " "), " ")
	if n, err := strconv.Atoi(status); err != nil || n < 100 || n > 999 {
		return visit{}, fmt.Errorf("%.20q is not an HTTP status", status)
	}
	fields := strings.Fields(request)
	if len(fields) < 2 || !isMethod(fields[0]) {
		return visit{}, fmt.Errorf("%.60q is not a request", request)
	}
	v := visit{addr: addr.Unmap(), product: productOf(fields[1]), access: events.Write}
	if fields[0] == "GET" || fields[0] == "HEAD" {
		v.access = events.Read
	}
	return v, nil
}

// cutQuoted splits s at the first quote that no backslash escapes.
func cutQuoted(s string) (before, after string, found bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func isMethod(s string) bool {
	for i := 0; i < len(s); i++ {
		if (s[i] < 'A' || s[i] > 'Z') && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return s != "" && s != "-"
}

// productOf maps a request's target to a product: the first segment of its path, without
// a query, in lower case, with "-" for each character that a product cannot have, cut to
// the longest a product can be.
func productOf(target string) string {
	if end := strings.IndexAny(target, "?#"); end >= 0 {
		target = target[:end]
	}
	if scheme, rest, ok := strings.Cut(target, "://"); ok && !strings.Contains(scheme, "/") {
		_, target, _ = strings.Cut(rest, "/") // absolute form: what follows the host
	}
	segment, _, _ := strings.Cut(strings.TrimPrefix(target, "/"), "/")
	if segment == "" {
		return rootProduct
	}
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '_', r == '-':
			return r
		case 'A' <= r && r <= 'Z':
			return r + ('a' - 'A')
		}
		return '-'
	}, segment)
	return strings.Clone(name[:min(len(name), maxProductBytes)]) // does not keep the line
}

// accountOf is the account of a client address: its dots and colons become "-".
func accountOf(addr netip.Addr) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r == ':' {
			return '-'
		}
		return r
	}, addr.String())
}
