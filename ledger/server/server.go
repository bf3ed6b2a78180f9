// Package server is the composition root: it puts the log, the writer, the views, the
// feed, webhooks and the NATS service together, with nats-server embedded, and takes
// them apart again in the right order.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/service"
	"github.com/keyledger/keyledger/ledger/writer"
	"github.com/keyledger/keyledger/webhooks"
)

// partition is the one there is for now; its number stands everywhere, so that more can
// come.
const partition = 0

// setupTimeout bounds each step of Open that talks to NATS.
const setupTimeout = 30 * time.Second

// slowStart is after what time a start says what it waits for.
const slowStart = 5 * time.Second

// Server is a keyledger in this process.
type Server struct {
	cfg           Config
	dir           *dataDir
	nats          *embeddedNATS
	store         *nats.Conn // the streams' side
	public        *nats.Conn // the clients' side
	js            jetstream.JetStream
	sealer        *events.Sealer
	creds         *credentials
	checkpointKey *proof.Key // nil when verifying a directory without
	writer        *writer.Writer
	tail          *store.Tail
	parts         parts
	web           net.Listener // nil when off
	ready         chan struct{}
}

// Open locks the data directory, starts NATS on it and makes what is missing: keys and
// streams. Run serves; Close undoes Open.
func Open(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg.withDefaults(), ready: make(chan struct{})}
	if err := s.open(); err != nil {
		s.Close()
		return nil, s.storageFailed(err)
	}
	return s, nil
}

func (s *Server) open() (err error) {
	if err := ledger.CheckNotices(s.cfg.KeyExpiring); err != nil {
		return fmt.Errorf("KeyExpiring: %w", err)
	}
	if s.dir, err = openDataDir(s.cfg.DataDir); err != nil {
		return err
	}
	operator, err := s.dir.operatorKey()
	if err != nil {
		return err
	}
	sealKey, err := s.dir.sealKey(s.cfg.SealKey)
	if err != nil {
		return err
	}
	if s.sealer, err = events.NewSealer(sealKey[:]); err != nil {
		return err
	}
	if err := s.dir.checkFiles(); err != nil {
		return err
	}
	list, err := s.dir.credentials(operator)
	if err != nil {
		return err
	}
	s.nats, err = startNATS(natsOptions{
		StoreDir: s.dir.natsDir(), Listen: s.cfg.Listen, Operator: operator, Credentials: list,
		Insecure: s.cfg.Insecure, LazySync: s.cfg.UnsafeLazySync, Logger: s.cfg.Logger,
	})
	if err != nil {
		return err
	}
	if s.store, err = s.nats.ConnectStore("keyledger"); err != nil {
		return err
	}
	if s.public, err = s.nats.ConnectService("keyledger service"); err != nil {
		return err
	}
	if s.js, err = jetstream.New(s.store); err != nil {
		return err
	}
	if err := s.openCredentials(list); err != nil {
		return err
	}
	if err := s.openWeb(); err != nil {
		return err
	}
	return s.openLog()
}

// openLog makes the streams and puts the writer and all that follows the log on them.
func (s *Server) openLog() error {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	budget, err := storeBytesMax(s.dir.natsDir())
	if err != nil {
		return err
	}
	streams := store.Streams(partition, budget)
	if err := s.makeStreams(ctx, streams, budget); err != nil {
		return err
	}
	if err := s.openCheckpointKey(ctx, true); err != nil {
		return err
	}
	log, err := store.OpenJetStream(ctx, s.js, partition)
	if err != nil {
		return err
	}
	read, err := s.openReading(ctx)
	if err != nil {
		return err
	}
	s.tail = store.NewTail(read, partition)
	if err := s.openParts(streams); err != nil {
		return err
	}
	snapshots, err := s.openSnapshots(ctx)
	if err != nil {
		return err
	}
	s.writer = writer.New(writer.Config{
		Log: s.cfg.WrapLog(log), Tail: s.tail, Partition: partition, Logger: s.cfg.Logger,
		Dir: s.dir.path, Witnesses: s.witnesses, Storage: s.usage, Clock: s.cfg.Clock, Unrecorded: s.observe,
		Notices: s.cfg.KeyExpiring, MaxReceipts: int(s.cfg.ReceiptMemory / writer.ReceiptBytes),
		Snapshots: snapshots, SnapshotEvery: s.cfg.SnapshotEvery, SnapshotPause: s.cfg.SnapshotPause,
	})
	return nil
}

// Run serves until ctx ends, then stops in order: nothing new comes in, what was taken
// in is answered, and what follows the log notes how far it got. It returns nil after a
// clean stop; an error is fatal.
func (s *Server) Run(ctx context.Context) error {
	writing, stopWriting := context.WithCancel(context.Background())
	following, stopFollowing := context.WithCancel(context.Background())
	defer stopWriting()
	defer stopFollowing()
	group, failed := errgroup.WithContext(context.Background())
	written := make(chan struct{})
	group.Go(func() error {
		defer close(written)
		return s.writer.Run(writing)
	})
	restored := make(chan struct{})
	group.Go(func() error {
		defer close(restored)
		s.parts.views.Restore(following)
		return nil
	})
	stopWeb := s.serveWeb()
	svc, err := s.start(ctx, failed, following, group, restored)
	if err == nil {
		select {
		case <-ctx.Done():
		case <-failed.Done():
		}
	}
	if svc != nil {
		err = errors.Join(err, svc.Stop())
	}
	stopWriting()
	<-written
	if flushErr := s.public.FlushTimeout(setupTimeout); flushErr != nil {
		err = errors.Join(err, fmt.Errorf("send the last answers: %w", flushErr))
	}
	stopFollowing()
	stopWeb()
	return errors.Join(err, group.Wait())
}

