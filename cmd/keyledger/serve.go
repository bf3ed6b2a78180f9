package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/server"
)

// envSealKey gives the seal key instead of the file; no flag does, because command lines
// can be read by others.
const envSealKey = "KEYLEDGER_SEAL_KEY"

// envCheckpointKey gives the key that signs checkpoints, likewise.
const envCheckpointKey = "KEYLEDGER_CHECKPOINT_KEY"

func serveCommand(a *app) *cobra.Command {
	cfg := server.Config{KeyExpiring: ledger.DefaultNotices}
	c := a.verb(&cobra.Command{
		Use:   "serve",
		Short: "Run the server, with NATS inside",
		Long: `Run the server, with NATS inside, on a data directory of its own. When it serves, it
prints one line on standard output: keyledger ready nats://…; all else goes to standard
error. The first interrupt or SIGTERM stops it in order, the second at once.

The data directory holds the log, the operator's credential operator.nk, the key that seals
webhook secrets, seal.key, and the key that signs checkpoints, checkpoint.key; keep the
three secret and backed up. ` + envSealKey + ` and ` + envCheckpointKey + `, 32 bytes
in hexadecimal or base64, stand in for the two keys.

When the log reaches --log-max-bytes, or the volume is nearly full, commands are refused
with storage_full and all else goes on; a higher limit, or free space, lets them in again.
When the disk fails the server stops with exit code 74. Nothing acknowledged is lost, and
a service manager should not restart it (systemd: RestartPreventExitStatus=74).

` + exitCodes,
		Example: `  keyledger serve
  keyledger serve --data-dir /var/lib/keyledger --listen 127.0.0.1:4223 --http off`,
		Args: arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		if cfg.SnapshotEvery < 1 || cfg.SnapshotPause <= 0 {
			return usagef("--snapshot-every and --snapshot-pause must be more than 0")
		}
		if err := cfg.CheckWebhooks(); err != nil {
			return usagef("--webhook-consent %s, --webhook-origin %s: %v", cfg.WebhookConsent, cfg.WebhookOrigin, err)
		}
		cfg.SealKey, cfg.CheckpointKey = os.Getenv(envSealKey), os.Getenv(envCheckpointKey)
		cfg.Logger = slog.New(slog.NewTextHandler(a.errOut, nil))
		return a.serve(cmd.Context(), cfg)
	})
	flags := c.Flags()
	flags.StringVar(&cfg.DataDir, "data-dir", defaultDataDir, "`DIR` that holds everything")
	flags.StringVar(&cfg.Listen, "listen", "127.0.0.1:4222", "`HOST:PORT` for NATS clients; port 0 takes a free one")
	flags.Var((*byteSize)(&cfg.LogBytesMax), "log-max-bytes", "`SIZE` the log may have, such as 500GiB")
	flags.StringVar(&cfg.HTTP, "http", "127.0.0.1:8222", "`HOST:PORT` for /healthz and /metrics, or off")
	cfg.ReceiptMemory = receiptMemory(totalMemory())
	flags.Var((*byteSize)(&cfg.ReceiptMemory), "receipt-memory", "`SIZE` of the memory for command ids: the more, the longer a retry is recognised under load")
	flags.IntVar(&cfg.SnapshotEvery, "snapshot-every", 200_000, "commits and events, in all, between two snapshots of the state, and of the views")
	flags.DurationVar(&cfg.SnapshotPause, "snapshot-pause", time.Minute, "`DURATION` between two snapshots at least")
	flags.Var((*notices)(&cfg.KeyExpiring), "key-expiring", "`DURATIONS`: so long before a key's expiry key.expiring tells of it; none for never")
	flags.BoolVar(&cfg.Insecure, "insecure", false, "allow --listen and --http beyond this machine, unencrypted")
	flags.BoolVar(&cfg.UnsafeLazySync, "unsafe-lazy-sync", false, "answer before it is on the disk: a power cut loses acknowledged commands")
	flags.BoolVar(&cfg.AllowHTTPEndpoints, "allow-http-endpoints", false, "allow webhook endpoints with http:// URLs")
	flags.Var((*prefixes)(&cfg.AllowEndpointNets), "allow-endpoint-net", "`CIDR`: webhook endpoints may be there though it is not public; repeatable")
	flags.StringVar(&cfg.WebhookConsent, "webhook-consent", "prefer", "`POLICY` for webhook receivers that do not say that they take deliveries: require refuses them, prefer marks them, off asks nobody")
	flags.StringVar(&cfg.WebhookOrigin, "webhook-origin", "keyledger", "`NAME` that webhook receivers are asked to allow, such as hooks.example.com")
	completeWith(c, "webhook-consent", []string{"require", "prefer", "off"})
	withEnvironment(flags, "data-dir", "log-max-bytes", "receipt-memory", "snapshot-every", "snapshot-pause", "key-expiring", "listen", "http", "insecure", "unsafe-lazy-sync", "allow-http-endpoints", "allow-endpoint-net", "webhook-consent", "webhook-origin")
	withDefault(flags, "receipt-memory", "an eighth of the machine's memory")
	withDefault(flags, "log-max-bytes", "44 % of the volume, or what it was")
	return c
}

