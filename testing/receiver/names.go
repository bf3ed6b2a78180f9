package receiver

import (
	"context"
	"net"
	"net/netip"
	"sync"
)

// Names is a resolver whose answers change, for a client that is to be led somewhere
// else. The zero value knows no name. It is safe for concurrent use.
type Names struct {
	mu      sync.Mutex // guards what follows
	answers map[string][][]netip.Addr
	lookups map[string]int
}

// Answer gives a name one more answer, of some addresses. Each lookup takes the next
// answer; the last one stays. It panics if an address is none.
func (n *Names) Answer(name string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.answers == nil {
		n.answers, n.lookups = map[string][][]netip.Addr{}, map[string]int{}
	}
	answer := make([]netip.Addr, len(addresses))
	for i, address := range addresses {
		answer[i] = netip.MustParseAddr(address)
	}
	n.answers[name] = append(n.answers[name], answer)
}

// Lookups is how often a name was looked up.
func (n *Names) Lookups(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lookups[name]
}

// Lookup has the signature of net.Resolver.LookupNetIP.
func (n *Names) Lookup(_ context.Context, _, name string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	answers := n.answers[name]
	if len(answers) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	i := min(n.lookups[name], len(answers)-1)
	n.lookups[name]++
	return answers[i], nil
}
