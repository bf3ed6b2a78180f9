package webhooks

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/doyensec/safeurl"
	"pgregory.net/rapid"
)

// differences are the addresses that one refuses and github.com/doyensec/safeurl lets
// pass, or the other way round, and why. The first row that holds an address counts.
var differences = []struct {
	prefix  string
	isatap  bool   // only interface identifiers that carry a refused IPv4 address
	ours    bool   // refused here and not there; false: the other way round
	example string // an address that shows it
	why     string
}{
	{"64:ff9b::/96", false, false, "64:ff9b::808:808", "NAT64 is the way to IPv4 from some networks; judged by the address it carries"},
	{"192.31.196.0/24", false, true, "192.31.196.1", "AS112: reachable, but the network's own machinery; in the registry, not in safeurl's list"},
	{"192.52.193.0/24", false, true, "192.52.193.1", "AMT relays: likewise"},
	{"192.175.48.0/24", false, true, "192.175.48.1", "AS112: likewise"},
	{"2620:4f:8000::/48", false, true, "2620:4f:8000::1", "AS112: likewise"},
	{"::/96", false, true, "::7f00:1", "IPv4-compatible: deprecated, carries an IPv4 address"},
	{"::ffff:0:0:0/96", false, true, "::ffff:0:7f00:1", "SIIT: carries an IPv4 address"},
	{"64:ff9b:1::/48", false, true, "64:ff9b:1::7f00:1", "NAT64 of a local network: carries an IPv4 address"},
	{"100:0:0:1::/64", false, true, "100:0:0:1::1", "dummy prefix of RFC 9780, newer than safeurl's list"},
	{"3fff::/20", false, true, "3fff::1", "documentation of RFC 9637, newer than safeurl's list"},
	{"5f00::/16", false, true, "5f00::1", "SRv6 SIDs of RFC 9602, newer than safeurl's list"},
	{"fec0::/10", false, true, "fec0::1", "site-local: deprecated, and still private where it is in use"},
	{"2000::/3", true, true, "2606:4700::5efe:7f00:1", "ISATAP: carries an IPv4 address"},
	{"::/0", false, true, "4000::1", "outside 2000::/3 nothing is global unicast; safeurl refuses what its list names"},
}

// difference gives the row for an address, -1 if the two should agree.
func difference(addr netip.Addr, ours bool) int {
	for i, d := range differences {
		if d.ours != ours || !netip.MustParsePrefix(d.prefix).Contains(addr) {
			continue
		}
		if d.isatap && len(embeddedIPv4(addr)) == 0 || d.prefix == "::/0" && globalUnicast6.Contains(addr) {
			continue
		}
		return i
	}
	return -1
}

// safeurlRefuses asks safeurl's own dialer. It is asked for UDP, which it judges like
// TCP: to connect a UDP socket sends nothing. ok is false if the system has no socket for
// the address, so that safeurl was never asked.
func safeurlRefuses(t rapid.TB, addr netip.Addr) (refused, ok bool) {
	t.Helper()
	client := safeurl.Client(safeurl.GetConfigBuilder().EnableIPv6(true).Build())
	conn, err := client.Client.Transport.(*http.Transport).DialContext(context.Background(), "udp", netip.AddrPortFrom(addr, 443).String())
	var refusal *safeurl.AllowedIPError
	var call *os.SyscallError
	switch {
	case err == nil:
		conn.Close()
		return false, true
	case errors.As(err, &refusal):
		return true, true
	case errors.As(err, &call) && call.Syscall == "connect": // it passed, and there is no way there
		return false, true
	}
	return false, false
}

