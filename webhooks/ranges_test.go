package webhooks

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const public = "" // the class of an address that passes

// edges names the first and the last address of every range, and the addresses
// just outside, with what they must be. It is written out by hand, so that a
// slip in the table shows.
var edges = []struct{ addr, class string }{
	{"0.0.0.0", ClassUnspecified}, {"0.0.0.1", ClassThisNetwork}, {"0.255.255.255", ClassThisNetwork}, {"1.0.0.0", public},
	{"9.255.255.255", public}, {"10.0.0.0", ClassPrivate}, {"10.255.255.255", ClassPrivate}, {"11.0.0.0", public},
	{"100.63.255.255", public}, {"100.64.0.0", ClassShared}, {"100.127.255.255", ClassShared}, {"100.128.0.0", public},
	{"126.255.255.255", public}, {"127.0.0.0", ClassLoopback}, {"127.255.255.255", ClassLoopback}, {"128.0.0.0", public},
	{"169.253.255.255", public}, {"169.254.0.0", ClassLinkLocal}, {"169.254.255.255", ClassLinkLocal}, {"169.255.0.0", public},
	{"172.15.255.255", public}, {"172.16.0.0", ClassPrivate}, {"172.31.255.255", ClassPrivate}, {"172.32.0.0", public},
	{"191.255.255.255", public}, {"192.0.0.0", ClassProtocol}, {"192.0.0.7", ClassProtocol}, {"192.0.0.8", ClassProtocol}, {"192.0.0.9", ClassProtocol},
	{"192.0.0.10", ClassProtocol}, {"192.0.0.11", ClassProtocol}, {"192.0.0.169", ClassProtocol}, {"192.0.0.170", ClassProtocol}, {"192.0.0.171", ClassProtocol},
	{"192.0.0.172", ClassProtocol}, {"192.0.0.255", ClassProtocol}, {"192.0.1.0", public},
	{"192.0.1.255", public}, {"192.0.2.0", ClassDocumentation}, {"192.0.2.255", ClassDocumentation}, {"192.0.3.0", public},
	{"192.31.195.255", public}, {"192.31.196.0", ClassInfra}, {"192.31.196.255", ClassInfra}, {"192.31.197.0", public},
	{"192.52.192.255", public}, {"192.52.193.0", ClassInfra}, {"192.52.193.255", ClassInfra}, {"192.52.194.0", public},
	{"192.88.98.255", public}, {"192.88.99.0", ClassTunnel}, {"192.88.99.1", ClassTunnel}, {"192.88.99.2", ClassTunnel}, {"192.88.99.3", ClassTunnel}, {"192.88.99.255", ClassTunnel}, {"192.88.100.0", public},
	{"192.167.255.255", public}, {"192.168.0.0", ClassPrivate}, {"192.168.255.255", ClassPrivate}, {"192.169.0.0", public},
	{"192.175.47.255", public}, {"192.175.48.0", ClassInfra}, {"192.175.48.255", ClassInfra}, {"192.175.49.0", public},
	{"198.17.255.255", public}, {"198.18.0.0", ClassBenchmarking}, {"198.19.255.255", ClassBenchmarking}, {"198.20.0.0", public},
	{"198.51.99.255", public}, {"198.51.100.0", ClassDocumentation}, {"198.51.100.255", ClassDocumentation}, {"198.51.101.0", public},
	{"203.0.112.255", public}, {"203.0.113.0", ClassDocumentation}, {"203.0.113.255", ClassDocumentation}, {"203.0.114.0", public},
	{"223.255.255.255", public}, {"224.0.0.0", ClassMulticast}, {"239.255.255.255", ClassMulticast},
	{"240.0.0.0", ClassReserved}, {"255.255.255.254", ClassReserved}, {"255.255.255.255", ClassBroadcast},

	{"::", ClassUnspecified}, {"::1", ClassLoopback}, {"::2", ClassThisNetwork},
	{"::808:808", ClassTunnel}, {"::ffff:ffff", ClassBroadcast}, {"::1:0:0", ClassReserved},
	{"::fffe:ffff:ffff", ClassReserved}, {"::ffff:0.0.0.0", ClassUnspecified}, {"::ffff:255.255.255.255", ClassBroadcast}, {"::1:0:0:0", ClassReserved},
	{"::fffe:ffff:ffff:ffff", ClassReserved}, {"::ffff:0:0:0", ClassUnspecified}, {"::ffff:0:808:808", ClassTunnel},
	{"::ffff:0:ffff:ffff", ClassBroadcast}, {"::ffff:1:0:0", ClassReserved},
	{"64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", ClassReserved}, {"64:ff9b::", ClassUnspecified}, {"64:ff9b::ffff:ffff", ClassBroadcast}, {"64:ff9b::1:0:0", ClassReserved},
	{"64:ff9b:0:ffff:ffff:ffff:ffff:ffff", ClassReserved}, {"64:ff9b:1::", ClassUnspecified}, {"64:ff9b:1::808:808", ClassTunnel},
	{"64:ff9b:1:ffff:ffff:ffff:ffff:ffff", ClassBroadcast}, {"64:ff9b:2::", ClassReserved},
	{"ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ClassReserved}, {"100::", ClassDiscard}, {"100::ffff:ffff:ffff:ffff", ClassDiscard},
	{"100:0:0:1::", ClassDocumentation}, {"100:0:0:1:ffff:ffff:ffff:ffff", ClassDocumentation}, {"100:0:0:2::", ClassReserved},
	{"1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ClassReserved}, {"2000::", public},
	{"2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", public}, {"2001::", ClassUnspecified}, {"2001:0:ffff:ffff:ffff:ffff:ffff:ffff", ClassBroadcast},
	{"2001:1::", ClassProtocol}, {"2001:1::1", ClassProtocol}, {"2001:1::2", ClassProtocol}, {"2001:1::3", ClassProtocol}, {"2001:1::4", ClassProtocol},
	{"2001:1:ffff:ffff:ffff:ffff:ffff:ffff", ClassProtocol},
	{"2001:2::", ClassBenchmarking}, {"2001:2:0:ffff:ffff:ffff:ffff:ffff", ClassBenchmarking}, {"2001:2:1::", ClassProtocol},
	{"2001:2:ffff:ffff:ffff:ffff:ffff:ffff", ClassProtocol}, {"2001:3::", ClassProtocol}, {"2001:3:ffff:ffff:ffff:ffff:ffff:ffff", ClassProtocol}, {"2001:4::", ClassProtocol},
	{"2001:4:111:ffff:ffff:ffff:ffff:ffff", ClassProtocol}, {"2001:4:112::", ClassProtocol}, {"2001:4:112:ffff:ffff:ffff:ffff:ffff", ClassProtocol}, {"2001:4:113::", ClassProtocol},
	{"2001:f:ffff:ffff:ffff:ffff:ffff:ffff", ClassProtocol}, {"2001:10::", ClassProtocol}, {"2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", ClassProtocol},
	{"2001:20::", ClassProtocol}, {"2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", ClassProtocol},
	{"2001:30::", ClassProtocol}, {"2001:3f:ffff:ffff:ffff:ffff:ffff:ffff", ClassProtocol}, {"2001:40::", ClassProtocol},
	{"2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", ClassProtocol}, {"2001:200::", public},
	{"2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", public}, {"2001:db8::", ClassDocumentation}, {"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", ClassDocumentation}, {"2001:db9::", public},
	{"2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", public}, {"2002::", ClassUnspecified}, {"2002:808:808::", ClassTunnel},
	{"2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ClassBroadcast}, {"2003::", public},
	{"2620:4f:7fff:ffff:ffff:ffff:ffff:ffff", public}, {"2620:4f:8000::", ClassInfra}, {"2620:4f:8000:ffff:ffff:ffff:ffff:ffff", ClassInfra}, {"2620:4f:8001::", public},
	{"3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", public}, {"3fff::", ClassDocumentation}, {"3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", ClassDocumentation}, {"3fff:1000::", public},
	{"3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", public}, {"4000::", ClassReserved},
	{"5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ClassReserved}, {"5f00::", ClassReserved}, {"5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ClassReserved}, {"5f01::", ClassReserved},
	{"fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ClassReserved}, {"fc00::", ClassPrivate}, {"fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ClassPrivate}, {"fe00::", ClassReserved},
	{"fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ClassReserved}, {"fe80::", ClassLinkLocal}, {"febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ClassLinkLocal},
	{"fec0::", ClassPrivate}, {"feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ClassPrivate}, {"ff00::", ClassMulticast}, {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ClassMulticast},
}

// registries are all rows of the IANA special-purpose address registries for IPv4 and
// IPv6, as of 2025-10-09, those inside others too, and multicast.
var registries = strings.Fields(`
	0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12
	192.0.0.0/24 192.0.0.0/29 192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24
	192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24
	198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 255.255.255.255/32

	::1/128 ::/128 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64
	2001::/23 2001::/32 2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48
	2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16
	fc00::/7 fe80::/10 ff00::/8`)

// Every row of the registries has its first and its last address in the list above, and
// those just outside. The first and the last are refused.
func TestEdgesCoverTheRegistries(t *testing.T) {
	class := map[netip.Addr]string{}
	for _, e := range edges {
		class[netip.MustParseAddr(e.addr)] = e.class
	}
	for _, row := range registries {
		prefix := netip.MustParsePrefix(row)
		first, last := prefix.Addr(), lastOf(prefix)
		for _, addr := range []netip.Addr{first, last, first.Prev(), last.Next()} {
			if got, listed := class[addr]; addr.IsValid() && (!listed || got == public && prefix.Contains(addr)) {
				t.Errorf("%s: %s is %q among the edges, listed %t", row, addr, got, listed)
			}
		}
	}
}

// examples are the addresses that the contract names, and others with a story.
var examples = []struct{ addr, class string }{
	{"127.0.0.1", ClassLoopback}, {"10.0.0.1", ClassPrivate}, {"100.64.0.1", ClassShared}, {"169.254.169.254", ClassLinkLocal},
	{"192.0.0.8", ClassProtocol}, {"192.0.0.192", ClassProtocol}, {"198.18.0.1", ClassBenchmarking}, {"224.0.0.1", ClassMulticast},
	{"240.0.0.1", ClassReserved}, {"::1", ClassLoopback}, {"::ffff:127.0.0.1", ClassLoopback}, {"64:ff9b::a9fe:a9fe", ClassLinkLocal},
	{"2002:7f00:1::1", ClassLoopback}, {"fd00:ec2::254", ClassPrivate}, {"fe80::1", ClassLinkLocal}, {"ff02::1", ClassMulticast},
	{"100.100.100.200", ClassShared}, {"192.88.99.2", ClassTunnel}, {"192.0.0.9", ClassProtocol}, {"2001:1::3", ClassProtocol},
	{"::ffff:0:7f00:1", ClassLoopback}, {"::7f00:1", ClassLoopback}, {"64:ff9b:1::a00:1", ClassPrivate},
	{"2001:0:7f00:1::", ClassLoopback},               // Teredo, server 127.0.0.1
	{"2001:0:808:808:0:0:5601:5601", ClassLinkLocal}, // Teredo, client 169.254.169.254, each bit turned over
	{"2606:4700::5efe:a00:1", ClassPrivate}, {"2606:4700::200:5efe:a9fe:a9fe", ClassLinkLocal},
	{"2606:4700::100:5efe:7f00:1", ClassLoopback}, {"2606:4700::300:5efe:7f00:1", ClassLoopback},

	{"1.1.1.1", public}, {"8.8.8.8", public}, {"2606:4700:4700::1111", public}, {"2001:4860:4860::8888", public},
	{"::ffff:8.8.8.8", public}, {"64:ff9b::808:808", public}, {"2606:4700::5efe:808:808", public}, {"2606:4700::400:5efe:7f00:1", public},
}

func TestAddressClass(t *testing.T) {
	for _, list := range [][]struct{ addr, class string }{edges, examples} {
		for _, tt := range list {
			if got := addressClass(netip.MustParseAddr(tt.addr)); got != tt.class {
				t.Errorf("%s: class %q, want %q", tt.addr, got, tt.class)
			}
		}
	}
	if got := addressClass(netip.Addr{}); got == public {
		t.Error("the zero address passes")
	}
}

// Every row of the table has its edges in the list above, and every edge inside
// a row is refused.
func TestEdgesCoverTheTable(t *testing.T) {
	listed := map[netip.Addr]bool{}
	for _, e := range edges {
		listed[netip.MustParseAddr(e.addr)] = true
	}
	for _, rows := range [][]addressRange{refusedRanges4, refusedRanges6} {
		for _, row := range rows {
			if row.prefix != row.prefix.Masked() || row.class == "" || row.name == "" {
				t.Errorf("%s: not a whole row: %+v", row.prefix, row)
			}
			for _, addr := range []netip.Addr{row.prefix.Addr(), lastOf(row.prefix)} {
				if !listed[addr] {
					t.Errorf("%s (%s): %s is not among the edges", row.prefix, row.name, addr)
				}
				if addressClass(addr) == public {
					t.Errorf("%s (%s): %s passes", row.prefix, row.name, addr)
				}
			}
			for _, addr := range []netip.Addr{row.prefix.Addr().Prev(), lastOf(row.prefix).Next()} {
				if addr.IsValid() && !listed[addr] && !insideAnyRow(addr) {
					t.Errorf("%s (%s): %s, just outside, is not among the edges", row.prefix, row.name, addr)
				}
			}
		}
	}
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

func insideAnyRow(addr netip.Addr) bool {
	for _, rows := range [][]addressRange{refusedRanges4, refusedRanges6} {
		for _, row := range rows {
			if row.prefix.Contains(addr) {
				return true
			}
		}
	}
	return false
}

// embeddings gives an IPv4 address in every form that carries one. Those that
// stay marked open may pass if the address does; the others never do.
func embeddings(v4 netip.Addr) (open, shut map[string]netip.Addr) {
	at := func(base string, i int, invert bool) netip.Addr {
		b, a := netip.MustParseAddr(base).As16(), v4.As4()
		for j := range a {
			if invert {
				a[j] = ^a[j]
			}
			b[i+j] = a[j]
		}
		return netip.AddrFrom16(b)
	}
	open = map[string]netip.Addr{
		"mapped":       at("::ffff:0.0.0.0", 12, false),
		"NAT64":        at("64:ff9b::", 12, false),
		"ISATAP":       at("2606:4700:0:1:0:5efe::", 12, false),
		"ISATAP, u":    at("2606:4700:0:1:200:5efe::", 12, false),
		"ISATAP, u, g": at("2606:4700:0:1:300:5efe::", 12, false),
	}
	shut = map[string]netip.Addr{
		"compatible":      at("::", 12, false),
		"SIIT":            at("::ffff:0:0:0", 12, false),
		"NAT64 local":     at("64:ff9b:1::", 12, false),
		"6to4":            at("2002::1", 2, false),
		"Teredo server":   at("2001::f7f7:f7f7", 4, false),
		"Teredo client":   at("2001:0:808:808::", 12, true),
		"ISATAP in a ULA": at("fd00::5efe:0:0", 12, false),
	}
	return open, shut
}

// The local-use NAT64 prefix may also carry an address in its middle, around an octet of
// zero (RFC 6052 §2.2, length 48). Nothing there passes, whatever it carries.
func TestLocalNAT64(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, a := netip.MustParseAddr("64:ff9b:1::808:808").As16(), genIPv4().Draw(t, "v4").As4()
		b[6], b[7], b[9], b[10] = a[0], a[1], a[2], a[3]
		if addr := netip.AddrFrom16(b); addressClass(addr) == public {
			t.Fatalf("%s passes", addr)
		}
	})
}

// genIPv4 draws addresses from all of the space, and as often from the table's rows.
func genIPv4() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		a := [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address"))
		if rapid.Bool().Draw(t, "in a row") {
			p := rapid.SampledFrom(refusedRanges4).Draw(t, "row").prefix
			net4 := p.Addr().As4()
			for i := range p.Bits() {
				bit := byte(0x80) >> (i % 8)
				a[i/8] = a[i/8]&^bit | net4[i/8]&bit
			}
		}
		return netip.AddrFrom4(a)
	})
}

func TestEveryFormOfARefusedIPv4IsRefused(t *testing.T) {
	for _, e := range edges {
		if addr := netip.MustParseAddr(e.addr); addr.Is4() {
			checkForms(t, addr)
		}
	}
	rapid.Check(t, func(t *rapid.T) { checkForms(t, genIPv4().Draw(t, "v4")) })
}

func checkForms(t rapid.TB, v4 netip.Addr) {
	class := addressClass(v4)
	open, shut := embeddings(v4)
	for form, addr := range open {
		if got := addressClass(addr); got != class {
			t.Fatalf("%s is %q, but as %s, %s, it is %q", v4, class, form, addr, got)
		}
	}
	for form, addr := range shut {
		got := addressClass(addr)
		if got == public {
			t.Fatalf("%s as %s, %s, passes", v4, form, addr)
		}
		// :: and ::1 are what they are, and a unique local address is private.
		special := addr.IsLoopback() || addr.IsUnspecified() || addr.IsPrivate()
		if class != public && !special && got != class {
			t.Fatalf("%s is %q, but as %s, %s, it is %q", v4, class, form, addr, got)
		}
	}
}

// What the standard library's own, coarser predicates call non-global is refused.
func TestTableRefusesWhatNetipRefuses(t *testing.T) {
	v6 := rapid.Custom(func(t *rapid.T) netip.Addr {
		b := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))
		first := rapid.SampledFrom([]byte{0x00, 0x01, 0x20, 0x26, 0x3f, 0x5f, 0xfc, 0xfd, 0xfe, 0xff}).Draw(t, "first")
		b[0] = first
		return netip.AddrFrom16(b)
	})
	rapid.Check(t, func(t *rapid.T) {
		addr := rapid.OneOf(v6, genIPv4()).Draw(t, "addr").Unmap()
		if (!addr.IsGlobalUnicast() || addr.IsPrivate()) && addressClass(addr) == public {
			t.Fatalf("%s passes", addr)
		}
		if addr.Is6() && !globalUnicast6.Contains(addr) && !nat64WellKnown.Contains(addr) && addressClass(addr) == public {
			t.Fatalf("%s passes, outside 2000::/3", addr)
		}
	})
}
