package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/keyledger/keyledger/events/store"
)

// patience bounds every wait of these tests. None waits for it when all is well.
const patience = 10 * time.Second

// rig is a running embedded server, with the operator's key at hand.
type rig struct {
	t        testing.TB
	nats     *embeddedNATS
	operator nkeys.KeyPair
	public   string
	log      *logLines
}

// newRig starts a server on a free loopback port and a directory of its own. set may
// change its options.
func newRig(t testing.TB, set func(*natsOptions)) *rig {
	t.Helper()
	r := &rig{t: t, log: &logLines{}}
	r.operator, r.public = newUser(t)
	opts := r.options()
	if set != nil {
		set(&opts)
	}
	e, err := startNATS(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	r.nats = e
	return r
}

func (r *rig) options() natsOptions {
	return natsOptions{
		StoreDir: filepath.Join(r.t.TempDir(), dirNATS),
		Listen:   "127.0.0.1:0",
		Operator: r.public,
		Logger:   slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func newUser(t testing.TB) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public
}

// store connects keyledger itself to the store's side.
func (r *rig) store() (*nats.Conn, jetstream.JetStream) {
	r.t.Helper()
	return withJetStream(r.t, r.must(r.nats.ConnectStore("test store")))
}

// service connects keyledger itself to the clients' side.
func (r *rig) service() *nats.Conn {
	r.t.Helper()
	return r.must(r.nats.ConnectService("test service"))
}

func (r *rig) must(nc *nats.Conn, err error) *nats.Conn {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	return nc
}

// client is the operator over TCP. What the server reports about its connection
// (permission violations) arrives in errs.
type client struct {
	*nats.Conn
	js   jetstream.JetStream
	errs chan error
}

func (r *rig) client() *client {
	r.t.Helper()
	c := &client{errs: make(chan error, 100)}
	c.Conn = r.must(nats.Connect(r.nats.ClientURL(), nats.Nkey(r.public, r.operator.Sign),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.errs <- err })))
	_, c.js = withJetStream(r.t, c.Conn)
	return c
}

// violation waits for a permissions violation about subject.
func (c *client) violation(t *testing.T, what, subject string) {
	t.Helper()
	select {
	case err := <-c.errs:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
			t.Errorf("%s %s: got %v, want a permissions violation about it", what, subject, err)
		}
	case <-time.After(patience):
		t.Fatalf("%s %s: no permissions violation", what, subject)
	}
}

func withJetStream(t testing.TB, nc *nats.Conn) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// ledgerStreams makes every stream of the design, as keyledger would, with one message
// in each of the log and the feed, and returns them by name.
func (r *rig) ledgerStreams() map[string]jetstream.Stream {
	r.t.Helper()
	ctx := r.t.Context()
	_, js := r.store()
	for _, c := range []jetstream.StreamConfig{
		{Name: store.StreamLog(0), Subjects: []string{store.SubjectLog(0)}, DenyDelete: true, DenyPurge: true, Discard: jetstream.DiscardNew, AllowDirect: true},
		{Name: store.StreamFeed(0), Subjects: []string{store.SubjectFeed(0) + ">"}, PersistMode: jetstream.AsyncPersistMode, AllowDirect: true},
		{Name: store.StreamLanes(0), Subjects: []string{store.SubjectLanes(0)}},
		{Name: store.StreamAttempts, Subjects: []string{store.SubjectAttempts + ">"}, PersistMode: jetstream.AsyncPersistMode},
		{Name: store.StreamAccess, Subjects: []string{store.SubjectAccess + ">"}, PersistMode: jetstream.AsyncPersistMode},
		{Name: store.StreamCheckpoints(0), Subjects: []string{store.SubjectCheckpoints(0)}},
	} {
		c.MaxBytes = 8 << 20
		if _, err := js.CreateStream(ctx, c); err != nil {
			r.t.Fatalf("create %s: %v", c.Name, err)
		}
	}
	for _, b := range []string{store.BucketKeys, store.BucketBalances} {
		if _, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: b, MaxBytes: 8 << 20}); err != nil {
			r.t.Fatalf("create %s: %v", b, err)
		}
	}
	if _, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: "KEYLEDGER_SNAPSHOTS", MaxBytes: 8 << 20}); err != nil {
		r.t.Fatal(err)
	}
	for _, subject := range []string{store.SubjectLog(0), store.SubjectFeed(0) + "acme.test.key.created.key_1"} {
		if _, err := js.Publish(ctx, subject, []byte("first")); err != nil {
			r.t.Fatal(err)
		}
	}
	streams := make(map[string]jetstream.Stream)
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		s, err := js.Stream(ctx, info.Config.Name)
		if err != nil {
			r.t.Fatal(err)
		}
		streams[info.Config.Name] = s
	}
	if err := list.Err(); err != nil {
		r.t.Fatal(err)
	}
	if len(streams) != 9 {
		r.t.Fatalf("made %d streams, want 9", len(streams))
	}
	return streams
}

// lastSequences tells what is in the streams: a message more anywhere changes it.
func lastSequences(t testing.TB, streams map[string]jetstream.Stream) map[string]uint64 {
	t.Helper()
	last := make(map[string]uint64)
	for name, s := range streams {
		info, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		last[name] = info.State.LastSeq
	}
	return last
}

// ask sends a request and returns the answer.
func ask(t testing.TB, nc *nats.Conn, subject string, body string) *nats.Msg {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, []byte(body))
	if err != nil {
		t.Fatalf("ask %s: %v", subject, err)
	}
	return m
}

// logLines is a log that tests can read.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
