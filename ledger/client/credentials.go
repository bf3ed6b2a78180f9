package client

import (
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events/store"
)

// Credentials are the options of a connection with an nkey seed in a file: who it is, and
// the inbox that its answers come to (store.InboxToken). They suit the operator, too.
func Credentials(seedFile string) ([]nats.Option, error) {
	identity, err := nats.NkeyOptionFromSeed(seedFile)
	if err != nil {
		return nil, err
	}
	var opts nats.Options
	if err := identity(&opts); err != nil {
		return nil, err
	}
	token, err := store.InboxToken(opts.SignatureCB)
	if err != nil {
		return nil, err
	}
	return []nats.Option{identity, nats.CustomInboxPrefix(store.InboxRoot + token)}, nil
}
