package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/access"
	"github.com/keyledger/keyledger/ledger/service"
	"github.com/keyledger/keyledger/ledger/writer"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/archive"
	"github.com/keyledger/keyledger/webhooks"
)

// parts are what follows the log. Each has its own connection where it keeps many
// publishes under way, so that it holds up nobody else.
type parts struct {
	views *projections.Views
	// visible is how long commits took from their acknowledgement to the views.
	visible     prometheus.Histogram
	feed        *projections.Feed
	kv          *projections.KV
	access      *access.Log
	archive     *archive.Archive
	guard       *webhooks.Guard
	hooks       *webhooks.Dispatcher
	attempts    *hookMetrics // of hooks
	http        *webhooks.Client
	consent     webhooks.ConsentPolicy
	checkpoints *projections.Checkpoints
	conns       []*nats.Conn
}

// openParts makes them; followers runs them.
func (s *Server) openParts(streams []jetstream.StreamConfig) (err error) {
	p := &s.parts
	p.views = projections.NewViews(s.tail, partition, s.cfg.Logger, s.cfg.Projections...)
	p.visible = newVisible()
	p.views.Visible = func(ago time.Duration) { p.visible.Observe(ago.Seconds()) }
	if err := s.openArchive(); err != nil {
		return err
	}
	p.views.Checkpoints(projections.CheckpointConfig{
		Dir: s.dir.viewsDir(), Every: s.cfg.SnapshotEvery, Pause: s.cfg.SnapshotPause, Room: s.roomForViews,
	})
	feedConn, wire, err := s.nats.ConnectFeed("keyledger feed")
	if err != nil {
		return err
	}
	p.conns = append(p.conns, feedConn)
	p.feed, err = projections.NewFeed(projections.FeedConfig{
		Conn: feedConn, Wire: wire, Tail: s.tail, Partition: partition, Logger: s.cfg.Logger,
		Stream: named(streams, store.StreamFeed(partition))[0],
	})
	if err != nil {
		return err
	}
	kvConn, err := s.connectPart("keyledger buckets")
	if err != nil {
		return err
	}
	p.kv, err = projections.NewKV(projections.KVConfig{
		Conn: kvConn, Views: p.views, Tail: s.tail, Partition: partition, Logger: s.cfg.Logger,
		Streams: named(streams, "KV_"+store.BucketKeys, "KV_"+store.BucketBalances),
	})
	if err != nil {
		return err
	}
	if err := s.openAccess(); err != nil {
		return err
	}
	if err := s.openCheckpoints(streams); err != nil {
		return err
	}
	if err := s.openWebhooks(); err != nil {
		return err
	}
	return p.views.Check(s.taken())
}

