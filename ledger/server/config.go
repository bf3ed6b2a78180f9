package server

import (
	"log/slog"
	"net/netip"
	"time"
)

// Version is this program's version.
const Version = "0.1.0"

// Config says how a Server runs. Its comments are the manual of keyledger serve. The
// zero value of a member means its default.
type Config struct {
	// DataDir holds everything: the log and its derived streams under nats/, the
	// operator's credential operator.nk, the seal key seal.key, the head witness. One
	// keyledger at a time. Default ./data.
	DataDir string

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

	// RetrySchedule is the pauses between the attempts of one webhook delivery, the first
	// being before the first attempt. Default as in the webhook contract, 10 attempts over
	// about 75 hours.
	RetrySchedule []time.Duration

	// SealKey is the seal key in hexadecimal or base64, 32 bytes. Empty: the file seal.key.
	SealKey string

	// SnapshotEvery is how many commits and events (their sum) the log goes on after a
	// snapshot of the state before the next one is made; no fewer than there are accounts.
	// Default 200,000.
	SnapshotEvery int

	// SnapshotPause is the least time between two snapshots. Default 1 minute.
	SnapshotPause time.Duration

	// Logger gets what operators should know. Default: none.
	Logger *slog.Logger
}

const (
	defaultDataDir = "./data"
	defaultListen  = "127.0.0.1:4222"
	defaultHTTP    = "127.0.0.1:8222"
	httpOff        = "off"
)

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
	return c
}
