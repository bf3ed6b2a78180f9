package store

import (
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// Names in the metadata of a log's stream: stored, for ever.
const (
	metaLedger     = "keyledger.ledger"
	metaPartitions = "keyledger.partitions"
	metaSealKey    = "keyledger.seal_key"
)

// Identity says whose log a stream holds. It stands in the stream's metadata and is the
// same for as long as the log lives.
type Identity struct {
	Ledger     string // a ULID, made once
	Partitions int    // among which accounts are divided
	SealKey    string // id of the key that sealed what is sealed in it
}

// IdentityOf reads the identity of a log's stream, false for a log from before there were
// any.
func IdentityOf(c jetstream.StreamConfig) (Identity, bool) {
	partitions, err := strconv.Atoi(c.Metadata[metaPartitions])
	i := Identity{Ledger: c.Metadata[metaLedger], Partitions: partitions, SealKey: c.Metadata[metaSealKey]}
	return i, err == nil && i.Ledger != ""
}

// Put writes the identity into a stream's configuration.
func (i Identity) Put(c *jetstream.StreamConfig) {
	metadata := map[string]string{metaLedger: i.Ledger, metaPartitions: strconv.Itoa(i.Partitions), metaSealKey: i.SealKey}
	for name, value := range c.Metadata { // NATS keeps its own there
		if _, ours := metadata[name]; !ours {
			metadata[name] = value
		}
	}
	c.Metadata = metadata
}

// Check returns an error unless a log with identity i belongs to a keyledger that is own.
// An empty own.Ledger fits all.
func (i Identity) Check(own Identity) error {
	switch {
	case own.Ledger != "" && i.Ledger != own.Ledger:
		return fmt.Errorf("the log is that of ledger %s, and this is the data directory of ledger %s: put it back where it belongs, and restore this ledger's own here", i.Ledger, own.Ledger)
	case i.Partitions != own.Partitions:
		return fmt.Errorf("the log was made for %d partitions, and this keyledger has %d: accounts would be looked for in the wrong one; run the keyledger that made it", i.Partitions, own.Partitions)
	case i.SealKey != own.SealKey:
		return fmt.Errorf("the log was sealed with key %s, and the seal key given has the id %s: restore seal.key, or KEYLEDGER_SEAL_KEY, from its backup; with another one no webhook secret in the log can be opened", i.SealKey, own.SealKey)
	}
	return nil
}