// openWebhooks makes what delivers.
func (s *Server) openWebhooks() (err error) {
	p := &s.parts
	if p.guard, err = webhooks.NewGuard(s.cfg.AllowEndpointNets); err != nil {
		return err
	}
	if p.consent, err = webhooks.ParseConsentPolicy(s.cfg.WebhookConsent); err != nil {
		return fmt.Errorf("WebhookConsent: %w", err)
	}
	p.http, err = webhooks.NewClient(webhooks.ClientConfig{
		Guard: p.guard, Version: Version, AllowHTTP: s.cfg.AllowHTTPEndpoints, Origin: s.cfg.WebhookOrigin,
	})
	if err != nil {
		return err
	}
	var schedule *webhooks.Schedule // nil: the contract's
	if len(s.cfg.RetrySchedule) > 0 {
		if schedule, err = webhooks.NewSchedule(s.cfg.RetrySchedule, 0, func() float64 { return 0 }); err != nil {
			return err
		}
	}
	conn, err := s.connectPart("keyledger webhooks")
	if err != nil {
		return err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	p.attempts = newHookMetrics()
	p.hooks = webhooks.New(webhooks.Config{
		JS: js, Tail: s.tail, Partition: partition, Sealer: s.sealer, Client: p.http,
		Schedule: schedule, Logger: s.cfg.Logger, Disable: s.disableEndpoint, Failing: s.noteFailing, Consent: p.consent, Observe: p.attempts.observe,
		Known: p.views.Known, Dir: s.dir.webhooksDir(), Room: s.roomForViews,
		DirectoryEvery: uint64(s.cfg.SnapshotEvery), DirectoryPause: s.cfg.SnapshotPause,
	})
	return nil
}

// openReading opens the log for all that reads it, over a connection of its own: no
// commit's acknowledgement waits behind what a long search reads.
func (s *Server) openReading(ctx context.Context) (*store.JetStream, error) {
	conn, err := s.connectPart("keyledger readers")
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	return store.OpenJetStream(ctx, js, partition)
}

// openSnapshots opens where the writer keeps snapshots. Its chunks are large: they have a
// connection of their own, so that no commit waits behind one.
func (s *Server) openSnapshots(ctx context.Context) (*store.ObjectSnapshots, error) {
	conn, err := s.connectPart("keyledger snapshots")
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	return store.OpenSnapshots(ctx, js, partition)
}

// disableEndpoint is the ledger's own command, after a receiver answered 410 Gone, or failed
// for too long.
func (s *Server) disableEndpoint(ctx context.Context, account, endpoint, reason string) error {
	return s.command(ctx, &writer.Request{
		Account: account, Verb: "endpoint.disable", Spec: &ledger.DisableEndpointSpec, Command: ledger.NewDisableEndpoint(endpoint, reason),
	})
}

// noteFailing is the ledger's own command, while an endpoint fails.
func (s *Server) noteFailing(ctx context.Context, account, endpoint string, since events.Time, percent int) error {
	return s.command(ctx, &writer.Request{
		Account: account, Verb: "endpoint.note_failing", Spec: &ledger.NoteFailingSpec,
		Command: &ledger.NoteFailing{Endpoint: endpoint, Since: since, Percent: int64(percent)},
	})
}

// command has the ledger's own command decided, and waits until it is durable.
func (s *Server) command(ctx context.Context, r *writer.Request) error {
	replies := make(chan *events.Error, 1)
	r.ID, r.Actor, r.Done = ulid.Make(), "keyledger", func(r *writer.Reply) { replies <- r.Err }
	s.writer.Submit(r)
	select {
	case err := <-replies:
		if err != nil {
			return err
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// connectPart opens a connection that Close closes.
func (s *Server) connectPart(name string) (*nats.Conn, error) {
	conn, err := s.nats.ConnectStore(name)
	if err == nil {
		s.parts.conns = append(s.parts.conns, conn)
	}
	return conn, err
}

// named picks streams by their names.
func named(streams []jetstream.StreamConfig, names ...string) []jetstream.StreamConfig {
	var out []jetstream.StreamConfig
	for _, name := range names {
		i := slices.IndexFunc(streams, func(c jetstream.StreamConfig) bool { return c.Name == name })
		out = append(out, streams[i])
	}
	return out
}

// followers are the parts' loops: each runs until its context ends. What a start waits for
// is first; the others would take the processor from it.
func (s *Server) followers() (first, then []func(context.Context) error) {
	return []func(context.Context) error{s.parts.views.Run, s.parts.hooks.Run, s.watchDerived},
		[]func(context.Context) error{s.parts.feed.Run, s.parts.kv.Run, s.parts.access.Run, s.parts.archive.Run, s.parts.checkpoints.Run}
}

// waitFor waits until all that queries read has reached a sequence.
func (s *Server) waitFor(ctx context.Context, sequence uint64) error {
	if err := s.parts.views.Wait(ctx, sequence); err != nil {
		return err
	}
	return s.parts.hooks.Wait(ctx, sequence)
}

// queries is the query table of the whole server.
func (s *Server) queries() map[string]service.QueryFunc {
	table := s.otherQueries()
	for verb, answer := range s.parts.views.Queries() {
		table[verb] = ofService(answer)
	}
	return table
}

// otherQueries are those that no view answers.
func (s *Server) otherQueries() map[string]service.QueryFunc {
	table := map[string]service.QueryFunc{"ledger.status": s.status, "creds.list": s.creds.page, "access.list": s.parts.access.List, "statement.list": s.parts.archive.Statement, "usage.get": s.getUsage}
	maps.Copy(table, s.checkpointQueries())
	checks := []projections.Check{{Name: "archive", Run: s.parts.archive.Check}, projections.FeedCheck(s.js, s.tail, partition)}
	checks = append(checks, s.parts.kv.Checks()...)
	for verb, answer := range s.parts.views.Operator(s.followed, checks...) {
		table[verb] = ofService(answer)
	}
	for verb, answer := range s.parts.hooks.Queries() {
		table[verb] = service.QueryFunc(answer)
	}
	return table
}

// ofService is a QueryFunc of the projections as the service asks it.
func ofService(answer projections.QueryFunc) service.QueryFunc {
	return func(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error) {
		a, err := answer(ctx, &projections.Query{Account: account, Body: body})
		return a.Result, a.Position, err
	}
}

// taken are the names and query verbs that no projection of an embedder can have.
func (s *Server) taken() map[string]bool {
	taken := map[string]bool{}
	for _, one := range s.others() {
		taken[one.Name] = true
	}
	for verb := range s.otherQueries() {
		taken[verb] = true
	}
	return taken
}

// checkEndpoint says what is wrong with an endpoint's URL or headers, as far as it can
// be told without a connection; each attempt checks the address it dials.
func (s *Server) checkEndpoint(url string, headers map[string]string) error {
	if url != "" {
		if _, err := s.parts.guard.CheckURL(url, s.cfg.AllowHTTPEndpoints); err != nil {
			return err
		}
	}
	return webhooks.CheckHeaders(headers)
}

// asksConsent is who asks receivers, nil for nobody.
func (s *Server) asksConsent() func(context.Context, service.Receiver) (string, int64) {
	if s.parts.consent == webhooks.ConsentPolicyOff {
		return nil
	}
	return s.consentOf
}

// consentOf asks a receiver whether it takes deliveries, and how many a minute, 0 for any
// number. One that does not answer in time is unconfirmed.
func (s *Server) consentOf(ctx context.Context, who service.Receiver) (consent string, allowedRate int64) {
	answer, err := s.parts.http.AskConsent(ctx, who.URL, who.Headers, who.Rate)
	if err != nil || !answer.Confirmed {
		s.cfg.Logger.Info("a receiver did not say that it takes deliveries", "account", who.Account, "phase", answer.Phase, "error", answer.Error)
		return events.ConsentUnconfirmed, 0
	}
	return events.ConsentConfirmed, answer.Rate
}

// witnesses tells the writer what else has seen the log: the feed and the checkpoints of
// webhook lanes and of the views, and signed ones, which are never ahead of what was
// acknowledged.
func (s *Server) witnesses(ctx context.Context) ([]writer.Witness, error) {
	var list []writer.Witness
	stream, err := s.js.Stream(ctx, store.StreamFeed(partition))
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound): // it will be made anew
	case err != nil:
		return nil, err
	default:
		list = append(list, writer.Witness{Name: "feed", Ordinal: stream.CachedInfo().State.LastSeq})
	}
	sequence, hash, err := webhooks.Witness(ctx, s.js, partition)
	if err != nil {
		return nil, err
	}
	if sequence > 0 {
		list = append(list, writer.Witness{Name: "last checkpoint of webhook lanes", Sequence: sequence, Hash: &hash})
	}
	saved, err := projections.CheckpointWitnesses(s.dir.viewsDir(), partition)
	if err != nil {
		return nil, err
	}
	for i := range saved {
		list = append(list, writer.Witness{Name: "checkpoint of the views " + saved[i].Name, Sequence: saved[i].Sequence, Hash: &saved[i].Hash})
	}
	signed, err := s.checkpointWitness(ctx)
	if err != nil {
		return nil, err
	}
	beside, err := s.restoredWitnesses()
	return append(append(list, signed...), beside...), err
}
