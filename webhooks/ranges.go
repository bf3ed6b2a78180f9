package webhooks

import "net/netip"

// Classes of refusal: what a RefusedError says, and all that it says. They are
// stored in attempt records, so a name once given stays.
const (
	ClassUnspecified   = "unspecified"     // 0.0.0.0 and ::
	ClassThisNetwork   = "this network"    // 0.0.0.0/8
	ClassLoopback      = "loopback"        // 127.0.0.0/8 and ::1
	ClassPrivate       = "private"         // RFC 1918 and unique local IPv6
	ClassShared        = "shared"          // carrier-grade NAT, RFC 6598
	ClassLinkLocal     = "link-local"      // where clouds keep their metadata
	ClassProtocol      = "protocol"        // IETF protocol assignments
	ClassInfra         = "infrastructure"  // AS112 sinks and AMT relays
	ClassDocumentation = "documentation"   // examples and dummies
	ClassBenchmarking  = "benchmarking"    // RFC 2544
	ClassMulticast     = "multicast"       // RFC 1112, RFC 4291
	ClassBroadcast     = "broadcast"       // RFC 919
	ClassReserved      = "reserved"        // not global unicast, for any other reason
	ClassDiscard       = "discard"         // RFC 6666
	ClassTunnel        = "tunnel"          // IPv6 forms that carry an IPv4 address
	ClassZone          = "zone"            // an IPv6 address with a zone, such as fe80::1%eth0
	ClassOwnHost       = "own host"        // an address of one of this host's interfaces
	ClassUnknownHost   = "own host unsure" // this host's interfaces could not be read
	ClassPort          = "port"            // not 443, 80, or 1024 and above
	ClassNetwork       = "network"         // not TCP, or no IP address and port
	ClassURL           = "malformed url"   // does not parse, or not absolute
	ClassURLLength     = "url too long"    // above 2,048 bytes
	ClassScheme        = "scheme"          // not https, nor http where that is allowed
	ClassUserinfo      = "userinfo"        // user:password@
	ClassFragment      = "fragment"        // #…
	ClassHost          = "host form"       // no host, or one that is neither a name nor a plain IP address
)

// addressRange is one row of the table of refused ranges.
type addressRange struct {
	prefix netip.Prefix
	class  string
	name   string // the registry's name for the range, and its RFC
}

// refusedRanges4 holds the IANA IPv4 Special-Purpose Address Registry
// (https://www.iana.org/assignments/iana-ipv4-special-registry, as of
// 2025-10-09) and the multicast range. Rows that the registry marks as globally
// reachable are anycast addresses of the network's own machinery: no receiver
// can live there, so they are refused too.
var refusedRanges4 = []addressRange{
	{netip.MustParsePrefix("0.0.0.0/32"), ClassUnspecified, "This host on this network, RFC 1122"},
	{netip.MustParsePrefix("0.0.0.0/8"), ClassThisNetwork, "This network, RFC 791"},
	{netip.MustParsePrefix("10.0.0.0/8"), ClassPrivate, "Private-Use, RFC 1918"},
	{netip.MustParsePrefix("100.64.0.0/10"), ClassShared, "Shared Address Space, RFC 6598"},
	{netip.MustParsePrefix("127.0.0.0/8"), ClassLoopback, "Loopback, RFC 1122"},
	{netip.MustParsePrefix("169.254.0.0/16"), ClassLinkLocal, "Link Local, RFC 3927"},
	{netip.MustParsePrefix("172.16.0.0/12"), ClassPrivate, "Private-Use, RFC 1918"},
	// Holds DS-Lite 192.0.0.0/29 (RFC 7335), the dummy 192.0.0.8 (RFC 7600), the PCP
	// and TURN anycast .9 and .10 (RFC 7723, RFC 8155) and NAT64 discovery .170 and .171 (RFC 8880).
	{netip.MustParsePrefix("192.0.0.0/24"), ClassProtocol, "IETF Protocol Assignments, RFC 6890"},
	{netip.MustParsePrefix("192.0.2.0/24"), ClassDocumentation, "Documentation (TEST-NET-1), RFC 5737"},
	{netip.MustParsePrefix("192.31.196.0/24"), ClassInfra, "AS112-v4, RFC 7535"},
	{netip.MustParsePrefix("192.52.193.0/24"), ClassInfra, "AMT, RFC 7450"},
	// Holds the 6a44 relay 192.88.99.2 (RFC 6751).
	{netip.MustParsePrefix("192.88.99.0/24"), ClassTunnel, "Deprecated (6to4 Relay Anycast), RFC 7526"},
	{netip.MustParsePrefix("192.168.0.0/16"), ClassPrivate, "Private-Use, RFC 1918"},
	{netip.MustParsePrefix("192.175.48.0/24"), ClassInfra, "Direct Delegation AS112 Service, RFC 7534"},
	{netip.MustParsePrefix("198.18.0.0/15"), ClassBenchmarking, "Benchmarking, RFC 2544"},
	{netip.MustParsePrefix("198.51.100.0/24"), ClassDocumentation, "Documentation (TEST-NET-2), RFC 5737"},
	{netip.MustParsePrefix("203.0.113.0/24"), ClassDocumentation, "Documentation (TEST-NET-3), RFC 5737"},
	{netip.MustParsePrefix("224.0.0.0/4"), ClassMulticast, "Multicast, RFC 5771"},
	{netip.MustParsePrefix("240.0.0.0/4"), ClassReserved, "Reserved, RFC 1112"},
	{netip.MustParsePrefix("255.255.255.255/32"), ClassBroadcast, "Limited Broadcast, RFC 8190"},
}

