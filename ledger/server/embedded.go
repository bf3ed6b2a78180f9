package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/projections"
)

const (
	natsServerName = "keyledger"

	// payloadBytesMax bounds one NATS message. The largest of ours is an authorize
	// array, 512 KiB; a commit has at most 256 KiB.
	payloadBytesMax = 1 << 20
	// memoryStoreBytesMax bounds memory streams. keyledger has none; an operator
	// cannot make one.
	memoryStoreBytesMax = 64 << 20
	// volumePercentMax bounds what all streams may reserve, in percent of the size
	// of the volume their directory is on. NATS counts each stream's byte limit
	// against it when the stream is made. The rest is for snapshots of state, the
	// head file, and the operating system.
	volumePercentMax = 80

	connectTimeout = 5 * time.Second
	reconnectWait  = 50 * time.Millisecond
)

// natsOptions is what startNATS needs to know.
type natsOptions struct {
	// StoreDir is where the streams lie. The data directory's lock is held and its
	// files are synced: see openDataDir.
	StoreDir string
	// Listen is host:port. Port 0 (or -1) takes a free one.
	Listen string
	// Operator is the operator's public user nkey ("U…").
	Operator string
	// Credentials are who else may connect.
	Credentials []*Credential
	// Insecure allows to listen beyond loopback. The protocol is not encrypted, so
	// whoever is on the way can read commands with the secrets in them.
	Insecure bool
	// LazySync lets NATS answer before a write is on the disk, and fsync every 2
	// minutes: fast, and acknowledged commands are lost in a power cut.
	LazySync bool
	// Logger gets what NATS has to say: its errors and warnings as such, its
	// notices at debug level.
	Logger *slog.Logger
}

// embeddedNATS is a running nats-server inside this process, with its consumer guard.
type embeddedNATS struct {
	server *natsserver.Server
	ids    *identities
	log    *slog.Logger
	guard  []*nats.Conn // its connections, nil until it runs
}

// startNATS starts a nats-server in this process and returns when clients can connect
// and all streams are recovered. On an error nothing is left running.
//
// It refuses an address beyond loopback without Insecure, an address in use, a store
// it cannot recover, and to run lazily synced without LazySync: that last is asked of
// the running server, not of the options it was given.
func startNATS(opts natsOptions) (*embeddedNATS, error) {
	settings, ids, err := natsSettings(opts)
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	server, err := natsserver.NewServer(settings)
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	e := &embeddedNATS{server: server, ids: ids, log: opts.Logger}
	ids.gate.server = server
	if err := e.start(opts); err != nil {
		e.Close()
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	return e, nil
}

func (e *embeddedNATS) start(opts natsOptions) error {
	logger := &natsLogger{log: opts.Logger}
	e.server.SetLoggerV2(logger, false, false, false)
	// Start returns after it has begun to listen, or after a fatal error, which
	// nats-server only logs.
	e.server.Start()
	if err := logger.startError(); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("listen on %s: another program (perhaps another keyledger, or a nats-server) listens there; stop it or choose another address: %w", opts.Listen, err)
		}
		return err
	}
	if err := checkListener(e.server.Addr(), opts.Insecure); err != nil {
		return err
	}
	if err := checkSync(e.server, opts.LazySync); err != nil {
		return err
	}
	account, err := e.server.LookupAccount(natsAccountStore)
	if err != nil {
		return fmt.Errorf("look up account %s: %w", natsAccountStore, err)
	}
	if err := account.EnableJetStream(storeLimits(), nil); err != nil {
		return fmt.Errorf("recover streams in %s: %w", opts.StoreDir, err)
	}
	if err := e.startGuard(opts.StoreDir); err != nil {
		return err
	}
	logger.begun()
	return nil
}

// startGuard makes sure that all streams are there, and lets clients create consumers.
func (e *embeddedNATS) startGuard(storeDir string) error {
	clients, err := e.ConnectService("keyledger consumer guard, clients' side")
	if err != nil {
		return err
	}
	e.guard = append(e.guard, clients)
	stores, err := e.ConnectStore("keyledger consumer guard, store side")
	if err != nil {
		return err
	}
	e.guard = append(e.guard, stores)
	if err := checkRecovered(stores, storeDir); err != nil {
		return err
	}
	return (&consumerGuard{clients: clients, store: stores, log: e.log}).start()
}

// Close stops NATS and returns when it has: files closed, port free. Connections that
// are still open are cut.
func (e *embeddedNATS) Close() {
	for _, nc := range e.guard {
		nc.Close()
	}
	e.server.Shutdown()
	e.server.WaitForShutdown()
}

