package server

import (
	"crypto/tls"
	"encoding/base64"
	"net"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/keyledger/keyledger/events"
)

// knock is a connection that asks to be let in.
type knock struct {
	opts       natsserver.ClientOpts
	nonce      string
	registered func(*natsserver.User)
}

func (k *knock) GetOpts() *natsserver.ClientOpts             { return &k.opts }
func (k *knock) GetTLSConnectionState() *tls.ConnectionState { return nil }
func (k *knock) RegisterUser(u *natsserver.User)             { k.registered(u) }
func (k *knock) RemoteAddress() net.Addr                     { return &net.TCPAddr{} }
func (k *knock) GetNonce() []byte                            { return []byte(k.nonce) }
func (k *knock) Kind() int                                   { return natsserver.CLIENT }
func (k *knock) GetID() uint64                               { return 1 }

// Whoever is let in has rights before the gate's lock is given up: a revocation either comes
// first, or finds the connection.
func TestGateHoldsItsLock(t *testing.T) {
	r := newRig(t, nil)
	gate := r.nats.ids.gate
	pair, public := newUser(t)
	now := time.Now()
	cred := &Credential{Name: "c", Role: RoleGateway, PublicKey: public, Inbox: "abcdefghijklmnopqrstuvwxyz", ExpiresAt: events.At(now.Add(time.Hour))}
	for name, row := range map[string]struct {
		nonce, signed string
		encoding      *base64.Encoding
		in            bool
	}{
		"signed":                    {"nonce", "nonce", base64.RawURLEncoding, true},
		"signed, another alphabet":  {"nonce", "nonce", base64.StdEncoding, true},
		"another nonce":             {"nonce", "another", base64.RawURLEncoding, false},
		"no nonce, as if by itself": {"", "", base64.RawURLEncoding, false},
	} {
		gate.admit(cred)
		signature, err := pair.Sign([]byte(row.signed))
		if err != nil {
			t.Fatal(err)
		}
		var user *natsserver.User
		k := &knock{nonce: row.nonce, opts: natsserver.ClientOpts{Nkey: public, Sig: row.encoding.EncodeToString(signature)}}
		k.registered = func(u *natsserver.User) {
			if user = u; gate.mu.TryLock() {
				gate.mu.Unlock()
				t.Errorf("%s: the lock is free while rights are given", name)
			}
		}
		if in := gate.Check(k); in != row.in || in != (user != nil) {
			t.Errorf("%s: let in is %v, %+v, want %v", name, in, user, row.in)
		}
		if user != nil && (user.Account.Name != natsAccountClients || user.Permissions == nil || !user.ConnectionDeadline.Equal(cred.ExpiresAt.Std())) {
			t.Errorf("%s: let in as %+v", name, user)
		}
		if _, err := gate.expel(public); err != nil {
			t.Fatal(err)
		}
		if user = nil; gate.Check(k) || user != nil {
			t.Errorf("%s: let in after it was shut out", name)
		}
	}
}