func TestAgreesWithSafeurl(t *testing.T) {
	if _, ok := safeurlRefuses(t, netip.MustParseAddr("1.1.1.1")); !ok {
		t.Fatal("safeurl cannot be asked")
	}
	_, ipv6 := safeurlRefuses(t, netip.MustParseAddr("2606:4700:4700::1111"))
	if !ipv6 {
		t.Log("without IPv6 here, safeurl is asked of IPv4 alone")
	}
	check := func(t rapid.TB, addr netip.Addr) {
		addr = addr.Unmap() // both judge what the system would dial
		theirs, ok := safeurlRefuses(t, addr)
		if !ok {
			if addr.Is4() || ipv6 {
				t.Fatalf("%s: safeurl cannot be asked", addr)
			}
			return
		}
		ours := addressClass(addr) != public
		if ours != theirs && difference(addr, ours) < 0 {
			t.Fatalf("%s: refused here %t, by safeurl %t", addr, ours, theirs)
		}
	}
	for _, e := range append(edges, examples...) {
		check(t, netip.MustParseAddr(e.addr))
	}
	v6 := rapid.Custom(func(t *rapid.T) netip.Addr {
		b := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))
		row := rapid.SampledFrom(refusedRanges6).Draw(t, "row").prefix
		net6 := row.Addr().As16()
		for i := range rapid.IntRange(0, row.Bits()).Draw(t, "bits of the row") {
			bit := byte(0x80) >> (i % 8)
			b[i/8] = b[i/8]&^bit | net6[i/8]&bit
		}
		return netip.AddrFrom16(b)
	})
	rapid.Check(t, func(t *rapid.T) {
		v4 := genIPv4().Draw(t, "v4")
		open, shut := embeddings(v4)
		check(t, v4)
		check(t, v6.Draw(t, "v6"))
		for _, forms := range []map[string]netip.Addr{open, shut} {
			for _, addr := range forms {
				check(t, addr)
			}
		}
	})
	for i, d := range differences {
		addr := netip.MustParseAddr(d.example)
		theirs, ok := safeurlRefuses(t, addr)
		if ours := addressClass(addr) != public; ok && (ours == theirs || ours != d.ours || difference(addr, ours) != i) {
			t.Errorf("%s is no difference any more (%s): refused here %t, by safeurl %t", addr, d.why, ours, theirs)
		}
	}
}

// What safeurl refuses before it asks a resolver is refused here. Hosts that are neither
// an address nor a name are left out: safeurl asks the resolver about them.
func TestRefusesURLsThatSafeurlRefuses(t *testing.T) {
	_, ipv6 := safeurlRefuses(t, netip.MustParseAddr("2606:4700:4700::1111"))
	for _, url := range []string{
		"https://user:password@8.8.8.8/", "https://user@8.8.8.8/", "ftp://8.8.8.8/", "gopher://8.8.8.8/", "https:///hook", "https://8.8.8.8:22/",
		"https://127.0.0.1/", "https://10.0.0.1/", "https://169.254.169.254/", "https://0.0.0.0/", "https://[::1]/", "https://[::]/",
		"https://[::ffff:127.0.0.1]/", "https://[::ffff:a9fe:a9fe]/", "https://[64:ff9b::a9fe:a9fe]/", "https://[2002:7f00:1::1]/", "https://[fd00:ec2::254]/", "https://[fe80::1]/",
	} {
		response, err := safeurl.Client(safeurl.GetConfigBuilder().EnableIPv6(true).Build()).Post(url, "", nil)
		if err == nil {
			response.Body.Close()
		}
		if asked := !strings.Contains(url, "[") || ipv6; asked && !isSafeurlRefusal(err) {
			t.Errorf("%s: safeurl says %v", url, err)
		}
		if _, err := newGuard(t).CheckURL(url, true); err == nil {
			t.Errorf("%s passes here", url)
		}
	}
}

func isSafeurlRefusal(err error) bool {
	return errors.As(err, new(*safeurl.AllowedIPError)) || errors.As(err, new(*safeurl.AllowedPortError)) ||
		errors.As(err, new(*safeurl.AllowedSchemeError)) || errors.As(err, new(*safeurl.InvalidHostError)) ||
		errors.As(err, new(*safeurl.SendingCredentialsBlockedError))
}