// ClientURL is where clients connect, as nats://host:port with the real port. A
// server on all interfaces is given by its loopback address.
func (e *embeddedNATS) ClientURL() string {
	addr := e.server.Addr().(*net.TCPAddr).AddrPort()
	ip := addr.Addr().Unmap()
	if ip.IsUnspecified() {
		// Also for "::", where Go listens on both families.
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return "nats://" + netip.AddrPortFrom(ip, addr.Port()).String()
}

// ConnectStore opens a connection to the store's side: the streams, all of them, with
// all rights. For the writer, projections, the feed's relay and webhooks. Commands
// do not arrive here, and nobody else's messages do.
//
// name is for people. The caller closes the connection before e. Errors of the
// connection that belong to no call go to the log.
func (e *embeddedNATS) ConnectStore(name string) (*nats.Conn, error) {
	return e.connect(natsAccountStore, name, e.server)
}

// ConnectFeed opens a connection as ConnectStore does, with what lies under it.
func (e *embeddedNATS) ConnectFeed(name string) (*nats.Conn, *projections.Wire, error) {
	wire := projections.NewWire(e.server)
	nc, err := e.connect(natsAccountStore, name, wire)
	return nc, wire, err
}

// ConnectService opens a connection to the clients' side: it receives commands,
// queries and authorize, and answers them. For keyledger's service. There are no
// streams here. Otherwise as ConnectStore.
//
// The answer goes to the subject the requester names, with this connection's rights:
// answer only where the reply subject is under _INBOX (isInbox), or a client could
// have keyledger publish a command for it.
func (e *embeddedNATS) ConnectService(name string) (*nats.Conn, error) {
	return e.connect(natsAccountClients, name, e.server)
}

func (e *embeddedNATS) connect(account, name string, server nats.InProcessConnProvider) (*nats.Conn, error) {
	log := e.log.With("connection", name)
	pair := e.ids.own[account]
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", name, err)
	}
	nc, err := nats.Connect("",
		nats.InProcessServer(server),
		nats.Nkey(public, pair.Sign),
		nats.Name(name),
		nats.CustomInboxPrefix(inboxPrefixOwn),
		nats.Timeout(connectTimeout),
		// Never hold a message back for later: a commit sent again after a
		// reconnect could be stored although its caller was told otherwise.
		nats.ReconnectBufSize(-1),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if sub != nil {
				log.Error("NATS connection error", "subject", sub.Subject, "error", err)
				return
			}
			log.Error("NATS connection error", "error", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: we closed it
				log.Warn("NATS connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("NATS connection restored") }),
	)
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", name, err)
	}
	return nc, nil
}

// natsSettings turns our options into nats-server's.
func natsSettings(opts natsOptions) (*natsserver.Options, *identities, error) {
	host, port, err := splitListen(opts.Listen)
	if err != nil {
		return nil, nil, err
	}
	if err := checkHost(host, opts.Insecure); err != nil {
		return nil, nil, err
	}
	ids, err := newIdentities(opts.Operator, opts.Credentials)
	if err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(opts.StoreDir, modeDir); err != nil {
		return nil, nil, err
	}
	storeBytes, err := storeBytesMax(opts.StoreDir)
	if err != nil {
		return nil, nil, err
	}
	return &natsserver.Options{
		ServerName: natsServerName,
		Host:       host,
		Port:       port,
		MaxPayload: payloadBytesMax,
		NoSigs:     true, // signals are the process's
		NoLog:      true, // no logger of its own: ours is set before Start

		Accounts: []*natsserver.Account{ids.store, ids.clients},
		// The gate knows everybody. NATS gives each connection a nonce to sign for it.
		CustomClientAuthentication: ids.gate,
		AlwaysEnableNonce:          true,

		JetStream:              true,
		DisableJetStreamBanner: true,
		StoreDir:               opts.StoreDir,
		SyncAlways:             !opts.LazySync,
		JetStreamMaxMemory:     memoryStoreBytesMax,
		JetStreamMaxStore:      storeBytes,
		// No HTTPPort: monitoring would show subjects and connections to anyone.
	}, ids, nil
}

// storeLimits lets the store's account use all the server may, and refuses a stream
// without a byte limit (error 10113): one such stream could fill the volume that the
// log needs. -1 is unlimited.
func storeLimits() map[string]natsserver.JetStreamAccountLimits {
	return map[string]natsserver.JetStreamAccountLimits{"": {
		MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1,
		MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
		MaxBytesRequired: true,
	}}
}

// storeBytesMax is volumePercentMax of the size of dir's volume, in bytes.
func storeBytesMax(dir string) (int64, error) {
	fs, err := volumeOf(dir)
	if err != nil {
		return 0, err
	}
	return int64(fs.Blocks) / 100 * volumePercentMax * int64(fs.Bsize), nil
}

// checkSync asks the running server how it syncs.
func checkSync(server *natsserver.Server, lazyAllowed bool) error {
	config := server.JetStreamConfig()
	if config == nil {
		return errors.New("JetStream is not running")
	}
	if !config.SyncAlways && !lazyAllowed {
		return fmt.Errorf("JetStream syncs only every %s, so acknowledged commands could be lost in a power cut; --unsafe-lazy-sync accepts that", config.SyncInterval)
	}
	return nil
}
