package server

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// splitListen is host and port of a listen address, the port as nats-server wants it.
func splitListen(listen string) (string, int, error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: want host:port: %w", listen, err)
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < natsserver.RANDOM_PORT || port > 65535 {
		return "", 0, fmt.Errorf("listen address %q: want a port from 1 to 65535, or 0 for any free one", listen)
	}
	if port == 0 {
		port = natsserver.RANDOM_PORT // to nats-server, 0 is its default, 4222
	}
	return host, port, nil
}

// checkHost refuses, before anything is opened, a host that is not certain to be this
// machine only.
func checkHost(host string, insecure bool) error {
	if insecure || host == "localhost" {
		return nil // what localhost really was, checkListener sees
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return nil
	}
	return beyondLoopback(host)
}

// checkListener refuses a listener that is in fact reachable from elsewhere.
func checkListener(addr net.Addr, insecure bool) error {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("listen: no TCP address, but %v", addr)
	}
	if insecure || tcp.IP.IsLoopback() {
		return nil
	}
	return beyondLoopback(tcp.IP.String())
}

func beyondLoopback(host string) error {
	if host == "" {
		host = "all interfaces"
	}
	return fmt.Errorf("listen on %s: it can be reached from other machines, and the connection is not encrypted: commands, with secrets in them, could be read on the way; "+
		"listen on 127.0.0.1, or accept the risk with --insecure", host)
}
