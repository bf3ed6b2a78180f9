package webhooks

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// newGuard makes a guard for a host without any address of its own.
func newGuard(t *testing.T, allow ...string) *Guard {
	t.Helper()
	prefixes := make([]netip.Prefix, len(allow))
	for i, a := range allow {
		prefixes[i] = netip.MustParsePrefix(a)
	}
	g, err := NewGuard(prefixes)
	if err != nil {
		t.Fatal(err)
	}
	g.interfaces = func() ([]netip.Addr, error) { return nil, nil }
	return g
}

// answers is a resolver that knows one answer for every name.
func answers(addrs ...string) LookupFunc {
	return func(context.Context, string, string) ([]netip.Addr, error) {
		found := make([]netip.Addr, len(addrs))
		for i, a := range addrs {
			found[i] = netip.MustParseAddr(a)
		}
		return found, nil
	}
}

// wantClass fails unless err is a refusal of the class; "" stands for no error.
func wantClass(t *testing.T, what string, err error, class string) {
	t.Helper()
	var refused *RefusedError
	switch {
	case class == "" && err != nil:
		t.Errorf("%s: %v, want it to pass", what, err)
	case class != "" && !errors.As(err, &refused):
		t.Errorf("%s: error %v, want a refusal (%s)", what, err, class)
	case class != "" && refused.Class != class:
		t.Errorf("%s: refused as %q, want %q", what, refused.Class, class)
	case class != "" && refused.Error() != "address refused: "+class:
		t.Errorf("%s: text %q says more than the class", what, refused.Error())
	}
}

// listener accepts on loopback and counts; it closes what it accepts.
func listener(t *testing.T) (port uint16, accepted *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	accepted = new(atomic.Int32)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			conn.Close()
		}
	}()
	return uint16(l.Addr().(*net.TCPAddr).Port), accepted
}

func TestControl(t *testing.T) {
	g := newGuard(t, "10.1.0.0/16")
	g.interfaces = func() ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("8.8.4.4"), netip.MustParseAddr("10.1.0.9")}, nil
	}
	for _, tt := range []struct{ network, address, class string }{
		{"tcp4", "1.1.1.1:443", ""},
		{"tcp", "1.1.1.1:80", ""},
		{"tcp6", "[2606:4700:4700::1111]:65535", ""},
		{"tcp4", "1.1.1.1:1024", ""},
		{"tcp4", "1.1.1.1:1023", ClassPort},
		{"tcp4", "1.1.1.1:22", ClassPort},
		{"tcp4", "1.1.1.1:0", ClassPort},
		{"tcp4", "10.1.0.1:22", ClassPort},
		{"tcp4", "127.0.0.1:443", ClassLoopback},
		{"tcp4", "10.1.255.255:443", ""},
		{"tcp4", "10.2.0.0:443", ClassPrivate},
		{"tcp6", "[::ffff:10.1.0.1]:443", ""},
		{"tcp6", "[64:ff9b::a01:1]:443", ClassPrivate}, // allowed is only the address itself
		{"tcp6", "[2606:4700::1%eth0]:443", ClassZone},
		{"tcp6", "[fe80::1%eth0]:443", ClassLinkLocal},
		{"tcp4", "8.8.4.4:443", ClassOwnHost},
		{"tcp6", "[::ffff:8.8.4.4]:443", ClassOwnHost},
		{"tcp6", "[64:ff9b::808:404]:443", ClassOwnHost},
		{"tcp4", "10.1.0.9:443", ""}, // own, but the operator allows it
		{"udp4", "1.1.1.1:443", ClassNetwork},
		{"unix", "/run/docker.sock", ClassNetwork},
		{"tcp4", "receiver.example:443", ClassNetwork},
		{"tcp4", "", ClassNetwork},
	} {
		err := g.Control(t.Context(), tt.network, tt.address, nil)
		wantClass(t, tt.network+" "+tt.address, err, tt.class)
	}
}

func TestControlInADialer(t *testing.T) {
	port, accepted := listener(t)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
	for allow, class := range map[string]string{"10.0.0.0/8": ClassLoopback, "127.0.0.0/8": ""} {
		dialer := net.Dialer{ControlContext: newGuard(t, allow).Control}
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		wantClass(t, "with "+allow+" allowed", err, class)
		if err == nil {
			conn.Close()
		}
	}
	if n := accepted.Load(); n > 1 {
		t.Errorf("%d connections, want at most the allowed one", n)
	}
}

func TestOwnAddressesUnreadable(t *testing.T) {
	g := newGuard(t)
	g.interfaces = func() ([]netip.Addr, error) { return nil, errors.New("no netlink") }
	wantClass(t, "public", g.Control(t.Context(), "tcp4", "1.1.1.1:443", nil), ClassUnknownHost)
}

func TestOwnAddressesAreRead(t *testing.T) {
	own, err := hostAddresses()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range own {
		if addr == netip.MustParseAddr("127.0.0.1") {
			return
		}
	}
	t.Errorf("127.0.0.1 is not among this host's addresses: %v", own)
}

