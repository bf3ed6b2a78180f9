package server

import (
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// gate lets connections in, as nats-server's CustomClientAuthentication: whoever signs the
// connection's nonce with a key that it knows gets that key's rights. NATS enforces them
// from then on; no message comes by here.
//
// Its own table instead of nats-server's list of users, because that changes only with a
// reload of all options, which looks at every connection and makes the accounts anew.
type gate struct {
	server *natsserver.Server // set before it starts

	mu    sync.RWMutex // guards users
	users map[string]*gateUser
}

// gateUser is what the owner of a key may do.
type gateUser struct {
	account     string                  // NATS account
	permissions *natsserver.Permissions // nil: everything there
	inProcess   bool                    // only over a connection made inside the process
	until       time.Time               // zero: for ever
}

// Check implements natsserver.Authentication. The lock is held until the connection has
// its rights: whoever takes a user away finds all connections that it ever let in.
func (g *gate) Check(c natsserver.ClientAuthentication) bool {
	opts := c.GetOpts()
	g.mu.RLock()
	defer g.mu.RUnlock()
	user := g.users[opts.Nkey]
	if user == nil || user.inProcess && !inProcess(c) || !user.until.IsZero() && !time.Now().Before(user.until) {
		return false
	}
	if !signed(opts.Nkey, opts.Sig, c.GetNonce()) {
		return false
	}
	account, err := g.server.LookupAccount(user.account)
	if err != nil {
		return false
	}
	// NATS itself closes the connection at the deadline.
	c.RegisterUser(&natsserver.User{Account: account, Permissions: user.permissions, ConnectionDeadline: user.until})
	return true
}

// inProcess says whether a connection is a pipe (natsserver.Server.InProcessConn): those of
// the network never are.
func inProcess(c natsserver.ClientAuthentication) bool {
	addr := c.RemoteAddress()
	return addr != nil && addr.Network() == "pipe"
}

// signed says whether sig, in base64, is public's signature of a nonce.
func signed(public, sig string, nonce []byte) bool {
	if len(nonce) == 0 {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil {
		// As nats-server: some clients use the other alphabet.
		if raw, err = base64.StdEncoding.DecodeString(sig); err != nil {
			return false
		}
	}
	key, err := nkeys.FromPublicKey(public)
	return err == nil && key.Verify(nonce, raw) == nil
}

// admit lets a credential in, from now on.
func (g *gate) admit(c *Credential) {
	user := &gateUser{account: natsAccountClients, permissions: c.permissions()}
	if c.ExpiresAt != 0 {
		user.until = c.ExpiresAt.Std()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users[c.PublicKey] = user
}

// known says whether a public key has rights already.
func (g *gate) known(public string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.users[public] != nil
}

// connectionsMax is more connections than a server can have: NATS lists pages otherwise.
const connectionsMax = 1 << 30

// expel lets a key in no more, and closes the connections that were made with it. Their
// number is how many that were.
func (g *gate) expel(public string) (int, error) {
	g.mu.Lock()
	delete(g.users, public)
	g.mu.Unlock()
	list, err := g.server.Connz(&natsserver.ConnzOptions{User: public, Username: true, Limit: connectionsMax})
	if err != nil {
		return 0, fmt.Errorf("find the connections of %s: %w", public, err)
	}
	for _, conn := range list.Conns {
		// An error says that it ended by itself.
		_ = g.server.DisconnectClientByID(conn.Cid)
	}
	return len(list.Conns), nil
}
