package webhooks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

const (
	// MaxDialledAddresses is how many of a name's addresses one dial tries. All of
	// them are checked.
	MaxDialledAddresses = 8
	// MinDialShare is the least time one address gets before the next is tried, if
	// the deadline leaves as much.
	MinDialShare = 2 * time.Second
)

// RefusedError says that the guard refused a URL or an address, and why. It
// tells nothing else of the target, so that it can be shown to whoever chose
// the URL.
type RefusedError struct {
	// Class is one of the Class constants.
	Class string
}

// Error is "address refused: " and the class.
func (e *RefusedError) Error() string { return "address refused: " + e.Class }

func refuse(class string) error { return &RefusedError{Class: class} }

// LookupFunc resolves a name to all of its addresses; network is "ip". It is
// the signature of net.Resolver.LookupNetIP.
type LookupFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// Guard decides which addresses a delivery may go to: global unicast ones
// that are not this host's own, and those that the operator allows. It keeps
// no state between calls and is safe for concurrent use.
//
// What it cannot see: an IPv4 address inside a translation prefix that only
// the local network knows (RFC 6052 network-specific prefixes), and what a
// public address forwards to.
type Guard struct {
	// Lookup resolves names; nil stands for the system's resolver. Set it before
	// the first use.
	Lookup LookupFunc

	allow      []netip.Prefix               // masked, IPv4 never in its mapped form; not changed after NewGuard
	interfaces func() ([]netip.Addr, error) // this host's own addresses, read at every dial
}

// NewGuard makes a guard that also lets pass the addresses inside the allowed
// prefixes, whatever they are: private ones, loopback, this host's own. A prefix
// holds for the address itself, never for an IPv6 form that carries it, except
// the IPv4-mapped one. An invalid prefix is an error.
func NewGuard(allow []netip.Prefix) (*Guard, error) {
	g := &Guard{interfaces: hostAddresses}
	for _, p := range allow {
		if !p.IsValid() {
			return nil, errors.New("make guard: invalid prefix among the allowed")
		}
		if p.Addr().Is4In6() {
			if p.Bits() < ipv4Mapped.Bits() {
				return nil, fmt.Errorf("make guard: prefix %s holds more than IPv4", p)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-ipv4Mapped.Bits())
		}
		g.allow = append(g.allow, p.Masked())
	}
	return g, nil
}

// Control is for net.Dialer.ControlContext: it sees the address that is about
// to be connected to, after every resolution, and refuses it with a
// *RefusedError if the network is not TCP, or the port, or the address is not
// allowed.
func (g *Guard) Control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return refuse(ClassNetwork)
	}
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return refuse(ClassNetwork)
	}
	if !portAllowed(target.Port()) {
		return refuse(ClassPort)
	}
	return g.checkDialled([]netip.Addr{target.Addr()})
}

// DialContext is for http.Transport.DialContext. It resolves the host, refuses
// the whole name with a *RefusedError if any answer is refused, and then
// dials the answers one after the other by address, with Control as the second
// line. Of the time that ctx leaves, each address gets an equal share. The
// DNS hooks of a httptrace.ClientTrace in ctx are called.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, refuse(ClassNetwork)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || !portAllowed(uint16(port)) {
		return nil, refuse(ClassPort)
	}
	addrs, err := g.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	if err := g.checkDialled(addrs); err != nil {
		return nil, err
	}
	return g.dial(ctx, network, addrs[:min(len(addrs), MaxDialledAddresses)], uint16(port))
}

// resolve gives all addresses of host, at least one.
func (g *Guard) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	lookup := g.Lookup
	if lookup == nil {
		lookup = net.DefaultResolver.LookupNetIP
	}
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.DNSStart != nil {
		trace.DNSStart(httptrace.DNSStartInfo{Host: host})
	}
	addrs, err := lookup(ctx, "ip", host)
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	if trace != nil && trace.DNSDone != nil {
		trace.DNSDone(httptrace.DNSDoneInfo{Err: err})
	}
	if err != nil {
		return nil, err
	}
	return addrs, nil
}

// dial connects to the first of the addresses that answers; if none does, the
// error is the first one's.
func (g *Guard) dial(ctx context.Context, network string, addrs []netip.Addr, port uint16) (net.Conn, error) {
	dialer := net.Dialer{ControlContext: g.Control}
	var first error
	for i, addr := range addrs {
		share, cancel := dialShare(ctx, len(addrs)-i)
		conn, err := dialer.DialContext(share, network, netip.AddrPortFrom(addr, port).String())
		cancel()
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// dialShare cuts the deadline of ctx into equal parts for the addresses left.
func dialShare(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || left == 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, max(time.Until(deadline)/time.Duration(left), MinDialShare))
}

// checkDialled refuses if any of the addresses is refused, or is this host's own.
func (g *Guard) checkDialled(addrs []netip.Addr) error {
	var own []netip.Addr
	for _, addr := range addrs {
		if g.allowed(addr) {
			continue
		}
		if err := g.checkAddr(addr); err != nil {
			return err
		}
		if own == nil {
			var err error
			if own, err = g.interfaces(); err != nil {
				return refuse(ClassUnknownHost)
			}
		}
		if isOwn(own, addr) {
			return refuse(ClassOwnHost)
		}
	}
	return nil
}

// checkAddr judges an address by the table and the allowed prefixes alone.
func (g *Guard) checkAddr(addr netip.Addr) error {
	if g.allowed(addr) {
		return nil
	}
	if class := addressClass(addr); class != "" {
		return refuse(class)
	}
	if addr.Zone() != "" {
		return refuse(ClassZone)
	}
	return nil
}

// allowed is about an address without a zone: netip.Prefix holds no other.
func (g *Guard) allowed(addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, p := range g.allow {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// isOwn is true if addr, or an IPv4 address that it carries, is among own.
func isOwn(own []netip.Addr, addr netip.Addr) bool {
	forms := append(embeddedIPv4(addr), addr.Unmap())
	for _, o := range own {
		for _, form := range forms {
			if o == form {
				return true
			}
		}
	}
	return false
}

// hostAddresses reads the addresses of this host's interfaces, without zones.
func hostAddresses() ([]netip.Addr, error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("read own addresses: %w", err)
	}
	addrs := make([]netip.Addr, 0, len(found))
	for _, f := range found {
		prefix, err := netip.ParsePrefix(f.String())
		if err != nil {
			return nil, fmt.Errorf("read own addresses: %w", err)
		}
		addrs = append(addrs, prefix.Addr().Unmap())
	}
	return addrs, nil
}

// portAllowed is the port policy: 443, 80, and 1024 and above.
func portAllowed(port uint16) bool { return port == 443 || port == 80 || port >= 1024 }