// refusedRanges6 holds the IANA IPv6 Special-Purpose Address Registry
// (https://www.iana.org/assignments/iana-ipv6-special-registry, as of
// 2025-10-09), multicast, and deprecated forms that hosts may still act on.
// Three kinds of address are not here: IPv4-mapped ones, which are judged as
// the IPv4 address that the system would dial; those of the well-known NAT64
// prefix, which are the only way to IPv4 from some networks and are judged by
// the IPv4 address they carry; and what lies outside 2000::/3, which is refused
// with or without a row.
var refusedRanges6 = []addressRange{
	{netip.MustParsePrefix("::/128"), ClassUnspecified, "Unspecified Address, RFC 4291"},
	{netip.MustParsePrefix("::1/128"), ClassLoopback, "Loopback Address, RFC 4291"},
	{netip.MustParsePrefix("::/96"), ClassTunnel, "IPv4-compatible (deprecated), RFC 4291"},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), ClassTunnel, "IPv4-translated (SIIT), RFC 2765"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), ClassTunnel, "IPv4-IPv6 Translation, local use, RFC 8215"},
	{netip.MustParsePrefix("100::/64"), ClassDiscard, "Discard-Only Address Block, RFC 6666"},
	{netip.MustParsePrefix("100:0:0:1::/64"), ClassDocumentation, "Dummy IPv6 Prefix, RFC 9780"},
	{netip.MustParsePrefix("2001::/32"), ClassTunnel, "TEREDO, RFC 4380"},
	// Holds PCP, TURN and DNS-SD anycast 2001:1::1 to ::3, AMT 2001:3::/32, AS112
	// 2001:4:112::/48, ORCHID 2001:10::/28 and 2001:20::/28, drone tags 2001:30::/28.
	{netip.MustParsePrefix("2001::/23"), ClassProtocol, "IETF Protocol Assignments, RFC 2928"},
	{netip.MustParsePrefix("2001:2::/48"), ClassBenchmarking, "Benchmarking, RFC 5180"},
	{netip.MustParsePrefix("2001:db8::/32"), ClassDocumentation, "Documentation, RFC 3849"},
	{netip.MustParsePrefix("2002::/16"), ClassTunnel, "6to4, RFC 3056"},
	{netip.MustParsePrefix("2620:4f:8000::/48"), ClassInfra, "Direct Delegation AS112 Service, RFC 7534"},
	{netip.MustParsePrefix("3fff::/20"), ClassDocumentation, "Documentation, RFC 9637"},
	{netip.MustParsePrefix("5f00::/16"), ClassReserved, "Segment Routing (SRv6) SIDs, RFC 9602"},
	{netip.MustParsePrefix("fc00::/7"), ClassPrivate, "Unique-Local, RFC 4193"},
	{netip.MustParsePrefix("fe80::/10"), ClassLinkLocal, "Link-Local Unicast, RFC 4291"},
	{netip.MustParsePrefix("fec0::/10"), ClassPrivate, "Site-Local Unicast (deprecated), RFC 3879"},
	{netip.MustParsePrefix("ff00::/8"), ClassMulticast, "Multicast, RFC 4291"},
}