func TestDialRefusesANameWithAnyRefusedAnswer(t *testing.T) {
	for _, tt := range []struct {
		answers []string
		class   string
	}{
		{[]string{"127.0.0.1"}, ""},
		{[]string{"::ffff:127.0.0.1"}, ""},
		{[]string{"127.0.0.1", "10.0.0.1"}, ClassPrivate},
		{[]string{"10.0.0.1", "127.0.0.1"}, ClassPrivate},
		{[]string{"127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "::ffff:169.254.169.254"}, ClassLinkLocal},
		{[]string{"127.0.0.1", "8.8.4.4"}, ClassOwnHost},
		{[]string{"127.0.0.1", "fe80::1%eth0"}, ClassLinkLocal},
	} {
		port, accepted := listener(t)
		g := newGuard(t, "127.0.0.0/8")
		g.Lookup = answers(tt.answers...)
		g.interfaces = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("8.8.4.4")}, nil }
		conn, err := g.DialContext(t.Context(), "tcp", net.JoinHostPort("receiver.test", strconv.Itoa(int(port))))
		what := "answers " + tt.answers[len(tt.answers)-1] + " and others"
		wantClass(t, what, err, tt.class)
		if err == nil {
			conn.Close()
		} else if accepted.Load() != 0 {
			t.Errorf("%s: refused and dialled nevertheless", what)
		}
	}
}

// The address becomes this host's own between the check of the answers and the
// dial. Only Control can see that. No packet is sent: Control comes first.
func TestDialHasASecondLine(t *testing.T) {
	g := newGuard(t)
	calls := 0
	g.interfaces = func() ([]netip.Addr, error) {
		if calls++; calls == 1 {
			return nil, nil
		}
		return []netip.Addr{netip.MustParseAddr("1.1.1.1")}, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := g.DialContext(ctx, "tcp", "1.1.1.1:443")
	wantClass(t, "own since the check", err, ClassOwnHost)
}

func TestDialTargets(t *testing.T) {
	g := newGuard(t)
	lookups := 0
	g.Lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		lookups++
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	for address, class := range map[string]string{
		"127.0.0.1:443": ClassLoopback, "[::1]:443": ClassLoopback, "[fe80::1%lo]:443": ClassLinkLocal,
		"receiver.test:22": ClassPort, "receiver.test:65536": ClassPort, "receiver.test:https": ClassPort, "receiver.test": ClassNetwork,
	} {
		_, err := g.DialContext(t.Context(), "tcp", address)
		wantClass(t, address, err, class)
	}
	if lookups != 0 {
		t.Errorf("%d lookups for addresses and bad ports", lookups)
	}
	var dns *net.DNSError
	if _, err := g.DialContext(t.Context(), "tcp", "receiver.test:443"); !errors.As(err, &dns) || lookups != 1 {
		t.Errorf("error %v after %d lookups, want the resolver's", err, lookups)
	}
	g.Lookup = answers()
	if _, err := g.DialContext(t.Context(), "tcp", "receiver.test:443"); !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("no answers: error %v, want no such host", err)
	}
}

func TestDialTriesTheNextAddress(t *testing.T) {
	port, _ := listener(t) // on 127.0.0.1 alone
	address := net.JoinHostPort("receiver.test", strconv.Itoa(int(port)))
	g := newGuard(t, "127.0.0.0/8")
	g.Lookup = answers("127.0.0.2", "127.0.0.3", "127.0.0.1")
	conn, err := g.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()

	g.Lookup = answers("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7", "127.0.0.8", "127.0.0.9", "127.0.0.1")
	if conn, err := g.DialContext(t.Context(), "tcp", address); err == nil {
		conn.Close()
		t.Errorf("dialled the address after the first %d", MaxDialledAddresses)
	}
}

func TestDialShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			within time.Duration
			left   int
			want   time.Duration
		}{
			{15 * time.Second, 3, 5 * time.Second},
			{15 * time.Second, 1, 15 * time.Second},
			{15 * time.Second, 8, MinDialShare},
			{time.Second, 2, time.Second}, // never beyond the whole
		} {
			ctx, cancel := context.WithTimeout(t.Context(), tt.within)
			share, cancelShare := dialShare(ctx, tt.left)
			deadline, _ := share.Deadline()
			if got := time.Until(deadline); got != tt.want {
				t.Errorf("%s for %d addresses: the first gets %s, want %s", tt.within, tt.left, got, tt.want)
			}
			cancelShare()
			cancel()
		}
	})
}

func TestNewGuardPrefixes(t *testing.T) {
	if _, err := NewGuard([]netip.Prefix{{}}); err == nil {
		t.Error("the invalid prefix is accepted")
	}
	if _, err := NewGuard([]netip.Prefix{netip.MustParsePrefix("::ffff:0.0.0.0/90")}); err == nil {
		t.Error("a mapped prefix that holds more than IPv4 is accepted")
	}
	for _, allow := range []string{"10.1.2.3/16", "::ffff:10.1.0.0/112"} { // host bits, mapped form
		g := newGuard(t, allow)
		wantClass(t, allow, g.checkAddr(netip.MustParseAddr("10.1.255.255")), "")
		wantClass(t, allow, g.checkAddr(netip.MustParseAddr("10.2.0.0")), ClassPrivate)
	}
	g := newGuard(t, "fd00::/8", "fe80::/10")
	wantClass(t, "allowed ULA", g.checkAddr(netip.MustParseAddr("fd00::1")), "")
	wantClass(t, "ULA not allowed", g.checkAddr(netip.MustParseAddr("fc00::1")), ClassPrivate)
	wantClass(t, "a zone is never allowed", g.checkAddr(netip.MustParseAddr("fe80::1%lo")), ClassLinkLocal)
}