// serve runs a server until ctx ends.
func (a *app) serve(ctx context.Context, cfg server.Config) error {
	tuneRuntime()
	s, err := server.Open(cfg)
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Run(ctx) }()
	select {
	case <-s.Ready():
		a.announce(s)
		err = <-stopped
	case err = <-stopped:
	}
	return errors.Join(err, s.Close())
}

// announce says that the server serves, and what to do next.
func (a *app) announce(s *server.Server) {
	fmt.Fprintf(a.out, "keyledger ready %s\n", s.URL())
	if url := s.HTTPURL(); url != "" {
		fmt.Fprintf(a.errOut, "health: %s/healthz, metrics: %s/metrics\n", url, url)
	}
	next := "keyledger account open acme --creds " + shortPath(s.OperatorKeyPath())
	if s.URL() != defaultServer {
		next += " --server " + s.URL()
	}
	fmt.Fprintf(a.errOut, "next:   %s\n", next)
}

// shortPath is a path from here, where that is shorter than the whole one.
func shortPath(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	relative, err := filepath.Rel(here, path)
	if err != nil || len(relative) > len(path) {
		return path
	}
	return relative
}

// prefixes is a flag with address ranges: repeated, or separated by commas.
type prefixes []netip.Prefix

// Set implements pflag.Value.
func (p *prefixes) Set(text string) error {
	for _, one := range strings.Split(text, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(one))
		if err != nil {
			return fmt.Errorf("%q is not a CIDR such as 10.1.0.0/16", one)
		}
		*p = append(*p, prefix)
	}
	return nil
}

// String implements pflag.Value.
func (p *prefixes) String() string {
	texts := make([]string, len(*p))
	for i, prefix := range *p {
		texts[i] = prefix.String()
	}
	return strings.Join(texts, ",")
}

// Type implements pflag.Value.
func (p *prefixes) Type() string { return "CIDR" }

// notices is a flag with durations before a key's expiry, separated by commas. None, as
// an empty text, is no notice at all.
type notices []time.Duration

// Set implements pflag.Value.
func (n *notices) Set(text string) error {
	list := []time.Duration{}
	if text != "" && text != "none" {
		for one := range strings.SplitSeq(text, ",") {
			d, err := time.ParseDuration(strings.TrimSpace(one))
			if err != nil {
				return fmt.Errorf("%q is not a duration such as 168h", one)
			}
			list = append(list, d)
		}
	}
	*n = list
	return ledger.CheckNotices(list)
}

// String implements pflag.Value.
func (n *notices) String() string {
	if len(*n) == 0 {
		return "none"
	}
	texts := make([]string, len(*n))
	for i, d := range *n {
		texts[i] = d.String()
		for _, zero := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(texts[i], zero) {
				texts[i] = strings.TrimSuffix(texts[i], zero[1:])
			}
		}
	}
	return strings.Join(texts, ",")
}

// Type implements pflag.Value.
func (n *notices) Type() string { return "DURATIONS" }
