package main

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestParseLine(t *testing.T) {
	const tail = ` 200 51 "-" "curl/8"`
	for _, c := range []struct {
		line string
		want string // address product access, or what the error says
	}{
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "GET /a/b.png HTTP/1.1"` + tail, "203.0.113.7 a read"},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "HEAD /a HTTP/1.0" 304 -`, "203.0.113.7 a read"},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "POST /a HTTP/1.1"` + tail, "203.0.113.7 a write"},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "OPTIONS * HTTP/1.1"` + tail, "203.0.113.7 - write"},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "GET /"` + tail, "203.0.113.7 root read"},
		{`203.0.113.7 - a b [x] [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1"` + tail, "203.0.113.7 a read"},
		{`2001:DB8:0::5 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1"` + tail, "2001:db8::5 a read"},
		{`::ffff:203.0.113.7 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1"` + tail, "203.0.113.7 a read"},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "GET /a\"b HTTP/1.1"` + tail, "203.0.113.7 a--b read"},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 5 "-" "cut off`, "203.0.113.7 a read"},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200`, "203.0.113.7 a read"},

		{`client.example.com - - [x] "GET /a HTTP/1.1"` + tail, "not a client address"},
		{`fe80::1%eth0 - - [x] "GET /a HTTP/1.1"` + tail, "not a client address"},
		{`nonsense`, "not a client address"},
		{`203.0.113.7`, "no [time]"},
		{`203.0.113.7 - - "GET /a HTTP/1.1"` + tail, "no [time]"},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] GET /a` + tail, "no \"request\""},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "GET /a`, "no closing quote"},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1"`, "not an HTTP status"},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" ok`, "not an HTTP status"},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "-" 408 -`, "not a request"},
		{`203.0.113.7 - - [17/May/2015:10:05:03 +0000] "\x16\x03\x01 x" 400 226`, "not a request"},
	} {
		got := ""
		v, err := parseLine(c.line)
		if err == nil {
			got = fmt.Sprint(v.addr, " ", v.product, " ", v.access)
		} else {
			got = err.Error()
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%s\n got %s\nwant %s", c.line, got, c.want)
		}
	}
}

func TestProductOf(t *testing.T) {
	long := strings.Repeat("x", 70)
	for target, want := range map[string]string{
		"/":                            "root",
		"":                             "root",
		"/?a=/b":                       "root",
		"//a":                          "root",
		"/a":                           "a",
		"/a/":                          "a",
		"/a?b/c":                       "a",
		"/a#b":                         "a",
		"/Style2.CSS":                  "style2-css",
		"/a_b-c.9":                     "a_b-c-9",
		"/%7Euser/x":                   "-7euser",
		"/käse":                        "k-se",
		"/a\xffb":                      "a-b",
		"http://example.com/x/y":       "x",
		"HTTP://example.com?a=/b":      "root",
		"http://example.com":           "root",
		"/go?to=http://example.com/x":  "go",
		"/http://example.com/x":        "http-",
		"*":                            "-",
		"example.com:443":              "example-com-443",
		"/" + long:                     long[:64],
		"/" + strings.Repeat("ä", 70):  strings.Repeat("-", 64),
		"/a/b?c=d&e=http://f.g/h#i//j": "a",
	} {
		if got := productOf(target); got != want {
			t.Errorf("%q: %q, want %q", target, got, want)
		}
	}
}

func TestAccountOf(t *testing.T) {
	for addr, want := range map[string]string{
		"203.0.113.7": "203-0-113-7",
		"2001:db8::5": "2001-db8--5",
		"::1":         "--1",
	} {
		if got := accountOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestReadAccessLog(t *testing.T) {
	good := func(path string) string {
		return `203.0.113.7 - - [17/May/2015:10:05:03 +0000] "GET ` + path + ` HTTP/1.1" 200 51`
	}
	log := good("/a") + "\r\n" + // a line
		"\n" + // none
		"nonsense\n" +
		good("/"+strings.Repeat("x", maxLineBytes)) + "\n" +
		good("/b?"+strings.Repeat("x", maxLineBytes/2)) + "\n" +
		"   \n" +
		good("/c") // without an end
	visits, bad, err := readAccessLog(strings.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	var products []string
	for _, v := range visits {
		products = append(products, v.product)
	}
	if !reflect.DeepEqual(products, []string{"a", "b", "c"}) {
		t.Errorf("products: %v", products)
	}
	if len(bad) != 2 || bad[0].Number != 3 || bad[1].Number != 4 || !strings.Contains(bad[1].Reason, "longer than 65536 bytes") {
		t.Errorf("bad lines: %+v", bad)
	}
	visits, bad, err = readAccessLog(strings.NewReader(strings.Repeat("x", 3*maxLineBytes)))
	if len(visits) != 0 || len(bad) != 1 || err != nil {
		t.Errorf("one long line without an end: %v %+v %v", visits, bad, err)
	}
}

func TestExpectedDebits(t *testing.T) {
	a, b := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::5")
	var visits []visit
	for range 21 {
		visits = append(visits, visit{addr: a})
	}
	visits = append(visits, visit{addr: b}, visit{addr: b})
	got := expectedDebits(visits)
	if !reflect.DeepEqual(got, map[netip.Addr]int{a: 20, b: 2}) {
		t.Errorf("%v", got)
	}
	if affordable*demoCost != demoGrant {
		t.Errorf("%d requests at %d credits do not use up %d", affordable, demoCost, demoGrant)
	}
}

func TestOwnTraffic(t *testing.T) {
	log := ownTraffic()
	if string(log) != string(ownTraffic()) {
		t.Error("the demo's own traffic is not always the same")
	}
	visits, bad, err := readAccessLog(strings.NewReader(string(log)))
	if err != nil || len(bad) > 0 {
		t.Fatalf("%v %v", bad, err)
	}
	counts := map[netip.Addr]int{}
	for _, v := range visits {
		counts[v.addr]++
	}
	for _, c := range ownClients {
		if got := counts[netip.MustParseAddr(c.addr)]; got != c.visits {
			t.Errorf("%s: %d visits, want %d", c.addr, got, c.visits)
		}
	}
	if len(counts) != len(ownClients) {
		t.Errorf("%d clients, want %d", len(counts), len(ownClients))
	}
}