var (
	globalUnicast6  = netip.MustParsePrefix("2000::/3")        // RFC 4291 §2.4, IANA IPv6 address space
	nat64WellKnown  = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052 §2.1
	ipv4Compatible  = netip.MustParsePrefix("::/96")           // RFC 4291 §2.5.5.1
	ipv4Translated  = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765 §2.1
	nat64LocalUse   = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	teredo          = netip.MustParsePrefix("2001::/32")       // RFC 4380 §2.6
	sixToFour       = netip.MustParsePrefix("2002::/16")       // RFC 3056 §2
	ipv4Mapped      = netip.MustParsePrefix("::ffff:0:0/96")   // RFC 4291 §2.5.5.2
	isatapInterface = [2]byte{0x5e, 0xfe}                      // RFC 5214 §6.1
)

// addressClass gives the class under which an address is refused, empty for a
// public one. An IPv4-mapped address is judged as its IPv4 address. A zone is
// not looked at.
func addressClass(addr netip.Addr) string {
	if !addr.IsValid() {
		return ClassNetwork
	}
	addr = addr.Unmap().WithZone("")
	class := rangeClass(addr)
	if class != "" && class != ClassTunnel {
		return class
	}
	for _, inner := range embeddedIPv4(addr) {
		if c := rangeClass(inner); c != "" {
			return c
		}
	}
	if class == "" && addr.Is6() && !globalUnicast6.Contains(addr) && !nat64WellKnown.Contains(addr) {
		return ClassReserved
	}
	return class
}

// rangeClass is the class of the longest row of the table that holds addr,
// empty when there is none.
func rangeClass(addr netip.Addr) string {
	ranges := refusedRanges6
	if addr.Is4() {
		ranges = refusedRanges4
	}
	class, bits := "", -1
	for _, r := range ranges {
		if r.prefix.Bits() > bits && r.prefix.Contains(addr) {
			class, bits = r.class, r.prefix.Bits()
		}
	}
	return class
}

// embeddedIPv4 gives every IPv4 address that an IPv6 address carries in one of
// the known forms: the address that a relay or translator on the way would
// send the packets on to.
func embeddedIPv4(addr netip.Addr) []netip.Addr {
	if !addr.Is6() {
		return nil
	}
	b := addr.As16()
	last := netip.AddrFrom4([4]byte(b[12:16]))
	var inner []netip.Addr
	switch {
	case ipv4Compatible.Contains(addr), ipv4Translated.Contains(addr),
		nat64WellKnown.Contains(addr), nat64LocalUse.Contains(addr):
		inner = append(inner, last)
	case teredo.Contains(addr):
		client := netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
		inner = append(inner, netip.AddrFrom4([4]byte(b[4:8])), client)
	case sixToFour.Contains(addr):
		inner = append(inner, netip.AddrFrom4([4]byte(b[2:6])))
	}
	// ISATAP: the interface identifier is 00-00-5E-FE or 02-00-5E-FE and the IPv4
	// address; the two low bits of its first octet say how unique it is.
	if b[8]&^0x03 == 0 && b[9] == 0 && [2]byte(b[10:12]) == isatapInterface {
		inner = append(inner, last)
	}
	return inner
}
