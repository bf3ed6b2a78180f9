package server

import (
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nkeys"

	"github.com/keyledger/keyledger/events/store"
)

// Actors of commands, as entries of the log have them.
const (
	actorOperator = "operator"
	actorCustomer = "customer:" // and the credential's name
	// actorUnknown is the operator or a customer of the account.
	actorUnknown = "unknown"
)

// actors tells who gave a command that customers may give as well. NATS does not say who
// publishes, but an inbox is known to its owner alone: whoever wants the answer there is
// that. A command that wants none, or wants it elsewhere, may be a customer's that hides
// wherever the account has any.
//
// Nobody is taken out: a command may still be on its way when its giver is shut out.
type actors struct {
	operator string // its inbox's token

	mu        sync.RWMutex
	customers map[string]*Credential // by inbox
	accounts  map[string]bool        // that have or had a customer since the start
}

func newActors(operatorInbox string, list []*Credential) *actors {
	a := &actors{operator: operatorInbox, customers: make(map[string]*Credential), accounts: make(map[string]bool)}
	for _, c := range list {
		a.add(c)
	}
	return a
}

// add takes a credential in, before it can connect.
func (a *actors) add(c *Credential) {
	if c.Role != RoleCustomer {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.customers[c.Inbox], a.accounts[c.Account] = c, true
}

// of is who gave a command of an account, by its reply subject.
func (a *actors) of(account, reply string) string {
	inbox, _, _ := strings.Cut(strings.TrimPrefix(reply, store.InboxRoot), ".")
	a.mu.RLock()
	defer a.mu.RUnlock()
	switch c := a.customers[inbox]; {
	case !a.accounts[account], inbox == a.operator:
		return actorOperator
	case c != nil && c.Account == account:
		return actorCustomer + c.Name
	}
	return actorUnknown
}

// operatorInbox is the token of the operator's inbox, where the command line uses it.
func (d *dataDir) operatorInbox() (string, error) {
	text, err := readSecret(d.operatorKeyPath())
	if err != nil {
		return "", fmt.Errorf("read operator key: %w", err)
	}
	pair, err := nkeys.FromSeed([]byte(text))
	if err != nil {
		return "", fmt.Errorf("read operator key %s: %w", d.operatorKeyPath(), err)
	}
	defer pair.Wipe()
	return store.InboxToken(pair.Sign)
}
