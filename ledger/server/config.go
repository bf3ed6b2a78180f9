package server

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/webhooks"
)

// Version is this program's version.
const Version = "0.1.0"

// Config says how a Server runs. Its comments are the manual of keyledger serve. The
// zero value of a member means its default.
type Config struct {
	// DataDir holds everything: the log and its derived streams under nats/, the
	// operator's credential operator.nk, the other ones credentials.json, the seal key
	// seal.key, the key that signs checkpoints checkpoint.key, the ledger's id ledger.id, the
	// head witness, checkpoints of the views under views/. One keyledger at a time. Default
	// ./data.
	DataDir string

	// LogBytesMax is the byte limit of the log. Near it commands are refused with
	// storage_full; a higher one at the next start lets them in again. The derived streams
	// share what is left of 80 % of the volume. 0: the limit it has, or 44 % of the volume
	// if that is more.
	LogBytesMax int64

	// Listen is where NATS clients connect, host:port. Port 0 takes a free one. Default
	// 127.0.0.1:4222.
	Listen string

	// HTTP is where GET /healthz and GET /metrics answer, host:port. "off" for none.
	// Default 127.0.0.1:8222.
	HTTP string

	// Insecure allows Listen and HTTP beyond loopback, unencrypted.
	Insecure bool

	// UnsafeLazySync answers commands before they are on the disk. A power cut then loses
	// acknowledged commands. For experiments.
	UnsafeLazySync bool

	// AllowHTTPEndpoints allows webhook endpoints with http:// URLs.
	AllowHTTPEndpoints bool

	// AllowEndpointNets are address ranges that webhook endpoints may have although they
	// are not public, such as 10.1.0.0/16.
	AllowEndpointNets []netip.Prefix

	// WebhookConsent is what becomes of receivers that do not say that they take deliveries,
	// when one is registered or given another URL (CloudEvents HTTP 1.1 Web Hooks, §4):
	// "require": they are refused; "prefer": they are marked unconfirmed; "off": nobody is
	// asked. Default prefer.
	WebhookConsent string

	// WebhookOrigin is the name that receivers are asked to allow and that stands in every
	// delivery: a DNS name, which need not resolve. Default "keyledger".
	WebhookOrigin string

	// RetrySchedule is the pauses between the attempts of one webhook delivery, the first
	// being before the first attempt. Default as in the webhook contract, 10 attempts over
	// about 75 hours.
	RetrySchedule []time.Duration

	// SealKey is the seal key in hexadecimal or base64, 32 bytes. Empty: the file seal.key.
	SealKey string

	// CheckpointKey is the key that signs checkpoints, in hexadecimal or base64, 32 bytes.
	// Empty: the file checkpoint.key, which the first start makes.
	CheckpointKey string

	// KeyExpiring is how long before a key's expiry the event key.expiring tells of it: at
	// most 5 durations from 1ms to 8760h. Nil: 168h and 24h; empty: never.
	KeyExpiring []time.Duration

	// SnapshotEvery is how many commits and events (their sum) the log goes on after a
	// snapshot of the state before the next one is made; no fewer than there are accounts.
	// Checkpoints of the views are made likewise, and the directory of webhooks is saved.
	// Default 200,000.
	SnapshotEvery int

	// SnapshotPause is the least time between two snapshots, and between two checkpoints.
	// Default 1 minute.
	SnapshotPause time.Duration

	// ReceiptMemory is how many bytes the receipts of command ids may take, of
	// writer.ReceiptBytes each. Where it is used up, the accounts that hold the most are
	// remembered for less than 24 hours, and below 5 minutes their commands with ids are
	// refused: 100,000 a second for 5 minutes take 1.8 GB. Default 512 MiB.
	ReceiptMemory int64

	// Projections are the embedder's own, beside the views: see package projections. Open
	// refuses a name or a query verb that is taken.
	Projections []projections.Registration

	// Clock is the wall clock. Default time.Now; a test can set it.
	Clock func() time.Time

	// Logger gets what operators should know. Default: none.
	Logger *slog.Logger

	// WrapLog returns what shall stand between the writer and its log. For tests of a bad
	// line. Default: nothing.
	WrapLog func(store.Log) store.Log
}

const (
	defaultDataDir = "./data"
	defaultListen  = "127.0.0.1:4222"
	defaultHTTP    = "127.0.0.1:8222"
	httpOff        = "off"
)

// CheckWebhooks says what is wrong with WebhookConsent or WebhookOrigin.
func (c Config) CheckWebhooks() error {
	if _, err := webhooks.ParseConsentPolicy(c.WebhookConsent); err != nil {
		return fmt.Errorf("consent %w", err)
	}
	if c.WebhookOrigin == "" {
		return nil
	}
	return webhooks.CheckOrigin(c.WebhookOrigin)
}

func (c Config) withDefaults() Config {
	if c.DataDir == "" {
		c.DataDir = defaultDataDir
	}
	if c.Listen == "" {
		c.Listen = defaultListen
	}
	if c.HTTP == "" {
		c.HTTP = defaultHTTP
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.WrapLog == nil {
		c.WrapLog = func(log store.Log) store.Log { return log }
	}
	return c
}