// start waits for the writer, and for what the views read beside it, starts what follows
// the log, waits until the views hold what the log holds and then opens the door. It
// returns early, without an error, when ctx ends or a part fails.
func (s *Server) start(ctx, failed, following context.Context, group *errgroup.Group, restored <-chan struct{}) (*service.Service, error) {
	for _, done := range []<-chan struct{}{s.writer.Ready(), restored} {
		select {
		case <-done:
		case <-ctx.Done():
			return nil, nil
		case <-failed.Done():
			return nil, nil
		}
	}
	first, then := s.followers()
	for _, run := range first {
		group.Go(func() error { return run(following) })
	}
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(failed, cancel)()
	end := s.tail.End()
	slow := time.AfterFunc(slowStart, func() {
		s.cfg.Logger.Warn("the views have not reached the log's end yet; commands are taken once they have", "position", end.Position().String())
	})
	defer slow.Stop()
	if err := s.waitFor(both, end.Sequence); err != nil {
		return nil, nil // one of the two contexts ended
	}
	for _, run := range then {
		group.Go(func() error { return run(following) })
	}
	svc, err := service.Start(service.Config{
		Conn: s.public, Writer: s.writer, Version: Version, Logger: s.cfg.Logger, Sealer: s.sealer,
		Queries: s.queries(), Commands: s.creds.commands(), Actor: s.creds.actors.of, End: s.tail.End, WaitFor: s.waitFor,
		CheckEndpoint: s.checkEndpoint, Replays: s.parts.hooks.Replays, EndpointSecret: webhooks.NewSecret, EndpointKey: webhooks.NewKeyPair,
		Consent: s.asksConsent(), RequireConsent: s.parts.consent == webhooks.ConsentPolicyRequire,
	})
	if err != nil {
		return nil, err
	}
	if err := s.public.FlushTimeout(setupTimeout); err != nil {
		return svc, fmt.Errorf("open the service: %w", err)
	}
	close(s.ready)
	return svc, nil
}

// Ready is closed when commands are answered.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// URL is where NATS clients connect, nats://host:port.
func (s *Server) URL() string { return s.nats.ClientURL() }

// HTTPURL is where health and metrics are, "" when off.
func (s *Server) HTTPURL() string {
	if s.web == nil {
		return ""
	}
	return "http://" + s.web.Addr().String()
}

// OperatorKeyPath is the file with the operator's nkey seed.
func (s *Server) OperatorKeyPath() string { return s.dir.operatorKeyPath() }

// Close stops NATS and unlocks the directory. It may be called after a failed Open.
func (s *Server) Close() error {
	var err error
	if s.parts.http != nil {
		s.parts.http.Close()
	}
	if s.parts.checkpoints != nil {
		err = s.parts.checkpoints.Close()
	}
	if s.parts.archive != nil {
		s.parts.archive.Close()
	}
	for _, conn := range append(s.parts.conns, s.public, s.store) {
		if conn != nil {
			conn.Close()
		}
	}
	if s.nats != nil {
		s.nats.Close()
	}
	if s.web != nil {
		if closeErr := s.web.Close(); !errors.Is(closeErr, net.ErrClosed) {
			err = errors.Join(err, closeErr)
		}
	}
	if s.creds != nil {
		s.creds.Close()
	}
	if s.dir != nil {
		err = errors.Join(err, s.dir.Close())
	}
	return err
}

// openWeb listens for health and metrics.
func (s *Server) openWeb() error {
	if s.cfg.HTTP == httpOff {
		return nil
	}
	host, _, err := net.SplitHostPort(s.cfg.HTTP)
	if err != nil {
		return fmt.Errorf("http address %q: want host:port or off: %w", s.cfg.HTTP, err)
	}
	if err := checkHost(host, s.cfg.Insecure); err != nil {
		return err
	}
	if s.web, err = net.Listen("tcp", s.cfg.HTTP); err != nil {
		return fmt.Errorf("listen on %s for health and metrics (--http off for none): %w", s.cfg.HTTP, err)
	}
	return nil
}

// serveWeb answers until the function it returns is called.
func (s *Server) serveWeb() (stop func()) {
	if s.web == nil {
		return func() {}
	}
	server := &http.Server{Handler: s.webHandler(), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(s.web); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Logger.Error("health and metrics stopped", "error", err)
		}
	}()
	return func() {
		if err := server.Close(); err != nil {
			s.cfg.Logger.Warn("cannot close the health server", "error", err)
		}
		<-done
	}
}
